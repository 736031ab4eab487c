"""What a failed test's report tells of its sandboxes: the journal, and each task's timeline.

Everything is asked of the admin API while the sandbox still stands, and bounded: the last exchanges
and a few tasks, first those that the test asked about. Secrets are masked where the journal keeps
them, and headers are not shown. The rule: telling never fails a test in another way; what cannot be
told says why.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from oceanmock.client.admin import Json
from oceanmock.client.clock import instant_of
from oceanmock.client.held import Held
from oceanmock.client.sandbox import Sandbox
from oceanmock.errors import OceanmockError
from oceanmock.observations import observations_of
from oceanmock.text import one_line

Section = tuple[str, str]
"""A title and a text of a report."""

MOST_ENTRIES: Final = 20
MOST_TASKS: Final = 4
MOST_SANDBOXES: Final = 3
MOST_BODY: Final = 200
FORMS: Final = ("text", "timeline")
"""The forms in which a task is explained."""
_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Said:
    """What a failure says of itself: where in the test's life it is, and what is wrong."""

    when: str
    text: str


def sections(sandboxes: Sequence[Sandbox], said: Said) -> Iterator[Section]:
    """The journals of a test's sandboxes, and their tasks; and nothing that is said already."""
    for sandbox in sandboxes[:MOST_SANDBOXES]:
        is_alone = [each.api for each in sandboxes].count(sandbox.api) == 1
        called = sandbox.api if is_alone else f"{sandbox.api}, {sandbox.name}"
        yield from _sections(sandbox.admin, sandbox.api, called, said)
    if left := sandboxes[MOST_SANDBOXES:]:
        yield f"oceanmock: {len(left)} more sandboxes", ", ".join(each.name for each in left)


def _sections(held: Held, api: str, called: str, said: Said) -> Iterator[Section]:
    """What a sandbox tells; nothing of one that was only just made."""
    try:
        entries = entries_of(held)
        if said.when == "setup" and not entries:
            return
        yield f"oceanmock journal ({called})", journal_text(entries, held.ask("GET")["started"])
        yield from _task_sections(held, api, entries, said)
    except OceanmockError as problem:
        yield f"oceanmock ({called})", f"what happened cannot be told: {problem}"


def entries_of(held: Held) -> list[Json]:
    """The whole journal of a sandbox, as the admin API has it."""
    entries: list[Json] = held.ask("GET", "/journal", query={"limit": _PAGE})["entries"]
    return entries


# --- the journal ----------------------------------------------------------------------------------


def journal_text(entries: Sequence[Json], started: str) -> str:
    """The last exchanges, a line for each, at the seconds since the sandbox's clock started."""
    if not entries:
        return "nothing was asked"
    left = len(entries) - MOST_ENTRIES
    more = [f"  … {left} earlier"] if left > 0 else []
    return "\n".join([*more, *_lines(entries[-MOST_ENTRIES:], started)])


def _lines(entries: Iterable[Json], started: str) -> Iterator[str]:
    for entry in entries:
        at = (instant_of(entry["at"]) - instant_of(started)).total_seconds()
        said = exchange_text(entry)
        yield f"{entry['number']:>4} {at:9.3f} s  {said}{_sight_text(entry)}"
        if entry["request_body_kind"] != "none":
            yield f"{'':18}with {_body_text(entry['request_body'])}"
        if entry["refusal"] and entry["refusal"] not in said:
            yield f"{'':18}{one_line(entry['refusal'])}"


def exchange_text(entry: Json) -> str:
    """An exchange on one line, as the journal itself writes it."""
    target = f"{entry['path']}?{entry['query']}" if entry["query"] else entry["path"]
    by = f" by {entry['caller']}" if entry["caller"] else ""
    answered = "cut off" if entry["status"] is None else f"answered {entry['status']}"
    fault = f", struck by {entry['fault']}" if entry["fault"] else ""
    return one_line(f"{entry['method']} {target}{by}, {answered}{fault}")


def _sight_text(entry: Json) -> str:
    """What the client was shown: the task, or what else the answer is about."""
    sightings = [*observations_of(entry["api"], entry["operation"], entry["response_body"])]
    seen = [each for each in sightings if not each.parent]
    texts = ["/".join(filter(None, [each.state, each.operation])) for each in seen[:1]]
    more = f" and {len(seen) - 1} more" if len(seen) > 1 else ""
    return "".join(f": {one_line(text)}{more}" for text in texts)


def _body_text(body: Any) -> str:
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    return one_line(text[:MOST_BODY])


# --- the tasks ------------------------------------------------------------------------------------


def _task_sections(held: Held, api: str, entries: Sequence[Json], said: Said) -> Iterator[Section]:
    tasks = [each for each in held.ask("GET", "/tasks")["tasks"] if each["api"] == api]
    asked = {value for entry in entries for value in entry["ids"].values()}
    chosen = sorted(tasks, key=lambda task: task["id"] not in asked)[:MOST_TASKS]
    kind = "task" if api == "ocp" else "dag"
    for task in chosen:
        title = f"oceanmock {kind} {task['number']} {one_line(task['name'])}: {task['state']}"
        yield title, _task_text(held, api, task["id"], said)
    if left := len(tasks) - len(chosen):
        rest = ", ".join(
            f"{task['number']} {task['state']}" for task in tasks if task not in chosen
        )
        yield f"oceanmock: {left} more {kind}s", one_line(rest)


def _task_text(held: Held, api: str, id: str, said: Said) -> str:
    """Why it is in its state, unless an assertion has said so, and how it came there."""
    path = f"/tasks/{api}/{id}/explain"
    why, life = (held.text(path, query={"format": form}) for form in FORMS)
    return life if why.partition("\n")[0] in said.text else f"{why}\n{life}"
