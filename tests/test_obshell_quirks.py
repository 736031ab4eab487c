"""obshell's quirks: each shows unless it is switched off, and then this is answered instead.

A quirk is what the real server does against its own rules, by the name openapi/obshell.yaml gives
it. SHOWN has a request for each, with the answer to it; HIDDEN names those that no request to a
sandbox of one agent can tell apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import httpx
import pytest

import obshell_client as client
from contract_file import ContractFile
from obshell_world import (
    DAG,
    FOREIGN,
    INIT,
    LOCAL,
    LOGS,
    NODE,
    NOT_FOUND,
    NOT_HELD,
    PANIC,
    TASK,
    guarded,
    operate,
    plain,
    said,
    sealed,
)
from scenario_schema import quirks
from served import SECOND, Ask, World

HIDDEN: Final = {
    "lost-race-is-500": "a sandbox handles one request after the other, so that none loses a race",
    "unknown-dag-is-asked-for-without-end": "agents of a sandbox do not ask each other",
    "forwarded-pass-loses-its-body": "test_obshell_clusters",
    "foreign-obproxy-id-is-forwarded-too": (
        "what is seen of it is the 404 that comes first; the second answer would be another agent's"
    ),
}
"""Quirks that no answer shows, each with the reason."""

FAILED_AT = 10
FAILS_AGAIN = INIT.replace("rollback]}", "rollback], sub_tasks: {ends: FAILED}}")
UNMAINTAINED = INIT.replace("maintenance: global", "maintenance: none")
RETRY = b'{"operator": "RETRY"}'


Act = Callable[[Ask, World], Any]


class Shown(NamedTuple):
    """A request, and what it is answered with the quirk, and without."""

    act: Act
    on: Any
    off: Any
    text: str = INIT
    is_guarded: bool = False


# --- what is asked, and what is looked at ---------------------------------------------------------


def refusal_of(answer: httpx.Response) -> Any:
    """Status, errCode and message, and the code if there is one; the data of what is no error."""
    if answer.is_success:
        return answer.status_code, answer.json().get("data")
    code = answer.json()["error"].get("code")
    return (*said(answer), code) if code is not None else said(answer)


def get(path: str) -> Act:
    return lambda ask, _: refusal_of(ask("GET", f"{TASK}/{path}"))


def post(path: str, body: str) -> Act:
    return lambda ask, _: refusal_of(ask("POST", f"{TASK}/{path}", content=body))


def get_node_without_details(ask: Ask, _: World) -> Any:
    """What the node's route answers; and where it answers a node, only what is null in it."""
    answer = ask("GET", f"{NODE}?show_details=false")
    if not answer.is_success:
        return said(answer)
    return [key for key, value in answer.json()["data"].items() if value is None]


def panic(ask: Ask, _: World) -> Any:
    """When a panic says it happened, and whose trace id it has."""
    body = ask("GET", f"{DAG}?show_details=maybe", headers={"X-OBSHELL-Trace-ID": "mine"}).json()
    return body["timestamp"], body["traceId"]


def count_trace_id(ask: Ask, _: World) -> int:
    return len(ask("GET", "/api/v1/status").json()["traceId"])


def send_cut_body(ask: Ask, _: World) -> Any:
    cut = client.base64_text(client.ciphertext(RETRY)[:-1]).encode()
    return refusal_of(sealed(ask, "POST", DAG, body=cut))


def roll_back_again(ask: Ask, sandbox: World) -> Any:
    """Rolls back once more a dag whose rollback was cancelled while it ran."""
    operate(ask, DAG, "ROLLBACK")
    sandbox.advance(SECOND)
    assert operate(ask, DAG, "CANCEL").status_code == 200
    sandbox.advance(60 * SECOND)
    assert ask("GET", DAG).json()["data"]["state"] == "FAILED"
    return refusal_of(operate(ask, DAG, "ROLLBACK"))


# --- the table ------------------------------------------------------------------------------------

REQUIRED = "Bind JSON failed: Key: '{}.Operator' Error:Field validation for 'Operator' failed on the 'required' tag"
CUT = "Unauthorized: Decrypted string length is not a multiple of the block size"
NO_HEADER = "X-OCS-Agent-Header or X-OCS-Header not found in http request header"

SHOWN: Final[dict[str, Shown]] = {
    "refusal-is-never-sent": Shown(
        get("dags/ob"),
        (500, "Common.Unexpected", "Unexpected error: ocsagent cannot build response body"),
        (400, "Agent.Identify.NotSupportOperation",
         "'127.0.0.1:2886' is 'MASTER', instead of 'CLUSTER AGENT', "
         "does not support this operation"),
    ),
    "never-maintained-is-500": Shown(
        get("dag/maintain/agents"), PANIC, (200, {"contents": []}), UNMAINTAINED
    ),
    "unreachable-owner-is-500": Shown(
        get(f"dag/{FOREIGN}4"),
        (500, "Common.Unexpected",
         f'Get "http://10.0.0.2:2886{TASK}/dag/{FOREIGN}4": '
         "dial tcp 10.0.0.2:2886: connect: connection refused"),
        NOT_FOUND,
    ),
    "body-id-overrules-path": Shown(
        post(f"dag/{LOCAL}4", f'{{"operator": "RETRY", "id": "{LOCAL}5"}}'),
        (404, "Task.NotFound", "Task not found: dag id not match"),
        (200, None),
    ),
    "node-without-details-is-500": Shown(
        get_node_without_details, PANIC, ["additional_data", "sub_tasks"]
    ),
    "logs-of-nothing-are-empty": Shown(
        get(f"sub_task/{LOCAL}9/logs"), (200, {"contents": []}), NOT_FOUND
    ),
    "status-has-no-trace-id": Shown(count_trace_id, 0, 16),
    "unheld-cluster-id-is-500": Shown(get("dag/11"), NOT_HELD, NOT_FOUND),
    "unreadable-show-details-is-500": Shown(
        get(f"dag/{LOCAL}4?show_details=maybe"),
        PANIC,
        (400, "Common.IllegalArgument",
         'Illegal argument: strconv.ParseBool: parsing "maybe": invalid syntax'),
    ),
    "body-that-is-no-object-is-eof": Shown(
        post(f"dag/{LOCAL}4", "[]"),
        (400, "Common.BindJsonFailed", "Bind JSON failed: EOF"),
        (400, "Common.BindJsonFailed",
         "Bind JSON failed: json: cannot unmarshal array into Go value of type task.DagOperator"),
    ),
    "node-body-says-dag-operator": Shown(
        post(f"node/{LOCAL}402", "{}"),
        (400, "Common.BindJsonFailed", REQUIRED.format("DagOperator")),
        (400, "Common.BindJsonFailed", REQUIRED.format("NodeOperator")),
    ),
    "missing-header-is-400": Shown(
        get(f"dag/{LOCAL}4"),
        (400, "Request.Header.NotFound", NO_HEADER),
        (401, "Request.Header.NotFound", NO_HEADER, 10008),
        is_guarded=True,
    ),
    "no-oceanbase-is-500": Shown(
        get("dag/maintain/ob"),
        (500, "Agent.OceanBase.NotHold", "Agent is not holding OceanBase"),
        (404, "Task.NotFound", "Task not found: Cluster is not under maintenance"),
    ),
    "undecryptable-body-is-500": Shown(
        send_cut_body,
        (500, "Request.Body.Decrypt.AES.ContentLength.Invalid", CUT),
        (401, "Request.Body.Decrypt.AES.ContentLength.Invalid", CUT, 1),
        is_guarded=True,
    ),
    "panic-is-dated-at-start": Shown(
        panic, ("2021-08-25T07:09:31.74Z", ""), ("2021-08-25T07:09:41.74Z", "mine")
    ),
    "cancelled-rollback-is-stuck": Shown(
        roll_back_again,
        (500, "Common.Unexpected", "Unexpected error: failed to set dag rollback: no node failed"),
        (200, None),
        FAILS_AGAIN,
    ),
}  # fmt: skip


def seen(shown: Shown, *, off: str = "") -> Any:
    """What a request is answered, ten seconds after the start."""
    sandbox = World(f"{shown.text}\nswitches: {{quirks_off: [{off}]}}")
    ask = (guarded if shown.is_guarded else plain)(sandbox)
    sandbox.advance(FAILED_AT * SECOND)
    return shown.act(ask, sandbox)


# --- the tests ------------------------------------------------------------------------------------


def named_in(node: Any) -> Iterator[str]:
    """The names of all quirks in a contract."""
    if isinstance(node, dict):
        yield from (quirk["name"] for quirk in node.get("x-quirk", ()))
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            yield from named_in(each)


def test_every_quirk_of_the_contract_is_shown_here_or_named() -> None:
    tested = {*SHOWN, *HIDDEN}

    assert tested == set(quirks()) == set(named_in(ContractFile("obshell").document))


@pytest.mark.parametrize("name", SHOWN)
def test_a_quirk_shows(name: str) -> None:
    assert seen(SHOWN[name]) == SHOWN[name].on


@pytest.mark.parametrize("name", SHOWN)
def test_a_quirk_that_is_switched_off_does_not_show(name: str) -> None:
    assert seen(SHOWN[name], off=name) == SHOWN[name].off


@pytest.mark.parametrize("name", SHOWN)
def test_switching_off_all_the_others_leaves_a_quirk(name: str) -> None:
    # A panic is dated as panics are, whatever its reason; so the quirks of both are kept.
    others = set(quirks()) - {name, "panic-is-dated-at-start", "unreadable-show-details-is-500"}

    assert seen(SHOWN[name], off=", ".join(sorted(others))) == SHOWN[name].on


@pytest.mark.parametrize("name", SHOWN)
def test_with_all_quirks_off_none_shows(name: str) -> None:
    assert seen(SHOWN[name], off="all") != SHOWN[name].on


@pytest.mark.parametrize("name", HIDDEN)
def test_a_hidden_quirk_changes_no_answer(name: str) -> None:
    requests = [
        get(f"dag/4{FOREIGN[1:]}4"),
        get(f"dag/{FOREIGN}4"),
        post(f"node/4{FOREIGN[1:]}4", '{"operator": "PASS"}'),
        post(f"dag/{LOCAL}4", '{"operator": "RETRY"}'),
        post(f"node/{LOCAL}402", '{"operator": "PASS"}'),
    ]

    answers = [[seen(Shown(request, None, None), off=off) for request in requests] for off in ("", name)]

    assert answers[0] == answers[1]


def test_an_answer_that_needs_no_quirk_is_the_same_without_them() -> None:
    paths = [f"dag/{LOCAL}4", f"node/{LOCAL}401", LOGS.removeprefix(f"{TASK}/"), "dags/agent",
             f"dag/{LOCAL}9", "dag/abc", "dag/maintain/agent", "dag/agent/main_dags"]  # fmt: skip

    for path in paths:
        assert seen(Shown(get(path), 0, 0)) == seen(Shown(get(path), 0, 0), off="all")
