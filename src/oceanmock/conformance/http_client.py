"""Send every request of a conformance run, to one target and one at a time.

Before a byte leaves, the guard is asked; nothing goes to another host, faster than the permitted rate, or without a
timeout; a request refused with 429 is sent again after the delay that the response states. A read that the server cuts
off on a connection kept alive is sent once more on a new one (RFC 9112, 9.3.1), where every write goes at once. A
redirect is a response. Bodies are read as UTF-8, whatever their encoding.
The environment decides nothing: no proxies, no .netrc; cookies are not kept, or a request without credentials would
carry them.

Every exchange is masked, counted, given to the checkers and announced to the listener. A finding is announced once,
with a command that reproduces it.
"""

from __future__ import annotations

import json as json_
import re
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
from itertools import accumulate
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote, urlsplit

import requests
import urllib3.exceptions
from requests.exceptions import InvalidHeader

from oceanmock.apis import api_named
from oceanmock.checks import Checker, CheckResult, Exchange, HeaderFields, Phase
from oceanmock.clock import SECOND, pause, stopwatch, wall_now
from oceanmock.conformance.model import (
    NO_RESPONSE,
    SAFE,
    BoundReached,
    Guard,
    Listener,
    NotAllowed,
    Options,
    header_text,
    spec_for,
)
from oceanmock.conformance.reports.terminal import curl_of
from oceanmock.credentials import AccessKey, Basic, Sealed
from oceanmock.errors import OceanmockError
from oceanmock.masking import MASK, is_secret, mask_body, mask_headers, mask_query, mask_text
from oceanmock.openapi import find_operation, operations_of
from oceanmock.text import format_duration

if TYPE_CHECKING:
    from oceanmock.conformance.target import Target

RequestAuth = Callable[[Any], Any] | Basic
"""Credentials that sign a request; a Basic is callable too, but mypy does not see it."""
Reply = requests.Response | requests.RequestException

CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 60.0
MAX_READS: Final = 2
"""The time in which a response has to be complete, in spans that one read may take."""
MAX_RESPONSE_BYTES: Final = 64 * 2**20
MAX_TOTAL_DELAY: Final = 120 * SECOND
"""The time a run waits in all because of 429; a 429 beyond that is a response."""
MAX_RECENT_EXCHANGES: Final = 1000
"""The number of exchanges that are kept; all are counted."""
MAX_DEPTH: Final = 100
"""The levels of nesting of a response; every library that reads one is recursive."""
STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
NO_BRACKETS: Final = bytes({*range(256)} - {*b"[]{}"})
CHARSET: Final = re.compile(
    r"charset=\"?((?:big5|cp|euc|gb|iso|latin|shift|us|utf|windows)[a-z0-9_:-]*)", re.IGNORECASE
)
"""The charset in a Content-Type, if it is one in which texts are sent."""
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
            target.api,
            self.operations,
            writes=options.write,
            tasks=options.tasks,
            own_address=target.own_address,
            spared="" if options.unknown_ids else target.spared,
            cancel_rollback=options.cancel_rollback,
        )
        self.session: Final = _Session(self)
        self.exchanges: Final[deque[Exchange]] = deque(maxlen=MAX_RECENT_EXCHANGES)
        self.request_count = 0
        self.read_seconds = READ_SECONDS
        self.statuses: Final = {item.id: Counter[int]() for item in self.operations}
        self.latencies: Final = {item.id: list[int]() for item in self.operations}
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
        self._is_kept_alive = False
        self._began = now()
        self.is_bounded = True
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

    @property
    def bound(self) -> str:
        """Return the option with the bound that the run has reached, or ""."""
        options = self.options
        if options.max_requests and self.request_count >= options.max_requests:
            return f"--max-requests {options.max_requests}"
        is_late = options.max_time and self._now() - self._began >= options.max_time
        return f"--max-time {format_duration(options.max_time)}" if is_late else ""

    def carry(self, request: Any) -> tuple[Exchange, Reply]:
        """Send a request if it is allowed, again if it came too soon; return its last outcome.

        Raises NotAllowed, BoundReached.
        """
        url = str(request.url).partition("#")[0]
        if not url.startswith(f"{self.target.url}/"):
            raise NotAllowed(f"{request.method} {url} was not sent: it does not go to the target.")
        target = url.removeprefix(self.target.url)
        with self._lock:
            operation = find_operation(self.operations, request.method, target.partition("?")[0])
            if operation is not None and operation.id in self.options.excluded:
                raise NotAllowed(f"{request.method} {target} was not sent: --exclude names {operation.id}.")
            self.guard.check(request.method, target, _plain_body(request))
            if self.is_bounded and self.bound:
                raise BoundReached
            self.guard.check_headers(request.headers, _sent_body(request), host=urlsplit(self.target.url).netloc)
            while True:
                exchange, outcome = self._once(request, target)
                if exchange.status is None and self.target.spared and self.guard.unknown_id(request.method, target):
                    self._spare(exchange)
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

    def _spare(self, exchange: Exchange) -> None:
        """Report that an id of nothing did harm, and send no more of them."""
        self.guard.spared = self.target.spared
        api = api_named(self.target.api)
        rule = api.checks.OWN_RULES[api.conformance.spared_rule]
        why = f"it is not answered; {self.target.spared}"
        self.found(CheckResult(rule.id, "$", why, exchange.operation, source=rule.source, exchange=exchange))

    def _once(self, request: Any, target: str) -> tuple[Exchange, Reply]:
        """Send an allowed request, and record its outcome."""
        if self.options.rate:
            now = self._now()
            if now < self._next_at:
                self._sleep(self._next_at - now)
            self._next_at = max(now, self._next_at) + int(SECOND / self.options.rate)
        if request.method not in SAFE:
            self._renew()
        sent_at, began = wall_now(), self._now()
        outcome = self._outcome(request)
        if self._is_kept_alive and isinstance(outcome, requests.RequestException) and problem_of(outcome) == CUT:
            self._renew()
            sent_at, began = wall_now(), self._now()
            outcome = self._outcome(request)
        self._is_kept_alive = isinstance(outcome, requests.Response)
        times = sent_at, self._now() - began
        return self._record(request, target, outcome, times=times), outcome

    def _renew(self) -> None:
        """Close the connection, so that the next request has a new one."""
        self.session.close()
        self._is_kept_alive = False

    def _outcome(self, request: Any) -> Reply:
        """Return the complete response to a request, or why there is none."""
        try:
            return self._read(self.session.forward(request, self.target.verify))
        except requests.RequestException as problem:
            return problem
        except urllib3.exceptions.HTTPError as problem:
            return requests.ConnectionError(problem, request=request)
        except ValueError:
            return InvalidHeader("a header cannot be written")

    def _read(self, response: Any) -> requests.Response:
        """Return the response, read to its end and in UTF-8. Raises RequestException beyond a limit."""
        limit = MAX_READS * self.read_seconds * SECOND
        began, pieces, size = self._now(), list[bytes](), 0
        try:
            while piece := response.raw.read1(64 * 2**10, decode_content=True):
                pieces.append(piece)
                size += len(piece)
                if size > MAX_RESPONSE_BYTES:
                    raise requests.ConnectionError(f"the response is longer than {MAX_RESPONSE_BYTES} bytes")
                if self._now() - began > limit:
                    raise requests.ConnectionError("the response does not end")
        except Exception:
            response.close()
            raise
        charset = CHARSET.search(response.headers.get("Content-Type", ""))
        content = _as_utf8(b"".join(pieces), charset[1] if charset else "utf-8")
        if _depth(content) > MAX_DEPTH:
            raise requests.ConnectionError(f"the response is nested more than {MAX_DEPTH} levels deep")
        response._content = content
        response._content_consumed, response.encoding = True, "utf-8"
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
            headers = mask_fields(_pairs(outcome.raw.headers.items()), in_response)
            body = hide(mask_body(outcome.content), in_response)
        else:
            problem = hide(mask_text(problem_of(outcome).text), secrets)
        operation = find_operation(self.operations, request.method, path)
        exchange = Exchange(
            number=self.request_count + 1,
            phase=self.phase,
            operation=operation.id if operation else "",
            method=request.method,
            target=hide(mask_text(path) + question + mask_query(query), secrets),
            request_headers=mask_fields(request_headers, in_request),
            request_body=hide(mask_body(_plain_body(request)), secrets),
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
                self.latencies[exchange.operation].append(exchange.took)
            if exchange.method not in SAFE:
                self.changes.append(exchange)
            self.guard.learn(exchange)
            self._listen(exchange)
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
            self._listen(finding)
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
        read_seconds = self._client.read_seconds
        timeout = (min(CONNECT_SECONDS, read_seconds), read_seconds)
        options: dict[str, Any] = {"timeout": timeout, "verify": verify, "proxies": {}}
        with warnings.catch_warnings():
            if verify is False:  # as the user asked
                warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
            return super().send(request, stream=True, allow_redirects=False, **options)


def _as_utf8(content: bytes, charset: str) -> bytes:
    """Return a text in UTF-8 without a byte order mark; as it is, if it does not have the charset."""
    encoding = json_.detect_encoding(content)
    try:
        return content.decode(charset if encoding == "utf-8" else encoding).encode()
    except (LookupError, ValueError):
        return content


def _depth(content: bytes) -> int:
    """Return how deep the brackets outside a text's strings are nested, at least."""
    if content.count(b"[") + content.count(b"{") <= MAX_DEPTH:
        return 0
    brackets = STRING.sub(b"", content).translate(None, NO_BRACKETS)
    return max(accumulate(1 if bracket in b"[{" else -1 for bracket in brackets), default=0)


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


def mask_fields(headers: HeaderFields, secrets: Iterable[str]) -> HeaderFields:
    return tuple((name, hide(value, secrets)) for name, value in mask_headers(headers))


def hide(text: Any, secrets: Iterable[str]) -> Any:
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


CUT: Final = Problem("cut", "cut off before a response")
_PROBLEMS: Final[tuple[tuple[type[BaseException], Problem], ...]] = (
    (socket.gaierror, Problem("no such host", "no such host")),
    (ConnectionRefusedError, Problem("refused", "connection refused")),
    (TimeoutError, Problem("timeout", "no response in time")),
    (urllib3.exceptions.TimeoutError, Problem("timeout", "no response in time")),
    (ConnectionResetError, CUT),
    (BrokenPipeError, CUT),
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
