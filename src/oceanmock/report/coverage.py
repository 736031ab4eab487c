"""Transition coverage: which transitions of the state machines the clients of a suite have seen.

For each kind (task, subtask; dag, node, sub task) three sorts of things count one each: a *state*,
seen when a response showed it; a *transition*, from a state into a state under an operation
(FAILED → RUNNING/ROLLBACK), seen when two responses in one sandbox showed its ends one after the
other; and an *operator*, seen when one was accepted. The report also names what happened unseen, as
explanations have it. The percentage is of all transitions of the APIs used; what needs an opt-in
(ABORTED) counts once it has happened. It shows what was never seen, not that what was seen was
checked. An exchange that the journal has lost, or keeps only in part (over 64 KiB), is not counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Literal, Self

from oceanmock.api import Api
from oceanmock.engine.machine import TIME, Label, StateMachine, format_label, parse_label
from oceanmock.observations import Observation
from oceanmock.text import plural

Sort = Literal["state", "operator", "transition"]
Standing = Literal["seen", "happened", "requested", "never"]
"""``requested``: an operator that was requested and never accepted."""

SORTS: Final[tuple[Sort, ...]] = ("state", "operator", "transition")


# --- items ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Item:
    """A state, a transition or an operator of a kind: what counts one."""

    kind: str
    sort: Sort
    word: str

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')} {self.word}"


def machines_of(api: Api) -> Mapping[str, StateMachine]:
    """Return the state machine of each kind of an API."""
    machines: Mapping[str, StateMachine] = api.states.MACHINES
    return machines


def items_of(api: Api) -> Mapping[Item, str]:
    """Return all items of an API in order, with the opt-in that each needs, or ""."""
    return _items_of(tuple(machines_of(api).values()))


@cache
def _items_of(machines: tuple[StateMachine, ...]) -> Mapping[Item, str]:
    items: dict[Item, str] = {}
    for machine in machines:
        for item, only in _items(machine):
            items[item] = items.get(item, only) and only
    kinds = [machine.kind for machine in machines]
    in_order = sorted(items, key=lambda item: (kinds.index(item.kind), SORTS.index(item.sort)))
    return {item: items[item] for item in in_order}


def _items(machine: StateMachine) -> Iterator[tuple[Item, str]]:
    """Yield the items of a machine; an operator may be another kind's."""
    for state, _ in machine.initial:
        yield Item(machine.kind, "state", state), ""
    for element in machine.transitions:
        yield Item(machine.kind, "state", element.after[0]), element.only
        yield _transition(machine.kind, element.before, element.after), element.only
        if element.trigger != TIME:
            yield _operator(element.trigger), element.only


def _transition(kind: str, before: Label, after: Label) -> Item:
    return Item(kind, "transition", f"{before[0]} → {format_label(after)}")


def _operator(trigger: str) -> Item:
    kind, _, operator = trigger.partition(".")
    return Item(kind, "operator", operator)


# --- coverage -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """The standing of one API's items, and its sandboxes."""

    sandboxes: int = 0
    scenarios: set[str] = field(default_factory=set)
    standings: dict[Item, Standing] = field(default_factory=dict)

    def note(self, item: Item, standing: Standing) -> None:
        """Keep the better of the item's standing and this one."""
        if _RANK[standing] > _RANK[self.standings.get(item, "never")]:
            self.standings[item] = standing


_RANK: Final[Mapping[Standing, int]] = {"never": 0, "requested": 1, "happened": 2, "seen": 3}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the report, and the colour that it may be written in, or ""."""

    text: str
    colour: str = ""


class Coverage:
    """What a suite's clients have seen of some APIs; those of several processes can be merged."""

    def __init__(self, apis: Sequence[Api]) -> None:
        self._known: Final = {api.name: api for api in apis}
        self._tallies: dict[str, Tally] = {}

    # --- collecting ---

    def add(self, api: str, scenarios: Iterable[str], entries: Iterable[Mapping[str, Any]]) -> None:
        """Add a sandbox that is done: its scenarios, and its journal as the admin API has it."""
        tally = self._of(api)
        tally.sandboxes += 1
        tally.scenarios.update(scenarios)
        previous: dict[tuple[str, str], Label] = {}
        parse = self._known[api].parse
        for entry in sorted(entries, key=lambda element: element["number"]):
            self._add_request(api, entry)
            if _is_good(entry):
                for element in parse.observations(entry["operation"], entry["response_body"]):
                    self._add_observation(api, element, previous)

    def add_explanation(self, api: str, explanation: Mapping[str, Any]) -> None:
        """Add what happened to a task or dag: its explanation as the admin API has it."""
        tally = self._of(api)
        for event in explanation["events"]:
            for item in self._items_of_event(api, event):
                tally.note(item, "happened")

    def merge(self, other: Coverage) -> None:
        """Add another coverage, a worker's for instance."""
        for api, theirs in other._tallies.items():
            tally = self._of(api)
            tally.sandboxes += theirs.sandboxes
            tally.scenarios |= theirs.scenarios
            for item, standing in theirs.standings.items():
                tally.note(item, standing)

    def _of(self, api: str) -> Tally:
        return self._tallies.setdefault(api, Tally())

    def _add_request(self, api: str, entry: Mapping[str, Any]) -> None:
        """Add a requested operator; one whose response was lost was not seen to be accepted."""
        parse = self._known[api].parse
        item = _operator(parse.requested_operation(entry["operation"], entry["request_body"]))
        if item in items_of(self._known[api]):
            self._of(api).note(item, "seen" if _is_good(entry) else "requested")

    def _add_observation(
        self, api: str, observation: Observation, previous: dict[tuple[str, str], Label]
    ) -> None:
        """Add a state; and a transition, if the previous label of the same thing begins it.

        A response that leaves the operation out shows a state, and no end of a transition.
        """
        tally, kind = self._of(api), observation.kind
        state = Item(kind, "state", observation.state)
        if state in items_of(self._known[api]):
            tally.note(state, "seen")
        if observation.operation:
            key, label = (kind, observation.id), observation.label
            before = previous.get(key, label)
            if machines_of(self._known[api])[kind].between(before, label):
                tally.note(_transition(kind, before, label), "seen")
            previous[key] = label

    def _items_of_event(self, api: str, event: Mapping[str, Any]) -> Iterator[Item]:
        """Yield the states and the transition of an event; parts start in their only label."""
        machines, kind = machines_of(self._known[api]), event["kind"]
        labels = [_label(text) for text in (event["from"], event["to"]) if text]
        yield from (Item(kind, "state", state) for state, _ in labels)
        if machines[kind].between(labels[0], labels[-1]):
            yield _transition(kind, labels[0], labels[-1])
        if event["from"] is None:
            for machine in machines.values():
                if len(machine.initial) == 1:
                    yield Item(machine.kind, "state", machine.initial[0][0])

    # --- figures ---

    @property
    def apis(self) -> tuple[str, ...]:
        """Return the names of the APIs that were used."""
        return tuple(api for api in self._known if api in self._tallies)

    def standings(self, api: str) -> dict[Item, Standing]:
        """Return the standing of each item that counts, in order."""
        existing = self._tallies[api].standings if api in self._tallies else {}
        return {
            item: existing.get(item, "never")
            for item, only in items_of(self._known[api]).items()
            if not only or item in existing
        }

    @property
    def counted(self) -> int:
        """Return how many items count."""
        return sum(len(self.standings(api)) for api in self.apis)

    @property
    def seen(self) -> int:
        """Return how many items were seen."""
        return self._count("seen")

    @property
    def happened(self) -> int:
        """Return how many items happened, seen or not."""
        return self._count("seen", "happened")

    def _count(self, *standings: Standing) -> int:
        return sum(
            standing in standings for api in self.apis for standing in self.standings(api).values()
        )

    @property
    def percent(self) -> float:
        """Return the percentage that was seen, never rounded up; 0 where no API was used."""
        return _percent(self.seen, self.counted)

    @property
    def missing(self) -> list[tuple[Item, Standing]]:
        """Return the items that were not seen, in order, with their standings."""
        return [
            (item, standing)
            for api in self.apis
            for item, standing in self.standings(api).items()
            if standing != "seen"
        ]

    # --- JSON ---

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict with all figures, which ``of_json`` reads."""
        return {
            "percent": self.percent,
            "counted": self.counted,
            "happened": self.happened,
            "seen": self.seen,
            "apis": {api: self._api_json(api) for api in self.apis},
        }

    def _api_json(self, api: str) -> dict[str, Any]:
        tally, standings = self._tallies[api], self.standings(api)
        kinds: dict[str, dict[str, dict[str, str]]] = {
            kind: {f"{sort}s": {} for sort in SORTS} for kind in machines_of(self._known[api])
        }
        for item, standing in standings.items():
            kinds[item.kind][f"{item.sort}s"][item.word] = standing
        return {
            "sandboxes": tally.sandboxes,
            "scenarios": sorted(tally.scenarios),
            "kinds": kinds,
            "not_counted": {
                str(item): only
                for item, only in items_of(self._known[api]).items()
                if item not in standings
            },
        }

    @classmethod
    def of_json(cls, data: Mapping[str, Any], apis: Sequence[Api]) -> Self:
        """Return the coverage that ``to_json`` has written; unknown items are left out."""
        coverage = cls(apis)
        for api, theirs in data["apis"].items():
            tally = coverage._of(api)
            tally.sandboxes = theirs["sandboxes"]
            tally.scenarios = set(theirs["scenarios"])
            for item in items_of(coverage._known[api]):
                kind = theirs["kinds"].get(item.kind, {})
                tally.note(item, kind.get(f"{item.sort}s", {}).get(item.word, "never"))
        return coverage

    # --- the report ---

    def lines(self) -> list[Line]:
        """Return the report for a terminal: a table, and then what is missing, by name."""
        if not self.apis:
            return [Line("Transition coverage: no sandbox was used.")]
        return [*self._headlines(), Line(""), *self._table(), *self._missing_lines()]

    def text(self) -> str:
        """Return the report without colours, each line with its line feed."""
        return "".join(f"{line.text}\n" for line in self.lines())

    def _headlines(self) -> Iterator[Line]:
        titles = " and ".join(self._known[api].title for api in self.apis)
        count = sum(self._tallies[api].sandboxes for api in self.apis)
        over = plural(count, "sandbox", "sandboxes")
        figures = f"{self.percent:g} % ({self.seen} of {self.counted})"
        yield Line(f"Transition coverage of {titles}: {figures}, {over}", "bold")
        seen = f"{_percent(self.seen, self.happened):g} % ({self.seen} of {self.happened})"
        yield Line(f"Of what happened there, clients saw {seen}.")

    def _table(self) -> Iterator[Line]:
        yield Line(f"{'':<10}{'states':>10}{'operators':>12}{'transitions':>14}")
        for api in self.apis:
            standings = self.standings(api)
            for kind in machines_of(self._known[api]):
                of_kind = {i: standing for i, standing in standings.items() if i.kind == kind}
                cells = [_cell(of_kind, sort) for sort in SORTS]
                row = f"{kind.replace('_', ' '):<10}{cells[0]:>10}{cells[1]:>12}{cells[2]:>14}"
                yield Line(row, "green" if set(of_kind.values()) == {"seen"} else "")

    def _missing_lines(self) -> Iterator[Line]:
        """Yield what is missing; first what happened unseen."""
        for standing, phrase in _PHRASES.items():
            colour = "yellow" if standing == "happened" else "red"
            texts = [text for api in self.apis for text in _texts(self.standings(api), standing)]
            yield from (Line("") for _ in texts[:1])
            yield from (Line(text.format(phrase=phrase), colour) for text in texts)


_PHRASES: Final[Mapping[Standing, str]] = {
    "happened": "happened, never read",
    "requested": "requested, never accepted",
    "never": "never happened",
}


def _texts(standings: Mapping[Item, Standing], standing: Standing) -> Iterator[str]:
    """Yield a line for each item with a standing.

    Transitions are counted with the state or the operation that explains all of them.
    """
    heads = {i: _head(i, standings) for i, s in standings.items() if s == standing}
    counts = Counter(head for item, head in heads.items() if item.sort == "transition")
    for head in dict.fromkeys(heads.values()):
        is_transition = " → " in head
        count = f", {plural(counts[head], 'transition')}" if counts[head] else ""
        is_unrequested = standing == "never" and any(
            item.sort == "operator" and str(item) == head for item in heads
        )
        phrase = "never requested" if is_unrequested else "{phrase}"
        yield f"{head}: {phrase}{'' if is_transition else count}"


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
        standings[element]
        for element in standings
        if (element.kind, element.sort) == (item.kind, item.sort)
        and element.word.endswith(f"/{operation}")
    }
    return f"{item.kind.replace('_', ' ')} under {operation}" if len(akin) == 1 else str(item)


def _percent(part: int, whole: int) -> float:
    """Return a percentage to one place, never rounded up."""
    return math.floor(1000 * part / whole) / 10 if whole else 0.0


def _cell(standings: Mapping[Item, Standing], sort: Sort) -> str:
    of_sort = [standing for item, standing in standings.items() if item.sort == sort]
    return f"{of_sort.count('seen')}/{len(of_sort)}" if of_sort else "–"


def _is_good(entry: Mapping[str, Any]) -> bool:
    return entry["status"] is not None and entry["status"] < 300


def _label(text: str) -> Label:
    """Return the label of an event's text, which may name a stage after it."""
    return parse_label(text.partition(" ")[0])
