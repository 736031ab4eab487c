"""A user's tests, typed: held to mypy --strict by tests/test_typing.py, and never run."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import assert_type

import httpx
import requests

import oceanmock
from oceanmock import (
    Dag,
    InputError,
    JournalEntry,
    Mock,
    Obshell,
    OceanmockError,
    Ocp,
    Task,
    fails,
    hangs,
    node,
    running,
    sub_task,
    subtask,
    succeeds,
)

assert_type(oceanmock.__version__, str)


def test_a_client_of_ocp(ocp: Ocp) -> None:
    client = httpx.Client(base_url=ocp.url, auth=ocp.auth)
    client.get("/api/v2/tasks/instances", auth=ocp.access_key)
    requests.get(f"{ocp.url}/api/v2/tasks/instances", auth=ocp.viewer, timeout=1)

    task = ocp.task(
        "Install agent", ["Prepare", subtask("Install", fails("2s", log="disk full"), succeeds()), "Start"], id=7
    )

    assert_type(task, Task)
    assert_type(task.until("FAILED").status, str)
    assert_type(ocp.task(1000).subtask("Install").id, int)
    ocp.task(1000).assert_status("FAILED", operation="RETRY")
    assert_type(ocp.tasks(), list[Task])


def test_time_journal_and_faults(ocp: Ocp) -> None:
    assert_type(ocp.clock.now(), datetime)
    assert_type(ocp.clock.next_due(), datetime | None)
    ocp.clock.advance(timedelta(minutes=1))
    ocp.clock.set(progression="manual", speed=2)
    for entry in ocp.journal:
        assert_type(entry, JournalEntry)
        assert_type(entry.status, int | None)
    ocp.journal.assert_called("retrySubtask", times=1, subtask=7, body={"a": [1]})
    assert_type(ocp.faults.add(operation="retryTask", calls=[1, "3-"], reset=True).affected, int)


def test_a_client_of_obshell(obshell: Obshell) -> None:
    httpx.post(f"{obshell.url}/api/v1/task/dag/4", auth=obshell.auth)
    requests.post(f"{obshell.url}/api/v1/task/dag/4", auth=obshell.auth, timeout=1)
    assert_type(obshell.auth.password, str)

    dag = obshell.dag("Upgrade", [node("Restart", fails(), can=["retry"]), node("Wait", hangs())])
    other = obshell.dag("Stop", [node("Stop", sub_tasks=[sub_task(succeeds(), name="one")])])

    assert_type(dag, Dag)
    assert_type(other.node("Stop").sub_tasks[0].state, str)
    dag.assert_state("FAILED", operator="RUN")
    assert_type((dag.id, dag.number, dag.stage), tuple[str, int, int])


def test_blocks() -> None:
    with running("retry-failed-subtask", progression="manual", seed=7) as ocp:
        assert_type(ocp, Ocp)
        assert_type(ocp.load(Path("mine.yaml"), {"summary": "Mine", "api": "ocp"}), Ocp)
    with oceanmock.running("initialize-cluster-fails", api="obshell", auth=False) as obshell:
        assert_type(obshell, Obshell)
    with Mock.start(port=0) as mock:
        assert_type(mock.ocp("rollback", strict=True), Ocp)
        assert_type(mock.obshell(name="mine"), Obshell)


async def test_asynchronous_blocks() -> None:
    async with running("retry-failed-subtask", url="http://mock:8080", token="secret") as ocp:
        assert_type(ocp, Ocp)
        async with httpx.AsyncClient(auth=ocp.auth) as client:
            await client.get(ocp.url)


def test_what_is_wrong_is_seen_before_it_is_run(ocp: Ocp) -> None:
    with running("retry-failed-subtask", sped=2):  # type: ignore[call-overload]
        ocp.clock.set(progression="pols")  # type: ignore[arg-type]
        ocp.journal.assert_called("retrySubtask", subtsk=7)  # type: ignore[call-arg]
        ocp.faults.add(operaton="retryTask")  # type: ignore[call-arg]
        ocp.task(1000).assert_state("FAILED")  # type: ignore[attr-defined]
        oceanmock.runing()  # type: ignore[attr-defined]


def caught() -> list[type[OceanmockError]]:
    return [InputError]
