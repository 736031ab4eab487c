"""Baselines: the deviations of a server that are known, each with the reason it is let pass.

A baseline is a YAML file: `api`, the `versions` it is of, and under `known` what was found before:
rule, operation, and if need be status and path, with a reason. What an entry covers is counted and
shown, but breaks no run. An entry that no longer occurs is stale, which is said and nothing more;
one that occurs only in some circumstances (`sometimes`) is never stale.

The one rule: a deviation passes only by an entry somebody wrote down with a reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final, get_args

import yaml

from oceanmock.checks import CheckResult
from oceanmock.conformance.model import Api, Result, StaleEntry
from oceanmock.errors import AuthorError, EnvironmentProblem
from oceanmock.openapi import load_spec, operations_of, spec_path
from oceanmock.scenario.diagnostics import Issue, ScenarioError
from oceanmock.scenario.document import Document
from oceanmock.text import did_you_mean, suggest

FOLDER: Final = Path(__file__).parent / "baselines"
ANY: Final = "*"
"""What an entry says for any operation, and within a path for anything."""
APIS: Final[tuple[str, ...]] = get_args(Api)


# --- what one holds -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """A known deviation. No status means any; no path means any; `*` in a path is anything."""

    rule: str
    operation: str
    reason: str
    status: int | None = None
    path: str = ""
    sometimes: str = ""
    """In which circumstances it occurs, where that is not always."""

    def covers(self, finding: CheckResult) -> bool:
        """Whether the finding is this deviation."""
        return (
            finding.rule == self.rule
            and self.operation in (ANY, finding.operation)
            and self.status in (None, finding.status)
            and (not self.path or _pattern(self.path).fullmatch(finding.path) is not None)
        )

    def was_looked_at(self, result: Result) -> bool:
        """Whether the run would have met it, if it still occurred."""
        tally = result.rules.get(self.rule)
        if tally is None or not tally.looked:
            return False
        if self.operation == ANY:
            return True
        if result.checked:
            return result.checked[self.rule, self.operation] > 0
        return bool(result.statuses.get(self.operation))


@lru_cache(maxsize=256)
def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, path.split(ANY))), re.DOTALL)


@dataclass(frozen=True)
class Baseline:
    """Known deviations, in the order of their file; the first that covers a finding counts."""

    name: str
    api: Api
    versions: tuple[str, ...] = ()
    known: tuple[Known, ...] = ()

    @cached_property
    def rules(self) -> frozenset[str]:
        """The rules it has entries for."""
        return frozenset(each.rule for each in self.known)

    def fits(self, version: str) -> bool:
        """Whether it is of this version: `4.5.0.0` is also `4.5.0.0-1`. Of none named: of any."""
        release = version.partition("-")[0]
        return not self.versions or bool({version, release} & set(self.versions))

    def reason_for(self, finding: CheckResult) -> str:
        """Why the finding is let pass; empty when no entry covers it."""
        if finding.rule not in self.rules:
            return ""
        return next((each.reason for each in self.known if each.covers(finding)), "")


def joined(baselines: Sequence[Baseline]) -> Baseline | None:
    """Several as one, the first before the others; None of none."""
    if not baselines:
        return None
    name = ", ".join(each.name for each in baselines)
    known = tuple(entry for each in baselines for entry in each.known)
    return Baseline(name, baselines[0].api, (), known)


# --- what it does to a result ---------------------------------------------------------------------


def apply_baseline(baseline: Baseline | None, result: Result) -> None:
    """Sorts the findings of a result into new and known ones, and names the stale entries.

    May be done again, with another baseline: all findings are judged anew.
    """
    found = result.findings + [replace(each, known="") for each in result.known]
    judged = [
        replace(each, known=baseline.reason_for(each)) if baseline else each for each in found
    ]
    result.findings = [each for each in judged if not each.known]
    result.known = [each for each in judged if each.known]
    result.baselines = [] if baseline is None else baseline.name.split(", ")
    for rule, tally in result.rules.items():
        tally.known = sum(each.rule == rule for each in result.known)
    entries = () if baseline is None or result.interrupted else baseline.known
    result.stale = [
        StaleEntry(entry.rule, entry.operation, entry.reason)
        for entry in entries
        if not entry.sometimes
        and entry.was_looked_at(result)
        and not any(map(entry.covers, result.known))
    ]


def update(baseline: Baseline, result: Result) -> tuple[Baseline, int, int]:
    """The baseline with what was newly found and without what is stale; how many came and went."""
    gone = {(each.rule, each.operation, each.reason) for each in result.stale}
    kept = [each for each in baseline.known if (each.rule, each.operation, each.reason) not in gone]
    new: dict[tuple[str, str, int | None, str], Known] = {}
    for finding in result.findings:
        entry = _entry_of(finding)
        new.setdefault((entry.rule, entry.operation, entry.status, entry.path), entry)
    whole = replace(baseline, known=(*kept, *new.values()))
    return whole, len(new), len(baseline.known) - len(kept)


def _entry_of(finding: CheckResult) -> Known:
    """What covers a finding, wherever in a list it stands."""
    return Known(
        finding.rule,
        finding.operation or ANY,
        f"not explained yet: {finding.message}",
        finding.status,
        re.sub(r"(?<![^\[/.])[0-9]+(?![^\]/.])", ANY, finding.path),
    )


# --- reading and writing --------------------------------------------------------------------------


def shipped_names() -> list[str]:
    """The baselines that come with oceanmock."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def shipped_for(api: Api, version: str) -> Baseline | None:
    """The baseline that comes with oceanmock for this version of an API, if there is one."""
    loaded = (load_baseline(name) for name in shipped_names())
    return next((each for each in loaded if each.api == api and each.fits(version)), None)


def load_baseline(reference: str | Path) -> Baseline:
    """The baseline of a name that comes with oceanmock, or in a file.

    Raises AuthorError: when there is none, or with every mistake in it.
    """
    path = find_baseline(reference)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AuthorError(f"the baseline {path} cannot be read: {error}") from error
    document = Document(text, str(path))
    found = list(_mistakes_in(document.data))
    mistakes = document.duplicate_keys() + [document.locate(each) for each in found]
    if mistakes:
        raise ScenarioError(mistakes)
    return _baseline_of(document.data, _name_of(path))


def find_baseline(reference: str | Path) -> Path:
    """The file that a name or a path means. Raises AuthorError with the nearest name."""
    path = Path(reference)
    if path.suffix in (".yaml", ".yml") or path.name != str(reference):
        if not path.is_file():
            raise AuthorError(
                f"there is no baseline file {path}. `--update-baseline` writes it anew."
            )
        return path
    if reference in shipped_names():
        return FOLDER / f"{reference}.yaml"
    hint = suggest(reference, [*shipped_names(), "none", "a file's path (*.yaml)"])
    raise AuthorError(f"there is no baseline {str(reference)!r}. {hint}")


def save_baseline(baseline: Baseline, path: Path) -> None:
    """Writes a baseline to a file. Raises EnvironmentProblem when that cannot be done."""
    said: dict[str, Any] = {"api": baseline.api}
    if baseline.versions:
        said["versions"] = list(baseline.versions)
    said["known"] = [_written(each) for each in baseline.known]
    text = _HEAD + yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=100)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as problem:
        what = f"the baseline cannot be written to {path}: {problem.strerror}"
        raise EnvironmentProblem(what) from problem


_HEAD: Final = """\
# Deviations from the contract that are known, and let pass by `oceanmock conform --baseline`.
# Give each the reason it is let pass; `--update-baseline` keeps reasons, and no other comments.
"""


def _written(entry: Known) -> dict[str, Any]:
    """An entry as its file has it: what says nothing is left out."""
    said = {
        "rule": entry.rule,
        "operation": entry.operation,
        "status": entry.status,
        "path": entry.path,
        "sometimes": entry.sometimes,
        "reason": entry.reason,
    }
    return {key: value for key, value in said.items() if value not in (None, "")}


def _name_of(path: Path) -> str:
    return path.stem if path.parent == FOLDER else path.as_posix()


def _baseline_of(said: dict[str, Any], name: str) -> Baseline:
    known = tuple(Known(**each) for each in said["known"] or ())
    return Baseline(name, said["api"], tuple(said.get("versions") or ()), known)


# --- mistakes -------------------------------------------------------------------------------------


_KEYS: Final = ("api", "versions", "known")
_ENTRY: Final = {
    "rule": str,
    "operation": str,
    "status": int,
    "path": str,
    "sometimes": str,
    "reason": str,
}
_NEEDED: Final = ("rule", "operation", "reason")
_CALLED: Final = {str: "a text", int: "a whole number"}


def _mistakes_in(said: Any) -> Iterator[Issue]:
    """All that is wrong with a baseline's data."""
    if not isinstance(said, dict):
        yield Issue((), "wrong-type", "a baseline is a mapping with `api` and `known`")
        return
    yield from _unknown_keys(said, _KEYS, ())
    api, versions, known = said.get("api"), said.get("versions"), said.get("known", "nothing")
    if api not in APIS:
        yield Issue(("api",), "wrong-value", "`api` says whose it is", suggest(api, APIS))
    if not _is_list_of(versions or [], str):
        yield Issue(("versions",), "wrong-type", "`versions` is a list of texts such as '4.5.0.0'")
    if not isinstance(known, list | None):
        yield Issue(("known",), "wrong-type", "`known` is the list of known deviations")
        return
    names = _operations(api) if api in APIS else ()
    for place, entry in enumerate(known or ()):
        yield from _mistakes_in_entry(entry, ("known", place), names)


def _mistakes_in_entry(
    entry: Any, loc: tuple[int | str, ...], names: Sequence[str]
) -> Iterator[Issue]:
    if not isinstance(entry, dict):
        yield Issue(loc, "wrong-type", "an entry is a mapping of `rule`, `operation`, `reason`")
        return
    yield from _unknown_keys(entry, tuple(_ENTRY), loc)
    for key in _NEEDED:
        if not entry.get(key):
            yield Issue(loc, "missing", f"an entry needs a `{key}`")
    for key, kind in _ENTRY.items():
        value = entry.get(key)
        if value and (not isinstance(value, kind) or isinstance(value, bool)):
            yield Issue((*loc, key), "wrong-type", f"`{key}` is {_CALLED[kind]}")
    operation = entry.get("operation")
    if names and isinstance(operation, str) and operation not in (ANY, "", *names):
        hint = did_you_mean(operation, names) or f"`{ANY}` means any."
        what = f"the contract has no operation {operation!r}"
        yield Issue((*loc, "operation"), "unknown-operation", what, hint)


def _unknown_keys(said: dict[Any, Any], keys: Sequence[str], loc: Any) -> Iterator[Issue]:
    for key in said:
        if key not in keys:
            hint = suggest(key, keys)
            yield Issue((*loc, key), "unknown-key", f"there is no key {key!r}", hint, at_key=True)


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(each, kind) for each in value)


def _operations(api: str) -> Sequence[str]:
    operations: Iterable[Any] = operations_of(load_spec(spec_path(api)))
    return [each.id for each in operations]
