"""obshell's contract in older versions, with fewer routes and fewer keys in responses.

openapi/obshell.yaml is that of 4.5.0.0; what older ones lack is read in the code of their tags
(github.com/oceanbase/obshell: agent/api/task_handler.go, agent/errors/errorcode.go), and named
there as ``x-versions``. None of them was run.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from oceanmock.openapi import Spec, load_spec, operations_of, spec_path

Version = tuple[int, ...]

SINCE: Final[Mapping[str, Version]] = {
    "getAllClusterDags": (4, 3, 0),
    "getAllAgentDags": (4, 3, 0),
    "getAgentMainDags": (4, 3, 0),
    "getFullSubTaskLogs": (4, 3, 0),
    "nodeHandler": (4, 3, 1),
}
"""Operations that older versions do not have."""
SUPPORTED_AUTH_SINCE: Final[Version] = (4, 2, 5)
ERR_CODES_SINCE: Final[Version] = (4, 3, 1)

NEW_KEYS: Final = ("errCode", "maintenance_type", "maintenance_key", "supportedAuth")
"""Keys that 4.2.3 does not have, of errors, dags and /api/v1/info."""
CONTRACT_VERSIONS: Final[tuple[Version, ...]] = ((4, 2, 3), (4, 2, 5), (4, 3, 0), (4, 3, 1))
"""The versions in which the contract changed; the last one is current."""


@lru_cache(maxsize=64)
def contract_version(version: str) -> Version:
    """Return the one of CONTRACT_VERSIONS for a version such as ``4.3.0.1`` or ``4.5.0.0-42026``.

    An older version gets the first, and a text without a version the last.
    """
    numbers = tuple(map(int, re.findall(r"[0-9]{1,9}", version.partition("-")[0])))
    if not numbers:
        return CONTRACT_VERSIONS[-1]
    return max((e for e in CONTRACT_VERSIONS if e <= numbers), default=CONTRACT_VERSIONS[0])


def has_operation(version: Version, operation: str | None) -> bool:
    """Return True if a version has an operation."""
    return SINCE.get(operation or "", ()) <= version


@lru_cache(maxsize=len(CONTRACT_VERSIONS))
def spec_of(version: Version) -> Spec:
    """Return the contract of a version: an older one has fewer routes and keys."""
    spec = load_spec(spec_path("obshell"))
    if version >= ERR_CODES_SINCE:
        return spec
    old = copy.deepcopy(dict(spec))
    for item in old["paths"].values():
        for method in ("get", "post"):
            if not has_operation(version, item.get(method, {}).get("operationId")):
                del item[method]
    old["paths"] = {
        path: item for path, item in old["paths"].items() if {"get", "post"} & set(item)
    }
    for operation in operations_of(old):
        item = old["paths"][operation.path][operation.method.lower()]
        for response in item["responses"].values():
            links = response.get("links", {})
            for name in [
                name for name in links if not has_operation(version, links[name]["operationId"])
            ]:
                del links[name]
    for schema in old["components"]["schemas"].values():
        if "required" in schema:
            schema["required"] = [key for key in schema["required"] if key not in NEW_KEYS]
    return old
