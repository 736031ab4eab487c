"""loadScenarios: what lives in a sandbox can be brought after it was made."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from oceanmock import Mock
from served import MANAGER, Ask, client

ONE: dict[str, Any] = {
    "summary": "One step",
    "api": "ocp",
    "tasks": [{"id": 1, "name": "Install", "subtasks": [{"id": 11, "name": "install"}]}],
}
TWO: dict[str, Any] = {
    "summary": "Another one",
    "api": "ocp",
    "tasks": [{"id": 2, "name": "Remove", "subtasks": [{"id": 21, "name": "remove"}]}],
}
DAG: dict[str, Any] = {"summary": "A dag", "api": "obshell", "dags": [{"id": 4, "name": "Mine", "nodes": ["a"]}]}
MORNING = "2024-01-10T06:00:00Z"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Mock.start() as mock:
        yield mock.url


@pytest.fixture
def ask(url: str) -> Iterator[Ask]:
    def ask(method: str, path: str, **options: Any) -> httpx.Response:
        return client().request(method, url + path, **{"auth": MANAGER} | options)

    yield ask
    ask("DELETE", "/__admin/sandboxes/t1", auth=None)


@pytest.fixture
def admin(ask: Ask) -> Ask:
    return lambda method, path, **options: ask(method, f"/__admin{path}", auth=None, **options)


def create(admin: Ask, *scenarios: Any, **said: Any) -> Any:
    """The sandbox t1, in which scenarios live; what the server says of it."""
    made = admin("POST", "/sandboxes", json={"name": "t1", "scenarios": [*scenarios], **said})
    assert made.status_code == 201, made.text
    return made.json()


def load(admin: Ask, *scenarios: Any, **said: Any) -> httpx.Response:
    return admin("POST", "/sandboxes/t1/scenarios", json={"scenarios": [*scenarios], **said})


def tasks_of(admin: Ask) -> list[str]:
    return [each["name"] for each in admin("GET", "/sandboxes/t1/tasks").json()["tasks"]]


def traits_of(admin: Ask) -> dict[str, Any]:
    """All that tells two sandboxes apart, but for where they are reached."""
    said: dict[str, Any] = admin("GET", "/sandboxes/t1").json()
    tasks: dict[str, Any] = admin("GET", "/sandboxes/t1/tasks").json()
    faults: dict[str, Any] = admin("GET", "/sandboxes/t1/faults").json()
    return {**said, "births": tasks["tasks"], "standing": faults["faults"]}


# --- into an untouched sandbox --------------------------------------------------------------------


@pytest.mark.parametrize(
    "scenario",
    [
        "retry-failed-subtask",
        "initialize-cluster-fails",
        ONE | {"starts_at": MORNING, "progression": "polls"},
        ONE | {"faults": [{"name": "outage", "status": 503}]},
        DAG | {"agent": {"port": 2999}, "switches": {"obshell_version": "4.3.0.0"}},
    ],
)
def test_an_untouched_sandbox_is_as_if_made_with_what_is_loaded(admin: Ask, scenario: Any) -> None:
    said = {"progression": "manual", "starts_at": MORNING, "seed": 7}
    create(admin, scenario, **said)
    made = traits_of(admin)
    admin("DELETE", "/sandboxes/t1")

    create(admin, **said)
    loaded = load(admin, scenario)

    assert loaded.status_code == 200
    assert traits_of(admin) == made


def test_what_is_loaded_first_decides_when_the_clock_starts_and_how_time_passes(admin: Ask) -> None:
    create(admin)

    loaded = load(admin, ONE | {"starts_at": MORNING, "progression": "polls"}).json()

    assert (loaded["started"], loaded["progression"]) == (MORNING, "polls")


def test_its_switches_count_unless_others_were_given(admin: Ask, ask: Ask) -> None:
    fails_first = {"id": 11, "attempts": [{"ends": "FAILED"}, {}]}
    checked = {"switches": {"subtask_pairing": "checked"}}
    create(admin, switches={"subtask_retry_counts": True}, progression="manual")

    load(admin, ONE | checked | {"tasks": [{"id": 1, "subtasks": [fails_first]}]})

    admin("POST", "/sandboxes/t1/clock/advance", json={"by": "60s"})
    task = "/sandboxes/t1/api/v2/tasks/instances/1"
    assert ask("POST", f"{task}/subtasks/11/retry").status_code == 200
    assert ask("GET", task).json()["data"]["subtasks"][0]["runTime"] == 2
    assert ask("GET", f"{task}/subtasks/12/log").status_code == 404


def test_a_reset_keeps_what_was_loaded_before_anything_was_asked(admin: Ask) -> None:
    create(admin, ONE)
    load(admin, TWO)

    admin("POST", "/sandboxes/t1/reset")

    assert tasks_of(admin) == ["Install", "Remove"]


def test_a_sandbox_that_was_made_of_no_scenario_is_loaded_and_reset_like_any(admin: Ask) -> None:
    loaded = [admin("POST", "/sandboxes/default/scenarios", json={"scenarios": [each]}).json() for each in (ONE, TWO)]

    reset = admin("POST", "/sandboxes/default/reset").json()

    assert [said["tasks"] for said in (*loaded, reset)] == [1, 2, 2]


def test_scenarios_that_do_not_go_together_are_refused_and_nothing_has_changed(admin: Ask) -> None:
    create(admin, ONE)

    refused = load(admin, ONE)

    assert refused.status_code == 409
    assert "has a task 1, and so has another one" in refused.json()["error"]
    assert tasks_of(admin) == ["Install"]


# --- into one that is in use ----------------------------------------------------------------------


def test_in_a_sandbox_that_is_in_use_its_tasks_are_born_now(admin: Ask) -> None:
    create(admin, ONE, progression="manual", starts_at=MORNING)
    admin("POST", "/sandboxes/t1/clock/advance", json={"by": "90s"})

    loaded = load(admin, TWO | {"starts_at": "2020-01-01T00:00:00Z", "progression": "polls"})

    born = admin("GET", "/sandboxes/t1/tasks/ocp/2").json()["created"]
    assert born == loaded.json()["now"] == "2024-01-10T06:01:30Z"
    assert loaded.json()["progression"] == "manual"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/clock/advance", {"by": "1s"}),
        ("PATCH", "/clock", {"progression": "polls"}),
        ("POST", "/faults", {"name": "slow", "delay": "1s"}),
        ("POST", "/tasks", {"api": "ocp", "template": {"name": "Mine", "subtasks": ["a"]}}),
    ],
)
def test_what_was_done_to_a_sandbox_outlives_what_is_loaded(
    admin: Ask, method: str, path: str, body: dict[str, Any]
) -> None:
    create(admin, progression="manual", starts_at=MORNING)
    admin(method, f"/sandboxes/t1{path}", json=body)
    before = traits_of(admin)

    load(admin, DAG)

    after = traits_of(admin)
    kept = ("now", "progression", "standing", "tasks")
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    assert after["dags"] == 1


def test_its_faults_stand_from_then_on(admin: Ask, ask: Ask) -> None:
    create(admin, ONE)
    ask("GET", "/sandboxes/t1/api/v2/tasks/instances/1")

    load(admin, TWO | {"faults": [{"name": "outage", "status": 503}]})

    assert ask("GET", "/sandboxes/t1/api/v2/tasks/instances/1").status_code == 503


def test_a_task_that_a_request_starts_can_be_loaded_later(admin: Ask, ask: Ask) -> None:
    start = {"name": "Create", "starts_on": {"path": "/api/v2/x"}, "subtasks": ["a"]}
    create(admin, ONE, progression="manual")
    ask("GET", "/sandboxes/t1/api/v2/tasks/instances/1")

    load(admin, {"summary": "Starts", "api": "ocp", "tasks": [start]})

    assert ask("POST", "/sandboxes/t1/api/v2/x", json={}).status_code == 200
    assert sorted(tasks_of(admin)) == ["Create", "Install"]


def test_a_reset_forgets_what_was_loaded_into_a_sandbox_in_use(admin: Ask, ask: Ask) -> None:
    create(admin, ONE)
    ask("GET", "/sandboxes/t1/api/v2/tasks/instances/1")
    load(admin, TWO)

    admin("POST", "/sandboxes/t1/reset")

    assert tasks_of(admin) == ["Install"]


@pytest.mark.parametrize(
    ("scenario", "why"),
    [
        (
            TWO | {"switches": {"subtask_pairing": "checked"}},
            "scenario 'scenarios[2]' sets other switches than sandbox 't1' has, which is in use. "
            "Load it into a fresh one.",
        ),
        (
            DAG | {"agent": {"port": 2999}},
            "scenario 'scenarios[2]' is of another agent than sandbox 't1', which is in use. Load it into a fresh one.",
        ),
        (
            TWO | {"faults": [{"name": "outage", "delay": "1s"}]},
            "there is a fault 'outage' already. Give this one another name.",
        ),
        (
            ONE,
            "scenario 'scenarios[2]' has a task 1, and so has another one. Serve them apart, or "
            "give one of the tasks another id.",
        ),
        (DAG, "dag 'Mine' has a dag 4, and so has another dag. Serve them apart, or give the dag another id."),
    ],
)
def test_what_does_not_go_with_a_sandbox_in_use_is_refused_and_nothing_has_changed(
    admin: Ask, ask: Ask, scenario: dict[str, Any], why: str
) -> None:
    create(admin, ONE | {"faults": [{"name": "outage", "status": 503}]}, DAG, progression="manual")
    ask("GET", "/sandboxes/t1/api/v2/tasks/instances/1")
    before = traits_of(admin)
    good = (TWO | {"tasks": [{"id": 3, "subtasks": ["a"]}]}, DAG | {"dags": [{"id": 9, "nodes": ["b"]}]})

    refused = load(admin, *good, scenario)

    assert (refused.status_code, refused.json()["error"]) == (409, why)
    assert traits_of(admin) | {"now": ""} == before | {"now": ""}


# --- what is refused everywhere -------------------------------------------------------------------


def test_a_scenario_of_the_other_api_is_refused_where_one_is_asked_for(admin: Ask) -> None:
    create(admin)

    refused = load(admin, ONE, DAG, api="ocp")

    assert refused.status_code == 400
    assert refused.json()["error"] == (
        "scenario 'scenarios[1]' is of obshell, and ocp is asked for: api='obshell' would take it."
    )


def test_no_sandbox_is_made_of_a_scenario_of_the_other_api(admin: Ask) -> None:
    refused = admin("POST", "/sandboxes", json={"scenarios": [ONE], "api": "obshell"})

    assert refused.status_code == 400
    assert len(admin("GET", "/sandboxes").json()["sandboxes"]) == 1


def test_a_wrong_scenario_is_refused_with_the_way_to_each_mistake(admin: Ask) -> None:
    create(admin)

    refused = load(admin, ONE | {"taks": []})

    assert refused.status_code == 400
    assert refused.json()["error"].startswith("scenarios[0].taks: ")


# --- how time passes where nobody says so ---------------------------------------------------------


@pytest.mark.parametrize(
    ("scenarios", "progression"),
    [
        ([], "polls"),
        ([ONE], "polls"),
        ([ONE, TWO | {"progression": "manual"}], "time"),
        ([ONE | {"progression": "time"}], "time"),
        ([ONE | {"progression": "manual"}], "manual"),
    ],
)
def test_otherwise_is_how_time_passes_where_no_file_says_so(admin: Ask, scenarios: list[Any], progression: str) -> None:
    made = create(admin, *scenarios, otherwise="polls")

    assert made["progression"] == progression


def test_a_sandbox_says_what_it_was_made_with_and_loaded_since(admin: Ask) -> None:
    create(admin, "retry-failed-subtask")

    loaded = load(admin, DAG).json()

    assert [(each["name"], each["api"]) for each in loaded["scenarios"]] == [
        ("retry-failed-subtask", "ocp"),
        ("scenarios[0]", "obshell"),
    ]


# --- in place of others ---------------------------------------------------------------------------


def test_scenarios_replace_those_of_a_sandbox_in_use(admin: Ask, ask: Ask) -> None:
    create(admin, ONE, starts_at=MORNING, progression="manual")
    ask("GET", "/sandboxes/t1/api/v2/tasks/instances/1")
    admin("POST", "/sandboxes/t1/faults", json={"status": 503})

    replaced = load(admin, TWO, replace=True).json()

    assert tasks_of(admin) == ["Remove"]
    assert (replaced["requests"], replaced["faults"], replaced["progression"]) == (0, 0, "manual")
    assert replaced["started"] == replaced["now"] == MORNING
    admin("POST", "/sandboxes/t1/reset")
    assert tasks_of(admin) == ["Remove"]


@pytest.mark.parametrize(("scenarios", "status"), [([TWO, TWO], 409), ([TWO | {"api": "obshel"}], 400)])
def test_a_sandbox_stays_as_it_was_where_what_replaces_its_scenarios_is_wrong(
    admin: Ask, ask: Ask, scenarios: list[Any], status: int
) -> None:
    create(admin, ONE)
    ask("GET", "/sandboxes/t1/api/v2/tasks/instances/1")

    assert load(admin, *scenarios, replace=True).status_code == status

    assert tasks_of(admin) == ["Install"]
    assert admin("GET", "/sandboxes/t1").json()["requests"] == 1


def test_the_garbage_collector_waits_until_a_large_scenario_is_loaded(admin: Ask) -> None:
    tasks = [{"name": f"Install {number}", "subtasks": ["install"]} for number in range(500)]
    collections = list[str]()

    def note(phase: str, _info: Any) -> None:
        if phase == "start" and threading.current_thread().name.startswith("oceanmock-admin"):
            collections.append(phase)

    thresholds = gc.get_threshold()
    gc.set_threshold(700, 10, 10)  # as a process has by default; the suite collects less often
    gc.callbacks.append(note)
    try:
        create(admin, ONE | {"tasks": tasks})
    finally:
        gc.callbacks.remove(note)
        gc.set_threshold(*thresholds)
    assert len(collections) <= 1, "one that takes what is new may follow"
    assert gc.isenabled()
