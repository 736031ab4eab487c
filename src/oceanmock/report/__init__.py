"""Reports of sandboxes, and coverage of the transitions by the clients of a suite.

A report is for a failed test. It is bounded: the last exchanges, without headers, and a few tasks, first those that
requests named. It lists requests that match no operation, and faults that affected no request; a fault with a
probability is listed only if it counted none. It does not list attempts that no client started.

Transition coverage counts for each kind the *states* that responses showed; the *transitions* under an operation
(FAILED → RUNNING/ROLLBACK) whose ends two successive responses in one sandbox showed; and the *operators* that were
accepted. It names what happened unseen, according to the explanations. The percentage is of all states, transitions and
operators of the APIs used; those that need an opt-in (ABORTED) count once they have happened. It does not show that a
client checked what it saw. Exchanges that the journal has lost, or keeps only in part (over 64 KiB), are not counted.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, islice, product
from typing import Any, Final, Literal

from oceanmock.api import Api
from oceanmock.clock import SECOND
from oceanmock.engine.faults import FaultStatistics
from oceanmock.engine.machine import TIME, Label, format_label, parse_label
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.world import TaskItem
from oceanmock.errors import NoSuchTask
from oceanmock.journal import Journal
from oceanmock.journal.entries import Entry, Query, body_value
from oceanmock.observations import observations, requested_operation
from oceanmock.text import escape_unprintable, plural

MAX_REPORTED_ENTRIES: Final = 20
MAX_REPORTED_TASKS: Final = 10_000
MAX_BODY_LENGTH: Final = 200
MAX_EXPLAINED_PARTS: Final = 200  # the most parts of all explained tasks; the first task may have more


def report_of(sandbox: Sandbox, *, max_tasks: int) -> dict[str, Any]:
    """Return the report as JSON, with explanations and timelines of at most ``max_tasks`` tasks."""
    journal = sandbox.journal
    apis: dict[str, Any] = {api.name: api for api in sandbox.apis}
    ids = journal.ids()
    items = ((api, item) for api in apis.values() for item in sandbox.worlds[api.name].items())
    listed = {(api.name, item.id): (api, item) for api, item in islice(items, MAX_REPORTED_TASKS)}
    for api, id in product(apis.values(), sorted(ids) if len(listed) == MAX_REPORTED_TASKS else ()):
        with suppress(ValueError, NoSuchTask):  # it is one of another API, or of a part
            item = sandbox.worlds[api.name].item(id)
            listed.setdefault((api.name, item.id), (api, item))
    tasks = sorted(listed.values(), key=lambda task: task[1].id not in ids)
    # At least one, and no more than have MAX_EXPLAINED_PARTS together.
    sizes = (len(sandbox.worlds[api.name].item(item.id).parts or ()) for api, item in tasks[:max_tasks])
    max_tasks = min(max_tasks, max(1, sum(size <= MAX_EXPLAINED_PARTS for size in accumulate(sizes))))
    return {
        "requests": journal.count(),
        "journal": "\n".join(_journal_lines(journal, apis, since=sandbox.started)),
        "tasks": [
            _task_json(api, item, api.module("explain").explain(sandbox, item.id)) for api, item in tasks[:max_tasks]
        ],
        "other_tasks": [f"{item.number} {item.state}" for _, item in tasks[max_tasks:]],
        "unexpected_requests": [
            f"{entry}\n    {escape_unprintable(entry.refusal)}" if entry.refusal else str(entry)
            for entry in journal.entries(Query({"operation": ""}))
            if not (entry.fault or entry.stub) and entry.status in (404, 405)
        ],
        "unused_faults": [
            _fault_text(fault)
            for fault in sandbox.faults.statistics()
            if not fault.affected and (fault.fault.probability == 1 or not fault.calls)
        ],
    }


def _task_json(api: Api, item: TaskItem, explainer: Any) -> dict[str, Any]:
    return {
        "api": api.name,
        "title": f"{api.root.title} {item.number} {escape_unprintable(item.name)}",
        "state": item.state,
        "explanation": explainer.text(),
        "timeline": explainer.timeline(),
    }


def report_text(report: dict[str, Any]) -> str:
    """Return a report as text."""
    parts = [f"{plural(report['requests'], 'request')}\n{report['journal']}".rstrip()]
    parts += [f"{task['explanation']}\n{task['timeline']}".rstrip() for task in report["tasks"]]
    for key in ("other_tasks", "unexpected_requests", "unused_faults"):
        if report[key]:
            parts.append("\n  ".join([f"{key.replace('_', ' ')}:", *report[key]]))
    return "\n\n".join(parts) + "\n"


def _journal_lines(journal: Journal, apis: dict[str, Any], *, since: int) -> Iterator[str]:
    """Yield the last exchanges, with the seconds since the sandbox started."""
    earlier = journal.count() - MAX_REPORTED_ENTRIES
    if earlier > 0:
        yield f"  … {earlier} earlier"
    for entry in journal.entries(after=journal.last - MAX_REPORTED_ENTRIES):
        exchange, refusal = str(entry), escape_unprintable(entry.refusal)
        state = escape_unprintable(shown_state(apis[entry.api], entry))
        yield f"{entry.number:>4} {(entry.at - since) / SECOND:9.3f} s  {exchange}{state and f': {state}'}"
        if entry.request_body:
            sent = body_value(entry.request_body)[1]
            text = sent if isinstance(sent, str) else json.dumps(sent, ensure_ascii=False)
            yield f"{'':18}with {escape_unprintable(text[:MAX_BODY_LENGTH])}"
        if refusal and refusal not in exchange:
            yield f"{'':18}{refusal}"


def shown_state(api: Api, entry: Entry) -> str:
    """Return the state of the first task or dag in a response, and the number of others; "" if there are none."""
    body = body_value(entry.response_body)[1]
    wholes = [item for item in observations(api, entry.operation, body) if not item.parent]
    if not wholes:
        return ""
    more = f" and {len(wholes) - 1} more" if len(wholes) > 1 else ""
    return "/".join(filter(None, wholes[0].label)) + more


def _fault_text(statistics: FaultStatistics) -> str:
    """Return a fault with its keys as text."""
    keys = []
    for key, value in statistics.fault.to_json().items():
        text = " or ".join(map(str, value)) if isinstance(value, list) else str(value)
        if key != "api":
            keys.append(key if value is True else text if key == "operation" else f"{key} {text}")
    count = plural(statistics.calls, "request")
    return f"{statistics.name} ({escape_unprintable(', '.join(keys))}) counted {count}"


Sort = Literal["state", "operator", "transition"]
Standing = Literal["seen", "happened", "requested", "never"]
"""``requested``: an operator that was requested and never accepted."""

SORTS: Final[tuple[Sort, ...]] = ("state", "operator", "transition")
_RANKS: Final[tuple[Standing, ...]] = ("never", "requested", "happened", "seen")


@dataclass(frozen=True, slots=True)
class Item:
    """A state, a transition or an operator of a kind."""

    kind: str
    sort: Sort
    word: str

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')} {self.word}"


def items_of(api: Api) -> Mapping[Item, str]:
    """Return all items of an API in order, with the opt-in that each needs, or ""."""
    items, kinds = dict[Item, str](), list(api.states.MACHINES)
    for kind, machine in api.states.MACHINES.items():
        for state, _ in machine.initial:
            items[Item(kind, "state", state)] = ""
        for entry in machine.transitions:
            found = [Item(kind, "state", entry.after[0]), _transition(kind, entry.before, entry.after)]
            found += [_operator(entry.trigger)] if entry.trigger != TIME else []  # perhaps one of another kind
            for item in found:
                items[item] = items.get(item, entry.only) and entry.only
    return dict(sorted(items.items(), key=lambda pair: (kinds.index(pair[0].kind), SORTS.index(pair[0].sort))))


def _transition(kind: str, before: Label, after: Label) -> Item:
    return Item(kind, "transition", f"{before[0]} → {format_label(after)}")


def _operator(trigger: str) -> Item:
    kind, _, operator = trigger.partition(".")
    return Item(kind, "operator", operator)


class Coverage:
    """Transition coverage of some APIs; that of other processes can be added."""

    def __init__(self, apis: Sequence[Api]) -> None:
        self._apis: Final = {api.name: api for api in apis}
        self._items: Final = {api.name: items_of(api) for api in apis}
        self._sandboxes = Counter[str]()
        self._scenarios = defaultdict[str, set[str]](set)
        self._standings = defaultdict[str, dict[Item, Standing]](dict)

    def add(self, api: str, scenarios: Iterable[str], entries: Iterable[Mapping[str, Any]]) -> None:
        """Add a sandbox after its last request: its scenarios, and its journal in the form of the admin API."""
        record, machines, items = self._apis[api], self._apis[api].states.MACHINES, self._items[api]
        self._sandboxes[api] += 1
        self._scenarios[api].update(scenarios)
        previous: dict[tuple[str, str], Label] = {}
        for entry in sorted(entries, key=lambda element: element["number"]):
            operation, status = entry["operation"], entry["status"]
            is_good = status is not None and status < 300
            operator = _operator(requested_operation(record, operation, entry["request_body"]))
            if operator in items:  # if its response was lost, the client has not seen it accepted
                self._note(api, operator, "seen" if is_good else "requested")
            if not is_good:
                continue
            for element in observations(record, operation, entry["response_body"]):
                state, label = Item(element.kind, "state", element.state), element.label
                if state in items:
                    self._note(api, state, "seen")
                if element.operation:  # without it a response shows no end of a transition
                    before = previous.get((element.kind, element.id), label)
                    if machines[element.kind].between(before, label):
                        self._note(api, _transition(element.kind, before, label), "seen")
                    previous[element.kind, element.id] = label

    def add_explanation(self, api: str, explanation: Mapping[str, Any]) -> None:
        """Add the events of a task or dag: its explanation in the form of the admin API."""
        machines = self._apis[api].states.MACHINES
        for event in explanation["events"]:
            kind, texts = event["kind"], [text for text in (event["from"], event["to"]) if text]
            labels = [parse_label(text.partition(" ")[0]) for text in texts]  # a stage may follow
            items = [Item(kind, "state", state) for state, _ in labels]
            if machines[kind].between(labels[0], labels[-1]):
                items.append(_transition(kind, labels[0], labels[-1]))
            if event["from"] is None:  # parts start in their only label
                for part, machine in machines.items():
                    if len(machine.initial) == 1:
                        items.append(Item(part, "state", machine.initial[0][0]))
            for item in items:
                self._note(api, item, "happened")

    def _note(self, api: str, item: Item, standing: Standing) -> None:
        """Keep the better of the item's standing and this one."""
        standings = self._standings[api]
        if _RANKS.index(standing) > _RANKS.index(standings.get(item, "never")):
            standings[item] = standing

    @property
    def apis(self) -> tuple[str, ...]:
        """Return the names of the APIs that were used."""
        return tuple(api for api in self._apis if api in self._sandboxes or api in self._standings)

    def standings(self, api: str) -> dict[Item, Standing]:
        """Return the standing of each item that counts, in order."""
        existing, items = self._standings.get(api, {}), self._items[api].items()
        return {item: existing.get(item, "never") for item, only in items if not only or item in existing}

    @property
    def counts(self) -> Counter[Standing]:
        """Return how many of the items that count have each standing."""
        return Counter(standing for api in self.apis for standing in self.standings(api).values())

    @property
    def percent(self) -> float:
        """Return the percentage that was seen, never rounded up; 0 if no API was used."""
        counts = self.counts
        return _percent(counts["seen"], counts.total())

    def to_json(self) -> dict[str, Any]:
        """Return all figures as a plain dict, which ``add_json`` reads."""
        apis = {}
        for api in self.apis:
            standings = self.standings(api)
            kinds: dict[str, dict[str, dict[str, str]]]
            kinds = {kind: {f"{sort}s": {} for sort in SORTS} for kind in self._apis[api].states.MACHINES}
            for item, standing in standings.items():
                kinds[item.kind][f"{item.sort}s"][item.word] = standing
            apis[api] = {
                "sandboxes": self._sandboxes[api],
                "scenarios": sorted(self._scenarios[api]),
                "kinds": kinds,
                "not_counted": {str(item): only for item, only in self._items[api].items() if item not in standings},
            }
        counts = self.counts
        happened = counts["seen"] + counts["happened"]
        figures = {"counted": counts.total(), "happened": happened, "seen": counts["seen"]}
        return {"percent": self.percent, **figures, "apis": apis}

    def add_json(self, data: Mapping[str, Any]) -> None:
        """Add the ``to_json`` of another coverage, such as that of a worker, without unknown items."""
        for api, figures in data["apis"].items():
            self._sandboxes[api] += figures["sandboxes"]
            self._scenarios[api].update(figures["scenarios"])
            for item in self._items[api]:
                of_kind = figures["kinds"].get(item.kind, {})
                self._note(api, item, of_kind.get(f"{item.sort}s", {}).get(item.word, "never"))

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield the lines for a terminal, each with its colour or "": a table, then the missing items by name."""
        if not self.apis:
            yield "Transition coverage: no sandbox was used.", ""
            return
        titles = " and ".join(self._apis[api].title for api in self.apis)
        count = plural(sum(self._sandboxes[api] for api in self.apis), "sandbox", "sandboxes")
        counts, seen = self.counts, self.counts["seen"]
        happened = seen + counts["happened"]
        yield f"Transition coverage of {titles}: {self.percent:g} % ({seen} of {counts.total()}), {count}", "bold"
        yield f"Of what happened there, clients saw {_percent(seen, happened):g} % ({seen} of {happened}).", ""
        yield "", ""
        yield f"{'':<10}{'states':>10}{'operators':>12}{'transitions':>14}", ""
        for api in self.apis:
            standings = self.standings(api)
            for kind in self._apis[api].states.MACHINES:
                row, words = f"{kind.replace('_', ' '):<10}", set()
                for sort, width in zip(SORTS, (10, 12, 14), strict=True):
                    several = [s for i, s in standings.items() if (i.kind, i.sort) == (kind, sort)]
                    words.update(several)
                    cell = f"{several.count('seen')}/{len(several)}" if several else "–"
                    row += f"{cell:>{width}}"
                yield row, "green" if words == {"seen"} else ""
        for standing, phrase, colour in (
            ("happened", "happened, never read", "yellow"),
            ("requested", "requested, never accepted", "red"),
            ("never", "never happened", "red"),
        ):
            texts = [text for api in self.apis for text in _texts(self.standings(api), standing, phrase)]
            if texts:
                yield "", ""
            yield from ((text, colour) for text in texts)


def _texts(standings: Mapping[Item, Standing], standing: str, phrase: str) -> Iterator[str]:
    """Yield a line for each item with a standing; transitions with the same explanation are counted in one."""
    heads = {item: _head(item, standings) for item, other in standings.items() if other == standing}
    counts = Counter(head for item, head in heads.items() if item.sort == "transition")
    operators = {str(item) for item in heads if item.sort == "operator"}
    for head in dict.fromkeys(heads.values()):
        text = "never requested" if standing == "never" and head in operators else phrase
        is_counted = counts[head] and " → " not in head
        count = f", {plural(counts[head], 'transition')}" if is_counted else ""
        yield f"{head}: {text}{count}"


def _head(item: Item, standings: Mapping[Item, Standing]) -> str:
    """Return the item's text, or of a transition the state or operation that explains it."""
    if item.sort != "transition":
        return str(item)
    before, _, after = item.word.partition(" → ")
    state, _, operation = after.partition("/")
    for element in (state, before):
        of_state = Item(item.kind, "state", element)
        if standings.get(of_state) == standings[item]:
            return str(of_state)
    akin = {
        standing
        for other, standing in standings.items()
        if (other.kind, other.sort) == (item.kind, item.sort) and other.word.endswith(f"/{operation}")
    }
    return f"{item.kind.replace('_', ' ')} under {operation}" if len(akin) == 1 else str(item)


def _percent(part: int, whole: int) -> float:
    """Return a percentage to one place, never rounded up."""
    return math.floor(1000 * part / whole) / 10 if whole else 0.0
