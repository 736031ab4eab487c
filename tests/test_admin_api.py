"""The admin API: what each operation does, and how it refuses what is wrong."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract_file import ContractFile
from oceanmock import Mock
from oceanmock.openapi import load_spec, operations_of, spec_path
from served import AFTERNOON, MANAGER, MAX_BODY_BYTES, REINSTALL, Ask, client, error_of, load_yaml

MINE = "/sandboxes/mine"
TASK = f"{MINE}/api/v2/tasks/instances/35000312"
SUBTASK = f"{TASK}/subtasks/13000333"
ONE_STEP = {"summary": "One step", "api": "ocp", "tasks": [{"id": 1, "subtasks": ["install"]}]}
LIBRARY = Path(__file__).parents[1] / "scenarios"
GETS = [each.path for each in operations_of(load_spec(spec_path("admin"))) if each.method == "GET"]
DAG = {"name": "Start cluster", "nodes": ["Integrate config", "Start observer"]}


@pytest.fixture(scope="module")
def mock() -> Iterator[Mock]:
    with Mock.start() as mock:
        yield mock


@pytest.fixture(scope="module")
def ask(mock: Mock) -> Ask:
    """Return a function that sends requests to the server, as a manager."""

    def send(method: str, path: str, **options: Any) -> httpx.Response:
        return client().request(method, mock.url + path, **{"auth": MANAGER} | options)

    return send


@pytest.fixture(scope="module")
def admin(ask: Ask) -> Ask:
    """Return a function that sends requests to the admin API."""
    return lambda method, path, **options: ask(method, f"/__admin{path}", auth=None, **options)


@pytest.fixture(autouse=True)
def _mine(admin: Ask) -> Iterator[None]:
    """Create the sandbox ``mine``; delete it and all others afterwards."""
    start = {"starts_at": AFTERNOON, "seed": 1, "progression": "manual"}
    admin("POST", "/sandboxes", json={"name": "mine", "scenarios": [REINSTALL], **start}).raise_for_status()
    yield
    for name in names_of(admin):
        admin("DELETE", f"/sandboxes/{name}")


def names_of(admin: Ask) -> list[str]:
    """Return the names of all sandboxes."""
    return [sandbox["name"] for sandbox in admin("GET", "/sandboxes").json()["sandboxes"]]


# --- the server -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_health_says_what_runs_and_since_when(admin: Ask, path: str) -> None:
    health = admin("GET", path).json()

    assert health["status"] == "ok"
    assert health["sandboxes"] == len(names_of(admin))
    assert health["uptime"].endswith("s")


def test_every_answer_says_that_it_is_oceanmock_s(admin: Ask) -> None:
    answers = [admin("GET", "/health"), admin("GET", "/sandboxes/none"), admin("GET", "/none")]

    assert all("x-oceanmock-version" in answer.headers for answer in answers)


def test_the_whole_library_can_be_played(admin: Ask) -> None:
    scenarios = admin("GET", "/scenarios").json()["scenarios"]

    assert [each["name"] for each in scenarios] == sorted(path.stem for path in LIBRARY.glob("[!_]*.yaml"))
    assert all(each["summary"] and each["api"] in ("ocp", "obshell") for each in scenarios)


# --- sandboxes ------------------------------------------------------------------------------------


def test_a_sandbox_is_created_from_the_library(mock: Mock, admin: Ask, ask: Ask) -> None:
    body = {"name": "t1", "scenarios": ["retry-failed-subtask"], "progression": "manual", "seed": 7}

    made = admin("POST", "/sandboxes", json=body)

    assert made.status_code == 201
    assert made.json() == made.json() | {"name": "t1", "progression": "manual", "seed": 7}
    assert (made.json()["tasks"], made.json()["dags"]) == (1, 0)
    assert made.json()["urls"] == {"path": f"{mock.url}/sandboxes/t1"}
    assert ask("GET", "/sandboxes/t1/api/v2/tasks/instances/1000").status_code == 200


def test_a_sandbox_may_have_users_of_its_own(admin: Ask, ask: Ask) -> None:
    users = [{"name": "ci", "password": "secret", "permissions": ["TASK_VIEWER"]}]
    admin("POST", "/sandboxes", json={"name": "t1", "scenarios": [ONE_STEP], "users": users})

    def asked(method: str, path: str, user: str, password: str) -> int:
        url = f"/sandboxes/t1/api/v2/tasks/instances/{path}"
        return ask(method, url, auth=(user, password)).status_code

    assert asked("GET", "1", "ci", "secret") == 200
    assert asked("POST", "1/retry", "ci", "secret") == 403
    assert asked("GET", "1", "viewer", "viewer") == 401
    assert ask("GET", TASK, auth=("viewer", "viewer")).status_code == 200


def test_a_sandbox_is_created_from_an_object(admin: Ask, ask: Ask) -> None:
    admin("POST", "/sandboxes", json={"name": "t1", "scenarios": [ONE_STEP]})

    task = ask("GET", "/sandboxes/t1/api/v2/tasks/instances/1").json()["data"]
    assert [subtask["name"] for subtask in task["subtasks"]] == ["install"]


def test_a_sandbox_is_created_from_a_text(admin: Ask, ask: Ask) -> None:
    text = "summary: One step\napi: ocp\ntasks: [{id: 1, subtasks: [install]}]"

    admin("POST", "/sandboxes", json={"name": "t1", "scenarios": [text]})

    assert ask("GET", "/sandboxes/t1/api/v2/tasks/instances/1").status_code == 200


def test_an_object_keeps_every_character_that_json_can_have(admin: Ask) -> None:
    name = '检 \u0085\u2028\x7f 🦈 \\ " : # é'
    task = {"name": name, "subtasks": ["a"]}

    admin("POST", "/sandboxes", json={"name": "t1", "scenarios": [ONE_STEP | {"tasks": [task]}]})

    (row,) = admin("GET", "/sandboxes/t1/tasks").json()["tasks"]
    assert row["name"] == name


def test_a_sandbox_without_scenarios_is_empty(admin: Ask) -> None:
    made = admin("POST", "/sandboxes", json={}).json()

    assert made["name"].startswith("sandbox-")
    assert (made["tasks"], made["dags"]) == (0, 0)


def test_its_clock_starts_and_runs_as_it_is_told(admin: Ask) -> None:
    body = {"starts_at": "2024-01-10T14:00:00+08:00", "progression": "manual", "speed": 2.5}

    made = admin("POST", "/sandboxes", json=body).json()

    assert made["now"] == made["started"] == "2024-01-10T06:00:00Z"
    assert made["speed"] == 2.5


def test_switches_go_over_those_of_the_scenarios(admin: Ask, ask: Ask) -> None:
    body = {
        "name": "t1",
        "scenarios": [ONE_STEP | {"switches": {"undocumented_task_path": True}}],
        "switches": {"subtask_pairing": "checked"},
        "obshell_switches": {"obshell_version": "4.2.3.0"},
    }

    admin("POST", "/sandboxes", json=body)

    first = ask("GET", "/sandboxes/t1/api/v2/tasks/instances/1").json()["data"]["subtasks"][0]["id"]
    log = f"subtasks/{first}/log"
    paths = (f"instances/1/{log}", f"instances/2/{log}", "1")
    statuses = [ask("GET", f"/sandboxes/t1/api/v2/tasks/{path}").status_code for path in paths]
    assert statuses == [200, 404, 200]
    assert ask("GET", "/sandboxes/t1/api/v1/info").json()["data"]["version"] == "4.2.3.0-1"


@pytest.mark.parametrize(("auth", "status"), [(True, 401), (False, 200), (None, 401)])
def test_whether_requests_must_authenticate_is_said_or_inherited(
    admin: Ask, ask: Ask, auth: bool | None, status: int
) -> None:
    body = {"name": "t1", "scenarios": [ONE_STEP]} | ({} if auth is None else {"auth": auth})
    admin("POST", "/sandboxes", json=body)

    answer = ask("GET", "/sandboxes/t1/api/v2/tasks/instances/1", auth=None)

    assert answer.status_code == status


def test_a_taken_name_is_refused(admin: Ask) -> None:
    answer = admin("POST", "/sandboxes", json={"name": "default"})

    assert "there is a sandbox 'default' already" in error_of(answer, 409)


def test_every_mistake_in_an_object_is_told_with_the_way_to_it(admin: Ask) -> None:
    wrong = {
        "summary": "Broken",
        "api": "ocp",
        "tasks": [{"name": "A", "subtask": ["a"]}, {"subtasks": [{"timeout": "x"}]}],
    }

    answer = admin("POST", "/sandboxes", json={"scenarios": [ONE_STEP, wrong]})

    said = error_of(answer, 400)
    assert "scenarios[1].tasks[0]: task 'A' has no `subtasks` [missing-key]" in said
    assert "scenarios[1].tasks[0].subtask: `subtask` is no key of task 'A' [unknown-key]" in said
    assert "Did you mean 'subtasks'?" in said
    assert "scenarios[1].tasks[1].subtasks[0].timeout: " in said


def test_every_mistake_in_a_text_is_told_with_its_line(admin: Ask) -> None:
    text = "summary: Broken\napi: ocp\ntasks:\n  - name: A\n    subtask: [a]\n"

    answer = admin("POST", "/sandboxes", json={"scenarios": [text]})

    said = error_of(answer, 400)
    assert "scenarios[0]:4:5: task 'A' has no `subtasks` [missing-key]" in said
    assert "scenarios[0]:5:5: `subtask` is no key of task 'A' [unknown-key]" in said


def test_an_unknown_scenario_is_refused_with_the_nearest_name(admin: Ask) -> None:
    answer = admin("POST", "/sandboxes", json={"scenarios": ["retry-failed-subtsk"]})

    assert error_of(answer, 400).endswith("Did you mean 'retry-failed-subtask'?")


@pytest.mark.parametrize("path", ["/etc/passwd", "../scenarios/fails-twice.yaml", "fails-twice.yaml"])
def test_no_file_of_the_server_is_read(admin: Ask, path: str) -> None:
    answer = admin("POST", "/sandboxes", json={"scenarios": [path]})

    assert f"there is no scenario {path!r} here" in error_of(answer, 400)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"progresion": "manual"}, "Did you mean 'progression'?"),
        ({"switches": {"subtask_paring": "x"}}, "Did you mean 'subtask_pairing'?"),
        ({"switches": {"subtask_pairing": "x"}}, "switches.subtask_pairing: Input should be"),
        ({"obshell_switches": {"obshell_version": "9"}}, "obshell_switches.obshell_version: "),
        ({"starts_at": "1979-12-31T00:00:00Z"}, "not between 1980-01-01T00:00:00Z and 2262-04-11T23:47:16.854775807Z"),
        ({"starts_at": "2024-02-30T00:00:00Z"}, "starts_at"),
        ({"scenarios": [ONE_STEP, ONE_STEP]}, "has a task 1, and so has another one"),
        ({"speed": 0}, "speed"),
        ({"seed": 2**63}, "seed: 9223372036854775808 is greater than the maximum of 9223372036854775807"),
        ({"seed": 2**70}, "seed: 1.1805916207174113e+21 is not between -2^63 and 2^63 - 1"),
        ({"ttl": "0s"}, "`ttl` is '0s'"),
        ({"users": [{"name": "ada", "password": "1"}, {"name": "ada", "password": "2"}]}, "two are called 'ada'"),
        ({"name": "../x"}, "name"),
    ],
)
def test_a_wrong_sandbox_is_refused_and_nothing_is_created(admin: Ask, body: dict[str, Any], message: str) -> None:
    before = names_of(admin)

    answer = admin("POST", "/sandboxes", json=body)

    assert message in error_of(answer, 400)
    assert names_of(admin) == before


def test_the_metrics_count_requests_and_sandboxes(admin: Ask, mock: Mock) -> None:
    with mock.ocp() as sandbox:
        httpx.get(f"{sandbox.url}/api/v2/tasks/instances", auth=MANAGER)
        answer = admin("GET", "/metrics")

    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert 'oceanmock_requests_total{api="ocp",operation="listTaskInstances",status="200"} ' in answer.text
    assert "\noceanmock_sandboxes " in answer.text


def test_without_their_library_metrics_say_how_to_install_it(admin: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client.core", None)

    assert "pip install 'oceanmock[metrics]'" in error_of(admin("GET", "/metrics"), 409)


def test_more_than_can_be_held_is_refused(admin: Ask) -> None:
    scenario = ONE_STEP | {"tasks": [{"subtasks": ["a"] * 2_000}] * 11}

    answer = admin("POST", "/sandboxes", json={"scenarios": [scenario] * 2})

    assert "44,000 attempts of subtasks" in error_of(answer, 400)


def test_a_million_tasks_are_built_only_when_they_are_read(admin: Ask) -> None:
    task = {"name": "Back up {n}", "subtasks": ["a", "b", "c"], "repeat": {"count": 1_000_000}}

    created = admin("POST", "/sandboxes", json={"name": "large", "scenarios": [ONE_STEP | {"tasks": [task]}]})

    assert created.status_code == 201
    assert admin("GET", "/sandboxes/large").json()["tasks"] == 1_000_000


def test_more_subtasks_than_there_are_ids_are_refused(admin: Ask) -> None:
    task = {"subtasks": ["a"] * 30, "repeat": {"count": 1_000_000}}

    answer = admin("POST", "/sandboxes", json={"scenarios": [ONE_STEP | {"tasks": [task] * 80}]})

    assert "there are no 30,000,000 free ids in a row" in error_of(answer, 400)


def test_a_text_that_unfolds_to_more_than_can_be_read_is_refused(admin: Ask) -> None:
    steps = ",".join(f"a{number}" for number in range(1000))
    text = f"summary: x\napi: ocp\ntasks:\n- &t {{subtasks: [{steps}]}}\n" + "- *t\n" * 100_000

    answer = admin("POST", "/sandboxes", json={"scenarios": [text]})

    assert "scenarios[0] has more than 50,000 values" in error_of(answer, 400)


def test_sandboxes_are_listed_in_the_order_they_were_created(admin: Ask) -> None:
    for name in ("b", "a"):
        admin("POST", "/sandboxes", json={"name": name, "progression": "manual"})

    listed = admin("GET", "/sandboxes").json()["sandboxes"]

    assert [each["name"] for each in listed] == ["default", "mine", "b", "a"]
    assert listed[2] == admin("GET", "/sandboxes/b").json()


def test_a_deleted_sandbox_is_gone(admin: Ask) -> None:
    admin("POST", "/sandboxes", json={"name": "t1"})

    assert admin("DELETE", "/sandboxes/t1").json() == {"deleted": 1}

    assert "there is no sandbox 't1'" in error_of(admin("GET", "/sandboxes/t1"), 404)


def test_a_wrong_lease_is_refused(admin: Ask) -> None:
    assert "`ttl` is '10', which" in error_of(admin("POST", "/sandboxes", json={"ttl": "10"}), 400)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/sandboxes/default/clock/advance", {"by": "5"}, 'by: "5" is not a duration such as 400ms, 1.9s, 2m or 1h30m'),
        ("/sandboxes", {"name": "-a"}, 'name: "-a" is not a name of at most 100 letters, digits'),
    ],
)
def test_a_text_of_the_wrong_form_is_explained_in_words(
    admin: Ask, path: str, body: dict[str, str], message: str
) -> None:
    error = error_of(admin("POST", path, json=body), 400)

    assert message in error
    assert "^" not in error


def test_deleting_the_default_sandbox_resets_it(admin: Ask) -> None:
    admin("POST", "/sandboxes/default/clock/advance", json={"by": "1h"})

    assert admin("DELETE", "/sandboxes/default").json() == {"deleted": 0}

    sandbox = admin("GET", "/sandboxes/default").json()
    now, started = (datetime.fromisoformat(sandbox[key]) for key in ("now", "started"))
    assert now - started < timedelta(minutes=1)  # its time passes


def test_a_reset_sandbox_is_as_it_was_created(admin: Ask, ask: Ask) -> None:
    before = admin("GET", "/sandboxes/mine").json()
    admin("POST", "/sandboxes/mine/clock/advance", json={"by": "1h"})
    admin("POST", "/sandboxes/mine/faults", json={"delay": "1ms"})
    ask("GET", TASK)

    after = admin("POST", "/sandboxes/mine/reset").json()

    assert after == before


# --- the clock ------------------------------------------------------------------------------------


def test_advancing_lets_everything_due_happen(admin: Ask, ask: Ask) -> None:
    clock = admin("POST", "/sandboxes/mine/clock/advance", json={"by": "1m30s"}).json()

    assert clock["now"] == "2021-08-25T07:11:01.74Z"
    assert clock["next_due"] is None
    assert ask("GET", TASK).json()["data"]["status"] == "FAILED"


def test_next_moves_to_what_happens_next_and_then_stays(admin: Ask) -> None:
    due = admin("GET", "/sandboxes/mine/clock").json()["next_due"]

    assert admin("POST", "/sandboxes/mine/clock/next").json()["now"] == due

    while (clock := admin("POST", "/sandboxes/mine/clock/next").json())["next_due"]:
        pass
    assert admin("POST", "/sandboxes/mine/clock/next").json() == clock


def test_a_clock_moves_to_an_instant_and_never_back(admin: Ask) -> None:
    to = {"to": "2030-01-01T08:00:00.000000001+08:00"}

    assert admin("POST", "/sandboxes/mine/clock/move", json=to).json()["now"] == "2030-01-01T00:00:00.000000001Z"

    back = admin("POST", "/sandboxes/mine/clock/move", json={"to": "2025-01-01T00:00:00Z"})
    assert back.json()["now"] == "2030-01-01T00:00:00.000000001Z"


def test_a_clock_is_switched_without_a_jump(admin: Ask) -> None:
    clock = admin("PATCH", "/sandboxes/mine/clock", json={"progression": "polls"}).json()

    assert clock["progression"] == "polls"
    assert clock["now"] == "2021-08-25T07:09:31.74Z"


def test_a_clock_that_is_set_running_runs(admin: Ask) -> None:
    admin("PATCH", "/sandboxes/mine/clock", json={"progression": "time", "speed": 1000})

    sandbox = admin("GET", "/sandboxes/mine").json()
    assert (sandbox["progression"], sandbox["speed"]) == ("time", 1000)
    assert datetime.fromisoformat(sandbox["now"]) > datetime.fromisoformat(sandbox["started"])


def test_switched_to_immediate_all_that_is_due_has_happened(admin: Ask, ask: Ask) -> None:
    clock = admin("PATCH", "/sandboxes/mine/clock", json={"progression": "immediate"}).json()

    assert clock["next_due"] is None
    assert ask("GET", TASK).json()["data"]["status"] == "FAILED"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("advance", {"by": "90"}),
        ("advance", {"by": "4000d"}),
        ("advance", {"by": "-1s"}),
        ("advance", {"by": 90}),
        ("advance", {}),
        ("move", {"to": "yesterday"}),
        ("move", {"to": "2262-04-12T00:00:00Z"}),
        ("move", {"to": "2024-01-10 06:00:00"}),
        ("move", {"to": "2024-01-10T06:00:60Z"}),
    ],
)
def test_a_wrong_move_is_refused_and_the_clock_stays(admin: Ask, path: str, body: dict[str, Any]) -> None:
    before = admin("GET", "/sandboxes/mine/clock").json()

    error_of(admin("POST", f"/sandboxes/mine/clock/{path}", json=body), 400)

    assert admin("GET", "/sandboxes/mine/clock").json() == before


def test_no_clock_is_moved_beyond_the_end_of_calendars(admin: Ask) -> None:
    admin("POST", "/sandboxes/mine/clock/move", json={"to": "2262-04-11T00:00:00Z"})

    answer = admin("POST", "/sandboxes/mine/clock/advance", json={"by": "2d"})

    assert "No clock goes further than 2262-04-11T23:47:16.854775807Z" in error_of(answer, 400)


def test_what_is_due_beyond_the_end_of_calendars_is_not_due(admin: Ask) -> None:
    end = admin("POST", "/sandboxes/mine/clock/move", json={"to": "2262-04-11T23:47:16.8Z"}).json()["now"]
    admin("POST", "/sandboxes/mine/tasks", json={"api": "ocp", "template": {"subtasks": ["a"]}}).raise_for_status()

    assert admin("GET", "/sandboxes/mine/clock").json()["next_due"] is None
    assert admin("POST", "/sandboxes/mine/clock/next").json()["now"] == end


def test_a_life_longer_than_any_calendar_stops_where_calendars_end(admin: Ask) -> None:
    subtasks = [{"name": f"s{n}", "attempts": {"takes": "3600d"}, "timeout": "3650d"} for n in range(110)]
    tasks = [{"id": 1, "subtasks": subtasks}]

    made = admin(
        "POST",
        "/sandboxes",
        json={"name": "t1", "progression": "immediate", "scenarios": [ONE_STEP | {"tasks": tasks}]},
    )

    assert made.json()["now"] == "2262-04-11T23:47:16.854775807Z"
    assert admin("GET", "/sandboxes/t1/clock").status_code == 200
    assert admin("GET", "/sandboxes/t1/tasks/ocp/1/explain").status_code == 200


# --- the journal ----------------------------------------------------------------------------------


def test_the_journal_has_what_was_asked_and_nothing_of_this_api(admin: Ask, ask: Ask) -> None:
    ask("GET", TASK)
    ask("POST", f"{SUBTASK}/retry")
    admin("GET", "/sandboxes")

    journal = admin("GET", "/sandboxes/mine/journal").json()

    assert [(each["operation"], each["status"]) for each in journal["entries"]] == [
        ("getTaskInstance", 200),
        ("retrySubtask", 400),
    ]
    assert (journal["dropped"], journal["last"]) == (0, 2)


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("operation=getTaskInstance", [1, 3]),
        ("status=4xx", [2]),
        ("task=35000312&method=post", [2]),
        ("subtask=13000333", [2]),
        ("caller=viewer", [3]),
        ("path=*/retry", [2]),
        ("query=size%3D7", [3]),
        ("header=User-Agent:%20python-*", [1, 2, 3]),
        ("since=2100-01-01T00:00:00Z", []),
        ("after=1", [2, 3]),
        ("limit=2", [1, 2]),
        ("after=1&limit=1", [2]),
        ("api=obshell", []),
        ("dag=4", []),
    ],
)
def test_the_journal_is_filtered(admin: Ask, ask: Ask, query: str, numbers: list[int]) -> None:
    ask("GET", TASK)
    ask("POST", f"{SUBTASK}/retry")
    ask("GET", f"{TASK}?size=7", auth=("viewer", "viewer"))

    journal = admin("GET", f"/sandboxes/mine/journal?{query}").json()

    assert [each["number"] for each in journal["entries"]] == numbers
    assert journal["last"] == (numbers[-1] if numbers else 3)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("operaton=x", "Did you mean 'operation'?"),
        ("operation=retrySubtsk", "Did you mean 'retrySubtask'?"),
        ("status=600", "status"),
        ("api=http", "api"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("after=-1", "after"),
        ("since=today", "since"),
    ],
)
def test_a_wrong_filter_is_refused(admin: Ask, query: str, message: str) -> None:
    answer = admin("GET", f"/sandboxes/mine/journal?{query}")

    assert message in error_of(answer, 400)


def test_a_cleared_journal_counts_on(admin: Ask, ask: Ask) -> None:
    ask("GET", TASK)
    ask("GET", TASK)

    assert admin("DELETE", "/sandboxes/mine/journal").json() == {"deleted": 2}

    ask("GET", TASK)
    entries = admin("GET", "/sandboxes/mine/journal").json()["entries"]
    assert [each["number"] for each in entries] == [3]


def test_what_was_expected_and_came_holds(admin: Ask, ask: Ask) -> None:
    ask("POST", f"{SUBTASK}/retry")
    said = {"query": {"operation": "retrySubtask", "subtask": 13000333}, "times": 1}

    verdict = admin("POST", "/sandboxes/mine/journal/verify", json=said).json()

    assert verdict["holds"] is True
    assert (verdict["found"], verdict["entries"]) == (1, [1])


def test_what_did_not_come_is_answered_with_the_nearest_miss(admin: Ask, ask: Ask) -> None:
    ask("POST", f"{SUBTASK}/retry")
    said = {"query": {"operation": "retrySubtask", "subtask": 7}, "at_least": 2}

    response = admin("POST", "/sandboxes/mine/journal/verify", json=said)

    verdict = response.json()
    assert response.status_code == 417
    assert (verdict["holds"], verdict["found"], verdict["entries"]) == (False, 0, [])
    assert "<<<<< subtask does not match" in verdict["message"]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"query": {"operation": "retryTask"}, "never": True}, 200),
        ({"query": {"operation": "retrySubtask"}, "never": True}, 417),
        ({"query": {"header": {"user-agent": "python-*"}}, "at_most": 2}, 200),
        ({"in_order": [{"operation": "retrySubtask"}, {"operation": "getTaskInstance"}]}, 200),
        ({"in_order": [{"operation": "getTaskInstance"}, {"operation": "retrySubtask"}]}, 417),
    ],
)
def test_a_verification_may_forbid_requests_or_ask_for_an_order(
    admin: Ask, ask: Ask, said: dict[str, Any], status: int
) -> None:
    ask("POST", f"{SUBTASK}/retry")
    ask("GET", TASK)

    assert admin("POST", "/sandboxes/mine/journal/verify", json=said).status_code == status


@pytest.mark.parametrize("name", ["operateDag", "dagHandler"])
def test_either_name_of_an_operation_means_the_same_requests(admin: Ask, ask: Ask, name: str) -> None:
    ask("POST", "/sandboxes/mine/api/v1/task/dag/1")
    said = {"query": {"operation": name}, "times": 1}

    assert admin("POST", "/sandboxes/mine/journal/verify", json=said).json()["entries"] == [1]
    (entry,) = admin("GET", f"/sandboxes/mine/journal?operation={name}").json()["entries"]
    assert entry["operation"] == "dagHandler"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"query": {"opration": "x"}}, "Did you mean 'operation'?"),
        ({"query": {"operation": "retrySubtsk"}}, "Did you mean 'retrySubtask'?"),
        ({"query": {}, "times": 1, "at_most": 2}, "leave out `at_least` and `at_most`"),
        ({"query": {}, "at_least": 3, "at_most": 2}, "at least 3 and at most 2 times"),
        ({"query": {}, "time": 1}, "Did you mean 'times'?"),
        ({"query": {"status": "6xx"}}, "status"),
        ({"query": {"api": "http"}}, "query.api"),
        ({"query": {"task": 1.5}}, "query.task"),
        ({"query": {"caller": 7}}, "query.caller"),
        ({"query": {"header": 7}}, "query.header"),
        ({"query": {"header": {"x": {}}}}, "header"),
        ({"query": {}, "never": True, "at_most": 1}, "leave out the numbers"),
        ({"query": {}, "in_order": [{}]}, "`in_order` alone"),
        ({"in_order": [{}], "times": 1}, "`in_order` alone"),
        ({"in_order": [{"operation": "retrySubtsk"}]}, "Did you mean 'retrySubtask'?"),
        ({}, "query"),
    ],
)
def test_a_wrong_verification_is_refused(admin: Ask, said: dict[str, Any], message: str) -> None:
    answer = admin("POST", "/sandboxes/mine/journal/verify", json=said)

    assert message in error_of(answer, 400)


# --- faults ---------------------------------------------------------------------------------------


def test_an_added_fault_strikes_and_is_counted(admin: Ask, ask: Ask) -> None:
    fault = {"operation": "getTaskInstance", "calls": 2, "status": 503}

    added = admin("POST", "/sandboxes/mine/faults", json=fault)

    assert added.status_code == 201
    assert added.json()["fault"] == {"api": "ocp", **fault, "operation": ["getTaskInstance"], "calls": [2]}
    assert [ask("GET", TASK).status_code for _ in range(3)] == [200, 503, 200]
    (standing,) = admin("GET", "/sandboxes/mine/faults").json()["faults"]
    assert (standing["name"], standing["counted"], standing["affected"]) == ("fault 1", 3, 1)


def test_no_fault_strikes_this_api(admin: Ask) -> None:
    admin("POST", "/sandboxes/mine/faults", json={"status": 503})

    assert admin("GET", "/sandboxes/mine/faults").status_code == 200


def test_faults_are_removed_by_name_or_all_at_once(admin: Ask) -> None:
    for name in ("one", "two words", "three"):
        admin("POST", "/sandboxes/mine/faults", json={"name": name, "delay": "1s"})

    assert admin("DELETE", "/sandboxes/mine/faults/two%20words").json() == {"deleted": 1}
    assert admin("DELETE", "/sandboxes/mine/faults").json() == {"deleted": 2}
    assert admin("GET", "/sandboxes/mine/faults").json() == {"faults": []}


def test_an_unknown_fault_is_not_found_and_the_nearest_named(admin: Ask) -> None:
    admin("POST", "/sandboxes/mine/faults", json={"name": "outage", "delay": "1s"})

    answer = admin("DELETE", "/sandboxes/mine/faults/outtage")

    assert error_of(answer, 404).endswith("Did you mean 'outage'?")


def test_a_second_fault_of_a_name_is_refused(admin: Ask) -> None:
    fault = {"name": "outage", "delay": "1s"}
    admin("POST", "/sandboxes/mine/faults", json=fault)

    answer = admin("POST", "/sandboxes/mine/faults", json=fault)

    assert "there is a fault 'outage' already" in error_of(answer, 409)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({}, "does nothing"),
        ({"operation": "getTaskInstanc", "delay": "1s"}, "Did you mean 'getTaskInstance'?"),
        ({"operation": "retrySubtask", "truncate": 1}, "Say `still_executes: true`."),
        ({"delya": "1s"}, "Did you mean 'delay'?"),
        ({"dribble": {"byte": 1}}, "Did you mean 'bytes'?"),
        ({"status": 199}, "status"),
        ({"calls": "4-2", "delay": "1s"}, "ends before it begins"),
        ({"api": "ocp", "dag": 4, "delay": "1s"}, "dag"),
    ],
)
def test_a_wrong_fault_is_refused(admin: Ask, fault: dict[str, Any], message: str) -> None:
    answer = admin("POST", "/sandboxes/mine/faults", json=fault)

    assert message in error_of(answer, 400)


# --- tasks ----------------------------------------------------------------------------------------


def test_tasks_are_listed_and_looking_moves_no_clock(admin: Ask) -> None:
    admin("PATCH", "/sandboxes/mine/clock", json={"progression": "polls"})
    before = admin("GET", "/sandboxes/mine/clock").json()

    rows = admin("GET", "/sandboxes/mine/tasks").json()["tasks"]
    task = admin("GET", "/sandboxes/mine/tasks/ocp/35000312").json()
    admin("GET", "/sandboxes/mine/tasks/ocp/35000312/explain")

    assert rows == [
        {
            "api": "ocp",
            "id": "35000312",
            "number": 35000312,
            "name": "Reinstall OCP agent",
            "state": "RUNNING",
            "operation": "EXECUTE",
        }
    ]
    assert [part["number"] for part in task["parts"]] == [13000336, 13000334, 13000333, 13000335]
    assert admin("GET", "/sandboxes/mine/clock").json() == before


def test_a_task_is_born_now_from_a_template(admin: Ask, ask: Ask) -> None:
    admin("POST", "/sandboxes/mine/clock/advance", json={"by": "10s"})
    template = {"name": "Install", "subtasks": ["a", {"name": "b", "attempts": {"takes": "2s"}}]}

    born = admin("POST", "/sandboxes/mine/tasks", json={"api": "ocp", "template": template})

    assert born.status_code == 201
    task = born.json()
    assert (task["name"], task["state"]) == ("Install", "RUNNING")
    assert task["created"] == "2021-08-25T07:09:41.74Z"
    assert [part["name"] for part in task["parts"]] == ["a", "b"]
    assert ask("GET", f"{MINE}/api/v2/tasks/instances/{task['id']}").json()["data"]["name"] == "Install"


@pytest.mark.parametrize(
    ("body", "due"),
    [
        ({"api": "ocp", "template": {"subtasks": ["a"]}}, "2024-01-10T06:00:01.5Z"),
        ({"api": "obshell", "template": DAG}, "2024-01-10T06:00:02Z"),
    ],
)
def test_what_is_born_waits_for_the_ticks_of_its_sandbox(admin: Ask, body: dict[str, Any], due: str) -> None:
    start = {"starts_at": "2024-01-10T06:00:00Z", "progression": "manual"}
    admin("POST", "/sandboxes", json={"name": "t1", **start})
    admin("POST", "/sandboxes/t1/clock/advance", json={"by": "1.4s"})

    admin("POST", "/sandboxes/t1/tasks", json=body)

    assert admin("GET", "/sandboxes/t1/clock").json()["next_due"] == due


def test_a_dag_is_born_now_from_a_template(admin: Ask) -> None:
    born = admin("POST", "/sandboxes/mine/tasks", json={"api": "obshell", "template": DAG}).json()

    assert (born["api"], born["id"], born["number"]) == ("obshell", "22130706433028861", 1)
    assert [part["number"] for part in born["parts"]] == [1, 2]
    assert [part["number"] for part in born["parts"][0]["parts"]] == [1]


def test_each_task_from_one_template_has_ids_of_its_own(admin: Ask) -> None:
    task = {"api": "ocp", "template": {"name": "Install", "subtasks": ["a"]}}
    dag = {"api": "obshell", "template": DAG}
    for body in (task, dag, task, dag):
        admin("POST", "/sandboxes/mine/tasks", json=body)

    rows = admin("GET", "/sandboxes/mine/tasks").json()["tasks"]

    assert len({row["id"] for row in rows}) == len(rows) == 5


def test_a_template_that_repeats_bears_several(admin: Ask) -> None:
    template = {"id": 5, "name": "Backup {n}", "subtasks": ["a"], "repeat": {"count": 3}}

    born = admin("POST", "/sandboxes/mine/tasks", json={"api": "ocp", "template": template})

    assert born.json()["id"] == "5"
    rows = admin("GET", "/sandboxes/mine/tasks").json()["tasks"]
    assert [row["name"] for row in rows][:3] == ["Backup 1", "Backup 2", "Backup 3"]


@pytest.mark.parametrize(
    ("api", "template"),
    [
        ("ocp", {"id": 35000312, "subtasks": ["a"]}),
        ("ocp", {"subtasks": [{"name": "a", "id": 13000333}]}),
        ("obshell", DAG | {"id": 1}),
    ],
)
def test_an_id_that_is_taken_is_refused_and_nothing_is_born(admin: Ask, api: str, template: dict[str, Any]) -> None:
    admin("POST", "/sandboxes/mine/tasks", json={"api": "obshell", "template": DAG})
    before = admin("GET", "/sandboxes/mine/tasks").json()

    answer = admin("POST", "/sandboxes/mine/tasks", json={"api": api, "template": template})

    error_of(answer, 409)
    assert admin("GET", "/sandboxes/mine/tasks").json() == before


@pytest.mark.parametrize(
    ("api", "template", "message"),
    [
        ("ocp", {"name": "A", "subtask": ["a"]}, "template.subtask: `subtask` is no key"),
        ("ocp", {}, "template: task 1 has no `subtasks`"),
        ("obshell", {"nodes": [{"can": "fly"}]}, "template.nodes[0].can"),
        ("obshell", DAG | {"scope": "cluster"}, "template.scope"),
        ("ocp", {"subtasks": ["a", "b", "c"], "repeat": {"count": 1_000_001}}, "at most 1000000"),
    ],
)
def test_a_wrong_template_is_refused_with_the_way_to_each_mistake(
    admin: Ask, api: str, template: dict[str, Any], message: str
) -> None:
    answer = admin("POST", "/sandboxes/mine/tasks", json={"api": api, "template": template})

    assert message in error_of(answer, 400)


@pytest.mark.parametrize("called", ["1", "22130706433028861"])
def test_a_dag_is_found_by_its_number_and_by_its_generic_id(admin: Ask, called: str) -> None:
    born = admin("POST", "/sandboxes/mine/tasks", json={"api": "obshell", "template": DAG}).json()

    assert admin("GET", f"/sandboxes/mine/tasks/obshell/{called}").json() == born


@pytest.mark.parametrize("what", ["", "/explain"])
@pytest.mark.parametrize(
    ("api", "noun", "others"), [("ocp", "task", "There are: 35000312."), ("obshell", "dag", "There are none.")]
)
def test_an_unknown_task_is_not_found(admin: Ask, api: str, noun: str, others: str, what: str) -> None:
    answer = admin("GET", f"/sandboxes/mine/tasks/{api}/17{what}")

    assert error_of(answer, 404) == f"there is no {noun} 17 in sandbox 'mine'. {others}"


def test_a_task_is_explained_as_json_and_as_text(admin: Ask) -> None:
    admin("POST", "/sandboxes/mine/clock/advance", json={"by": "1m"})
    path = "/sandboxes/mine/tasks/ocp/35000312/explain"

    told, text = admin("GET", path), admin("GET", f"{path}?format=text")

    assert told.json()["state"] == "FAILED"
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert "is FAILED" in text.text


def test_a_report_has_the_requests_the_tasks_and_what_was_unexpected(admin: Ask, ask: Ask) -> None:
    ask("GET", TASK)
    ask("GET", f"{MINE}/nowhere")
    admin("POST", "/sandboxes/mine/faults", json={"operation": "retryTask", "reset": True})

    report = admin("GET", "/sandboxes/mine/report").json()

    (task,) = report["tasks"]
    assert report["requests"] == 2
    assert f"GET {TASK.removeprefix(MINE)} by manager, answered 200: RUNNING/EXECUTE" in report["journal"]
    assert task["title"].startswith("task 35000312 ")
    assert f"is {task['state']}" in task["explanation"]
    assert report["unexpected_requests"][0].startswith("GET /nowhere")
    assert report["unused_faults"] == ["fault 1 (retryTask, reset) counted 0 requests"]


def test_a_report_for_people_has_as_many_tasks_as_the_request_says(admin: Ask) -> None:
    path = "/sandboxes/mine/report?format=text&tasks="

    with_task, without = admin("GET", f"{path}1").text, admin("GET", f"{path}0").text

    assert "Because" in with_task
    assert without.startswith("0 requests")
    assert "other tasks:\n  35000312 " in without


def test_a_report_has_the_task_of_a_request_among_any_number(admin: Ask, ask: Ask) -> None:
    template = {"id": 40_000_000, "name": "Backup {n}", "subtasks": ["a"], "repeat": {"count": 20_000}}
    admin("POST", "/sandboxes/mine/tasks", json={"api": "ocp", "template": template})
    ask("GET", TASK.replace("35000312", "40019000"))

    assert admin("GET", "/sandboxes/mine/report?tasks=1").json()["tasks"][0]["title"].startswith("task 40019000 ")


def test_a_dag_is_explained_too(admin: Ask) -> None:
    admin("POST", "/sandboxes/mine/tasks", json={"api": "obshell", "template": DAG})

    assert admin("GET", "/sandboxes/mine/tasks/obshell/1/explain").json()["state"]
    assert admin("GET", "/sandboxes/mine/tasks/obshell/1/explain?format=text").text


# --- pages of other sites -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:{port}", "http://127.0.0.1:{port}", 201),
        ("localhost:{port}", "http://localhost:{port}", 201),
        ("LOCALHOST", None, 201),
        ("[::1]:1", "http://[::1]:1", 201),
        ("127.8.9.1", None, 201),
        ("evil.example:{port}", None, 401),
        ("evil.example:{port}", "http://evil.example:{port}", 401),
        ("127.0.0.1.evil.example", None, 401),
        ("localhost.evil.example", None, 401),
        ("localhost@evil.example", None, 401),
        ("0.0.0.0:{port}", None, 401),
        ("192.0.2.7", None, 401),
        ("[", None, 401),
        ("", None, 401),
        ("127.0.0.1:{port}", "http://localhost:{port}", 401),
        ("127.0.0.1:{port}", "http://127.0.0.1:3000", 401),
        ("127.0.0.1:{port}", "https://127.0.0.1:{port}", 401),
        ("127.0.0.1:{port}", "https://evil.example", 401),
        ("127.0.0.1:{port}", "null", 401),
        ("127.0.0.1:{port}", "http://[", 401),
    ],
)
def test_without_a_token_a_request_is_of_the_server_s_own_host_and_origin(
    mock: Mock, admin: Ask, host: str, origin: str | None, status: int
) -> None:
    port = httpx.URL(mock.url).port
    headers = {"Host": host.format(port=port)} | ({} if origin is None else {"Origin": origin.format(port=port)})

    assert admin("POST", "/sandboxes", json={}, headers=headers).status_code == status


@pytest.mark.parametrize("names", ["Host: 127.0.0.1\r\nHost: evil.example\r\n", ""])
def test_without_a_token_a_request_has_one_host(mock: Mock, names: str) -> None:
    url = httpx.URL(mock.url)
    with socket.create_connection((url.host, url.port), timeout=10) as connection:
        connection.sendall(f"GET /__admin/sandboxes HTTP/1.1\r\n{names}Connection: close\r\n\r\n".encode())

        assert connection.makefile("rb").readline().split()[1] in (b"400", b"401")


def test_forwarded_headers_never_decide_who_may_use_the_admin_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    far, near = (
        {"X-Forwarded-For": address, "Forwarded": f"for={address}", "X-Real-IP": address, "X-Forwarded-Host": address}
        for address in ("192.0.2.7", "127.0.0.1")
    )
    with Mock.start() as own, Mock.start(host="0.0.0.0") as open_to_others:
        answers = [
            client().get(f"{own.url}/__admin/sandboxes", headers=far),
            client().get(f"{own.url}/__admin/sandboxes", headers=near | {"Host": "evil.example"}),
            client().get(f"{open_to_others.url}/__admin/sandboxes", headers=near),
        ]

    assert [answer.status_code for answer in answers] == [200, 401, 401]


# --- where everything is --------------------------------------------------------------------------


@pytest.mark.parametrize("path", GETS)
def test_head_is_answered_like_get_without_a_body(ask: Ask, path: str) -> None:
    path = path.format(sandbox="mine", api="ocp", task=35000312)

    read, looked_at = (ask(method, path, auth=None) for method in ("GET", "HEAD"))

    assert (looked_at.status_code, looked_at.content) == (read.status_code, b"") == (200, b"")
    assert looked_at.headers["content-type"] == read.headers["content-type"]


def test_the_root_has_links_that_can_be_followed(ask: Ask) -> None:
    index = ask("GET", "/", auth=None).json()

    links = [*index["links"].values(), *index["contracts"].values()]
    assert "/__admin/sandboxes" in links
    assert [ask("GET", link, auth=None).status_code for link in links] == [200] * len(links)


@pytest.mark.parametrize("api", ["admin", "ocp", "obshell"])
def test_a_contract_can_be_read_from_the_server(ask: Ask, api: str) -> None:
    link = ask("GET", "/", auth=None).json()["contracts"][api]

    assert load_yaml(ask("GET", link, auth=None).text) == load_spec(spec_path(api))


# --- what is hostile ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"null", 400),
        (b"[]", 400),
        (b"\xff\xfe", 400),
        (b'{"name": "\\ud800"}', 400),
        (b'{"scenarios": [' + b"[" * 5000 + b"]" * 5000 + b"]}", 400),
        (b'{"scenarios": [{"summary": ' + b"[" * 900 + b"]" * 900 + b"}]}", 400),
        (b'{"scenarios": [{"summary": ' + b"[" * 300 + b"]" * 300 + b"}]}", 400),
        (b'{"scenarios": ["' + b"[" * 100_000 + b'"]}', 400),
        (b'{"scenarios": ["a: &a [*a]"]}', 400),
        (b'{"scenarios": ["a\\u0000: b"]}', 400),
        (b'{"scenarios": [{"summary": "a\\u0000", "api": "ocp", "tasks": 1e400}]}', 400),
        (b'{"scenarios": [{"' + b"k" * 5000 + b'": 1}]}', 400),
        (b'{"scenarios": [{"api": {"a": 1}, "tasks": [[]]}]}', 400),
        (b'{"seed": 1e999}', 400),
        (b'{"name": "' + b"a" * MAX_BODY_BYTES + b'"}', 413),
    ],
)
def test_a_hostile_body_is_refused(admin: Ask, content: bytes, status: int) -> None:
    error_of(admin("POST", "/sandboxes", content=content), status)


def test_a_body_that_is_said_to_be_no_json_is_refused(admin: Ask) -> None:
    answer = admin("POST", "/sandboxes", content=b"{}", headers={"content-type": "text/xml"})

    assert error_of(answer, 415).endswith("Send the header Content-Type: application/json.")


TEXTS = [
    {"content-type": "application/x-www-form-urlencoded"},  # curl -d
    {"content-type": "text/plain;charset=UTF-8"},  # fetch(url, {method: "POST", body: JSON.stringify(x)})
]


@pytest.mark.parametrize("headers", [{}, *TEXTS])
def test_what_clients_call_a_form_a_text_or_nothing_is_read_as_json(admin: Ask, headers: dict[str, str]) -> None:
    made = admin("POST", "/sandboxes", content=b'{"name": "t1"}', headers=headers)

    assert made.json()["name"] == "t1"


@pytest.mark.parametrize("headers", TEXTS)
def test_a_page_has_to_say_that_it_sends_json(mock: Mock, admin: Ask, headers: dict[str, str]) -> None:
    answer = admin("POST", "/sandboxes", content=b"{}", headers=headers | {"Origin": mock.url})

    assert error_of(answer, 415).endswith("Send the header Content-Type: application/json.")


@pytest.mark.parametrize(
    "path",
    [
        "/sandboxes/%00",
        "/sandboxes/" + "a" * 101,
        "/sandboxes/%F0%9F%A6%88",
        "/sandboxes/mine/tasks/http/1",
        "/sandboxes/mine/tasks/ocp/-1",
        "/sandboxes/mine/tasks/ocp/%D9%A1",
        "/sandboxes/mine/tasks/ocp/" + "9" * 101,
        "/sandboxes/mine/tasks/ocp/1/explain?format=xml",
    ],
)
def test_a_hostile_path_is_refused(admin: Ask, path: str) -> None:
    error_of(admin("GET", path), 400)


def test_an_id_of_any_length_is_looked_for(admin: Ask) -> None:
    error_of(admin("GET", f"/sandboxes/mine/tasks/ocp/{'9' * 100}"), 404)


def test_an_error_repeats_only_so_much_of_what_was_sent(admin: Ask) -> None:
    tasks = [{"k" * 400: 1} for _ in range(1000)]

    answer = admin("POST", "/sandboxes", json={"scenarios": [ONE_STEP | {"tasks": tasks}]})

    assert len(error_of(answer, 400)) < 70_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["summary", "api", "tasks", "dags", "id", "name", "subtasks", "nodes", "faults", "attempts"])
ALMOST = st.recursive(
    JSON | st.sampled_from(["ocp", "obshell", "1s", "FAILED"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


@given(scenario=st.dictionaries(KEYS, ALMOST) | st.text(), template=st.dictionaries(KEYS, ALMOST))
def test_any_scenario_is_accepted_or_refused(ask: Ask, scenario: Any, template: Any) -> None:
    def post(path: str, body: Any) -> int:
        content = json.dumps(body).encode("utf-8", "surrogatepass")
        return ask("POST", f"/__admin{path}", content=content, auth=None).status_code

    assert post("/sandboxes", {"scenarios": [scenario]}) in (201, 400)
    for api_name in ("ocp", "obshell"):
        body = {"api": api_name, "template": template}
        assert post("/sandboxes/mine/tasks", body) in (201, 400, 409)
    assert post("/sandboxes/mine/faults", scenario) in (201, 400)


PATHS = {"sandbox": "mine", "fault": "f", "api": "ocp", "task": "35000312"}


def request_examples() -> list[Any]:
    return [
        pytest.param(method.upper(), path, example["value"], id=f"{said['operationId']}-{name}")
        for path, item in ContractFile("admin").document["paths"].items()
        for method, said in item.items()
        if method != "parameters" and "requestBody" in said
        for media in said["requestBody"]["content"].values()
        for name, example in media["examples"].items()
    ]


@pytest.mark.parametrize(("method", "path", "body"), request_examples())
def test_every_example_of_a_request_does_what_it_says(ask: Ask, method: str, path: str, body: dict[str, Any]) -> None:
    answer = ask(method, path.format_map(PATHS), json=body, auth=None)

    assert answer.status_code in (200, 201, 417)  # nothing has been requested, so the verification fails
