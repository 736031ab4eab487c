"""The journal: what it keeps, what it never keeps, how it is asked, and what it says of a miss."""

from __future__ import annotations

import base64
import threading
import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden import assert_golden
from in_process import asking
from oceanmock.admin_client import JournalFilters
from oceanmock.apis import make_sandbox, operations_by_api
from oceanmock.clock import MILLISECOND, SECOND
from oceanmock.errors import InputError
from oceanmock.http.app import create_app
from oceanmock.journal import MAX_COMPARED_ENTRIES, MAX_PAGE_BYTES, Journal, JournalSpace
from oceanmock.journal.entries import MAX_JOURNAL_TEXT, Entry, Query
from oceanmock.openapi import load_spec, operations_of, spec_path

OPERATIONS = operations_by_api()
AFTERNOON = 1_629_875_371 * SECOND + 740 * MILLISECOND
DAG_9 = "22130706433028869"
PRETTY = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE

EXCHANGE: dict[str, Any] = {
    "at": AFTERNOON,
    "wall": AFTERNOON + 3600 * SECOND,
    "took": 1_250_000,
    "api": "ocp",
    "operation": "getTaskInstance",
    "method": "GET",
    "path": "/api/v2/tasks/instances/1000",
    "query": "",
    "ids": {"taskInstanceId": "1000"},
    "caller": "manager",
    "request_headers": [(b"accept", b"*/*")],
    "request_body": b"",
    "status": 200,
    "response_headers": [(b"content-type", b"application/json")],
    "response_body": b'{"status":200}',
}


def query_of(**values: Any) -> Query:
    return Query.of(values, OPERATIONS)


def record(journal: Journal, **other: Any) -> Entry:
    journal.record(Entry(number=0, **EXCHANGE | other))
    return journal.entries()[-1]


def retry_subtask(subtask: int, **other: Any) -> dict[str, Any]:
    path = f"/api/v2/tasks/instances/1000/subtasks/{subtask}/retry"
    ids = {"taskInstanceId": "1000", "subtaskInstanceId": str(subtask)}
    return {"operation": "retrySubtask", "method": "POST", "path": path, "ids": ids, **other}


def operate_dag(operator: str, **other: Any) -> dict[str, Any]:
    return {
        "api": "obshell",
        "operation": "dagHandler",
        "method": "POST",
        "path": f"/api/v1/task/dag/{DAG_9}",
        "ids": {"id": DAG_9},
        "caller": "root",
        "request_body": b'{"operator":"%b"}' % operator.encode(),
        **other,
    }


def journal_of(*exchanges: dict[str, Any]) -> Journal:
    journal = Journal()
    for number, each in enumerate(exchanges):
        record(journal, at=AFTERNOON + number * SECOND, **each)
    return journal


def body_read(body: bytes, which: str = "request_body") -> bytes:
    journal = journal_of({which: body})
    read: bytes = getattr(journal.entries()[0], which)
    return read


def numbers(entries: list[Entry]) -> list[int]:
    return [entry.number for entry in entries]


# --- what is kept ---------------------------------------------------------------------------------


def test_an_entry_has_what_was_recorded_and_a_number() -> None:
    journal = Journal()

    entry = record(journal, refusal="it is over", fault="flaky")

    assert entry == Entry(number=1, **EXCHANGE, refusal="it is over", fault="flaky")
    assert journal.entries() == [entry]


def test_numbers_count_from_one_and_are_never_used_again() -> None:
    journal = journal_of({}, {})

    journal.clear()
    entry = record(journal)

    assert entry.number == 3


def test_only_so_many_entries_are_kept_and_the_oldest_go() -> None:
    journal = Journal(max_entries=3)

    for _ in range(5):
        record(journal)

    assert numbers(journal.entries()) == [3, 4, 5]
    assert journal.dropped == 2


def test_only_so_many_bytes_are_kept_and_the_oldest_go() -> None:
    journal = Journal(max_bytes=100_000)

    for _ in range(5):
        record(journal, response_body=b"x" * 40_000)

    assert numbers(journal.entries()) == [4, 5]
    assert journal.dropped == 3


def test_the_last_entry_is_kept_whatever_its_size() -> None:
    journal = Journal(max_bytes=10)

    record(journal)
    record(journal, response_body=b"x" * 1000)

    assert numbers(journal.entries()) == [2]


def test_a_cleared_journal_has_dropped_nothing() -> None:
    journal = Journal(max_entries=1)
    record(journal)
    record(journal)

    journal.clear()

    assert journal.entries() == []
    assert journal.dropped == 0


def test_the_last_number_stays_when_the_journal_is_cleared() -> None:
    journal = Journal()
    assert journal.last == 0
    record(journal)
    record(journal)

    journal.clear()

    assert journal.last == 2
    assert journal.count() == 0


def test_a_long_body_is_cut_and_says_by_how_much() -> None:
    journal = Journal(max_text=10)

    record(journal, request_body=b"a" * 11, response_body=b"b" * 10)

    (entry,) = journal.entries()
    assert entry.request_body == b"aaaaaaaaaa... (1 more bytes)"
    assert entry.response_body == b"b" * 10


def test_every_text_is_cut_like_a_body() -> None:
    journal, long = Journal(max_text=10), "abcdefghijklm"
    headers = [(b"x", long.encode()), (long.encode(), b"y")]
    paths = {"path": f"/{long}", "ids": {"id": long}, "query": long, "refusal": long}

    record(journal, **paths, request_headers=headers, response_headers=headers)

    (entry,) = journal.entries()
    cut = "abcdefghij... (3 more characters)"
    cut_headers = [(b"x", b"abcdefghij... (3 more bytes)"), (b"abcdefghij... (3 more bytes)", b"y")]
    assert (entry.path, entry.ids) == ("/abcdefghi... (4 more characters)", {"id": cut})
    assert (entry.query, entry.refusal) == (cut, cut)
    assert entry.request_headers == entry.response_headers == cut_headers


def test_one_huge_exchange_takes_no_more_than_its_texts_may() -> None:
    journal, huge = Journal(), b"h" * 2**22

    record(journal, path=f"/{huge.decode()}", request_headers=[(b"x", huge)], response_body=huge)

    assert journal.bytes < 6 * MAX_JOURNAL_TEXT


def test_the_largest_journal_of_a_store_loses_its_older_half() -> None:
    space = JournalSpace(max_bytes=200_000)
    small, large = Journal(space=space), Journal(space=space)
    record(small)

    for _ in range(100):
        record(large, response_body=b"x" * 5000)

    assert small.count() == 1
    assert small.bytes + large.bytes == space.bytes <= 200_000
    assert large.dropped + large.count() == 100
    assert large.entries()[-1].number == 100


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["record", "clear", "close"]), st.integers(0, 4000))))
def test_a_space_counts_what_its_journals_take(steps: list[tuple[int, str, int]]) -> None:
    space = JournalSpace(max_bytes=24_000)
    journals = [Journal(space=space) for _ in range(4)]

    for number, step, size in steps:
        if step == "record":
            record(journals[number], response_body=b"x" * size)
        elif step == "clear":
            journals[number].clear()
        else:
            journals[number].close()
            journals[number] = Journal(space=space)
        assert space.bytes == sum(journal.bytes for journal in journals) <= 24_000


def test_a_page_has_so_many_bytes_and_says_that_there_is_more() -> None:
    journal = journal_of(*[{"response_body": b"x" * 60_000}] * 20)
    pages = list[list[int]]()

    more = True
    while more:
        page, more = journal.page(Query(), after=pages[-1][-1] if pages else 0, limit=100)
        pages.append(numbers(page))

    assert [len(page) for page in pages] == [8, 8, 4]
    assert [number for page in pages for number in page] == list(range(1, 21))


def test_a_near_miss_is_looked_for_in_the_last_entries() -> None:
    others = [{"operation": "getTaskInstance"}] * MAX_COMPARED_ENTRIES

    message = journal_of(retry_subtask(7), *others).verify(query_of(operation="retrySubtask", subtask=8))["message"]

    assert f"Nearest: entry {MAX_COMPARED_ENTRIES + 1}" in message


@pytest.mark.parametrize("most", range(7, 13))
def test_a_cut_body_ends_with_a_whole_character(most: int) -> None:
    journal = Journal(max_text=most)

    record(journal, response_body="失败了失败了".encode())

    shown = journal.entries()[0].to_json()
    assert shown["response_body_kind"] == "text"


def test_a_full_journal_takes_about_what_it_counts() -> None:
    tracemalloc.start()
    journal = Journal(max_entries=10**6, max_bytes=2 * 2**20)
    before, _ = tracemalloc.get_traced_memory()

    for number in range(4000):
        headers = tuple((b"x-%d-%d" % (each, number), b"value %d" % number) for each in range(5))
        own = {"path": f"/{number}", "response_body": bytes(bytearray(number % 3000)), "request_headers": headers}
        journal.record(Entry(number=0, **EXCHANGE | own))

    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 2**20 < taken < 2.2 * 2**20


def test_threads_may_record_and_read_at_once() -> None:
    journal = Journal(max_entries=50)
    each_thread = 50

    def work() -> None:
        for _ in range(each_thread):
            record(journal)
            journal.entries(after=10)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert numbers(journal.entries()) == list(range(8 * each_thread - 49, 8 * each_thread + 1))


# --- what is not kept -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("Authorization", "Basic bWFuYWdlcjptYW5hZ2Vy", "Basic ***"),
        ("authorization", "OCP-ACCESS-KEY-HMACSHA1 ak:c2lnbg==", "OCP-ACCESS-KEY-HMACSHA1 ***"),
        ("authorization", "hunter two", "***"),
        ("authorization", "hunter2", "***"),
        ("X-OCS-Header", "c2VhbGVk", "***"),
        ("x-ocs-agent-header", "c2VhbGVk", "***"),
        ("cookie", "session=1", "***"),
        ("x-oceanmock-sandbox", "default", "default"),
    ],
)
def test_a_header_with_credentials_is_masked(name: str, value: str, kept: str) -> None:
    journal = Journal()

    headers = [(name.encode(), value.encode())]

    record(journal, request_headers=headers, response_headers=headers)

    (entry,) = journal.entries()
    assert entry.request_headers == entry.response_headers == [(name.encode(), kept.encode())]


@pytest.mark.parametrize("which", ["request_body", "response_body"])
@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b'{"rootPwd":"hunter2","zone":"z1"}', b'{"rootPwd":"***","zone":"z1"}'),
        (b'{"a":[{"root_password":"hunter2"}]}', b'{"a":[{"root_password":"***"}]}'),
        (b'{"SECRET":{"of":["hunter2"]}}', b'{"SECRET":"***"}'),
        (b'{"tokens":[1,2]}', b'{"tokens":"***"}'),
    ],
)
def test_what_a_body_has_under_a_secret_s_key_is_masked(which: str, body: bytes, kept: bytes) -> None:
    assert body_read(body, which) == kept


@pytest.mark.parametrize(
    "body",
    [
        b'{ "password": null, "rootPwd": "", "hasPassword": true }',
        b'{"message": "the password is wrong"}',
        b'"password"',
        b"no password here",
    ],
)
def test_a_body_that_tells_no_secret_stays_as_it_is(body: bytes) -> None:
    assert body_read(body) == body


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b'{"password": "hunter2", ', b'{"password": "***", '),
        (b'{"password": "hun', b'{"password": "***"'),
        (b'{"Password" : "hun\\"ter2", 1', b'{"Password" : "***", 1'),
        (b'{"password": 42, "a": 1', b'{"password": "***", "a": 1'),
        (b'{"password": {"is": "hunter2"}, "a"', b'{"password": "***"'),
        (b"user=me&password=hunter2&a=1", b"user=me&password=***&a=1"),
    ],
)
def test_what_is_no_whole_json_is_masked_too(body: bytes, kept: bytes) -> None:
    assert body_read(body) == kept


def test_a_secret_of_a_body_that_was_cut_is_masked() -> None:
    journal = Journal(max_text=20)

    record(journal, request_body=b'{"password":"hunter2hunter2"}')

    assert journal.entries()[0].request_body == b'{"password":"***"'


def test_a_secret_of_the_query_is_masked() -> None:
    journal = journal_of({"query": "page=1&access_token=hunter2&size=2"})

    assert journal.entries()[0].query == "page=1&access_token=***&size=2"


def test_a_body_nested_deeper_than_the_stack_is_recorded() -> None:
    deep = b'{"password":"hunter2","a":' + b"[" * 5000 + b"]" * 5000 + b"}"

    kept = body_read(deep)

    assert b"hunter2" not in kept


@pytest.mark.parametrize("piece", [b'"passw', b"passw", b"passw.", b'"passw"', b'"passw": ["', b'"'])
def test_a_hostile_body_takes_no_time_that_grows_with_its_square(piece: bytes) -> None:
    long = piece * (65_000 // len(piece))

    assert body_read(b"token" + long).startswith(b"token")


@given(
    secret=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8),
    key=st.sampled_from(["password", "rootPwd", "secret_key", "ACCESS_TOKEN"]),
    wrap=st.sampled_from([lambda it: it, lambda it: [it], lambda it: {"a": {"b": it}}]),
    cut=st.integers(0, 60),
)
def test_no_secret_of_a_json_body_is_ever_read(secret: str, key: str, wrap: Any, cut: int) -> None:
    unlikely = f"~{secret}~"
    body = orjson.dumps(wrap({key: unlikely}))

    read = [body_read(body), body_read(body[: len(body) - cut], "response_body")]

    assert not any(orjson.dumps(unlikely)[1:-1] in each for each in read)


# --- as JSON --------------------------------------------------------------------------------------


def test_an_entry_as_json() -> None:
    journal = journal_of(retry_subtask(7, request_body=b'{"rootPwd":"hunter2"}', status=None))

    shown = journal.entries()[0].to_json()

    assert_golden("journal-entry.json", orjson.dumps(shown, option=PRETTY).decode())


@pytest.mark.parametrize(
    ("body", "kind", "value"),
    [
        (b"", "none", None),
        (b' {"a": [1]}', "json", {"a": [1]}),
        (b"null", "json", None),
        ("失败".encode(), "text", "失败"),
        (b"\xff\x00", "base64", base64.b64encode(b"\xff\x00").decode()),
        (b"[" * 300 + b"]" * 300, "text", "[" * 300 + "]" * 300),
    ],
)
def test_a_body_is_json_else_text_else_base64(body: bytes, kind: str, value: Any) -> None:
    shown = journal_of({"request_body": body}).entries()[0].to_json()

    assert (shown["request_body_kind"], shown["request_body"]) == (kind, value)


def test_what_utf8_cannot_write_is_spelled_out() -> None:
    journal = journal_of({"path": "/\udc80", "caller": "\ud800", "ids": {"id": "\udfff"}})

    text = orjson.dumps(journal.entries()[0].to_json()).decode()

    assert '"path":"/\\\\udc80"' in text


# --- queries --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"api": "obshell"}, [4, 5]),
        ({"operation": "retrySubtask"}, [2, 3]),
        ({"operation": ""}, [5]),
        ({"method": "post"}, [2, 3, 4]),
        ({"path": "/api/v2/tasks/instances/1000"}, [1]),
        ({"path": "*/subtasks/*/retry"}, [2, 3]),
        ({"status": 200}, [1, 2, 4]),
        ({"status": "400"}, [3]),
        ({"status": "4xx"}, [3, 5]),
        ({"status": "5XX"}, []),
        ({"caller": "root"}, [4]),
        ({"caller": ""}, [5]),
        ({"fault": "flaky"}, [3]),
        ({"task": 1000}, [1, 2, 3]),
        ({"task": "1000"}, [1, 2, 3]),
        ({"subtask": 8}, [3]),
        ({"subtask": 1000}, []),
        ({"dag": 9}, [4]),
        ({"dag": DAG_9}, [4]),
        ({"dag": 69}, []),
        ({"node": 9}, []),
        ({"body": {"operator": "RETRY"}}, [4]),
        ({"body": {}}, [4]),
        ({"operation": "retrySubtask", "subtask": 8, "status": "2xx"}, []),
    ],
)
def test_a_query_finds_what_has_all_it_asks_for(asked: dict[str, Any], found: list[int]) -> None:
    journal = journal_of(
        {},
        retry_subtask(7),
        retry_subtask(8, status=400, fault="flaky"),
        operate_dag("RETRY"),
        {"api": "obshell", "operation": "", "path": "/x", "ids": {}, "caller": "", "status": 404},
    )

    query = Query.of(asked, OPERATIONS)

    assert numbers(journal.entries(query)) == found


@pytest.mark.parametrize(
    ("operation", "kind"), [("getDagDetail", "dag"), ("nodeHandler", "node"), ("getFullSubTaskLogs", "sub_task")]
)
def test_a_generic_id_is_of_what_its_operation_is_about(operation: str, kind: str) -> None:
    entry = record(Journal(), api="obshell", operation=operation, ids={"id": DAG_9})

    found = [each for each in ("dag", "node", "sub_task") if query_of(**{each: 9}).matches(entry)]

    assert found == [kind]


@pytest.mark.parametrize(
    "generic_id", ["14", "2213070643302886" + "4", "3" + "0" * 39 + "028864", "4213070643302886" + "4"]
)
def test_the_number_is_found_at_the_end_of_every_kind_of_generic_id(generic_id: str) -> None:
    ids = {"id": generic_id}
    entry = record(Journal(), api="obshell", operation="getDagDetail", ids=ids)

    assert query_of(dag=generic_id).matches(entry)
    assert query_of(dag=4).matches(entry)


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        ({"a": 1}, True),
        ({"a": 1.0}, True),
        ({"a": True}, False),
        ({"c": {"e": [1, {"f": 2}]}}, True),
        ({"c": {"e": [1]}}, False),
        ({"c": {"e": [1, {}]}}, True),
        ({"c": {}}, True),
        ({"a": {}}, False),
        ({"missing": None}, False),
        ({"b": None}, True),
        ({"b": []}, False),
        ([{"a": 1}], False),
    ],
)
def test_of_a_body_s_objects_some_members_are_asked_for_of_its_lists_all(wanted: Any, holds: bool) -> None:
    entry = record(Journal(), request_body=b'{"a":1,"b":null,"c":{"d":0,"e":[1,{"f":2,"g":3}]}}')

    assert query_of(body=wanted).matches(entry) is holds


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"query": "status=FAILED"}, [1]),
        ({"query": {"status": "F*", "page": "2"}}, [1]),
        ({"query": {"page": 2}}, [1, 2]),
        ({"query": {"page": "*"}, "since": "2021-08-25T07:09:32.74Z"}, [2]),
        ({"query": "password=hidden"}, []),
        ({"header": {"X-Request-Id": "job-*"}}, [2]),
        ({"header": "x-request-id: job-7\nAccept: */*"}, [2]),
        ({"header": {"authorization": "Basic bWFuYWdlcjptYW5hZ2Vy"}}, []),
        ({"header": {"x-none": "*"}}, []),
        ({"query": "page=3&page=2"}, []),
        ({"query": "page=?"}, []),
        ({"header": "X-Request-Id: job-8\nX-Request-Id: job-*"}, []),
        ({"header": {"User-Agent": "a[1]*"}}, [2]),
        ({"path": "*/instances/100?"}, []),
        ({"since": "2021-08-25T15:09:32.740+08:00"}, [2, 3]),
        ({"until": "2021-08-25T15:09:32.740+08:00"}, [1]),
    ],
)
def test_requests_are_found_by_parameters_headers_and_times(asked: dict[str, Any], found: list[int]) -> None:
    headers = [(b"accept", b"*/*"), (b"X-Request-ID", b"job-7"), (b"authorization", b"Basic bWFuYWdlcjptYW5hZ2Vy")]
    headers.append((b"user-agent", b"a[1]?b"))
    journal = journal_of({"query": "page=2&status=FAILED"}, {"query": "page=2", "request_headers": headers}, {})

    assert numbers(journal.entries(query_of(**asked))) == found


def test_entries_come_after_a_number_and_no_more_than_the_limit() -> None:
    journal = Journal(max_entries=5)
    for number in range(8):
        record(journal, **retry_subtask(number) if number % 2 else {})

    assert numbers(journal.entries(after=2)) == [4, 5, 6, 7, 8]
    assert numbers(journal.page(Query(), after=5, limit=2)[0]) == [6, 7]
    assert numbers(journal.page(query_of(operation="retrySubtask"), after=4, limit=1)[0]) == [6]
    assert journal.entries(after=8) == []


@pytest.mark.parametrize("text", ["query", "path", "refusal", "response_body"])
def test_a_page_is_bounded_whatever_is_long(text: str) -> None:
    long = "x" * (MAX_PAGE_BYTES // 10)
    journal = journal_of(*[{text: long.encode() if text == "response_body" else long}] * 20)

    assert len(journal.page(Query(), after=0, limit=100)[0]) == 9


def test_a_page_of_small_entries_has_as_many_as_are_asked_for() -> None:
    journal = journal_of(*[{}] * 600)

    assert len(journal.page(Query(), after=0, limit=600)[0]) == 600


def test_what_is_recorded_while_a_page_is_read_is_on_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = make_sandbox()
    read = sandbox.journal.page

    def page(*args: Any, **options: Any) -> Any:
        found = read(*args, **options)
        record(sandbox.journal)
        return found

    monkeypatch.setattr(sandbox.journal, "page", page)

    assert asking(create_app(sandbox))("GET", "/__admin/sandboxes/default/journal").json()["last"] == 0


@pytest.mark.parametrize("api", ["ocp", "obshell"])
def test_every_operation_of_a_contract_may_be_asked_for(api: str) -> None:
    spec = load_spec(spec_path(api))
    for operation in (*operations_of(spec), *operations_of(spec, are_submits=True)):
        assert query_of(api=api, operation=operation.id).values["operation"] == operation.id


def test_all_that_is_wrong_with_a_query_is_said_at_once() -> None:
    wrong = {
        "operation": "retrySubtsk",
        "caller": "c" * 1001,
        "query": "",
        "header": {"": "x"},
        "since": "yesterday",
        "body": [*range(200)],
    }

    with pytest.raises(InputError) as raised:
        Query.of(wrong, OPERATIONS)

    assert_golden("mistakes-in-a-query.txt", f"{raised.value}\n")


def test_an_operation_of_the_other_api_is_a_mistake() -> None:
    with pytest.raises(InputError, match="which ocp does not have"):
        Query.of({"api": "ocp", "operation": "dagHandler"}, OPERATIONS)


# --- verifications --------------------------------------------------------------------------------

STORY: tuple[dict[str, Any], ...] = (
    {},
    retry_subtask(8, status=400, refusal="subtask 8 is SUCCESSFUL; only FAILED ones are retried"),
    {"operation": "getSubtaskLog", "path": "/api/v2/tasks/instances/1000/subtasks/7/log"},
    retry_subtask(7),
    {},
    retry_subtask(7, status=400, fault="flaky", refusal="subtask 7 is RUNNING"),
)


@pytest.mark.parametrize(
    ("number", "holds"),
    [
        ({}, True),
        ({"times": 2}, True),
        ({"times": 1}, False),
        ({"times": 0}, False),
        ({"at_least": 2}, True),
        ({"at_least": 3}, False),
        ({"at_most": 2}, True),
        ({"at_most": 1}, False),
        ({"at_least": 1, "at_most": 3}, True),
    ],
)
def test_a_verification_holds_when_so_many_match(number: dict[str, int], holds: bool) -> None:
    verdict = journal_of(*STORY).verify(query_of(operation="retrySubtask", subtask=7), **number)

    assert verdict["holds"] is holds
    assert verdict["entries"] == [4, 6]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ({"times": 0}, "never"),
        ({"times": 1}, "once"),
        ({"times": 2}, "2 times"),
        ({}, "at least once"),
        ({"at_least": 0}, "any number of times"),
        ({"at_most": 3}, "at most 3 times"),
        ({"at_least": 1, "at_most": 3}, "1 to 3 times"),
    ],
)
def test_the_message_says_what_was_expected_and_found(number: dict[str, int], expected: str) -> None:
    verdict = journal_of({}).verify(query_of(task=1000), **number)

    head = verdict["message"].splitlines()[0]
    assert head == f"a request with task 1000: expected {expected}, found once."


@pytest.mark.parametrize(
    "number", [{"times": 1, "at_least": 1}, {"times": -1}, {"at_least": 3, "at_most": 2}, {"at_most": -1}]
)
def test_numbers_that_contradict_each_other_are_refused(number: dict[str, int]) -> None:
    with pytest.raises(InputError):
        Journal().verify(Query(), **number)


@pytest.mark.parametrize(
    ("operations", "entries", "end"),
    [
        (("getTaskInstance", "retrySubtask", "getTaskInstance"), [1, 2, 5], "found 3 of 3 in this order."),
        (("getSubtaskLog", "getSubtaskLog"), [3], "Missing after entry 3: getSubtaskLog."),
        (("retryTask", "retrySubtask"), [], "Missing: retryTask."),
    ],
)
def test_requests_come_in_an_order_with_others_between_them(
    operations: tuple[str, ...], entries: list[int], end: str
) -> None:
    verdict = journal_of(*STORY).verify_order([query_of(operation=operation) for operation in operations])

    assert verdict["entries"] == entries
    assert verdict["holds"] is (len(entries) == len(operations))
    assert end in verdict["message"]


def test_a_near_miss_in_an_order_of_a_header_and_a_parameter() -> None:
    journal = journal_of(
        {}, retry_subtask(7), {"query": "page=2", "request_headers": [(b"x-id", b"8"), (b"token", b"s")]}
    )
    queries = [query_of(operation="retrySubtask"), query_of(query="page=3", header={"X-Id": "7", "token": "s"})]

    verdict = journal.verify_order(queries)

    assert_golden("near-miss-order.txt", f"{verdict['message']}\n")


def test_a_near_miss() -> None:
    query = query_of(operation="retrySubtask", task=1000, subtask=9, status=200)

    verdict = journal_of(*STORY).verify(query, times=1)

    assert_golden("near-miss.txt", f"{verdict['message']}\n")


def test_a_near_miss_of_a_body() -> None:
    journal = journal_of({}, operate_dag("ROLLBACK"))
    wanted = {"operator": "RETRY", "options": {"force": True}}

    verdict = journal.verify(query_of(operation="dagHandler", dag=9, body=wanted))

    assert_golden("near-miss-body.txt", f"{verdict['message']}\n")


def test_a_near_miss_of_a_path_that_no_line_holds() -> None:
    path = "/api/v2/tasks/instances/1000/subtasks/*/a-path-that-is-rather-long-and-wraps/retry"

    verdict = journal_of(*STORY).verify(query_of(path=path, caller="viewer"))

    assert_golden("near-miss-path.txt", f"{verdict['message']}\n")


def test_when_too_many_came_they_are_listed() -> None:
    verdict = journal_of(*STORY).verify(query_of(operation="retrySubtask", subtask=7), times=1)

    assert_golden("near-miss-too-many.txt", f"{verdict['message']}\n")


def test_when_too_few_came_they_are_listed_and_the_nearest_other_shown() -> None:
    verdict = journal_of(*STORY).verify(query_of(operation="retrySubtask", status=200), times=2)

    assert_golden("near-miss-too-few.txt", f"{verdict['message']}\n")


def test_of_very_many_the_last_are_listed() -> None:
    verdict = journal_of(*[{}] * 30).verify(query_of(task=1000), times=0)

    lines = verdict["message"].splitlines()
    assert lines[3] == "  … and 10 before them"
    assert len(lines) == 24


def test_when_nothing_was_asked_at_all_it_says_so() -> None:
    verdict = Journal().verify(query_of(operation="retrySubtask", subtask=7), times=1)

    assert_golden("near-miss-nothing-asked.txt", f"{verdict['message']}\n")


def test_when_nothing_was_asked_since_it_was_cleared_it_says_so() -> None:
    journal = journal_of(*STORY)
    journal.clear()

    verdict = journal.verify(query_of(operation="retrySubtask"))

    assert verdict["message"].endswith("\nNothing has been asked since the journal was cleared.")


def test_entries_that_were_dropped_are_mentioned() -> None:
    journal = Journal(max_entries=1)
    record(journal)
    record(journal)

    verdict = journal.verify(query_of(task=1000), times=1)

    assert verdict["holds"]
    assert verdict["message"].endswith("\nOlder entries that were dropped, and are not counted: 1.")


def test_of_equally_near_misses_the_latest_is_shown() -> None:
    verdict = journal_of({}, {}, {}).verify(query_of(task=1000, status=500))

    assert "Nearest: entry 3 |" in verdict["message"]


def test_what_moves_a_cursor_is_spelled_out() -> None:
    journal = journal_of({"path": "/\x1b[2J\n", "caller": "me\x07", "refusal": "no\r"})

    message = journal.verify(query_of(path="/x"))["message"]

    assert all(line.isprintable() for line in message.split("\n"))
    assert "/\\x1b[2J\\n" in message


def test_no_secret_comes_back_in_a_message() -> None:
    journal = journal_of({"request_body": b'{"rootPwd":"hunter2"}'})

    verdict = journal.verify(query_of(body={"rootPwd": "right"}), times=1)

    assert "hunter2" not in verdict["message"]
    assert 'body.rootPwd: "***"' in verdict["message"]


def test_a_query_in_python_has_the_keywords_of_the_journal() -> None:
    contract = load_spec(spec_path("admin"))["components"]["schemas"]["Query"]

    assert {"operation", *JournalFilters.__annotations__} == contract["properties"].keys()
