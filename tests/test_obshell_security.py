"""Who may ask obshell, over HTTP: each way to be turned away, once, and what the answer looks like.

What a header must say for which agent is test_obshell_auth's, how it is opened
test_obshell_auth's; here a refusal comes through the app, in its envelope.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

import httpx
import pytest

import obshell_client as client
from obshell_world import DAG, INIT, KEYS, LOCAL, NODE, TASK, failed, guarded, plain, sealed
from served import Ask

AGENTS: Final = "X-OCS-Agent-Header"
OBPROXY: Final = f"{TASK}/dag/4{LOCAL[1:]}4"
RETRY: Final = b'{"operator": "RETRY"}'
SEALED_RETRY: Final = client.sealed_body(RETRY)
PANIC: Final = "Unexpected error: Internal Server Error"


@pytest.fixture(scope="module")
def ask() -> Ask:
    """Asks a MASTER with both passwords; nothing here changes it."""
    return guarded(failed(f"{INIT}\nagent: {{agent_password: agent-secret}}"))


class Refusal(NamedTuple):
    """An error with the marks of where it came from."""

    status: int
    err_code: str
    message: str
    code: int | None = None
    is_early: bool = False


def refusal_of(answer: httpx.Response) -> Refusal:
    """What was said; early is what has no trace id and another content type."""
    body = answer.json()
    assert body["status"] == answer.status_code
    is_early = body["traceId"] == ""
    assert answer.headers["content-type"] == "application/json" + "; charset=utf-8" * is_early
    error = body["error"]
    return Refusal(answer.status_code, error["errCode"], error["message"], error.get("code"), is_early)


def undecryptable(why: str) -> Refusal:
    return Refusal(401, "Security.Authentication.Header.DecryptFailed",
                   f"Decrypt http header failed: {why}", 1, is_early=True)  # fmt: skip


def unauthorized(tail: str, message: str) -> Refusal:
    return Refusal(401, f"Security.Authentication.{tail}", message, 10008)


NO_HEADER = Refusal(
    400, "Request.Header.NotFound", "X-OCS-Agent-Header or X-OCS-Header not found in http request header"
)

# --- headers that cannot be opened ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "refusal"),
    [
        ({}, NO_HEADER),
        ({"X-OCS-Header": ""}, NO_HEADER),
        ({"X-OCS-Header": "", AGENTS: ""}, NO_HEADER),
        ({"X-OCS-Auth": "v1"}, NO_HEADER),
        ({"X-OCS-Header": "!not base64!"}, undecryptable("illegal base64 data at input byte 0")),
        ({AGENTS: "c2hvcnQ="}, undecryptable("crypto/rsa: decryption error")),
    ],
)
def test_a_header_that_nobody_sealed_is_refused(ask: Ask, headers: dict[str, str], refusal: Refusal) -> None:
    assert refusal_of(ask("GET", DAG, headers=headers)) == refusal


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"hello", "invalid character 'h' looking for beginning of value"),
        (b"[]", "json: cannot unmarshal array into Go value of type secure.HttpHeader"),
        (b'{"ts": 1}',
         "json: cannot unmarshal number into Go struct field HttpHeader.Ts of type string"),
        (b'{"keys": "!"}', "illegal base64 data at input byte 0"),
    ],
)  # fmt: skip
def test_a_sealed_text_that_is_no_header_is_refused(ask: Ask, text: bytes, why: str) -> None:
    header = client.sealed(ask("GET", "/api/v1/secret").json()["data"]["public_key"], text)

    assert refusal_of(ask("GET", DAG, headers={"X-OCS-Header": header})) == undecryptable(why)


@pytest.mark.parametrize("path", ["/api/v1/info", "/api/v1/nope", f"{TASK}/dag/abc"])
def test_a_header_is_opened_before_anything_else(ask: Ask, path: str) -> None:
    answer = ask("GET", path, headers={"X-OCS-Header": "!", "X-OBSHELL-Trace-ID": "mine"})

    assert refusal_of(answer) == undecryptable("illegal base64 data at input byte 0")


# --- bodies that cannot be opened -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "changed", "refusal"),
    [
        (SEALED_RETRY, {"keys": b"12345"},
         Refusal(500, "Request.Body.Decrypt.AES.KeyAndIv.Invalid",
                 "Unauthorized: AES key and IV size error", is_early=True)),
        (client.base64_text(client.ciphertext(RETRY)[:-1]).encode(), {},
         Refusal(500, "Request.Body.Decrypt.AES.ContentLength.Invalid",
                 "Unauthorized: Decrypted string length is not a multiple of the block size",
                 is_early=True)),
        (SEALED_RETRY, {"keys": KEYS[:20]},
         Refusal(500, "Common.Unexpected", PANIC, is_early=True)),
        (SEALED_RETRY, {"keys": bytes(16) + client.AES_IV},
         Refusal(500, "Common.Unexpected", PANIC, is_early=True)),
        (SEALED_RETRY, {"keys": b"12345", "auth": "wrong", "uri": "/x"},
         Refusal(500, "Request.Body.Decrypt.AES.KeyAndIv.Invalid",
                 "Unauthorized: AES key and IV size error", is_early=True)),
        (client.sealed_body(b"not json"), {},
         Refusal(400, "Common.BindJsonFailed", "Bind JSON failed: EOF")),
    ],
)  # fmt: skip
def test_a_body_is_opened_before_anybody_asks_who_sent_it(
    ask: Ask, body: bytes, changed: dict[str, Any], refusal: Refusal
) -> None:
    assert refusal_of(sealed(ask, "POST", DAG, body=body, **changed)) == refusal


# --- headers that may not pass --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "name", "changed", "refusal"),
    [
        (DAG, "X-OCS-Header", {"uri": f"{DAG}?"},
         unauthorized("Header.UriMismatch", "URI mismatch")),
        (f"{DAG}?show_details=true", "X-OCS-Header", {"uri": DAG},
         unauthorized("Header.UriMismatch", "URI mismatch")),
        (DAG, "X-OCS-Header", {"auth": "wrong", "ts": "1", "uri": "/x"},
         unauthorized("Header.UriMismatch", "URI mismatch")),
        (DAG, "X-OCS-Header", {"auth": "wrong", "ts": "abc"},
         unauthorized("Timestamp.Invalid",
                      "Unauthorized: Invalid timestamp: abc, err: "
                      'strconv.ParseInt: parsing "abc": invalid syntax')),
        (DAG, "X-OCS-Header", {"auth": "wrong", "ts": "1"},
         unauthorized("Expired", "Unauthorized: Authentication expired")),
        (DAG, "X-OCS-Header", {"auth": "wrong"},
         unauthorized("IncorrectOceanbasePassword",
                      "Unauthorized: OceanBase password is incorrect")),
        (DAG, "X-OCS-Header", {"auth": "", "ts": "1"},
         unauthorized("IncorrectOceanbasePassword",
                      "Unauthorized: OceanBase password is incorrect")),
        (DAG, AGENTS, {"auth": "oceanmock"},
         unauthorized("IncorrectAgentPassword", "Unauthorized: Agent password is incorrect")),
        (OBPROXY, "X-OCS-Header", {},
         unauthorized("WithAgentPassword",
                      "Unauthorized: Should use agent_password to verify: "
                      "this route only support agent password")),
    ],
)  # fmt: skip
def test_credentials_that_are_wrong_are_refused_for_the_first_reason(
    ask: Ask, target: str, *, name: str, changed: dict[str, Any], refusal: Refusal
) -> None:
    assert refusal_of(sealed(ask, "GET", target, name=name, **changed)) == refusal


def test_credentials_come_before_the_id_and_the_body(ask: Ask) -> None:
    body = client.sealed_body(b"not json")

    answer = sealed(ask, "POST", f"{TASK}/dag/abc", body=body, auth="wrong")

    assert refusal_of(answer).err_code.endswith("IncorrectOceanbasePassword")


def test_an_unknown_path_comes_before_the_credentials(ask: Ask) -> None:
    assert refusal_of(sealed(ask, "GET", f"{TASK}/nope", auth="wrong")).status == 404


def test_a_slash_too_much_comes_before_everything(ask: Ask) -> None:
    answer = ask("GET", f"{DAG}/", headers={"X-OCS-Header": "!"})

    assert answer.status_code == 301


@pytest.mark.parametrize(
    ("identity", "agent_password", "name", "tail"),
    [
        ("SINGLE", "null", "X-OCS-Header", None),
        ("SINGLE", "null", AGENTS, None),
        ("SINGLE", "secret", "X-OCS-Header", "WithAgentPassword"),
        ("MASTER", "null", AGENTS, "WithOceanBasePassword"),
        ("MASTER", "null", "X-OCS-Header", "IncorrectOceanbasePassword"),
    ],
)
def test_who_the_agent_is_says_what_it_asks_for(
    identity: str, agent_password: str, *, name: str, tail: str | None
) -> None:
    agent = f"agent: {{identity: {identity}, agent_password: {agent_password}}}"
    asked = guarded(failed(f"{INIT}\n{agent}"))

    answer = sealed(asked, "GET", DAG, name=name, auth="any")

    err_code = answer.json().get("error", {}).get("errCode")
    assert err_code == (tail and f"Security.Authentication.{tail}")


# --- what passes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "auth"), [("X-OCS-Header", "oceanmock"), (AGENTS, "agent-secret")])
@pytest.mark.parametrize("target", [DAG, f"{DAG}?show_details=True", f"{TASK}/dag/unfinish"])
def test_either_password_opens_a_task_in_its_own_header(ask: Ask, target: str, *, name: str, auth: str) -> None:
    assert sealed(ask, "GET", target, name=name, auth=auth).status_code == 200


def test_a_header_s_uri_is_the_path_as_it_was_sent(ask: Ask) -> None:
    target = f"{TASK}/dag/{LOCAL}%34"

    answer = sealed(ask, "GET", target)

    assert answer.json()["data"]["dag_id"] == 4


@pytest.mark.parametrize(
    "spelling", [("auth", "ts", "uri", "keys"), ("Auth", "Ts", "Uri", "Keys"), ("AUTH", "tS", "URI", "kEYS")]
)
def test_a_header_may_be_spelt_as_either_sdk_does(spelling: tuple[str, ...]) -> None:
    asked = guarded(failed())
    key = asked("GET", "/api/v1/secret").json()["data"]["public_key"]
    said = dict(zip(spelling, ("oceanmock", "9999999999", NODE, KEYS), strict=True))
    headers = {"X-OCS-Header": client.sealed_header(key, **said)}
    body = client.sealed_body(b'{"operator": "PASS"}')

    answer = asked("POST", NODE, headers=headers, content=body)

    assert (answer.status_code, "data" in answer.json()) == (200, False)


def test_a_get_needs_no_keys(ask: Ask) -> None:
    assert sealed(ask, "GET", DAG, keys=None).status_code == 200


def test_a_sealed_operator_is_obeyed() -> None:
    asked = guarded(failed())

    answer = sealed(asked, "POST", DAG, body=SEALED_RETRY)

    assert answer.status_code == 200
    assert sealed(asked, "GET", DAG).json()["data"]["state"] == "READY"


def test_no_body_at_all_lacks_its_operator(ask: Ask) -> None:
    refusal = refusal_of(sealed(ask, "POST", DAG))

    assert (refusal.status, refusal.err_code) == (400, "Common.BindJsonFailed")
    assert "'required' tag" in refusal.message


def test_a_body_that_opens_to_nothing_is_not_padded(ask: Ask) -> None:
    """ob/agent/api/common/middleware.go:299-308: the length is that of the sealed body."""
    refusal = refusal_of(sealed(ask, "POST", DAG, body=client.sealed_body(b"")))

    assert (refusal.err_code, refusal.message) == ("Common.BindJsonFailed", "Bind JSON failed: EOF")


def test_an_answer_is_never_sealed(ask: Ask) -> None:
    assert json.loads(sealed(ask, "GET", DAG).content)["data"]["id"] == f"{LOCAL}4"


def test_the_key_stays_the_same_as_long_as_the_server_runs(ask: Ask) -> None:
    keys = {ask("GET", "/api/v1/secret").json()["data"]["public_key"] for _ in range(2)}

    assert len(keys) == 1


# --- where nobody is asked ------------------------------------------------------------------------


def test_without_accounts_a_sealed_body_is_not_opened() -> None:
    answer = sealed(plain(failed()), "POST", DAG, body=SEALED_RETRY)

    assert answer.json()["error"]["message"] == "Bind JSON failed: EOF"
