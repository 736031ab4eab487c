"""Write the command that reproduces an exchange, for people to paste into a shell."""

from __future__ import annotations

import base64
import re
import shlex
from typing import TYPE_CHECKING, Final

from oceanmock.checks import Exchange
from oceanmock.credentials import AccessKey, Basic, Sealed

if TYPE_CHECKING:
    from oceanmock.conformance.target import Target

CLIENT_HEADERS: Final = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "host", "user-agent", "transfer-encoding"}
)
"""Headers that every client sends in its own way."""
SIGNING_HEADERS: Final = frozenset({"authorization", "date", "x-ocs-header", "x-ocs-agent-header"})
"""Headers that are computed for each request."""


def curl_of(exchange: Exchange, target: Target) -> str:
    """Return the command that reproduces an exchange: curl, or Python where curl cannot sign it.

    It can be pasted into a shell as it is. Secrets stay out: the command reads them from the variables that the run
    reads, such as ``$OCEANMOCK_PASSWORD``, and other users' credentials are masked.
    """
    own = target.auth if exchange.credentials == "own" else None
    if isinstance(own, AccessKey):
        command = _python(exchange, target, f'AccessKey({own.id!r}, os.environ["OCEANMOCK_SECRET_KEY"])')
        return f"# Each request has its own signature, which curl cannot make:\n{command}"
    if isinstance(own, Sealed):
        params = ['os.environ["OCEANMOCK_PASSWORD"]' if own.password else '""']
        params += ['os.environ["OCEANMOCK_AGENT_PASSWORD"]'] if own.agent_password is not None else []
        params += [f"verify={target.verify!r}"] if target.verify is not True else []
        signer = f"Sealed({', '.join(params)})"
        by_socket = _curl(exchange, "http://localhost", '--unix-socket "$OBSHELL_HOME/run/obshell.sock"')
        return (
            f"# curl cannot encrypt the body, but the agent's unix socket needs no encryption:\n{by_socket}\n"
            f"# From any machine:\n{_python(exchange, target, signer)}"
        )
    options = []
    if isinstance(target.verify, str):
        options.append(f"--cacert {shlex.quote(target.verify)}")
    elif not target.verify:
        options.append("--insecure")
    if isinstance(own, Basic):
        options.append(f'-u {shlex.quote(f"{own.user}:")}"$OCEANMOCK_PASSWORD"')
    return _curl(exchange, target.url, *options)


def _curl(exchange: Exchange, url: str, *options: str) -> str:
    body, headers = exchange.request_body, _headers(exchange)
    words = ["curl -sS", *options]
    if exchange.method == "HEAD":
        words.append("--head")
    elif exchange.method != ("POST" if body else "GET"):
        words.append(f"-X {shlex.quote(exchange.method)}")
    if re.search(r"[\[\]{}]|/\.", exchange.target):  # which curl reads as a pattern, or normalizes
        words.append("--globoff --path-as-is")
    words.append(shlex.quote(f"{url}{exchange.target}"))
    words += [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in headers.items()]
    if not body:
        return " ".join(words)
    if not any(name.lower() == "content-type" for name in headers):
        words.append("-H Content-Type:")  # else curl declares a form
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = "\0"
    if text.replace("\n", "").isprintable() and not text.startswith("@"):
        return " ".join([*words, "--data-binary", shlex.quote(text)])
    encoded = base64.b64encode(body).decode()
    return " ".join([f"echo {encoded} | base64 -d |", *words, "--data-binary @-"])


def _python(exchange: Exchange, target: Target, signer: str) -> str:
    """Return Python that signs the request with this package's credentials."""
    headers = _headers(exchange)
    params = [f"auth={signer}"]
    params += [f"headers={headers!r}"] if headers else []
    params += [f"data={exchange.request_body!r}"] if exchange.request_body else []
    params += [] if target.verify is True else [f"verify={target.verify!r}"]
    return (
        "python3 - <<'END'\nimport os, requests\n"
        f"from oceanmock.credentials import {signer.partition('(')[0]}\n"
        f"response = requests.request({exchange.method!r}, {target.url + exchange.target!r},\n"
        f"    {', '.join(params)})\nprint(response.status_code, response.text)\nEND"
    )


def _headers(exchange: Exchange) -> dict[str, str]:
    """Return the request headers that a command has to state."""
    computed = SIGNING_HEADERS if exchange.credentials == "own" else frozenset[str]()
    return {name: value for name, value in exchange.request_headers if name.lower() not in CLIENT_HEADERS | computed}
