"""Stubs: calls beside the task routes, which a scenario answers, as clients see them over HTTP.

What `stubs` may say, and what is said of mistakes, is at the end.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from obshell import OBShellHandleError

from golden import assert_golden
from in_process import asking, sandbox_of
from obshell_client import opened_body, sealed_body
from obshell_sdk import served
from obshell_world import said, sealed
from oceanmock import Mock, Obshell
from oceanmock.errors import ScenarioError
from oceanmock.http.app import create_app
from oceanmock.library import read_scenario
from served import SECOND, Ask, World, client, load_yaml, server

OVERVIEW: Final = "/api/v1/tenant/t1/backup/overview"
LIBRARY: Final = Path(__file__).parents[1] / "scenarios"
OBSHELL: Final = """
summary: A dag, and calls beside it
api: obshell
progression: manual
dags:
  - {name: Backup, starts_on: {path: "/api/v1/tenant/{name}/backup"}, nodes: [One, Two, Three]}
stubs:
"""
OCP: Final = """
summary: A task, and calls beside it
api: ocp
progression: manual
tasks:
  - {id: 1000, name: Create tenant, subtasks: [{id: 7, name: Create}]}
stubs:
"""


def obshell(stubs: str, more: str = "", **options: Any) -> tuple[World, Ask]:
    """Return a world with these stubs, and a function that asks it without credentials."""
    world = World(f"{OBSHELL}{stubs}\n{more}", **options)
    return world, world.serve(auth=False)


def ocp(stubs: str, more: str = "") -> tuple[World, Ask]:
    """Return a world with these stubs, and a function that asks it as a manager."""
    world = World(f"{OCP}{stubs}\n{more}")
    return world, world.serve()


def data(answer: httpx.Response) -> Any:
    """Return the data of a successful answer."""
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


# --- which requests -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stub", "fitting", "others"),
    [
        ("{path: /api/v1/x}", {}, {"path": "/api/v1/x/y"}),
        ("{path: '/api/v1/x/{id}'}", {"path": "/api/v1/x/1"}, {"path": "/api/v1/x"}),
        ("{path: /api/v1/x, method: POST}", {"method": "POST"}, {"method": "PUT"}),
        ("{path: /api/v1/x, matches: {query: {page: 1}}}", {"params": {"page": "1"}}, {"params": {"page": "2"}}),
        ("{path: /api/v1/x, matches: {query: {page: null}}}", {}, {"params": {"page": ""}}),
        ("{path: /api/v1/x, matches: {query: {q: {regex: '^a+$'}}}}", {"params": {"q": "aa"}}, {"params": {"q": "ab"}}),
        ("{path: /api/v1/x, matches: {headers: {X-One: a}}}", {"headers": {"x-one": "a"}}, {"headers": {"x-one": "b"}}),
        (
            "{path: /api/v1/x, method: POST, matches: {body: {a: {b: [1]}}}}",
            {"method": "POST", "json": {"a": {"b": [1], "c": 2}}},
            {"method": "POST", "json": {"a": {"b": [1, 2]}}},
        ),
        (
            "{path: /api/v1/x, method: POST, matches: {values: {'zones[1].name': zone2}}}",
            {"method": "POST", "json": {"zones": [{}, {"name": "zone2"}]}},
            {"method": "POST", "json": {"zones": [{"name": "zone2"}]}},
        ),
        (
            "{path: /api/v1/x, method: POST, matches: {values: {n: {regex: '^[12]$'}}}}",
            {"method": "POST", "json": {"n": 2}},
            {"method": "POST", "content": b"no JSON"},
        ),
    ],
    ids=str,
)
def test_a_stub_answers_what_it_matches(stub: str, fitting: dict[str, Any], others: dict[str, Any]) -> None:
    _, ask = obshell(f"  - {stub}")

    answers = [ask(**({"method": "GET", "path": "/api/v1/x"} | request)) for request in (fitting, others)]

    assert [answer.status_code for answer in answers] == [200, 404]


def test_a_regular_expression_has_no_text_beyond_its_bound() -> None:
    _, ask = obshell("  - {path: /api/v1/x, method: POST, matches: {values: {a: {regex: '(x+x+)+y'}}}}")

    answers = [ask("POST", "/api/v1/x", json={"a": "x" * length + "y"}) for length in (4095, 4096)]

    assert [answer.status_code for answer in answers] == [200, 404]


def test_the_first_that_fits_answers() -> None:
    _, ask = obshell("  - {path: /api/v1/x, matches: {query: {a: b}}, data: one}\n  - {path: /api/v1/x, data: two}")

    assert [data(ask("GET", path)) for path in ("/api/v1/x?a=b", "/api/v1/x")] == ["one", "two"]


def test_a_stub_answers_so_many_times_and_is_reset_with_the_sandbox() -> None:
    world, ask = obshell("  - {path: /api/v1/x, times: 2, data: one}\n  - {path: /api/v1/x, data: two}")

    answers = [data(ask("GET", "/api/v1/x")) for _ in range(3)]
    world.sandbox.reset()

    assert [*answers, data(ask("GET", "/api/v1/x"))] == ["one", "one", "two", "one"]


def test_a_stub_answers_before_a_dag_is_started() -> None:
    refused = '{method: POST, path: "/api/v1/tenant/{name}/backup", times: 1, status: 500, error: {errCode: Busy}}'
    _, ask = obshell(f"  - {refused}")

    answers = [ask("POST", "/api/v1/tenant/t1/backup", json={}) for _ in range(2)]

    assert [answers[0].json()["error"], data(answers[1])["name"]] == [{"errCode": "Busy"}, "Backup"]


def test_ocp_answers_head_and_a_trailing_slash_as_it_does_elsewhere() -> None:
    _, ask = ocp("  - {path: /api/v2/x, data: {a: 1}}")

    assert data(ask("GET", "/api/v2/x/")) == {"a": 1}
    head = ask("HEAD", "/api/v2/x")
    assert (head.status_code, head.content) == (200, b"")
    assert data(ask("GET", "/api/v2/x")) == {"a": 1}  # on the same connection


def test_stubs_of_scenarios_that_are_loaded_later_come_behind() -> None:
    world, ask = obshell("  - {path: /api/v1/x, times: 1, data: one}")
    first = data(ask("GET", "/api/v1/x"))

    world.sandbox.load({**read_dict("  - {path: /api/v1/x, data: two}"), "dags": [{"nodes": ["One"]}]})

    assert [first, data(ask("GET", "/api/v1/x"))] == ["one", "two"]


def read_dict(stubs: str) -> dict[str, Any]:
    """Return a scenario of these stubs as a mapping."""
    result: dict[str, Any] = load_yaml(f"{OBSHELL}{stubs}")
    return result


# --- the response ---------------------------------------------------------------------------------


def test_data_is_in_the_envelope_of_obshell() -> None:
    _, ask = obshell("  - {path: /api/v1/x, data: {a: 1}}")

    answer = ask("GET", "/api/v1/x", headers={"X-OBSHELL-Trace-ID": "mine"})

    assert answer.json() == {
        "successful": True,
        "timestamp": "2021-08-25T07:09:31.74Z",
        "duration": 0,
        "status": 200,
        "traceId": "mine",
        "data": {"a": 1},
    }


def test_an_error_is_in_the_envelope_of_ocp() -> None:
    _, ask = ocp("  - {path: /api/v2/x, status: 409, error: {code: 20005, message: taken}}")

    answer = ask("GET", "/api/v2/x", headers={"x-trace-id": "mine"})

    body = answer.json()
    assert (answer.status_code, body.pop("server")) == (409, "192.0.2.123")
    assert body == {
        "duration": 0,
        "error": {"code": 20005, "message": "taken"},
        "status": 409,
        "successful": False,
        "timestamp": "2021-08-25T15:09:31.74+08:00",
        "traceId": "mine",
    }


@pytest.mark.parametrize(
    ("response", "content", "media_type"),
    [
        ("body: {a: 1}", b'{"a":1}', "application/json"),
        ("body: hello", b"hello", "text/plain; charset=utf-8"),
        ("body: <a/>, headers: {Content-Type: text/xml}", b"<a/>", "text/xml"),
        ("body: null", b"null", "application/json"),
        ("status: 204", b"", None),
    ],
)
def test_a_body_of_its_own_has_no_envelope(response: str, content: bytes, media_type: str | None) -> None:
    _, ask = obshell(f"  - {{path: /api/v1/x, {response}}}")

    answer = ask("GET", "/api/v1/x")

    assert (answer.content, answer.headers.get("content-type")) == (content, media_type)


@pytest.mark.parametrize(
    "response", ["status: 204", "data: 1}\nfaults:\n  - {stub: stub 1, status: 304, malformed: true"]
)
def test_a_response_without_a_body_has_no_length(response: str) -> None:
    _, ask = obshell(f"  - {{path: /api/v1/x, {response}}}")

    answers = [ask("GET", "/api/v1/x") for _ in range(2)]

    assert [(answer.content, "content-length" in answer.headers) for answer in answers] == [(b"", False)] * 2


def test_data_may_be_null_or_left_out() -> None:
    _, ask = obshell("  - {path: /api/v1/x, data: null}\n  - {path: /api/v1/y}")

    assert [ask("GET", f"/api/v1/{path}").json().get("data", "none") for path in "xy"] == [None, "none"]


@pytest.mark.parametrize(
    ("placeholder", "value"),
    [
        ("{path.id}", "z 1"),
        ("{query.x}", "1"),
        ("{headers.x-one}", "two"),
        ("{headers.X-One}, in any case", "two, in any case"),
        ("{body.zone_list[0].name}", "zone1"),
        ("{body.zone_list}", [{"name": "zone1", "cpu": 4}]),
        ("{body.zone_list[0].cpu}", 4),
        ("{body.zone_list[1].name}", None),
        ("{body.none}", None),
        ("cpu: {body.zone_list[0].cpu}, {body.zone_list[0]}", 'cpu: 4, {"name": "zone1", "cpu": 4}'),
        ("{now}", "2021-08-25T07:09:31.74Z"),
        ("{{path.id}} stays, {no placeholder} too", "{path.id} stays, {no placeholder} too"),
    ],
)
def test_placeholders_stand_for_values_of_the_request(placeholder: str, value: Any) -> None:
    _, ask = obshell(f"  - {{method: POST, path: '/api/v1/x/{{id}}', data: {{a: ['{placeholder}']}}}}")
    request = {"params": {"x": "1"}, "headers": {"X-One": "two"}}

    answer = ask("POST", "/api/v1/x/z%201", json={"zone_list": [{"name": "zone1", "cpu": 4}]}, **request)

    assert data(answer) == {"a": [value]}


def test_a_header_cannot_be_broken_by_a_request() -> None:
    _, ask = obshell("  - {path: /api/v1/x, headers: {X-One: 'a {query.x}'}}")

    answer = ask("GET", "/api/v1/x?x=b%0D%0AX-Two:%20é")

    assert (answer.headers["x-one"], "x-two" in answer.headers) == ("a b??X-Two: ?", False)


@pytest.mark.parametrize(("value", "text"), [(7, "7"), (True, "true"), (None, "null"), ({"a": [1]}, '{"a": [1]}')])
def test_a_header_has_other_values_as_json(value: Any, text: str) -> None:
    _, ask = obshell("  - {method: POST, path: /api/v1/x, headers: {X-One: '{body.x}'}}")

    assert ask("POST", "/api/v1/x", json={"x": value}).headers["x-one"] == text


def test_a_response_is_late_by_its_delay() -> None:
    _, ask = obshell("  - {path: /api/v1/x, delay: 10s}")

    with pytest.raises(httpx.ReadTimeout):
        ask("GET", "/api/v1/x", timeout=httpx.Timeout(10, read=0.05))


def test_a_late_response_is_whole() -> None:
    world, ask = obshell("  - {path: /api/v1/x, delay: 1ms, data: 1}")

    assert data(ask("GET", "/api/v1/x")) == 1
    (entry,) = world.sandbox.journal
    assert (entry.stub, entry.fault) == ("stub 1", "")


@pytest.mark.parametrize("body", [b"null", b"[" * 300 + b"]" * 300, b"\xff", b'{"a": ', b'"\\ud800"'], ids=str)
def test_no_body_makes_a_stub_fail(body: bytes) -> None:
    _, ask = obshell("  - {method: POST, path: /api/v1/x, headers: {X-One: '{body}'}, data: ['{body}', 'a {body}']}")

    assert data(ask("POST", "/api/v1/x", content=body)) == [None, "a null"]


# --- conditions -----------------------------------------------------------------------------------

POLLED: Final = """
  - {path: "/api/v1/tenant/{name}/backup/overview", when: {dag: Backup, state: [SUCCEED, FAILED]}, data: "{dag.state}"}
  - {path: "/api/v1/tenant/{name}/backup/overview", when: {dag: Backup, stage: 2-}, data: "stage {dag.stage}"}
  - {path: "/api/v1/tenant/{name}/backup/overview", when: {dag: Backup}, data: "{dag.id}"}
  - {path: "/api/v1/tenant/{name}/backup/overview", data: none yet}
"""


def test_a_condition_on_a_name_with_placeholders_is_on_what_has_that_name_in_the_file() -> None:
    path = "/api/v2/ob/clusters/{id}"
    world = World(f"""
summary: Two tasks whose names begin in the same way
api: ocp
tasks:
  - {{name: "Create {{body.name}}", starts_on: {{path: "{path}/tenants"}}, subtasks: [One]}}
  - {{name: "Create {{body.name}} again", starts_on: {{path: "{path}/zones"}}, subtasks: [One]}}
stubs:
  - {{path: /api/v2/x, when: {{task: "Create {{body.name}}"}}, data: "{{task.name}}"}}
""")
    ask = world.serve()

    for part in ("tenants", "zones"):
        ask("POST", f"/api/v2/ob/clusters/1/{part}", json={"name": "one"})

    assert data(ask("GET", "/api/v2/x")) == "Create one"


def test_a_condition_is_on_the_state_and_the_stage_of_a_dag() -> None:
    world, ask = obshell(POLLED)
    answers = [data(ask("GET", OVERVIEW))]
    id = ask("POST", "/api/v1/tenant/t1/backup", json={}).json()["data"]["id"]

    for span in (0, 3 * SECOND, 2 * SECOND, 10 * SECOND):
        world.advance(span)
        answers.append(data(ask("GET", OVERVIEW)))

    assert answers == ["none yet", id, "stage 2", "stage 3", "SUCCEED"]


def test_of_several_dags_the_one_that_started_last_counts() -> None:
    world, ask = obshell(POLLED)
    ask("POST", "/api/v1/tenant/t1/backup", json={})
    world.advance(60 * SECOND)

    id = ask("POST", "/api/v1/tenant/t1/backup", json={}).json()["data"]["id"]

    assert data(ask("GET", OVERVIEW)) == id


def test_a_client_that_polls_a_stub_moves_a_clock_under_polls() -> None:
    _, ask = obshell(POLLED, progression="polls")
    ask("POST", "/api/v1/tenant/t1/backup", json={})

    answers = [data(ask("GET", OVERVIEW)) for _ in range(10)]

    assert answers[-1] == "SUCCEED"
    assert "stage 2" in answers


def test_a_condition_is_on_a_task_of_ocp() -> None:
    world, ask = ocp(
        "  - {path: /api/v2/x, when: {task: 1000, status: SUCCESSFUL}, data: '{task.subtasks[0].status} {now}'}\n"
        "  - {path: /api/v2/x, when: {task: Create tenant, operation: EXECUTE}, data: '{task.status}'}\n"
    )
    before = data(ask("GET", "/api/v2/x"))

    world.advance(60 * SECOND)

    assert [before, data(ask("GET", "/api/v2/x"))] == ["RUNNING", "SUCCESSFUL 2021-08-25T15:10:31.74+08:00"]


@pytest.mark.parametrize("of", ["", "dag: Old, "])
def test_a_condition_is_on_the_clock(of: str) -> None:
    old = "dags: [{name: Old, age: 5s, nodes: [One]}]"
    text = OBSHELL[: OBSHELL.index("dags:")] + old
    world = World(f"{text}\nstubs: [{{path: /api/v1/x, when: {{{of}after: 10s, before: 20s}}}}]")
    ask, age = world.serve(auth=False), 5 if of else 0
    statuses = []

    for span in (0, 10 - age, 9, 1):
        world.advance(span * SECOND)
        statuses.append(ask("GET", "/api/v1/x").status_code)

    assert statuses == [404, 200, 200, 404]


# --- authentication, faults, journal, explain -----------------------------------------------------


def test_obshell_s_stubs_need_its_header_and_open_the_body() -> None:
    world = World(f"{OBSHELL}  - {{method: POST, path: /api/v1/x, data: '{{body.a}}'}}")
    ask = world.serve()

    assert said(ask("POST", "/api/v1/x", json={"a": 1}))[:2] == (400, "Request.Header.NotFound")
    assert data(sealed(ask, "POST", "/api/v1/x", body=sealed_body(b'{"a": 1}'))) == 1
    assert [entry.stub for entry in world.sandbox.journal] == ["", "", "stub 1"]


@pytest.mark.parametrize(
    ("method", "auth", "status"),
    [
        ("GET", None, 401),
        ("GET", ("viewer", "viewer"), 200),
        ("POST", ("viewer", "viewer"), 403),
        ("POST", ("manager", "manager"), 200),
    ],
)
def test_ocp_s_stubs_need_credentials_and_a_manager_for_more_than_reads(method: str, auth: Any, status: int) -> None:
    _, ask = ocp(f"  - {{method: {method}, path: /api/v2/x}}")

    assert ask(method, "/api/v2/x", auth=auth).status_code == status


def test_a_fault_is_injected_into_the_responses_of_one_stub() -> None:
    world, ask = obshell(
        "  - {name: one, path: /api/v1/x, data: 1, times: 1}\n  - {name: two, path: /api/v1/y, data: 1}",
        "faults: [{stub: one, status: 503, calls: 1}]",
    )

    answers = [ask("GET", path).status_code for path in ("/api/v1/y", "/api/v1/x", "/api/v1/x", "/api/v1/x")]

    assert answers == [200, 503, 200, 404]  # what was not executed is no response of the stub
    entries = [(entry.stub, entry.fault) for entry in world.sandbox.journal]
    assert entries == [("two", ""), ("one", "fault 1"), ("one", ""), ("", "")]


def test_a_fault_and_a_delay_are_both_applied() -> None:
    _, ask = obshell("  - {path: /api/v1/x, delay: 1ms, data: {a: 1, b: 2}}", "faults: [{drop: data.a, stub: stub 1}]")

    assert data(ask("GET", "/api/v1/x")) == {"b": 2}


def test_the_journal_has_the_stub_of_a_request() -> None:
    world, ask = obshell("  - {name: one, path: '/api/v1/x/{id}', status: 404}")
    ask("GET", "/api/v1/x/1")
    ask("GET", "/api/v1/y")

    (entry,) = world.sandbox.journal.all(stub="one")

    assert str(entry) == "GET /api/v1/x/1, answered 404, stub: one"
    world.sandbox.journal.assert_called(stub="one", times=1)


def test_a_request_that_no_stub_answers_finds_in_the_journal_why() -> None:
    world, ask = obshell(
        "  - {name: one, path: /api/v1/x, matches: {query: {a: 1}}}\n"
        "  - {name: two, path: /api/v1/x, matches: {headers: {x-a: b}}}\n"
        "  - {name: three, path: /api/v1/x, matches: {values: {'a[0]': {regex: b}}}}\n"
        "  - {name: four, path: /api/v1/x, when: {dag: Backup, state: SUCCEED}}\n"
        "  - {name: five, path: /api/v1/x, times: 1}\n"
        "  - {name: six, path: /api/v1/x, matches: {body: {a: b}}}\n"
        "  - {name: seven, path: /api/v1/x, when: {after: 5s}}\n"
    )
    ask("GET", "/api/v1/x")

    answer = ask("GET", "/api/v1/x")

    assert said(answer) == (404, "Common.NotFound", "Element not found: 404 not found")
    refusal = world.sandbox.journal.all()[-1].refusal
    assert refusal.split("; ") == [
        "GET /api/v1/x has no response: stub 'one' asks for the query a: 1",
        "stub 'two' asks for the header x-a: \"b\"",
        'stub \'three\' asks for {"regex": "b"} at a[0] of the body',
        "stub 'four' waits for dag 'Backup', which has not been started",
        "stub 'five' has answered 1 request",
        'stub \'six\' asks for a body that has {"a": "b"}',
        "stub 'seven' begins 5s from now.",
    ]


def test_an_unknown_path_is_compared_with_those_of_stubs() -> None:
    world, ask = obshell("  - {path: '/api/v1/tenant/{name}/backup/overview'}")

    ask("GET", "/api/v1/tenant/t1/backup/overveiw")

    (entry,) = world.sandbox.journal
    assert entry.refusal.endswith("The nearest is GET /api/v1/tenant/{name}/backup/overview.")


def test_an_explanation_has_the_stubs_that_are_about_a_dag() -> None:
    world, ask = obshell(POLLED)
    id = ask("POST", "/api/v1/tenant/t1/backup", json={}).json()["data"]["id"]
    assert isinstance(world.sandbox, Obshell)

    assert_golden("explain-obshell-stubs.txt", world.sandbox.dag(id).explain())


# --- a flow of the library ------------------------------------------------------------------------


def test_a_client_backs_up_a_tenant_and_polls_its_overview() -> None:
    with served((LIBRARY / "backup-tenant.yaml").read_text("utf-8")) as mock:
        sdk, statuses = mock.client(), list[str]()
        sdk.start_tenant_backup("t1")
        with pytest.raises(OBShellHandleError, match="no backup task"):
            sdk.get_tenant_backup_overview("t1")

        for seconds in (8, 32):
            mock.later(seconds)
            statuses.append(sdk.get_tenant_backup_overview("t1").status["status"])

    assert statuses == ["DOING", "COMPLETED"]


# --- what is served without a stub ----------------------------------------------------------------

SINGLE: Final = """
summary: An agent that has done nothing yet
api: obshell
progression: manual
agent: {identity: %s}
dags: [{name: Join self, starts_on: {path: /api/v1/agent/join}, nodes: [One]}]
"""
RECORDED: Final = json.loads((Path(__file__).parent / "data/obshell/submits-single.json").read_text("utf-8"))


OF_ITSELF: Final = ("read ob/info", "read agents/status", "read observer/info")
READS: Final = [exchange for exchange in RECORDED["exchanges"] if exchange["label"] in OF_ITSELF]


@pytest.mark.parametrize("exchange", READS, ids=lambda exchange: str(exchange["request"]["target"]))
def test_a_single_agent_answers_what_a_real_one_answered(exchange: dict[str, Any]) -> None:
    ask, expected = World(SINGLE % "SINGLE").serve(auth=False), exchange["response"]["body"]["data"]

    answer = data(ask("GET", exchange["request"]["target"]))

    assert differences(expected, answer) <= {"version", "pid", "startAt", "data_dir", "log_dir"}


def differences(one: Any, other: Any, key: str = "") -> set[str]:
    """Return the keys of the values in which two JSON values differ; {""} where their shapes do."""
    if type(one) is not type(other):
        return {""}
    if isinstance(one, dict):
        shapes = set() if [*one] == [*other] else {""}
        return shapes.union(*(differences(one[name], other.get(name), name) for name in one))
    if isinstance(one, list):
        shapes = set() if len(one) == len(other) else {""}
        return shapes.union(*(differences(*pair, key) for pair in zip(one, other, strict=False)))
    return set() if one == other else {key}


def test_an_agent_of_a_cluster_has_an_observer_in_it() -> None:
    ask = World(SINGLE % "CLUSTER AGENT").serve(auth=False)

    info, observer = data(ask("GET", "/api/v1/ob/info")), data(ask("GET", "/api/v1/observer/info"))
    status = data(ask("GET", "/api/v1/status"))

    (server,) = info["obcluster_info"]["topology"]["zone1"]
    assert (info["agent_info"][0]["identity"], server["agent_port"]) == ("CLUSTER AGENT", 2886)
    assert (observer["ip"], observer["sql_port"], observer["inner_status"]) == (
        "127.0.0.1",
        server["sql_port"],
        "ACTIVE",
    )
    assert [*status][-3:] == ["obState", "sqlPort", "underMaintenance"]  # ob/agent/lib/http/status.go:27-37
    assert status["sqlPort"] == observer["sql_port"]


def test_reads_beside_the_contract_need_the_header_and_give_way_to_stubs() -> None:
    text = (SINGLE % "MASTER") + "stubs: [{path: /api/v1/ob/info, data: mine, times: 1}]"
    guarded, ask = World(text).serve(), World(text).serve(auth=False)

    assert said(guarded("GET", "/api/v1/ob/info"))[:2] == (400, "Request.Header.NotFound")
    answers = [data(ask("GET", "/api/v1/ob/info")) for _ in range(2)]
    assert (answers[0], answers[1]["agent_info"][0]["zone"]) == ("mine", "zone1")


def logged_in() -> tuple[World, Ask, str]:
    """Return an agent of a cluster, a function that asks it, and the id of a session."""
    world = World(SINGLE % "CLUSTER AGENT")
    ask = world.serve()
    sealed_id = data(sealed(ask, "POST", "/api/v1/login"))
    return world, ask, opened_body(sealed_id).decode()


def test_a_login_returns_a_session_that_stands_for_the_password() -> None:
    _, ask, session = logged_in()

    answers = [
        sealed(ask, "GET", "/api/v1/ob/info", auth="", session_id=id, ts=ts)
        for id, ts in ((session, "9999999999"), ("a" * 64, "9999999999"), (session, "1"))
    ]

    assert (len(session), answers[0].status_code) == (64, 200)
    assert [said(answer) for answer in answers[1:]] == [
        (401, "Security.Authentication.SessionInvalid", "Session is invalid"),
        (401, "Security.Authentication.Expired", "Authentication expired"),
    ]


def test_a_session_lasts_half_an_hour_after_its_last_request() -> None:
    now_s = [1_700_000_000]
    ask = asking(create_app(sandbox_of(SINGLE % "CLUSTER AGENT"), wall=lambda: now_s[0] * SECOND))
    session = opened_body(data(sealed(ask, "POST", "/api/v1/login"))).decode()
    errors = []

    for passed_s in (1800, 1800, 1801):
        now_s[0] += passed_s
        answer = sealed(ask, "GET", "/api/v1/ob/info", auth="", session_id=session)
        errors.append(answer.json().get("error", {}).get("message", ""))

    assert errors == ["", "", "Session is expired"]


def test_a_logout_ends_the_session() -> None:
    _, ask, session = logged_in()
    body = sealed_body(json.dumps({"session_id": session}).encode())

    assert sealed(ask, "POST", "/api/v1/logout", body=body, auth="", session_id=session).status_code == 200

    assert sealed(ask, "GET", "/api/v1/ob/info", auth="", session_id=session).status_code == 401


def test_a_session_ends_no_other_session_but_a_password_does() -> None:
    _, ask, session = logged_in()
    other = opened_body(data(sealed(ask, "POST", "/api/v1/login"))).decode()
    statuses = []

    for own in ({"auth": "", "session_id": session}, {}):
        sealed(ask, "POST", "/api/v1/logout", body=sealed_body(json.dumps({"session_id": other}).encode()), **own)
        statuses.append(sealed(ask, "GET", "/api/v1/ob/info", auth="", session_id=other).status_code)

    assert statuses == [200, 401]


def test_a_logout_names_its_session_and_a_login_has_keys() -> None:
    ask = World(SINGLE % "CLUSTER AGENT").serve()

    assert said(sealed(ask, "POST", "/api/v1/logout"))[1:] == (
        "Common.BindJsonFailed",
        "Bind JSON failed: Key: 'LogoutSessionParam.SessionID' Error:Field validation for 'SessionID' failed on the "
        "'required' tag",
    )
    refused = [said(sealed(ask, "POST", "/api/v1/login", keys=keys))[::2] for keys in (b"", b"a" * 15, b"a" * 20)]
    panic = (500, "Unexpected error: Internal Server Error")  # in crypto/cipher, of an IV that is too short
    assert refused == [(500, "AES key and IV size error"), (500, "AES key and IV size error"), panic]


def test_a_session_s_id_is_not_drawn_again_after_a_restart() -> None:
    assert logged_in()[2] != logged_in()[2]


def test_a_session_is_of_one_agent() -> None:
    scenario = load_yaml(SINGLE % "CLUSTER AGENT") | {"agents": [{"identity": "CLUSTER AGENT"}] * 2}
    del scenario["agent"]
    with server().obshell(scenario) as mock:
        one, other = (partial(ask_agent, agent.url) for agent in mock.agents)
        session = opened_body(data(sealed(one, "POST", "/api/v1/login"))).decode()
        statuses = [
            sealed(ask, "GET", "/api/v1/ob/info", auth="", session_id=session).status_code for ask in (one, other)
        ]

    assert statuses == [200, 401]


def ask_agent(url: str, method: str, path: str, **options: Any) -> httpx.Response:
    return client().request(method, f"{url}{path}", **options)


def test_of_tasks_that_repeat_a_stub_is_about_the_one_that_started_last() -> None:
    more = 'when: {task: "Copy {n}"}, data: "{task.id}"'
    task = "  - {id: 1, name: 'Copy {n}', subtasks: [One], age: 1h, repeat: {count: 3, every: 5m}}"
    text = OCP.replace("stubs:", f"{task}\nstubs:")
    ask = World(f"{text}  - {{path: /api/v2/last, {more}}}").serve()

    assert data(ask("GET", "/api/v2/last")) == 3


NAMED: Final = """
summary: Tasks of two clusters and a tenant
api: ocp
progression: manual
tasks:
  - {subtasks: [One], cluster: &one {id: 1, name: one, ob_cluster_id: 10}, tenant: {id: 5, name: t, ob_tenant_id: 1002}}
  - {subtasks: [One], cluster: &two {id: 2, name: two, ob_cluster_id: 20, type: STANDBY}}
  - {subtasks: [One], cluster: *two, repeat: {count: 3}}
"""


@pytest.mark.parametrize("slash", ["", "/"])
def test_ocp_s_time_needs_no_credentials_and_its_information_does(slash: str) -> None:
    ask = World(NAMED).serve()

    time, info = ask("GET", f"/api/v2/time{slash}", auth=None), ask("GET", "/api/v2/info")

    assert (time.text, time.headers["content-type"]) == ("2021-08-25T15:09:31.74+08:00", "text/plain;charset=UTF-8")
    assert info.json()["artifact"] == "ocp-server"
    assert ask("GET", "/api/v2/info", auth=None).status_code == 401


def test_ocp_has_the_clusters_that_its_tasks_name() -> None:
    ask = World(NAMED).serve()

    pages = [data(ask("GET", f"/api/v2/ob/clusters?page={number}&size=1")) for number in (1, 2, 3)]

    contents = [[cluster["id"] for cluster in page["contents"]] for page in pages]
    assert (contents, pages[0]["page"]["totalElements"]) == ([[1], [2], []], 2)
    assert data(ask("GET", "/api/v2/ob/clusters/2")) == {
        "id": 2,
        "name": "two",
        "obClusterId": 20,
        "status": "RUNNING",
        "tenantCount": 0,
        "type": "STANDBY",
    }


def test_ocp_has_the_tenants_that_its_tasks_name() -> None:
    ask = World(NAMED).serve()

    tenant = data(ask("GET", "/api/v2/ob/clusters/1/tenants/5"))

    assert tenant == {
        "clusterId": 1,
        "clusterName": "one",
        "clusterType": "PRIMARY",
        "id": 5,
        "mode": "MYSQL",
        "name": "t",
        "obClusterId": 10,
        "obTenantId": 1002,
        "status": "NORMAL",
    }
    listed = [data(ask("GET", f"/api/v2/ob/clusters/{id}/tenants?page=x"))["contents"] for id in (1, 2)]
    assert listed == [[tenant], []]


@pytest.mark.parametrize("path", ["clusters/3", "clusters/2/tenants/5", "clusters/3/tenants", "clusters/x"])
def test_ocp_has_no_cluster_or_tenant_that_no_task_names(path: str) -> None:
    assert World(NAMED).serve()("GET", f"/api/v2/ob/{path}").status_code == 404


def test_ocp_s_reads_give_way_to_stubs() -> None:
    _, ask = ocp("  - {path: /api/v2/info, body: mine, times: 1}")

    assert [ask("GET", "/api/v2/info").text[:5] for _ in range(2)] == ["mine", '{"art']


# --- mistakes -------------------------------------------------------------------------------------

MISTAKES: Final = {
    "a path of an operation": (
        "{path: '/api/v1/task/dag/{id}'}",
        "x.yaml:7:12: /api/v1/task/dag/{id} belongs to getUnfinishedDags, which responds there itself [wrong-path]",
    ),
    "a path of the other API": (
        "{path: /api/v2/x}",
        "x.yaml:7:12: /api/v2/x is no path of this API [wrong-path]\n  They begin with /api/v1/.",
    ),
    "one before it answers all": (
        "{path: '/api/v1/x/{id}'}\n  - {path: /api/v1/x/y, matches: {query: {a: b}}}",
        "x.yaml:8:5: stub 'stub 2' can never answer: stub 'stub 1' answers all its requests [never-answers]\n"
        "  Put that one behind, or say `when` or how many `times` it answers.",
    ),
    "all that starts a dag": (
        "{method: POST, path: '/api/v1/tenant/{x}/backup'}",
        "x.yaml:5:31: a stub answers all that POST /api/v1/tenant/{name}/backup could mean [never-starts]\n"
        "  Say `when` it answers.",
    ),
    "a stage there is not": (
        "{path: /api/v1/x, when: {dag: Backup, stage: 4-}}",
        "x.yaml:7:50: stub 'stub 1' can never answer: a dag of 3 nodes is never at stage 4- [never-answers]",
    ),
    "a dag there is not": (
        "{path: /api/v1/x, when: {dag: Backpu}}",
        "x.yaml:7:35: there is no dag 'Backpu' in this file [unknown-reference]\n  Did you mean 'Backup'?",
    ),
    "a state there is not": (
        "{path: /api/v1/x, when: {dag: Backup, state: SUCCESSFUL}}",
        "x.yaml:7:50: `state` of `when` of stub 1 is 'SUCCESSFUL', which obshell does not have [unknown-value]\n"
        "  Allowed: READY, RUNNING, FAILED, SUCCEED. Did you mean 'SUCCEED'?",
    ),
    "a state of nothing": (
        "{path: /api/v1/x, when: {state: FAILED}}",
        "x.yaml:7:29: `when` of stub 1 has a `state` without its `dag` [bad-condition]",
    ),
    "a condition that never holds": (
        "{path: /api/v1/x, when: {after: 2s, before: 1s}}",
        "x.yaml:7:29: `when` of stub 1 never holds: `before` is not later than `after` [bad-condition]",
    ),
    "a condition of nothing": (
        "{path: /api/v1/x, when: {}}",
        "x.yaml:7:29: `when` of stub 1 asks for nothing; leave it out [bad-condition]",
    ),
    "a name twice": (
        "{name: one, path: /api/v1/x}\n  - {name: one, path: /api/v1/y}",
        "x.yaml:8:12: stub 1 of this file is already called 'one' [duplicate-name]",
    ),
    "a body beside data": (
        "{path: /api/v1/x, body: a, data: b}",
        "x.yaml:7:5: stub 1 has `data` beside `body` [bad-stub]",
    ),
    "data where there is no body": (
        "{path: /api/v1/x, status: 204, data: b}",
        "x.yaml:7:5: stub 1 has `data` beside status 204 [bad-stub]",
    ),
    "a placeholder of nothing": (
        "{path: /api/v1/x, data: [{a: 'b {qery.x}'}]}",
        "x.yaml:7:5: stub 1 has the placeholder {qery.x}, which stands for nothing. "
        "Allowed: query, headers, body, now. Did you mean 'query'? [bad-placeholder]",
    ),
    "a placeholder of another path": (
        "{path: '/api/v1/x/{id}', headers: {a: '{path.name}'}}",
        "x.yaml:7:5: stub 1 has the placeholder {path.name}, which stands for nothing. Allowed: id. [bad-placeholder]",
    ),
    "a placeholder of a path without variables": (
        "{path: /api/v1/x, data: '{path.id}'}",
        "x.yaml:7:5: stub 1 has the placeholder {path.id}, which stands for nothing. "
        "Allowed: query, headers, body, now. [bad-placeholder]",
    ),
    "a placeholder of no dag": (
        "{path: /api/v1/x, data: '{dag.id}'}",
        "x.yaml:7:5: stub 1 has the placeholder {dag.id}, which stands for nothing. "
        "Allowed: query, headers, body, now. [bad-placeholder]",
    ),
    "a placeholder that no dag has": (
        "{path: /api/v1/x, when: {dag: Backup}, data: '{dag.stat}'}",
        "x.yaml:7:5: stub 1 has the placeholder {dag.stat}, which stands for nothing. Allowed: id, dag_id, name, "
        "stage, max_stage, maintenance_type, maintenance_key, state, operator, start_time, end_time, "
        "additional_data, nodes. Did you mean 'state'? [bad-placeholder]",
    ),
    "no regular expression": (
        "{path: /api/v1/x, matches: {query: {a: {regex: '('}}}}",
        "x.yaml:7:44: `a` of `query` of `matches` is a mapping, which is no regular expression: "
        "error: unclosed group [bad-regex]",
    ),
    "a text that is none": (
        "{path: /api/v1/x, matches: {query: {a: {regx: b}}}}",
        "x.yaml:7:32: `matches` of stub 1 asks for a as something that no text is; write it as it is, or as {regex: …} "
        "[bad-match]",
    ),
    "a path to no value": (
        "{path: /api/v1/x, matches: {values: {'a..b': 1}}}",
        "x.yaml:7:50: `a..b` of `values` of `matches` is 'a..b', which is no path such as zone_list[0].name [bad-path]",
    ),
    "a header of the server": (
        "{path: /api/v1/x, headers: {Content-Length: '1'}}",
        "x.yaml:7:49: `Content-Length` of `headers` of stub 1 is 'Content-Length', "
        "which is a header that the server sets itself [bad-header]",
    ),
    "a number that no server sends": (
        "{path: /api/v1/x, data: 9223372036854775808}",
        "x.yaml:7:29: `data` of stub 1 is 9223372036854775808, which holds a number beyond 2^63 [bad-data]",
    ),
    "a number that JSON does not have": (
        "{path: /api/v1/x, data: {left: .nan}}",
        "x.yaml:7:29: `data` of stub 1 is a mapping, which holds a number that JSON does not have [bad-data]",
    ),
    "a fault of no stub": (
        "{path: /api/v1/x}\nfaults: [{stub: one, status: 500}]",
        "x.yaml:8:17: there is no stub 'one' in this file [unknown-reference]\n  Allowed: stub 1.",
    ),
    "a fault of a stub and an operation": (
        "{path: /api/v1/x}\nfaults: [{stub: stub 1, operation: getDagDetail, status: 500}]",
        "x.yaml:8:17: fault 1 is never injected: a stub responds only beside the operations [never-injected]\n"
        "  Leave the operation and the ids out.",
    ),
}


@pytest.mark.parametrize(("stubs", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_said_with_its_place(stubs: str, expected: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        read_scenario(f"{OBSHELL.lstrip()}  - {stubs}\n", path="x.yaml")

    assert str(refused.value) == expected


def test_a_dag_s_name_with_many_placeholders_is_compared_at_once() -> None:
    name = "{body.a}x{body.b}x{body.c}x{body.d}x!"
    scenario = {
        "summary": "A name that is compared with a long one",
        "api": "obshell",
        "dags": [
            {"name": name, "starts_on": {"path": "/api/v1/start"}, "nodes": ["A"]},
            {"name": "x" * 300, "nodes": ["A"]},
        ],
        "stubs": [{"path": "/api/v1/later", "when": {"dag": name, "state": "SUCCEED"}, "data": {}}],
    }
    with Mock.start() as mock:
        sandbox = mock.obshell(scenario, auth=False)
        response = httpx.get(f"{sandbox.url}/api/v1/later")

    assert response.status_code == 404
