"""The client: the only thing of a conformance run that sends, and what it keeps back.

Every request goes through one session, whoever makes it, and one at a time. There, before a byte
leaves, the guard is asked; nothing goes to another host, no more go out in a second than were
allowed, and none waits for ever; one that came too soon (429) goes again after the span that the
answer says. A redirect is an answer. Nothing of the environment decides how a
request goes: no proxies, no .netrc; and cookies are not kept, or what is sent without credentials
would have them.

Every exchange is masked before it is anything else, then counted, shown to the checkers and told to
who listens. What they find is told once, with a command that asks again.
"""

from __future__ import annotations

import json as json_
import re
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.cookiejar import DefaultCookiePolicy
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote, urlsplit

import requests
from urllib3.exceptions import HTTPError, InsecureRequestWarning

from oceanmock.checks import Checker, CheckResult, Exchange, Headers, Phase
from oceanmock.clock import SECOND, pause, stopwatch, wall_now
from oceanmock.conformance.guard import SAFE, Guard, NotAllowed
from oceanmock.conformance.model import (
    NO_RESPONSE,
    CheckFailed,
    Listener,
    Options,
    ResponseReceived,
    spec_for,
)
from oceanmock.conformance.problems import problem_of
from oceanmock.conformance.reproduce import curl_of
from oceanmock.credentials import AccessKey, Basic, Sealed
from oceanmock.errors import OceanmockError
from oceanmock.journal.masking import MASK, mask_body, mask_headers, mask_query
from oceanmock.openapi import operation_asked, operations_of

if TYPE_CHECKING:
    from oceanmock.conformance.target import Target

Auth = Callable[[Any], Any] | Basic
"""What signs a request; a Basic does so too, but mypy does not see it in a tuple."""

CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 60.0
MOST: Final = 120 * SECOND
"""How long an answer may take in all, even if something of it comes all the while."""
MOST_BYTES: Final = 64 * 2**20
PIECE: Final = 64 * 2**10
TOO_MANY: Final = 429
MOST_SPARED: Final = 120 * SECOND
"""So long a run waits in all, and no longer, because it is told to ask less often; what would take
it beyond that is an answer."""
KEPT: Final = 1000
"""So many exchanges are kept; all are counted."""
SHORTEST: Final = 8
"""A secret of fewer characters is not looked for in what a server says: it is a word."""


@dataclass(frozen=True, slots=True)
class _Booking:
    """What a request is sent for."""

    phase: Phase
    operation: str = ""
    expects_refusal: bool = False


class HttpClient:
    """What sends, to one target; ``session`` does the same for a library that has to send itself.

    The session sends without credentials, unless ``auth=client.auth`` is given with the request. It
    raises NotAllowed, and what requests raises when no answer comes; ``send`` only NotAllowed.
    ``now`` and ``sleep`` are the machine's time, in nanoseconds.
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
        )
        self.session: Final = _Session(self)
        self.exchanges: Final[deque[Exchange]] = deque(maxlen=KEPT)
        """The last ones, oldest first."""
        self.asked = 0
        self.statuses: Final = {each.id: Counter[int]() for each in self.operations}
        self.changes: Final[list[Exchange]] = []
        self.findings: Final[list[CheckResult]] = []
        self._booking = _Booking("preflight")
        self._known: Final[set[Any]] = set()
        self._secrets: Final = _secrets_of(target.auth) | _secrets_of(target.read_only_auth)
        self._listen = listen
        self._pace: Final = _Pace(options.rate, now, sleep)
        self._now = now
        self._sleep = sleep
        self._spare = MOST_SPARED
        self._host: Final = urlsplit(target.url).netloc
        self._lock: Final = RLock()

    @property
    def phase(self) -> Phase:
        """What is sent now is booked to this phase."""
        return self._booking.phase

    @contextmanager
    def during(self, phase: Phase, *, expects_refusal: bool = False) -> Iterator[None]:
        """Books what is sent meanwhile to a phase."""
        before, self._booking = self._booking, _Booking(phase, expects_refusal=expects_refusal)
        try:
            yield
        finally:
            self._booking = before

    def may_change(self, id: str | int, *, kind: str = "any") -> None:
        """Allows changes to an id, such as one of nothing; kinds are ``guard.KINDS``'."""
        self.guard.may_change(id, kind=kind)

    def may_change_everything(self) -> None:
        """Allows any change, as on a mock that nobody else uses."""
        self.guard.may_change_everything()

    # --- sending ----------------------------------------------------------------------------------

    def send(
        self,
        method: str,
        target: str,
        *,
        phase: Phase | None = None,
        operation: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        json: Any = None,
        auth: Literal["default"] | Auth | None = "default",
        expects_refusal: bool = False,
    ) -> Exchange:
        """The exchange that a request makes; without a status where no answer came.

        ``target`` is path and query. ``auth`` is the run's own credentials, unless others are
        given; ``expects_refusal`` says that it is sent to be refused. Raises NotAllowed.
        """
        said = dict(headers or {})
        if json is not None:
            body = json_.dumps(json).encode()
            said.setdefault("Content-Type", "application/json")
        wrong = expects_refusal or self._booking.expects_refusal
        booking = _Booking(phase or self.phase, operation, wrong)
        request = requests.Request(method, self.target.url + target, headers=said, data=body)
        try:
            prepared = self.session.prepare_request(request)
            signed = (self.auth if auth == "default" else auth or _as_it_is)(prepared)
        except NotAllowed:
            raise
        except (requests.RequestException, OceanmockError, ValueError) as why:
            return self._not_sent(request, booking, str(why))
        return self._carried(signed, booking)[0]

    def auth(self, request: Any) -> Any:
        """The run's own credentials, for a request that the session sends."""
        request.is_own = True
        return request if self.target.auth is None else self.target.auth(request)

    def sent(self, request: requests.PreparedRequest) -> requests.Response:
        """The answer to a request of the session. Raises NotAllowed and RequestException."""
        _, outcome = self._carried(request, self._booking)
        if isinstance(outcome, requests.RequestException):
            raise outcome
        return outcome

    def _carried(
        self, request: Any, booking: _Booking
    ) -> tuple[Exchange, requests.Response | requests.RequestException]:
        """Sends a request, if it may go, and books what came of it; again, if it came too soon."""
        with self._lock:
            target = self._own_target(request)
            self.guard.check(request.method, target, _body_meant(request))
            self.guard.check_headers(request.headers, _body_sent(request), host=self._host)
            carried = self._once(request, target, booking)
            while carried[0].status == TOO_MANY:
                span = _span_said(carried[0])
                if span > self._spare:
                    break
                self._spare -= span
                self._sleep(span)
                carried = self._once(request, target, booking)
            return carried

    def _once(
        self, request: Any, target: str, booking: _Booking
    ) -> tuple[Exchange, requests.Response | requests.RequestException]:
        """Sends a request that may go, and books what came of it."""
        self._pace.wait()
        sent_at, began = wall_now(), self._now()
        outcome: requests.Response | requests.RequestException
        try:
            outcome = self._read(self.session.forward(request, self.target.verify))
        except requests.RequestException as problem:
            outcome = problem
        except HTTPError as problem:
            outcome = requests.ConnectionError(problem, request=request)
        except ValueError:
            outcome = requests.exceptions.InvalidHeader("a header cannot be written")
        took = self._now() - began
        exchange = self._exchange(request, target, outcome, booking, (sent_at, took))
        self._book(exchange)
        return exchange, outcome

    def _own_target(self, request: requests.PreparedRequest) -> str:
        """The path and query on the target. Raises NotAllowed for what goes somewhere else."""
        url = str(request.url).partition("#")[0]
        if not url.startswith(f"{self.target.url}/"):
            raise NotAllowed(f"{request.method} {url} was not sent: it does not go to the target.")
        return url.removeprefix(self.target.url)

    def _read(self, answer: Any) -> requests.Response:
        """The answer, read to its end; raises RequestException where that is too far."""
        began, pieces, size = self._now(), list[bytes](), 0
        try:
            while piece := answer.raw.read1(PIECE, decode_content=True):
                pieces.append(piece)
                size += len(piece)
                if size > MOST_BYTES:
                    raise requests.ConnectionError(f"the answer is longer than {MOST_BYTES} bytes")
                if self._now() - began > MOST:
                    raise requests.ConnectionError("the answer does not end")
        except Exception:
            answer.close()
            raise
        answer._content, answer._content_consumed = b"".join(pieces), True
        read: requests.Response = answer
        return read

    # --- booking ----------------------------------------------------------------------------------

    def _exchange(
        self,
        request: Any,
        target: str,
        outcome: requests.Response | requests.RequestException,
        booking: _Booking,
        times: tuple[int, int],
    ) -> Exchange:
        """What was sent and what came, without secrets."""
        path, question, query = target.partition("?")
        answer = outcome if isinstance(outcome, requests.Response) else None
        problem = "" if isinstance(outcome, requests.Response) else problem_of(outcome).text
        sent = _secrets_in(request.headers.items())
        secrets = {*self._secrets, *sent}
        is_own = bool(getattr(request, "is_own", False) and self.target.auth is not None)
        answered = secrets if is_own else self._secrets  # what was made up may be a key of the JSON
        return Exchange(
            number=self.asked + 1,
            phase=booking.phase,
            operation=booking.operation or self._operation(request.method, path),
            method=request.method,
            target=_hidden(path + question + mask_query(query), secrets),
            request_headers=_masked(_pairs(request.headers.items()), sent),
            request_body=_hidden(mask_body(_body_meant(request)), secrets),
            status=None if answer is None else answer.status_code,
            response_headers=() if answer is None else _masked(_raw_headers(answer), answered),
            response_body=b"" if answer is None else _hidden(mask_body(answer.content), answered),
            sent_at=times[0],
            took=times[1],
            problem=_hidden(problem, secrets),
            expects_refusal=booking.expects_refusal,
            credentials="own" if is_own else "others" if sent else "none",
        )

    def _operation(self, method: str, path: str) -> str:
        asked = operation_asked(self.operations, method, path)
        return asked.id if asked else ""

    def _not_sent(self, request: requests.Request, booking: _Booking, why: str) -> Exchange:
        """Books a request that could not even be written, or sealed."""
        unsent = requests.PreparedRequest()
        unsent.method, unsent.body = request.method, request.data or None
        unsent.headers = requests.structures.CaseInsensitiveDict(request.headers)
        target = str(request.url).removeprefix(self.target.url)
        problem = requests.RequestException(f"it could not be sent: {why}")
        exchange = self._exchange(unsent, target, problem, booking, (wall_now(), 0))
        self._book(exchange)
        return exchange

    def _book(self, exchange: Exchange) -> None:
        """Counts an exchange, shows it to the checkers, and tells of it."""
        with self._lock:
            self.asked += 1
            self.exchanges.append(exchange)
            if exchange.operation in self.statuses:
                self.statuses[exchange.operation][exchange.status or NO_RESPONSE] += 1
            if exchange.method not in SAFE:
                self.changes.append(exchange)
            self.guard.learn(exchange)
            self._listen(ResponseReceived(exchange))
            for watcher in self.checkers:
                for finding in watcher(exchange):
                    self.found(finding)

    def found(self, finding: CheckResult) -> bool:
        """Keeps and tells a finding unless its like is known; whether it was new."""
        with self._lock:
            if finding.key in self._known:
                return False
            self._known.add(finding.key)
            if finding.exchange is not None and not finding.curl:
                finding = replace(finding, curl=curl_of(finding.exchange, self.target))
            self.findings.append(finding)
            self._listen(CheckFailed(finding))
            return True


class _Session(requests.Session):
    """requests' own, but for what goes out and comes in through the client."""

    def __init__(self, client: HttpClient) -> None:
        super().__init__()
        self._client = client
        self.trust_env = False
        self.headers["User-Agent"] = "oceanmock-conform"
        self.headers["Accept-Encoding"] = "identity"
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        """The answer, whole; how it is sent is the client's to say."""
        return self._client.sent(request)

    def forward(self, request: requests.PreparedRequest, verify: bool | str) -> requests.Response:
        """The answer, not yet read."""
        timeout = (CONNECT_SECONDS, READ_SECONDS)
        options: dict[str, Any] = {"timeout": timeout, "verify": verify, "proxies": {}}
        with warnings.catch_warnings():
            if verify is False:  # that is what was asked for
                warnings.simplefilter("ignore", InsecureRequestWarning)
            return super().send(request, stream=True, allow_redirects=False, **options)


class _Pace:
    """Lets so many through in a second, evenly; 0 is as many as come."""

    def __init__(self, rate: float, now: Callable[[], int], sleep: Callable[[int], object]) -> None:
        self._gap = int(SECOND / rate) if rate else 0
        self._now = now
        self._sleep = sleep
        self._next = 0

    def wait(self) -> None:
        """Returns when the next may go."""
        if not self._gap:
            return
        now = self._now()
        if now < self._next:
            self._sleep(self._next - now)
        self._next = max(now, self._next) + self._gap


def _span_said(exchange: Exchange) -> int:
    """How long to wait, as a 429 says it (openapi/ocp.yaml: RateLimit-Reset); else a second."""
    said = exchange.header("Retry-After") or exchange.header("RateLimit-Reset") or ""
    return max(int(said), 1) * SECOND if re.fullmatch("[0-9]{1,4}", said) else SECOND


def _as_it_is(request: Any) -> Any:
    """A request without credentials."""
    return request


def _body_meant(request: Any) -> bytes:
    """The body before it was sealed."""
    meant = getattr(request, "plain_body", None)
    return _body_sent(request) if meant is None else bytes(meant)


def _body_sent(request: Any) -> bytes:
    """The body as it goes out. Raises NotAllowed for a stream: nobody knows what will come."""
    body = request.body
    if isinstance(body, str):
        return body.encode()
    if not isinstance(body, bytes | None):
        raise NotAllowed(f"a request was not sent: its body is a {type(body).__name__}, not bytes.")
    return body or b""


def _pairs(headers: Iterable[tuple[str | bytes, str | bytes]]) -> Headers:
    return tuple((_text(name), _text(value)) for name, value in headers)


def _raw_headers(answer: requests.Response) -> Headers:
    """The headers as they came, those of one name apart."""
    return _pairs(answer.raw.headers.items())


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


# --- secrets --------------------------------------------------------------------------------------


def _secrets_of(auth: Any) -> frozenset[str]:
    """What of the run's own credentials must not be seen anywhere."""
    match auth:
        case Basic() if auth.password != auth.user:
            several = [auth.password]
        case AccessKey():
            several = [auth.secret]
        case Sealed():
            several = [auth.password, auth.agent_password or ""]
        case _:
            several = []
    long = [each for each in several if len(each) >= SHORTEST]
    return frozenset([*long, *map(quote, long)])


def _secrets_in(headers: Iterable[tuple[str | bytes, str | bytes]]) -> set[str]:
    """The credentials in headers: what is masked of them."""
    several = _pairs(headers)
    pairs = zip(several, mask_headers(several), strict=True)
    return {value.split(" ", 1)[-1] for (_, value), (_, shown) in pairs if value != shown}


def _masked(headers: Headers, secrets: Iterable[str]) -> Headers:
    return tuple((name, _hidden(value, secrets)) for name, value in mask_headers(headers))


def _hidden(said: Any, secrets: Iterable[str]) -> Any:
    """A text, or bytes, in which no secret stands."""
    for secret in secrets:
        if len(secret) >= SHORTEST:
            if isinstance(said, bytes):
                said = said.replace(secret.encode(), MASK.encode())
            else:
                said = said.replace(secret, MASK)
    return said
