"""obshell as the target of a conformance run, and the expected responses to operators.

Facts: github.com/oceanbase/obshell at 61ee147, ob/agent (service/task, engine/scheduler), and the recordings of a
running 4.5.0.0. An id can have the address of another agent, to which the target would forward the request
(ob/agent/executor/task/dag.go:72-88); so a run checks the addresses in each request. No response has the flags of a
node: where no scenario states them, an operator may be accepted or refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, ClassVar, Final
from urllib.parse import unquote

import orjson

from oceanmock.checks import UNDECIDED, Exchange, Probe, TargetApi, WalkAction
from oceanmock.observations import Observation
from oceanmock.obshell import api
from oceanmock.obshell.api import API, TASK_PREFIX, GenericId, InvalidGenericId, local_id, parse_generic_id
from oceanmock.obshell.scenario import Scenario, id_of
from oceanmock.text import plural

CLUSTER_AGENT: Final = "CLUSTER AGENT"
PEER_PATHS: Final = ("agents/status", "ob/info", "task/dag/maintain/agents")
"""Reads with the addresses of other agents: the reachable ones, all known ones, and those of dags."""
UNKNOWN_NUMBER: Final = 99_999_999
UNROUTED_OPERATORS: Final = ("RUN", "RESTART")  # no request may have them, though dags are in RUN (dag.go:338-420)
NO_NODE: Final = "Common.Unexpected"
FINAL: Final = API.root.terminal_states

Flags = Callable[[Observation, int], frozenset[str] | None]
"""The flags of a dag's node at a position (cancel, pass, retry, rollback), or None if not known."""
Expected = tuple[bool, str]  # whether an operator may be accepted, and the code with which it may be refused, or ""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Facts on a server that its responses do not have; without a version it is the newest."""

    flags: Flags = lambda _dag, _place: None
    version: str = ""


_RECORDED_FLAGS: Final[Mapping[str, Mapping[str, str]]] = {
    "Initialize cluster": {
        **dict.fromkeys(("Integrate config", "Create observer workdir"), "cancel retry rollback"),
        "Start observer": "cancel pass retry rollback",
        **dict.fromkeys(("Cluster boostrap", "Migrate table", "Migrate data"), "cancel retry rollback"),
        **dict.fromkeys(("Modify password", "Convert follower to cluster agent"), "retry rollback"),
        "Convert master to cluster agent": "retry rollback",
        "Synchronize agent from cluster": "cancel retry",
    },
    "Join self": {"Join self": ""},
    "Update observer config": {"Update observer config": "cancel retry"},
    "Update cluster config": {"Update cluster config": "cancel retry"},
}
"""By dag and node, as a running 4.5.0.0 stored them."""


class ObshellTarget(TargetApi):
    """An agent of obshell."""

    preflight_path = api.INFO_PATH
    is_preflight_open = True
    read_path = f"{TASK_PREFIX}/dag/agent/unfinish"
    number_key = "dag_id"
    active_states = frozenset({"RUNNING"})
    credentials_hint = "--password for root's, --agent-password for the agent's own"
    schemathesis_checks: ClassVar[Mapping[str, Any]] = {
        "negative_data_rejection": {"expected-statuses": [400, 401, 404, *UNDECIDED]},
        "positive_data_acceptance": {"expected-statuses": [200, 401, *UNDECIDED]},
        # gin responds 404, which this check accepts for paths with an id alone.
        "unsupported_method": {"enabled": False},
    }
    schemathesis_operations = (
        ({"include-name-regex": r"^GET .*\{id\}"}, [200, 401, 404, *UNDECIDED]),
        # The lock may be free, …
        ({"include-path-regex": r"/maintain/(ob|agent)$"}, [200, 401, 404, *UNDECIDED]),
        # … and the agent in no cluster.
        ({"include-path-regex": r"/dags/ob$|/dag/ob/unfinish$"}, [200, 400, 401, *UNDECIDED]),
        ({"include-method": "POST"}, [200, 400, 401, 403, 404, *UNDECIDED]),
    )
    goals = ("RETRY", "ROLLBACK", "CANCEL", "PASS")
    retries = frozenset({"RETRY"})
    cancel = "CANCEL"
    # A CANCEL marks the first node that has not ended (ob/agent/service/task/dag.go:352-377). If one must still be
    # rolled back, also after a RETRY of a failed rollback (:456-481: the dag is READY/RUN), no ROLLBACK can follow.
    never_during = ("CANCEL", "ROLLBACK")
    weights: ClassVar[Mapping[str, Any]] = {"obshell ob/": "code"}
    spared_rule = "quirk.unknown-dag-is-asked-for-without-end"

    def is_server(self, body: Mapping[str, Any]) -> bool:
        data = body.get("data")
        return isinstance(data, dict) and bool({"identity", "version"} & data.keys())

    def identify(self, body: Mapping[str, Any]) -> dict[str, Any]:
        data = body["data"]
        texts = {key: str(data.get(key, "")) for key in ("version", "identity")}
        return {**texts, "own_address": (str(ip_address(str(data["ip"]))), int(data["port"]))}

    def list_path(self, script: Any) -> str:
        return f"{TASK_PREFIX}/dags/{'ob' if script.scope == 'cluster' else 'agent'}?show_details=true"

    def own_id(self, script: Any, address: tuple[str, int] | None) -> str | None:
        if script.id is None or (address is None and script.scope == "agent"):
            return None
        ip, port = address or ("", 0)
        return id_of(script, script.id, ip=ip, port=port)

    def spares(self, values: Mapping[str, Any], read: Callable[[str], Exchange]) -> str:
        """Return why no unknown ids may be sent to an agent beside others that is not connected to OceanBase.

        A GET of an unknown dag makes such agents ask each other without end, each about the other's request
        (ob/agent/executor/task/dag.go:102-118, since 4.2.6; observed with a MASTER and a FOLLOWER of 4.5.0.0).
        """
        identity = values["identity"]
        if identity == "SINGLE":
            return ""
        why = "asks the others for a dag that it does not have, and they ask it again, without end"
        why = f"an agent that is not connected to OceanBase {why} (ob/agent/executor/task/dag.go:102-118)"
        if identity == CLUSTER_AGENT:
            state = _object(read(api.STATUS_PATH)).get("obState", api.OB_AVAILABLE)
            is_connected = state == api.OB_AVAILABLE
            return "" if is_connected else f"the target is a CLUSTER AGENT whose obState is {state}: {why}."
        if identity != "MASTER":
            return f"the target's identity is {identity or 'not known'}, so that it is not alone: {why}."
        responses = [read(f"{api.PREFIX}/{path}") for path in PEER_PATHS]
        own = values["own_address"]
        others = {address for item in responses for address in _addresses(_object(item)) if address != own}
        if others:
            names = ", ".join(f"{ip}:{port}" for ip, port in sorted(others)[:3])
            return f"the target is a MASTER beside {plural(len(others), 'other agent')} ({names}): {why}."
        # 400 and 404 come from a server without that route, such as oceanmock
        return "" if responses[0].status in (200, 400, 404) else f"who is beside the MASTER could not be read: {why}."

    def is_looked_up(self, id: str) -> bool:
        return parsed_id(id) is not None

    def unknown_ids(self, address: tuple[str, int] | None, identity: str) -> list[str | int]:
        ids: list[str | int] = []
        if address is not None:
            ids.append(local_id(UNKNOWN_NUMBER, ip=address[0], port=address[1]))
        if address is None or identity == CLUSTER_AGENT:
            ids.append(str(GenericId("cluster", UNKNOWN_NUMBER)))
        return ids

    def addresses_in(self, path: str, body: bytes) -> Iterator[tuple[str, int]]:
        """Yield the agents' addresses in the path and in the body's member ``id``, in any case, as Go reads it."""
        try:
            data = orjson.loads(body)
        except ValueError:
            data = None
        members = data.items() if isinstance(data, dict) else ()
        ids = [value for key, value in members if key.lower() == "id" and isinstance(value, str)]
        for id in map(parsed_id, map(unquote, (*path.split("/"), *ids))):
            if id is not None and id.ip is not None:
                yield str(id.ip), id.port

    def equivalent_ids(self, id: str) -> set[str]:
        return {id, str(parsed_id(id) or id)}

    def knowledge(self, version: str, scenarios: Sequence[Any] | None = None) -> Knowledge:
        """Return the flags of the scenarios' dags, by number or nodes; without scenarios, the recorded ones."""
        scripts = [dag for item in scenarios or () if isinstance(item, Scenario) for dag in item.dags]

        def flags(dag: Observation, place: int) -> frozenset[str] | None:
            names = [node.name for node in dag.parts]
            if scenarios is None:
                words = _RECORDED_FLAGS.get(dag.name, {}).get(names[place])
                return None if words is None else frozenset(words.split())
            several = {
                frozenset(item.nodes[place].can)
                for item in scripts
                if item.id in (None, dag.raw.get("dag_id"))
                and item.name in (None, dag.name)
                and len(item.nodes) == len(names)
                and [node.name or names[at] for at, node in enumerate(item.nodes)] == names
            }
            return several.pop() if len(several) == 1 else None

        return Knowledge(flags, version)

    def actions(self, task: Observation, *, is_mock: bool, knowledge: Knowledge) -> Iterator[WalkAction]:
        """Yield every operator of the dag, PASS of each node, and unsupported operators."""
        stage = task.raw.get("stage")
        if not isinstance(stage, int) or not 1 <= stage <= len(task.parts):
            return
        flags = knowledge.flags
        has_err_codes = api.contract_version(knowledge.version) >= api.ERR_CODES_SINCE  # as nodeHandler
        for operator in (*self.goals, *UNROUTED_OPERATORS):
            what = f"{operator} of the dag, which is {task.words} at stage {stage},"
            expected, target = _expected_of_dag(operator, task, flags), api.DAG_PATH.format(id=task.id)
            yield _action(operator, what, target, expected, task.words, has_err_codes=has_err_codes)
        for place, node in enumerate(task.parts if has_err_codes else ()):
            operators: dict[str, Expected] = {"PASS": (False, "Task.Node.Operator.PassNotFailedDag")}
            if task.state == "FAILED" and node.state != "FAILED":
                operators["PASS"] = False, "Task.Node.Operator.PassNotFailedNode"
            elif task.state == "FAILED":
                operators["PASS"] = _by_flags("PASS", task, [place], flags, "Task.Node.Operator.PassNotAllowed")
            if place == 0:
                operators["RETRY"] = False, "Task.Node.Operator.NotSupport"
            for operator, expected in operators.items():
                what = f"{operator} of node {node.name!r}, which is {node.words},"
                target, state = f"{TASK_PREFIX}/node/{node.id}", f"node {task.words}/{node.words}"
                yield _action(operator, what, target, expected, state, has_err_codes=True)


CONFORMANCE: Final = ObshellTarget()


def parsed_id(id: str) -> GenericId | None:
    """Return a generic id, or None for any other text."""
    with suppress(InvalidGenericId):
        return parse_generic_id(id)
    return None


def _object(exchange: Exchange) -> Mapping[str, Any]:
    """Return the data of a response, if they are an object; else an empty mapping."""
    body = exchange.json() if exchange.status == 200 else None
    data = body.get("data") if isinstance(body, dict) else None
    return data if isinstance(data, dict) else {}


def _addresses(node: Any) -> Iterator[tuple[str, int]]:
    if isinstance(node, Mapping) and isinstance(node.get("ip"), str) and isinstance(node.get("port"), int):
        yield node["ip"], node["port"]
    for child in node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ():
        yield from _addresses(child)


def _action(
    operator: str, what: str, target: str, expected: Expected, state: str, *, has_err_codes: bool
) -> WalkAction:
    may_be_accepted, reason = expected
    statuses = frozenset({200}) if may_be_accepted else frozenset[int]()
    if reason:  # older versions refuse with 500
        statuses |= {400 if has_err_codes and reason != NO_NODE else 500}
    accepted = "call.illegal-accepted"
    if reason.endswith("NotSupport"):
        accepted = "call.unknown-accepted"
    elif reason.endswith("NotAllowed"):
        accepted = "call.flag-ignored"
    probe = Probe(
        what,
        "POST",
        target,
        statuses,
        (reason,) if reason and has_err_codes else (),
        accepted=accepted,
        refused="call.legal-refused",
        headers={"Content-Type": "application/json"},
        body=orjson.dumps({"operator": operator}),
        is_wrong=not may_be_accepted,
    )
    is_last = operator == "ROLLBACK" or (operator == "PASS" and "/dag/" in target)
    return WalkAction(operator, probe, state, is_last=is_last)


def _expected_of_dag(operator: str, dag: Observation, flags: Flags) -> Expected:
    prefix = f"Task.Dag.Operator.{operator.capitalize()}"
    if operator in UNROUTED_OPERATORS:
        return False, "Task.Dag.Operator.NotSupport"
    if operator == "CANCEL":
        if dag.state in FINAL:
            return False, f"{prefix}FinishedDag"
    elif dag.state != "FAILED":
        return False, f"{prefix}NotFailedDag"
    places = list(_places_of(operator, dag))
    if operator == "ROLLBACK" and not places:  # a real server fails there
        return True, NO_NODE
    expected = _by_flags(operator, dag, places, flags, f"{prefix}NotAllowed")
    if operator == "CANCEL" and dag.operation == "ROLLBACK":
        # A server without that quirk checks the nodes up to the stage.
        upto = range(max(dag.raw["stage"], len(places)))
        other = _by_flags(operator, dag, upto, flags, f"{prefix}NotAllowed")
        return expected[0] or other[0], expected[1] or other[1]
    return expected


def _places_of(operator: str, dag: Observation) -> Iterable[int]:
    """Return the positions of the nodes whose flags decide (dag.go:338-420)."""
    if operator == "RETRY":
        return [dag.raw["stage"] - 1]
    if operator == "PASS":
        return [place for place, node in enumerate(dag.parts) if node.state != "SUCCEED"]
    unended = (place for place, node in enumerate(dag.parts) if node.state not in FINAL)
    if operator == "CANCEL":  # up to the first that has not ended
        return range(next(unended, len(dag.parts) - 1) + 1)
    places = []  # ROLLBACK: up to the failed one, or the first that never ran
    for place, node in enumerate(dag.parts):
        if node.state == "PENDING" and node.operation != "ROLLBACK":
            break
        places.append(place)
        if node.state == "FAILED":
            break
    return places


def _by_flags(operator: str, dag: Observation, places: Iterable[int], flags: Flags, reason: str) -> Expected:
    """Expect acceptance if all these nodes have the operator's flag, either if the flags of one are not known."""
    several = [flags(dag, place) for place in places]
    if any(item is not None and operator.lower() not in item for item in several):
        return False, reason
    return True, reason if None in several else ""
