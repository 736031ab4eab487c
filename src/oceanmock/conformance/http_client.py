"""Send every request of a conformance run, to one target and one at a time.

Before a byte leaves, the guard is asked; nothing goes to another host, faster than the permitted rate, or without a
timeout; a request refused with 429 is sent again after the delay that the response states. A read that the server cuts
off on a connection kept alive is sent once more on a new one (RFC 9112, 9.3.1), where every write goes at once. A
redirect is a response. Bodies are read as UTF-8, whatever their encoding.
The environment decides nothing: no proxies, no .netrc; cookies are not kept, or a request without credentials would
carry them.

Every exchange is masked, counted, given to the checkers and announced to the listener. A finding is announced once,
with a command that reproduces it. Before a new one in the response to a GET is announced, the request is sent again on
a new connection: a finding that does not occur again says so, and a response that was only missing is none. What comes
from comparing several responses, or from a write, is announced at once.
"""

from __future__ import annotations

import json as json_
import re
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy
from itertools import chain
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote, urlsplit

import requests
import urllib3.exceptions
from requests.exceptions import InvalidHeader

from oceanmock.apis import api_named
from oceanmock.checks import UNAVAILABLE, Checker, CheckResult, Exchange, HeaderFields, Phase
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
from oceanmock.conformance.transport import CUT, MAX_DEPTH, BoundedAdapter, as_utf8, depth, problem_of
from oceanmock.credentials import Basic
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
"""The time in which a response has to be complete, from its first byte to its last."""
SEEN_ONCE: Final = "Seen once: it did not occur when the request was sent again on a new connection."
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
        self.guard: Final = Guard(target, options, self.operations)
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
        checker: Checker = lambda _: (),
    ) -> Exchange:
        """Send a request and return the exchange; without a response it has no status. Raises NotAllowed.

        ``target`` is path and query. ``auth`` is the run's own credentials by default. ``checker`` checks the response
        to this request alone.
        """
        sent_headers = dict(headers or {})
        if json is not None:
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
                self._report(*self._findings(exchange, checker))
                return exchange
            return self.carry(signed, checker)[0]

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

    def carry(self, request: Any, checker: Checker = lambda _: ()) -> tuple[Exchange, Reply]:
        """Send a request if it is allowed, again if it came too soon or broke a rule; return its last outcome.

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
            may_harm = bool(self.target.spared and self.guard.unknown_id(request.method, target))
            while True:
                exchange, outcome = self._confirmed(request, target, checker, once=request.method != "GET" or may_harm)
                if exchange.status is None and may_harm:
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

    def _confirmed(self, request: Any, target: str, checker: Checker, *, once: bool) -> tuple[Exchange, Reply]:
        """Send a request, again if there is a new finding and not ``once``; report, and return the last outcome."""
        exchange, outcome = self._once(request, target)
        single, compared = self._findings(exchange, checker)
        is_late = exchange.status is None and exchange.took >= self.read_seconds * SECOND
        is_bound = self.is_bounded and bool(self.bound)
        if once or is_late or is_bound or all(item.key in self._finding_keys for item in single):
            self._report(single, compared)
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
        self._report(single, single_again, compared, compared_again)
        return again, outcome

    def _findings(self, exchange: Exchange, *checkers: Checker) -> tuple[list[CheckResult], list[CheckResult]]:
        """Return what the checkers find in an exchange by itself, and by comparing it with earlier ones."""
        single, compared = list[CheckResult](), list[CheckResult]()
        for item in (*self.checkers, *checkers):
            (compared if getattr(item, "compares", False) else single).extend(item(exchange))
        return single, compared

    def _report(self, *findings: Iterable[CheckResult]) -> None:
        for finding in chain(*findings):
            self.found(finding)

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
        while True:
            sent_at, began = wall_now(), self._now()
            outcome = self._outcome(request)
            is_cut = isinstance(outcome, requests.RequestException) and problem_of(outcome) == CUT
            if not (is_cut and self._is_kept_alive):
                break
            self._renew()
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
        began, pieces, size = self._now(), list[bytes](), 0
        try:
            while piece := response.raw.read1(64 * 2**10, decode_content=True):
                pieces.append(piece)
                size += len(piece)
                if size > MAX_RESPONSE_BYTES:
                    raise requests.ConnectionError(f"the response is longer than {MAX_RESPONSE_BYTES} bytes")
                if self._now() - began > self.read_seconds * SECOND:
                    raise requests.ConnectionError("the response does not end")
        except Exception:
            response.close()
            raise
        content = as_utf8(b"".join(pieces), response.headers.get("Content-Type", ""))
        if depth(content) > MAX_DEPTH:
            raise requests.ConnectionError(f"the response is nested more than {MAX_DEPTH} levels deep")
        response._content = content
        response._content_consumed, response.encoding = True, "utf-8"
        result: requests.Response = response
        return result

    def _record(self, request: Any, target: str, outcome: Reply, *, times: tuple[int, int]) -> Exchange:
        """Count an exchange, announce it and return it; secrets are masked."""
        request_headers = _pairs(request.headers.items())
        in_request = secrets_in(request_headers)
        is_own = bool(getattr(request, "is_own", False) and self.target.auth is not None)
        operation = find_operation(self.operations, request.method, target.partition("?")[0])
        exchange = Exchange(
            number=self.request_count + 1,
            phase=self.phase,
            operation=operation.id if operation else "",
            method=request.method,
            target=target,
            request_headers=request_headers,
            request_body=_plain_body(request),
            status=None,
            response_headers=(),
            response_body=b"",
            sent_at=times[0],
            took=times[1],
            expects_refusal=self._expects_refusal,
            credentials="own" if is_own else "others" if in_request else "none",
        )
        if isinstance(outcome, requests.Response):
            received = _pairs(outcome.raw.headers.items())
            status, body = outcome.status_code, outcome.content
            exchange = replace(exchange, status=status, response_headers=received, response_body=body)
        else:
            exchange = replace(exchange, problem=mask_text(problem_of(outcome).text))
        secrets = self._secrets | in_request
        # a made-up secret may be a key of the JSON
        exchange = masked(exchange, secrets, secrets if is_own else self._secrets)
        self._keep(exchange)
        return exchange

    def _keep(self, exchange: Exchange) -> None:
        """Count and announce an exchange."""
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

    def receive(self, exchange: Exchange) -> None:
        """Count, announce and check a recorded exchange."""
        self._keep(exchange)
        self._report(*self._findings(exchange))

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
        for scheme in ("http://", "https://"):
            self.mount(scheme, BoundedAdapter())

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
    """Return the secrets of credentials, as they are and in a URL; a password may be the user's name."""
    secrets = {getattr(auth, name, None) or "" for name in ("password", "secret", "agent_password")}
    long = {item for item in secrets if len(item) >= MIN_SECRET} - {getattr(auth, "user", "")}
    return frozenset(long | {quote(item) for item in long})


def secrets_in(headers: HeaderFields) -> set[str]:
    """Return the secrets in a request's headers."""
    return {value.split(" ", 1)[-1] for name, value in headers if is_secret(name, value)}


def masked(exchange: Exchange, in_request: Iterable[str], in_response: Iterable[str]) -> Exchange:
    """Return an exchange with everything masked that is secret by itself, and the given secrets."""
    path, question, query = exchange.target.partition("?")
    return replace(
        exchange,
        target=_hide(mask_text(path) + question + mask_query(query), in_request),
        request_headers=tuple((n, _hide(v, in_request)) for n, v in mask_headers(exchange.request_headers)),
        request_body=_hide(mask_body(exchange.request_body), in_request),
        response_headers=tuple((n, _hide(v, in_response)) for n, v in mask_headers(exchange.response_headers)),
        response_body=_hide(mask_body(exchange.response_body), in_response),
        problem=_hide(exchange.problem, in_request),
    )


def _hide(text: Any, secrets: Iterable[str]) -> Any:
    """Return a text, or bytes, with every secret masked."""
    for secret in secrets:
        if len(secret) >= MIN_SECRET:
            is_bytes = isinstance(text, bytes)
            text = text.replace(*((s.encode() if is_bytes else s) for s in (secret, MASK)))
    return text
