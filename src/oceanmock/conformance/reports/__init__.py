"""Define what every report of conformance runs shows, before it is formatted.

The modules of this package show results in a terminal, and as HTML, JSON and JUnit XML. Texts are
clean (no control character, no lone surrogate) but not escaped: HTML, XML and terminals each escape
in their own way.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING, Final, Literal

import orjson

from oceanmock.apis import api_named
from oceanmock.checks import CheckResult, Exchange
from oceanmock.conformance.model import FAILED, INCOMPLETE, INTERRUPTED, NO_RESPONSE, PASSED, UNTESTABLE, Result
from oceanmock.credentials import AccessKey, Basic, Sealed
from oceanmock.text import format_elapsed, plural

if TYPE_CHECKING:
    from oceanmock.conformance.target import Target

MAX_SHOWN_BODY: Final = 16 * 2**10
"""The number of bytes of a body that a report shows."""
VERDICTS: Final = {
    PASSED: ("PASSED", "no violations, all required responses observed"),
    FAILED: ("FAILED", "violations that no baseline accepts"),
    UNTESTABLE: ("UNTESTABLE", "the run could not begin"),
    INCOMPLETE: ("INCOMPLETE", "no violations, but required responses were not observed"),
    INTERRUPTED: ("INTERRUPTED", "stopped by Ctrl-C; the findings so far are reported"),
}
"""Exit code → verdict and its meaning."""

# --- counts ---------------------------------------------------------------------------------------


def exit_code(results: Sequence[Result]) -> int:
    """Return the exit code of several runs: that of the worst."""
    return min((item.exit_code for item in results), key=_WORST_FIRST.index)


_WORST_FIRST: Final = (INTERRUPTED, FAILED, INCOMPLETE, PASSED)


def headline(result: Result) -> str:
    """Return the counts of a run, such as `2 findings, 1 known, 2 statuses missing`."""
    failed = sum(step.outcome == "failed" for steps in result.stories.values() for step in steps)
    parts = [
        plural(len(result.findings), "finding"),
        f"{len(result.known):,} known" if result.known else "",
        f"{plural(len(result.missing), 'status', 'statuses')} missing" if result.missing else "",
        f"{plural(failed, 'story step')} failed" if failed else "",
        f"{plural(len(result.stale), 'entry', 'entries')} stale" if result.stale else "",
    ]
    return ", ".join(filter(None, parts))


def mode(result: Result) -> str:
    """Return whether the run could change the target."""
    return "read and write" if result.writes else "read-only"


def server_name(result: Result) -> str:
    """Return the API and the target's version, such as `OCP 4.2.2`."""
    return clean(f"{api_named(result.api).title} {result.version}".rstrip())


@dataclass(frozen=True, slots=True)
class Cell:
    """One operation and status: how often it was received, and whether it is required."""

    status: int
    count: int
    is_missing: bool


def matrix(result: Result) -> tuple[list[int], dict[str, list[Cell]]]:
    """Return all statuses, sorted with no response last, and each operation's cells."""
    missing = {(item.operation, item.status) for item in result.missing}
    received = {status for counts in result.statuses.values() for status in +counts}
    statuses = sorted(received | {status for _, status in missing}, key=lambda n: (n == NO_RESPONSE, n))
    operations = dict.fromkeys([*result.statuses, *(item.operation for item in result.missing)])
    cells = {
        name: [
            Cell(status, result.statuses.get(name, Counter())[status], (name, status) in missing) for status in statuses
        ]
        for name in operations
    }
    return statuses, cells


@dataclass(frozen=True, slots=True)
class RuleLine:
    """The counts of one rule; ``violations`` are findings that no baseline accepts."""

    rule: str
    checks: int
    violations: int
    known: int

    @property
    def outcome(self) -> Literal["violated", "known", "passed", "not checked"]:
        """Return the worst that happened."""
        if self.violations:
            return "violated"
        return "known" if self.known else "passed" if self.checks else "not checked"


def rule_lines(result: Result) -> Iterator[RuleLine]:
    """Yield a line per rule, by id, including rules that only findings name."""
    violations = Counter(item.rule for item in result.findings)
    known = Counter(item.rule for item in result.known)
    for rule in sorted({*result.rules, *violations, *known}):
        count = result.rules.get(rule)
        yield RuleLine(clean(rule), count.looked if count else 0, violations[rule], known[rule])


def is_accepted(exchange: Exchange) -> bool:
    """Return whether a request succeeded, so that it changed the target."""
    return exchange.status is not None and 200 <= exchange.status < 300


# --- texts ----------------------------------------------------------------------------------------

_UNCLEAN: Final = re.compile(
    "[^\\t\\n\\r\\x20-\\x7e\\xa0-\\u200a\\u2010-\\u2027\\u2030-\\u205f\\u2070-\\ud7ff"
    "\\ue000-\\ufdcf\\ufdf0-\\ufefe\\uff00-\\uffef\\U00010000-\\U0001fffd\\U00020000-\\U0002fffd"
    "\\U00030000-\\U0003fffd]"
)
"""Characters that XML forbids, that control a terminal, or that reverse a text's direction."""


def clean(text: str) -> str:
    r"""Return a text whose unprintable characters are spelled out: ``\x1b``, ``\u202e``."""
    return _UNCLEAN.sub(lambda match: ascii(match[0])[1:-1], text)


def line(text: str) -> str:
    """Return a clean text on one line."""
    return clean(text).replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def body_text(body: bytes, limit: int = MAX_SHOWN_BODY) -> str:
    """Return a body for reading: its indented JSON, else its text, else its bytes in hex."""
    cut = f"\n… {len(body) - limit:,} more bytes" if len(body) > limit else ""
    if not cut:
        try:
            return clean(orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode())
        except (ValueError, RecursionError):
            pass
    try:
        text = body[:limit].decode("utf-8", errors="ignore" if cut else "strict")
    except UnicodeDecodeError:
        text = body[: limit // 4].hex(" ")
    return clean(text) + cut


def request_line(exchange: Exchange) -> str:
    """Return `GET /api/v2/…`."""
    return line(f"{exchange.method} {exchange.target}")


def response_line(exchange: Exchange) -> str:
    """Return `200 in 3.4 ms`, or why there is no response."""
    took = format_elapsed(exchange.took)
    if exchange.status is None:
        return f"no response after {took}: {line(exchange.problem) or 'the connection was cut'}"
    return f"{exchange.status} in {took}"


def finding_line(finding: CheckResult) -> str:
    """Return where a finding is and what it is."""
    return f"{finding.breadcrumb}: {finding.message}"


def status_name(status: int) -> str:
    """Return a status as the head of a column."""
    return "none" if status == NO_RESPONSE else str(status)


# --- commands -------------------------------------------------------------------------------------

CLIENT_HEADERS: Final = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "host", "user-agent"} | {"transfer-encoding"}
)
"""Headers that every client sends in its own way."""
CREDENTIAL_HEADERS: Final = frozenset({"authorization", "date", "x-ocs-header", "x-ocs-agent-header"})
"""Headers that are computed for each request."""
REWRITTEN_BY_CURL: Final = re.compile(r"[\[\]{}]|/\.")
"""Parts of a URL that curl reads as a pattern, or normalizes."""


def curl_of(exchange: Exchange, target: Target) -> str:
    """Return the command that reproduces an exchange: curl, or Python where curl cannot sign it.

    It can be pasted into a shell as it is. Secrets stay out: the command reads ``$PASSWORD`` or
    ``$SECRET_KEY`` where the run used one, and other users' credentials are masked.
    """
    own = target.auth if exchange.credentials == "own" else None
    if isinstance(own, AccessKey):
        reason = "# Each request has its own signature, which curl cannot make:"
        signer = f'AccessKey({own.id!r}, os.environ["SECRET_KEY"])'
        return f"{reason}\n{_python(exchange, target, signer)}"
    if isinstance(own, Sealed):
        params = ['os.environ["PASSWORD"]' if own.password else '""']
        params += ['os.environ["AGENT_PASSWORD"]'] if own.agent_password is not None else []
        params += [f"verify={target.verify!r}"] if target.verify is not True else []
        signer = f"Sealed({', '.join(params)})"
        socket = '--unix-socket "$OBSHELL_HOME/run/obshell.sock"'
        return (
            "# curl cannot encrypt the body, but the agent's unix socket needs no encryption:\n"
            f"{_curl(exchange, 'http://localhost', socket)}\n# From any machine:\n"
            f"{_python(exchange, target, signer)}"
        )
    options = []
    if isinstance(target.verify, str):
        options.append(f"--cacert {quote(target.verify)}")
    elif not target.verify:
        options.append("--insecure")
    if isinstance(own, Basic):
        options.append(f'-u {quote(f"{own.user}:")}"$PASSWORD"')
    return _curl(exchange, target.url, *options)


def _curl(exchange: Exchange, url: str, *options: str) -> str:
    body, headers = exchange.request_body, _headers(exchange)
    words = ["curl -sS", *options]
    if exchange.method == "HEAD":
        words.append("--head")
    elif exchange.method != ("POST" if body else "GET"):
        words.append(f"-X {quote(exchange.method)}")
    if REWRITTEN_BY_CURL.search(exchange.target):
        words.append("--globoff --path-as-is")
    words.append(quote(f"{url}{exchange.target}"))
    words += [f"-H {quote(f'{name}: {value}')}" for name, value in headers.items()]
    if not body:
        return " ".join(words)
    if not any(name.lower() == "content-type" for name in headers):
        words.append("-H Content-Type:")  # else curl declares a form
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = "\0"
    if text.replace("\n", "").isprintable() and not text.startswith("@"):
        return " ".join([*words, "--data-binary", quote(text)])
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
        "python - <<'END'\nimport os, requests\n"
        f"from oceanmock.credentials import {signer.partition('(')[0]}\n"
        f"response = requests.request({exchange.method!r}, {target.url + exchange.target!r},\n"
        f"    {', '.join(params)})\nprint(response.status_code, response.text)\nEND"
    )


def _headers(exchange: Exchange) -> dict[str, str]:
    """Return the request headers that a command has to state."""
    computed = CREDENTIAL_HEADERS if exchange.credentials == "own" else frozenset[str]()
    return {name: value for name, value in exchange.request_headers if name.lower() not in CLIENT_HEADERS | computed}
