"""A command that asks again what an exchange asked: curl, or where curl can not sign it, Python.

What was masked stays out: a password is read from the environment when the command runs. The one
rule: the command can be pasted into a shell as it is.
"""

from __future__ import annotations

import base64
import re
from shlex import quote
from typing import TYPE_CHECKING, Any, Final

from oceanmock.checks import Exchange
from oceanmock.credentials import AccessKey, Basic, Sealed

if TYPE_CHECKING:
    from oceanmock.conformance.target import Target

OF_A_CLIENT: Final = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "host", "user-agent"}
    | {"transfer-encoding"}
)
"""What every client sends in its own way."""
OF_CREDENTIALS: Final = frozenset({"authorization", "date", "x-ocs-header", "x-ocs-agent-header"})
"""What is made anew for each request."""
ODD: Final = re.compile(r"[\[\]{}]|/\.")
"""What curl reads as a pattern, or tidies up."""


def curl_of(exchange: Exchange, target: Target) -> str:
    """The command. It needs ``$PASSWORD`` (or ``$SECRET_KEY``) where the run was let in by one."""
    own = target.auth if exchange.credentials == "own" else None
    if isinstance(own, Sealed):
        return _sealed(exchange, target, own)
    if isinstance(own, AccessKey):
        return f"# Each request is signed anew, which curl cannot do:\n{_python(exchange, target)}"
    return _curl(exchange, target.url, _options(exchange, target))


def _sealed(exchange: Exchange, target: Target, auth: Sealed) -> str:
    """Two ways: over the agent's unix socket, which seals nothing, and sealed."""
    socket = ['--unix-socket "$OBSHELL_HOME/run/obshell.sock"']
    return "\n".join(
        [
            "# It has to be sealed, which curl cannot do; on the agent's own machine not so:",
            _curl(exchange, "http://localhost", socket),
            "# From here:",
            _python(exchange, target),
        ]
    )


def _curl(exchange: Exchange, url: str, options: list[str]) -> str:
    body = exchange.request_body
    words = ["curl -sS", *options]
    if exchange.method == "HEAD":
        words.append("--head")
    elif exchange.method != ("POST" if body else "GET"):
        words.append(f"-X {quote(exchange.method)}")
    if ODD.search(exchange.target):
        words.append("--globoff --path-as-is")
    words.append(quote(f"{url}{exchange.target}"))
    headers = _headers(exchange)
    words += [f"-H {quote(f'{name}: {value}')}" for name, value in headers]
    if body and not any(name.lower() == "content-type" for name, _ in headers):
        words.append("-H Content-Type:")  # else curl says it is a form
    return _with_body(body, " ".join(words))


def _with_body(body: bytes, command: str) -> str:
    if not body:
        return command
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = "\0"
    if text.replace("\n", "").isprintable() and not text.startswith("@"):
        return f"{command} --data-binary {quote(text)}"
    return f"echo {base64.b64encode(body).decode()} | base64 -d | {command} --data-binary @-"


def _options(exchange: Exchange, target: Target) -> list[str]:
    options = []
    if isinstance(target.verify, str):
        options.append(f"--cacert {quote(target.verify)}")
    elif not target.verify:
        options.append("--insecure")
    if exchange.credentials == "own" and isinstance(target.auth, Basic):
        options.append(f'-u {quote(f"{target.auth.user}:")}"$PASSWORD"')
    return options


def _headers(exchange: Exchange) -> list[tuple[str, str]]:
    """What has to be said besides; credentials of others stand there masked, and as wrong."""
    made_anew = OF_CREDENTIALS if exchange.credentials == "own" else frozenset[str]()
    return [
        (name, value)
        for name, value in exchange.request_headers
        if name.lower() not in OF_A_CLIENT | made_anew
    ]


def _python(exchange: Exchange, target: Target) -> str:
    """Python that asks through the credentials of this package."""
    auth = target.auth
    if isinstance(auth, AccessKey):
        made = f'AccessKey({auth.id!r}, os.environ["SECRET_KEY"])'
    else:
        made = _sealed_as(auth, target.verify)
    more = [f"auth={made}"]
    headers = dict(_headers(exchange))
    more += [f"headers={headers!r}"] if headers else []
    more += [f"data={exchange.request_body!r}"] if exchange.request_body else []
    more += [] if target.verify is True else [f"verify={target.verify!r}"]
    code = [
        "import os, requests",
        f"from oceanmock.credentials import {made.partition('(')[0]}",
        f"answer = requests.request({exchange.method!r}, {target.url + exchange.target!r},",
        f"    {', '.join(more)})",
        "print(answer.status_code, answer.text)",
    ]
    return "\n".join(["python - <<'END'", *code, "END"])


def _sealed_as(auth: Any, verify: bool | str) -> str:
    given = ['os.environ["PASSWORD"]'] if auth.password else ['""']
    given += [] if auth.agent_password is None else ['os.environ["AGENT_PASSWORD"]']
    given += [] if verify is True else [f"verify={verify!r}"]
    return f"Sealed({', '.join(given)})"
