"""Several replicas over one store, in one process: what each of them shows of what another did.

Each is a ``SharedSandboxes`` of its own over one store in memory, as it is over Redis. What Redis itself must hold is
test_store_redis's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import httpx
import pytest

from contract_file import ContractFile
from oceanmock.apis import make_sandbox
from oceanmock.cli.printing import print_exchange
from oceanmock.clock import SECOND
from oceanmock.engine.log import AddFault, SandboxSpec
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.sandboxes import SharedSandboxes
from oceanmock.engine.store import MemoryStore, NoSuchSandbox, SandboxTaken
from oceanmock.http.app import App, create_app
from oceanmock.library import load_scenario, read_fault, read_scenario
from oceanmock.ocp import world as ocp_world
from shared_memory import Connection, second_replica

RETRY: Final = load_scenario("retry-failed-subtask")
OTHER: Final = read_scenario("summary: One\napi: ocp\ntasks: [{subtasks: [{}, {}]}]")
STUB: Final = read_scenario(
    "summary: One response\napi: ocp\ntasks: [{subtasks: [{}]}]\n"
    "stubs: [{method: GET, path: /api/v2/once, times: 1, body: only once}]"
)
ONCE: Final = "/api/v2/once"
LIST: Final = "/api/v2/tasks/instances"
MANAGER: Final = ("manager", "manager")


def two_replicas(*scenarios: Any) -> tuple[SharedSandboxes, SharedSandboxes]:
    store = MemoryStore()
    first: Any = Connection(store, "one")
    default = make_sandbox(scenarios or [RETRY], store=first, progression="manual", starts_at=0)
    return SharedSandboxes(default), SharedSandboxes(second_replica(default))


def mine(sandboxes: SharedSandboxes) -> Sandbox:
    return sandboxes.create("mine", SandboxSpec((RETRY,), progression="manual", starts_at=0))


def test_a_sandbox_of_one_replica_is_there_at_the_other_until_either_deletes_it() -> None:
    one, two = two_replicas()
    mine(one).advance(SECOND)

    assert two.get("mine").clock.now() == SECOND
    with pytest.raises(SandboxTaken):
        mine(two)
    assert (len(two), [sandbox.name for sandbox in two]) == (2, ["default", "mine"])
    two.delete("mine")
    with pytest.raises(NoSuchSandbox):
        one.get("mine")


def test_after_a_request_a_replica_s_thread_leaves_its_sandbox_to_others() -> None:
    one, _ = two_replicas()
    with one.request():
        one.get("default")
    one.get("default")
    lock: Any = one._lock_of("default")

    with ThreadPoolExecutor() as pool:
        assert pool.submit(lock.acquire, timeout=1).result()


def test_two_replicas_give_no_name_twice() -> None:
    one, two = two_replicas()

    names = [replica.create(None, SandboxSpec()).name for replica in (one, two, one)]

    assert len(set(names)) == 3


def test_of_two_that_create_the_same_sandbox_at_once_one_does() -> None:
    one, two = two_replicas()
    built = [replica.build("mine", SandboxSpec(seed=seed)) for seed, replica in enumerate((one, two))]
    one.add(built[0])

    with pytest.raises(SandboxTaken):
        two.add(built[1])
    assert two.get("mine").spec.seed == 0


def test_a_reset_does_not_bring_back_what_another_replica_replaced_or_deleted() -> None:
    one, two = two_replicas()
    mine(one)
    stale = one.rebuild("mine")
    two.put(two.rebuild("mine", [OTHER]), if_untouched=True)

    assert one.put(stale) is None
    assert len(one.reset("mine").scenarios) == 2
    stale = one.rebuild("mine")
    two.delete("mine")
    with pytest.raises(NoSuchSandbox):
        one.put(stale)
    assert "mine" not in [sandbox.name for sandbox in two]


def test_what_two_replicas_load_at_once_is_all_there() -> None:
    one, two = two_replicas()
    mine(one)
    two.get("mine")
    fresh = one.rebuild("mine", [OTHER])
    two.put(two.rebuild("mine", [STUB]), if_untouched=True)

    assert one.put(fresh, if_untouched=True) is None
    one.put(one.rebuild("mine", [OTHER]), if_untouched=True)

    assert [scenario.name for scenario in two.get("mine").scenarios] == [it.name for it in (RETRY, STUB, OTHER)]


def test_a_scenario_that_is_loaded_while_a_command_comes_does_not_undo_it() -> None:
    one, two = two_replicas()
    mine(one)
    fresh = one.rebuild("mine", [OTHER])
    two.get("mine").advance(SECOND)

    assert one.put(fresh, if_untouched=True) is None
    assert one.get("mine").clock.now() == SECOND


def before_append(sandbox: Sandbox, other: Callable[[], object]) -> None:
    """Let another replica append between the evaluation of the next command and its append."""
    store: Any = sandbox.store
    append = store.append

    def append_late(*args: Any, **options: Any) -> Any:
        del store.append
        other()
        return append(*args, **options)

    store.append = append_late


def test_two_moves_of_the_clock_at_once_add_up() -> None:
    one, two = two_replicas()
    before_append(one.default, lambda: two.default.advance(10 * SECOND))

    one.default.advance(10 * SECOND)

    assert [replica.default.clock.now() for replica in (one, two)] == [20 * SECOND] * 2


def test_a_retry_that_comes_second_is_refused() -> None:
    one, two = two_replicas()
    one.default.advance(60 * SECOND)
    before_append(one.default, lambda: ocp_world.operate(two.default, 1000, "RETRY"))

    with pytest.raises(Exception, match="not allowed in state RUNNING"):
        ocp_world.operate(one.default, 1000, "RETRY")


def test_faults_of_two_replicas_have_different_numbers_and_one_count() -> None:
    one, two = two_replicas()
    before_append(one.default, lambda: two.default.execute(AddFault(read_fault({"status": 503}))))

    assert one.default.execute(AddFault(read_fault({"status": 503}))) == "fault 2"
    assert two.default.faults.statistics() == one.default.faults.statistics()


def test_a_default_sandbox_that_was_lost_is_made_again() -> None:
    one, two = two_replicas()
    one.default.advance(SECOND)
    one.default.store.delete("default")

    assert [replica.default.clock.now() for replica in (one, two)] == [0, 0]


# --- over HTTP ------------------------------------------------------------------------------------


def app_of(sandboxes: SharedSandboxes) -> App:
    app = create_app(sandboxes.default)
    app.sandboxes = sandboxes
    return app


async def ask(app: App, path: str, method: str = "GET", **options: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", auth=MANAGER) as http:
        return await http.request(method, path, **options)


def test_without_its_store_a_replica_lives_is_not_ready_and_refuses_in_each_api_s_envelope() -> None:
    one, _ = two_replicas()
    app, store = app_of(one), one.default.store

    store.is_cut = True  # type: ignore[union-attr]
    health, ready, tasks, dags, admin = (
        asyncio.run(ask(app, path))
        for path in ("/__admin/health", "/__admin/ready", LIST, "/api/v1/task/dag/4", "/__admin/sandboxes")
    )
    store.is_cut = False  # type: ignore[union-attr]

    assert health.status_code == 200
    assert (ready.status_code, ready.json()) == (503, {"error": "the store is gone."})
    assert (admin.status_code, admin.json()) == (503, {"error": "the store is gone."})
    assert (tasks.status_code, tasks.json()["error"]["debugMessage"]) == (503, "the store is gone.")
    assert (dags.status_code, dags.json()["error"]["errCode"]) == (503, "Common.Unexpected")
    assert [asyncio.run(ask(app, path)).status_code for path in ("/__admin/ready", LIST)] == [200, 200]


def test_the_contract_has_the_response_of_each_operation_of_the_admin_api_without_its_store() -> None:
    one, _ = two_replicas()
    app, contract, statuses = app_of(one), ContractFile("admin"), dict[str, str]()
    one.default.store.is_cut = True  # type: ignore[union-attr]

    for id, operation in contract.operations.items():
        media = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        body = next((contract.follow(example)["value"] for example in media.get("examples", {}).values()), None)
        path = operation["path"].format(sandbox="default", api="ocp", task=1, fault="fault 1")
        statuses[id] = str(asyncio.run(ask(app, path, operation["method"], json=body)).status_code)

    assert [id for id, status in statuses.items() if status not in contract.operations[id]["responses"]] == []
    assert {"200", "503"} == {*statuses.values()}


def test_a_sandbox_that_another_replica_deletes_meanwhile_is_not_found() -> None:
    one, two = two_replicas()
    before_append(mine(one), lambda: two.delete("mine"))

    response = asyncio.run(ask(app_of(one), "/__admin/sandboxes/mine/clock/advance", "POST", json={"by": "1s"}))

    assert (response.status_code, response.json()) == (404, {"error": "there is no sandbox 'mine'."})


def test_an_operation_during_which_another_replica_resets_the_sandbox_is_refused_by_its_new_state() -> None:
    one, two = two_replicas()
    one.default.advance(60 * SECOND)
    before_append(one.default, lambda: two.reset("default"))

    response = asyncio.run(ask(app_of(one), f"{LIST}/1000/retry", "POST"))

    assert (response.status_code, response.json()["duration"]) == (400, 0)


def test_a_line_of_the_json_log_has_the_replica_s_name(capsys: pytest.CaptureFixture[str]) -> None:
    app = app_of(two_replicas()[1])
    app.on_exchange = partial(print_exchange, as_json=True)
    asyncio.run(ask(app, LIST))

    line = json.loads(capsys.readouterr().err)
    assert (line["replica"], line["sandbox"], line["status"]) == ("two", "default", 200)


def test_the_time_of_a_sandbox_has_one_origin_for_all_replicas() -> None:
    machine = [1000 * SECOND]
    first: Any = Connection(MemoryStore(), "one")
    one = make_sandbox([RETRY], store=first, wall=lambda: machine[0])
    machine[0] += 100 * SECOND
    two = second_replica(one)
    machine[0] += 100 * SECOND

    assert one.clock.now() == two.clock.now() == one.started + 200 * SECOND


def test_a_stub_that_responds_once_does_so_for_all_replicas() -> None:
    one, two = two_replicas(STUB)
    first, second = app_of(one), app_of(two)
    late = one.default.take_stub

    def take_late(found: Any) -> bool:
        assert asyncio.run(ask(second, ONCE)).status_code == 200
        return late(found)

    one.default.take_stub = take_late  # type: ignore[method-assign]

    assert asyncio.run(ask(first, ONCE)).status_code == 404
