"""OCP as the target of a conformance run, and the expected responses to operations.

The transition tables decide: an operation with a transition from the current state must be accepted; one whose
transition needs a switch may be accepted or refused; any other must be refused with 400. Where no public source states
what a real server does, both are expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import product
from typing import Any, ClassVar, Final
from urllib.parse import quote

from oceanmock.api import Route
from oceanmock.checks import OK, REFUSED, UNDECIDED, Probe, TargetApi, WalkAction
from oceanmock.observations import Observation
from oceanmock.ocp.api import API, TASKS_PATH
from oceanmock.ocp.scenario import Scenario
from oceanmock.ocp.states import MACHINES, RETRIES

ILLEGAL_CODE: Final = 20003
PROHIBITED_CODE: Final = 20004
_ID_FORMATS: Final[Sequence[tuple[str, Callable[[str], int]]]] = (
    (r"[+-]?\d{1,40}", int),
    (r"[+-]?\d{1,40}(\.\d*)?(e\+?\d{1,2})?[dfl]?", lambda text: int(Decimal(text.rstrip("dfl")))),
    (r"[+-]?(0x|#)[0-9a-f]{1,40}", lambda text: int(re.sub("0x|#", "", text), 16)),
)
DOCUMENTED: Final = frozenset({"RUNNING", "FAILED", "SUCCESSFUL"})
"""The documented statuses. ABORTED is not documented, and servers may not support it as a filter."""
UNDER_WAY: Final = frozenset({"READY", "RUNNING", "CANCELING"})


class OcpTarget(TargetApi):
    """A server of OCP."""

    preflight_path = f"{TASKS_PATH}?size=1"
    read_path = preflight_path
    active_states = UNDER_WAY
    id_type = int
    credentials_hint = "--user and --password, or --access-key and --secret-key"
    schemathesis_checks: ClassVar[Mapping[str, Any]] = {
        # Parameters are checked before the task is searched; 404 is for an id that makes another path.
        "negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 405, *UNDECIDED]},
        "positive_data_acceptance": {"expected-statuses": [200, 401, 403, 404, *UNDECIDED]},
    }
    schemathesis_operations = (({"include-method": "POST"}, [200, 400, 401, 403, 404, *UNDECIDED]),)
    goals = ("retrySubtask", "retryTask", "rollbackTask", "skipSubtask", "cancelSubtask")
    retries = frozenset({"retrySubtask", "retryTask"})
    cancel = "cancelSubtask"
    weights: ClassVar[Mapping[str, Any]] = {"ocp-doc": "document", "ocp-express": "sibling"}

    def is_server(self, body: Mapping[str, Any]) -> bool:
        return "successful" in body and ("server" in body or body.get("status") == 401)

    def list_path(self, script: Any) -> str:
        name = (script.name or "").replace("{n}", "1")
        return f"{TASKS_PATH}?size=2000" + (f"&name={quote(name)}" if name else "")

    def is_uncertain(self, query: Mapping[str, Any]) -> bool:
        """Return whether only ocp-express is known to accept a query.

        These are undocumented statuses and fields to sort by, numbers below 1, empty texts, and a tenant's name without
        the id of its cluster, which the contract cannot forbid.
        """
        statuses = query.get("status", ())
        return (
            "" in query.values()
            or not {*(statuses.split(",") if isinstance(statuses, str) else statuses)} <= DOCUMENTED
            or any(re.match("-|0+$", str(query.get(name, 1))) for name in ("clusterId", "tenantId", "hostId"))
            or query.get("sort", "id") not in ("id", "id,asc", "id,desc")
            or ("tenantName" in query and "clusterId" not in query)
        )

    def opted_in(self, scenarios: Sequence[Scenario]) -> frozenset[str]:
        subtasks = (subtask for scenario in scenarios for task in scenario.tasks for subtask in task.subtasks)
        return frozenset({RETRIES} if any(subtask.retries for subtask in subtasks) else ())

    def unknown_ids(self, address: tuple[str, int] | None, identity: str) -> list[str | int]:
        return [2**63 - 1]

    def equivalent_ids(self, id: str) -> set[str]:
        """Return an id and the number that a lenient server reads in it: 7 in ``+7``, ``7.0`` and ``0x7``.

        Spring removes blanks and accepts hexadecimal numbers (NumberUtils.parseNumber).
        """
        text = re.sub(r"\s", "", id).lower()
        return {id, *(str(read(text)) for form, read in _ID_FORMATS if re.fullmatch(form, text))}

    def actions(self, task: Observation, *, is_mock: bool, knowledge: None = None) -> Iterator[WalkAction]:
        """Yield every operation of the contract, on the task and on each subtask."""
        for part, route in product((task, *task.parts), API.routes):
            if route.changes == part.kind:
                yield _action(route, task, part, is_mock=is_mock)

    def log_paths(self, before: Observation, after: Observation) -> Sequence[str]:
        """Return the log of one subtask that has ended again; one that was retried or undone comes first."""
        ends = {subtask.id: subtask.end for subtask in before.parts}
        ended = [subtask for subtask in after.parts if subtask.end != ends.get(subtask.id)]
        first = sorted(ended, key=lambda subtask: subtask.operation == "EXECUTE")[:1]
        return [f"{TASKS_PATH}/{after.id}/subtasks/{subtask.id}/log" for subtask in first]


CONFORMANCE: Final = OcpTarget()


def _action(route: Route, task: Observation, part: Observation, *, is_mock: bool) -> WalkAction:
    prohibits_rollback = bool(task.raw.get("prohibitRollback"))
    if part is task:
        what, state = f"{route.id} of the task, which is {task.words},", f"{task.words}/{prohibits_rollback}"
    else:
        what, state = f"{route.id} of subtask {part.id}, which is {part.words},", f"{task.words}/{part.words}"
    trigger = f"{route.changes}.{route.operation}"
    moves = MACHINES[part.kind].transitions
    switches = {item.only for item in moves if (item.before, item.trigger) == (part.label, trigger)}
    statuses = OK if switches else REFUSED
    if switches and "" not in switches:
        statuses = OK | REFUSED
    is_prohibited = route.id == "rollbackTask" and prohibits_rollback and 200 in statuses
    if is_prohibited or (part is not task and task.state == "ABORTED"):
        statuses = REFUSED
    elif route.id == "retrySubtask" and part.label == ("FAILED", "ROLLBACK") and not is_mock:
        statuses = OK | REFUSED
    probe = Probe(
        what,
        "POST",
        route.path.format(taskInstanceId=task.id, subtaskInstanceId=part.id),
        statuses,
        accepted="call.prohibited-accepted" if is_prohibited else "call.illegal-accepted",
        refused="call.legal-refused",
        other_codes=frozenset({ILLEGAL_CODE if is_prohibited else PROHIBITED_CODE}),
        is_wrong=200 not in statuses,
    )
    return WalkAction(route.id, probe, state, is_last=route.id == "rollbackTask")
