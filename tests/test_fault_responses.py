"""The responses that faults send in place of the API's own: any status, headers, bodies, errors, and changed values.

Over HTTP, as a client in front of a proxy, a gateway or a limiter sees them.
"""

from __future__ import annotations

from typing import Any, Final

import httpx
import pytest
import yaml

from obshell_world import INIT
from oceanmock.errors import InputError
from served import REINSTALL, SECOND, Ask, World

TASKS: Final = "/api/v2/tasks/instances"
TASK: Final = f"{TASKS}/35000312"
RETRY: Final = f"{TASK}/subtasks/13000333/retry"
TENANTS: Final = "/api/v2/ob/clusters/1/tenants"
QUOTA: Final = "/api/v2/quota"
DAG: Final = "/api/v1/task/dag/22130706433028864"
PAGE: Final = "<html><body><h1>502 Bad Gateway</h1></body></html>"
SUBMITTING: Final = f"""{REINSTALL}
  - {{name: Create tenant, starts_on: {{path: "/api/v2/ob/clusters/{{id}}/tenants"}}, subtasks: [Check tenant]}}
stubs: [{{path: {QUOTA}, data: {{left: 1}}}}]
"""


def ocp(*faults: dict[str, Any], text: str = SUBMITTING) -> tuple[World, Ask]:
    """Serve tasks, a submit call and a stub with these faults, long after a subtask has failed."""
    world = World(f"{text}\nfaults: {yaml.safe_dump(list(faults), default_flow_style=True, width=10**6)}")
    world.advance(60 * SECOND)
    return world, world.serve()


def obshell(*faults: dict[str, Any], switches: str = "") -> Ask:
    """Serve a failed dag with these faults."""
    faults_text = yaml.safe_dump(list(faults), default_flow_style=True, width=10**6)
    world = World(f"{INIT}\n{switches}\nfaults: {faults_text}")
    world.advance(60 * SECOND)
    return world.serve(auth=False)


def refusal(**fault: Any) -> str:
    """Return why a fault is refused when it is added."""
    world, _ = ocp()
    with pytest.raises(InputError) as refused:
        world.sandbox.faults.add(**fault)
    return str(refused.value)


# --- status ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 202, 204, 301, 304, 399])
def test_a_status_below_400_has_no_body(status: int) -> None:
    _, ask = ocp({"status": status})

    answer = ask("GET", TASK)

    assert (answer.status_code, answer.content) == (status, b"")
    assert "content-type" not in answer.headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_leads_where_its_header_says(status: int) -> None:
    _, ask = ocp({"status": status, "headers": {"Location": TASKS}, "operation": "getTaskInstance"})

    answer = ask("GET", TASK)

    assert (answer.status_code, answer.headers["location"]) == (status, TASKS)
    assert ask("GET", TASK, follow_redirects=True).json()["data"]["contents"]


def test_a_status_below_400_is_no_operation_that_happened() -> None:
    _, ask = ocp({"status": 202, "operation": "retrySubtask", "calls": 1})

    assert [ask("POST", RETRY).status_code for _ in range(3)] == [202, 200, 400]


# --- headers --------------------------------------------------------------------------------------


def test_headers_are_sent_with_an_error_of_the_api() -> None:
    _, ask = ocp({"status": 429, "headers": {"Retry-After": "7", "RateLimit-Limit": "3"}})

    answer = ask("GET", TASK)

    assert (answer.headers["retry-after"], answer.json()["status"]) == ("7", 429)
    assert answer.headers.get_list("ratelimit-limit") == ["3"]


def test_headers_are_sent_with_the_response_of_an_operation() -> None:
    _, ask = ocp({"operation": "getTaskInstance", "headers": {"Warning": "110", "content-type": "text/json"}})

    answer = ask("GET", TASK)

    assert (answer.headers["warning"], answer.headers.get_list("content-type")) == ("110", ["text/json"])
    assert answer.json()["data"]["id"] == 35000312


# --- bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status", "content_type", "text"),
    [
        ({"status": 502, "body": PAGE}, 502, "text/html; charset=utf-8", PAGE),
        ({"status": 503, "body": "no healthy upstream: é"}, 503, "text/plain; charset=utf-8", "no healthy upstream: é"),
        ({"body": {"code": 7, "what": ["é"]}}, 200, "application/json", '{"code":7,"what":["é"]}'),
        ({"body": []}, 200, "application/json", "[]"),
        ({"body": {}}, 200, "application/json", "{}"),
        ({"body": "", "status": 401}, 401, "text/plain; charset=utf-8", ""),
        ({"body": PAGE, "headers": {"Content-Type": "text/x"}}, 200, "text/x", PAGE),
        ({"body": PAGE, "content_type": "text/y"}, 200, "text/y", PAGE),
    ],
)
def test_a_body_is_sent_with_a_content_type_that_fits(
    fault: dict[str, Any], status: int, content_type: str, text: str
) -> None:
    _, ask = ocp(fault)

    answer = ask("GET", TASK)

    assert (answer.status_code, answer.text) == (status, text)
    assert answer.headers.get_list("content-type") == [content_type]
    assert answer.headers["content-length"] == str(len(answer.content))


def test_a_body_of_its_own_has_no_header_of_the_api() -> None:
    _, ask = ocp({"status": 429, "body": PAGE})

    assert "ratelimit-limit" not in ask("GET", TASK).headers


def test_a_head_request_gets_the_headers_of_a_body() -> None:
    _, ask = ocp({"status": 502, "body": PAGE})

    answer = ask("HEAD", TASK)

    assert (answer.status_code, answer.content) == (502, b"")


@pytest.mark.parametrize("fault", [{"delay": "1ms"}, {"status": 503}, {"empty": True}])
def test_a_head_request_gets_the_length_of_what_get_gets(fault: dict[str, Any]) -> None:
    _, ask = ocp(fault)

    one, other = (ask(method, TASK).headers["content-length"] for method in ("HEAD", "GET"))

    assert one == other


def test_a_body_replaces_that_of_an_operation_that_happened() -> None:
    world, ask = ocp({"status": 504, "body": PAGE, "operation": "retrySubtask", "still_executes": True, "name": "late"})

    assert ask("POST", RETRY).text == PAGE
    assert ask("GET", TASK).json()["data"]["status"] == "RUNNING"
    entry = next(entry for entry in world.sandbox.journal if entry.fault)
    assert (entry.fault, entry.status, entry.response_body) == ("late", 504, PAGE)


def test_a_body_that_the_fault_sends_can_be_malformed() -> None:
    _, ask = ocp({"body": {"a": 1}, "malformed": True})

    assert ask("GET", TASK).text == '{"a":1'


@pytest.mark.parametrize(("method", "path"), [("POST", TENANTS), ("GET", QUOTA)], ids=["a submit call", "a stub"])
def test_a_body_replaces_the_response_to_any_call(method: str, path: str) -> None:
    world, ask = ocp({"status": 502, "body": PAGE, "calls": 1})

    first, second = (ask(method, path, json={}) for _ in range(2))

    assert (first.status_code, first.text, second.status_code) == (502, PAGE, 200)
    assert [entry.fault for entry in world.sandbox.journal] == ["fault 1", ""]
    assert len(world.sandbox.rows()) == (2 if method == "POST" else 1)


# --- errors of the API ----------------------------------------------------------------------------


@pytest.mark.parametrize("carries_out", [True, False])
def test_an_error_of_ocp_has_a_number_and_a_message(carries_out: bool) -> None:
    _, ask = ocp({"status": 409, "error_code": 20003, "error_message": "Locked.", "still_executes": carries_out})

    answer = ask("GET", TASK)

    assert answer.status_code == answer.json()["status"] == 409
    assert answer.json()["error"] == {"code": 20003, "message": "Locked."}
    assert answer.json()["successful"] is False


def test_an_error_of_obshell_has_an_err_code_and_a_message() -> None:
    ask = obshell({"status": 400, "error_code": "Task.Dag.Locked", "error_message": "Locked."})

    answer = ask("GET", DAG)

    assert answer.status_code == answer.json()["status"] == 400
    assert answer.json()["error"] == {"errCode": "Task.Dag.Locked", "message": "Locked."}


def test_an_error_of_an_old_obshell_has_a_number() -> None:
    switches = "switches: {obshell_version: 4.2.3.0}"
    ask = obshell({"status": 400, "error_code": 2300, "error_message": "Locked."}, switches=switches)

    answer = ask("GET", DAG)

    assert (answer.status_code, answer.json()["error"]) == (400, {"code": 2300, "message": "Locked."})


@pytest.mark.parametrize("fault", [{"error_code": 20003}, {"error_message": "Locked."}])
def test_an_error_without_a_status_is_a_500(fault: dict[str, Any]) -> None:
    _, ask = ocp(fault)

    answer = ask("POST", RETRY)

    assert answer.status_code == answer.json()["status"] == 500
    assert answer.json()["error"].items() >= {key.removeprefix("error_"): value for key, value in fault.items()}.items()
    assert ask("GET", QUOTA).status_code == 500


# --- changed values -------------------------------------------------------------------------------


def test_values_are_set_dropped_and_retyped_on_the_real_response() -> None:
    changes = {"data.status": "BROKEN", "data.subtasks.*.name": {"is": [1]}, "data.extra": None, "data.no.such": 1}
    fault = {"set": changes, "drop": "data.subtasks.0", "change_type": ["data.id", "data.subtasks.0.name"]}
    _, ask = ocp({"operation": "getTaskInstance", **fault})

    answer = ask("GET", TASK)

    data = answer.json()["data"]
    assert (data["status"], data["extra"], data["id"], answer.json()["status"]) == ("BROKEN", None, "35000312", 200)
    assert [each["name"] for each in data["subtasks"]] == ['{"is":[1]}', {"is": [1]}, {"is": [1]}]
    assert "no" not in data
    assert answer.headers["content-length"] == str(len(answer.content))


def test_a_path_may_have_a_position_in_brackets() -> None:
    changes = {
        "set": {"data.subtasks[0].name": "First"},
        "drop": "data.subtasks[1]",
        "change_type": "data.subtasks[*].id",
    }
    _, ask = ocp({"operation": "getTaskInstance", **changes})

    parts = ask("GET", TASK).json()["data"]["subtasks"]

    assert parts[0]["name"] == "First"
    assert [type(part["id"]) for part in parts] == [str] * 3


def test_values_are_set_anew_in_each_response() -> None:
    _, ask = ocp({"operation": "getTaskInstance", "set": {"data.x": {"y": 7}}, "change_type": "data.x.y"})

    assert [ask("GET", TASK).json()["data"]["x"] for _ in range(2)] == [{"y": "7"}] * 2


def test_values_of_an_error_of_the_api_can_be_set() -> None:
    _, ask = ocp({"status": 503, "set": {"error.message": "later"}})

    assert ask("GET", TASK).json()["error"]["message"] == "later"


@pytest.mark.parametrize(("method", "path"), [("POST", TENANTS), ("GET", QUOTA)], ids=["a submit call", "a stub"])
def test_values_are_set_in_the_response_to_any_call(method: str, path: str) -> None:
    _, ask = ocp({"set": {"data.id": 7}, "still_executes": True})

    assert ask(method, path, json={}).json()["data"]["id"] == 7


def test_no_value_is_set_in_a_body_that_is_no_json() -> None:
    _, ask = ocp(
        {"set": {"data": 1}, "still_executes": True}, text=f"{REINSTALL}\nstubs: [{{path: {QUOTA}, body: up}}]"
    )

    assert ask("GET", QUOTA).text == "up"


# --- contradictions -------------------------------------------------------------------------------

ONE: Final = "Leave one of them out."
REFUSED: Final = {
    "a value of a body of its own": (
        {"body": "x", "set": {"a": 1}},
        f"fault 1 has `set` beside `body`, with which the response has nothing of the API's own [bad-fault]\n  {ONE}",
    ),
    "an error in a body of its own": (
        {"body": "x", "error_code": 1},
        "fault 1 has `error_code` beside `body`, with which the response has nothing of the API's own [bad-fault]\n"
        f"  {ONE}",
    ),
    "a body of nothing": (
        {"body": "x", "empty": True},
        f"fault 1 has `body` beside `empty`, with which there is no body [bad-fault]\n  {ONE}",
    ),
    "headers of nothing": (
        {"headers": {"X": "y"}, "reset": True},
        f"fault 1 has `headers` beside `reset`, with which there is no response [bad-fault]\n  {ONE}",
    ),
    "a body that HTTP does not have": (
        {"body": "x", "status": 204},
        f"fault 1 has `body` beside status 204, with which there is no body [bad-fault]\n  {ONE}",
    ),
    "an error that is none": (
        {"error_message": "x", "status": 302},
        f"fault 1 has `error_message` beside status 302, with which there is no error [bad-fault]\n  {ONE}",
    ),
    "a body that is a number": ({"body": 7}, "`body` of fault 1 is 7, which is no text, mapping or list [bad-body]"),
    "a number that no server sends": (
        {"body": {"a": 2**63}},
        "`body` of fault 1 is a mapping, which holds a number beyond 2^63 [bad-data]",
    ),
    "a header of the server": (
        {"headers": {"Content-Length": "7"}},
        "`Content-Length` of `headers` of fault 1 is 'Content-Length', which is a header that the server sets itself "
        "[bad-header]",
    ),
    "a header in two lines": (
        {"headers": {"X": "y\nz"}},
        r"`X` of `headers` of fault 1 is 'y\nz'; it should be of the form ^[ -~]*$ [out-of-range]",
    ),
    "a code of the other API": (
        {"api": "ocp", "error_code": "Task.NotFound"},
        "`error_code` of fault 1 is 'Task.NotFound'; it should be a whole number [wrong-type]",
    ),
    "a code that is none": (
        {"api": "obshell", "error_code": [1]},
        "`error_code` of fault 1 is a list, which is neither an errCode such as Task.NotFound nor a number [bad-code]",
    ),
    "a changed response of what changes something": (
        {"headers": {"X": "y"}, "operation": "retryTask"},
        "`headers` changes the response of an executed operation, and retryTask changes something [unsaid-change]\n"
        "  Say `still_executes: true`.",
    ),
}


@pytest.mark.parametrize(("fault", "message"), REFUSED.values(), ids=REFUSED)
def test_a_contradiction_is_refused_with_a_hint(fault: dict[str, Any], message: str) -> None:
    assert message in refusal(**fault)


def test_a_number_in_place_of_a_header_s_text_is_explained() -> None:
    assert 'Put it in quotes: "7".' in refusal(status=503, headers={"Retry-After": 7})


def test_a_fault_is_listed_as_it_was_added() -> None:
    fault: dict[str, Any] = {"status": 302, "headers": {"Location": "/"}, "body": {"a": [1]}}
    world, ask = ocp()

    added = world.sandbox.faults.add(**fault)

    assert added.json()["fault"] == fault
    assert isinstance(ask("GET", TASK), httpx.Response)
    assert added.affected == 1
