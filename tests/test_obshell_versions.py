"""obshell as older versions served it: other errors, fewer routes, fewer keys.

What changed when is read in the server's history (agent/errors/errorcode.go at 424f28a is 4.2.3);
of these versions nothing was recorded.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest

import obshell_client as client
from obshell_world import (
    DAG,
    FOREIGN,
    INIT,
    LOCAL,
    LOGS,
    NODE,
    SUB_TASK,
    TASK,
    UNKNOWN,
    failed,
    flagged,
    guarded,
    operate,
    plain,
    sealed,
    world,
)
from served import MAX_BODY_BYTES, SECOND, Ask, World

BEFORE_ERR_CODES = ["4.2.3.0", "4.2.4.1", "4.2.5.0", "4.2.6.0", "4.3.0.0", "4.3.0.9"]
SINCE_ERR_CODES = ["4.3.1.0", "4.3.1.1", "4.3.2.0", "4.4.0.0", "4.4.1.0", "4.5.0.0"]


def of(version: str, text: str = INIT) -> Ask:
    """Asks an obshell of this version, long after its dags have ended."""
    return plain(failed(f"{text}\nswitches: {{obshell_version: {version}}}"))


def told(answer: httpx.Response) -> tuple[int, int, str]:
    """Status, code and message of an old error, which has nothing else."""
    error = answer.json()["error"]
    assert list(error) == ["code", "message"]
    assert answer.json()["status"] == answer.status_code
    return answer.status_code, error["code"], error["message"]


# --- errors ---------------------------------------------------------------------------------------


OLDEST, NEWEST = "4.2.3.0", "4.5.0.0"
SECURE = "agent: {identity: CLUSTER AGENT, agent_password: own}\nswitches: {obshell_version: %s}"


@pytest.mark.parametrize("version", [OLDEST, "4.3.0.0"])
@pytest.mark.parametrize(
    ("nodes", "operator", "message"),
    [
        (("retry", "", ""), "ROLLBACK",
         "failed to set dag rollback: node 401. A can not rollback"),
        (("rollback", "", ""), "RETRY", "failed to set dag retry: B can not retry"),
        (("pass", "", ""), "PASS", "failed to pass dag: B can not pass"),
        (("", "", ""), "CANCEL", "failed to cancel dag: dag is finished"),
        (("", "", ""), "RUN", "invalid operator: RUN"),
        (("", "", ""), " retry", "invalid operator:  retry"),
    ],
)  # fmt: skip
def test_an_illegal_operator_was_a_known_error(
    version: str, nodes: tuple[str, str, str], *, operator: str, message: str
) -> None:
    sandbox = world(flagged(*nodes), head=f"switches: {{obshell_version: {version}}}")
    sandbox.advance(10 * SECOND)

    answer = operate(plain(sandbox), DAG, operator)

    assert told(answer) == (500, 1010, f"Known error: {message}")


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        ("ROLLBACK", "failed to set dag rollback: dag state is not failed"),
        ("RETRY", "failed to set dag retry: dag state is not failed"),
        ("PASS", "failed to pass dag: dag is not failed"),
        ("CANCEL", "failed to cancel dag: A can not cancel"),
    ],
)
def test_so_was_one_that_came_too_early(operator: str, message: str) -> None:
    head = f"switches: {{obshell_version: {OLDEST}}}"

    answer = operate(plain(world("[{id: 4, nodes: [A]}]", head=head)), DAG, operator)

    assert told(answer) == (500, 1010, f"Known error: {message}")


@pytest.mark.parametrize(("version", "status"), [("4.2.5.0", 200), ("4.2.6.0", 404)])
def test_a_dag_s_id_has_one_spelling_since_4_2_6(version: str, status: int) -> None:
    """github.com/oceanbase/obshell: agent/executor/task/dag.go at ba0e8d1 and 737982a."""
    ask = of(version)

    answers = [ask("GET", f"{TASK}/dag/{LOCAL}04"), ask("POST", DAG, json={"operator": "RETRY", "id": UNKNOWN})]

    assert [answer.status_code for answer in answers] == [status, status]


@pytest.mark.parametrize("version", BEFORE_ERR_CODES)
@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("dag/abc", (400, 1001, "Illegal argument: invalid id: abc")),
        ("dag/1", (400, 1001, "Illegal argument: invalid id: 1")),
        ("dag/2x130706433028864",
         (400, 1001, "Illegal argument: convert id '2x130706433028864' to bigInt failed")),
        ("dag/29999999999028864",
         (400, 1001, "Illegal argument: convert id '29999999999028864' to ip failed")),
        ("dag/2213070643302x864",
         (400, 1001, "Illegal argument: parse port failed: "
                     'strconv.Atoi: parsing "02x86": invalid syntax')),
        (f"node/{LOCAL}x",
         (400, 1001, "Illegal argument: parse id failed: "
                     'strconv.ParseInt: parsing "x": invalid syntax')),
        (f"dag/{LOCAL}9", (404, 2300, "Task not found: record not found")),
        (f"sub_task/{LOCAL}9", (404, 2300, "Task not found: record not found")),
        ("dag/maintain/agents/nope", (400, 1000, "Bad request: 404 not found")),
        (f"dag/{LOCAL}4?show_details=maybe",
         (500, 1002, "Unexpected error: Internal Server Error")),
        (f"dag/{FOREIGN}4",
         (500, 1002, f'Get "http://10.0.0.2:2886{TASK}/dag/{FOREIGN}4": '
                     "dial tcp 10.0.0.2:2886: connect: connection refused")),
    ],
)  # fmt: skip
def test_every_error_had_a_number(version: str, path: str, answer: tuple[int, int, str]) -> None:
    assert told(of(version)("GET", f"{TASK}/{path}")) == answer


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("[]", "Illegal argument: EOF"),
        ("{}", "Illegal argument: Key: 'DagOperator.Operator' Error:"
               "Field validation for 'Operator' failed on the 'required' tag"),
    ],
)  # fmt: skip
def test_a_body_that_cannot_be_read_was_an_illegal_argument(body: str, message: str) -> None:
    answer = of("4.3.0.0")("POST", DAG, content=body)

    assert told(answer) == (400, 1001, message)


@pytest.mark.parametrize(
    ("changed", "answer"),
    [
        ({"auth": "wrong"}, (401, 10008)),
        ({"ts": "1"}, (401, 10008)),
        ({"uri": "/"}, (401, 10008)),
        ({"keys": b"12345"}, (401, 10008)),
    ],
)
def test_who_was_not_let_in_was_told_one_number(changed: dict[str, Any], answer: tuple[int, int]) -> None:
    ask = guarded(failed(f"{INIT}\nswitches: {{obshell_version: 4.2.5.0}}"))
    body = client.sealed_body(b'{"operator": "RETRY"}')

    refused = sealed(ask, "POST", DAG, body=body, **changed)

    assert told(refused)[:2] == answer


@pytest.mark.parametrize("version", SINCE_ERR_CODES)
def test_errors_have_err_codes_since_4_3_1(version: str) -> None:
    ask = of(version)

    assert ask("GET", UNKNOWN).json()["error"] == {
        "errCode": "Task.NotFound",
        "message": "Task not found: record not found",
    }
    assert operate(ask, DAG, "CANCEL").status_code == 400


def test_a_cluster_dag_on_an_agent_without_oceanbase_was_not_found() -> None:
    answer = of(OLDEST)("GET", f"{TASK}/dag/11")

    assert told(answer) == (404, 2300, "Task not found: oceanbase db is nil")


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("dag/maintain/ob", (500, 1002, "Unexpected error: oceanbase db is nil")),
        ("sub_task/11/logs", (500, 1002, "Unexpected error: oceanbase db is nil")),
        ("dags/ob", (400, 1000, "Bad request: only cluster agent can get all cluster dags")),
        ("dag/ob/unfinish", (400, 1000, "Bad request: only cluster agent can get cluster unfinished dags")),
    ],
)
def test_what_the_cluster_has_is_refused_in_the_words_of_4_3_0(path: str, answer: tuple[int, int, str]) -> None:
    """github.com/oceanbase/obshell at 32187ba: agent/executor/task, agent/repository/db/oceanbase/instance.go."""
    assert told(of("4.3.0.0")("GET", f"{TASK}/{path}")) == answer


def test_a_body_over_the_limit_has_the_same_status_in_every_version() -> None:
    answer = of(OLDEST)("POST", DAG, content=b" " * (MAX_BODY_BYTES + 1))

    assert told(answer) == (413, 1000, "The request body is too large.")


# --- routes ---------------------------------------------------------------------------------------

LATER_ROUTES = [
    ("GET", f"{TASK}/dags/agent", (4, 3, 0)),
    ("GET", f"{TASK}/dags/ob", (4, 3, 0)),
    ("GET", f"{TASK}/dag/agent/main_dags", (4, 3, 0)),
    ("GET", LOGS, (4, 3, 0)),
    ("POST", NODE, (4, 3, 1)),
    ("POST", "/api/v1/login", (4, 4, 0)),
    ("POST", "/api/v1/logout", (4, 4, 0)),
    ("GET", "/api/v1/observer/info", (4, 4, 1)),
]
FIRST_ROUTES = [
    DAG, NODE, SUB_TASK, f"{TASK}/dag/unfinish", f"{TASK}/dag/agent/unfinish",
    f"{TASK}/dag/maintain/agent", f"{TASK}/dag/maintain/agents", "/api/v1/info", "/api/v1/secret",
    "/api/v1/status", "/api/v1/time", "/api/v1/git-info",
]  # fmt: skip


@pytest.mark.parametrize("version", BEFORE_ERR_CODES + SINCE_ERR_CODES)
def test_a_route_is_an_unknown_path_until_it_is_there(version: str) -> None:
    ask = of(version)
    bodies = {"GET": None, "POST": {"operator": "PASS"}}

    answers = {path: ask(method, path, json=bodies[method]) for method, path, _ in LATER_ROUTES}

    unknown = {path for path, answer in answers.items() if "404 not found" in answer.text}
    number = tuple(map(int, version.split(".")))
    assert unknown == {path for _, path, since in LATER_ROUTES if number < since}
    assert {answers[path].status_code for path in unknown} <= {400 if number < (4, 3, 1) else 404}


@pytest.mark.parametrize("version", BEFORE_ERR_CODES + SINCE_ERR_CODES)
def test_the_first_routes_are_there_in_every_version(version: str) -> None:
    ask = of(version)

    statuses = {path: ask("GET", path).status_code for path in FIRST_ROUTES}

    assert statuses == dict.fromkeys(FIRST_ROUTES, 200)


@pytest.mark.parametrize("path", [f"{TASK}/dags/agent/", f"{LOGS}/"])
def test_a_route_that_is_not_there_has_no_slash_to_lose(path: str) -> None:
    assert of(OLDEST)("GET", path).status_code == 400


# --- keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "keys"),
    [
        ("4.2.3.0", set()),
        ("4.3.0.9", set()),
        ("4.3.1.0", {"maintenance_type", "maintenance_key"}),
        ("4.5.0.0", {"maintenance_type", "maintenance_key"}),
    ],
)
def test_a_dag_says_what_it_locks_since_4_3_1(version: str, keys: set[str]) -> None:
    dag = of(version)("GET", DAG).json()["data"]

    assert {key for key in dag if key.startswith("maintenance")} == keys


@pytest.mark.parametrize(
    ("version", "absent"),
    [
        ("4.2.3.0", {"obVersion", "supportedAuth", "isObproxyAgent", "security", "architecture"}),
        ("4.2.4.0", {"supportedAuth", "isObproxyAgent", "security", "architecture"}),
        ("4.2.5.0", {"isObproxyAgent", "security", "architecture"}),
        ("4.2.6.0", {"architecture"}),
        ("4.3.0.0", set()),
    ],
)
def test_info_has_fewer_keys_before_4_3(version: str, absent: set[str]) -> None:
    """github.com/oceanbase/obshell: agent/meta/agent.go at 424f28a, 5b035c9, ba0e8d1, 737982a and 32187ba."""
    info, newest = (of(it)("GET", "/api/v1/info").json()["data"] for it in (version, NEWEST))

    assert (newest.keys() - info.keys(), newest["supportedAuth"]) == (absent, ["v2"])
    assert info["version"] == f"{version}-1"


@pytest.mark.parametrize(("version", "status"), [("4.2.5.0", 401), ("4.2.6.0", 200)])
def test_the_agent_has_a_header_of_its_own_since_4_2_6(version: str, status: int) -> None:
    ask = guarded(world("[{id: 4, nodes: [A]}]", head=SECURE % version))

    assert sealed(ask, "GET", DAG, name="X-OCS-Agent-Header", auth="own").status_code == status


@pytest.mark.parametrize(("version", "status"), [("4.3.2.0", 200), ("4.4.0.0", 401)])
def test_a_session_id_is_not_read_before_4_4(version: str, status: int) -> None:
    ask = guarded(world("[{id: 4, nodes: [A]}]", head=SECURE % version))

    assert sealed(ask, "GET", DAG, session_id="none").status_code == status


def test_the_newest_is_served_unless_a_scenario_says_otherwise() -> None:
    info = plain(World(INIT))("GET", "/api/v1/info").json()["data"]

    assert info["version"] == f"{NEWEST}-1"


@pytest.mark.parametrize("version", [OLDEST, "4.3.0.0", "4.3.1.0", NEWEST])
def test_every_version_lives_the_same_life(version: str) -> None:
    dag = of(version)("GET", DAG).json()["data"]

    shown = {key: value for key, value in dag.items() if not key.startswith("maintenance")}
    newest = of(NEWEST)("GET", DAG).json()["data"]
    assert shown.items() <= newest.items()
