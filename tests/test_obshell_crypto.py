"""What clients seal is opened; what is sealed wrongly raises the one refusal and nothing else.

The recorded refusals are replayed in test_obshell_auth.py, where a request is judged as a whole.
"""

from __future__ import annotations

import base64
import importlib
import json
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import obshell_client as client
from oceanmock.obshell.crypto import (
    RSA_BITS,
    Header,
    make_key,
    open_body,
    open_header,
)
from oceanmock.obshell.errors import ObshellError

KEY = make_key()
OTHER_KEY = make_key()
KEYS = client.AES_KEY + client.AES_IV
BLOCK_BYTES = RSA_BITS // 8
DECRYPTION_ERROR = "Decrypt http header failed: crypto/rsa: decryption error"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


def header_refusal(value: str) -> ObshellError:
    with pytest.raises(ObshellError) as refused:
        open_header(KEY, value)
    return refused.value


def body_refusal(body: bytes, keys: bytes = KEYS) -> ObshellError:
    with pytest.raises(ObshellError) as refused:
        open_body(body, keys)
    return refused.value


def sealed_request(body: dict[str, Any]) -> SimpleNamespace:
    """A request that the vendor's own, unmodified Python SDK sealed with the password ``pw``."""
    with warnings.catch_warnings(action="ignore"):  # its source has invalid escape sequences
        password = importlib.import_module("obshell.auth.password")
    method = password.PasswordAuthMethodV2("pw", None, 60)
    method.pk, method.check_identity = KEY.public_key, True
    request = SimpleNamespace(
        url="http://127.0.0.1:2886/api/v1/task/dag/22130706433028869?show_details=true",
        server="127.0.0.1:2886",
        protocol_options=None,
        task_type="ob",
        original_data=None,
        data=body,
        headers={},
    )
    method.auth(request)
    return request


# --- what is opened -------------------------------------------------------------------------------


def test_what_the_vendors_sdk_seals_is_opened() -> None:
    request = sealed_request({"operator": "RETRY"})

    header = open_header(KEY, request.headers["X-OCS-Header"])
    body = open_body(request.data.encode(), header.keys)

    assert header.auth == "pw"
    assert header.ts.isdecimal()
    assert header.uri == "/api/v1/task/dag/22130706433028869?show_details=true"
    assert header.keys == request.aes_keys
    assert json.loads(body) == {"operator": "RETRY"}


def test_a_header_of_the_go_sdk_without_a_body_is_opened() -> None:
    value = client.sealed_header(KEY.public_key, Auth="pw", Ts="1", Uri="/x", Keys=None)

    assert open_header(KEY, value) == Header(auth="pw", ts="1", uri="/x", keys=b"")


def test_a_header_in_blocks_as_long_as_the_modulus_allows_is_opened() -> None:
    """The server's own senders cut after 117 bytes, not after 53 (rsa.go:30-53)."""
    said = json.dumps({"Auth": "p" * 300, "Uri": "/x"}).encode()

    value = client.sealed(KEY.public_key, said, chunk_size=BLOCK_BYTES - 11)

    assert open_header(KEY, value) == Header(auth="p" * 300, uri="/x")


def test_every_field_of_a_header_is_read_and_an_unknown_one_is_not() -> None:
    value = client.sealed_header(
        KEY.public_key,
        session_id="s",
        Token="t",
        ssotoken="o",
        Sha256="h",
        ForwardType=2,
        ForwardAgent={"ip": "127.0.0.1", "port": 2887},
        keys=b"k",
        more=[1, {"a": None}],
    )

    assert open_header(KEY, value) == Header(
        session_id="s", token="t", sso_token="o", sha256="h", forward_type=2, keys=b"k"
    )


def test_the_last_of_a_field_said_twice_is_read() -> None:
    value = client.sealed(KEY.public_key, b'{"uri": "/a", "URI": "/b"}')

    assert open_header(KEY, value).uri == "/b"


def test_a_header_that_is_null_says_nothing() -> None:
    assert open_header(KEY, client.sealed(KEY.public_key, b"null")) == Header()


@given(texts, texts, texts, st.binary(max_size=40))
def test_any_header_comes_back_as_it_was_sealed(auth: str, ts: str, uri: str, keys: bytes) -> None:
    value = client.sealed_header(KEY.public_key, auth=auth, ts=ts, uri=uri, keys=keys)

    assert open_header(KEY, value) == Header(auth=auth, ts=ts, uri=uri, keys=keys)


@given(st.binary(min_size=0, max_size=200), st.binary(min_size=32, max_size=32))
def test_any_body_comes_back_as_it_was_sealed(body: bytes, keys: bytes) -> None:
    sent = client.sealed_body(body, key=keys[:16], iv=keys[16:])

    assert open_body(sent, keys) == body


def test_no_body_is_none_whatever_the_keys_are() -> None:
    assert open_body(b"", b"") == b""


def test_a_body_is_read_up_to_the_fault_in_its_base64() -> None:
    assert open_body(client.sealed_body(b"{}") + b"!", KEYS) == b"{}"


def test_padding_is_cut_off_by_its_last_byte_alone() -> None:
    sent = base64.b64encode(client.encrypted(b"{}" + b"x" * 29 + b"\x1e"))

    assert open_body(sent, KEYS) == b"{}"


# --- what is refused ------------------------------------------------------------------------------


def test_a_header_sealed_with_another_key_is_no_header() -> None:
    sealed = [client.sealed_header(OTHER_KEY.public_key, uri="/x" * length) for length in range(40)]

    refusals = {(r.stage, r.message) for r in map(header_refusal, sealed)}

    assert refusals == {("header", DECRYPTION_ERROR)}


@pytest.mark.parametrize("damaged", range(5))
def test_one_damaged_block_spoils_the_header(damaged: int) -> None:
    """Noise inside a string is still JSON if it is short, or has no quote and no control byte."""
    sealed = base64.b64decode(client.sealed_header(KEY.public_key, auth="a" * 200, uri="/x"))
    place = damaged * BLOCK_BYTES + 100

    said = {
        header_refusal(
            client.base64_text(sealed[:place] + bytes([byte]) + sealed[place + 1 :])
        ).message
        for byte in set(range(0, 100, 3)) - {sealed[place]}
    }

    assert said == {DECRYPTION_ERROR}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "unexpected end of JSON input"),
        (b'{"ts":', "unexpected end of JSON input"),
        (b'{"ts"', "unexpected end of JSON input"),
        (b'{"ts', "unexpected end of JSON input"),
        (b"{'ts'", "invalid character '\\'' looking for beginning of object key string"),
        (b'{"ts" "1"}', "invalid character '\"' after object key"),
        (b'{"ts":"1" 2}', "invalid character '2' after object key:value pair"),
        (b'{"keys":[1 2]}', "invalid character '2' after array element"),
        (b"{} \xc3\xa9", "invalid character '\xc3' after top-level value"),
        (b'{"ts":"\n"}', "invalid character '\\n' in string literal"),
        (b'{"ts":"\\q"}', "invalid character 'q' in string escape code"),
        (b'{"ts":"\\u12g4"}', "invalid character 'g' in \\u hexadecimal character escape"),
        (b'{"ts":nil}', "invalid character 'i' in literal null (expecting 'u')"),
        (b'{"ts":-}', "invalid character '}' in numeric literal"),
        (b'{"ts":1.}', "invalid character '}' after decimal point in numeric literal"),
        (b'{"ts":1e+}', "invalid character '}' in exponent of numeric literal"),
        (b'{"ts":NaN}', "invalid character 'N' looking for beginning of value"),
        (b"7", "json: cannot unmarshal number into Go value of type secure.HttpHeader"),
        (b'"7"', "json: cannot unmarshal string into Go value of type secure.HttpHeader"),
        (
            b'{"AUTH":true}',
            "json: cannot unmarshal bool into Go struct field HttpHeader.Auth of type string",
        ),
        (
            b'{"session_id":{}, "ts":1}',
            "json: cannot unmarshal object into Go struct field HttpHeader.session_id of type "
            "string",
        ),
        (
            b'{"keys":1}',
            "json: cannot unmarshal number into Go struct field HttpHeader.Keys of type []uint8",
        ),
        (
            b'{"ForwardType":1.5}',
            "json: cannot unmarshal number 1.5 into Go struct field HttpHeader.ForwardType of type "
            "int",
        ),
        (b'{"keys":"QQ"}', "illegal base64 data at input byte 0"),
        (b'{"keys":"QQ=!"}', "illegal base64 data at input byte 2"),
        (b'{"keys":"QQ==QQ=="}', "illegal base64 data at input byte 4"),
    ],
)
def test_a_header_that_go_would_not_read_is_refused_in_its_words(said: bytes, why: str) -> None:
    refusal = header_refusal(client.sealed(KEY.public_key, said))

    assert refusal.message == f"Decrypt http header failed: {why}"
    assert (refusal.stage, refusal.status, refusal.code) == ("header", 401, 1)


@pytest.mark.parametrize("said", [b"[" * 20_000, b'{"a":' * 5_000])
def test_a_header_nested_deeper_than_anybody_would_is_refused(said: bytes) -> None:
    refusal = header_refusal(client.sealed(KEY.public_key, said, chunk_size=BLOCK_BYTES - 11))

    assert refusal.err_code == "Security.Authentication.Header.DecryptFailed"


@given(st.text(max_size=60) | st.text("AQ=/+\r\n", max_size=400))
def test_any_text_but_a_sealed_one_is_refused(value: str) -> None:
    assert header_refusal(value).err_code == "Security.Authentication.Header.DecryptFailed"


@given(st.binary(max_size=120))
def test_any_sealed_text_is_read_or_refused(said: bytes) -> None:
    assert outcome_of_header(said) in ("read", "header")


@given(
    st.binary(max_size=64) | st.binary(max_size=64).map(base64.b64encode), st.binary(max_size=40)
)
def test_any_body_is_read_or_refused(body: bytes, keys: bytes) -> None:
    assert outcome_of_body(body, keys) in ("read", "body", "panic")


def test_a_wrong_key_that_leaves_a_last_byte_too_large_is_a_panic() -> None:
    refusal = body_refusal(client.sealed_body(b"{}"), bytes(16) + client.AES_IV)

    assert (refusal.stage, refusal.status, refusal.code) == ("panic", 500, None)


def outcome_of_header(said: bytes) -> str:
    try:
        open_header(KEY, client.sealed(KEY.public_key, said))
    except ObshellError as refusal:
        return refusal.stage
    return "read"


def outcome_of_body(body: bytes, keys: bytes) -> str:
    try:
        open_body(body, keys)
    except ObshellError as refusal:
        return refusal.stage
    return "read"
