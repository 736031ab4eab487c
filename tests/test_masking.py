"""Masking: a secret is in clear nowhere, whatever its name's spelling and its place; what is no secret is left alone.

The probes go over HTTP and are read back from the journal and the report; the generated ones go through the functions
that the journal, the reports, the log and conformance runs call.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from unittest.mock import Mock
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command import serving
from oceanmock.masking import mask_body, mask_headers, mask_query, mask_text
from plugin_runs import run
from served import REINSTALL, World

TASKS: Final = "/api/v2/tasks/instances"
PROBES: Final = [
    line.replace("¶", "\n").partition(" ")[::2]
    for line in (Path(__file__).parent / "data" / "masking.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]


def request_of(place: str, text: str) -> dict[str, Any]:
    """Return the options of a request that has a text in a place."""
    if place == "header":
        name, _, value = text.partition(": ")
        return {"headers": {name: value}}
    return {"content": text.encode()} if place == "body" else {"url": f"?{text}" if place == "query" else text}


@pytest.mark.blackbox
def test_no_probe_is_in_clear_in_the_journal_or_in_a_report() -> None:
    world = World(REINSTALL)
    ask, probes = world.serve(), [probe for probe in PROBES if probe[0] != "plain"]
    secrets = [f"Hunter{number:03}x" for number in range(len(probes))]
    ask("POST", TASKS, content='{"password": "Hunter16"}'.encode("utf-16"))
    for (place, text), secret in zip(probes, secrets, strict=True):
        options = request_of(place, text.replace("§", secret))
        ask("POST", TASKS + options.pop("url", ""), **options)
        report = str(world.sandbox.admin.ask("GET", "/report"))
        assert secret not in report, (place, text)

    journal = str(world.sandbox.admin.ask("GET", "/journal", query={"limit": 1000}))

    assert len(probes) >= 93
    assert "***" in journal
    assert "Hunter16" not in journal.replace("\\x00", "").replace("\x00", "")
    assert [probe for probe, secret in zip(probes, secrets, strict=True) if secret in journal] == []


@pytest.mark.blackbox
def test_no_secret_is_in_the_message_of_a_verification() -> None:
    world = World(REINSTALL)
    world.serve()("POST", f"{TASKS}/1;password=Hunter1", json={"rootPwd": "Hunter2"})

    with pytest.raises(AssertionError) as failure:
        world.sandbox.journal.assert_called(method="POST", path="*", body={"rootPwd": "Hunter3", "a": "sk=Hunter4"})

    assert "Hunter" not in str(failure.value)
    assert 'body.rootPwd: "***"' in str(failure.value)


def test_what_is_no_secret_stays_as_it_is() -> None:
    headers = (("x-ocs-agent", "a"), ("www-authenticate", 'Basic realm="OCP"'), ("x-key", "v"), ("authority", "h"))
    plain = [text for place, text in PROBES if place == "plain"]

    assert [text for text in plain if mask_body(text.encode()) != text.encode() or mask_text(text) != text] == []
    assert mask_headers(headers) == headers


# --- generated ------------------------------------------------------------------------------------

NAMES: Final = (
    *("password", "passwd", "pwd", "passphrase", "secret", "token", "credential", "ak", "sk", "jwt", "signature"),
    *("auth", "authorization", "bearer", "cookie", "hmac", "otp", "pass", "pin", "pswd", "psw", "pw", "sess"),
    *("session", "sid", "sig", "access id", "passcode", "passkey", "ocs header", "master key", "密码"),
    *("access key", "api key", "private key", "session id", "auth token", "client secret", "access key secret"),
)
JOINERS: Final = ("_", "-", ".", " ", "")


def multipart(name: str, secret: str) -> str:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"\r\nX: y\r\n\r\n{secret}\r\n--b--\r\n'


def dashed(name: str) -> str:
    return name.replace(" ", "-").replace(".", "-")


@st.composite
def spelled(draw: st.DrawFn) -> str:
    """Return a secret name in one of its spellings."""
    owner = draw(st.sampled_from((["root"], ["x"], ["oss", "db"], [])))
    words: list[str] = [*owner, *draw(st.sampled_from(NAMES)).split()]
    case = draw(st.sampled_from((str.lower, str.upper, str.title)))
    joiner: str = draw(st.sampled_from(JOINERS if case is str.title else JOINERS[:3]))
    words = [case(word) for word in words]
    if joiner == "" and draw(st.booleans()):
        words[0] = words[0].lower()
    return joiner.join(words)


def escaped(name: str, position: int, form: str) -> str:
    """Return a name with one of its characters escaped."""
    if form.startswith("%") and not name.isascii():
        return quote(name)
    position %= len(name)
    return name[:position] + form.format(ord(name[position])) + name[position + 1 :]


def json_text(value: Any, name: str, position: int) -> str:
    """Return JSON in which one character of the name is escaped."""
    return json.dumps(value).replace(json.dumps(name)[1:-1], escaped(name, position, "\\u{:04x}"), 1)


def in_json(wrap: Callable[[str, str], Any]) -> Callable[[str, str, int], tuple[str, str]]:
    return lambda name, secret, position: ("body", json_text(wrap(name, secret), name, position))


PLACES: Final[dict[str, Callable[[str, str, int], tuple[str, str]]]] = {
    "header": lambda name, secret, _: ("header", f"{dashed(name)}: {secret}"),
    "query": lambda name, secret, at: ("query", f"a=1&{escaped(name, at, '%{:02x}')}={quote(secret)}&b=2"),
    "form": lambda name, secret, at: ("body", f"a=1&{escaped(name, at, '%{:02X}')}={quote(secret)}"),
    "query in a query": lambda name, secret, _: ("query", f"u={quote(f'oss://b?a=1&{name}={quote(secret)}')}"),
    "member": in_json(lambda name, secret: {"a": [{"b": 1, name: secret}]}),
    "members": in_json(lambda name, secret: {name: {"value": [secret]}}),
    "pair": in_json(lambda name, secret: [{"name": name, "value": secret}]),
    "pair, value first": in_json(lambda name, secret: {"defaultValue": secret, "key": name}),
    "list of pairs": in_json(lambda name, secret: {"headers": [[name, secret]]}),
    "JSON in JSON": in_json(lambda name, secret: {"a": json.dumps({name: secret})}),
    "URI in JSON": in_json(lambda name, secret: {"a": f"oss://b?{quote(name)}={quote(secret)}"}),
    "URI's password": lambda _, secret, at: ("body", json.dumps({"a": f"mysql://me@sys:{quote(secret, '')}@h:{at}/"})),
    "element": lambda name, secret, _: ("body", f"<a><{dashed(name)}>{escape(secret)}</{dashed(name)}></a>"),
    "attribute": lambda name, secret, _: ("body", f"<a {dashed(name)}={quoteattr(secret)}/>"),
    "named element": lambda name, secret, at: ("body", f'<p name="{escaped(name, at, "&#{};")}">{escape(secret)}</p>'),
    "elements": lambda name, secret, _: ("body", f"<p><name>{name}</name><value>{escape(secret)}</value></p>"),
    "field": lambda name, secret, _: ("body", multipart(name, secret)),
    "setting": lambda name, secret, _: ("text", f"[a]\n{name.replace(' ', '_')} = {secret}\n"),
    "YAML": lambda name, secret, _: ("text", f"a: 1\n{dashed(name)}: {secret}\nb: 2"),
    "prose": lambda name, secret, _: ("text", f"failed with {name.replace(' ', '_')}={secret} at 12:30"),
    "option": lambda name, secret, _: ("text", f"obclient -h a --{dashed(name)} {secret} -P 1"),
}

ONLY_WHOLE: Final = ("pair, value first", "list of pairs")
"""The places that are found by parsing; in JSON that was cut, a name has to precede its value."""


def shown(place: str, text: str) -> str:
    """Return what masking leaves of a text in a place."""
    if place == "header":
        name, _, value = text.partition(": ")
        return mask_headers(((name, value),))[0][1]
    if place == "body":
        return mask_body(text.encode()).decode()
    return mask_query(text) if place == "query" else mask_text(text)


def check_generated(name: str, secret: str, where: str, position: int, cut: int) -> None:
    place, text = PLACES[where](name, secret, position)
    texts = [text]
    if place == "body" and text.startswith("{") and "://" not in text:
        texts += [text[: len(text) - cut]] if where not in ONLY_WHOLE else []  # as a long body is cut
    for item in texts:
        left = shown(place, item)
        clear = [form for form in {secret, quote(secret), escape(secret), json.dumps(secret)[1:-1]} if form in left]
        assert not clear, f"{where}: {item!r} became {left!r}"


GENERATED: Final = {
    "name": spelled(),
    "secret": st.from_regex(r"[A-Z][A-Za-z0-9!$*._~@/+-]{6,20}[0-9]", fullmatch=True),
    "where": st.sampled_from(list(PLACES)),
    "position": st.integers(0, 20),
    "cut": st.integers(0, 8),
}


@given(**GENERATED)
@settings(max_examples=60)
def test_no_generated_secret_is_in_clear(name: str, secret: str, where: str, position: int, cut: int) -> None:
    check_generated(name, secret, where, position, cut)


@pytest.mark.slow
@given(**GENERATED)
@settings(max_examples=2000)
def test_none_of_many_generated_secrets_is_in_clear(
    name: str, secret: str, where: str, position: int, cut: int
) -> None:
    check_generated(name, secret, where, position, cut)


@given(st.text() | st.lists(st.sampled_from([*'{}[]<>":=&;,%@/-\\\n ', "password", "name", "://", "S1"])).map("".join))
def test_any_text_can_be_masked_and_masked_text_stays(text: str) -> None:
    once = mask_text(text)

    assert isinstance(mask_query(text), str)
    assert mask_body(text.encode("utf-8", "surrogatepass")) is not None
    assert once == text or "***" in once or "password" not in text


# --- names of the user's own, and the log ---------------------------------------------------------


LOGGERS: Final = ("oceanmock", "uvicorn", "uvicorn.error", "uvicorn.access", "connexion", "asyncio")


@pytest.mark.parametrize(
    ("place", "logger"),
    [
        pytest.param("oceanmock.ocp.world.Tasks.page", "oceanmock", id="in a handler"),
        pytest.param("oceanmock.journal.Journal.record", "uvicorn.error", id="outside of the API"),
    ],
)
def test_no_probe_is_in_clear_in_a_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, place: str, logger: str
) -> None:
    """A planted mistake fails with the request's own text in its message."""
    ask, probes = World(REINSTALL).serve(), [probe for probe in PROBES if probe[0] != "plain"]
    for name in LOGGERS:
        caplog.set_level(logging.DEBUG, logger=name)
    secrets = [f"Hunter{number:03}x" for number in range(len(probes))]
    for (kind, text), secret in zip(probes, secrets, strict=True):
        content = text.replace("§", secret)
        mistake = Mock(side_effect=ValueError(content))
        options = request_of(kind, content)
        url = TASKS + options.pop("url", "")
        ask("POST", url, **options)
        with monkeypatch.context() as patch:
            patch.setattr(place, mistake)
            ask("GET", TASKS, **options)

    failures = [record for record in caplog.records if record.name == logger and record.levelname == "ERROR"]
    assert len(failures) == len(probes)
    assert [probe for probe, secret in zip(probes, secrets, strict=True) if secret in caplog.text] == []


@pytest.mark.blackbox
def test_serve_masks_names_of_the_user_s_own() -> None:
    with serving("retry-failed-subtask", "--mask", "licenseNo") as server:
        body = {"license_no": "A1", "x": [{"name": "LICENSE-NO", "value": "A2"}], "licensed": "A3"}
        httpx.post(f"{server.url}/api/v2/nowhere?licenseNo=A4&b=A5", json=body, headers={"X-License-No": "A6"})

        text = httpx.get(f"{server.url}/__admin/sandboxes/default/journal").text

    assert [number for number in range(1, 7) if f"A{number}" in text] == [3, 5]


@pytest.mark.blackbox
def test_the_plugin_masks_names_of_the_user_s_own(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\noceanmock_mask = licenseNo ssn\n")
    text = """
import httpx
def test_it(ocp):
    httpx.post(f"{ocp.url}/api/v2/nowhere?ssn=Hunter1", json={"license_no": "Hunter2", "classname": "Public"})
    assert False
"""

    told = run(pytester, text).stdout.str().partition("oceanmock journal")[2]

    assert ("Hunter" in told, "Public" in told) == (False, True)
