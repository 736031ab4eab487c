"""Read, apply and write baselines: known deviations of a server, each with a reason.

A baseline is a YAML file with `api`, the `versions` it is for, and `known` deviations: rule,
operation, optionally status and path, and the reason to accept it. Accepted findings are counted
and shown, but fail no run. An entry that does not occur is stale, which is shown and fails no run
either; one that occurs only in some circumstances (`sometimes`) is never stale.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import yaml

from oceanmock.apis import APIS
from oceanmock.checks import CheckResult
from oceanmock.conformance.model import Api, Result, StaleEntry
from oceanmock.errors import AuthorError, EnvironmentProblem
from oceanmock.openapi import load_spec, operations_of, spec_path
from oceanmock.scenario.diagnostics import Issue, ScenarioError
from oceanmock.scenario.document import Document
from oceanmock.text import did_you_mean, suggest

FOLDER: Final = Path(__file__).parent / "baselines"
ANY: Final = "*"
"""An entry's value for any operation; within a path, any text."""
API_NAMES: Final[tuple[str, ...]] = tuple(api.name for api in APIS)


# --- entries --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """A known deviation. No status means any; no path means any; `*` in a path is anything."""

    rule: str
    operation: str
    reason: str
    status: int | None = None
    path: str = ""
    sometimes: str = ""
    """The circumstances in which it occurs, if not always."""

    def covers(self, finding: CheckResult) -> bool:
        """Return whether a finding is this deviation."""
        return (
            finding.rule == self.rule
            and self.operation in (ANY, finding.operation)
            and self.status in (None, finding.status)
            and (not self.path or _pattern(self.path).fullmatch(finding.path) is not None)
        )

    def was_checked(self, result: Result) -> bool:
        """Return whether the run checked its rule, so that it would have occurred."""
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
    """Known deviations in the order of the file; the first that covers a finding counts."""

    name: str
    api: Api
    versions: tuple[str, ...] = ()
    known: tuple[Known, ...] = ()

    @cached_property
    def rules(self) -> frozenset[str]:
        """Return the rules that have entries."""
        return frozenset(item.rule for item in self.known)

    def fits(self, version: str) -> bool:
        """Return whether it is for a version: `4.5.0.0` includes `4.5.0.0-1`, no version any."""
        release = version.partition("-")[0]
        return not self.versions or bool({version, release} & set(self.versions))

    def reason_for(self, finding: CheckResult) -> str:
        """Return the reason to accept a finding, or "" if no entry covers it."""
        if finding.rule not in self.rules:
            return ""
        return next((item.reason for item in self.known if item.covers(finding)), "")


def joined(baselines: Sequence[Baseline]) -> Baseline | None:
    """Return several as one, the first before the others; None if there are none."""
    if not baselines:
        return None
    name = ", ".join(item.name for item in baselines)
    known = tuple(entry for item in baselines for entry in item.known)
    return Baseline(name, baselines[0].api, (), known)


# --- results --------------------------------------------------------------------------------------


def apply_baseline(baseline: Baseline | None, result: Result) -> None:
    """Divide a result's findings into new and known ones, and list the stale entries.

    Applying another baseline later judges all findings again.
    """
    matches = result.findings + [replace(item, known="") for item in result.known]
    judged = [
        replace(item, known=baseline.reason_for(item)) if baseline else item for item in matches
    ]
    result.findings = [item for item in judged if not item.known]
    result.known = [item for item in judged if item.known]
    result.baselines = [] if baseline is None else baseline.name.split(", ")
    for rule, tally in result.rules.items():
        tally.known = sum(item.rule == rule for item in result.known)
    entries = () if baseline is None or result.interrupted else baseline.known
    result.stale = [
        StaleEntry(entry.rule, entry.operation, entry.reason)
        for entry in entries
        if not entry.sometimes
        and entry.was_checked(result)
        and not any(map(entry.covers, result.known))
    ]


def update(baseline: Baseline, result: Result) -> tuple[Baseline, int, int]:
    """Return the baseline with new findings and without stale entries, and both counts."""
    gone = {(item.rule, item.operation, item.reason) for item in result.stale}
    current = [
        item for item in baseline.known if (item.rule, item.operation, item.reason) not in gone
    ]
    new: dict[tuple[str, str, int | None, str], Known] = {}
    for finding in result.findings:
        entry = _entry_of(finding)
        new.setdefault((entry.rule, entry.operation, entry.status, entry.path), entry)
    whole = replace(baseline, known=(*current, *new.values()))
    return whole, len(new), len(baseline.known) - len(current)


def _entry_of(finding: CheckResult) -> Known:
    """Return an entry that covers a finding, at any index of a list."""
    return Known(
        finding.rule,
        finding.operation or ANY,
        f"not explained yet: {finding.message}",
        finding.status,
        re.sub(r"(?<![^\[/.])[0-9]+(?![^\]/.])", ANY, finding.path),
    )


# --- files ----------------------------------------------------------------------------------------


def shipped_names() -> list[str]:
    """Return the names of the baselines that come with oceanmock."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def shipped_for(api: Api, version: str) -> Baseline | None:
    """Return the baseline that comes with oceanmock for a version of an API, or None."""
    loaded = (load_baseline(name) for name in shipped_names())
    return next((item for item in loaded if item.api == api and item.fits(version)), None)


def load_baseline(reference: str | Path) -> Baseline:
    """Return the baseline of a name that comes with oceanmock, or of a file.

    Raises AuthorError if there is none, or with every mistake in it.
    """
    path = find_baseline(reference)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AuthorError(f"the baseline {path} cannot be read: {error}") from error
    document = Document(text, str(path))
    matches = list(_mistakes(document.data))
    mistakes = document.duplicate_keys() + [document.locate(item) for item in matches]
    if mistakes:
        raise ScenarioError(mistakes)
    return _baseline_of(document.data, _name_of(path))


def find_baseline(reference: str | Path) -> Path:
    """Return the file of a name or path. Raises AuthorError with the nearest name."""
    path = Path(reference)
    if path.suffix in (".yaml", ".yml") or path.name != str(reference):
        if not path.is_file():
            raise AuthorError(f"there is no baseline file {path}. `--update-baseline` creates it.")
        return path
    if reference in shipped_names():
        return FOLDER / f"{reference}.yaml"
    hint = suggest(reference, [*shipped_names(), "none", "a file's path (*.yaml)"])
    raise AuthorError(f"there is no baseline {str(reference)!r}. {hint}")


def save_baseline(baseline: Baseline, path: Path) -> None:
    """Write a baseline to a file. Raises EnvironmentProblem where that fails."""
    data: dict[str, Any] = {"api": baseline.api}
    if baseline.versions:
        data["versions"] = list(baseline.versions)
    data["known"] = [_written(item) for item in baseline.known]
    text = _HEAD + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as problem:
        what = f"the baseline cannot be written to {path}: {problem.strerror}"
        raise EnvironmentProblem(what) from problem


_HEAD: Final = """\
# Known deviations from the contract, accepted by `oceanmock conform --baseline`.
# Give each the reason to accept it; `--update-baseline` keeps reasons, but no other comments.
"""


def _written(entry: Known) -> dict[str, Any]:
    """Return an entry as its file has it, without empty values."""
    data = {
        "rule": entry.rule,
        "operation": entry.operation,
        "status": entry.status,
        "path": entry.path,
        "sometimes": entry.sometimes,
        "reason": entry.reason,
    }
    return {key: value for key, value in data.items() if value not in (None, "")}


def _name_of(path: Path) -> str:
    return path.stem if path.parent == FOLDER else path.as_posix()


def _baseline_of(data: dict[str, Any], name: str) -> Baseline:
    known = tuple(Known(**item) for item in data["known"] or ())
    return Baseline(name, data["api"], tuple(data.get("versions") or ()), known)


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


def _mistakes(data: Any) -> Iterator[Issue]:
    """Yield every mistake in a baseline's data."""
    if not isinstance(data, dict):
        yield Issue((), "wrong-type", "a baseline is a mapping with `api` and `known`")
        return
    yield from _unknown_keys(data, _KEYS, ())
    api, versions, known = data.get("api"), data.get("versions"), data.get("known", "nothing")
    if api not in API_NAMES:
        yield Issue(("api",), "wrong-value", "`api` says whose it is", suggest(api, API_NAMES))
    if not _is_list_of(versions or [], str):
        yield Issue(("versions",), "wrong-type", "`versions` is a list of texts such as '4.5.0.0'")
    if not isinstance(known, list | None):
        yield Issue(("known",), "wrong-type", "`known` is the list of known deviations")
        return
    names = _operations(api) if api in API_NAMES else ()
    for place, entry in enumerate(known or ()):
        yield from _entry_mistakes(entry, ("known", place), names)


def _entry_mistakes(
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


def _unknown_keys(data: dict[Any, Any], keys: Sequence[str], loc: Any) -> Iterator[Issue]:
    for key in data:
        if key not in keys:
            hint = suggest(key, keys)
            yield Issue((*loc, key), "unknown-key", f"there is no key {key!r}", hint, at_key=True)


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _operations(api: str) -> Sequence[str]:
    return [item.id for item in operations_of(load_spec(spec_path(api)))]
