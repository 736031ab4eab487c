"""What a run must have received, and baselines: what they let pass, and what is wrong with one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from conform_results import a_clean_result, a_finding, a_result, shipped_for
from golden import assert_golden
from oceanmock.conformance import FAILED, PASSED, ApiName, Result
from oceanmock.conformance.baseline import (
    Baseline,
    Known,
    apply_baselines,
    load_baseline,
    reason_for,
    save_baseline,
    shipped_names,
    update_file,
)
from oceanmock.conformance.checks import SENT_TO_LOG_IN, all_rules, missing, required
from oceanmock.conformance.reports import rule_lines
from oceanmock.errors import EnvironmentProblem, InputError
from oceanmock.observations import TargetKind
from oceanmock.openapi import load_spec, operations_of, spec_path

ENVELOPE = Known("envelope.status", "getTaskInstance", "the gateway rewrites it")


def of(*known: Known) -> Baseline:
    return Baseline("lab", "ocp", (), known)


# --- what is covered ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    [
        ENVELOPE,
        Known("envelope.status", "*", "why"),
        Known("envelope.status", "getTaskInstance", "why", status=200),
        Known("envelope.status", "getTaskInstance", "why", path="data.subtasks[*].id"),
        Known("envelope.status", "*", "why", 200, "*"),
    ],
)
def test_an_entry_covers_what_it_names(entry: Known) -> None:
    assert entry.covers(a_finding(path="data.subtasks[12].id"))


@pytest.mark.parametrize(
    "entry",
    [
        Known("envelope.status", "listTaskInstances", "why"),
        Known("envelope.successful", "getTaskInstance", "why"),
        Known("envelope.status", "getTaskInstance", "why", status=500),
        Known("envelope.status", "getTaskInstance", "why", path="data.subtasks"),
        Known("envelope.status", "getTaskInstance", "why", path="data.subtasks[.].id"),
    ],
)
def test_an_entry_covers_nothing_else(entry: Known) -> None:
    assert not entry.covers(a_finding(path="data.subtasks[1].id"))


def test_a_known_deviation_is_counted_and_shown_and_breaks_nothing() -> None:
    result = a_clean_result(findings=[a_finding()])

    apply_baselines([of(ENVELOPE)], result)

    assert result.findings == []
    assert [each.known for each in result.known] == ["the gateway rewrites it"]
    assert {line.rule: line.known for line in rule_lines(result)}["envelope.status"] == 1
    assert result.baselines == ["lab"]
    assert result.exit_code == PASSED


def test_what_no_entry_covers_still_breaks_the_run() -> None:
    result = a_clean_result(findings=[a_finding(), a_finding("hostile.500")])

    apply_baselines([of(ENVELOPE)], result)

    assert [each.rule for each in result.findings] == ["hostile.500"]
    assert result.exit_code == FAILED


def test_another_baseline_judges_all_anew() -> None:
    result = a_clean_result(findings=[a_finding()])
    apply_baselines([of(ENVELOPE)], result)

    apply_baselines([], result)

    assert [(each.rule, each.known) for each in result.findings] == [("envelope.status", "")]
    assert (result.known, result.stale, result.baselines) == ([], [], [])


# --- stale ----------------------------------------------------------------------------------------


def test_an_entry_that_no_longer_occurs_is_stale() -> None:
    result = a_clean_result()

    apply_baselines([of(ENVELOPE)], result)

    stale = Known("envelope.status", "getTaskInstance", "the gateway rewrites it")
    assert result.stale == [stale]
    assert result.exit_code == PASSED


@pytest.mark.parametrize(
    "entry",
    [
        Known("envelope.status", "rollbackTask", "the operation was never asked"),
        Known("rollback.order", "getTaskInstance", "the rule was never looked at"),
        Known("unheard.of", "*", "no such rule in this run"),
        Known("hostile.500", "*", "why", sometimes="the database is down"),
    ],
)
def test_an_entry_that_could_not_have_occurred_is_not_stale(entry: Known) -> None:
    result = a_clean_result()

    apply_baselines([of(entry)], result)

    assert result.stale == []


def test_an_interrupted_run_calls_nothing_stale() -> None:
    result = a_clean_result(interrupted=True)

    apply_baselines([of(ENVELOPE)], result)

    assert result.stale == []


# --- updating -------------------------------------------------------------------------------------


def test_an_update_takes_in_what_is_new_and_leaves_out_what_is_stale(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    explained = Known("time.start-after-finish", "getTaskInstance", "a slow clock")
    gone = Known("hostile.500", "listTaskInstances", "was so")
    unseen = Known("rollback.order", "rollbackTask", "not looked at this time")
    result = a_result()
    result.checked["hostile.500", "listTaskInstances"] = 3
    before = replace(of(explained, gone, unseen), name=path.as_posix())
    apply_baselines([before], result)

    came, went = update_file([before], path, result)

    known = load_baseline(path).known
    assert (came, went) == (2, 1)
    assert known[:2] == (explained, unseen)
    assert [each.reason.partition(":")[0] for each in known[2:]] == ["not explained yet"] * 2
    assert result.findings == []


def test_an_update_is_about_places_not_about_positions(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    found = [a_finding(path=f"data.subtasks[{place}].finishTime") for place in (0, 3, 12)]
    result = a_clean_result(findings=found)

    came, _ = update_file([replace(of(), name=path.as_posix())], path, result)

    assert came == 1
    assert load_baseline(path).known[0].path == "data.subtasks[*].finishTime"
    assert result.findings == []


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    entries = (ENVELOPE, Known("x.y", "*", "why: 'quoted', 中", 500, "data[*].x", "only on Mondays"))
    path = tmp_path / "lab.yaml"

    save_baseline(Baseline("lab", "ocp", ("4.2.2",), entries), path)

    loaded = load_baseline(path)
    assert (loaded.versions, loaded.known) == (("4.2.2",), entries)
    assert_golden("conform-baseline.yaml", path.read_text())


def test_a_baseline_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"cannot be written to .*no-such-folder"):
        save_baseline(of(), tmp_path / "no-such-folder" / "lab.yaml")


# --- reading --------------------------------------------------------------------------------------


def test_every_mistake_in_a_baseline_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(
        """\
api: obshel
version: ['4.5']
known: nothing
"""
    )
    with pytest.raises(InputError) as of_file:
        load_baseline(path)
    path.write_text(
        """\
api: ocp
versions: 4.2
known:
  - rule: envelope.status
    operation: getTaskInstanc
    reason: a typo in the operation
  - rule: envelope.status
    operation: getTaskInstance
    status: many
    raeson: no reason
  - just a text
"""
    )
    with pytest.raises(InputError) as of_entries:
        load_baseline(path)

    told = f"{of_file.value}\n\n{of_entries.value}\n".replace(str(path), "lab.yaml")
    assert_golden("conform-baseline-mistakes.txt", told)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "api: [", "api: ocp\nknown: [\x01]\n"])
def test_what_is_no_baseline_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(text)

    with pytest.raises(InputError, match=r"lab\.yaml:1:1|lab\.yaml:[12]"):
        load_baseline(path)


def test_a_name_that_is_none_is_told_the_nearest() -> None:
    with pytest.raises(InputError, match=r"Did you mean 'obshell-4\.5\.0\.0'\?"):
        load_baseline("obshell-4.5")


def test_a_file_that_is_not_there_is_told_how_it_comes_to_be() -> None:
    with pytest.raises(InputError, match=r"no baseline file nowhere\.yaml.*--update-baseline"):
        load_baseline("nowhere.yaml")


def test_several_baselines_are_one_and_the_first_reason_counts() -> None:
    mine = Baseline("mine", "ocp", (), (Known("envelope.status", "*", "mine"),))

    both = [mine, of(ENVELOPE)]

    assert reason_for(a_finding(), both) == "mine"
    assert apply_baselines(both, a_result()).baselines == ["mine", "lab"]
    assert reason_for(a_finding(), []) == ""


# --- those that ship ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped_names())
def test_every_entry_that_ships_has_a_reason_and_a_source(name: str) -> None:
    baseline = load_baseline(name)

    assert baseline.versions
    assert all(len(each.reason) > 20 for each in baseline.known)
    assert all("(" in each.reason for each in baseline.known), "the source stands in brackets"


def test_every_quirk_of_obshells_contract_is_known() -> None:
    text = spec_path("obshell").read_text(encoding="utf-8")
    told = set(re.findall(r"^ +- name: ([a-z0-9-]+)\n +status: [0-9]+\n +when:", text, re.MULTILINE))

    known = {each.rule.removeprefix("quirk.") for each in load_baseline("obshell-4.5.0.0").known}

    assert known == told
    assert len(told) == 20


def test_no_entry_that_ships_names_a_rule_that_is_none() -> None:
    for name in shipped_names():
        assert {entry.rule for entry in load_baseline(name).known} <= set(all_rules())


@pytest.mark.parametrize("version", ["4.5.0.0", "4.5.0.0-1"])
def test_obshell_4_5_0_0_has_a_baseline_of_its_own(version: str) -> None:
    assert [each.name for each in shipped_for("obshell", version)] == ["obshell-4.5.0.0"]


@pytest.mark.parametrize("version", ["4.5.0", "4.5.0.1", "4.5.0.00", ""])
def test_another_version_has_none(version: str) -> None:
    assert shipped_for("obshell", version) == []
    assert shipped_for("ocp", "4.5.0.0") == []


# --- required responses ---------------------------------------------------------------------------


APIS: tuple[ApiName, ...] = ("ocp", "obshell")


def operations(api: ApiName) -> list[str]:
    return [each.id for each in operations_of(load_spec(spec_path(api)))]


def seen_everywhere(api: ApiName, statuses: Iterable[int]) -> dict[str, Counter[int]]:
    """Every operation has answered each of these once."""
    return {each: Counter(statuses) for each in operations(api)}


def run_of(api: ApiName, statuses: dict[str, Counter[int]], *, writes: bool = False) -> Result:
    return a_clean_result(api=api, version="", statuses=statuses, writes=writes)


def lacking(
    statuses: dict[str, Counter[int]], api: ApiName, *, writes: bool = False, kind: TargetKind = "agent"
) -> set[tuple[str, int]]:
    found = missing(run_of(api, statuses, writes=writes), [kind])
    return {(each.operation, each.status) for each in found}


@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize("api", APIS)
def test_who_has_seen_every_status_everywhere_has_seen_enough(api: ApiName, writes: bool) -> None:
    seen = seen_everywhere(api, [200, 400, 401, 404])

    assert missing(run_of(api, seen, writes=writes), ["agent", "cluster"]) == []


@pytest.mark.parametrize("status", [200, 401, 403, 404, 500])
@pytest.mark.parametrize("api", APIS)
def test_one_status_throughout_is_never_enough(api: ApiName, status: int) -> None:
    seen = seen_everywhere(api, [status])

    assert missing(run_of(api, seen)) != []


@pytest.mark.parametrize("api", APIS)
def test_without_a_single_read_that_was_accepted_nothing_is_enough(api: ApiName) -> None:
    seen = seen_everywhere(api, [400, 401, 403, 404, 405, 500])

    reads = [operation for operation, one_of in required(api, writes=False) if one_of == {200}]
    assert {(operation.id, 200) for operation in reads} <= lacking(seen, api)
    assert len(reads) >= 3


@pytest.mark.parametrize("api", APIS)
def test_who_only_reads_needs_nothing_of_what_changes(api: ApiName) -> None:
    needed = {operation.method for operation, _ in required(api, writes=False)}
    also = {operation.method for operation, _ in required(api, writes=True)}

    assert needed == {"GET"}
    assert also == {"GET", "POST"}


@pytest.mark.parametrize("api", APIS)
def test_only_what_the_contract_names_is_asked_for(api: ApiName) -> None:
    named = {(o.id, int(s)) for o in operations_of(load_spec(spec_path(api))) for s in o.statuses}

    asked = {
        (operation.id, status)
        for operation, one_of in required(api, writes=True, kinds=["agent", "cluster"])
        for status in one_of - SENT_TO_LOG_IN
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
def test_what_is_missing_says_how_the_next_run_sees_it(api: ApiName) -> None:
    told = missing(run_of(api, {}, writes=True), ["agent", "cluster"])

    text = "".join(f"{each.operation} {each.status}: {each.hint}\n" for each in told)
    assert_golden(f"conform-missing-{api}.txt", text)
