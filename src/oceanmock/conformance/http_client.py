"""Send every request of a conformance run, to one target and one at a time.

Before a byte leaves, the guard is asked; nothing goes to another host, faster than the permitted rate, or without a
timeout; a request refused with 429 is sent again after the delay that the response states. A redirect is a response.
The environment decides nothing: no proxies, no .netrc; cookies are not kept, or a request without credentials would
carry them.

Every exchange is masked, counted, given to the checkers and announced to the listener. A finding is announced once,
with a command that reproduces it.
"""

from __future__ import annotations

import base64
import json as json_
import re
import shlex
import socket
import ssl
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.client import HTTPException, IncompleteRead
from http.cookiejar import DefaultCookiePolicy
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote, urlsplit

import requests
import urllib3.exceptions
from requests.exceptions import InvalidHeader

from oceanmock.checks import Checker, CheckResult, Exchange, HeaderFields, Phase
from oceanmock.clock import SECOND, pause, stopwatch, wall_now
from oceanmock.conformance.model import (
    NO_RESPONSE,
    SAFE,
    CheckFailed,
    Guard,
    Listener,
    NotAllowed,
    Options,
    ResponseReceived,
    header_text,
    spec_for,
)
from oceanmock.credentials import AccessKey, Basic, Sealed
from oceanmock.errors import OceanmockError
from oceanmock.masking import MASK, is_secret, mask_body, mask_headers, mask_query, mask_text
from oceanmock.openapi import find_operation, operations_of

if TYPE_CHECKING:
    from oceanmock.conformance.target import Target

RequestAuth = Callable[[Any], Any] | Basic
"""Credentials that sign a request; a Basic is callable too, but mypy does not see it."""
Reply = requests.Response | requests.RequestException

CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 60.0
MAX_RESPONSE_TIME: Final = 120 * SECOND
"""The time in which a response has to be complete."""
MAX_RESPONSE_BYTES: Final = 64 * 2**20
MAX_TOTAL_DELAY: Final = 120 * SECOND
"""The time a run waits in all because of 429; a 429 beyond that is a response."""
MAX_RECENT_EXCHANGES: Final = 1000
"""The number of exchanges that are kept; all are counted."""
MIN_SECRET: Final = 8
"""The length from which a secret is masked in responses; a shorter one may be a word."""


class HttpClient:
    """The sender of requests to one target; ``session`` is for libraries that send themselves.

    The session sends without credentials, unless ``auth=client.auth`` is given with the request. It raises NotAllowed
    and RequestException; ``send`` raises NotAllowed alone. ``now`` and ``sleep`` are the machine's, in nanoseconds.
    """

    def __init__(
        self,
        target: Target,
        options: Options,
        *,
        listen: Listener = lambda _: None,
        checkers: Sequence[Checker] = (),
        now: Callable[[], int] = stopwatch,
        sleep: Callable[[int], object] = pause,
    ) -> None:
        self.target: Final = target
        self.options: Final = options
        self.checkers: Final = list(checkers)
        self.operations: Final = operations_of(spec_for(target.api, target.version))
        self.guard: Final = Guard(
            target.api, self.operations, writes=options.write, tasks=options.tasks, own_address=target.own_address
        )
        self.session: Final = _Session(self)
        self.exchanges: Final[deque[Exchange]] = deque(maxlen=MAX_RECENT_EXCHANGES)
        self.request_count = 0
        self.statuses: Final = {item.id: Counter[int]() for item in self.operations}
        self.changes: Final[list[Exchange]] = []
        self.findings: Final[list[CheckResult]] = []
        self.phase: Phase = "preflight"
        self._expects_refusal = False
        self._finding_keys: Final[set[Any]] = set()
        self._secrets: Final = _secrets_of(target.auth) | _secrets_of(target.read_only_auth)
        self._listen = listen
        self._now = now
        self._sleep = sleep
        self._next_at = 0
        self._remaining_delay = MAX_TOTAL_DELAY
        self._lock: Final = RLock()

    @contextmanager
    def during(self, phase: Phase, *, expects_refusal: bool = False) -> Iterator[None]:
        """Count the requests sent meanwhile to a phase."""
        before = self.phase, self._expects_refusal
        self.phase, self._expects_refusal = phase, expects_refusal
        try:
            yield
        finally:
            self.phase, self._expects_refusal = before

    def send(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        json: Any = None,
        auth: Literal["default"] | RequestAuth | None = "default",
        expects_refusal: bool = False,
    ) -> Exchange:
        """Send a request and return the exchange; without a response it has no status. Raises NotAllowed.

        ``target`` is path and query. ``auth`` is the run's own credentials by default.
        """
        sent_headers = dict(headers or {})
        if json is not None:
            body = json_.dumps(json).encode()
            sent_headers.setdefault("Content-Type", "application/json")
        request = requests.Request(method, self.target.url + target, headers=sent_headers, data=body)
        with self.during(self.phase, expects_refusal=expects_refusal or self._expects_refusal):
            try:
                signed: Any = self.session.prepare_request(request)
                if auth is not None:
                    signed = (self.auth if auth == "default" else auth)(signed)
            except NotAllowed:
                raise
            except (requests.RequestException, OceanmockError, ValueError) as why:
                unsent = requests.PreparedRequest()
                unsent.method, unsent.body = method, body
                unsent.headers = requests.structures.CaseInsensitiveDict(sent_headers)
                problem = requests.RequestException(f"it could not be sent: {why}")
                return self._record(unsent, target, problem, times=(wall_now(), 0))
            return self.carry(signed)[0]

    def auth(self, request: Any) -> Any:
        """Sign a request that the session sends with the run's own credentials."""
        request.is_own = True
        return request if self.target.auth is None else self.target.auth(request)

    def carry(self, request: Any) -> tuple[Exchange, Reply]:
        """Send a request if it is allowed, again if it came too soon; return its last outcome. Raises NotAllowed."""
        url = str(request.url).partition("#")[0]
        if not url.startswith(f"{self.target.url}/"):
            raise NotAllowed(f"{request.method} {url} was not sent: it does not go to the target.")
        target = url.removeprefix(self.target.url)
        with self._lock:
            self.guard.check(request.method, target, _plain_body(request))
            self.guard.check_headers(request.headers, _sent_body(request), host=urlsplit(self.target.url).netloc)
            while True:
                exchange, outcome = self._once(request, target)
                if exchange.status != HTTPStatus.TOO_MANY_REQUESTS:
                    return exchange, outcome
                # openapi/ocp.yaml has RateLimit-Reset; without a delay it is a second
                text = exchange.header("Retry-After") or exchange.header("RateLimit-Reset") or ""
                is_delay = re.fullmatch("[0-9]{1,4}", text)
                delay = max(int(text), 1) * SECOND if is_delay else SECOND
                if delay > self._remaining_delay:
                    return exchange, outcome
                self._remaining_delay -= delay
                self._sleep(delay)

    def _once(self, request: Any, target: str) -> tuple[Exchange, Reply]:
        """Send an allowed request, and record its outcome."""
        if self.options.rate:
            now = self._now()
            if now < self._next_at:
                self._sleep(self._next_at - now)
            self._next_at = max(now, self._next_at) + int(SECOND / self.options.rate)
        sent_at, began = wall_now(), self._now()
        outcome: Reply
        try:
            outcome = self._read(self.session.forward(request, self.target.verify))
        except requests.RequestException as problem:
            outcome = problem
        except urllib3.exceptions.HTTPError as problem:
            outcome = requests.ConnectionError(problem, request=request)
        except ValueError:
            outcome = InvalidHeader("a header cannot be written")
        times = sent_at, self._now() - began
        return self._record(request, target, outcome, times=times), outcome

    def _read(self, response: Any) -> requests.Response:
        """Return the response, read to its end. Raises RequestException beyond a limit."""
        began, pieces, size = self._now(), list[bytes](), 0
        try:
            while piece := response.raw.read1(64 * 2**10, decode_content=True):
                pieces.append(piece)
                size += len(piece)
                if size > MAX_RESPONSE_BYTES:
                    raise requests.ConnectionError(f"the response is longer than {MAX_RESPONSE_BYTES} bytes")
                if self._now() - began > MAX_RESPONSE_TIME:
                    raise requests.ConnectionError("the response does not end")
        except Exception:
            response.close()
            raise
        response._content, response._content_consumed = b"".join(pieces), True
        result: requests.Response = response
        return result

    def _record(self, request: Any, target: str, outcome: Reply, *, times: tuple[int, int]) -> Exchange:
        """Count an exchange, announce it, check it and return it; secrets are masked."""
        path, question, query = target.partition("?")
        request_headers = _pairs(request.headers.items())
        in_request = {value.split(" ", 1)[-1] for name, value in request_headers if is_secret(name, value)}
        secrets = {*self._secrets, *in_request}
        is_own = bool(getattr(request, "is_own", False) and self.target.auth is not None)
        status, headers, body, problem = None, HeaderFields(), b"", ""
        if isinstance(outcome, requests.Response):
            # a made-up secret may be a key of the JSON
            status, in_response = outcome.status_code, secrets if is_own else self._secrets
            headers = _masked(_pairs(outcome.raw.headers.items()), in_response)
            body = _hidden(mask_body(outcome.content), in_response)
        else:
            problem = _hidden(mask_text(problem_of(outcome).text), secrets)
        operation = find_operation(self.operations, request.method, path)
        exchange = Exchange(
            number=self.request_count + 1,
            phase=self.phase,
            operation=operation.id if operation else "",
            method=request.method,
            target=_hidden(mask_text(path) + question + mask_query(query), secrets),
            request_headers=_masked(request_headers, in_request),
            request_body=_hidden(mask_body(_plain_body(request)), secrets),
            status=status,
            response_headers=headers,
            response_body=body,
            sent_at=times[0],
            took=times[1],
            problem=problem,
            expects_refusal=self._expects_refusal,
            credentials="own" if is_own else "others" if in_request else "none",
        )
        with self._lock:
            self.request_count += 1
            self.exchanges.append(exchange)
            if exchange.operation:
                self.statuses[exchange.operation][exchange.status or NO_RESPONSE] += 1
            if exchange.method not in SAFE:
                self.changes.append(exchange)
            self.guard.learn(exchange)
            self._listen(ResponseReceived(exchange))
            for checker in self.checkers:
                for finding in checker(exchange):
                    self.found(finding)
        return exchange

    def found(self, finding: CheckResult) -> bool:
        """Keep and announce a finding unless its key is known; return whether it is new."""
        with self._lock:
            if finding.key in self._finding_keys:
                return False
            self._finding_keys.add(finding.key)
            if finding.exchange is not None and not finding.curl:
                finding = replace(finding, curl=curl_of(finding.exchange, self.target))
            self.findings.append(finding)
            self._listen(CheckFailed(finding))
            return True


class _Session(requests.Session):
    """A session of requests that sends through the client."""

    def __init__(self, client: HttpClient) -> None:
        super().__init__()
        self._client = client
        self.trust_env = False
        self.headers["User-Agent"] = "oceanmock-conform"
        self.headers["Accept-Encoding"] = "identity"
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        """Return the complete response; the client decides how it is sent. Raises NotAllowed, RequestException."""
        outcome = self._client.carry(request)[1]
        if isinstance(outcome, requests.RequestException):
            raise outcome
        return outcome

    def forward(self, request: requests.PreparedRequest, verify: bool | str) -> requests.Response:
        """Return the response, not yet read."""
        timeout = (CONNECT_SECONDS, READ_SECONDS)
        options: dict[str, Any] = {"timeout": timeout, "verify": verify, "proxies": {}}
        with warnings.catch_warnings():
            if verify is False:  # as the user asked
                warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
            return super().send(request, stream=True, allow_redirects=False, **options)


def _plain_body(request: Any) -> bytes:
    """Return the body before it was encrypted."""
    plain = getattr(request, "plain_body", None)
    return _sent_body(request) if plain is None else bytes(plain)


def _sent_body(request: Any) -> bytes:
    """Return the body as it is sent. Raises NotAllowed for a stream, which cannot be checked."""
    body = request.body
    if isinstance(body, str):
        return body.encode()
    if not isinstance(body, bytes | None):
        raise NotAllowed(f"a request was not sent: its body is a {type(body).__name__}, not bytes.")
    return body or b""


def _pairs(headers: Iterable[tuple[str | bytes, str | bytes]]) -> HeaderFields:
    return tuple((header_text(name), header_text(value)) for name, value in headers)


def _secrets_of(auth: Any) -> frozenset[str]:
    """Return the secrets of credentials, as they are and in a URL."""
    secrets = list[str]()
    match auth:
        case Basic() if auth.password != auth.user:
            secrets = [auth.password]
        case AccessKey():
            secrets = [auth.secret]
        case Sealed():
            secrets = [auth.password, auth.agent_password or ""]
    long = [item for item in secrets if len(item) >= MIN_SECRET]
    return frozenset([*long, *map(quote, long)])


def _masked(headers: HeaderFields, secrets: Iterable[str]) -> HeaderFields:
    return tuple((name, _hidden(value, secrets)) for name, value in mask_headers(headers))


def _hidden(text: Any, secrets: Iterable[str]) -> Any:
    """Return a text, or bytes, with every secret masked."""
    for secret in secrets:
        if len(secret) >= MIN_SECRET:
            is_bytes = isinstance(text, bytes)
            text = text.replace(*((s.encode() if is_bytes else s) for s in (secret, MASK)))
    return text


@dataclass(frozen=True, slots=True)
class Problem:
    """The reason why a request had no response: its kind, and a few words."""

    kind: str
    text: str


_PROBLEMS: Final[tuple[tuple[type[BaseException], Problem], ...]] = (
    (socket.gaierror, Problem("no such host", "no such host")),
    (ConnectionRefusedError, Problem("refused", "connection refused")),
    (TimeoutError, Problem("timeout", "no response in time")),
    (urllib3.exceptions.TimeoutError, Problem("timeout", "no response in time")),
    (ConnectionResetError, Problem("cut", "cut off before a response")),
    (BrokenPipeError, Problem("cut", "cut off before a response")),
    (urllib3.exceptions.DecodeError, Problem("other", "not encoded as it states")),
    (IncompleteRead, Problem("cut", "cut off within a response")),
    (InvalidHeader, Problem("not sendable", "a header of it cannot be written")),
    (HTTPException, Problem("no HTTP there", "the response is not HTTP")),
)
"""The first type that matches decides."""


def problem_of(error: BaseException) -> Problem:
    """Return the problem behind an error; the innermost cause that is known decides."""
    errors, waiting = list[BaseException](), [error]
    while waiting:
        current = waiting.pop()
        if current not in errors:
            errors.append(current)
            # the libraries put causes in several places
            causes = (current.__cause__, current.__context__, getattr(current, "reason", None), *current.args)
            waiting += [item for item in causes if isinstance(item, BaseException)]
    for item in reversed(errors):
        if isinstance(item, ssl.SSLCertVerificationError):
            # 62 and 64 are X509_V_ERR_HOSTNAME_MISMATCH and …_IP_ADDRESS_MISMATCH
            return Problem("other name" if item.verify_code in {62, 64} else "certificate", item.verify_message)
        if isinstance(item, ssl.SSLError):
            reason = item.reason or str(item)
            is_plain = reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"}
            return Problem("no TLS there" if is_plain else "TLS", reason.replace("_", " ").lower())
        for kind, problem in _PROBLEMS:
            if isinstance(item, kind):
                return problem
        if isinstance(item, OSError) and item.errno:
            return Problem("other", (item.strerror or str(item)).lower())
    return Problem("other", str(error) or type(error).__name__)


CLIENT_HEADERS: Final = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "host", "user-agent", "transfer-encoding"}
)
"""Headers that every client sends in its own way."""
SIGNING_HEADERS: Final = frozenset({"authorization", "date", "x-ocs-header", "x-ocs-agent-header"})
"""Headers that are computed for each request."""


def curl_of(exchange: Exchange, target: Target) -> str:
    """Return the command that reproduces an exchange: curl, or Python where curl cannot sign it.

    It can be pasted into a shell as it is. Secrets stay out: the command reads ``$PASSWORD`` or ``$SECRET_KEY`` where
    the run used one, and other users' credentials are masked.
    """
    own = target.auth if exchange.credentials == "own" else None
    if isinstance(own, AccessKey):
        command = _python(exchange, target, f'AccessKey({own.id!r}, os.environ["SECRET_KEY"])')
        return f"# Each request has its own signature, which curl cannot make:\n{command}"
    if isinstance(own, Sealed):
        params = ['os.environ["PASSWORD"]' if own.password else '""']
        params += ['os.environ["AGENT_PASSWORD"]'] if own.agent_password is not None else []
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
        options.append(f'-u {shlex.quote(f"{own.user}:")}"$PASSWORD"')
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
        "python - <<'END'\nimport os, requests\n"
        f"from oceanmock.credentials import {signer.partition('(')[0]}\n"
        f"response = requests.request({exchange.method!r}, {target.url + exchange.target!r},\n"
        f"    {', '.join(params)})\nprint(response.status_code, response.text)\nEND"
    )


def _headers(exchange: Exchange) -> dict[str, str]:
    """Return the request headers that a command has to state."""
    computed = SIGNING_HEADERS if exchange.credentials == "own" else frozenset[str]()
    return {name: value for name, value in exchange.request_headers if name.lower() not in CLIENT_HEADERS | computed}
