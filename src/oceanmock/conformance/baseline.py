"""Read, apply and write baselines: known deviations of a server, each with a reason.

A baseline is a YAML file with `api`, the `versions` it is for, and `known` deviations: rule, operation, optionally
status and path, and the reason to accept it. Accepted findings are counted and shown, but fail no run; nor does a stale
entry, which did not occur. An entry that occurs only in some circumstances (`sometimes`) is never stale.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import BeforeValidator, ConfigDict, Field, StrictInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails

from oceanmock.apis import api_named
from oceanmock.checks import CheckResult
from oceanmock.conformance import ApiName, Result
from oceanmock.conformance.checks import all_rules
from oceanmock.conformance.reports.files import writing
from oceanmock.errors import InputError, Issue, ScenarioError
from oceanmock.openapi import operations_of
from oceanmock.scenario.document import Document, Wording, explain
from oceanmock.text import did_you_mean, suggest

FOLDER: Final = Path(__file__).parent / "baselines"
ANY: Final = "*"  # an entry's value for any operation; within a path, any text
Text = Annotated[str, Field(min_length=1)]
_CONFIG: Final = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Known:
    """A known deviation. No status means any; no path means any; `*` in a path is anything."""

    rule: Text
    operation: Text
    reason: Text
    status: StrictInt | None = None
    path: str = ""
    sometimes: str = ""
    """The circumstances in which it occurs, if not always."""

    def covers(self, finding: CheckResult) -> bool:
        """Return whether a finding is this deviation."""
        pattern = ".*".join(map(re.escape, self.path.split(ANY)))
        return (
            finding.rule == self.rule
            and self.operation in (ANY, finding.operation)
            and self.status in (None, finding.status)
            and (not self.path or bool(re.fullmatch(pattern, finding.path, re.DOTALL)))
        )

    def is_stale(self, result: Result) -> bool:
        """Return whether a run checked its rule at its operation, and has no finding that it covers."""
        count = result.rules[self.rule] if self.operation == ANY else result.checked[self.rule, self.operation]
        return count > 0 and not self.sometimes and not any(map(self.covers, result.known))


_EMPTY: Final = BeforeValidator(lambda value: () if value is None else value)  # a key without a value


@dataclass(frozen=True, slots=True, config=_CONFIG)
class Baseline:
    """Known deviations in the order of the file; the first that covers a finding counts."""

    name: str
    api: ApiName
    versions: Annotated[tuple[str, ...], _EMPTY] = ()
    known: Annotated[tuple[Known, ...], _EMPTY] = ()

    def fits(self, version: str) -> bool:
        """Return whether it is for a version: `4.5.0.0` includes `4.5.0.0-1`, no version any."""
        release = version.partition("-")[0]
        return not self.versions or bool({version, release} & set(self.versions))


def reason_for(finding: CheckResult, baselines: Sequence[Baseline]) -> str:
    """Return the first reason to accept a finding, or "" if no entry covers it."""
    entries = (entry for item in baselines for entry in item.known)
    return next((entry.reason for entry in entries if entry.covers(finding)), "")


def apply_baselines(baselines: Sequence[Baseline], result: Result) -> Result:
    """Divide a result's findings into new and known ones, set its stale entries, and return it."""
    judged = [replace(item, known=reason_for(item, baselines)) for item in (*result.findings, *result.known)]
    result.findings = [item for item in judged if not item.known]
    result.known = [item for item in judged if item.known]
    result.baselines = [item.name for item in baselines]
    entries = [entry for item in baselines for entry in item.known if not result.interrupted]
    result.stale = [entry for entry in entries if entry.is_stale(result)]
    return result


def update_file(baselines: Sequence[Baseline], path: Path, result: Result) -> tuple[int, int]:
    """Add new findings to the baseline in a file, remove its stale entries, and return both counts.

    A new entry covers its finding at any index of a list. All baselines are applied again.
    """
    previous = next(item for item in baselines if item.name == path.as_posix())
    current = [entry for entry in previous.known if entry not in result.stale]
    new: dict[tuple[str, str, int | None, str], Known] = {}
    for finding in result.findings:
        place = re.sub(r"(?<![^\[/.])[0-9]+(?![^\]/.])", ANY, finding.path)
        operation, reason = finding.operation or ANY, f"not explained yet: {finding.message}"
        entry = Known(finding.rule, operation, reason, finding.status, place)
        new.setdefault((finding.rule, operation, finding.status, place), entry)
    updated = replace(previous, known=(*current, *new.values()))
    save_baseline(updated, path)
    stale = result.stale  # before findings that the options leave out were removed
    apply_baselines([updated if item is previous else item for item in baselines], result)
    result.stale = [entry for entry in result.stale if entry in stale]
    return len(new), len(previous.known) - len(current)


def choose_baselines(
    references: Sequence[str | Path], *, api: ApiName, version: str, creates: bool = False, skips_others: bool = False
) -> tuple[list[Baseline], list[str]]:
    """Return the baselines for a target, and notes for the user on them. Raises InputError.

    Without references it is the one that comes with oceanmock for the version. A file that does not exist is an empty
    baseline if the run ``creates`` it. ``skips_others`` leaves out baselines of other APIs.
    """
    if not references:
        shipped = [item for item in map(load_baseline, shipped_names()) if item.api == api]
        fitting = [item for item in shipped if item.fits(version)]
        if fitting or not shipped:
            return fitting[:1], []
        note = f"there is no baseline for {api} {version or 'of unknown version'}; most deviations of another version"
        return [], [f"{note} probably apply: --baseline {shipped[-1].name}."]
    baselines, notes, rules = list[Baseline](), list[str](), list(all_rules())
    for reference in references:
        if reference == "none":
            continue
        if creates and is_path(reference) and not Path(reference).exists():
            release = (version.partition("-")[0],) if version else ()
            baselines.append(Baseline(Path(reference).as_posix(), api, release))
            continue
        loaded = load_baseline(reference)
        if loaded.api != api:
            if skips_others:
                continue
            raise InputError(f"the baseline {reference} is for {loaded.api}, not for {api}.")
        baselines.append(loaded)
        if not loaded.fits(version):
            state = f"is {version}" if version else "does not give its version"
            notes.append(f"baseline {reference}: for {', '.join(loaded.versions)}; the target {state}.")
        for rule in sorted({entry.rule for entry in loaded.known} - set(rules)):
            hint = did_you_mean(rule, rules)
            notes.append(f"baseline {reference}: there is no rule {rule!r}. {hint}".rstrip())
    return baselines, notes


def shipped_names() -> list[str]:
    """Return the names of the baselines that come with oceanmock."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def is_path(reference: str | Path) -> bool:
    """Return whether a reference is a file's path, existing or not, rather than a name."""
    path = Path(reference)
    return path.suffix in (".yaml", ".yml") or path.name != str(reference)


def load_baseline(reference: str | Path) -> Baseline:
    """Return the baseline of a name or a file. Raises InputError if there is none, or with every mistake in it."""
    path = Path(reference) if is_path(reference) else FOLDER / f"{reference}.yaml"
    if not path.is_file():
        if is_path(reference):
            raise InputError(f"there is no baseline file {path}. `--update-baseline` creates it.")
        hint = suggest(reference, [*shipped_names(), "none", "a file's path (*.yaml)"])
        raise InputError(f"there is no baseline {str(reference)!r}. {hint}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the baseline {path} cannot be read: {error}") from error
    return _read(Document(text, str(path)), path.stem if path.parent == FOLDER else path.as_posix())


def _read(document: Document, name: str) -> Baseline:
    """Return a file's baseline. Raises ScenarioError with every mistake in it."""
    data, issues = document.data, list[Issue]()
    if not isinstance(data, dict):
        issue = Issue((), "wrong-type", "a baseline is a mapping with `api` and `known`")
        raise ScenarioError([document.locate(issue)])
    baseline: Baseline | None = None
    try:
        baseline = TypeAdapter(Baseline).validate_python({**data, "name": name})
    except ValidationError as refused:
        issues += [_issue(error, document) for error in refused.errors()]
    if not any(issue.loc[:1] == ("api",) for issue in issues) and "api" in data:
        names = [item.id for item in operations_of(api_named(data["api"]).spec)]
        entries = data.get("known")
        for place, entry in enumerate(entries if isinstance(entries, list) else ()):
            operation = entry.get("operation") if isinstance(entry, dict) else None
            if isinstance(operation, str) and operation not in (ANY, "", *names):
                hint = did_you_mean(operation, names) or f"`{ANY}` means any."
                what = f"the contract has no operation {operation!r}"
                issues.append(Issue(("known", place, "operation"), "unknown-operation", what, hint))
    diagnostics = document.duplicates + [document.locate(issue) for issue in issues]
    if diagnostics or baseline is None:
        raise ScenarioError(diagnostics)
    return baseline


def _issue(error: ErrorDetails, document: Document) -> Issue:
    loc, wording = error["loc"], Wording("the contract", text_at=document.text_at)
    if error["type"] == "unexpected_keyword_argument":
        keys = ("api", "versions", "known") if len(loc) == 1 else tuple(Known.__annotations__)
        hint = suggest(loc[-1], keys)
        return Issue(loc, "unknown-key", f"there is no key {loc[-1]!r}", hint, at_key=True)
    if error["type"] == "missing" and len(loc) == 1:
        return Issue((), "missing-key", f"a baseline has no `{loc[0]}`")
    return explain(error, loc, document.data, wording)


_FILE_HEAD: Final = """\
# Known deviations from the contract, accepted by `oceanmock conform --baseline`.
# Give each the reason to accept it; `--update-baseline` keeps reasons, but no other comments.
"""


def save_baseline(baseline: Baseline, path: Path) -> None:
    """Write a baseline to a file, its entries without empty values. Raises EnvironmentProblem where that fails."""
    versions = {"versions": list(baseline.versions)} if baseline.versions else {}
    data: dict[str, Any] = {"api": baseline.api, **versions, "known": []}
    for entry in map(asdict, baseline.known):
        entry["reason"] = entry.pop("reason")  # is last
        data["known"].append({key: item for key, item in entry.items() if item not in (None, "")})
    text = _FILE_HEAD + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
    with writing(path, "baseline"):
        path.write_text(text, encoding="utf-8")
