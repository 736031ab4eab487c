"""Connect to the target of a conformance run and identify it; or read a recording.

Only reads are sent. A target that cannot be tested raises Untestable with one plain sentence. Nothing else is checked
here: a server whose responses resemble those of the API is tested.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from itertools import chain
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote, urlsplit

import requests

from oceanmock.api import Api
from oceanmock.apis import APIS, api_named
from oceanmock.checks import UNREADABLE, Exchange, HeaderFields, instant
from oceanmock.clock import MILLISECOND, SECOND, pause, stopwatch
from oceanmock.conformance import ApiName, Listener, Options, PhaseStarted, Waiting, masked
from oceanmock.conformance.http_client import HttpClient, Problem, RequestAuth, problem_of
from oceanmock.credentials import AccessKey, Basic, Sealed
from oceanmock.errors import InputError, OceanmockError
from oceanmock.observations import Target, items_in_response
from oceanmock.text import escape_unprintable

PERMANENT_PROBLEMS: Final = frozenset({"certificate", "other name", "no TLS there", "TLS", "not sendable"})
TLS_SECONDS: Final = 1.0  # the timeout of a TLS handshake with a server that did not respond to http
HAR_HEAD: Final = 1000  # the number of characters within which a HAR file has its first key
CUT_BODY: Final = re.compile(r"\.\.\. \([0-9]+ more bytes\)$")  # the end of a body that the journal has shortened
NO_BODY: Final = "the recording has no body of the response"
"""The problem of an exchange in a recording; a HAR without a status may be of a request that the client cancelled."""
UNREACHABLE_TEXTS: Final[Mapping[str, str]] = {
    "not sendable": "nothing can be sent to {url}: {text}. Check the name, or the access key.",
    "starting": "{url} has not started ({text}). Wait longer with --connect-timeout.",
    "no TLS there": "{url} does not speak TLS. Use http:// instead of https://.",
    "TLS": "{url} and this machine support no common version of TLS ({text}).",
    "certificate": "the certificate of {url} is not trusted ({text}). Give the certificates to trust with --ca, or "
    "accept any with --insecure.",
    "other name": "the certificate of {url} belongs to another host ({text}). Use the name in the certificate, or "
    "accept any with --insecure.",
    "no HTTP there": "the server at {url} does not speak HTTP. Correct the URL.",
}
"""The message for each kind of problem; any other is that nothing responds."""


class Untestable(OceanmockError):
    """The target is down, is not that API, or refuses the credentials."""


def reach(
    url: str,
    *,
    api: ApiName,
    auth: RequestAuth | tuple[str, str] | None = None,
    verify: bool | str = True,
    wait: float = 0.0,
    listen: Listener = lambda _: None,
    now: Callable[[], int] = stopwatch,
    sleep: Callable[[int], object] = pause,
) -> Target:
    """Return the target at a URL once it responds; ``wait`` is how many seconds that may take.

    Raises Untestable when there is no server, it is not that API, or it refuses the credentials.
    """
    try:
        if isinstance(verify, str):
            ssl.create_default_context(cafile=verify)
    except OSError as error:  # an SSLError is one
        why = error.strerror or error
        raise Untestable(f"{verify} is no file of certificates to trust ({why}).") from None
    if isinstance(auth, tuple):
        auth = Basic(*auth)
    elif isinstance(auth, Sealed) and auth.fetch is None:
        auth = replace(auth, verify=verify)
    target = Target(normalized_url(url), api, auth, verify)
    client = HttpClient(target, Options(), listen=listen, now=now, sleep=sleep)
    listen(PhaseStarted("preflight"))
    until, limit = now() + int(wait * SECOND), client.read_seconds
    with client.session:
        while True:
            client.read_seconds = max(min((until - now()) / SECOND, limit), TLS_SECONDS) if wait else limit
            try:
                response = _preflight(client, api_named(api))
            except requests.RequestException as error:
                problem = problem_of(error)
            else:
                if response.status_code not in {502, 503, 504} or _envelope(response):
                    client.read_seconds = limit
                    return _identified(client, response)
                # the server behind a proxy has not started
                problem = Problem("starting", f"it responds {response.status_code}")
            remaining = until - now()
            if remaining <= 0 or problem.kind in PERMANENT_PROBLEMS or _speaks_tls(target.url, problem):
                raise _unreachable(target.url, problem, wait)
            listen(Waiting(target.url, problem.text, remaining))
            sleep(min(SECOND, remaining))


def check_tasks(target: Target, tasks: Sequence[str], *, unknown_ids: bool = False) -> None:
    """Raise Untestable for a task that the target does not have. Raises NotAllowed."""
    client, api = HttpClient(target, Options(unknown_ids=unknown_ids)), api_named(target.api)
    with client.session:
        for path in api.module("probes").list_targets(target.identity) if tasks else ():
            client.send("GET", path)  # the guard allows the ids that it shows
        for id in tasks:
            status = client.send("GET", detail_path(target.api, id)).status
            if status in {400, 404}:
                raise Untestable(f"{target.url} has no {api.root.title} {id!r}: it responds {status}. Check the id.")


def detail_path(api: str, id: str | int) -> str:
    """Return the path that reads a task or dag."""
    record = api_named(api)
    route = record.route(record.root.detail)
    return route.path.format_map({route.ids[record.root.name]: quote(str(id), safe="")})


def failed_tasks(target: Target) -> list[tuple[str, str]]:
    """Return id and name of each task, or dag, that is FAILED on the target."""
    client, api, names = HttpClient(target, Options()), api_named(target.api), dict[str, str]()
    for path in api.module("probes").list_targets(target.identity):
        for item in items_in_response(api, client.send("GET", path)):
            if item.kind == api.root.name and item.state == "FAILED":
                names[escape_unprintable(item.id)] = escape_unprintable(item.name)
    return [*names.items()]


def normalized_url(url: str) -> str:
    """Return the URL as it is sent. Raises Untestable for what is not a server's URL."""
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        if is_url and "@" in parts.netloc:
            what = f"the URL of {parts.hostname} contains a name or a password, which ends up in logs"
            raise Untestable(f"{what}. Give them as credentials (--user).")
        if not is_url or parts.query or parts.fragment:
            raise ValueError
        return str(requests.Request("GET", url).prepare().url).rstrip("/")
    except (ValueError, requests.RequestException):
        raise Untestable(f"{without_user(url)!r} is not the URL of a server, such as http://10.0.0.1:8080.") from None


def without_user(url: str) -> str:
    """Return a URL without the credentials in it."""
    return re.sub(r"(?<=://)[^/]*@", "", url)


def read_recording(path: Path) -> dict[ApiName, dict[str, list[Exchange]]]:
    """Return the exchanges of a file by API and server, in their order, masked. Raises InputError.

    The file is a HAR (http://www.softwareishard.com/blog/har-12-spec/), or the output of `oceanmock journal --json`.
    Targets begin with the API's own path. Every request counts as sent with credentials: a HAR often omits them.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        raise InputError(f"the recording {path} cannot be read: {problem}") from None
    exchanges, place = dict[ApiName, dict[str, list[Exchange]]](), "it"
    try:
        is_har = '"log"' in text[:HAR_HEAD].partition(":")[0]
        rows: list[Any] = json.loads(text)["log"]["entries"] if is_har else text.splitlines()
        for number, row in enumerate(rows, 1):
            place = f"entry {number}" if is_har else f"line {number}"
            if not is_har and not row.strip():
                continue
            values = _of_har(row) if is_har else _of_journal(json.loads(row))
            host = values.pop("host")
            for api in APIS:
                at = values["target"].partition("?")[0].find(f"{api.prefix.rstrip('/')}/")
                if at >= 0:
                    server, values["target"] = host + values["target"][:at], values["target"][at:]
                    exchange = Exchange(number=number, phase="passive", operation="", credentials="own", **values)
                    servers = exchanges.setdefault(cast("ApiName", api.name), {})
                    servers.setdefault(server, []).append(masked(exchange))
                    break
        for own in chain(*(servers.values() for servers in exchanges.values())) if is_har else ():
            own.sort(key=lambda item: item.sent_at)  # a HAR need not be sorted
    except (*UNREADABLE, RecursionError) as problem:
        raise InputError(
            f"the recording {path} is neither a HAR file nor the output of `oceanmock journal --json`: {place} cannot "
            f"be read ({type(problem).__name__}: {problem})."
        ) from None
    if not exchanges:
        raise InputError(f"the recording {path} has no exchange with {' or '.join(api.title for api in APIS)}.")
    return exchanges


def _of_har(entry: Any) -> dict[str, Any]:
    request, response = entry["request"], entry["response"]
    parts, content = urlsplit(request["url"]), response.get("content") or {}
    text, sent = content.get("text"), (request.get("postData") or {}).get("text") or ""
    return {
        "host": parts.netloc,
        "method": request["method"].upper(),
        "target": f"{parts.path}?{parts.query}".rstrip("?"),
        "request_headers": _header_fields((item["name"], item["value"]) for item in request["headers"]),
        "request_body": sent.encode(),
        "status": int(response["status"] or 0) or None,
        "response_headers": _header_fields((item["name"], item["value"]) for item in response["headers"]),
        "response_body": _body(text, "base64" if content.get("encoding") == "base64" else "text"),
        "sent_at": instant(entry["startedDateTime"]) or 0,
        "took": round((entry.get("time") or 0) * MILLISECOND),
        "problem": "" if response["status"] and (text is not None or not content.get("size")) else NO_BODY,
    }


def _of_journal(entry: Any) -> dict[str, Any]:
    return {
        "host": next((str(value) for name, value in entry["request_headers"] if name.lower() == "host"), ""),
        "method": entry["method"].upper(),
        "target": f"{entry['path']}?{entry['query']}".rstrip("?"),
        "request_headers": _header_fields(entry["request_headers"]),
        "request_body": _body(entry["request_body"], entry["request_body_kind"]),
        "status": int(entry["status"] or 0) or None,
        "response_headers": _header_fields(entry["response_headers"]),
        "response_body": _body(entry["response_body"], entry["response_body_kind"]),
        "sent_at": instant(entry["wall"]) or 0,
        "took": round(entry["took_ms"] * MILLISECOND),
        "problem": NO_BODY if entry["response_body_kind"] == "text" and CUT_BODY.search(entry["response_body"]) else "",
    }


def _header_fields(pairs: Iterable[Any]) -> HeaderFields:
    return tuple((str(name), str(value)) for name, value in pairs)


def _body(value: Any, kind: str) -> bytes:
    if kind == "json":
        return json.dumps(value, ensure_ascii=False).encode()
    return base64.b64decode(value or "") if kind == "base64" else (value or "").encode()


def _preflight(client: HttpClient, api: Api, *, with_auth: bool = True) -> requests.Response:
    """Send the first request to an API, with the run's credentials if it needs any."""
    server = api.conformance
    auth = client.auth if with_auth and not server.is_preflight_open else None
    return client.session.get(f"{client.target.url}{server.preflight_path}", auth=auth)


def _speaks_tls(url: str, problem: Problem) -> bool:
    """Return whether a server that did not respond to http speaks TLS."""
    parts = urlsplit(url)
    if parts.scheme == "https" or problem.kind not in {"cut", "no HTTP there", "timeout"}:
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    address = parts.hostname or "", parts.port or 80
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=TLS_SECONDS) as plain:
        context.wrap_socket(plain, server_hostname=parts.hostname).close()
        return True
    return False


def _unreachable(url: str, problem: Problem, wait: float = 0.0) -> Untestable:
    if _speaks_tls(url, problem):
        return Untestable(f"{url} requires TLS. Use {url.replace('http://', 'https://', 1)}.")
    waited = f" within {wait:g} s" if wait else ""
    default = f"nothing responds at {{url}}{waited} ({{text}}). Start it, or correct the URL."
    return Untestable(UNREACHABLE_TEXTS.get(problem.kind, default).format(url=url, text=problem.text.rstrip(".")))


def _identified(client: HttpClient, first: requests.Response) -> Target:
    """Return the target with the values that it states, if the run may read its tasks."""
    target, server = client.target, api_named(client.target.api).conformance
    body = _envelope(first)
    is_other = server.is_preflight_open and not server.is_server(body)
    if (not body and first.status_code != HTTPStatus.UNAUTHORIZED) or first.status_code == 404 or is_other:
        raise _other_server(client, first)
    try:
        values = server.identify(body)
    except (LookupError, TypeError, ValueError):
        raise Untestable(
            f"{target.url} does not state its own address ({server.preflight_path}), so its own ids cannot be "
            "distinguished from those that it would ask other agents for."
        ) from None
    if server.is_preflight_open:
        try:
            first = client.session.get(f"{target.url}{server.read_path}", auth=client.auth)
        except (requests.RequestException, OceanmockError) as error:
            why = problem_of(error).text if isinstance(error, requests.RequestException) else str(error)
            noun = api_named(target.api).root.title
            raise Untestable(f"{target.url} responds, but not for its {noun}s: {_sentence(why)}") from None
    _check_accepted(client, first, server.credentials_hint)
    return replace(target, **values, spared=server.spares(values, lambda path: client.send("GET", path)))


def _check_accepted(client: HttpClient, response: requests.Response, hint: str) -> None:
    """Raise Untestable if the credentials are refused, or do not suffice to read."""
    target, body = client.target, _envelope(response)
    error = body.get("error")
    error = error if isinstance(error, dict) else {}
    why = _sentence(str(error.get("message", "")) or f"it responds {response.status_code}")
    statuses = [response.status_code, body.get("status")]
    name = "a request without credentials" if target.auth is None else "the password"
    if isinstance(target.auth, Basic):
        name = f"the name and password of {target.auth.user!r}"
    elif isinstance(target.auth, AccessKey):
        name = f"the signature of access key {target.auth.id!r}"
    # Request.Header.NotFound is obshell's code for a request without credentials
    if 401 in statuses or error.get("errCode") == "Request.Header.NotFound":
        refused = f"requires credentials: {hint}." if target.auth is None else f"refuses {name}: {why}"
        raise Untestable(f"{target.url} {refused}")
    if 403 in statuses:
        raise Untestable(f"{target.url} accepts {name}, but does not let that user read tasks: {why}")


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _other_server(client: HttpClient, response: requests.Response) -> Untestable:
    """Return the error of a target that is no server of its API; it says what the server is instead."""
    url, api = client.target.url, api_named(client.target.api)
    location = response.headers.get("Location")
    media = response.headers.get("Content-Type", "").partition(";")[0].strip()
    if response.status_code == 400 and _speaks_tls(url, Problem("cut", "")):
        return _unreachable(url, Problem("cut", ""))
    if location is not None and 300 <= response.status_code < 400:
        other = location.partition("/api/")[0] or "that address"
        return Untestable(f"{url} redirects to {location}. If that is the server, use {other}.")
    for record in (item for item in APIS if item is not api):
        with contextlib.suppress(requests.RequestException):
            body = _envelope(_preflight(client, record, with_auth=False))
            if record.conformance.is_server(body):
                return Untestable(f"{url} is an {record.title}, not an {api.title}. Use --api {record.name}.")
    home, path, _ = f"{url}/".partition("/api/")
    advice = f"Leave out the API's own path: use {home}." if path else "Correct the URL."
    if media == "text/html":
        return Untestable(f"{url} responds with a web page, not as an {api.title}. {advice}")
    what = f"with {media}" if media else "without a body"
    message = None
    with contextlib.suppress(ValueError, KeyError, TypeError):
        error = response.json()["error"]  # such as that of an oceanmock without that sandbox
        message = error.get("message") if isinstance(error, dict) else error
    quoted = f" Its message: {_sentence(message)}" if message and isinstance(message, str) else ""
    return Untestable(f"{url} responds {response.status_code} {what}, not as an {api.title}. {advice}{quoted}")


def _envelope(response: requests.Response) -> Mapping[str, Any]:
    """Return a response's body if it resembles either API's envelope, else an empty mapping."""
    try:
        body = response.json()
    except ValueError:
        return {}
    members = {"successful", "timestamp", "duration", "status", "traceId", "data", "error"}
    return body if isinstance(body, dict) and len(members & body.keys()) >= 3 else {}
