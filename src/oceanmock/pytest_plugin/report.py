"""Report a test's sandboxes: what happened in them when it fails, and what strict mode refuses.

Everything is read from the admin API while the sandbox is open, and bounded: the last exchanges and
a few tasks, first those that the test's requests were about. The journal masks secrets, and headers
are not shown. A report never fails a test in another way: it says why something cannot be shown.

Strict mode refuses a request that matches no operation (no contract has its path or method, and no
scenario starts a task on it), and a fault that affects no request; one with a probability only has
to count a request. Attempts of a task that a client never starts are no violation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from oceanmock.apis import api_named
from oceanmock.controls import Json, datetime_of
from oceanmock.errors import OceanmockError
from oceanmock.handles import SandboxHandle
from oceanmock.text import escape_unprintable, plural

MAX_EXCHANGES: Final = 20
MAX_TASKS: Final = 4
MAX_SANDBOXES: Final = 3
MAX_BODY_LENGTH: Final = 200
MAX_VIOLATIONS: Final = 10
JOURNAL_LIMIT: Final = 1000
NO_OPERATION: Final = (404, 405)
ADVICE: Final = (
    "This test is strict. @pytest.mark.scenario(strict=False) makes it lenient; "
    "`journal.clear()` and `faults.clear()` forget what is meant to be so."
)


# --- a failed test --------------------------------------------------------------------------------


def failure_sections(
    sandboxes: Sequence[SandboxHandle], failure: str, *, is_setup: bool
) -> Iterator[tuple[str, str]]:
    """Yield a title and a text for each journal and task, but not what the failure shows."""
    apis = [sandbox.API.name for sandbox in sandboxes]
    for sandbox in sandboxes[:MAX_SANDBOXES]:
        api = sandbox.API.name
        label = api if apis.count(api) == 1 else f"{api}, {sandbox.name}"
        try:
            yield from _sandbox_sections(sandbox, label, failure=failure, is_setup=is_setup)
        except OceanmockError as error:
            yield f"oceanmock ({label})", f"what happened cannot be told: {error}"
    if rest := sandboxes[MAX_SANDBOXES:]:
        names = ", ".join(sandbox.name for sandbox in rest)
        yield f"oceanmock: {len(rest)} more sandboxes", names


def _sandbox_sections(
    sandbox: SandboxHandle, label: str, *, failure: str, is_setup: bool
) -> Iterator[tuple[str, str]]:
    entries = journal_of(sandbox)
    if is_setup and not entries:
        return  # it was only just made
    yield f"oceanmock journal ({label})", _journal_text(sandbox, entries)
    rows = sandbox.rows()
    ids = {id for entry in entries for id in entry["ids"].values()}
    chosen = sorted(rows, key=lambda row: row["id"] not in ids)[:MAX_TASKS]
    kind = sandbox.API.root.title
    for row in chosen:
        name = escape_unprintable(row["name"])
        explanation, timeline = sandbox.explain(row, "text"), sandbox.explain(row, "timeline")
        is_known = explanation.partition("\n")[0] in failure
        text = timeline if is_known else f"{explanation}\n{timeline}"
        yield f"oceanmock {kind} {row['number']} {name}: {row['state']}", text
    if rest := [f"{row['number']} {row['state']}" for row in rows if row not in chosen]:
        yield f"oceanmock: {len(rest)} more {kind}s", ", ".join(rest)


def journal_of(sandbox: SandboxHandle) -> list[Json]:
    """Return the whole journal of a sandbox, as JSON of the admin API."""
    page = sandbox.admin.ask("GET", "/journal", query={"limit": JOURNAL_LIMIT})
    entries: list[Json] = page["entries"]
    return entries


def _journal_text(sandbox: SandboxHandle, entries: Sequence[Json]) -> str:
    """Return the last exchanges, a line for each, at the seconds since the sandbox started."""
    if not entries:
        return "nothing was asked"
    earlier = len(entries) - MAX_EXCHANGES
    lines = [f"  … {earlier} earlier"] if earlier > 0 else []
    started = datetime_of(sandbox.json()["started"])
    for entry in entries[-MAX_EXCHANGES:]:
        at = (datetime_of(entry["at"]) - started).total_seconds()
        exchange = _exchange_text(entry)
        lines.append(f"{entry['number']:>4} {at:9.3f} s  {exchange}{_observed_text(entry)}")
        body, refusal = entry["request_body"], escape_unprintable(entry["refusal"])
        if entry["request_body_kind"] != "none":
            text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
            lines.append(f"{'':18}with {escape_unprintable(text[:MAX_BODY_LENGTH])}")
        if refusal and refusal not in exchange:
            lines.append(f"{'':18}{refusal}")
    return "\n".join(lines)


def _exchange_text(entry: Json) -> str:
    """Return an exchange on one line, as the journal writes it."""
    target = f"{entry['path']}?{entry['query']}" if entry["query"] else entry["path"]
    by = f" by {entry['caller']}" if entry["caller"] else ""
    answered = "cut off" if entry["status"] is None else f"answered {entry['status']}"
    fault = f", struck by {entry['fault']}" if entry["fault"] else ""
    return escape_unprintable(f"{entry['method']} {target}{by}, {answered}{fault}")


def _observed_text(entry: Json) -> str:
    """Return the state of the first task that the response shows, and how many more there are."""
    observed = api_named(entry["api"]).parse.observations(
        entry["operation"], entry["response_body"]
    )
    wholes = [observation for observation in observed if not observation.parent]
    if not wholes:
        return ""
    state = "/".join(filter(None, [wholes[0].state, wholes[0].operation]))
    more = f" and {len(wholes) - 1} more" if len(wholes) > 1 else ""
    return f": {escape_unprintable(state)}{more}"


# --- strict mode ----------------------------------------------------------------------------------


def strict_violations(sandbox: SandboxHandle) -> str:
    """Return the strict-mode violations and the request log, or "" if there are none."""
    entries = journal_of(sandbox)
    requests = [entry for entry in entries if _is_unexpected(entry)]
    faults = sandbox.admin.ask("GET", "/faults")["faults"]
    unused = [fault for fault in faults if not _is_used(fault)]
    if not requests and not unused:
        return ""
    lines: list[str] = []
    if requests:
        count = plural(len(requests), "request")
        lines.append(f"{count} to {sandbox.API.name} meant no operation:")
        lines += _limited([_request_text(entry) for entry in requests])
    if unused:
        verb = "have" if len(unused) > 1 else "has"
        lines.append(f"{plural(len(unused), 'fault')} {verb} struck nothing:")
        lines += _limited([_fault_text(fault) for fault in unused])
    log = _journal_text(sandbox, entries)
    return "\n".join([*lines, "all that was asked:", log, ADVICE])


def _is_unexpected(entry: Json) -> bool:
    return not entry["operation"] and not entry["fault"] and entry["status"] in NO_OPERATION


def _is_used(fault: Json) -> bool:
    is_random = fault["fault"].get("probability", 1) < 1
    return bool(fault["strikes"] or (is_random and fault["counted"]))


def _limited(texts: Sequence[str]) -> Iterable[str]:
    yield from texts[:MAX_VIOLATIONS]
    if len(texts) > MAX_VIOLATIONS:
        yield f"  … and {len(texts) - MAX_VIOLATIONS} more"


def _request_text(entry: Json) -> str:
    refusal = f"\n    {escape_unprintable(entry['refusal'])}" if entry["refusal"] else ""
    return f"  {_exchange_text(entry)}{refusal}"


def _fault_text(fault: Json) -> str:
    keys = [_key_text(key, value) for key, value in fault["fault"].items() if key != "api"]
    count = plural(fault["counted"], "request")
    return f"  {fault['name']} ({escape_unprintable(', '.join(keys))}) counted {count}"


def _key_text(key: str, value: object) -> str:
    """Return a key of a fault and its value, for people."""
    if value is True:
        return key
    text = " or ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if key == "operation" else f"{key} {text}"
