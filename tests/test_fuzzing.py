"""Hostile inputs at random: the server never makes a mistake, and responds to a good request afterwards.

Its own mistakes are what it logs; 500 is also a response that obshell gives to some requests.
"""

from __future__ import annotations

import base64
import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oceanmock import Mock
from served import client

pytestmark = pytest.mark.slow

SCENARIOS = sorted((Path(__file__).parents[1] / "scenarios").glob("[!_]*.yaml"))
TEXTS = [path.read_text("utf-8") for path in SCENARIOS]
WORDS = sorted({word for text in TEXTS for word in text.split()})
DAG = "12307692307692307692"
ROUTES = ("task/dag/{}", "task/node/{}", "task/sub_task/{}", "task/sub_task/{}/logs", "task/dag/unfinish/{}", "{}")
many = settings(max_examples=150, deadline=None)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=5) | st.dictionaries(st.text(max_size=10), values, max_size=5),
    max_leaves=20,
)


class Watched:
    """A server, and what it has logged."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.mistakes: list[str] = []

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        return client().request(method, self.url + path, timeout=30, **options)

    def assert_sound(self) -> None:
        good = self.send("GET", "/api/v2/tasks/instances", auth=("viewer", "viewer"))
        assert (good.status_code, self.mistakes) == (200, [])


@pytest.fixture(scope="module")
def server() -> Iterator[Watched]:
    handler = logging.Handler(logging.WARNING)
    loggers = [logging.getLogger(name) for name in ("oceanmock", "uvicorn.error", "asyncio")]
    with Mock.start() as mock:
        watched = Watched(mock.url)
        scenarios = {"scenarios": ["retry-failed-subtask", "retry-failed-node"]}
        watched.send("POST", "/__admin/sandboxes/default/scenarios", json=scenarios)
        handler.emit = lambda record: watched.mistakes.append(record.getMessage())  # type: ignore[method-assign]
        for logger in loggers:
            logger.addHandler(handler)
        yield watched
        for logger in loggers:
            logger.removeHandler(handler)


WORDS_OF_HTTP = r"""
GET|POST| |\r\n|\n|\0|/|*|?|%|:|http://x|HTTP/1.1|HTTP/9.9|Host: mock|Content-Length: 5|Content-Length: -1|
Expect: 100-continue|Transfer-Encoding: chunked|Connection: upgrade|
X-Oceanmock-Sandbox: x|Authorization: Basic |/api/v1/info|/__admin/ready
"""
tokens = st.sampled_from(WORDS_OF_HTTP.replace("\n", "").encode().decode("unicode_escape").encode().split(b"|"))


@many
@given(st.lists(tokens | st.binary(max_size=20), max_size=25))
def test_any_head_is_answered_or_the_connection_closed(server: Watched, parts: list[bytes]) -> None:
    place = urlsplit(server.url)

    with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
        connection.sendall(b"".join(parts))
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as file:
            answer = file.read()

    assert not answer or answer.startswith(b"HTTP/1.1 ")
    assert not answer.startswith(b"HTTP/1.1 500")
    server.assert_sound()


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Draw a scenario of the library with some lines lost, repeated, moved, or with other words."""
    lines = draw(st.sampled_from(TEXTS)).splitlines()
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(lines) - 1))
        change = draw(st.sampled_from(["drop", "repeat", "indent", "word", "text"]))
        words = lines[place].split(" ")
        words[-1] = draw(st.sampled_from(WORDS) if change == "word" else st.text(max_size=12))
        if change == "drop" and len(lines) > 1:
            del lines[place]
        elif change == "repeat":
            lines.insert(draw(st.integers(0, len(lines))), lines[place])
        else:
            lines[place] = f"  {lines[place]}" if change == "indent" else " ".join(words)
    return "\n".join(lines)


@many
@given(texts())
def test_any_scenario_is_served_or_refused(server: Watched, text: str) -> None:
    answer = server.send("POST", "/__admin/sandboxes", json={"name": "fuzz", "scenarios": [text]})

    assert answer.status_code in (201, 400)
    if answer.status_code == 201:
        for path in ("/report", "/tasks", "/clock", "/faults"):
            assert server.send("GET", f"/__admin/sandboxes/fuzz{path}").status_code == 200
        server.send("DELETE", "/__admin/sandboxes/fuzz")
    server.assert_sound()


@many
@given(json_values)
def test_any_fault_task_or_sandbox_is_accepted_or_refused(server: Watched, value: Any) -> None:
    for path in (
        "/sandboxes",
        "/sandboxes/default/faults",
        "/sandboxes/default/tasks",
        "/sandboxes/default/clock/move",
    ):
        for body in (value, {"template": value, "api": "ocp"}, {"scenarios": [value]}, {"delay": "0s", "drop": value}):
            answer = server.send("POST", f"/__admin{path}", content=json.dumps(body))
            assert answer.status_code in (200, 201, 400, 409)
    server.send("DELETE", "/__admin/sandboxes/default")
    server.assert_sound()


ids = (
    st.text(max_size=60)
    | st.from_regex(r"[12345]?[0-9]{0,60}", fullmatch=True)
    | st.sampled_from([DAG, "0", "-1", "1e9"])
)


@many
@given(ids, st.sampled_from(ROUTES), st.sampled_from(["GET", "POST", "DELETE"]), json_values)
def test_any_id_is_looked_up(server: Watched, id: str, route: str, method: str, body: Any) -> None:
    path = route.format(quote(id, safe=""))

    server.send(method, f"/api/v1/{path}", headers={"X-OCS-Header": ""}, content=json.dumps(body))
    ocp = server.send(method, f"/api/v2/tasks/instances/{quote(id, safe='')}", auth=("manager", "manager"))

    assert ocp.status_code < 500
    server.assert_sound()


headers = st.binary(max_size=600).map(base64.b64encode) | st.text("+/=abcXYZ019\t", max_size=300).map(str.encode)


@many
@given(headers, st.binary(max_size=200), st.sampled_from(["task/dag/1", "task/dag/maintain/agent", "ob/start"]))
def test_any_sealed_header_is_opened_or_refused(server: Watched, header: bytes, body: bytes, path: str) -> None:
    sealed = {b"X-OCS-Header": header.strip()}

    answer = server.send("POST", f"/api/v1/{path}", headers=sealed, content=body)

    assert answer.status_code >= 400
    server.assert_sound()


keys = st.sampled_from(
    ["api", "operation", "path", "status", "task", "dag", "sub_task", "body", "fault", "caller", "x"]
)


@many
@given(st.dictionaries(keys, json_values, max_size=5), st.none() | st.integers(-1, 5), st.integers(-1, 5))
def test_any_query_of_the_journal_is_compared_or_refused(
    server: Watched, query: dict[str, Any], times: int | None, at_least: int
) -> None:
    limits = {"at_least": at_least} if times is None else {"times": times}
    filters = {key: str(value) for key, value in query.items()}

    verdict = server.send("POST", "/__admin/sandboxes/default/journal/verify", json={"query": query, **limits})
    page = server.send("GET", "/__admin/sandboxes/default/journal", params=filters)

    assert verdict.status_code in (200, 400, 417)
    assert page.status_code in (200, 400)
    server.assert_sound()
