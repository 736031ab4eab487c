"""apis/ocp_auth.py: who calls, by HTTP Basic or by an access key's signature.

The signatures are those worked out in the OCP API reference, 300.ak-sk-sign-roles.md: two of its
older version, one of its newer.
"""

import base64
import subprocess
import sys
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from in_process import REINSTALL, Ask, asking, sandbox_of
from oceanmock import credentials
from oceanmock.api import ApiError, Request
from oceanmock.apis import make_sandbox
from oceanmock.clock import SECOND, wall_now
from oceanmock.engine.log import AccessKeyPair, Accounts, User
from oceanmock.http.app import create_app
from oceanmock.ocp.auth import Basic, authenticators, request_messages, sign
from oceanmock.openapi import ALL_PERMISSIONS, VIEWER_PERMISSION

TASK = "/api/v2/tasks/instances/35000312"
NOON = 1_700_000_000 * SECOND


def call_of(
    method: str, url: str, headers: Mapping[str, str], *, body: bytes = b"", accounts: Accounts | None = None
) -> Request:
    """A call as the app opens it, to a sandbox of these accounts."""
    target = urlsplit(url)
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    api: Any = None
    return Request(
        api,
        make_sandbox(progression="manual", accounts=accounts or Accounts()),
        method,
        target.path,
        target.path.encode(),
        target.query.encode(),
        raw,
        0,
        body=body,
    )


@pytest.fixture
def ask() -> Ask:
    return asking(create_app(sandbox_of(REINSTALL)))


def signatures(secret: str, call: Request) -> list[str]:
    """Every signature the call may carry."""
    return [sign(secret, message) for message in request_messages(call)]


# --- published signatures -------------------------------------------------------------------------


def test_the_published_signature_of_a_post_with_a_body() -> None:
    call = call_of(
        "POST",
        "/api/v2/compute/idcs",
        {
            "Content-Type": "application/json",
            "x-ocp-data": "A,1",
            "Date": "Tue, 17 Jan 2023 09:13:57 GMT",
            "Host": "ocp.alibaba.net:8080",
        },
        body=b'{"name":"test01","description":"test","regionId":1}',
    )

    made = signatures("2fc0c299cc94c6be266f2ceece765d4d", call)

    assert "186974DB33A090A16D3E2CA35F547B56" in next(request_messages(call))
    assert made[0] == "XN8P+O+v3vUabB16ZCooq5wMJoY="


def test_the_published_signature_of_a_get_with_a_query() -> None:
    call = call_of(
        "GET",
        "/api/v2/compute/idcs?size=100",
        {
            "Content-Type": "application/json;charset=utf-8",
            "Date": "Tue, 17 Jan 2023 04:14:02 GMT",
            "Host": "ocp.alibaba.net:8080",
        },
    )

    made = signatures("2fc0c299cc94c6be266f2ceece765d4d", call)

    assert made[0] == "TsQD6HDOuZuJ409m0wdnZPmijlc="


def test_the_published_signature_of_a_get_whose_query_needs_encoding() -> None:
    call = call_of(
        "GET",
        "/api/v2/monitor/top?metrics=host_disk_total&labels=svr_ip:127.0.0.1"
        "&groupBy=app,svr_ip,device,mount_point&startTime=2024-04-15T14:29:55%2B08:00"
        "&endTime=2024-04-15T14:30:55%2B08:00&maxPoints=360",
        {
            "Content-Type": "application/json",
            "x-ocp-origin": "for-test",
            "Date": "Mon, 15 Apr 2024 09:25:02 GMT",
            "Host": "127.0.0.1:8080",
        },
    )

    made = signatures("d75332c5eed8d440a84a35ac6248d397", call)

    assert made[0] == "To11kg1EsB/dPWyDnnpuUzIUoQk="


# --- the message ----------------------------------------------------------------------------------


def test_values_of_one_query_key_are_sorted_joined_and_encoded() -> None:
    call = call_of("GET", "/a?z=1&b=2&b=1&b=&empty=&c=x%20y~", {})

    rfc3986, as_forms = (message.splitlines()[-1] for message in request_messages(call))

    assert rfc3986 == "/a?b=1%2C2&c=x%20y~&empty=&z=1"
    assert as_forms == "/a?b=1%2C2&c=x+y~&empty=&z=1"


def test_an_absent_part_of_the_message_keeps_its_line() -> None:
    assert next(request_messages(call_of("GET", "/a", {}))) == "GET\n\n\n\n\n\n/a"


def test_ocp_headers_are_sorted_by_name_and_their_values_are_not() -> None:
    headers = {"X-OCP-b": "2,1", "x-ocp-a": "x", "x-other": "y"}

    message = next(request_messages(call_of("GET", "/a", headers)))

    assert message.splitlines()[5:7] == ["x-ocp-a:x", "x-ocp-b:2,1"]


# --- signed calls ---------------------------------------------------------------------------------


def signed(
    at: int,
    *,
    key: str = "oceanmock-ak",
    secret: str = "oceanmock-sk",
    accounts: Accounts | None = None,
    usegmt: bool = True,
) -> Request:
    """A GET signed at an instant."""
    date = formatdate(at / SECOND, usegmt=usegmt)
    unsigned = call_of("GET", TASK, {"Date": date, "Host": "mock"})
    signature = signatures(secret, unsigned)[0]
    header = f"OCP-ACCESS-KEY-HMACSHA1 {key}:{signature}"
    headers = {"Date": date, "Host": "mock", "Authorization": header}
    return call_of("GET", TASK, headers, accounts=accounts)


@pytest.mark.parametrize("usegmt", [True, False])
@pytest.mark.parametrize("skew", [0, 899, -899])
def test_a_signature_less_than_15_minutes_away_is_taken(skew: int, *, usegmt: bool) -> None:
    check = authenticators(wall=lambda: NOON)["apiKey"]

    assert check(signed(NOON + skew * SECOND, usegmt=usegmt)) == ALL_PERMISSIONS


@pytest.mark.parametrize("skew", [900, -900, 10**9])
def test_a_signature_15_minutes_away_is_refused(skew: int) -> None:
    check = authenticators(wall=lambda: NOON)["apiKey"]

    with pytest.raises(ApiError, match="15 minutes away") as refusal:
        check(signed(NOON + skew * SECOND))

    assert refusal.value.kind == "bad credentials"


def test_the_age_of_a_signature_is_told_by_the_machines_clock_not_the_sandboxs() -> None:
    ask = asking(create_app(sandbox_of(REINSTALL)))  # where it is August 2021
    headers = {name.decode(): value.decode() for name, value in signed(wall_now()).headers}

    assert ask("GET", TASK, headers=headers, auth=None).status_code == 200


def test_a_signature_by_another_secret_is_refused_with_the_text_it_should_sign() -> None:
    check = authenticators(wall=lambda: NOON)["apiKey"]

    with pytest.raises(ApiError, match=r"not that of 'GET\\n\\n\\nTue, 14 Nov 2023 22:13:20 GMT"):
        check(signed(NOON, secret="another"))


def test_an_unknown_access_key_is_refused() -> None:
    check = authenticators(wall=lambda: NOON)["apiKey"]

    with pytest.raises(ApiError, match="No access key has this id"):
        check(signed(NOON, key="another"))


@pytest.mark.parametrize("date", ["", "yesterday", "Tue, 99 Nov 2023 22:13:20 GMT", "Tue, 14 Nov 2023 22:13:20", "é"])
def test_a_date_that_is_none_is_refused(date: str) -> None:
    check = authenticators(wall=lambda: NOON)["apiKey"]
    headers = {"Date": date, "Authorization": "OCP-ACCESS-KEY-HMACSHA1 oceanmock-ak:x"}

    with pytest.raises(ApiError, match="not in the form of RFC 1123"):
        check(call_of("GET", TASK, headers))


def test_a_signature_covers_the_body_as_it_arrived(ask: Ask) -> None:
    date = formatdate(wall_now() / SECOND, usegmt=True)
    headers = {"Date": date, "Host": "mock", "Content-Type": "application/json"}
    call = call_of("POST", f"{TASK}/retry", headers, body=b"{}")
    signature = signatures("oceanmock-sk", call)[0]
    headers["Authorization"] = f"OCP-ACCESS-KEY-HMACSHA1 oceanmock-ak:{signature}"

    as_signed = ask("POST", f"{TASK}/retry", headers=headers, content=b"{}", auth=None)
    changed = ask("POST", f"{TASK}/retry", headers=headers, content=b"[]", auth=None)

    assert as_signed.json()["error"]["code"] == 20003
    assert changed.status_code == 401


# --- HTTP Basic -----------------------------------------------------------------------------------


def basic(text: str, *, accounts: Accounts | None = None) -> Request:
    """A call with these Basic credentials."""
    encoded = base64.b64encode(text.encode()).decode()
    return call_of("GET", TASK, {"Authorization": f"Basic {encoded}"}, accounts=accounts)


def test_the_two_users_may_look_and_one_may_operate() -> None:
    check = authenticators()["basic"]

    assert check(basic("viewer:viewer")) == frozenset({VIEWER_PERMISSION})
    assert check(basic("manager:manager")) == ALL_PERMISSIONS


def test_a_password_may_hold_colons_and_any_script() -> None:
    accounts = Accounts(users=(User("jörg", "a:ü:", ALL_PERMISSIONS),))
    check = authenticators()["basic"]

    assert check(basic("jörg:a:ü:", accounts=accounts)) == ALL_PERMISSIONS


def test_a_request_of_the_mock_s_own_client_carries_any_script() -> None:
    request = requests.Request("GET", "http://mock/").prepare()

    Basic("jörg", "密:码")(request)

    pair = request.headers["Authorization"].removeprefix("Basic ")
    assert base64.b64decode(pair).decode() == "jörg:密:码"


@pytest.mark.parametrize("text", ["viewer:manager", "viewer:", ":", "", "viewer", "VIEWER:viewer"])
def test_a_wrong_name_or_password_is_refused(text: str) -> None:
    check = authenticators()["basic"]

    with pytest.raises(ApiError) as refusal:
        check(basic(text))

    assert refusal.value.kind == "bad credentials"


# --- over HTTP ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authorization", "message"),
    [
        ("", "The current user has not logged on or a logon error has occurred. "
             "Please log on and try again."),
        ("Bearer abc", "The current user has not logged on or a logon error has occurred. "
                       "Please log on and try again."),
        ("Basic", "Empty basic authentication token"),
        ("Basic ???", "Failed to decode basic authentication token"),
        ("Basic bm9jb2xvbg==", "Invalid basic authentication token"),
        ("Basic bm9ib2R5Ong=", "nobody"),  # UsernameNotFoundException says the name alone
        ("basic dmlld2VyOnd2", "Bad credentials"),
        ("Basic \xff\xfe", "Failed to decode basic authentication token"),
        ("OCP-ACCESS-KEY-HMACSHA1", "Bad credentials"),
        ("OCP-ACCESS-KEY-HMACSHA1 :", "Bad credentials"),
        ("OCP-ACCESS-KEY-HMACSHA1 oceanmock-ak", "Bad credentials"),
    ],
)  # fmt: skip
def test_whatever_stands_in_authorization_is_answered_401(ask: Ask, authorization: str, message: str) -> None:
    headers = {"authorization": authorization.encode("latin-1")}

    answer = ask("GET", TASK, headers=headers, auth=None)

    error = answer.json()["error"]
    assert (answer.status_code, error["message"]) == (401, message)
    is_anonymous = message.startswith("The current user")
    assert error["debugMessage"] == (
        "Full authentication is required to access this resource" if is_anonymous else message
    )
    assert "server" not in answer.json()


def test_a_viewer_may_read_and_not_operate(ask: Ask) -> None:
    viewer = ("viewer", "viewer")

    assert ask("GET", TASK, auth=viewer).status_code == 200
    assert ask("POST", f"{TASK}/retry", auth=viewer).status_code == 403


def test_accounts_can_be_given() -> None:
    accounts = Accounts(users=(User("me", "secret", ALL_PERMISSIONS),), access_keys=())
    ask = asking(create_app(sandbox_of(REINSTALL, accounts=accounts)))

    assert ask("GET", TASK, auth=("me", "secret")).status_code == 200
    assert ask("GET", TASK, auth=("viewer", "viewer")).status_code == 401


def test_where_accounts_are_not_required_everybody_may_do_everything() -> None:
    ask = asking(create_app(sandbox_of(REINSTALL, accounts=Accounts(required=False))))

    assert ask("GET", TASK, auth=None).status_code == 200
    assert ask("POST", f"{TASK}/retry", auth=("no", "body")).json()["error"]["code"] == 20003


def test_an_access_key_has_the_permissions_it_was_given() -> None:
    key = AccessKeyPair("oceanmock-ak", "oceanmock-sk", frozenset({VIEWER_PERMISSION}))
    check = authenticators(wall=lambda: NOON)["apiKey"]

    assert check(signed(NOON, accounts=Accounts(access_keys=(key,)))) == frozenset({VIEWER_PERMISSION})


# --- the clients' credentials of both APIs --------------------------------------------------------


def test_three_kinds_are_public() -> None:
    assert credentials.__all__ == ["AccessKey", "Basic", "Sealed"]


def test_neither_a_client_nor_what_seals_is_imported_with_them() -> None:
    slow = {"httpx", "requests", "cryptography"}
    code = f"import sys, oceanmock.credentials; print({slow} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


def test_what_is_none_of_them_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Bearer'"):
        credentials.Bearer  # noqa: B018
