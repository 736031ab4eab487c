"""The target of a conformance run: where it is, what it is, and that it lets the run in.

``reach`` waits until it answers, and then makes sure of each in turn; whatever keeps it from being
tested is an Untestable with one plain sentence. It only reads. What is wrong with the answers of
the right server is not its business: whoever answers somewhat like that API is tested.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NoReturn
from urllib.parse import quote, urlsplit

import requests

from oceanmock.clock import SECOND, pause, stopwatch
from oceanmock.conformance.http_client import Auth, HttpClient
from oceanmock.conformance.model import Api, Listener, Options, PhaseEnded, PhaseStarted, Waiting
from oceanmock.conformance.problems import Problem, problem_of
from oceanmock.conformance.reports.texts import line
from oceanmock.credentials import AccessKey, Basic, Sealed
from oceanmock.errors import OceanmockError

AGAIN: Final = SECOND
"""How long after an attempt the next one comes."""
STARTING: Final = frozenset({502, 503, 504})
"""What stands before a server answers while that is not there yet."""
ENVELOPE: Final = frozenset(
    {"successful", "timestamp", "duration", "status", "traceId", "data", "error"}
)
FINAL: Final = frozenset({"certificate", "other name", "no TLS there", "TLS", "not sendable"})
"""Problems that do not go away by waiting."""
NAMES: Final[Mapping[Api, str]] = {"ocp": "OCP", "obshell": "obshell"}
TASKS: Final = "/api/v2/tasks/instances?size=1"
DETAILS: Final[Mapping[Api, str]] = {
    "ocp": "/api/v2/tasks/instances/",
    "obshell": "/api/v1/task/dag/",
}
FAILED_TASKS: Final[Mapping[Api, tuple[str, str]]] = {
    "ocp": ("/api/v2/tasks/instances?status=FAILED&size=50", "status"),
    "obshell": ("/api/v1/task/dag/unfinish?show_details=false", "state"),
}
"""The list of unfinished tasks, and the key of a row's state."""
INFO: Final = "/api/v1/info"
DAGS: Final = "/api/v1/task/dag/agent/unfinish"


class Untestable(OceanmockError):
    """The target is down, or is not that API, or refuses the credentials."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server to be tested; ``url`` has no path but what comes before the API's own.

    ``verify`` says whether its certificate is looked at, or the path of those to trust. ``version``
    and ``identity`` (obshell: MASTER, CLUSTER AGENT ...) are what it says of itself;
    ``own_address`` is the address that an obshell's own ids name. ``read_only_auth`` are the
    credentials of a user who may read the tasks of an OCP, but not operate on them.
    """

    url: str
    api: Api
    auth: Auth | None = field(default=None, repr=False)
    verify: bool | str = True
    version: str = ""
    own_address: tuple[str, int] | None = None
    identity: str = ""
    read_only_auth: Auth | None = field(default=None, repr=False)


def reach(
    url: str,
    *,
    api: Api,
    auth: Auth | tuple[str, str] | None = None,
    verify: bool | str = True,
    wait: float = 0.0,
    listen: Listener = lambda _: None,
    now: Callable[[], int] = stopwatch,
    sleep: Callable[[int], object] = pause,
) -> Target:
    """The target at a URL, once it answers; ``wait`` is how many seconds that may take.

    Raises Untestable when nobody is there, it is not that API, or the credentials are refused.
    """
    _check_certificates(verify)
    target = Target(_home(url), api, _credentials(auth, verify), verify)
    client = HttpClient(target, Options(), listen=listen, now=now, sleep=sleep)
    listen(PhaseStarted("preflight"))
    try:
        first = _first_answer(client, int(wait * SECOND), listen=listen, now=now, sleep=sleep)
        return _ocp(client, first) if api == "ocp" else _obshell(client, first)
    finally:
        client.session.close()
        listen(PhaseEnded("preflight"))


def check_tasks(target: Target, tasks: Iterable[str]) -> None:
    """Raises Untestable for a task, or a dag, that the target does not know; NotAllowed."""
    client = HttpClient(target, Options())
    try:
        for id in tasks:
            exchange = client.send(
                "GET", DETAILS[target.api] + quote(id, safe=""), phase="preflight"
            )
            if exchange.status in {400, 404}:
                noun = task_noun(target.api)
                raise Untestable(
                    f"{target.url} knows no {noun} {id!r}: it answers {exchange.status}. "
                    "Look at the id."
                )
    finally:
        client.session.close()


def failed_tasks(target: Target) -> list[tuple[str, str]]:
    """Return id and name of each task, or dag, that is FAILED on the target. It only reads."""
    path, key = FAILED_TASKS[target.api]
    body = HttpClient(target, Options()).send("GET", path, phase="preflight").json()
    data = body.get("data") if isinstance(body, dict) else None
    rows = data.get("contents") if isinstance(data, dict) else None
    return [
        (line(str(row.get("id"))), line(str(row.get("name"))))
        for row in rows or ()
        if isinstance(row, dict) and row.get(key) == "FAILED"
    ]


def task_noun(api: Api) -> str:
    """Return the word that an API uses for its tasks."""
    return "task" if api == "ocp" else "dag"


def _credentials(auth: Any, verify: bool | str) -> Auth | None:
    """The credentials as they are called; what they ask of the target, they ask it as the run."""
    if isinstance(auth, tuple):
        return Basic(*auth)
    is_sealed = isinstance(auth, Sealed) and auth.fetch is None
    called: Auth | None = replace(auth, verify=verify) if is_sealed else auth
    return called


def _home(url: str) -> str:
    """The URL as it is written when it is asked; raises Untestable for what is none."""
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        if is_url and "@" in parts.netloc:
            raise Untestable(
                f"the URL of {parts.hostname} has a name or a password in it. Leave them out, and "
                "give them by themselves."
            )
        if not is_url or parts.query or parts.fragment:
            raise ValueError
        return str(requests.Request("GET", url).prepare().url).rstrip("/")
    except (ValueError, requests.RequestException):
        raise Untestable(f"{url!r} is no URL of a server, such as http://10.0.0.1:8080.") from None


def _check_certificates(verify: bool | str) -> None:
    """Raises Untestable for a file of certificates that holds none."""
    try:
        if isinstance(verify, str):
            ssl.create_default_context(cafile=verify)
    except OSError as problem:  # an SSLError is one
        why = problem.strerror or str(problem)
        raise Untestable(f"{verify} is no file of certificates to trust ({why}).") from None


# --- whether somebody is there --------------------------------------------------------------------


def _first_answer(
    client: HttpClient,
    wait: int,
    *,
    listen: Listener,
    now: Callable[[], int],
    sleep: Callable[[int], object],
) -> requests.Response:
    """The first answer that is one of a server that has started."""
    until = now() + wait
    while True:
        try:
            answer = _ask(client, TASKS if client.target.api == "ocp" else INFO)
        except requests.RequestException as error:
            problem = problem_of(error)
        else:
            if answer.status_code not in STARTING or _envelope(answer):
                return answer
            problem = Problem("starting", f"it answers {answer.status_code}")
        left = until - now()
        if problem.kind in FINAL or left <= 0 or _speaks_tls(client.target.url, problem):
            _raise_unreachable(client.target.url, problem, wait)
        listen(Waiting(client.target.url, problem.text, left))
        sleep(min(AGAIN, left))


def _ask(client: HttpClient, path: str, *, plain: bool = False) -> requests.Response:
    """An answer; with the run's own credentials, unless it is asked for plainly."""
    auth = None if plain or path == INFO else client.auth
    return client.session.get(f"{client.target.url}{path}", auth=auth)


def _speaks_tls(url: str, problem: Problem) -> bool:
    """Whether it cut off a request over http for wanting TLS."""
    parts = urlsplit(url)
    if parts.scheme == "https" or problem.kind not in {"cut", "no HTTP there", "timeout"}:
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        contextlib.suppress(OSError),
        socket.create_connection((parts.hostname or "", parts.port or 80), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=parts.hostname),
    ):
        return True
    return False


def _raise_unreachable(url: str, problem: Problem, wait: int) -> NoReturn:
    secure = url.replace("http://", "https://", 1)
    if _speaks_tls(url, problem):
        raise Untestable(f"{url} speaks TLS, and was asked without. Say {secure}.")
    waited = f" within {wait / SECOND:g} s" if wait else ""
    otherwise = (
        f"nothing answers at {url}{waited} ({problem.text}). Start it, or say where it is."
        if problem.kind not in _UNREACHABLE
        else _UNREACHABLE[problem.kind].format(url=url, text=problem.text.rstrip("."))
    )
    raise Untestable(otherwise)


_UNREACHABLE: Final[Mapping[str, str]] = {
    "not sendable": "nothing can be sent to {url}: {text}. Look at the name, or the access key.",
    "starting": "{url} has not started ({text}). Wait longer with --connect-timeout.",
    "no TLS there": "{url} speaks no TLS. Say http:// instead of https://.",
    "TLS": "{url} and this machine find no way to speak TLS with each other ({text}).",
    "certificate": "the certificate of {url} is not trusted ({text}). Say whom to trust with --ca, "
    "or do without with --insecure.",
    "other name": "the certificate of {url} is another host's ({text}). Use the name that it was "
    "made for, or do without with --insecure.",
    "no HTTP there": "what answers at {url} speaks no HTTP. Say where the API is.",
}


# --- whether it is that API, and lets us in -------------------------------------------------------


def _ocp(client: HttpClient, first: requests.Response) -> Target:
    """An OCP that lets us read its tasks."""
    said = _envelope(first)
    if not said or first.status_code == 404:
        _raise_other(client, first)
    _check_let_in(client, first, said)
    return client.target


def _obshell(client: HttpClient, first: requests.Response) -> Target:
    """An obshell that lets us read its dags; it says what it is to anybody."""
    data = _envelope(first).get("data")
    if not isinstance(data, dict) or not {"identity", "version"} & data.keys():
        _raise_other(client, first)
    try:
        address = str(data["ip"]), int(data["port"])
    except (KeyError, TypeError, ValueError):
        raise Untestable(
            f"{client.target.url} does not say its own address ({INFO}), so nobody can tell which "
            "ids are its own, and which ones it would ask other agents for."
        ) from None
    try:
        answer = _ask(client, DAGS)
    except (requests.RequestException, OceanmockError) as error:
        why = problem_of(error).text if isinstance(error, requests.RequestException) else str(error)
        raise Untestable(
            f"{client.target.url} answers, but not for its dags: {_sentence(why)}"
        ) from None
    _check_let_in(client, answer, _envelope(answer))
    return replace(
        client.target,
        version=str(data.get("version", "")),
        identity=str(data.get("identity", "")),
        own_address=address,
    )


def _check_let_in(client: HttpClient, answer: requests.Response, said: Mapping[str, Any]) -> None:
    """Raises Untestable for credentials that are refused, or that may not read."""
    target = client.target
    error = said.get("error")
    told: Mapping[str, Any] = error if isinstance(error, dict) else {}
    why = str(told.get("message", "")) or f"it answers {answer.status_code}"
    statuses = {answer.status_code, said.get("status")}
    if target.auth is None and (
        401 in statuses or told.get("errCode") == "Request.Header.NotFound"
    ):
        raise Untestable(f"{target.url} wants credentials: {_WANTED[target.api]}.")
    if 401 in statuses or told.get("errCode") == "Request.Header.NotFound":
        raise Untestable(f"{target.url} refuses {_whose(target.auth)}: {_sentence(why)}")
    if 403 in statuses:
        raise Untestable(
            f"{target.url} knows {_whose(target.auth)}, but lets nobody with them read tasks: "
            f"{_sentence(why)}"
        )


_WANTED: Final[Mapping[Api, str]] = {
    "ocp": "--user and --password, or --access-key and --secret-key",
    "obshell": "--password for root's, --agent-password for the agent's own",
}


def _whose(auth: Any) -> str:
    match auth:
        case Basic():
            return f"the name and password of {auth.user!r}"
        case AccessKey():
            return f"the signature of access key {auth.id!r}"
        case None:
            return "a request without credentials"
    return "the password"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _raise_other(client: HttpClient, answer: requests.Response) -> NoReturn:
    """Says what is there instead."""
    url, name = client.target.url, NAMES[client.target.api]
    other: Api = "obshell" if client.target.api == "ocp" else "ocp"
    location = answer.headers.get("Location")
    media = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    if _speaks_tls(url, Problem("cut" if answer.status_code == 400 else "other", "")):
        _raise_unreachable(url, Problem("cut", ""), 0)
    if location is not None and 300 <= answer.status_code < 400:
        there = location.partition("/api/")[0] or "that address"
        raise Untestable(f"{url} sends elsewhere, to {location}. If that is it, say {there}.")
    if _is(client, other):
        raise Untestable(f"{url} is an {NAMES[other]}, not an {name}. Say --api {other}.")
    if media == "text/html":
        raise Untestable(f"{url} answers with a web page, not as an {name}. {_mended(url)}")
    what = f"with {media}" if media else "with nothing"
    says = f" It says: {_sentence(told)}" if (told := _told(answer)) else ""
    raise Untestable(
        f"{url} answers {answer.status_code} {what}, not as an {name}. {_mended(url)}{says}"
    )


def _mended(url: str) -> str:
    """How to say where the API is."""
    home, path, _ = f"{url}/".partition("/api/")
    return f"Leave out what is the API's own: say {home}." if path else "Say where its API is."


def _is(client: HttpClient, api: Api) -> bool:
    """Whether it is the other API, asked without credentials."""
    try:
        said = _envelope(_ask(client, TASKS if api == "ocp" else INFO, plain=True))
    except requests.RequestException:
        return False
    data = said.get("data")
    return "server" in said if api == "ocp" else isinstance(data, dict) and "identity" in data


def _envelope(answer: requests.Response) -> Mapping[str, Any]:
    """What an answer says, if that is somewhat in either API's envelope; else nothing."""
    try:
        said = answer.json()
    except ValueError:
        return {}
    is_one = isinstance(said, dict) and len(ENVELOPE & said.keys()) >= 3
    return said if is_one else {}


def _told(answer: requests.Response) -> str:
    """The error in an answer, such as of an oceanmock without that sandbox."""
    try:
        error = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    said = error.get("message") if isinstance(error, dict) else error
    return said if isinstance(said, str) else ""
