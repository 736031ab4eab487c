"""Send every request of a conformance run, to one target and one at a time, once the guard has allowed it.

Nothing is sent to another host, faster than the permitted rate, or without a timeout; redirects are not followed;
proxies of the environment, .netrc and cookies are ignored. A request refused with 429 is sent again after the delay
that the response states. A read that is cut off on a connection kept alive is sent once more on a new one (RFC 9112,
9.3.1); every write has a new one. A new finding in the response to a GET is reported after the request was sent again:
one that does not occur again says so, and a response that was missing only once is no finding. A finding from a write,
or from comparing several responses, is reported at once.
"""

from __future__ import annotations

import io
import json as json_
import re
import socket
import ssl
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse, IncompleteRead
from http.cookiejar import DefaultCookiePolicy
from itertools import accumulate, chain
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidHeader

from oceanmock.apis import api_named
from oceanmock.checks import UNAVAILABLE, Checker, CheckResult, Exchange, HeaderFields, Phase
from oceanmock.clock import SECOND, pause, stopwatch, wall_now
from oceanmock.conformance import (
    NO_RESPONSE,
    SAFE,
    BoundReached,
    Guard,
    Listener,
    NotAllowed,
    Options,
    Result,
    contract_for,
    masked,
    secrets_in,
    secrets_of,
)
from oceanmock.credentials import Basic
from oceanmock.errors import OceanmockError
from oceanmock.masking import mask_text
from oceanmock.openapi import find_operation
from oceanmock.outgoing import body_of, headers_of
from oceanmock.text import format_duration

if TYPE_CHECKING:
    from oceanmock.observations import Target

RequestAuth = Callable[[Any], Any] | Basic
"""Credentials that sign a request; a Basic is callable too, which mypy does not see."""
Reply = requests.Response | requests.RequestException

CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 60.0  # the time in which a response must be complete
SEEN_ONCE: Final = "Seen once: it did not occur when the request was sent again on a new connection."
MAX_DEPTH: Final = 100  # the most levels of nesting in a response, since libraries read JSON by recursion
NO_BRACKETS: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[^"\[\]{}]+', re.DOTALL)
"""The strings of a JSON text, and all other bytes except brackets."""
CHARSET: Final = re.compile(r'(?i)charset="?((?:big5|cp|euc|gb|iso|latin|shift|us|utf|windows)[a-z0-9_:-]*)')
"""The charset in a Content-Type, without Python's codecs that are none (base64, rot13, zip)."""
MAX_RESPONSE_BYTES: Final = 64 * 2**20
MAX_TOTAL_DELAY: Final = 120 * SECOND
"""The time that a run waits in all because of 429; then a 429 is not sent again."""
MAX_RECENT_EXCHANGES: Final = 1000  # the most exchanges that are kept in memory


class HttpClient:
    """A client of one target. ``session`` is for libraries that send requests themselves, through the client.

    The session sends without credentials, unless ``auth=client.auth`` is given with the request. It raises NotAllowed
    and RequestException; ``send`` raises only NotAllowed. ``now`` and ``sleep`` are the machine's, in nanoseconds.
    """

    def __init__(
        self,
        target: Target,
        options: Options,
        result: Result | None = None,
        *,
        listen: Listener = lambda _: None,
        checkers: Sequence[Checker] = (),
        now: Callable[[], int] = stopwatch,
        sleep: Callable[[int], object] = pause,
    ) -> None:
        self.target: Final = target
        self.options: Final = options
        self.checkers: Final = list(checkers)
        self.contract: Final = contract_for(target.api, target.version)
        self.operations: Final = list(self.contract.operations.values())
        self.guard: Final = Guard(target, options, self.operations)
        self.session: Final = _Session(self)
        self.exchanges: Final[deque[Exchange]] = deque(maxlen=MAX_RECENT_EXCHANGES)
        self.result: Final = result or Result(target.url, target.api)
        for operation in self.operations:
            self.result.statuses.setdefault(operation.id, Counter())
            self.result.latencies.setdefault(operation.id, [])
        self.read_seconds = READ_SECONDS
        self.phase: Phase = "preflight"
        self._expects_refusal = False
        self._finding_keys: Final = {item.key for item in self.result.findings}
        self._secrets: Final = secrets_of(target.auth) | secrets_of(target.read_only_auth)
        self._listen, self._now, self._sleep = listen, now, sleep
        self._began = now()
        self._next_at, self._remaining_delay = 0, MAX_TOTAL_DELAY
        self._is_kept_alive = False
        self.is_bounded = True
        self._lock: Final = RLock()

    @contextmanager
    def during(self, phase: Phase, *, expects_refusal: bool = False) -> Iterator[None]:
        """Record the requests that are sent meanwhile as those of a phase."""
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
        checker: Checker = lambda _: (),
    ) -> Exchange:
        """Send a request and return the exchange; without a response it has no status. Raises NotAllowed.

        ``target`` is path and query. ``auth`` is the run's own credentials by default. ``checker`` checks the response
        to this request alone.
        """
        sent_headers = dict(headers or {})
        if json is not None:  # here, so that the exchange has the body even if the request cannot be sent
            body = json_.dumps(json).encode()
            sent_headers.setdefault("Content-Type", "application/json")
        request: Any = requests.Request(method, self.target.url + target, headers=sent_headers, data=body)
        with self.during(self.phase, expects_refusal=expects_refusal or self._expects_refusal):
            try:
                signed: Any = self.session.prepare_request(request)
                if auth is not None:
                    signed = (self.auth if auth == "default" else auth)(signed)
            except NotAllowed:
                raise
            except (requests.RequestException, OceanmockError, ValueError) as why:
                request.plain_body = body or b""
                problem = requests.RequestException(f"it could not be sent: {why}")
                exchange = self._record(request, target, problem, times=(wall_now(), 0))
                self.found(*chain(*self._findings(exchange, checker)))
                return exchange
            return self.carry(signed, checker)[0]

    def auth(self, request: Any) -> Any:
        """Sign a request with the run's own credentials."""
        request.is_own = True
        return request if self.target.auth is None else self.target.auth(request)

    @property
    def bound(self) -> str:
        """Return the option whose bound the run has reached, or ""."""
        options = self.options
        if options.max_requests and self.result.request_count >= options.max_requests:
            return f"--max-requests {options.max_requests}"
        is_late = options.max_time and self._now() - self._began >= options.max_time
        return f"--max-time {format_duration(options.max_time)}" if is_late else ""

    def carry(self, request: Any, checker: Checker = lambda _: ()) -> tuple[Exchange, Reply]:
        """Send a request, again after a 429 or a finding; return the last outcome. Raises NotAllowed, BoundReached."""
        url = str(request.url).partition("#")[0]
        if not url.startswith(f"{self.target.url}/"):
            raise NotAllowed(f"{request.method} {url} was not sent: it does not go to the target.")
        if not isinstance(request.body, str | bytes | None):
            raise NotAllowed(f"a request was not sent: its body is a {type(request.body).__name__}, not bytes.")
        target = url.removeprefix(self.target.url)
        with self._lock:
            operation = find_operation(self.operations, request.method, target.partition("?")[0])
            if operation is not None and operation.id in self.options.excluded:
                raise NotAllowed(f"{request.method} {target} was not sent: --exclude names {operation.id}.")
            self.guard.check(request.method, target, _plain_body(request))
            if self.is_bounded and self.bound:
                raise BoundReached
            self.guard.check_headers(headers_of(request), body_of(request), host=urlsplit(self.target.url).netloc)
            may_harm = bool(self.target.spared and self.guard.unknown_id(request.method, target))
            while True:
                exchange, outcome = self._confirmed(request, target, checker, once=request.method != "GET" or may_harm)
                if exchange.status is None and may_harm:
                    self.guard.spared = self.target.spared
                    api = api_named(self.target.api)
                    rule = api.checks.OWN_RULES[api.conformance.spared_rule]
                    why = f"it is not answered; {self.target.spared}"
                    result = CheckResult(rule.id, "$", why, exchange.operation, source=rule.source, exchange=exchange)
                    self.found(result)
                if exchange.status != HTTPStatus.TOO_MANY_REQUESTS:
                    return exchange, outcome
                # openapi/ocp.yaml has RateLimit-Reset; without a delay it is a second
                text = exchange.header("Retry-After") or exchange.header("RateLimit-Reset") or ""
                delay = max(int(text) if re.fullmatch("[0-9]{1,4}", text) else 1, 1) * SECOND
                if delay > self._remaining_delay:
                    return exchange, outcome
                self._remaining_delay -= delay
                self._sleep(delay)

    def _confirmed(self, request: Any, target: str, checker: Checker, *, once: bool) -> tuple[Exchange, Reply]:
        """Send a request, again if it has a new finding unless ``once``; report the findings of both."""
        exchange, outcome = self._once(request, target)
        single, compared = self._findings(exchange, checker)
        is_late = exchange.status is None and exchange.took >= self.read_seconds * SECOND
        if once or is_late or (self.is_bounded and self.bound) or all(i.key in self._finding_keys for i in single):
            self.found(*single, *compared)
            return exchange, outcome
        self._renew()
        again, outcome = self._once(request, target)
        single_again, compared_again = self._findings(again, checker)
        if exchange.status is None and again.status is not None:
            single = []
        elif again.status not in UNAVAILABLE:
            twice = {item.cause for item in single} & {item.cause for item in single_again}
            single = [
                item if item.cause in twice else replace(item, message=f"{item.message} {SEEN_ONCE}")
                for item in (*single, *single_again)
            ]
            single_again = []
        self.found(*single, *single_again, *compared, *compared_again)
        return again, outcome

    def _findings(self, exchange: Exchange, *checkers: Checker) -> tuple[list[CheckResult], list[CheckResult]]:
        """Return the findings in an exchange by itself, and those from comparing it with earlier ones."""
        single, compared = list[CheckResult](), list[CheckResult]()
        for item in (*self.checkers, *checkers):
            (compared if getattr(item, "compares", False) else single).extend(item(exchange))
        return single, compared

    def _once(self, request: Any, target: str) -> tuple[Exchange, Reply]:
        """Send an allowed request, and record its outcome."""
        if self.options.rate:
            now = self._now()
            if now < self._next_at:
                self._sleep(self._next_at - now)
            self._next_at = max(now, self._next_at) + int(SECOND / self.options.rate)
        if request.method not in SAFE:
            self._renew()
        while True:
            sent_at, began = wall_now(), self._now()
            outcome = self._outcome(request)
            is_cut = isinstance(outcome, requests.RequestException) and problem_of(outcome) == CUT
            if not (is_cut and self._is_kept_alive):
                break
            self._renew()
        self._is_kept_alive = isinstance(outcome, requests.Response)
        return self._record(request, target, outcome, times=(sent_at, self._now() - began)), outcome

    def _renew(self) -> None:
        self.session.close()
        self._is_kept_alive = False

    def _outcome(self, request: Any) -> Reply:
        """Return the complete response to a request, or the error that prevented it."""
        timeout = (min(CONNECT_SECONDS, self.read_seconds), self.read_seconds)
        options: dict[str, Any] = {"timeout": timeout, "verify": self.target.verify, "proxies": {}}
        try:
            with warnings.catch_warnings():
                if self.target.verify is False:  # as the user asked
                    warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
                response = requests.Session.send(self.session, request, stream=True, allow_redirects=False, **options)
            _read(response)
            return response
        except requests.RequestException as problem:
            return problem
        except urllib3.exceptions.HTTPError as problem:
            return requests.ConnectionError(problem, request=request)
        except ValueError:
            return InvalidHeader("a header cannot be written")

    def _record(self, request: Any, target: str, outcome: Reply, *, times: tuple[int, int]) -> Exchange:
        """Return the exchange of a request with its secrets masked, and keep it."""
        request_headers = tuple(headers_of(request))
        is_own = getattr(request, "is_own", False) and self.target.auth is not None
        operation = find_operation(self.operations, request.method, target.partition("?")[0])
        status, response_headers, body, problem = None, HeaderFields(), b"", ""
        if isinstance(outcome, requests.Response):
            status, body = outcome.status_code, outcome.content
            response_headers = tuple(headers_of(outcome.raw))
        else:
            problem = mask_text(problem_of(outcome).text)
        exchange = Exchange(
            number=self.result.request_count + 1,
            phase=self.phase,
            operation=operation.id if operation else "",
            method=request.method,
            target=target,
            request_headers=request_headers,
            request_body=_plain_body(request),
            status=status,
            response_headers=response_headers,
            response_body=body,
            sent_at=times[0],
            took=times[1],
            problem=problem,
            expects_refusal=self._expects_refusal,
            credentials="own" if is_own else "others" if secrets_in(request_headers) else "none",
        )
        exchange = masked(exchange, self._secrets)
        self._keep(exchange)
        return exchange

    def _keep(self, exchange: Exchange) -> None:
        """Count an exchange, and pass it to the guard and the listener."""
        with self._lock:
            self.result.request_count += 1
            self.exchanges.append(exchange)
            if exchange.operation:
                self.result.statuses[exchange.operation][exchange.status or NO_RESPONSE] += 1
                self.result.latencies[exchange.operation].append(exchange.took)
            if exchange.method not in SAFE:
                self.result.changes.append(exchange)
            self.guard.learn(exchange)
            self._listen(exchange)

    def receive(self, exchange: Exchange) -> None:
        """Count and check a recorded exchange."""
        self._keep(exchange)
        self.found(*chain(*self._findings(exchange)))

    def found(self, *findings: CheckResult) -> None:
        """Report the findings whose keys are new."""
        with self._lock:
            for finding in findings:
                if finding.key not in self._finding_keys:
                    self._finding_keys.add(finding.key)
                    self.result.findings.append(finding)
                    self._listen(finding)


class _Session(requests.Session):
    """A session of requests that sends through the client."""

    def __init__(self, client: HttpClient) -> None:
        super().__init__()
        self._client = client
        self.trust_env = False
        self.headers["User-Agent"] = "oceanmock-conform"
        self.headers["Accept-Encoding"] = "identity"
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self.mount(scheme, _BoundedAdapter())

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        """Return the complete response. Raises NotAllowed, RequestException."""
        outcome = self._client.carry(request)[1]
        if isinstance(outcome, requests.RequestException):
            raise outcome
        return outcome


def _plain_body(request: Any) -> bytes:
    """Return a request's body before it was encrypted."""
    plain = getattr(request, "plain_body", None)
    return body_of(request) if plain is None else bytes(plain)


class _BoundedReader(io.RawIOBase):
    """The bytes of a response with a deadline, since the timeout of a socket is for each read, however short."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw, self._sock, self.is_at_end = raw, sock, False
        self._until = stopwatch() + round((sock.gettimeout() or 0) * SECOND)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read some bytes. Raises TimeoutError after the deadline."""
        remaining = self._until - stopwatch()
        if remaining <= 0:
            raise TimeoutError
        self._sock.settimeout(remaining / SECOND)
        size = self._raw.readinto(buffer)
        self.is_at_end = size == 0
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        fp: Any = self.fp
        self._reader = _BoundedReader(fp.detach(), sock)
        self.fp = io.BufferedReader(self._reader)

    def begin(self) -> None:
        """Read the headers. Raises IncompleteRead if the stream ends within them, which http.client accepts."""
        super().begin()
        if self._reader.is_at_end:
            raise IncompleteRead(b"")


class _BoundedAdapter(HTTPAdapter):
    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        pool.ConnectionCls = type("Bounded", (type(pool).ConnectionCls,), {"response_class": _BoundedResponse})
        return pool


def _read(response: Any) -> None:
    """Read a response to its end, as UTF-8 without a byte order mark. Raises RequestException beyond a limit."""
    read = bytearray()
    try:
        while piece := response.raw.read1(64 * 2**10, decode_content=True):
            read += piece
            if len(read) > MAX_RESPONSE_BYTES:
                raise requests.ConnectionError(f"the response is longer than {MAX_RESPONSE_BYTES} bytes")
    except Exception:
        response.close()
        raise
    content = bytes(read)
    encoding: str = json_.detect_encoding(content)
    if encoding == "utf-8" and (stated := CHARSET.search(response.headers.get("Content-Type", ""))):
        encoding = stated[1]
    with suppress(LookupError, ValueError):  # a body that is not in its charset stays as it is
        content = content.decode(encoding).encode()
    if content.count(b"[") + content.count(b"{") > MAX_DEPTH:
        depths = accumulate(1 if bracket in b"[{" else -1 for bracket in NO_BRACKETS.sub(b"", content))
        if max(depths, default=0) > MAX_DEPTH:
            raise requests.ConnectionError(f"the response is nested more than {MAX_DEPTH} levels deep")
    response._content, response._content_consumed, response.encoding = content, True, "utf-8"


@dataclass(frozen=True, slots=True)
class Problem:
    """The reason why a request had no response: a kind for programs, and a text."""

    kind: str
    text: str


CUT: Final = Problem("cut", "cut off before a response")
_PROBLEMS: Final[tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Problem], ...]] = (
    (socket.gaierror, Problem("no such host", "no such host")),
    (ConnectionRefusedError, Problem("refused", "connection refused")),
    ((TimeoutError, urllib3.exceptions.TimeoutError), Problem("timeout", "no response in time")),
    ((ConnectionResetError, BrokenPipeError), CUT),
    (urllib3.exceptions.DecodeError, Problem("other", "not encoded as it states")),
    (IncompleteRead, Problem("cut", "cut off within a response")),
    (InvalidHeader, Problem("not sendable", "a header of it cannot be written")),
    (HTTPException, Problem("no HTTP there", "the response is not HTTP")),
)
"""The first type that matches decides."""


def problem_of(error: BaseException) -> Problem:
    """Return the problem behind an error, by its innermost known cause."""
    errors, waiting = list[BaseException](), [error]
    while waiting:
        current = waiting.pop()
        if current not in errors:
            errors.append(current)
            # libraries keep causes in several attributes
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
