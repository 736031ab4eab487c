"""Write the JSON of OCP itself, and of the clusters and tenants that tasks name: reads beside the task routes.

Facts: the public API reference (github.com/oceanbase/ocp-doc, en-US/600.api-reference: 1600.other/100 and 200,
300.cluster-information/100, 400.tenant-information/100 and 300). Keys that a scenario says nothing of are left out;
that a cluster is RUNNING and a tenant NORMAL is made up.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qsl

from oceanmock.api import Json
from oceanmock.ocp.scenario import Cluster, Tenant
from oceanmock.ocp.world import Tasks

INFO_PATH: Final = "/api/v2/info"
TIME_PATH: Final = "/api/v2/time"
INFO: Final = {
    "artifact": "ocp-server",
    "buildJavaVersion": "1.8",
    "buildTime": "2020-11-29T05:43:31.644+08:00",
    "buildVersion": "2.5.0-SNAPSHOT",
    "group": "com.oceanbase",
    "name": "ocp-server",
    "springBootVersion": "2.2.5.RELEASE",
}
"""The page's own sample, which has no envelope."""
_CLUSTERS: Final = re.compile(r"/api/v2/ob/clusters(?:/([0-9]{1,19})(/tenants(?:/([0-9]{1,19}))?)?)?")


def named_by_tasks(tasks: Tasks, path: str) -> Any:
    """Return the clusters or tenants of a path, a list or one, that tasks name; None for another path or id."""
    match = _CLUSTERS.fullmatch(path)
    if match is None:
        return None
    models = [data.model for data in tasks.all_data()]
    clusters = {model.cluster.id: model.cluster for model in models if model.cluster}
    tenants = {(it.cluster.id, it.tenant.id): it.tenant for it in models if it.cluster and it.tenant}
    if match[1] is None:
        return [_cluster_json(cluster, tenants) for _, cluster in sorted(clusters.items())]
    cluster = clusters.get(int(match[1]))
    if cluster is None or match[2] is None:
        return cluster and _cluster_json(cluster, tenants)
    own = {id: _tenant_json(tenant, cluster) for (owner, id), tenant in tenants.items() if owner == cluster.id}
    return [own[id] for id in sorted(own)] if match[3] is None else own.get(int(match[3]))


def page_of(items: list[Json], query: str) -> Json:
    """Return the page of a list that a query asks for; a number that is none counts as left out."""
    texts = dict(parse_qsl(query))
    asked = (re.fullmatch("[1-9][0-9]{0,8}", texts.get(key, "")) for key in ("page", "size"))
    number, size = (int(found[0]) if found else default for found, default in zip(asked, (1, 10), strict=True))
    page = {"number": number, "size": size, "totalElements": len(items), "totalPages": -(-len(items) // size)}
    return {"contents": items[(number - 1) * size : number * size], "page": page}


def _cluster_json(cluster: Cluster, tenants: dict[tuple[int, int], Tenant]) -> Json:
    return {
        "id": cluster.id,
        "name": cluster.name,
        "obClusterId": cluster.ob_cluster_id,
        "status": "RUNNING",
        "tenantCount": sum(owner == cluster.id for owner, _ in tenants),
        "type": cluster.type,
    }


def _tenant_json(tenant: Tenant, cluster: Cluster) -> Json:
    return {
        "clusterId": cluster.id,
        "clusterName": cluster.name,
        "clusterType": cluster.type,
        "id": tenant.id,
        "mode": tenant.mode,
        "name": tenant.name,
        "obClusterId": cluster.ob_cluster_id,
        "obTenantId": tenant.ob_tenant_id,
        "status": "NORMAL",
    }
