"""Write the command that reproduces an exchange: curl, or Python where curl cannot sign it.

Secrets stay out: a password is read from the environment when the command runs. The command can be
pasted into a shell as it is.
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

CLIENT_HEADERS: Final = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "host", "user-agent"}
    | {"transfer-encoding"}
)
"""Headers that every client sends in its own way."""
CREDENTIAL_HEADERS: Final = frozenset(
    {"authorization", "date", "x-ocs-header", "x-ocs-agent-header"}
)
"""Headers that are computed for each request."""
REWRITTEN_BY_CURL: Final = re.compile(r"[\[\]{}]|/\.")
"""Parts of a URL that curl reads as a pattern, or normalizes."""


def curl_of(exchange: Exchange, target: Target) -> str:
    """Return the command; it reads ``$PASSWORD`` or ``$SECRET_KEY`` where the run used one."""
    own = target.auth if exchange.credentials == "own" else None
    if isinstance(own, Sealed):
        return _sealed(exchange, target, own)
    if isinstance(own, AccessKey):
        reason = "# Each request has its own signature, which curl cannot make:"
        return f"{reason}\n{_python(exchange, target)}"
    return _curl(exchange, target.url, _options(exchange, target))


def _sealed(exchange: Exchange, target: Target, auth: Sealed) -> str:
    """Return two commands: over the agent's unix socket, without encryption, and encrypted."""
    socket = ['--unix-socket "$OBSHELL_HOME/run/obshell.sock"']
    return "\n".join(
        [
            "# curl cannot encrypt the body, but the agent's unix socket needs no encryption:",
            _curl(exchange, "http://localhost", socket),
            "# From any machine:",
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
    if REWRITTEN_BY_CURL.search(exchange.target):
        words.append("--globoff --path-as-is")
    words.append(quote(f"{url}{exchange.target}"))
    headers = _headers(exchange)
    words += [f"-H {quote(f'{name}: {value}')}" for name, value in headers]
    if body and not any(name.lower() == "content-type" for name, _ in headers):
        words.append("-H Content-Type:")  # else curl declares a form
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
    """Return the remaining request headers; other users' credentials are masked."""
    computed = CREDENTIAL_HEADERS if exchange.credentials == "own" else frozenset[str]()
    return [
        (name, value)
        for name, value in exchange.request_headers
        if name.lower() not in CLIENT_HEADERS | computed
    ]


def _python(exchange: Exchange, target: Target) -> str:
    """Return Python that signs the request with this package's credentials."""
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
        f"response = requests.request({exchange.method!r}, {target.url + exchange.target!r},",
        f"    {', '.join(more)})",
        "print(response.status_code, response.text)",
    ]
    return "\n".join(["python - <<'END'", *code, "END"])


def _sealed_as(auth: Any, verify: bool | str) -> str:
    params = ['os.environ["PASSWORD"]'] if auth.password else ['""']
    params += [] if auth.agent_password is None else ['os.environ["AGENT_PASSWORD"]']
    params += [] if verify is True else [f"verify={verify!r}"]
    return f"Sealed({', '.join(params)})"
