"""What a test holds in its hand: clock, journal, faults, tasks and dags; here and elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from golden import assert_golden
from mock_fixtures import MORNING, here, mock
from oceanmock import (
    EnvironmentProblem,
    InputError,
    JournalEntry,
    Mock,
    Obshell,
    Ocp,
    fails,
    hangs,
    node,
    sub_task,
    subtask,
    succeeds,
)

__all__ = ["here", "mock"]

TASK = "/api/v2/tasks/instances/1000"
SIX = datetime(2024, 1, 10, 6, tzinfo=UTC)


@pytest.fixture
def ocp(mock: Mock) -> Iterator[Ocp]:
    said = {"progression": "manual", "starts_at": MORNING, "name": "t1"}
    with mock.ocp("retry-failed-subtask", **said) as sandbox:  # type: ignore[arg-type]
        yield sandbox


@pytest.fixture
def obshell(mock: Mock) -> Iterator[Obshell]:
    said = {"progression": "manual", "starts_at": MORNING, "name": "t1"}
    with mock.obshell("initialize-cluster-fails", **said) as sandbox:  # type: ignore[arg-type]
        yield sandbox


def get(ocp: Ocp, path: str = TASK) -> httpx.Response:
    return httpx.get(f"{ocp.url}{path}", auth=ocp.auth)


# --- the clock ------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["90s", "1m30s", 90, 90.0, timedelta(minutes=1.5)])
def test_a_clock_is_advanced_by_a_duration_of_any_kind(ocp: Ocp, by: Any) -> None:
    now = ocp.clock.advance(by)

    assert now == ocp.clock.now() == SIX + timedelta(seconds=90)


def test_a_clock_goes_on_to_what_is_due_next(ocp: Ocp) -> None:
    due = ocp.clock.next_due()

    assert ocp.clock.next() == due == SIX + timedelta(seconds=0.5)


def test_moved_to_what_is_due_a_clock_has_come_there(mock: Mock) -> None:
    said = {"progression": "manual", "starts_at": "2024-01-10T06:00:00.000000001Z"}
    with mock.ocp("retry-failed-subtask", **said) as ocp:  # type: ignore[arg-type]
        due = ocp.clock.next_due()
        assert due is not None

        ocp.clock.move_to(due)

        ocp.task(1000).subtask(1001).assert_status("RUNNING")


def test_where_nothing_is_due_the_clock_stays(ocp: Ocp) -> None:
    then = ocp.clock.advance("1h")

    assert ocp.clock.next_due() is None
    assert ocp.clock.next() == then


@pytest.mark.parametrize("to", ["2024-01-10T07:00:00Z", SIX + timedelta(hours=1)])
def test_a_clock_is_moved_to_an_instant_and_never_back(ocp: Ocp, to: Any) -> None:
    assert ocp.clock.move_to(to) == SIX + timedelta(hours=1)
    assert ocp.clock.move_to(MORNING) == SIX + timedelta(hours=1)


def test_a_client_that_sleeps_by_the_clock_waits_for_nothing(ocp: Ocp) -> None:
    ocp.clock.sleep(0.25)

    assert ocp.clock.now() == SIX + timedelta(seconds=0.25)


def test_how_time_passes_is_changed(ocp: Ocp) -> None:
    ocp.clock.set(progression="time", speed=1000)

    assert (ocp.clock.progression, ocp.clock.speed) == ("time", 1000)
    assert repr(ocp.clock).endswith(", time>")


def test_a_duration_that_is_none_is_refused(ocp: Ocp) -> None:
    with pytest.raises(InputError, match="by"):
        ocp.clock.advance("soon")


# --- the journal ----------------------------------------------------------------------------------


def test_the_journal_has_every_exchange(ocp: Ocp) -> None:
    get(ocp)
    httpx.post(f"{ocp.url}{TASK}/retry", auth=ocp.viewer)

    first, second = ocp.journal

    assert (first.operation, first.status, first.caller) == ("getTaskInstance", 200, "manager")
    assert first.at == SIX
    assert first.response_body["data"]["id"] == 1000
    assert str(second) == f"POST {TASK}/retry by viewer, answered 403"
    assert second.refusal == "This operation needs the permission TASK_MANAGER."
    assert len(ocp.journal) == 2
    assert ocp.journal.last == second


@pytest.mark.parametrize(
    ("operation", "wanted", "numbers"),
    [
        (None, {}, [1, 2, 3]),
        ("getTaskInstance", {}, [1, 2]),
        (None, {"status": "4xx"}, [2, 3]),
        (None, {"task": 1000, "method": "POST"}, [3]),
        (None, {"body": {"a": 1}}, []),
        ("retryTask", {"body": None}, [3]),
        (None, {"path": "*/999"}, [2]),
    ],
)
def test_the_journal_is_asked_for_what_is_wanted(
    ocp: Ocp, operation: str | None, wanted: Any, numbers: list[int]
) -> None:
    get(ocp)
    get(ocp, "/api/v2/tasks/instances/999")
    httpx.post(f"{ocp.url}{TASK}/retry", auth=ocp.auth, json={"b": 1})

    assert [entry.number for entry in ocp.journal.all(operation, **wanted)] == numbers


def test_requests_are_found_by_what_their_body_has(obshell: Obshell) -> None:
    dag = obshell.dag(4).until("FAILED")
    for operator in ("RETRY", "ROLLBACK"):
        httpx.post(f"{obshell.url}/api/v1/task/dag/{dag.id}", json={"operator": operator}, auth=obshell.auth)

    (entry,) = obshell.journal.all("dagHandler", dag=4, body={"operator": "ROLLBACK"})

    assert entry.request_body == {"operator": "ROLLBACK"}


@pytest.mark.slow
def test_a_journal_longer_than_a_page_is_read_to_its_end(here: Mock) -> None:
    with here.ocp("retry-failed-subtask", progression="manual") as ocp, httpx.Client(base_url=ocp.url) as client:
        for _ in range(1000):
            client.get("/api/v2/nothing")

        assert len(ocp.journal) == 1000


def test_a_cleared_journal_is_empty(ocp: Ocp) -> None:
    get(ocp)

    ocp.journal.clear()

    assert list(ocp.journal) == []
    assert ocp.journal.last is None


def test_what_was_asked_holds(ocp: Ocp) -> None:
    get(ocp)

    ocp.journal.assert_called("getTaskInstance")
    ocp.journal.assert_called("getTaskInstance", times=1, task=1000, status=200)
    ocp.journal.assert_called("getTaskInstance", at_least=1, at_most=2)
    ocp.journal.assert_not_called("retrySubtask")


def test_what_was_not_asked_fails_with_what_came_nearest(ocp: Ocp) -> None:
    get(ocp)
    ocp.task(1000).until("FAILED")
    httpx.post(f"{ocp.url}{TASK}/subtasks/1002/retry", auth=ocp.auth)

    with pytest.raises(AssertionError) as failure:
        ocp.journal.assert_called("retrySubtask", times=1, subtask=7)

    assert_golden("testing-assert-called.txt", f"{failure.value}\n")


def test_what_should_not_have_been_asked_fails_with_each_time_it_was(ocp: Ocp) -> None:
    get(ocp)

    with pytest.raises(AssertionError, match=r"expected never, found once") as failure:
        ocp.journal.assert_not_called("getTaskInstance", task=1000)

    assert "entry 1, at 2024-01-10T06:00:00" in str(failure.value)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda journal: journal.assert_called("retrySubtsk"), "Did you mean 'retrySubtask'"),
        (lambda journal: journal.assert_called("x", subtsk=7), "Did you mean 'subtask'"),
        (lambda journal: journal.assert_called("x", time=7), "Did you mean 'times'"),
        (lambda journal: journal.all(stat=7), "'stat' is no keyword of a query of the journal"),
        (lambda journal: journal.assert_called("getTaskInstance", status=99), "status"),
    ],
)
def test_a_wrong_query_is_its_author_s_mistake(ocp: Ocp, act: Callable[[Any], None], message: str) -> None:
    with pytest.raises(InputError, match=message):
        act(ocp.journal)


def test_an_entry_has_what_the_admin_api_tells(ocp: Ocp) -> None:
    get(ocp)

    told = ocp.admin.ask("GET", "/journal")["entries"][0]

    kinds = {"request_body_kind", "response_body_kind"}
    assert told.keys() - kinds == set(JournalEntry.__dataclass_fields__)


# --- faults ---------------------------------------------------------------------------------------


def test_a_fault_strikes_and_is_counted_until_it_is_removed(ocp: Ocp) -> None:
    fault = ocp.faults.add(operation="getTaskInstance", calls=[1], status=503)

    statuses = [get(ocp).status_code, get(ocp).status_code]

    assert statuses == [503, 200]
    assert (fault.name, fault.counted, fault.affected) == ("fault 1", 2, 1)
    fault.remove()
    with pytest.raises(InputError, match="there is no fault 'fault 1' any more"):
        _ = fault.affected


def test_faults_are_listed_and_removed(ocp: Ocp) -> None:
    ocp.faults.add(name="slow/ä", delay=timedelta(milliseconds=1))
    ocp.faults.add(name="gone", empty=True)

    assert [fault.name for fault in ocp.faults] == ["slow/ä", "gone"]
    assert ocp.faults.all()[0].json()["fault"]["delay"] == "1ms"
    ocp.faults.remove("gone")
    assert len(ocp.faults) == 1
    ocp.faults.clear()
    assert len(ocp.faults) == 0


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"operaton": "x", "reset": True}, "Did you mean 'operation'"),
        ({"operation": "getTaskInstanc", "reset": True}, "Did you mean 'getTaskInstance'"),
        ({"operation": "getTaskInstance"}, "fault"),
    ],
)
def test_a_wrong_fault_is_its_author_s_mistake(ocp: Ocp, said: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ocp.faults.add(**said)


# --- OCP's tasks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [1000, "1000", "Reinstall OCP agent"])
def test_a_task_is_found_by_its_id_or_name(ocp: Ocp, wanted: int | str) -> None:
    task = ocp.task(wanted)

    assert (task.id, task.name) == (1000, "Reinstall OCP agent")
    assert (task.status, task.operation) == ("RUNNING", "EXECUTE")
    assert task == ocp.tasks()[0]
    assert repr(task) == "<Task 1000 'Reinstall OCP agent'>"


@pytest.mark.parametrize("wanted", [1002, "1002", "Uninstall ocp agent"])
def test_a_subtask_is_found_by_its_id_or_name(ocp: Ocp, wanted: int | str) -> None:
    subtask = ocp.task(1000).subtask(wanted)

    assert (subtask.id, subtask.status, subtask.operation) == (1002, "PENDING", "EXECUTE")
    assert subtask in {*ocp.task(1000).subtasks}
    assert subtask != ocp.task(1000)
    assert [each.id for each in ocp.task(1000).subtasks] == [1001, 1002, 1003]


def test_a_task_behind_the_first_ten_thousand_is_found_by_its_id(ocp: Ocp) -> None:
    first = ocp.task("Check", ["one"], repeat={"count": 10_001})

    assert ocp.task(first.id + 10_000).name == "Check"


def test_what_is_not_there_is_refused_with_what_is(ocp: Ocp) -> None:
    with pytest.raises(InputError, match=r"no task 1001 .* has 1000 'Reinstall OCP agent'\. Did"):
        ocp.task(1001)
    with pytest.raises(InputError, match=r"no subtask 'Uninstall' in task 1000\. It has 1001"):
        ocp.task(1000).subtask("Uninstall")


def test_looking_moves_no_clock(ocp: Ocp) -> None:
    ocp.clock.set(progression="polls")

    looks = [ocp.task(1000).status, ocp.task(1000).explain(), ocp.task(1000).timeline()]

    assert looks[0] == "RUNNING"
    assert ocp.clock.now() == SIX


def test_a_task_lives_until_it_shows_what_is_waited_for(ocp: Ocp) -> None:
    task = ocp.task(1000).until("FAILED")

    task.assert_status("FAILED")
    task.assert_status("FAILED", operation="EXECUTE")
    task.subtask(1002).assert_status("FAILED")
    assert ocp.clock.now() == SIX + timedelta(seconds=4)


def test_a_subtask_lives_until_it_shows_what_is_waited_for(ocp: Ocp) -> None:
    ocp.task(1000).subtask(1002).until("RUNNING")

    assert ocp.clock.now() == SIX + timedelta(seconds=1.5)


def test_a_task_that_never_will_says_why(ocp: Ocp) -> None:
    with pytest.raises(AssertionError) as failure:
        ocp.task(1000).until("SUCCESSFUL")

    assert_golden("testing-until.txt", f"{failure.value}\n")


def test_a_task_in_another_status_says_why_and_what_is_next(ocp: Ocp) -> None:
    task = ocp.task(1000).until("FAILED")

    with pytest.raises(AssertionError) as failure:
        task.assert_status("SUCCESSFUL")

    assert_golden("testing-assert-status.txt", f"{failure.value}\n")


def test_a_task_in_another_operation_says_which(ocp: Ocp) -> None:
    with pytest.raises(AssertionError, match=r"^task 1000 is RUNNING/EXECUTE, not RUNNING/RETRY\."):
        ocp.task(1000).assert_status("RUNNING", operation="RETRY")
    with pytest.raises(AssertionError, match=r"^subtask 1002 is PENDING, not FAILED\."):
        ocp.task(1000).subtask(1002).assert_status("FAILED")


def test_a_status_that_there_is_not_is_its_author_s_mistake(ocp: Ocp) -> None:
    for word in ("SUCESSFUL", "SUCCEED", "Success"):
        with pytest.raises(InputError, match=rf"OCP has no state '{word}'\. .*Did you mean 'SUCCESSFUL'\?"):
            ocp.task(1000).assert_status(word)
    with pytest.raises(InputError, match=r"there is no task 9 in sandbox '.*'\. It has 1000 '"):
        ocp.task(9)


def test_each_task_has_a_timeline(ocp: Ocp) -> None:
    ocp.task("Install", ["a"])

    (first, second) = sorted(ocp.timelines())

    assert first.splitlines()[0].startswith("task 1")
    assert ocp.task(1000).timeline() in (first, second)


# --- tasks written in code ------------------------------------------------------------------------


def test_a_task_is_written_in_code(ocp: Ocp) -> None:
    install = subtask("Install", fails("2s", log="disk full"), succeeds())
    task = ocp.task("Install agent", ["Prepare", install, "Start"], id=7)

    task.until("FAILED")
    httpx.post(f"{ocp.url}/api/v2/tasks/instances/7/retry", auth=ocp.auth)
    task.until("SUCCESSFUL")

    assert task.id == 7
    assert [each.name for each in task.subtasks] == ["Prepare", "Install", "Start"]


def test_a_run_that_hangs_meets_its_timeout(ocp: Ocp) -> None:
    task = ocp.task("Install agent", [subtask("Install", hangs(), timeout="20m")])

    task.until("FAILED")

    assert ocp.clock.now() > SIX + timedelta(minutes=20)


def test_what_is_wrong_with_a_task_written_in_code_is_told_with_its_place(ocp: Ocp) -> None:
    with pytest.raises(InputError, match=r"^template\.subtasks\[1\]\.attempts\[0\]\.error: "):
        ocp.task("Install agent", ["Prepare", subtask("Install", fails(error="boom"))])


@pytest.mark.parametrize(
    ("written", "means"),
    [
        (succeeds(), {}),
        (succeeds(timedelta(minutes=2), log=("a", "b")), {"takes": "120s", "log": ["a", "b"]}),
        (fails(), {"ends": "FAILED"}),
        (fails(1.5, error="boom"), {"takes": "1.5s", "ends": "FAILED", "error": {"message": "boom"}}),
        (hangs(log="…"), {"takes": "forever", "log": "…"}),
        (subtask("a"), {"name": "a"}),
        (subtask("a", fails(), needs=[]), {"name": "a", "attempts": [fails()], "needs": []}),
        (node("a", can="retry"), {"name": "a", "can": "retry"}),
        (node("a", fails()), {"name": "a", "sub_tasks": [{"attempts": [fails()]}]}),
        (node("a", sub_tasks=[sub_task(name="b")]), {"name": "a", "sub_tasks": [{"name": "b"}]}),
    ],
)
def test_a_call_writes_what_the_file_format_has(written: Any, means: dict[str, Any]) -> None:
    assert written == means


def test_a_node_has_either_runs_or_sub_tasks() -> None:
    with pytest.raises(TypeError, match="node 'a' has attempts and sub_tasks"):
        node("a", fails(), sub_tasks=[])


# --- obshell's dags -------------------------------------------------------------------------------


def test_a_dag_is_found_by_its_number_id_or_name(obshell: Obshell) -> None:
    dag = obshell.dag(4)

    assert dag == obshell.dag(dag.id) == obshell.dag("Initialize cluster") == obshell.dags()[0]
    assert (dag.id, dag.number, dag.stage) == ("22130706433028864", 4, 1)
    assert (dag.state, dag.operator) == ("READY", "RUN")


def test_its_nodes_and_sub_tasks_are_found_too(obshell: Obshell) -> None:
    dag = obshell.dag(4).until("FAILED")

    start = dag.node("Start observer")

    assert start == dag.node(403) == dag.node(start.id) != dag.node(402)
    assert (start.number, start.state, start.operator) == (403, "FAILED", "RUN")
    (work,) = start.sub_tasks
    assert (work.state, work.operator) == ("FAILED", "RUN")
    assert work == start.sub_task(work.id) == start.sub_task(work.name) == start.sub_task(40301)
    assert repr(work) == "<SubTask 40301 'Start observer'>"
    assert dag.stage == 3
    assert len(dag.nodes) == 11


def test_a_dag_in_another_state_says_why_and_what_is_next(obshell: Obshell) -> None:
    dag = obshell.dag(4)
    dag.node("Create observer workdir").until("SUCCEED").assert_state("SUCCEED", operator="RUN")

    with pytest.raises(AssertionError) as failure:
        dag.assert_state("FAILED")

    assert_golden("testing-assert-state.txt", f"{failure.value}\n")
    with pytest.raises(AssertionError, match=r"^node 403 is PENDING, not FAILED\."):
        dag.node(403).assert_state("FAILED")
    with pytest.raises(AssertionError, match=r"^sub task 40301 is PENDING, not FAILED\."):
        dag.node(403).sub_tasks[0].assert_state("FAILED")


def test_a_sub_task_lives_until_it_shows_what_is_waited_for(obshell: Obshell) -> None:
    work = obshell.dag(4).node(402).sub_tasks[0].until("SUCCEED")

    work.assert_state("SUCCEED", operator="RUN")
    work.node.assert_state("RUNNING")


def test_a_dag_is_written_in_code(obshell: Obshell) -> None:
    restart = node("Restart", fails(error="exit status 1"), succeeds(), can=["retry", "pass"])
    dag = obshell.dag("Upgrade", ["Check", restart], id=9)

    dag.until("FAILED")
    httpx.post(f"{obshell.url}/api/v1/task/dag/{dag.id}", json={"operator": "RETRY"}, auth=obshell.auth)
    dag.until("SUCCEED")

    assert dag.number == 9
    assert "RETRY 'Upgrade'" in dag.timeline()


def test_credentials_are_those_of_the_agent_that_is_loaded(mock: Mock) -> None:
    agent = {"root_password": "mine", "agent_password": "its own"}
    mine = {"summary": "Mine", "api": "obshell", "agent": agent, "dags": [{"id": 1, "nodes": ["a"]}]}
    with mock.obshell() as obshell:
        before = obshell.auth.password

        obshell.load(mine)

        url = f"{obshell.url}/api/v1/task/dag/{obshell.dag(1).id}"
        assert (before, obshell.auth.password) == ("oceanmock", "mine")
        assert obshell.auth.agent_password == "its own"
        assert httpx.get(url, auth=obshell.auth).status_code == 200


def test_credentials_are_those_that_a_dag_has_made(mock: Mock) -> None:
    dag = {"id": 1, "nodes": ["a"], "makes": {"root_password": "new"}}
    with mock.obshell({"summary": "New", "api": "obshell", "dags": [dag]}) as obshell:
        before = obshell.auth.password
        made = obshell.dag(1).until("SUCCEED")
        url = f"{obshell.url}/api/v1/task/dag/{made.id}"

        assert (before, obshell.auth.password) == ("oceanmock", "new")
        assert httpx.get(url, auth=obshell.auth).status_code == 200


def test_where_nobody_is_asked_who_he_is_nothing_is_sealed(mock: Mock) -> None:
    with mock.obshell("initialize-cluster-fails", auth=False) as obshell:
        dag = obshell.dag(4).until("FAILED")
        url = f"{obshell.url}/api/v1/task/dag/{dag.id}"

        answer = httpx.post(url, json={"operator": "ROLLBACK"}, auth=obshell.auth)

        assert answer.status_code == 200
        dag.assert_state("READY", operator="ROLLBACK")


def test_the_vendor_s_sdk_is_at_hand(obshell: Obshell) -> None:
    obshell.dag(4).until("FAILED")

    client = obshell.sdk()
    client.operate_dag(obshell.dag(4).id, "ROLLBACK")

    assert client.get_dag(obshell.dag(4).id).operator == "ROLLBACK"


def test_where_the_vendor_s_sdk_is_not_installed_it_says_so(obshell: Obshell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "obshell", None)

    with pytest.raises(EnvironmentProblem, match="`pip install obshell` brings it"):
        obshell.sdk()
