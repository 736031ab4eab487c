"""Results as a terminal shows them: what was found, what is missing, what was done, what it means.

Nothing is markup: a server's answer cannot colour, move or erase anything. Commands to paste are
printed unwrapped. On anything but a terminal rich leaves colours out by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from rich import box
from rich.console import Console, RenderableType
from rich.rule import Rule as Line
from rich.table import Table
from rich.text import Text

from oceanmock.checks import CheckResult
from oceanmock.conformance.model import FAILED, INCOMPLETE, INTERRUPTED, PASSED, Result
from oceanmock.conformance.reports import texts
from oceanmock.text import format_elapsed, plural

MOST: Final = 20
"""How many findings are told in full, and how many changes one by one."""
STYLES: Final = {PASSED: "green", FAILED: "red", INCOMPLETE: "yellow", INTERRUPTED: "magenta"}


def print_results(results: Sequence[Result], console: Console) -> None:
    """Prints the summary of each run, and what the exit code means."""
    for result in results:
        for part in _parts(result):
            console.print(part, soft_wrap=isinstance(part, Text), highlight=False)
    code = texts.exit_code(results)
    word, means = texts.VERDICTS[code]
    told = Text.assemble((word, f"bold {STYLES[code]}"), f" (exit code {code}): {means}.")
    console.print(told, soft_wrap=True, highlight=False)


def _parts(result: Result) -> Iterator[RenderableType]:
    """A run's summary, from its head to how it is repeated."""
    name = f"{texts.called(result)} at {texts.line(result.target)}"
    yield Line(Text(name, style="bold"), style="dim", align="left", characters="─")
    yield Text()
    yield _table_of("Operations × statuses", _matrix(result))
    yield Text()
    yield _table_of("Rules", _rules(result))
    yield Text()
    yield from _findings(result)
    yield from _stories(result)
    yield from _known(result)
    yield from _stale(result)
    yield from _missing(result)
    yield from _changes(result)
    yield from _outcome(result)


def _table(*heads: str, numbers: int = 0) -> Table:
    """An empty table; its last columns are numbers."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    for place, head in enumerate(heads):
        is_number = place >= len(heads) - numbers
        table.add_column(head, justify="right" if is_number else "left", no_wrap=is_number)
    return table


def _table_of(title: str, table: Table) -> Table:
    table.title, table.title_style, table.title_justify = title, "bold", "left"
    return table


def _text(text: object, style: str = "") -> Text:
    return Text(texts.line(str(text)), style=style)


# --- tables ---------------------------------------------------------------------------------------


def _matrix(result: Result) -> Table:
    statuses = texts.statuses_of(result)
    missing = texts.missing_of(result)
    names = dict.fromkeys([*result.statuses, *(each.operation for each in result.missing)])
    heads = [texts.status_name(each) for each in statuses]
    table = _table("operation", *heads, numbers=len(heads))
    for name in names:
        seen = result.statuses.get(name, Counter())
        cells = [_cell(seen[each], is_missing=(name, each) in missing) for each in statuses]
        table.add_row(_text(name), *cells)
    return table


def _cell(times: int, *, is_missing: bool) -> Text:
    if times:
        return Text(f"{times:,}")
    return Text("missing", style="yellow") if is_missing else Text("·", style="dim")


def _rules(result: Result) -> Table:
    table = _table("rule", "looked at", "broken", "known", numbers=3)
    for each in texts.rule_lines(result):
        looked = f"{each.looked:,}" if each.looked else "never"
        style = "red" if each.broken else "" if each.looked else "dim"
        table.add_row(
            _text(each.rule, style), looked, str(each.broken or "·"), str(each.known or "·")
        )
    return table


# --- lists ----------------------------------------------------------------------------------------


def _findings(result: Result) -> Iterator[RenderableType]:
    if not result.findings:
        return
    yield Text(f"Findings ({len(result.findings):,})", style="bold red")
    for place, finding in enumerate(result.findings[:MOST], 1):
        yield from _finding(place, finding)
    rest = Counter(each.rule for each in result.findings[MOST:])
    if rest:
        told = ", ".join(f"{texts.line(rule)} ×{times:,}" for rule, times in rest.most_common())
        yield Text(f"  … and {sum(rest.values()):,} more, in the reports: {told}")
    yield Text()


def _finding(place: int, finding: CheckResult) -> Iterator[RenderableType]:
    """Breadcrumb, sentence, source, and the command that asks again."""
    yield Text.assemble(
        f"  {place}. ", _text(finding.rule, "bold"), "  ", _text(finding.breadcrumb, "cyan")
    )
    yield Text.assemble("     ", _text(finding.message))
    yield Text.assemble("     ", _text(f"source: {finding.source}", "dim"))
    for each in texts.clean(finding.curl).splitlines():
        yield Text(f"     {each}", style="dim")


def _stories(result: Result) -> Iterator[RenderableType]:
    marks = {"held": ("✓", "green"), "failed": ("✗", "red"), "not reached": ("·", "dim")}
    for name, steps in result.stories.items():
        yield Text.assemble(("Story ", "bold"), _text(name, "bold"))
        for step in steps:
            mark, style = marks[step.outcome]
            took = f" in {format_elapsed(step.took)}" if step.took else ""
            detail = f": {step.detail}" if step.detail else ""
            told = _text(f"{step.text} ({step.outcome}{took}){detail}")
            yield Text.assemble(f"  {mark} ", told, style=style)
        yield Text()


def _known(result: Result) -> Iterator[RenderableType]:
    if not result.known:
        return
    kinds: dict[tuple[str, str], list[str]] = {}
    for each in result.known:
        kinds.setdefault((each.rule, each.known), []).append(each.operation)
    table = _table("rule", "operations", "reason")
    for (rule, reason), operations in kinds.items():
        names = list(dict.fromkeys(each or "no operation" for each in operations))
        told = ", ".join(names) if len(names) == 1 else f"{len(names)} operations"
        table.add_row(_text(rule), _text(told), _text(reason))
    where = texts.line(", ".join(result.baselines))
    yield _table_of(f"Known deviations ({len(result.known):,}), let pass by {where}", table)
    yield Text()


def _stale(result: Result) -> Iterator[RenderableType]:
    if not result.stale:
        return
    table = _table("rule", "operation", "reason")
    for each in result.stale:
        table.add_row(_text(each.rule), _text(each.operation), _text(each.reason))
    yield _table_of("Stale: in the baseline, and did not occur", table)
    yield Text()


def _missing(result: Result) -> Iterator[RenderableType]:
    if not result.missing:
        return
    table = _table("operation", "status", "how to see it")
    for each in result.missing:
        table.add_row(_text(each.operation), str(each.status), _text(each.hint))
    yield _table_of("Missing: has to be seen, and was not", table)
    yield Text()


def _changes(result: Result) -> Iterator[RenderableType]:
    """The calls that were accepted, and how many there were of each."""
    if not result.changes:
        return
    accepted = [each for each in result.changes if texts.is_accepted(each)]
    head = f"Changes made ({len(accepted):,} of {plural(len(result.changes), 'call')} accepted)"
    yield Text(head, style="bold")
    for each in accepted[:MOST]:
        yield Text(f"  {texts.request_line(each)} → {texts.answer_line(each)}")
    if len(accepted) > MOST:
        yield Text(f"  … and {len(accepted) - MOST:,} more, in the reports")
    kinds = Counter(each.operation or "no operation" for each in result.changes)
    told = ", ".join(f"{texts.line(name)} ×{times:,}" for name, times in kinds.most_common())
    yield Text.assemble(("  calls: ", "dim"), told)
    yield Text()


def _outcome(result: Result) -> Iterator[RenderableType]:
    phases = " · ".join(f"{name} {format_elapsed(took)}" for name, took in result.phases.items())
    rows = (
        ("found", texts.headline(result)),
        ("asked", f"{plural(result.asked, 'request')} in {format_elapsed(result.took)}"),
        ("phases", phases),
        ("mode", f"{texts.mode(result)}, seed {result.seed}"),
        ("again", result.command),
    )
    for name, value in rows:
        if value:
            yield Text.assemble((f"{name:<8}", "dim"), _text(value))
    yield Text()
