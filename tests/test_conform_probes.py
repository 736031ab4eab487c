"""conformance/probes: what is asked on purpose, of the mock and of servers that answer wrongly.

Everything goes over a real port and the client. A sound server is found fault with by nothing but
the quirks of a real obshell, which have names; a server with one thing wrong by the rule for that.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import parse_qs

import orjson
import pytest

import test_conform_checks
import test_conform_history
from conform_exchanges import CONTRACTS, changed, example, exchange
from conform_servers import Logged, logged
from oceanmock.apis import make_sandbox
from oceanmock.checks import Checker, CheckResult, Contract, Exchange, Probe
from oceanmock.clock import SECOND
from oceanmock.conformance import ApiName, Options, Result, contract_for
from oceanmock.conformance.checks import RULES, ResponseChecker
from oceanmock.conformance.history import HistoryChecker
from oceanmock.conformance.http_client import HttpClient
from oceanmock.conformance.probes import Prober, find_items, probe
from oceanmock.credentials import Basic, Sealed
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.sandboxes import Sandboxes
from oceanmock.http.app import App
from oceanmock.library import load_scenario
from oceanmock.observations import Observation, ProbeTarget, Target
from oceanmock.obshell.probes import unlisted as unlisted_dags
from oceanmock.obshell.world import Dags, id_of
from oceanmock.ocp.probes import IDS
from oceanmock.ocp.probes import unlisted as unlisted_tasks
from oceanmock.ocp.world import Tasks
from oceanmock.openapi import load_spec, spec_path

pytestmark = pytest.mark.slow

TASKS: Final = "/api/v2/tasks/instances"
WORLDS: Final[dict[ApiName, tuple[str, ...]]] = {
    "ocp": ("retry-failed-subtask", "parallel-branches", "rollback", "cancel-running-subtask"),
    "obshell": ("retry-failed-node", "parallel-node", "pass-failed-node", "cancel-running-dag"),
}


def sandbox_of(api: ApiName) -> Sandbox:
    """Scenarios that come with oceanmock, a minute after they began; then time stands."""
    scenarios = [load_scenario(name) for name in WORLDS[api]]
    sandbox = make_sandbox(scenarios, progression="manual")
    sandbox.advance(60 * SECOND)
    return sandbox


def ids_of(sandbox: Sandbox) -> tuple[str, ...]:
    """The ids of all its tasks and dags."""
    dags = [*sandbox.world(Dags).all_data()]
    tasks = [str(view.data.id) for view in sandbox.world(Tasks).all()]
    return (*tasks, *(id_of(dag, dag.number) for dag in dags))


class Run:
    """A client to a server, with everything that watches."""

    def __init__(self, api: ApiName, url: str, sandbox: Sandbox, *, write: bool) -> None:
        agent = sandbox.world(Dags).agents[0]
        auth: Any = Basic("manager", "manager")
        if api == "obshell":
            auth = Sealed(agent.root_password or "", agent.agent_password)
        own = None if api == "ocp" else (agent.ip, agent.port)
        identity = "" if api == "ocp" else agent.identity
        self.target = Target(url, api, auth, True, "4.5.0.0", own, identity)
        self.options = Options(write=write, tasks=ids_of(sandbox), cancel_rollback=True)
        contract = Contract(api, load_spec(spec_path(api)))
        self.sandbox = sandbox
        self.memory = HistoryChecker(contract)
        self.client = HttpClient(self.target, self.options, checkers=[ResponseChecker(contract), self.memory])

    def probe(self) -> tuple[Observation, ...]:
        """Sends every probe; gives back what was found to be there."""
        known = find_items(self.client)
        self.prober = Prober(self.client)
        probe(self.prober, known)
        return known

    @property
    def rules(self) -> set[str]:
        """The rules that were found broken, but for quirks."""
        return {f.rule for f in self.client.result.findings if not f.rule.startswith("quirk.")}


@contextmanager
def running(
    api: ApiName, *, write: bool = True, wrap: Callable[[Any], Any] = lambda app: app
) -> Iterator[tuple[Run, Logged]]:
    """A run against the mock, or what is made of it."""
    sandbox = sandbox_of(api)
    with logged(wrap(App(Sandboxes(sandbox)))) as served:
        run = Run(api, served.url, sandbox, write=write)
        yield run, served
        run.client.session.close()


# --- what is right --------------------------------------------------------------------------------


@pytest.mark.parametrize("api", ["ocp", "obshell"])
def test_a_sound_server_is_found_fault_with_by_no_probe(api: ApiName) -> None:
    with running(api) as (run, _):
        run.probe()

    assert run.rules == set()
    assert sum(n for (rule, _), n in run.prober.checked.items() if rule == "error.status") > 100


def test_the_quirks_of_an_obshell_are_found_under_their_names() -> None:
    with running("obshell") as (run, _):
        run.probe()

    quirks = {finding.rule for finding in run.client.result.findings}
    assert {
        "quirk.body-that-is-no-object-is-eof",
        "quirk.logs-of-nothing-are-empty",
        "quirk.missing-header-is-400",
        "quirk.node-body-says-dag-operator",
        "quirk.node-without-details-is-500",
        "quirk.panic-is-dated-at-start",
        "quirk.status-has-no-trace-id",
        "quirk.unreadable-show-details-is-500",
    } <= quirks


@pytest.mark.parametrize("api", ["ocp", "obshell"])
def test_a_run_that_only_reads_sends_nothing_but_get(api: ApiName) -> None:
    with running(api, write=False) as (run, served):
        run.probe()

    assert served.methods == {"GET"}
    assert run.rules == set()


@pytest.mark.parametrize("api", ["ocp", "obshell"])
def test_probes_change_nothing(api: ApiName) -> None:
    with running(api) as (run, _):
        known = run.probe()

        again = find_items(run.client)

    assert again == known


@pytest.mark.parametrize("api", ["ocp", "obshell"])
def test_each_operation_is_seen_to_refuse_and_to_find_nothing(api: ApiName) -> None:
    with running(api) as (run, _):
        run.probe()

    guarded = [o for o in run.client.operations if "{" in o.path]
    seen = {o.id: set(run.client.result.statuses[o.id]) for o in guarded}
    empty_logs = ("getSubtaskLog", "getFullSubTaskLogs")
    assert all({400, 401} <= statuses for statuses in seen.values())
    assert all(404 in statuses for id, statuses in seen.items() if id not in empty_logs)


def test_a_wrong_password_is_tried_once() -> None:
    with running("ocp") as (run, served):
        run.probe()

    own = [each.get("authorization", "") for each in served.headers]
    wrong = [said for said in own if said.startswith("Basic ") and said != _basic()]
    assert sum(len(said) > 30 for said in wrong) == 1


def _basic() -> str:
    request: Any = type("Request", (), {"headers": {}})()
    return str(Basic("manager", "manager")(request).headers["Authorization"])


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("api", ["ocp", "obshell"])
def test_a_walk_through_everything_that_can_happen_finds_nothing(api: ApiName, seed: int) -> None:
    chance = random.Random(seed)
    with running(api) as (run, _):
        known = find_items(run.client)

        for _ in range(150):
            _step(run, known, chance)

    assert run.rules == set()
    assert run.memory.transitions.total() > 10


def _step(run: Run, known: tuple[Observation, ...], chance: random.Random) -> None:
    """Looks, calls, or lets up to three seconds pass."""
    one = chance.choice(known)
    steps = _ocp_steps if run.target.api == "ocp" else _obshell_steps
    wait = ("WAIT", "", None)
    method, path, body = chance.choice([*steps(one, chance), wait, wait])
    if method == "WAIT":
        run.sandbox.advance(chance.randrange(3 * SECOND))
    else:
        run.client.send(method, path, json=body)


def _ocp_steps(task: Any, chance: random.Random) -> list[tuple[str, str, Any]]:
    at = f"{TASKS}/{task.id}"
    part = f"{at}/subtasks/{chance.choice(task.parts).id}"
    reads = [("GET", path, None) for path in (at, at, f"{part}/log", f"{TASKS}?size=100")]
    calls = [(at, "retry"), (at, "rollback"), *((part, c) for c in ("retry", "skip", "cancel"))]
    return [*reads, *(("POST", f"{path}/{name}", None) for path, name in calls)]


def _obshell_steps(dag: Any, chance: random.Random) -> list[tuple[str, str, Any]]:
    at, root = f"/api/v1/task/dag/{dag.id}", "/api/v1/task"
    node = chance.choice(dag.parts)
    sub_task = f"{root}/sub_task/{chance.choice(node.parts).id}"
    paths = (at, at, f"{root}/node/{node.id}", sub_task, f"{sub_task}/logs", f"{root}/dags/agent")
    operators = ("RETRY", "ROLLBACK", "CANCEL", "PASS")
    return [
        *(("GET", path, None) for path in paths),
        *(("POST", at, {"operator": each}) for each in operators),
        ("POST", f"{root}/node/{node.id}", {"operator": "PASS"}),
    ]


# --- what is there --------------------------------------------------------------------------------


def test_what_is_there_is_found_with_its_parts() -> None:
    with running("ocp") as (run, _):
        known = find_items(run.client)

    assert {task.id for task in known} == set(run.options.tasks)
    assert {task.state for task in known} > {"FAILED"}
    assert {part.kind for task in known for part in task.parts} == {"subtask"}


def test_of_an_obshell_dags_nodes_and_sub_tasks_are_known() -> None:
    with running("obshell") as (run, _):
        known = find_items(run.client)

    assert {dag.id for dag in known} == set(run.options.tasks)
    assert "FAILED" in {dag.state for dag in known}
    kinds = {item.kind for dag in known for item in dag.all()}
    assert kinds == {"dag", "node", "sub_task"}


# --- what is broken -------------------------------------------------------------------------------

Bend = Callable[[str, dict[str, str], int, Any], tuple[int, Any]]
"""What becomes of a status and a JSON body, by the path and the query that were asked for."""


def bending(bend: Bend) -> Callable[[Any], Any]:
    """An app whose JSON answers are bent on their way out."""

    def wrap(app: Any) -> Any:
        async def bent(scope: Any, receive: Any, send: Any) -> None:
            start: dict[str, Any] = {}

            async def sending(message: Any) -> None:
                if message["type"] == "http.response.start":
                    start.update(message)
                    return
                query = {n: v[-1] for n, v in parse_qs(scope["query_string"].decode()).items()}
                said = orjson.loads(message["body"])
                status, said = bend(scope["path"], query, start["status"], said)
                body = orjson.dumps(said)
                headers = [h for h in start["headers"] if h[0] != b"content-length"]
                length = (b"content-length", str(len(body)).encode())
                await send({**start, "status": status, "headers": [*headers, length]})
                await send({**message, "body": body})

            await app(scope, receive, sending)

        return bent

    return wrap


def turning(before: int, after: int, part: str = "") -> Bend:
    """Answers with another status, where the path has some part."""

    def bend(path: str, _: Any, status: int, said: Any) -> tuple[int, Any]:
        if status == before and part in path:
            return after, {**said, "status": after, "successful": after < 400}
        return status, said

    return bend


def listing(change: Callable[[dict[str, str], list[Any]], list[Any]]) -> Bend:
    """Lists other rows than there are, where there are any."""

    def bend(path: str, query: dict[str, str], status: int, said: Any) -> tuple[int, Any]:
        if path == TASKS and status == 200:
            said["data"]["contents"] = change(query, said["data"]["contents"])
        return status, said

    return bend


def done_all_the_same(path: str, _: Any, status: int, said: Any) -> tuple[int, Any]:
    """Says of every call that it is done."""
    if status == 400 and path.endswith(("retry", "skip", "cancel", "rollback")):
        return 200, {key: value for key, value in said.items() if key != "error"}
    return status, said


def another_total_past_the_end(_: str, query: dict[str, str], status: int, said: Any) -> tuple[int, Any]:
    """Counts one row less on the fourth page of a list, which is empty."""
    if query.get("page") == "4" and status == 200:
        said["data"]["page"]["totalElements"] -= 1
    return status, said


BROKEN: Final[dict[str, tuple[ApiName, Bend]]] = {
    "error.status": ("ocp", turning(404, 400)),
    "hostile.500": ("ocp", turning(404, 500)),
    "error.code": ("obshell", lambda *a: (a[2], _other_code(a[3]))),
    "auth.missing-accepted": ("ocp", turning(401, 404)),
    "auth.wrong-accepted": ("ocp", turning(401, 200)),
    "method.accepted": ("ocp", turning(405, 200)),
    "call.illegal-accepted": ("ocp", done_all_the_same),
    "id.spelling": ("obshell", turning(404, 200, "dag/")),
    "paging.whole": ("ocp", listing(lambda q, rows: rows[1:] if "page" in q else rows)),
    "paging.total": ("ocp", another_total_past_the_end),
    "list.missing": ("obshell", lambda *a: (a[2], _without_the_first(*a))),
    "filter.too-narrow": ("ocp", listing(lambda q, rows: rows[1:] if "status" in q else rows)),
}
"""A server that breaks each rule of the probes."""


def _without_the_first(path: str, _: Any, status: int, said: Any) -> Any:
    if path.endswith("dags/agent") and status == 200:
        del said["data"]["contents"][0]
    return said


def _other_code(said: Any) -> Any:
    if said.get("error", {}).get("errCode") == "Task.GenericID.Invalid":
        said["error"]["errCode"] = "Common.BindJsonFailed"
    return said


@pytest.mark.parametrize("rule", sorted(BROKEN))
def test_a_server_that_breaks_a_rule_is_found_under_its_name(rule: str) -> None:
    api, bend = BROKEN[rule]
    with running(api, wrap=bending(bend)) as (run, _):
        known = find_items(run.client)

        run.prober = Prober(run.client)
        probe(run.prober, known)

    assert rule in run.rules


def test_a_server_whose_tasks_have_no_name_is_probed_to_the_end() -> None:
    nameless = listing(lambda _, rows: [{**row, "name": None} for row in rows])
    with running("ocp", wrap=bending(nameless)) as (run, _):
        run.probe()

    assert "filter.too-narrow" not in run.rules


# --- what a sound server may answer ---------------------------------------------------------------


@dataclass
class Answering:
    """Stands for a client, with a server that answers each request as a function says."""

    answer: Callable[[str], Exchange]
    api: ApiName
    result: Result = field(init=False)

    def __post_init__(self) -> None:
        self.target, self.contract = Target("http://there", self.api), contract_for(self.api)
        self.result = Result(self.target.url, self.api)

    def send(self, method: str, target: str, *, checker: Checker = lambda _: (), **_: Any) -> Exchange:
        answered = self.answer(target)
        self.found(*checker(answered))
        return answered

    def found(self, *findings: CheckResult) -> None:
        self.result.findings += findings


def rules_of(ask: Callable[[Prober], object], answer: Callable[[str], Exchange], *, api: ApiName = "ocp") -> list[str]:
    """The rules that a server is found to break that answers so."""
    client: Any = Answering(answer, api)
    ask(Prober(client))
    return [finding.rule for finding in client.result.findings]


WITHOUT_A_NAME: Final = Probe("a request", "GET", TASKS, frozenset({401}), accepted="auth.missing-accepted", auth=None)
ILLEGAL: Final = Probe("a retry", "POST", f"{TASKS}/1/retry", frozenset({400}), accepted="call.illegal-accepted")


@pytest.mark.parametrize("probe_sent", [WITHOUT_A_NAME, ILLEGAL])
@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_an_answer_that_says_nothing_of_the_request_is_held_against_nothing(status: int, probe_sent: Probe) -> None:
    unheard = exchange("GET", TASKS, b"<html>", status=status)

    assert rules_of(lambda prober: prober.ask(probe_sent), lambda _: unheard) == []


def test_that_a_server_fails_is_told_by_those_who_watch_the_wire_and_by_nobody_else() -> None:
    failed = exchange("GET", TASKS, changed(example("ocp", "UnknownTask"), status=500), status=500)

    assert rules_of(lambda prober: prober.ask(ILLEGAL), lambda _: failed) == []
    assert "status.server-error" in {each.rule for each in ResponseChecker(CONTRACTS["ocp"])(failed)}


def test_whoever_is_sent_elsewhere_to_log_in_was_not_let_in() -> None:
    elsewhere = exchange("GET", TASKS, b"", status=302)
    all_the_same = exchange("GET", TASKS, example("ocp", "TaskList"))

    assert rules_of(lambda prober: prober.ask(WITHOUT_A_NAME), lambda _: elsewhere) == []
    assert rules_of(lambda prober: prober.ask(WITHOUT_A_NAME), lambda _: all_the_same) == ["auth.missing-accepted"]


def page_of(ids: list[int], *, total: int) -> Exchange:
    """A page of a list, the largest that the server gives."""
    page = {"number": 1, "size": 1000, "totalElements": total, "totalPages": 1}
    contents = [{"id": each, "status": "FAILED"} for each in ids]
    said = example("ocp", "TaskList") | {"data": {"contents": contents, "page": page}}
    return exchange("GET", TASKS, said)


OF_A_USER: Final = Observation("task", "1", "A", "FAILED", "EXECUTE", raw={"type": "MANUAL"})
OF_A_SCHEDULE: Final = replace(OF_A_USER, raw={"type": "SCHEDULED"})


@pytest.mark.parametrize(
    ("known", "total", "broken"),
    [(OF_A_USER, 3, []), (OF_A_SCHEDULE, 2, []), (OF_A_USER, 2, ["list.missing"])],
    ids=["a list cut short", "a task that no user has started", "a task that is left out"],
)
def test_what_is_not_listed_is_missing_from_a_whole_list_of_what_users_have_started(
    known: Observation, total: int, broken: list[str]
) -> None:
    rules = rules_of(lambda prober: prober.run(unlisted_tasks([known])), lambda _: page_of([7, 8], total=total))

    assert rules == broken


def test_a_follower_lists_what_is_its_masters() -> None:
    own = Observation("dag", "22130706433028861", "A", "FAILED", "RUN")
    empty = exchange("GET", "/api/v1/task/dags/agent", example("obshell", "EmptyList"))

    by_identity = {}
    for identity in ("FOLLOWER", "MASTER"):
        target = ProbeTarget(Target("", "obshell", identity=identity), (own,))
        by_identity[identity] = rules_of(
            lambda prober, target=target: prober.run(unlisted_dags(target)),  # type: ignore[misc]
            lambda _: empty,
            api="obshell",
        )

    assert by_identity == {"FOLLOWER": [], "MASTER": ["list.missing"]}


def test_an_id_that_spring_reads_as_a_number_may_be_one() -> None:
    odd = IDS

    assert all(200 in odd[id] for id in ("0x10", "1 2", "١٢"))
    assert odd["abc"] == odd["1e3"] == frozenset({400})


def test_somebody_who_may_only_look_and_does_more_is_found() -> None:
    with running("ocp") as (run, _):
        sound = _forbidden_by(run, Basic("viewer", "viewer"))
    with running("ocp") as (run, _):
        broken = _forbidden_by(run, Basic("manager", "manager"))

    assert "auth.forbidden-accepted" not in sound
    assert "auth.forbidden-accepted" in broken


def _forbidden_by(run: Run, viewer: Any) -> set[str]:
    run.target = replace(run.target, read_only_auth=viewer)
    run.client = HttpClient(run.target, run.options, checkers=run.client.checkers)
    run.probe()
    return run.rules


def test_an_id_of_another_agent_is_asked_of_nobody() -> None:
    with running("obshell") as (run, served):
        run.target = replace(run.target, own_address=("127.0.0.1", 9))
        run.client = HttpClient(run.target, run.options)

        known = find_items(run.client)

    assert known == ()
    assert not any("/dag/2" in target for _, target in served.log)


# --- the catalogue --------------------------------------------------------------------------------

NEVER_SEEN: Final = {"quirk.foreign-obproxy-id-is-forwarded-too"}
"""What no client that keeps to the server's own ids can see."""
OF_THE_RECORDINGS: Final = {
    "quirk.body-id-overrules-path",
    "quirk.body-that-is-no-object-is-eof",
    "quirk.forwarded-pass-loses-its-body",
    "quirk.missing-header-is-400",
    "quirk.never-maintained-is-500",
    "quirk.no-oceanbase-is-500",
    "quirk.node-body-says-dag-operator",
    "quirk.node-without-details-is-500",
    "quirk.panic-is-dated-at-start",
    "quirk.refusal-is-never-sent",
    "quirk.status-has-no-trace-id",
    "quirk.undecryptable-body-is-500",
    "quirk.unheld-cluster-id-is-500",
    "quirk.unreadable-show-details-is-500",
}


def test_every_rule_is_broken_by_some_test() -> None:
    tested = {
        *test_conform_checks.broken_rules(),
        *test_conform_history.BROKEN,
        *BROKEN,
        "auth.forbidden-accepted",
        "call.flag-ignored",  # test_conform_machine.py
        "quirk.unknown-dag-is-asked-for-without-end",  # test_conform_safety.py
        *OF_THE_RECORDINGS,
    }

    assert set(RULES) - tested - NEVER_SEEN == set()
    assert tested <= set(RULES)


def test_what_is_asked_is_the_same_each_time() -> None:
    asked = []
    for _ in range(2):
        with running("ocp") as (run, served):
            run.probe()
        asked.append(json.dumps(served.log))

    assert asked[0] == asked[1]
