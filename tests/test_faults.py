"""Which requests a sandbox's faults strike, and what becomes of an answer. One rule a test."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fault_requests import request_to
from oceanmock.api import Request
from oceanmock.clock import MILLISECOND
from oceanmock.engine.faults import Faults, FaultyResponse, InjectedFault, apply_fault
from oceanmock.engine.log import SandboxSpec
from oceanmock.engine.store import MAX_CALLERS, MemoryStore
from oceanmock.errors import InputError
from oceanmock.journal.entries import is_id
from oceanmock.library import read_fault

JSON = (b"Content-Type", b"application/json")
BODY = b'{"data":{"id":1000,"status":"FAILED","none":null},"status":200}'


def faults_of(*said: dict[str, Any], seed: int = 0) -> Faults:
    """The faults that the admin API would make of these."""
    store = MemoryStore()
    store.put(SandboxSpec(name="faults"))
    faults = Faults("faults", store, seed=seed)
    for each in said:
        faults.add(read_fault(each))
    return faults


def asked(
    operation: str = "getTaskInstance", caller: str = "ada", key: str = "GET /1000", api: str = "ocp", **ids: str
) -> Request:
    return request_to(api, operation, ids, caller=caller, body=key.encode())


def struck(faults: Faults, count: int, request: Request | None = None) -> list[int]:
    """Which of so many equal requests are struck, counted from 1."""
    request = request or asked()
    return [number for number in range(1, count + 1) if faults.inject(request)]


def strike_of(**said: Any) -> InjectedFault:
    """What a fault does to a request that it strikes."""
    strike = faults_of({"operation": "getTaskInstance", **said}).inject(asked())
    assert strike is not None
    return strike


def mangled(body: bytes = BODY, **said: Any) -> FaultyResponse:
    return apply_fault(strike_of(**said), 200, [JSON, (b"content-length", str(len(body)).encode())], body)


def body_of(sent: FaultyResponse) -> bytes:
    return b"".join(sent.chunks)


def header(sent: FaultyResponse, name: bytes) -> list[bytes]:
    return [value for key, value in sent.headers if key.lower() == name]


# --- whom a fault strikes -------------------------------------------------------------------------


def test_without_faults_nothing_is_struck() -> None:
    assert faults_of().inject(asked()) is None


@pytest.mark.parametrize("operation", ["getTaskInstance", "retryTask", ""])
def test_a_fault_of_no_operation_strikes_all(operation: str) -> None:
    assert faults_of({"status": 500}).inject(asked(operation))


def test_a_fault_strikes_only_its_operations() -> None:
    faults = faults_of({"status": 500, "operation": ["retryTask", "getSubtaskLog"]})

    assert faults.inject(asked("retryTask"))
    assert faults.inject(asked("getSubtaskLog"))
    assert faults.inject(asked("getTaskInstance")) is None
    assert faults.inject(asked("")) is None


def test_a_fault_of_one_api_spares_the_other() -> None:
    of_ocp, of_both = ({"api": "ocp", "status": 500}, {"status": 500})

    assert faults_of(of_ocp).inject(asked("getTime", api="obshell")) is None
    assert faults_of(of_both).inject(asked("getTime", api="obshell"))


def test_a_fault_strikes_only_its_caller() -> None:
    faults = faults_of({"status": 500, "caller": "ada"})

    assert faults.inject(asked(caller="ada"))
    assert faults.inject(asked(caller="bob")) is None
    assert faults.inject(asked(caller="")) is None


def test_a_fault_strikes_only_what_is_about_its_task_and_subtask() -> None:
    faults = faults_of({"status": 500, "task": 1000, "subtask": 7})

    def about(operation: str, **ids: str) -> InjectedFault | None:
        return faults.inject(asked(operation, **ids))

    assert about("retrySubtask", taskInstanceId="1000", subtaskInstanceId="7")
    assert about("retrySubtask", taskInstanceId="1000", subtaskInstanceId="8") is None
    assert about("retrySubtask", taskInstanceId="100", subtaskInstanceId="7") is None
    assert about("retrySubtask", taskInstanceId="1000", subtaskInstanceId="17") is None
    assert about("retrySubtask", taskInstanceId="0x3E8", subtaskInstanceId="x7") is None
    assert about("retrySubtask", taskInstanceId="0x3E8", subtaskInstanceId=" 7")
    assert about("getTaskInstance", taskInstanceId="1000") is None
    assert about("listTaskInstances") is None


def test_a_dag_s_fault_strikes_what_is_about_a_dag_not_a_node_of_the_same_id() -> None:
    faults = faults_of({"status": 500, "dag": 4})
    local = "22130706433028864"

    def about(operation: str, id: str) -> InjectedFault | None:
        return faults.inject(asked(operation, api="obshell", id=id))

    assert about("getDagDetail", f"{local}")
    assert about("dagHandler", "14")
    assert about("dagHandler", "144") is None
    assert about("getNodeDetail", f"{local}") is None


@pytest.mark.parametrize(("dag", "id", "holds"), [(14, "14", False), (14, "114", True), ("14", "14", True)])
def test_a_number_is_a_dag_s_own_and_a_text_its_generic_id(dag: int | str, id: str, *, holds: bool) -> None:
    faults = faults_of({"status": 500, "dag": dag})

    assert (faults.inject(asked("dagHandler", api="obshell", id=id)) is not None) == holds


@pytest.mark.parametrize(
    ("id", "wanted", "holds"),
    [
        ("14", "4", True),
        ("14", "14", True),
        ("2213070643302886401", "401", True),
        ("2213070643302886401", "2213070643302886401", True),
        ("2213070643302886401", "1", False),
        ("221307064330288", "8", False),
        ("3" + "0" * 38 + "1" + "02886" + "12", "12", True),
        ("42130706433028867", "7", True),
        ("", "7", False),
        ("x7", "7", False),
    ],
)
def test_a_generic_id_is_called_by_the_number_at_its_end(id: str, wanted: str, holds: bool) -> None:
    assert is_id(id, wanted) == holds


# --- which calls ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calls", "numbers"),
    [
        (3, [3]),
        ([1, 3], [1, 3]),
        ("2-4", [2, 3, 4]),
        ("4-", [4, 5, 6]),
        (["1", "5-"], [1, 5, 6]),
        ("1-", [1, 2, 3, 4, 5, 6]),
    ],
)
def test_calls_are_struck_by_their_numbers(calls: Any, numbers: list[int]) -> None:
    assert struck(faults_of({"status": 500, "calls": calls}), 6) == numbers


def test_only_what_a_fault_might_strike_is_counted() -> None:
    faults = faults_of({"status": 500, "operation": "retryTask", "calls": 2})

    assert struck(faults, 5) == []
    assert struck(faults, 3, asked("retryTask")) == [2]


def test_of_two_faults_whose_turn_it_is_the_first_strikes_alone() -> None:
    faults = faults_of({"status": 503, "calls": 2}, {"status": 500})

    statuses = [strike.fault.own_status for _ in range(3) if (strike := faults.inject(asked()))]

    assert statuses == [500, 503, 500]


def test_a_call_that_another_fault_strikes_counts_for_both() -> None:
    faults = faults_of({"status": 503, "calls": 1}, {"status": 500, "calls": 1})

    assert struck(faults, 3) == [1]
    assert [(each.calls, each.affected) for each in faults.statistics()] == [(3, 1), (3, 0)]


def test_a_strike_says_whose_it_is_and_which_call() -> None:
    faults = faults_of({"name": "slow", "delay": "1s", "calls": 2})
    faults.inject(asked())

    strike = faults.inject(asked())

    assert strike is not None
    assert (strike.name, strike.call, strike.delay) == ("slow", 2, 1000 * MILLISECOND)


# --- attempts -------------------------------------------------------------------------------------


def test_a_request_sent_again_is_another_call() -> None:
    assert struck(faults_of({"status": 500, "calls": 1}), 4) == [1]


def test_a_request_sent_again_is_the_same_attempt_and_is_struck_again() -> None:
    faults = faults_of({"status": 500, "calls": 1, "counts": "attempts"})

    assert struck(faults, 4) == [1, 2]


def test_the_third_equal_request_is_another_attempt() -> None:
    faults = faults_of({"status": 500, "calls": [1, 3], "counts": "attempts"})

    assert struck(faults, 8) == [1, 2, 4, 5]


def test_a_request_that_differs_is_another_attempt() -> None:
    faults = faults_of({"status": 500, "calls": 1, "counts": "attempts"})

    assert faults.inject(asked(key="one"))
    assert faults.inject(asked(key="two")) is None


def test_the_same_request_of_another_caller_is_another_attempt() -> None:
    faults = faults_of({"status": 500, "calls": 1, "counts": "attempts"})

    assert faults.inject(asked(caller="ada"))
    assert faults.inject(asked(caller="bob")) is None
    assert faults.inject(asked(caller="ada")), "bob has not come between"


def test_a_request_after_something_else_of_the_same_caller_is_another_attempt() -> None:
    faults = faults_of({"status": 500, "calls": 1, "counts": "attempts", "operation": "retryTask"})

    assert faults.inject(asked("retryTask"))
    assert faults.inject(asked("getTaskInstance")) is None
    assert faults.inject(asked("retryTask")) is None


def test_a_request_that_was_not_struck_is_an_attempt_of_its_own() -> None:
    faults = faults_of({"status": 500, "calls": 3, "counts": "attempts"})

    assert struck(faults, 6) == [3, 4]


def test_a_client_that_sends_all_twice_fails_for_good_only_where_attempts_are_counted() -> None:
    """As obshell's Python SDK does; what counts for it is the second answer."""
    by_call, by_attempt = (faults_of({"status": 500, "calls": 1, "counts": counts}) for counts in ("calls", "attempts"))

    assert [bool(by_call.inject(asked())) for _ in range(2)] == [True, False]
    assert [bool(by_attempt.inject(asked())) for _ in range(2)] == [True, True]


def test_an_attempt_keeps_its_number_though_others_come_between() -> None:
    faults = faults_of({"status": 500, "calls": "1-2", "counts": "attempts"})
    order = ["ada", "bob", "ada", "bob", "eve"]

    calls = [faults.inject(asked(caller=caller)) for caller in order]

    assert [each and each.call for each in calls] == [1, 2, 1, 2, None]


def test_no_more_callers_are_remembered_than_there_may_be() -> None:
    faults = faults_of({"status": 500, "calls": f"1-{MAX_CALLERS + 1}", "counts": "attempts"})
    for number in range(MAX_CALLERS + 1):
        faults.inject(asked(caller=f"caller {number}"))

    assert faults.inject(asked(caller="caller 1")), "still the same attempt"
    assert faults.inject(asked(caller="caller 0")) is None, "forgotten: an attempt of its own"


# --- chance ---------------------------------------------------------------------------------------


@given(seed=st.integers(), probability=st.floats(0.01, 1), callers=st.lists(st.sampled_from("ab")))
def test_the_same_seed_gives_the_same_strikes(seed: int, probability: float, callers: list[str]) -> None:
    said = {"delay": "1s", "jitter": "1s", "probability": probability}
    runs = [faults_of(said, seed=seed) for _ in range(2)]

    one, two = ([faults.inject(asked(caller=caller)) for caller in callers] for faults in runs)

    assert one == two


def test_another_seed_or_name_gives_other_strikes() -> None:
    said = {"status": 500, "probability": 0.5}

    runs = [
        struck(faults_of(said, seed=0), 100),
        struck(faults_of(said, seed=1), 100),
        struck(faults_of({**said, "name": "other"}, seed=0), 100),
    ]

    assert len({tuple(run) for run in runs}) == 3


@pytest.mark.parametrize("probability", [0.05, 0.5, 0.95])
def test_over_many_calls_a_probability_shows(probability: float) -> None:
    faults = faults_of({"status": 500, "probability": probability}, seed=7)

    assert len(struck(faults, 5000)) / 5000 == pytest.approx(probability, abs=0.03)


def test_a_probable_fault_strikes_only_among_its_calls() -> None:
    faults = faults_of({"status": 500, "probability": 0.5, "calls": "11-20"})

    assert set(struck(faults, 30)) < set(range(11, 21))


@given(seed=st.integers())
def test_a_jitter_is_added_to_the_delay(seed: int) -> None:
    strike = faults_of({"delay": "100ms", "jitter": "50ms"}, seed=seed).inject(asked())

    assert strike is not None
    assert 100 * MILLISECOND <= strike.delay < 150 * MILLISECOND


# --- what is done ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "carries_out", "resets", "status"),
    [
        ({"delay": "1s"}, True, False, None),
        ({"status": 503}, False, False, 503),
        ({"status": 503, "still_executes": True}, True, False, 503),
        ({"reset": True}, False, True, None),
        ({"reset": True, "still_executes": True}, True, True, None),
        ({"drop_response": True}, True, True, None),
        ({"empty": True}, False, False, None),
        ({"empty": True, "still_executes": True}, True, False, None),
        ({"malformed": True}, True, False, None),
        ({"status": 502, "malformed": True}, False, False, 502),
    ],
)
def test_whether_the_operation_happens_and_what_is_answered(
    said: dict[str, Any], carries_out: bool, resets: bool, status: int | None
) -> None:
    strike = strike_of(**said)
    fault = strike.fault

    assert (strike.carries_out, fault.reset or fault.drop_response, fault.own_status) == (carries_out, resets, status)


# --- the faults of a sandbox ----------------------------------------------------------------------


def test_faults_without_a_name_are_numbered() -> None:
    faults = faults_of({"delay": "1s"}, {"name": "fault 3", "delay": "1s"})

    assert faults.add(read_fault({"delay": "1s"})) == "fault 4"
    assert [each.name for each in faults.statistics()] == ["fault 1", "fault 3", "fault 4"]


def test_a_number_is_not_given_again() -> None:
    faults = faults_of({"delay": "1s"}, {"delay": "1s"})
    faults.remove("fault 2")

    assert faults.add(read_fault({"delay": "1s"})) == "fault 3"


def test_two_faults_of_one_name_are_refused() -> None:
    faults = faults_of({"name": "slow", "delay": "1s"})

    with pytest.raises(InputError, match="there is a fault 'slow' already"):
        faults.add(read_fault({"name": "slow", "delay": "2s"}))


def test_a_fault_that_is_removed_strikes_no_more() -> None:
    faults = faults_of({"status": 500})

    assert faults.remove("fault 1")
    assert not faults.remove("fault 1")
    assert faults.inject(asked()) is None


def test_faults_that_are_cleared_strike_no_more() -> None:
    faults = faults_of({"status": 500}, {"delay": "1s"})

    faults.by_name.clear()

    assert faults.statistics() == ()
    assert faults.inject(asked()) is None


# --- what becomes of an answer --------------------------------------------------------------------


def test_an_answer_that_only_comes_late_is_as_it_was() -> None:
    sent = mangled(delay="1s")

    assert (sent.status, body_of(sent), sent.is_cut, sent.pause) == (200, BODY, False, 0)
    assert sent.headers == (JSON, (b"content-length", str(len(BODY)).encode()))


def test_an_empty_answer_has_headers_that_say_so() -> None:
    sent = apply_fault(strike_of(empty=True), 200, [JSON, (b"Content-Length", b"63")], BODY)

    assert (sent.chunks, sent.is_cut) == ((), False)
    assert header(sent, b"content-length") == [b"0"]


def test_without_an_answer_an_empty_one_is_sent() -> None:
    assert apply_fault(strike_of(empty=True)) == FaultyResponse(200, ((b"content-length", b"0"),), ())


def test_the_headers_of_a_truncated_body_promise_the_whole() -> None:
    sent = mangled(truncate=10)

    assert body_of(sent) == BODY[:10]
    assert header(sent, b"content-length") == [str(len(BODY)).encode()]
    assert sent.is_cut


def test_a_body_truncated_to_nothing_is_cut() -> None:
    sent = mangled(truncate=0)

    assert (sent.chunks, sent.is_cut) == ((), True)


def test_a_body_shorter_than_where_it_is_truncated_is_whole() -> None:
    sent = mangled(truncate=1000)

    assert (body_of(sent), sent.is_cut) == (BODY, False)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(value=json_values, indent=st.none() | st.just(2))
def test_a_malformed_body_is_never_json(value: Any, indent: int | None) -> None:
    sent = mangled(json.dumps(value, indent=indent).encode(), malformed=True)

    with pytest.raises(ValueError):
        json.loads(body_of(sent))
    assert header(sent, b"content-length") == [str(len(body_of(sent))).encode()]
    assert not sent.is_cut


def test_a_body_of_nothing_can_be_malformed() -> None:
    assert body_of(mangled(b"", malformed=True)) == b"}"


def test_a_content_type_takes_the_place_of_the_answer_s_own() -> None:
    sent = mangled(content_type="text/html; charset=utf-8")

    assert header(sent, b"content-type") == [b"text/html; charset=utf-8"]
    assert body_of(sent) == BODY


def test_a_drip_is_the_body_in_pieces() -> None:
    sent = mangled(dribble={"bytes": 16, "every": "50ms"})

    assert [len(each) for each in sent.chunks] == [16, 16, 16, len(BODY) - 48]
    assert body_of(sent) == BODY
    assert sent.pause == 50 * MILLISECOND


def test_a_truncated_body_may_drip_too() -> None:
    sent = mangled(truncate=5, dribble={"bytes": 2, "every": "1s"})

    assert sent.chunks == (BODY[:2], BODY[2:4], BODY[4:5])
    assert sent.is_cut


def test_a_field_is_dropped() -> None:
    sent = mangled(drop="data.status")

    assert body_of(sent) == b'{"data":{"id":1000,"none":null},"status":200}'
    assert header(sent, b"content-length") == [str(len(body_of(sent))).encode()]


@pytest.mark.parametrize(
    ("way", "left"),
    [
        ("rows.*.id", {"rows": [{"n": [1, 2]}, {"n": [3]}]}),
        ("rows.1", {"rows": [{"id": 1, "n": [1, 2]}]}),
        ("rows.*", {"rows": []}),
        ("rows.*.n.0", {"rows": [{"id": 1, "n": [2]}, {"id": 2, "n": []}]}),
        ("*", {}),
    ],
)
def test_a_star_is_every_item(way: str, left: Any) -> None:
    body = b'{"rows": [{"id": 1, "n": [1, 2]}, {"id": 2, "n": [3]}]}'

    assert json.loads(body_of(mangled(body, drop=way))) == left


def test_several_values_are_dropped_by_their_places_in_the_real_response() -> None:
    body = b'{"rows": [{"id": 0}, {"id": 1}, {"id": 2}, {"id": 3}]}'

    sent = mangled(body, drop=["rows.0", "rows[1]", "rows.3.id", "rows[1]"])

    assert json.loads(body_of(sent)) == {"rows": [{"id": 2}, {}]}


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("FAILED", 0),
        ("1000", 1000),
        ("-7", -7),
        ("9" * 5000, 0),
        (1000, "1000"),
        (1.5, "1.5"),
        (True, "true"),
        (None, "null"),
        ([1], "[1]"),
        ({"a": "ä"}, '{"a":"ä"}'),
    ],
)
def test_a_field_of_another_type_says_the_same_if_it_can(was: Any, becomes: Any) -> None:
    sent = mangled(json.dumps({"it": was}).encode(), change_type="it")

    assert json.loads(body_of(sent)) == {"it": becomes}


def test_a_path_that_the_response_does_not_have_changes_nothing() -> None:
    sent = mangled(drop=["data.id", "data.name", "data.0"], change_type="status.x")

    assert body_of(sent) == b'{"data":{"status":"FAILED","none":null},"status":200}'


def test_what_is_no_json_has_no_fields() -> None:
    sent = mangled(b"<html>", drop="data")

    assert body_of(sent) == b"<html>"


@given(value=json_values)
def test_what_is_not_meant_stays(value: Any) -> None:
    """Escaped halves of surrogate pairs, too, which UTF-8 cannot write."""
    whole = {"it": 1, "rest": [value, "\ud800"]}

    sent = mangled(json.dumps(whole).encode(), drop="it")

    assert json.loads(body_of(sent)) == {"rest": whole["rest"]}
