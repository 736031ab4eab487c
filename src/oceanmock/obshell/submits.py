"""Check the calls that start a dag, and others outside the task routes, as obshell's handlers do.

The contract lists the checks of each call in the order of its handler (``x-submit`` of openapi/obshell.yaml). Their
errors are recorded in tests/data/obshell/submits-single.json, or read in the code (github.com/oceanbase/obshell at
61ee147).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Final

from oceanmock.api import Json, Request
from oceanmock.obshell.agent import Agent
from oceanmock.obshell.api import API, authority
from oceanmock.obshell.bodies import agent_of, dags_of, holds_oceanbase, missing_fields, place_of, read_fields
from oceanmock.obshell.errors import ObshellError, error_of, not_holding, wrong_identity
from oceanmock.obshell.gojson import Structs
from oceanmock.openapi import load_spec, path_matches, spec_path

DENIED_CONFIG: Final = ("cluster_id", "cluster", "rootPwd", "rootservice_list", "zone", "local_ip", "devname")
"""What a call does not set of a server (ob/agent/executor/ob/enter.go:292-300), in the order of its checks."""
SubmitRules = Mapping[str, Any]
"""The ``x-submit`` of a call: its ``checks`` in order, maybe ``identity`` and ``struct``, ``bare`` for no null data."""


def rules_at(method: str, path: str) -> SubmitRules | None:
    """Return the rules of the call at a method and a path, or None if the contract has none."""
    matching = [(at, rules) for verb, at, rules in _rules() if verb == method and path_matches(at, path)]
    return min(matching, key=lambda pair: "{" in pair[0], default=(path, None))[1]


@cache
def _rules() -> list[tuple[str, str, SubmitRules]]:
    """Return the method, path and rules of each call."""
    beside = [(call, item) for item in load_spec(spec_path(API.name))["x-submit"]["beside"] for call in item["calls"]]
    submits = [(it.method, it.path, it.definition["x-submit"]) for it in API.submits]
    return submits + [(*call.split(), item) for call, item in beside]


def is_needed(request: Request, rules: SubmitRules, identities: Sequence[str]) -> bool:  # noqa: PLR0912 (one for each check)
    """Check a call in the order of its handler, and return whether it has something to do. Raises ObshellError.

    ``identities`` are those that a scenario allows, empty for any.
    """
    agent, body = agent_of(request), dict[str, Any]()
    tenant = request.path.rpartition("/tenant/")[2].partition("/")[0]
    for entry in rules["checks"]:
        check, *nulls = entry.split(", ")
        null: Any = "".join(nulls)
        error = None
        match check:
            case "body":
                body = _bind(request, rules["struct"])
            case "initialized" if agent.identity == "CLUSTER AGENT" and identities and agent.identity not in identities:
                error = error_of("OB.Cluster.AlreadyInitialized")
            case "identity" if identities and agent.identity not in identities:
                error = wrong_identity(agent, *identities)
            case "joins MASTER" | "joins SINGLE":
                error = _target_error(request, body["agentInfo"], check.partition(" ")[2])
            case "own agent" if agent.identity == "SINGLE" and _is_own(body, agent):
                return False
            case "own server" if _is_own(body, agent):
                error = error_of("OB.Server.DeleteSelf")
            case "holding" if not holds_oceanbase(request):
                error = not_holding()
            case "tenant" if not holds_oceanbase(request):
                error = error_of("Agent.OceanBase.NotHold", outer=f"get tenant '{tenant}' info failed: ")
            case "read tenant" if not holds_oceanbase(request):
                outer = f"Get tenant '{tenant}' failed.: "
                error, null = error_of("Agent.OceanBase.NotHold", outer=outer), "null"
            case "system tenant" if "sys" in (tenant, body.get("restore_tenant_name")):
                error = error_of("OB.Tenant.SysOperationNotAllowed")
            case "scope":
                error = _scope_error(body.get("scope") or {})
            case "stop mode":
                error = _stop_error(body)
            case "running" if agent.identity == "MASTER" and dags_of(request).is_maintained(place_of(request)):
                error = error_of("Agent.UnderMaintenance", outer="", agent=authority(agent))
            case "started" if agent.identity == "SINGLE":
                error = error_of("OB.Cluster.NotInitialized")
            case "cluster id" if body.get("clusterId", 0) <= 0:
                error = error_of("OB.Cluster.Id.Invalid")
            case "cluster name" if not body.get("clusterName"):
                error = error_of("OB.Cluster.Name.Empty")
            case "server config" if not body["observerConfig"]:
                error = _illegal("observerConfig", "config is empty")
            case "server config" if denied := [key for key in DENIED_CONFIG if key in body["observerConfig"]]:
                error = _illegal("observerConfig", f"config {denied[0]} is not allowed to set")
            case "tenant name" if not body["name"]:
                error = error_of("OB.Tenant.Name.Empty")
            case "zone list" if not body["zone_list"]:
                error = error_of("OB.Tenant.ZoneList.Empty")
        if error is not None:
            raise replace(error, null=null)
    return True


def _target_error(request: Request, named: Json, expected: str) -> ObshellError | None:
    """Return the error of a join with another agent of the sandbox that is not what it must be, if any."""
    place = dags_of(request).place_at(named["port"], named["ip"])
    if place in (None, place_of(request)) or (target := dags_of(request).agent_at(place)).identity == expected:
        return None
    return wrong_identity(target, expected)


def _scope_error(scope: Json) -> ObshellError | None:
    """Return the error of a scope or None; whether its targets exist is not checked (executor/ob/info.go:223-263)."""
    kind = scope.get("type", "").upper()
    if kind not in ("GLOBAL", "ZONE", "SERVER"):
        return error_of("OB.Cluster.Scope.Invalid", scope=kind)
    return None if kind == "GLOBAL" or scope.get("target") else _illegal("target", "target is empty")


def _stop_error(body: Json) -> ObshellError | None:
    """Return the error of the mode of a stop, if any (executor/ob/stop.go:311-317)."""
    force, terminate = body.get("force"), body.get("terminate")
    if force and terminate:
        return error_of("OB.Cluster.StopModeConflict")
    is_global = body["scope"]["type"].upper() == "GLOBAL"
    return error_of("OB.Cluster.ForceStopOrTerminateRequired") if is_global and not (force or terminate) else None


def _illegal(parameter: str, why: str) -> ObshellError:
    return ObshellError(400, "Common.IllegalArgument", f"The input parameter '{parameter}' is illegal: {why}")


def _is_own(body: Json, agent: Agent) -> bool:
    named = body.get("agent_info", body)
    return (named.get("ip"), named.get("port")) == (agent.ip, agent.port)


def _bind(request: Request, name: str) -> Json:
    go_name = _go_name(name)
    body = read_fields(request, go_name, _structs())
    if missing := [*_missing(name, body, go_name.rpartition(".")[2])]:
        raise missing_fields(*missing)
    return body


def _schemas() -> Mapping[str, Any]:
    schemas: Mapping[str, Any] = load_spec(spec_path(API.name))["components"]["schemas"]
    return schemas


def _go_name(name: str) -> str:
    return str(_schemas()[name].get("x-go", f"param.{name}"))


def _missing(name: str, values: Json, place: str) -> Iterator[str]:
    """Yield the required fields with zero values; structs in lists are not validated (go-playground/validator)."""
    schema = _schemas()[name]
    for key, property in schema["properties"].items():
        value, words = values.get(key), key.split("_")
        go_field = property.get("x-go") or "".join(word[:1].upper() + word[1:] for word in words)
        if "$ref" in property:
            yield from _missing(_referred(property), value or {}, f"{place}.{go_field}")
        elif key in schema.get("required", ()):
            is_zero = value == "" or (value == 0 and not isinstance(value, bool))
            if value is None or (is_zero and not property.get("nullable")):
                yield f"{place}.{go_field}"


@cache
def _structs() -> Structs:
    return {
        _go_name(name): {key: _go_type(property) for key, property in schema["properties"].items()}
        for name, schema in _schemas().items()
        if "x-submit" in schema
    }


def _go_type(property: Mapping[str, Any]) -> str:
    match property:
        case {"$ref": _}:
            return _go_name(_referred(property))
        case {"type": "array", "items": items}:
            return f"[]{_go_type(items)}"
        case {"type": "object"}:
            return f"map[string]{'string' if 'additionalProperties' in property else 'interface {}'}"
        case {"format": "int64"}:
            return "int64"
    return {"integer": "int", "boolean": "bool", "number": "float64"}.get(property["type"], "string")


def _referred(property: Mapping[str, Any]) -> str:
    return str(property["$ref"]).rpartition("/")[2]
