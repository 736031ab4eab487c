"""What ``strict`` asks of a test: nothing unexpected came, and everything expected did.

Unexpected is a request that means no operation: no contract has its path, or the path not its
method, and no scenario starts a task on it. An expectation is a fault: one that has struck nothing
was not needed, or its request never came; one by chance is met when it has counted a request. What
a scenario's tasks would have done is no expectation: a client that gives up leaves attempts unused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from oceanmock.client.admin import Json
from oceanmock.client.held import Held
from oceanmock.pytest_plugin.report import entries_of, exchange_text, journal_text
from oceanmock.text import one_line, plural

MOST: Final = 10
_NO_OPERATION: Final = (404, 405)


def complaint(held: Held, api: str) -> str:
    """What is wrong with what was asked of a sandbox, and what was asked; "" if nothing is."""
    entries = entries_of(held)
    unexpected = [each for each in entries if _is_unexpected(each)]
    unmet = [each for each in held.ask("GET", "/faults")["faults"] if not _is_met(each)]
    if not unexpected and not unmet:
        return ""
    asked = journal_text(entries, held.ask("GET")["started"])
    lines = [
        *_unexpected_lines(unexpected, api),
        *_unmet_lines(unmet),
        "all that was asked:",
        asked,
    ]
    return "\n".join([*lines, _ADVICE])


_ADVICE: Final = (
    "This test is strict. @pytest.mark.scenario(strict=False) makes it lenient; "
    "`journal.clear()` and `faults.clear()` forget what is meant to be so."
)


def _is_unexpected(entry: Json) -> bool:
    return not entry["operation"] and not entry["fault"] and entry["status"] in _NO_OPERATION


def _is_met(standing: Json) -> bool:
    by_chance = standing["fault"].get("probability", 1) < 1
    return bool(standing["strikes"] or (by_chance and standing["counted"]))


def _unexpected_lines(entries: Sequence[Json], api: str) -> Iterator[str]:
    if entries:
        yield f"{plural(len(entries), 'request')} to {api} meant no operation:"
    for entry in entries[:MOST]:
        yield f"  {exchange_text(entry)}"
        if entry["refusal"]:
            yield f"    {one_line(entry['refusal'])}"
    if len(entries) > MOST:
        yield f"  … and {len(entries) - MOST} more"


def _unmet_lines(standing: Sequence[Json]) -> Iterator[str]:
    if standing:
        yield f"{len(standing)} fault{'s have' if len(standing) > 1 else ' has'} struck nothing:"
    for each in standing[:MOST]:
        said = ", ".join(_said(key, value) for key, value in each["fault"].items() if key != "api")
        yield f"  {each['name']} ({one_line(said)}) counted {plural(each['counted'], 'request')}"
    if len(standing) > MOST:
        yield f"  … and {len(standing) - MOST} more"


def _said(key: str, value: object) -> str:
    """A key of a fault and its value, in words."""
    if value is True:
        return key
    text = " or ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if key == "operation" else f"{key} {text}"
