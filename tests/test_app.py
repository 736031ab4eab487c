"""app.py: what connexion's plain app does badly is mended here, one rule each.

The app under test serves a small contract of two APIs, whose envelope is bare: ``kind`` and
``detail``. What only shows under OCP's contract is asked of OCP's.
"""

import oceanmock.http.app  # isort: skip
import asyncio
import base64
import copy
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock
from urllib.parse import urlsplit

import httpx
import orjson
import pytest
import yaml
from connexion.exceptions import ProblemException
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from command import PATIENCE
from in_process import REINSTALL, Ask, asking, sandbox_of
from oceanmock.api import ApiError, Fragment, Request, Response, Service
from oceanmock.apis import make_sandbox
from oceanmock.engine.log import AddFault
from oceanmock.engine.sandbox import Sandbox
from oceanmock.errors import InputError
from oceanmock.http import send_response, server
from oceanmock.http.app import create_app
from oceanmock.http.pipeline import MAX_BODY_BYTES, Pipeline, receive_body
from oceanmock.http.server import Server
from oceanmock.library import read_fault
from served import SECOND, load_yaml, until

NOTES = load_yaml(r"""
openapi: 3.0.3
info: {title: Notes, version: '1'}
security: [{basicAuth: []}]
paths:
  /notes/{id}:
    parameters:
      - {name: id, in: path, required: true, schema: {type: integer, format: int64, minimum: 1}}
    get:
      operationId: getNote
      x-permission: READER
      parameters:
        - {name: page, in: query, schema: {type: integer, format: int32, default: 1}}
        - {name: ratio, in: query, schema: {type: number}}
        - {name: deep, in: query, schema: {type: boolean}}
        - {name: any, in: query, schema: {}}
        - {name: key, in: query, schema: {type: string, pattern: '^[a-z]+$'}}
        - {name: X-Tag, in: header, schema: {type: string, maxLength: 3}}
        - name: tags
          in: query
          explode: false
          schema: {type: array, items: {type: integer}}
      responses: &responses
        '200':
          description: What was understood.
          content: {application/json: {schema: {type: object, required: [understood]}}}
        '400':
          description: ApiError.
          content: {application/json: {schema: {type: object, required: [kind]}}}
    put:
      operationId: putNote
      requestBody:
        required: true
        content:
          application/json:
            schema: {type: object, properties: {text: {type: string, nullable: true}}}
      responses: *responses
components:
  securitySchemes:
    basicAuth: {type: http, scheme: basic}
""")
OTHERS = load_yaml("""
openapi: 3.0.3
info: {title: Others, version: '1'}
paths:
  /others:
    get:
      operationId: listOthers
      responses:
        '200': {description: All., content: {application/json: {schema: {type: object}}}}
""")


def understood(call: Request) -> Response:
    """Answers with what the app has made of the request."""
    return Response(200, {"understood": {**call.parameters}, "body": call.content})


def worded(call: Request, error: Exception) -> Response:
    """The envelope of the small contract."""
    kind = error.kind if isinstance(error, ApiError) else "crash"
    status = error.status_code if isinstance(error, ApiError) else 500
    headers = error.headers if isinstance(error, ApiError) else ()
    return Response(status, {"kind": kind, "detail": str(error), "api": call.service.name}, headers)


def known(call: Request) -> frozenset[str] | None:
    """A reader, when the request says so; anybody else may do nothing."""
    said = call.header(b"authorization")
    return None if said is None else frozenset({"READER"} if said == b"reader" else ())


def notes(**changes: Any) -> Service:
    """The small API, with whatever a test changes."""
    made: dict[str, Any] = {
        "name": "notes",
        "prefix": "/notes",
        "spec": NOTES,
        "handlers": {"getNote": understood, "putNote": understood},
        "render_error": worded,
        "security": {"basic": known},
        "encode": lambda body: json.dumps(body).encode(),
    }
    return Service(**made | changes)


def others() -> Service:
    """A second API beside it, without security."""
    handlers = {"listOthers": lambda _: Response(200, {})}
    return notes(name="others", prefix="/others", spec=OTHERS, handlers=handlers)


def in_a_sandbox(pipeline: Pipeline) -> Any:
    """The app of a pipeline, its requests meant for one sandbox."""
    sandbox = make_sandbox(progression="manual")

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        body = await receive_body(scope["headers"], receive)
        if body is not None:
            await send_response(pipeline.respond(pipeline.request_of(scope, sandbox), body), scope, receive, send)

    return serve


def as_reader(app: Any) -> Ask:
    """Asks as somebody who may do everything."""
    ask = asking(app)

    def read(method: str, url: str, *, headers: Any = (), **options: Any) -> httpx.Response:
        return ask(method, url, auth=None, headers={"authorization": "reader"} | dict(headers), **options)

    return read


@pytest.fixture(scope="module")
def app() -> Any:
    return in_a_sandbox(Pipeline([notes(), others()]))


@pytest.fixture(scope="module")
def read(app: Any) -> Ask:
    return as_reader(app)


# --- making the app -------------------------------------------------------------------------------


def test_an_operation_without_a_handler_and_a_handler_without_an_operation_are_named() -> None:
    api = notes(handlers={"getNote": understood, "postNote": understood})

    with pytest.raises(InputError) as error:
        Pipeline([api])

    assert str(error.value) == (
        "the contract of notes and its handlers: operation 'putNote' has no handler; "
        "handler 'postNote' has no operation"
    )


def test_a_security_scheme_that_nothing_checks_is_named() -> None:
    with pytest.raises(InputError, match="nothing checks 'basicAuth'"):
        Pipeline([notes(security={})])


def test_a_contract_in_openapi_3_1_is_refused_when_the_app_is_made() -> None:
    with pytest.raises(InputError, match=r"the contract of notes is not OpenAPI 3\.0"):
        Pipeline([notes(spec=NOTES | {"openapi": "3.1.0"})])


def test_a_parameter_in_a_cookie_is_refused_when_the_app_is_made() -> None:
    text = yaml.safe_dump(NOTES).replace("in: header", "in: cookie")

    with pytest.raises(InputError, match="cookie"):
        Pipeline([notes(spec=load_yaml(text))])


def test_importing_the_app_warns_of_nothing() -> None:
    command = [sys.executable, "-W", "error", "-c", "import oceanmock.http.pipeline"]

    done = subprocess.run(command, check=False, capture_output=True)

    assert (done.returncode, done.stderr) == (0, b"")


def test_the_lifespan_of_the_app_runs_to_its_end() -> None:
    app = create_app(make_sandbox())

    sent = asyncio.run(messages_of(app, {"type": "lifespan"}, ["lifespan.startup", "lifespan.shutdown"]))

    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


# --- routing --------------------------------------------------------------------------------------


def test_two_apis_in_one_app_each_answer_their_own_paths(read: Ask) -> None:
    assert read("GET", "/notes/1").json()["understood"]["id"] == 1
    assert read("GET", "/others").json() == {}


def test_an_unknown_path_is_refused_in_the_words_of_the_api_it_lies_under(read: Ask) -> None:
    assert read("GET", "/others/1").json()["api"] == "others"
    assert read("GET", "/notes").json()["api"] == "notes"
    assert read("GET", "/").json()["api"] == "notes"


def test_an_unknown_path_is_told_the_nearest_that_is_known(read: Ask) -> None:
    answer = read("GET", "/note/1")

    assert answer.status_code == 404
    assert answer.json()["detail"] == (
        "No operation of the contract answers GET /note/1. The nearest is GET /notes/{id}."
    )


@pytest.mark.parametrize("path", ["/others/", "//others", "/others//", "/notes/", "/notes/1/"])
def test_a_path_with_a_slash_too_many_is_another_path(read: Ask, path: str) -> None:
    answer = read("GET", path)

    assert (answer.status_code, answer.json()["kind"]) == (404, "unknown path")


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "TRACE", "QUERY"])
def test_a_wrong_method_is_answered_with_every_right_one(read: Ask, method: str) -> None:
    answer = read(method, "/notes/1")

    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, PUT")


def test_an_app_mounted_under_a_root_path_answers_below_it(app: Any) -> None:
    scope = {
        "type": "http",
        "method": "GET",
        "root_path": "/mock",
        "path": "/mock/others",
        "query_string": b"",
        "headers": [],
    }

    start, _ = asyncio.run(messages_of(app, scope, []))

    assert start["status"] == 200


def test_an_alias_answers_as_the_path_it_stands_for() -> None:
    read = as_reader(in_a_sandbox(Pipeline([notes(aliases={"/papers/{id}": "/notes/{id}"})])))

    assert read("GET", "/papers/7").json() == read("GET", "/notes/7").json()


# --- security -------------------------------------------------------------------------------------


def test_who_is_not_known_is_refused_before_anything_is_said_of_the_request(app: Any) -> None:
    answer = asking(app)("GET", "/notes/abc", auth=None)

    assert (answer.status_code, answer.json()["kind"]) == (401, "unauthenticated")


def test_a_permission_of_the_contract_that_is_lacking_is_refused(app: Any) -> None:
    answer = asking(app)("GET", "/notes/1")

    assert (answer.status_code, answer.json()["kind"]) == (403, "forbidden")
    assert answer.json()["detail"] == "This operation needs the permission READER."


def test_an_operation_without_a_permission_needs_no_more_than_to_be_known(app: Any) -> None:
    answer = asking(app)("PUT", "/notes/1", json={})

    assert answer.status_code == 200


# --- parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "id",
    ["abc", "1.0", "1e3", "0x1", "1_0", "%201", "1%0A", "%D9%A1", "%00", "%FF", "%zz", "null", "-",
     "1" * 30, "1" * 5000],
)  # fmt: skip
def test_a_path_id_that_is_no_64_bit_integer_is_of_the_wrong_type(read: Ask, id: str) -> None:
    answer = read("GET", f"/notes/{id}")

    assert (answer.status_code, answer.json()["kind"]) == (400, "wrong type")


@pytest.mark.parametrize("id", ["0", "-1", str(2**63), "9" * 19])
def test_a_path_id_out_of_the_contracts_bounds_is_a_wrong_value(read: Ask, id: str) -> None:
    answer = read("GET", f"/notes/{id}")

    assert (answer.status_code, answer.json()["kind"]) == (400, "wrong value")


def test_a_path_id_may_be_as_large_as_64_bits_allow(read: Ask) -> None:
    assert read("GET", f"/notes/{2**63 - 1}").json()["understood"]["id"] == 2**63 - 1


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("page=7", 7),
        ("page=%2B7", 7),
        ("page=007", 7),
        ("ratio=1.5e3", 1500.0),
        ("deep=true", True),
        ("any=x", "x"),
        ("any=", ""),
        ("key=abc", "abc"),
        ("tags=1,2", [1, 2]),
        ("tags=1&tags=2,3", [1, 2, 3]),
    ],
)
def test_a_query_parameter_is_read_by_its_type(read: Ask, query: str, value: Any) -> None:
    name = query.partition("=")[0]

    assert read("GET", f"/notes/1?{query}").json()["understood"][name] == value


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("page=abc", "wrong type"),
        ("page=", "wrong type"),
        ("page=1.0", "wrong type"),
        ("page=2147483648", "wrong value"),
        ("ratio=nan", "wrong type"),
        ("ratio=inf", "wrong type"),
        ("deep=yes", "wrong type"),
        ("key=abc%0A", "wrong value"),
        ("tags=1,", "wrong type"),
        ("&".join(["a=1"] * 1001), "wrong request"),
    ],
)
def test_a_query_parameter_the_contract_does_not_allow_is_refused(read: Ask, query: str, kind: str) -> None:
    answer = read("GET", f"/notes/1?{query}")

    assert (answer.status_code, answer.json()["kind"]) == (400, kind)


def test_the_default_of_a_parameter_is_what_the_contract_says(read: Ask) -> None:
    assert read("GET", "/notes/1").json()["understood"] == {"id": 1, "page": 1}


def test_of_a_repeated_parameter_the_first_counts(read: Ask) -> None:
    answer = read("GET", "/notes/1?page=2&page=abc")

    assert answer.json()["understood"]["page"] == 2


def test_a_query_parameter_the_contract_does_not_name_is_ignored(read: Ask) -> None:
    answer = read("GET", "/notes/1?colour=%FF%00&%zz=1")

    assert answer.json()["understood"] == {"id": 1, "page": 1}


def test_a_header_parameter_is_read_and_checked(read: Ask) -> None:
    fits = read("GET", "/notes/1", headers={"x-tag": "abc"})
    too_long = read("GET", "/notes/1", headers={"x-tag": "abcd"})

    assert fits.json()["understood"]["X-Tag"] == "abc"
    assert (too_long.status_code, too_long.json()["kind"]) == (400, "wrong value")


# --- bodies ---------------------------------------------------------------------------------------

CHUNKED = [(b"transfer-encoding", b"chunked")]
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"\xff\xfe", "malformed body"),
        (b'{"text": "\xff"}', "malformed body"),
        (b'{"text": "\\ud800"}', "malformed body"),
        (b"[" * 40_000 + b"]" * 40_000, "malformed body"),
        (b"{", "malformed body"),
        (b"NaN", "malformed body"),
        (b"", "malformed body"),
        (b"[]", "wrong request"),
        (b'{"text": 1}', "wrong request"),
    ],
)
def test_a_body_the_contract_does_not_allow_is_refused(read: Ask, body: bytes, kind: str) -> None:
    answer = read("PUT", "/notes/1", content=body, headers=JSON)

    assert (answer.status_code, answer.json()["kind"]) == (400, kind)


def test_a_nullable_member_of_a_body_may_be_null(read: Ask) -> None:
    assert read("PUT", "/notes/1", json={"text": None}).json()["body"] == {"text": None}


@pytest.mark.parametrize("media_type", ["text/plain", "garbage;;;=", "\xff", "application/xml"])
def test_a_body_of_another_media_type_is_refused(read: Ask, media_type: str) -> None:
    headers = {"content-type": media_type.encode("latin-1")}

    answer = read("PUT", "/notes/1", content=b"{}", headers=headers)

    assert (answer.status_code, answer.json()["kind"]) == (415, "unsupported media type")


@pytest.mark.parametrize("media_type", ["", "application/json;charset=utf-8", "Application/JSON"])
def test_json_is_recognised_however_its_media_type_is_written(read: Ask, media_type: str) -> None:
    answer = read("PUT", "/notes/1", content=b"{}", headers={"content-type": media_type})

    assert answer.json()["body"] == {}


def in_chunks(size: int, count: int) -> Iterator[bytes]:
    return (b" " * size for _ in range(count))


def put(app: Any, *parts: bytes, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """Puts a note as raw ASGI, in these parts; the status and the body of the answer."""
    scope = {
        "type": "http",
        "method": "PUT",
        "path": "/notes/1",
        "query_string": b"",
        "headers": [(b"authorization", b"reader"), *headers],
    }
    bodies = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    start, body = asyncio.run(messages_of(app, scope, [*bodies, {"type": "http.request"}]))
    return {"status": start["status"], **json.loads(body["body"])}


async def messages_of(app: Any, scope: dict[str, Any], received: list[Any]) -> list[dict[str, Any]]:
    """What an app sends when it receives these messages; a text stands for a bare message."""
    incoming = iter(received)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        message = next(incoming)
        return {"type": message} if isinstance(message, str) else message

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def test_a_chunked_body_is_taken_in_whole(app: Any) -> None:
    answer = put(app, b'{"text":', b' "in ', b'parts"}', headers=CHUNKED)

    assert (answer["status"], answer["body"]) == (200, {"text": "in parts"})


@pytest.mark.parametrize("length", [str(MAX_BODY_BYTES + 1), "9" * 5000])
def test_a_body_over_the_bound_is_refused_before_it_is_read(app: Any, length: str) -> None:
    answer = put(app, headers=[(b"content-length", length.encode())])

    assert (answer["status"], answer["kind"]) == (413, "body too large")


def test_a_chunked_body_is_refused_as_soon_as_it_is_over_the_bound(app: Any) -> None:
    parts = in_chunks(MAX_BODY_BYTES // 4, 40)

    answer = put(app, *parts, headers=CHUNKED)

    assert (answer["status"], answer["kind"]) == (413, "body too large")


def test_a_client_that_hangs_up_amid_its_body_is_not_answered(app: Any) -> None:
    scope = {
        "type": "http",
        "method": "PUT",
        "path": "/notes/1",
        "query_string": b"",
        "headers": [(b"content-length", b"10")],
    }

    sent = asyncio.run(messages_of(app, scope, ["http.disconnect"]))

    assert sent == []


# --- answers --------------------------------------------------------------------------------------


def answering(answer: Any) -> httpx.Response:
    """What becomes of a handler's answer, or of the exception it raises."""
    handler = Mock(side_effect=[answer])  # it raises an exception, and returns anything else
    api = notes(handlers={"getNote": handler, "putNote": understood})
    return as_reader(in_a_sandbox(Pipeline([api])))("GET", "/notes/1")


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (Response(200, {}), 'getNote 200: "understood" is a required property'),
        (Response(200, []), 'getNote 200: [] is not of type "object"'),
        (Response(201, {}), "getNote 201: the contract does not name this status"),
    ],
)
def test_an_answer_that_breaks_the_contract_does_not_leave(
    answer: Response, detail: str, caplog: pytest.LogCaptureFixture
) -> None:
    response = answering(answer)

    assert (response.status_code, response.json()["kind"]) == (500, "broken response")
    assert response.json()["detail"] == detail
    assert detail in caplog.text


ENVELOPE: dict[str, Any] = {
    "allOf": [
        {"type": "object", "required": ["data", "status"], "properties": {"status": {"type": "integer"}}},
        {"type": "object", "properties": {"data": {"type": "object", "required": ["id"]}}},
    ]
}


def in_an_envelope(**response: Any) -> Response:
    """A response in an envelope around a fragment; valid, but for what a test changes."""
    valid: dict[str, Any] = {"status": 200, "body": {"status": 1}, "fragment": Fragment(b'{"id":1}')}
    return Response(**valid | response)


def reading_envelopes(handler: Any, schema: dict[str, Any] = ENVELOPE) -> Ask:
    """Asks an API whose answers have an envelope."""
    spec = copy.deepcopy(OTHERS)
    spec["paths"]["/others"]["get"]["responses"]["200"]["content"]["application/json"]["schema"] = schema
    api = notes(name="others", prefix="/others", spec=spec, handlers={"listOthers": handler}, encode=orjson.dumps)
    return asking(in_a_sandbox(Pipeline([api])))


@pytest.mark.parametrize("schema", [ENVELOPE, {"not": {"required": ["none"]}, **ENVELOPE}])
@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"body": {"status": "1"}}, 'status: "1" is not of type "integer"'),
        ({"body": {}}, '"status" is a required property'),
        ({"fragment": Fragment(b"{}")}, '"id" is a required property'),
        ({"fragment": Fragment(b"[]")}, '[] is not of type "object"'),
        ({"fragment": None}, '"data" is a required property'),
        ({"fragment": None, "sample": {"status": 1, "data": {}}}, '"id" is a required property'),
    ],
)
def test_an_envelope_or_a_fragment_that_breaks_the_contract_does_not_leave(
    changes: dict[str, Any], detail: str, schema: dict[str, Any]
) -> None:
    read = reading_envelopes(lambda _: in_an_envelope(**changes), schema)

    for _ in range(2):
        response = read("GET", "/others")
        assert (response.status_code, response.json()["kind"]) == (500, "broken response")
        assert response.json()["detail"].endswith(detail)


def test_a_fragment_is_checked_by_the_schema_of_each_operation() -> None:
    fragment = Fragment(b'{"id":1}')
    lax, strict = ENVELOPE, copy.deepcopy(ENVELOPE)
    strict["allOf"][1]["properties"]["data"]["required"].append("name")

    statuses = [
        reading_envelopes(lambda _: in_an_envelope(fragment=fragment), schema)("GET", "/others").status_code
        for schema in (lax, strict, lax)
    ]

    assert statuses == [200, 500, 200]


def test_an_error_that_breaks_the_contract_does_not_leave_either() -> None:
    def worded_badly(call: Request, error: Exception) -> Response:
        return Response(400, {}) if "id" in str(error) else worded(call, error)

    read = as_reader(in_a_sandbox(Pipeline([notes(render_error=worded_badly)])))

    assert read("GET", "/notes/abc").json() == {
        "kind": "broken response",
        "detail": 'getNote 400: "kind" is a required property',
        "api": "notes",
    }


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (HTTPException(404), 404, "unknown path"),
        (ProblemException(status=400, detail="no"), 400, "wrong request"),
        (ProblemException(status=418), 500, "crash"),
        (RuntimeError("oops"), 500, "crash"),
    ],
)
def test_whatever_is_raised_leaves_in_the_envelope(error: Exception, status: int, kind: str) -> None:
    response = answering(error)

    assert (response.status_code, response.json()["kind"]) == (status, kind)


def test_only_the_mocks_own_mistakes_are_logged(read: Ask, caplog: pytest.LogCaptureFixture) -> None:
    read("GET", "/notes/abc")
    read("GET", "/nowhere")
    assert caplog.text == ""

    answering(RuntimeError("oops"))
    assert "GET /notes/1: RuntimeError('oops')" in caplog.text


# --- faults -----------------------------------------------------------------------------------------

TASKS = "/api/v2/tasks/instances"


def with_fault(**fault: Any) -> Sandbox:
    sandbox = sandbox_of(REINSTALL)
    sandbox.execute(AddFault(read_fault(fault)))
    return sandbox


def test_a_changed_answer_may_break_the_contract_and_another_may_not(caplog: pytest.LogCaptureFixture) -> None:
    sandbox = with_fault(operation="getTaskInstance", change_type="server")
    ask = asking(create_app(sandbox))

    changed = ask("GET", f"{TASKS}/35000312")
    object.__setattr__(sandbox, "server", 5)
    unchanged = ask("GET", TASKS)

    assert (changed.status_code, changed.json()["server"]) == (200, 0)
    assert unchanged.status_code == 500
    assert "listTaskInstances 200: server: 5 is not of type" in caplog.text


def test_where_no_connection_can_be_cut_an_error_says_so_and_the_journal_keeps_it() -> None:
    sandbox = with_fault(operation="retryTask", drop_response=True)
    ask = asking(create_app(sandbox))
    sandbox.advance(60 * SECOND)

    with pytest.raises(ConnectionResetError, match="cut on purpose"):
        ask("POST", f"{TASKS}/35000312/retry")

    (entry,) = sandbox.journal.entries()
    assert (entry.status, entry.fault, entry.refusal) == (None, "fault 1", "")


def test_a_server_that_stops_waits_for_no_delay(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "GRACE_SECONDS", 0.1)
    login = "Authorization: Basic " + base64.b64encode(b"manager:manager").decode()
    request = "\r\n".join([f"GET {TASKS} HTTP/1.1", "Host: mock", login, "", ""]).encode()

    with oceanmock.Mock.start() as mock:
        sandbox = mock.ocp(load_yaml(REINSTALL))
        delay = sandbox.faults.add(delay="1h")
        connection = socket.create_connection((sandbox.host, sandbox.port), timeout=PATIENCE)
        connection.sendall(request)
        until(lambda: delay.affected == 1)

    with connection:
        assert connection.recv(1) == b""
    assert "Exception" not in caplog.text


# --- anything at all ------------------------------------------------------------------------------

odd_text = st.text(st.characters(codec="utf-8"), max_size=20)
odd_bytes = st.binary(max_size=40)


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "HEAD"]),
    path=st.one_of(odd_text, odd_text.map("/notes/{}".format)),
    query=st.one_of(odd_bytes, odd_bytes.map(b"page=1&tags=".__add__)),
    headers=st.lists(st.tuples(st.sampled_from([b"authorization", b"content-type", b"x-tag"]), odd_bytes)),
    body=odd_bytes,
)
def test_no_request_is_answered_with_a_server_error(
    app: Any, *, method: str, path: str, query: bytes, headers: list[Any], body: bytes
) -> None:
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": [*headers, (b"authorization", b"reader"), *CHUNKED],
    }

    start, answer = asyncio.run(messages_of(app, scope, [{"type": "http.request", "body": body, "more_body": False}]))

    assert start["status"] < 500
    assert answer["body"] == b"" if method == "HEAD" else json.loads(answer["body"])


def test_a_server_that_was_never_started_can_be_stopped() -> None:
    server = Server(create_app(make_sandbox()))

    server.stop()

    with Server(create_app(make_sandbox()), port=urlsplit(server.url).port or 0) as again:
        assert again.url == server.url
