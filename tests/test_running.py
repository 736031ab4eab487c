"""running and Mock: a server in this process or elsewhere, and the sandboxes made on it."""

from __future__ import annotations

import asyncio
import datetime
import multiprocessing
import socket
import ssl
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import time_machine
from freezegun import freeze_time
from hypothesis import given
from hypothesis import strategies as st

import oceanmock
from certificates import certificate, file_of
from command import serving
from mock_fixtures import MORNING, here, mock
from oceanmock import EnvironmentProblem, InputError, Mock, Obshell, OceanmockError, Ocp
from oceanmock.client import SandboxOptions

__all__ = ["here", "mock"]

TASKS = "/api/v2/tasks/instances"
ONE = {"summary": "One step", "api": "ocp", "tasks": [{"id": 1, "subtasks": ["install"]}]}


def is_served(url: str) -> bool:
    try:
        httpx.get(url)
    except httpx.ConnectError:
        return False
    return True


# --- the machine's time of day is set back ---------------------------------------------------------


@pytest.fixture
def set_back(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime.timedelta], None]:
    """Set the machine's time of day back, as a user or a library of tests does."""

    def back(by: datetime.timedelta) -> None:
        seconds, now, now_ns = by.total_seconds(), time.time, time.time_ns
        monkeypatch.setattr(time, "time", lambda: now() - seconds)
        monkeypatch.setattr(time, "time_ns", lambda: now_ns() - int(seconds * 1e9))

    return back


def test_a_failed_task_stays_failed_when_the_time_of_day_is_set_back(
    set_back: Callable[[datetime.timedelta], None],
) -> None:
    with oceanmock.running("retry-failed-subtask", progression="time") as ocp:
        task = f"{ocp.url}{TASKS}/1000"
        ocp.clock.advance("5s")
        before = httpx.get(task, auth=ocp.auth).json()["data"]["status"]

        set_back(datetime.timedelta(seconds=4))

        assert before == httpx.get(task, auth=ocp.auth).json()["data"]["status"] == "FAILED"


def test_a_retry_is_accepted_once_when_the_time_of_day_is_set_back(
    set_back: Callable[[datetime.timedelta], None],
) -> None:
    with oceanmock.running("retry-failed-subtask", progression="time") as ocp:
        retry = f"{ocp.url}{TASKS}/1000/subtasks/1002/retry"
        ocp.clock.advance("5s")
        first = httpx.post(retry, auth=ocp.auth)

        set_back(datetime.timedelta(milliseconds=500))

        assert (first.status_code, httpx.post(retry, auth=ocp.auth).status_code) == (200, 400)


def test_a_task_is_served_when_the_time_of_day_is_years_ago(set_back: Callable[[datetime.timedelta], None]) -> None:
    with oceanmock.running("retry-failed-subtask", progression="time", speed=1000) as ocp:
        set_back(datetime.timedelta(days=2500))

        assert httpx.get(f"{ocp.url}{TASKS}/1000", auth=ocp.auth).status_code == 200


@pytest.mark.parametrize(
    ("api", "scenario", "path"),
    [("ocp", "retry-failed-subtask", f"{TASKS}/1000"), ("obshell", "join-agent", "/api/v1/time")],
)
def test_the_duration_of_a_response_is_the_same_at_any_speed(api: Any, scenario: str, path: str) -> None:
    with oceanmock.running(scenario, api=api, progression="time", speed=100_000, auth=False) as sandbox:
        answer = httpx.get(f"{sandbox.url}{path}")

        assert answer.json()["duration"] <= answer.elapsed.total_seconds() * 1000


@pytest.mark.parametrize("freeze", [freeze_time, time_machine.travel], ids=["freezegun", "time-machine"])
def test_time_passes_for_a_sandbox_while_a_test_has_stopped_the_time_of_day(freeze: Callable[..., Any]) -> None:
    with oceanmock.running("retry-failed-subtask", progression="time", speed=1000) as ocp:
        ocp.clock.advance("5s")
        before = ocp.clock.now()
        ocp.faults.add(operation="getTaskInstance", delay="20ms")

        with freeze("2020-01-01"):
            answer = httpx.get(f"{ocp.url}{TASKS}/1000", auth=ocp.auth)
            after = ocp.clock.now()

        assert (answer.status_code, answer.json()["data"]["status"]) == (200, "FAILED")
        assert after - before >= datetime.timedelta(seconds=20)
        (entry,) = ocp.journal
        assert entry.took_ms >= 20


@pytest.mark.slow
def test_a_server_stays_where_it_is_when_the_machine_s_time_of_day_is_set_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")  # apt-get install faketime
    offset = tmp_path / "offset"
    offset.write_text("+0")
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(offset))
    monkeypatch.setenv("FAKETIME_NO_CACHE", "1")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")  # as on a machine whose time of day is set
    monkeypatch.setenv("FAKETIME_FORCE_MONOTONIC_FIX", "0")  # or Python's threads wait for each other

    with serving("retry-failed-subtask", "--progression", "time") as server:
        sandbox, task = f"{server.url}/__admin/sandboxes/default", f"{server.url}{TASKS}/1000"
        httpx.post(f"{sandbox}/clock/advance", json={"by": "5s"})
        statuses = [httpx.get(task, auth=("viewer", "viewer")).json()["data"]["status"]]
        offset.write_text("-4s")
        statuses.append(httpx.get(task, auth=("viewer", "viewer")).json()["data"]["status"])
        retries = [httpx.post(f"{task}/subtasks/1002/retry", auth=("manager", "manager")).status_code]
        offset.write_text("-4.5s")
        retries.append(httpx.post(f"{task}/subtasks/1002/retry", auth=("manager", "manager")).status_code)
        entries = httpx.get(f"{sandbox}/journal").json()["entries"]

    assert (statuses, retries) == (["FAILED", "FAILED"], [200, 400])
    assert entries[1]["wall"] < entries[0]["wall"], "the time of day was not set back"


def test_sleeping_advances_the_clock_and_the_process_s_time_goes_on_by_as_much(
    monkeypatch: pytest.MonkeyPatch, mock: Mock
) -> None:
    ocp = mock.ocp("retry-failed-subtask", progression="manual")
    began, monotonic, wall = ocp.clock.now(), time.monotonic(), time.time()

    with monkeypatch.context() as patch:
        ocp.clock.patch(patch)
        time.sleep(600)
        result = asyncio.run(asyncio.sleep(3000, "slept"))
        served = threading.Thread(target=time.sleep, args=(0.001,), name="oceanmock")
        served.start()
        served.join()
        asyncio.run(asyncio.sleep(0))
        elapsed = [time.monotonic() - monotonic, time.time() - wall]

    assert result == "slept"
    assert ocp.clock.now() - began == datetime.timedelta(hours=1)
    assert all(3600 <= seconds < 3660 for seconds in elapsed)
    assert time.monotonic() - monotonic < 60


def test_under_gevent_a_server_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    patched = types.SimpleNamespace(is_module_patched=lambda name: name == "threading")
    monkeypatch.setitem(sys.modules, "gevent.monkey", patched)

    with pytest.raises(EnvironmentProblem, match=r"gevent has replaced the threads .* --oceanmock-url"):
        Mock.start()


IMPORTED_BY_A_SERVER = {
    *("click", "connexion", "cryptography", "faker", "httptools", "jsonschema_rs", "openapi_spec_validator"),
    *("orjson", "pydantic", "rich", "starlette", "uvicorn", "uvloop", "yaml"),
}
CLIENT = """
import sys, urllib.request

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ImportError(name + " is not installed")

sys.meta_path.insert(0, Refused())
import oceanmock

mock = oceanmock.Mock.attach("{url}")
with mock.ocp("retry-failed-subtask", auth=False) as ocp, mock.obshell("initialize-cluster-fails", auth=False) as agent:
    ocp.task("Mine", ["install"]).until("SUCCESSFUL")
    ocp.faults.add(operation="getTaskInstance", calls=1, delay="1ms")
    urllib.request.urlopen(ocp.url + "/api/v2/tasks/instances/1000").read()
    ocp.journal.assert_called("getTaskInstance", times=1)
    agent.dag(4).until("FAILED")
"""


def test_a_client_of_a_server_elsewhere_needs_the_standard_library_alone(here: Mock) -> None:
    code = CLIENT.format(names=IMPORTED_BY_A_SERVER, url=here.url)

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_child_that_was_forked_uses_the_sandbox_of_its_parent(here: Mock) -> None:
    with here.ocp("retry-failed-subtask", auth=False) as ocp:
        child = multiprocessing.get_context("fork").Process(target=httpx.get, args=[f"{ocp.url}{TASKS}"])
        child.start()
        child.join(60)

        assert child.exitcode == 0
        ocp.journal.assert_called("listTaskInstances", times=1)


class Wall:
    """The functions of the machine's time of day in ``time``, and those of its other clocks, under a test's control."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.instant = time.time_ns()
        for name in ("time", "monotonic", "perf_counter"):
            patch.setattr(time, name, lambda: self.instant / 1e9)
            patch.setattr(time, f"{name}_ns", lambda: self.instant)


CHANGES = st.one_of(
    st.tuples(st.just("jump"), st.integers(0, 4 * 10**9)),
    st.tuples(st.just("step"), st.integers(-10, 10)),
    st.tuples(st.just("advance"), st.integers(0, 20)),
    st.tuples(st.just("next"), st.none()),
    st.tuples(st.just("set"), st.sampled_from(["time", "polls", "manual", "immediate"])),
    st.tuples(st.just("speed"), st.sampled_from([0.001, 1, 1000, 1_000_000])),
)


@given(changes=st.lists(CHANGES, min_size=1, max_size=8))
def test_instants_and_views_never_go_back_whatever_the_time_of_day_does(
    here: Mock, changes: list[tuple[str, Any]]
) -> None:
    with pytest.MonkeyPatch.context() as patch, here.ocp("retry-failed-subtask", progression="time") as ocp:
        wall = Wall(patch)
        acts: dict[str, Callable[[Any], object]] = {
            "jump": lambda seconds: setattr(wall, "instant", seconds * 10**9),
            "step": lambda seconds: setattr(wall, "instant", wall.instant + seconds * 10**9),
            "advance": lambda seconds: ocp.clock.advance(f"{seconds}s"),
            "next": lambda _: ocp.clock.next(),
            "set": lambda progression: ocp.clock.set(progression=progression),
            "speed": lambda speed: ocp.clock.set(speed=speed),
        }
        instant, events = ocp.clock.now(), list[object]()
        for name, value in changes:
            acts[name](value)

            assert httpx.get(f"{ocp.url}{TASKS}/1000", auth=ocp.auth).status_code == 200
            explanation = ocp.admin.ask("GET", "/tasks/ocp/1000/explain")["events"]
            assert instant <= (instant := ocp.clock.now())
            assert explanation[: len(events)] == events
            events = explanation


# --- a block --------------------------------------------------------------------------------------


def test_in_a_block_a_sandbox_is_served_and_then_no_more() -> None:
    with oceanmock.running("retry-failed-subtask") as ocp:
        answer = httpx.get(f"{ocp.url}{TASKS}/1000", auth=ocp.auth)

    assert isinstance(ocp, Ocp)
    assert answer.json()["data"]["status"] == "RUNNING"
    assert not is_served(ocp.url)


def test_an_asynchronous_block_is_the_same() -> None:
    async def looks() -> tuple[Obshell, str]:
        async with (
            oceanmock.running("initialize-cluster-fails", api="obshell") as obshell,
            httpx.AsyncClient(auth=obshell.auth) as client,
        ):
            dag = obshell.dag(4).id
            answer = await client.get(f"{obshell.url}/api/v1/task/dag/{dag}")
            return obshell, answer.json()["data"]["state"]

    obshell, state = asyncio.run(looks())

    assert isinstance(obshell, Obshell)
    assert state == "READY"
    assert not is_served(obshell.url)


def test_a_block_on_a_server_elsewhere_leaves_it_as_it_was(here: Mock) -> None:
    with oceanmock.running(ONE, url=here.url, name="mine") as ocp:
        assert ocp.task(1).status == "RUNNING"

    with pytest.raises(InputError, match="there is no sandbox 'mine'"):
        ocp.clock.now()
    assert is_served(here.url)


def test_no_server_is_left_behind_by_a_scenario_that_is_wrong() -> None:
    before = threading.active_count()

    with pytest.raises(InputError), oceanmock.running("no-such-scenario"):
        pass

    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"sped": 2}, "'sped' is no keyword of running. Allowed: .* Did you mean 'speed'?"),
        ({"api": "obshel"}, "api is 'obshel'. Allowed: ocp, obshell. Did you mean 'obshell'?"),
    ],
)
def test_what_nobody_can_be_told_is_refused_with_the_nearest(said: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        oceanmock.running(**said)  # type: ignore[call-overload]


def test_a_scenario_of_the_other_api_is_refused_and_says_how_it_is_taken(mock: Mock) -> None:
    with pytest.raises(InputError, match=r"is of obshell, .* api='obshell' would take it"):
        mock.ocp("initialize-cluster-fails")


# --- a server -------------------------------------------------------------------------------------


def test_a_server_has_as_many_sandboxes_as_are_made_on_it(mock: Mock) -> None:
    with mock.ocp(ONE) as one, mock.obshell("initialize-cluster-fails") as other:
        one.clock.advance("1h")

        assert one.task(1).status == "SUCCESSFUL"
        assert other.dag(4).state == "READY"
        assert one.url != other.url


def test_a_closed_sandbox_is_gone_and_closing_it_twice_changes_nothing(mock: Mock) -> None:
    ocp = mock.ocp(ONE)

    ocp.close()
    ocp.close()

    with pytest.raises(InputError, match="there is no sandbox"):
        ocp.tasks()


def test_a_server_knows_its_open_sandboxes_and_says_when_one_is_closed() -> None:
    with Mock.start() as mock:
        first, second = mock.ocp(ONE), mock.obshell()
        told: list[int] = []
        mock.on_close = lambda sandbox: told.append(sandbox.json()["tasks"])

        first.close()

        assert (told, mock.sandboxes) == ([1], [second])


def test_a_sandbox_that_somebody_else_has_deleted_is_closed_without_a_word(mock: Mock) -> None:
    ocp = mock.ocp(ONE)
    ocp.admin.ask("DELETE")

    ocp.close()


def test_a_sandbox_of_a_stopped_server_is_closed_without_a_word() -> None:
    with Mock.start() as started:
        ocp = started.ocp(ONE)

    ocp.close()


def test_an_address_of_ipv6_is_called_by_its_whole_name(here: Mock) -> None:
    answer = httpx.get(f"{here.url}/__admin/sandboxes", headers={"Host": "[::1]:8080"})

    assert "x-oceanmock-version" in answer.headers
    assert b'"path":"http://[::1]:8080/sandboxes/default"' in answer.content


def test_a_stopped_server_says_so() -> None:
    started = Mock.start()
    ocp = started.ocp(ONE)

    started.stop()
    started.stop()

    with pytest.raises(OceanmockError, match="nothing responds at"):
        ocp.clock.now()


def test_nobody_at_a_url_is_said_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"

    with pytest.raises(OceanmockError, match=f"nothing responds at {url}"):
        Mock.attach(url)


def test_a_taken_port_is_said_in_one_sentence(here: Mock) -> None:
    port = httpx.URL(here.url).port or 0

    with pytest.raises(EnvironmentProblem, match=f"cannot listen on 127.0.0.1:{port}"):
        Mock.start(port=port)


def test_a_server_elsewhere_may_want_its_token() -> None:
    with serving("many-tasks", "--admin-token", "secret") as server:
        attached = Mock.attach(server.url, token="secret")

        assert attached.ocp(ONE).task(1).status == "RUNNING"
        assert not attached.is_local
        with pytest.raises(OceanmockError, match="This is not the token"):
            Mock.attach(server.url, token="wrong")


# --- where a sandbox is ---------------------------------------------------------------------------


def test_a_sandbox_has_a_port_of_its_own(mock: Mock) -> None:
    ocp = mock.ocp(ONE)

    assert ocp.url == f"http://{ocp.host}:{ocp.port}"
    assert ocp.url != mock.url
    assert httpx.get(f"{ocp.url}{TASKS}/1", auth=ocp.viewer).status_code == 200


def test_where_its_port_cannot_be_reached_it_has_a_path(here: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oceanmock.client._accepts_connections", lambda url: False)
    attached = Mock.attach(here.url)

    first, second = attached.ocp(ONE), attached.ocp(ONE)

    assert second.url == f"{here.url}/sandboxes/{second.name}"
    assert httpx.get(f"{second.url}{TASKS}/1", auth=second.auth).status_code == 200
    assert "port" not in second.json()["urls"]
    with pytest.raises(EnvironmentProblem, match="cannot be reached from this machine"):
        _ = first.port


# --- what a sandbox is like -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenario", "given", "progression"),
    [
        (ONE, None, "polls"),
        (ONE | {"progression": "manual"}, None, "manual"),
        (ONE | {"progression": "time"}, None, "time"),
        (ONE | {"progression": "manual"}, "immediate", "immediate"),
    ],
)
def test_time_passes_as_is_said_or_as_the_file_says_or_by_polls(
    mock: Mock, scenario: dict[str, object], given: str | None, progression: str
) -> None:
    said = {} if given is None else {"progression": given}

    with mock.ocp(scenario, **said) as ocp:  # type: ignore[arg-type]
        assert ocp.clock.progression == progression


def test_a_sandbox_is_as_its_options_say(mock: Mock) -> None:
    with mock.ocp(
        ONE,
        seed=7,
        speed=2,
        starts_at=datetime.datetime(2024, 1, 10, 6),  # without a zone: in UTC
        switches={"error_code_not_found": 4711},
        strict=True,
    ) as ocp:
        missing = httpx.get(f"{ocp.url}{TASKS}/999", auth=ocp.auth).json()

        assert ocp.clock.now().isoformat() == "2024-01-10T06:00:00+00:00"
        assert (ocp.seed, ocp.clock.speed, ocp.strict) == (7, 2, True)
        assert missing["error"]["code"] == 4711


@pytest.mark.parametrize("option", sorted(SandboxOptions.__annotations__))
def test_an_option_that_is_none_is_left_out(mock: Mock, option: str) -> None:
    with mock.ocp(ONE, **{option: None}) as ocp:  # type: ignore[arg-type]
        assert httpx.get(f"{ocp.url}{TASKS}/1", auth=ocp.auth).status_code == 200


def test_so_is_a_key_of_a_fault(mock: Mock) -> None:
    with mock.ocp(ONE) as ocp:
        fault = ocp.faults.add(status=503, delay=None, calls=None)  # type: ignore[arg-type]

        assert fault.json()["fault"] == {"status": 503}


def test_so_is_one_of_a_block() -> None:
    with oceanmock.running(ONE, host=None, port=None, url=None, ttl=None) as ocp:  # type: ignore[call-overload]
        assert httpx.get(f"{ocp.url}{TASKS}/1", auth=ocp.auth).status_code == 200


def test_a_wrong_option_is_refused_with_the_nearest(mock: Mock) -> None:
    with pytest.raises(InputError, match=r"'stricct' is no keyword of a sandbox. .*'strict'"):
        mock.ocp(ONE, stricct=True)  # type: ignore[call-arg]


def test_a_way_to_pass_that_time_has_not_got_is_refused_with_the_nearest(mock: Mock) -> None:
    with pytest.raises(InputError, match=r"`progression` is 'manul'. .* Did you mean 'manual'?"):
        mock.ocp(ONE, progression="manul")  # type: ignore[arg-type]


def test_requests_must_authenticate_unless_it_is_said_that_they_need_not(mock: Mock) -> None:
    with mock.ocp(ONE) as guarded, mock.ocp(ONE, auth=False) as open_to_all:
        assert httpx.get(f"{guarded.url}{TASKS}/1").status_code == 401
        assert httpx.get(f"{open_to_all.url}{TASKS}/1").status_code == 200


def test_scenarios_are_names_files_and_mappings(mock: Mock, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("summary: Mine\napi: ocp\ntasks: [{id: 5, subtasks: [a]}]\n")

    with mock.ocp("retry-failed-subtask", path, ONE) as ocp:
        assert [task.id for task in ocp.tasks()] == [1, 5, 1000]


def test_a_file_is_sent_with_the_files_that_it_names(mock: Mock, tmp_path: Path) -> None:
    (tmp_path / "_part.yaml").write_text("mine: {id: 5, subtasks: [a]}\n")
    (tmp_path / "page.html").write_text("<h1>Busy</h1>")
    path = tmp_path / "mine.yaml"
    faults = "faults: [{operation: retryTask, status: 503, body_file: page.html}]"
    path.write_text(f"summary: Mine\napi: ocp\ntasks: [{{include: _part.yaml#mine}}]\n{faults}\n")

    with mock.ocp(path) as ocp:
        assert [task.id for task in ocp.tasks()] == [5]
        assert httpx.post(f"{ocp.url}{TASKS}/5/retry", auth=ocp.auth).text == "<h1>Busy</h1>"


@pytest.mark.parametrize("act", ["make", "load"])
def test_a_mistake_in_a_file_is_told_by_the_file_s_name(mock: Mock, tmp_path: Path, act: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("summary: Mine\napi: ocp\ntasks: [{id: 5, subtask: [a]}]\n")
    acts = {"make": lambda: mock.ocp(ONE, path), "load": lambda: mock.ocp().load(ONE, path)}

    with pytest.raises(InputError) as refused:
        acts[act]()

    assert str(refused.value).startswith(f"{path}:3:")
    assert "Did you mean 'subtasks'?" in str(refused.value)


def test_a_file_that_is_not_there_is_told_by_its_name(mock: Mock) -> None:
    with pytest.raises(InputError, match=r"the scenario file no/such.yaml cannot be read: No such"):
        mock.ocp("no/such.yaml")


def test_scenarios_are_loaded_into_a_sandbox_later(mock: Mock) -> None:
    with mock.ocp(starts_at=MORNING) as ocp:
        loaded = ocp.load(ONE | {"progression": "manual"})

        assert loaded is ocp
        assert ocp.task(1).status == "RUNNING"
        assert ocp.clock.progression == "manual"


def test_a_reset_sandbox_is_as_it_was_made(mock: Mock) -> None:
    with mock.ocp(ONE, starts_at=MORNING) as ocp:
        ocp.clock.advance("1h")
        ocp.faults.add(status=503)

        ocp.reset()

        assert ocp.task(1).status == "RUNNING"
        assert len(ocp.faults) == 0


# --- TLS ------------------------------------------------------------------------------------------


def test_a_server_may_speak_tls_on_each_of_its_ports(tmp_path: Path) -> None:
    own = certificate(tmp_path, "127.0.0.1")
    trusting = ssl.create_default_context(cafile=file_of(tmp_path, "127.0.0.1"))

    with Mock.start(tls=own) as started:
        ocp = started.ocp(ONE)
        attached = Mock.attach(started.url, tls=trusting).ocp(ONE)
        answers = [httpx.get(f"{each.url}{TASKS}/1", auth=each.auth, verify=trusting) for each in (ocp, attached)]

    assert started.url.startswith("https://")
    assert ocp.url.startswith("https://")
    assert [answer.status_code for answer in answers] == [200, 200]
