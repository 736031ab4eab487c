"""Reports of sandboxes: the last requests, the tasks and their states, and what was unexpected.

A report shows what a failed test needs, and is bounded: the last exchanges and a few tasks, first those that requests
were about. The journal masks secrets, and headers are not shown.

Unexpected is a request that matches no operation (no contract has its path or method, and no scenario starts a task on
it), and a fault that affects no request; one with a probability only has to count a request. Attempts of a task that a
client never starts are not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from typing import Any, Final

from oceanmock.clock import SECOND
from oceanmock.engine.faults import FaultStatistics
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.world import TaskItem
from oceanmock.journal import Journal, Query
from oceanmock.journal.entries import body_value
from oceanmock.observations import observations
from oceanmock.text import escape_unprintable, plural

MAX_REPORTED_ENTRIES: Final = 20
MAX_REPORTED_TASKS: Final = 10_000
MAX_BODY_LENGTH: Final = 200
MAX_EXPLAINED_PARTS: Final = 200
"""The parts of all tasks that are explained, but for the first task's."""


def report_of(sandbox: Sandbox, *, max_tasks: int) -> dict[str, Any]:
    """Return the report as JSON, with the explanations and timelines of so many tasks."""
    journal = sandbox.journal
    apis: dict[str, Any] = {api.name: api for api in sandbox.apis}
    ids = journal.ids()
    items = ((api, item) for api in apis.values() for item in sandbox.worlds[api.name].items())
    tasks = [*islice(items, MAX_REPORTED_TASKS)]
    tasks.sort(key=lambda task: task[1].id not in ids)
    max_tasks = min(max_tasks, _tasks_to_explain(sandbox, tasks[:max_tasks]))
    return {
        "requests": journal.count(),
        "journal": "\n".join(_journal_lines(journal, apis, since=sandbox.started)),
        "tasks": [
            {
                "api": api.name,
                "title": f"{api.root.title} {item.number} {escape_unprintable(item.name)}",
                "state": item.state,
                "explanation": api.module("explain").explain(sandbox, item.id).text(),
                "timeline": api.module("explain").draw_timeline(sandbox, item.id),
            }
            for api, item in islice(tasks, max_tasks)
        ],
        "other_tasks": [f"{item.number} {item.state}" for _, item in tasks[max_tasks:]],
        "unexpected_requests": [
            f"{entry}\n    {escape_unprintable(entry.refusal)}" if entry.refusal else str(entry)
            for entry in journal.entries(Query(operation=""))
            if not (entry.fault or entry.stub) and entry.status in (404, 405)
        ],
        "unused_faults": [
            _fault_text(fault)
            for fault in sandbox.faults()
            if not fault.affected and (fault.fault.probability == 1 or not fault.calls)
        ],
    }


def _tasks_to_explain(sandbox: Sandbox, tasks: Sequence[tuple[Any, TaskItem]]) -> int:
    """Return how many of the tasks, at least one, have together as many parts as are explained."""
    sizes = (len(sandbox.worlds[api.name].item(item.id).parts or ()) for api, item in tasks)
    return max(1, sum(size <= MAX_EXPLAINED_PARTS for size in accumulate(sizes)))


def report_text(report: dict[str, Any]) -> str:
    """Return a report for people."""
    parts = [f"{plural(report['requests'], 'request')}\n{report['journal']}".rstrip()]
    parts += [f"{task['explanation']}\n{task['timeline']}".rstrip() for task in report["tasks"]]
    for key in ("other_tasks", "unexpected_requests", "unused_faults"):
        if report[key]:
            parts.append("\n  ".join([f"{key.replace('_', ' ')}:", *report[key]]))
    return "\n\n".join(parts) + "\n"


def _journal_lines(journal: Journal, apis: dict[str, Any], *, since: int) -> Iterator[str]:
    """Yield the last exchanges, at the seconds since the sandbox started."""
    earlier = journal.count() - MAX_REPORTED_ENTRIES
    if earlier > 0:
        yield f"  … {earlier} earlier"
    for entry in journal.entries(after=journal.last - MAX_REPORTED_ENTRIES):
        exchange, refusal = str(entry), escape_unprintable(entry.refusal)
        body = body_value(entry.response_body)[1]
        observed = observations(apis[entry.api], entry.operation, body)
        wholes = [item for item in observed if not item.parent]
        state = ""
        if wholes:
            label = "/".join(filter(None, wholes[0].label))
            more = f" and {len(wholes) - 1} more" if len(wholes) > 1 else ""
            state = f": {escape_unprintable(label)}{more}"
        yield f"{entry.number:>4} {(entry.at - since) / SECOND:9.3f} s  {exchange}{state}"
        if entry.request_body:
            sent = body_value(entry.request_body)[1]
            text = sent if isinstance(sent, str) else json.dumps(sent, ensure_ascii=False)
            yield f"{'':18}with {escape_unprintable(text[:MAX_BODY_LENGTH])}"
        if refusal and refusal not in exchange:
            yield f"{'':18}{refusal}"


def _fault_text(statistics: FaultStatistics) -> str:
    """Return a fault with its keys, for people."""
    keys = []
    for key, value in statistics.fault.to_json().items():
        text = " or ".join(map(str, value)) if isinstance(value, list) else str(value)
        if key != "api":
            keys.append(key if value is True else text if key == "operation" else f"{key} {text}")
    count = plural(statistics.calls, "request")
    return f"{statistics.name} ({escape_unprintable(', '.join(keys))}) counted {count}"
