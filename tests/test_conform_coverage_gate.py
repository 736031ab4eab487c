"""What a run has to have seen: which statuses of which operations, and what it says of others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from golden import assert_golden
from oceanmock.conformance.model import Api
from oceanmock.conformance.probes import SENT_TO_LOG_IN, missing, required
from oceanmock.observations import TargetKind
from oceanmock.openapi import load_spec, operations_of, spec_path

APIS: tuple[Api, ...] = ("ocp", "obshell")


def operations(api: Api) -> list[str]:
    return [each.id for each in operations_of(load_spec(spec_path(api)))]


def seen_everywhere(api: Api, statuses: Iterable[int]) -> dict[str, Counter[int]]:
    """Every operation has answered each of these once."""
    return {each: Counter(statuses) for each in operations(api)}


def lacking(
    statuses: dict[str, Counter[int]], api: Api, *, writes: bool = False, kind: TargetKind = "agent"
) -> set[tuple[str, int]]:
    found = missing(statuses, api=api, writes=writes, kinds=[kind])
    return {(each.operation, each.status) for each in found}


@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize("api", APIS)
def test_who_has_seen_every_status_everywhere_has_seen_enough(api: Api, writes: bool) -> None:
    seen = seen_everywhere(api, [200, 400, 401, 404])

    assert missing(seen, api=api, writes=writes, kinds=["agent", "cluster"]) == []


@pytest.mark.parametrize("status", [200, 401, 403, 404, 500])
@pytest.mark.parametrize("api", APIS)
def test_one_status_throughout_is_never_enough(api: Api, status: int) -> None:
    seen = seen_everywhere(api, [status])

    assert missing(seen, api=api, writes=False) != []


@pytest.mark.parametrize("api", APIS)
def test_without_a_single_read_that_was_accepted_nothing_is_enough(api: Api) -> None:
    seen = seen_everywhere(api, [400, 401, 403, 404, 405, 500])

    reads = [each for each in required(api, writes=False) if each.one_of == {200}]
    assert {(each.operation.id, 200) for each in reads} <= lacking(seen, api)
    assert len(reads) >= 3


@pytest.mark.parametrize("api", APIS)
def test_who_only_reads_needs_nothing_of_what_changes(api: Api) -> None:
    needed = {each.operation.method for each in required(api, writes=False)}
    also = {each.operation.method for each in required(api, writes=True)}

    assert needed == {"GET"}
    assert also == {"GET", "POST"}


@pytest.mark.parametrize("api", APIS)
def test_only_what_the_contract_names_is_asked_for(api: Api) -> None:
    named = {(o.id, int(s)) for o in operations_of(load_spec(spec_path(api))) for s in o.statuses}

    asked = {
        (each.operation.id, status)
        for each in required(api, writes=True, kinds=["agent", "cluster"])
        for status in each.one_of - SENT_TO_LOG_IN
    }

    assert asked <= named


def test_each_operation_that_changes_something_has_to_be_accepted_and_to_be_refused() -> None:
    seen = seen_everywhere("ocp", [200, 400, 401, 404])
    seen["rollbackTask"] = Counter({401: 3, 404: 2})

    assert lacking(seen, "ocp", writes=True) == {("rollbackTask", 200), ("rollbackTask", 400)}


def test_a_status_that_was_never_counted_was_not_seen() -> None:
    seen = seen_everywhere("ocp", [200, 400, 401, 404])
    seen["getTaskInstance"][404] = 0
    del seen["getSubtaskLog"]

    assert lacking(seen, "ocp") == {
        ("getTaskInstance", 404),
        ("getSubtaskLog", 200),
        ("getSubtaskLog", 400),
        ("getSubtaskLog", 401),
    }


def test_an_agent_is_not_asked_for_what_only_one_of_a_cluster_can_answer() -> None:
    seen = seen_everywhere("obshell", [200, 400, 401, 404])
    for name in ("getAllClusterDags", "getClusterUnfinishDags", "getObLastMaintenanceDag"):
        seen[name] = Counter([400, 401])

    assert lacking(seen, "obshell", kind="agent") == set()
    assert lacking(seen, "obshell", kind="cluster") == {
        ("getAllClusterDags", 200),
        ("getClusterUnfinishDags", 200),
        ("getObLastMaintenanceDag", 200),
    }


def test_whoever_is_sent_elsewhere_to_log_in_is_not_let_in_either() -> None:
    seen = seen_everywhere("ocp", [200, 302, 400, 404])

    assert lacking(seen, "ocp") == set()
    assert lacking(seen_everywhere("ocp", [200, 400, 404]), "ocp") == {
        ("listTaskInstances", 401),
        ("getTaskInstance", 401),
        ("getSubtaskLog", 401),
    }


def test_an_obshell_whose_quirks_are_mended_is_as_good_as_any() -> None:
    seen = seen_everywhere("obshell", [200, 401, 404])
    for each in ("getDagDetail", "getNodeDetail", "getSubTaskDetail", "getFullSubTaskLogs"):
        seen[each][400] = 1

    assert lacking(seen, "obshell") == set()


@pytest.mark.parametrize("either", [200, 404])
def test_there_was_maintenance_or_there_was_none(either: int) -> None:
    seen = seen_everywhere("obshell", [200, 400, 401, 404])
    seen["getAgentLastMaintenanceDag"] = Counter([either, 400, 401])

    assert lacking(seen, "obshell") == set()


@pytest.mark.parametrize("api", APIS)
def test_what_is_missing_says_how_the_next_run_sees_it(api: Api) -> None:
    told = missing({}, api=api, writes=True, kinds=["agent", "cluster"])

    text = "".join(f"{each.operation} {each.status}: {each.hint}\n" for each in told)
    assert_golden(f"conform-missing-{api}.txt", text)
