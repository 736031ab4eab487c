"""How obshell reads a request: ids, whose they are, paths, methods, and what nobody should send.

An id of another agent is answered as by an agent that cannot reach it; that nothing is dialled is
tested by letting whoever dials fail.
"""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from obshell_world import (
    DAG,
    FOREIGN,
    LOCAL,
    LOGS,
    NO_MATCH,
    NODE,
    NOT_FOUND,
    SUB_TASK,
    TASK,
    UNKNOWN_PATH,
    failed,
    operate,
    plain,
    said,
    world,
)
from oceanmock.obshell.errors import in_chinese
from served import MAX_BODY_BYTES, SECOND

# --- ids ------------------------------------------------------------------------------------------

ROUTES = ["dag/{}", "node/{}", "sub_task/{}", "sub_task/{}/logs"]
PARSING = "Invalid ID: {}: strconv.ParseInt: parsing {}"


@pytest.mark.parametrize(
    ("id", "message"),
    [
        ("1", "Invalid ID: 1"),
        ("2", "Invalid ID: 2"),
        (LOCAL, f"Invalid ID: {LOCAL}"),
        ("3" + "0" * 44, "Invalid ID: 3" + "0" * 44),
        ("abc", "Invalid ID: abc: invalid generic id"),
        ("6123", "Invalid ID: 6123: invalid generic id"),
        ("2x130706433028864", "Invalid ID: 2x130706433028864: convert id to bigInt failed"),
        ("29999999999028864", "Invalid ID: 29999999999028864: convert id to ip failed"),
        ("2213070643302x864", "Invalid ID: 2213070643302x864: parse port failed"),
        (f"{LOCAL}x", PARSING.format(f"{LOCAL}x", '"x": invalid syntax')),
        (f"{LOCAL}%0a", PARSING.format(f"{LOCAL}\n", r'"\n": invalid syntax')),
        (f"{LOCAL}9223372036854775808",
         PARSING.format(f"{LOCAL}9223372036854775808",
                        '"9223372036854775808": value out of range')),
        ("1x", PARSING.format("1x", '"x": invalid syntax')),
    ],
)  # fmt: skip
def test_a_text_that_is_no_id_is_refused_in_the_server_s_words(id: str, message: str) -> None:
    ask = plain(failed())

    refused = {route: said(ask("GET", f"{TASK}/{route.format(id)}")) for route in ROUTES}

    assert refused == dict.fromkeys(ROUTES, (400, "Task.GenericID.Invalid", message))


@pytest.mark.parametrize("tail", ["04", "+4", "0000000004"])
def test_a_dag_s_id_has_one_spelling(tail: str) -> None:
    ask = plain(failed())

    assert said(ask("GET", f"{TASK}/dag/{LOCAL}{tail}")) == NO_MATCH
    assert said(operate(ask, f"{TASK}/dag/{LOCAL}{tail}", "RETRY")) == NO_MATCH


def test_a_node_s_and_a_sub_task_s_ids_have_many() -> None:
    ask = plain(failed())

    node = ask("GET", f"{TASK}/node/{LOCAL}0402").json()["data"]
    sub_task = ask("GET", f"{TASK}/sub_task/{LOCAL}+40201").json()["data"]

    assert (node["node_id"], sub_task["task_id"]) == (402, 40201)
    assert node["id"] == f"{LOCAL}402"


@pytest.mark.parametrize("tail", ["-1", "0", "9", "9223372036854775807"])
@pytest.mark.parametrize("route", ROUTES[:3])
def test_a_number_that_none_has_is_not_found(route: str, tail: str) -> None:
    answer = plain(failed())("GET", f"{TASK}/{route.format(LOCAL + tail)}")

    assert said(answer) == NOT_FOUND


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (f"dag/4{LOCAL[1:]}4", "dag id not match"),
        (f"node/4{LOCAL[1:]}402", "node type not match"),
        (f"sub_task/4{LOCAL[1:]}40201", "sub task type not match"),
    ],
)
def test_an_id_of_obproxy_does_not_name_what_is_the_agent_s(path: str, why: str) -> None:
    answer = plain(failed())("GET", f"{TASK}/{path}")

    assert said(answer) == (404, "Task.NotFound", f"Task not found: {why}")


def test_the_ids_of_an_obproxy_dag_begin_with_4() -> None:
    ask = plain(world("[{id: 7, maintenance: obproxy, nodes: [A]}]"))

    dag = ask("GET", f"{TASK}/dag/4{LOCAL[1:]}7").json()["data"]
    node = ask("GET", f"{TASK}/node/{dag['nodes'][0]['id']}")

    assert dag["id"] == f"4{LOCAL[1:]}7"
    assert dag["maintenance_type"] == 4
    assert node.json()["data"]["id"] == dag["nodes"][0]["id"] == f"4{LOCAL[1:]}701"


def test_the_ids_of_an_agent_that_speaks_ipv6_begin_with_3() -> None:
    ask = plain(world("[{id: 7, nodes: [A]}]", head='agent: {ip: "fe80::1", port: 2886}'))
    id = f"3{0xFE80 << 112 | 1:039}028867"

    dag = ask("GET", f"{TASK}/dag/{id}").json()["data"]

    assert dag["id"] == id
    assert dag["nodes"][0]["sub_tasks"][0]["execute_agent"] == {"ip": "fe80::1", "port": 2886}


def test_one_text_names_a_dag_on_one_route_and_a_node_on_another() -> None:
    ask = plain(world("[{id: 5, name: D, nodes: [{id: 5, name: N, sub_tasks: {id: 5, name: S}}]}]"))

    names = [ask("GET", f"{TASK}/{kind}/{LOCAL}5").json()["data"]["name"] for kind in ("dag", "node", "sub_task")]

    assert names == ["D", "N", "S"]


# --- ids of another agent -------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test where something connects to another host than the mock's."""
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: Any) -> None:
        assert address[0] == "127.0.0.1", f"connects to {address}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("route", ROUTES)
def test_another_agent_s_id_is_answered_as_if_that_did_not_answer(route: str) -> None:
    target = f"{TASK}/{route.format(FOREIGN)}4?show_details=false".replace("/logs4", "4/logs")

    answer = plain(failed())("GET", target)

    assert said(answer) == (
        500,
        "Common.Unexpected",
        f'Get "http://10.0.0.2:2886{target}": dial tcp 10.0.0.2:2886: connect: connection refused',
    )


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(("kind", "operator"), [("dag", "RETRY"), ("node", "PASS")])
def test_an_operator_for_another_agent_is_a_post_to_it(kind: str, operator: str) -> None:
    target = f"{TASK}/{kind}/{FOREIGN}4"

    answer = operate(plain(failed()), target, operator)

    assert said(answer)[2].startswith(f'Post "http://10.0.0.2:2886{target}": dial tcp')


@pytest.mark.usefixtures("no_network")
def test_another_agent_s_ipv6_address_is_in_brackets() -> None:
    target = f"{TASK}/dag/3{0xFE80 << 112 | 2:039}028864"

    answer = plain(failed())("GET", target)

    assert said(answer)[2] == (
        f'Get "http://[fe80::2]:2886{target}": dial tcp [fe80::2]:2886: connect: connection refused'
    )


@pytest.mark.usefixtures("no_network")
def test_an_agent_on_another_port_is_another_agent() -> None:
    answer = plain(failed())("GET", f"{TASK}/dag/22130706433028874")

    assert said(answer)[2].endswith("dial tcp 127.0.0.1:2887: connect: connection refused")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("route", ROUTES)
def test_an_obproxy_id_of_another_agent_is_not_found(route: str) -> None:
    id = f"4{FOREIGN[1:]}4"

    answer = plain(failed())("GET", f"{TASK}/{route.format(id)}")

    assert said(answer) == (404, "Task.NotFound", "Task not found: obproxy task not found")


# --- what HTTP brings -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", DAG), ("DELETE", DAG), ("PATCH", DAG), ("OPTIONS", DAG),
        ("POST", SUB_TASK), ("POST", LOGS), ("POST", f"{TASK}/dags/agent"),
        ("POST", "/api/v1/info"),
        ("GET", TASK), ("GET", f"{TASK}/"), ("GET", f"{TASK}/dag"), ("GET", f"{TASK}/nope"),
        ("GET", f"{DAG}/nope"), ("GET", f"{SUB_TASK}/log"), ("GET", f"{TASK}//dag/{LOCAL}4"),
        ("GET", f"{TASK}/dag//"), ("GET", "/api/v1/nope"), ("GET", "/api/v1"), ("GET", "/api/v1/"),
        ("GET", "/api/v1x"), ("TRACE", DAG), ("PURGE", DAG), ("GET", f"{TASK}/dag/a%2fb"),
        ("DELETE", f"{DAG}/"),
    ],
)  # fmt: skip
def test_what_no_route_answers_is_an_element_not_found(method: str, path: str) -> None:
    assert said(plain(failed())(method, path)) == UNKNOWN_PATH


def test_head_is_answered_as_an_unknown_path_without_a_body() -> None:
    answer = plain(failed())("HEAD", DAG)

    assert (answer.status_code, answer.content) == (404, b"")


@pytest.mark.parametrize("query", ["", "?show_details=false", "?a=1&b=%3C&c=it's"])
@pytest.mark.parametrize("path", [DAG, NODE, LOGS, f"{TASK}/dags/agent", f"{TASK}/dag"])
def test_a_get_with_a_slash_too_much_is_sent_to_the_path_without(path: str, query: str) -> None:
    answer = plain(failed())("GET", f"{path}/{query}")

    where = f"{path}{query}"
    assert (answer.status_code, answer.headers["location"]) == (301, where)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    link = where.replace("&", "&amp;").replace("'", "&#39;")
    assert answer.text == f'<a href="{link}">Moved Permanently</a>.\n\n'


def test_a_post_with_a_slash_too_much_is_to_be_sent_again() -> None:
    answer = operate(plain(failed()), f"{DAG}/?a=1", "RETRY")

    assert (answer.status_code, answer.headers["location"]) == (307, f"{DAG}?a=1")
    assert answer.content == b""


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/v1/tenant", 307),
        ("DELETE", "/api/v1/tenant/t1", 307),
        ("PATCH", "/api/v1/obcluster/backup/config", 307),
        ("POST", "/api/v1/status", 307),
        ("GET", "/api/v1/agents/status", 301),
    ],
)
def test_a_path_beside_the_task_routes_has_no_slash_at_its_end(method: str, path: str, status: int) -> None:
    answer = plain(failed())(method, f"{path}/")

    assert (answer.status_code, answer.headers.get("location")) == (status, path)


def test_a_body_over_the_limit_is_refused_in_the_envelope() -> None:
    answer = plain(failed())("POST", DAG, content=b" " * (MAX_BODY_BYTES + 1))

    assert said(answer) == (413, "Request.Body.TooLarge", "The request body is too large.")


STRANGE_IDS = [
    "9" * 8000, "1" + "9" * 8000, "1" + "0" * 8000, "2" + "9" * 8000, LOCAL + "0" * 8000 + "4",
    "3" * 8000, "%ff%fe", "%00", "%F0%9D%9F%9A2130706433028864", f"{LOCAL}%EF%BC%94",
    "%252e", "%22%3C%26", "..", "%2e%2e", "-1", "+", "1-", "2-213070643028864", "é", "%20",
    "1%0a", "22130706433-02864", "22130706433+02864", "2+130706433028864",
]  # fmt: skip


@pytest.mark.parametrize("route", ROUTES)
def test_no_id_is_too_strange_to_be_refused(route: str) -> None:
    ask = plain(failed())

    answers = {id: ask("GET", f"{TASK}/{route.format(id)}") for id in STRANGE_IDS}

    others = {id: answer for id, answer in answers.items() if answer.status_code not in (400, 404)}
    assert all("NotHold" in answer.text or "dial tcp" in answer.text for answer in others.values())


STRANGE_BODIES = [
    b"\xff\xfe", b'{"operator": "\xff"}', b'{"operator": "\\ud800"}', b"[" * 40_000,
    b'{"operator": ' + b'{"a":' * 40_000, b'{"a": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    b'{"operator": "' + b"x" * 100_000 + b'"}', b'{"operator": 1e999}', b"\x00", b"\xef\xbb\xbf{}",
    b'{"operator": ' + b"9" * 10_000 + b"}", b"NaN", b'{"operator": Infinity}', b"{" * 10,
]  # fmt: skip


@pytest.mark.parametrize("path", [DAG, NODE])
def test_no_body_is_too_strange_to_be_refused(path: str) -> None:
    ask = plain(failed())

    answers = [ask("POST", path, content=body) for body in STRANGE_BODIES]

    assert [answer.status_code for answer in answers] == [400] * len(STRANGE_BODIES)
    assert all(json.loads(answer.text)["error"]["message"] for answer in answers)


@pytest.mark.parametrize(
    "headers",
    [{"X-OBSHELL-Trace-ID": "x" * 5000}, {"X-OBSHELL-Trace-ID": b"\xff"},
     {"Accept-Language": "zh-CN"}, {"Accept": "text/plain"}, {"Content-Type": "nonsense"},
     {"X-OCS-Header": "nonsense"}],
)  # fmt: skip
def test_no_header_is_too_strange_to_be_answered(headers: dict[str, str]) -> None:
    assert plain(failed())("GET", DAG, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("language", "path", "message"),
    [
        ("zh", "task/dag/maintain/ob", "agent 未持有 OceanBase 集群连接"),
        ("zh_TW", "task/dag/11", "未找到任务: agent 未持有 OceanBase 集群连接"),
        ("zh-Hans-CN", "task/nothing", "未找到资源\uff1a404 not found"),
        ("zh-CN,zh;q=0.9", "task/nothing", "Element not found: 404 not found"),  # Go parses one tag alone
        ("en", "task/nothing", "Element not found: 404 not found"),
    ],
)
def test_a_message_is_in_the_language_that_is_accepted(language: str, path: str, message: str) -> None:
    answer = plain(failed())("GET", f"/api/v1/{path}", headers={"Accept-Language": language})

    assert answer.json()["error"]["message"] == message


def test_a_message_in_a_message_is_translated_by_itself() -> None:
    inner = "127.0.0.1:2886 is under maintenance"

    assert in_chinese(f"Create task 'Initialize cluster' failed: {inner}") == (
        "创建任务 'Initialize cluster' 失败: 127.0.0.1:2886 处于运维状态中"
    )
    assert in_chinese(f"Create task 'Init: a' failed: {inner}") == (
        "创建任务 'Init: a' 失败: 127.0.0.1:2886 处于运维状态中"
    )
    assert in_chinese("Unauthorized: OceanBase password is incorrect") == "认证失败: OceanBase root 密码不正确"


def test_a_line_of_a_log_has_a_time_of_its_own() -> None:
    lines = "[first, {at: 5s, text: second}, {at: 90s, text: never}]"
    mock = world(f"[{{id: 1, nodes: [{{sub_tasks: [{{takes: 8s, log: {lines}}}]}}]}}]")
    ask = plain(mock)

    def logs(seconds: int) -> Any:
        mock.advance(seconds * SECOND)
        return ask("GET", f"/api/v1/task/sub_task/{LOCAL}10101").json()["data"]["task_logs"]

    # It starts just after the tick after a second.
    assert [logs(5), logs(2), logs(60)] == [["first"], ["first", "second"], ["first", "second"]]
