"""Which transitions the clients of a test suite have seen, out of all that the machines have.

For each kind (task, subtask; dag, node, sub task) three sorts of things count one each: a *state*,
seen when an answer showed it; an *edge*, from a state into a state under an operation (FAILED →
RUNNING/ROLLBACK), seen when two answers to one sandbox showed its ends one after the other; and an
*operator*, seen when one was accepted. Beside that stands what happened and nobody saw, as the
server tells of each life. The percentage is of all that the machines of the APIs used have by
default; what needs an opt-in (ABORTED) counts once it has happened. No suite needs all of it, and
who polls more often sees more: it says what was never met, not that what was met was checked. An
exchange that the journal has lost, or keeps only in part (over 64 KiB), counts for nothing. The
rule: no pytest here, and no file.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Literal, Self

from oceanmock.engine.machine import TIME, Label, StateMachine, format_label, parse_label
from oceanmock.observations import Observation, observations_of, operation_of
from oceanmock.obshell import transitions as obshell_transitions
from oceanmock.ocp import transitions as ocp_transitions
from oceanmock.text import plural

Sort = Literal["state", "operator", "edge"]
Standing = Literal["seen", "happened", "asked", "never"]
"""``happened``: nobody looked. ``asked``: an operator that was asked for and never accepted."""

SORTS: Final[tuple[Sort, ...]] = ("state", "operator", "edge")
MACHINES: Final[Mapping[str, Mapping[str, StateMachine]]] = {
    "ocp": ocp_transitions.MACHINES,
    "obshell": obshell_transitions.MACHINES,
}
CALLED: Final = {"ocp": "OCP", "obshell": "obshell"}


# --- what there is to see -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Item:
    """A state, an edge or an operator of a kind: what counts one."""

    kind: str
    sort: Sort
    word: str

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')} {self.word}"


@cache
def items_of(api: str) -> Mapping[Item, str]:
    """All that an API's machines have, in order; with the opt-in that each needs, or nothing."""
    items: dict[Item, str] = {}
    for machine in MACHINES[api].values():
        for item, only in _items(machine):
            items[item] = items.get(item, only) and only
    kinds = list(MACHINES[api])
    in_order = sorted(items, key=lambda item: (kinds.index(item.kind), SORTS.index(item.sort)))
    return {item: items[item] for item in in_order}


def _items(machine: StateMachine) -> Iterator[tuple[Item, str]]:
    """What each edge of a machine speaks of; an operator may be another kind's."""
    for state, _ in machine.initial:
        yield Item(machine.kind, "state", state), ""
    for edge in machine.transitions:
        yield Item(machine.kind, "state", edge.after[0]), edge.only
        yield _edge(machine.kind, edge.before, edge.after), edge.only
        if edge.trigger != TIME:
            yield _operator(edge.trigger), edge.only


def _edge(kind: str, before: Label, after: Label) -> Item:
    return Item(kind, "edge", f"{before[0]} → {format_label(after)}")


def _operator(call: str) -> Item:
    kind, _, operator = call.partition(".")
    return Item(kind, "operator", operator)


# --- what was seen --------------------------------------------------------------------------------


@dataclass(slots=True)
class Seen:
    """What came of one API's sandboxes, and how many there were."""

    sandboxes: int = 0
    scenarios: set[str] = field(default_factory=set)
    standings: dict[Item, Standing] = field(default_factory=dict)

    def note(self, item: Item, standing: Standing) -> None:
        """Keeps the better of what is known of an item and this."""
        if _RANK[standing] > _RANK[self.standings.get(item, "never")]:
            self.standings[item] = standing


_RANK: Final[Mapping[Standing, int]] = {"never": 0, "asked": 1, "happened": 2, "seen": 3}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the report, and the colour that it may be written in, or nothing."""

    text: str
    colour: str = ""


class Coverage:
    """What a suite's clients have seen; several of them, of several processes, make one."""

    def __init__(self) -> None:
        self._seen: dict[str, Seen] = {}

    # --- collecting ---

    def add(self, api: str, scenarios: Iterable[str], entries: Iterable[Mapping[str, Any]]) -> None:
        """A sandbox is done with: its scenarios, and its journal as the admin API has it."""
        seen = self._of(api)
        seen.sandboxes += 1
        seen.scenarios.update(scenarios)
        last: dict[tuple[str, str], Label] = {}
        for entry in sorted(entries, key=lambda each: each["number"]):
            _note_call(seen, api, entry)
            if _is_good(entry):
                for sighting in observations_of(api, entry["operation"], entry["response_body"]):
                    _note_sighting(seen, api, sighting, last)

    def add_lived(self, api: str, explanation: Mapping[str, Any]) -> None:
        """What happened to a task or dag: its explanation as the admin API has it."""
        seen = self._of(api)
        for event in explanation["events"]:
            for item in _items_of_event(api, event):
                seen.note(item, "happened")

    def merge(self, other: Coverage) -> None:
        """Takes over what another one has, a worker's for instance."""
        for api, theirs in other._seen.items():
            seen = self._of(api)
            seen.sandboxes += theirs.sandboxes
            seen.scenarios |= theirs.scenarios
            for item, standing in theirs.standings.items():
                seen.note(item, standing)

    def _of(self, api: str) -> Seen:
        return self._seen.setdefault(api, Seen())

    # --- what it came to ---

    @property
    def apis(self) -> tuple[str, ...]:
        """The APIs that were used."""
        return tuple(api for api in MACHINES if api in self._seen)

    def standings(self, api: str) -> dict[Item, Standing]:
        """What became of each thing that counts, in order."""
        known = self._seen[api].standings if api in self._seen else {}
        return {
            item: known.get(item, "never")
            for item, only in items_of(api).items()
            if not only or item in known
        }

    @property
    def counted(self) -> int:
        """How many things there were to see."""
        return sum(len(self.standings(api)) for api in self.apis)

    @property
    def seen(self) -> int:
        """How many of them were."""
        return self._count("seen")

    @property
    def happened(self) -> int:
        """How many of them came about, seen or not."""
        return self._count("seen", "happened")

    def _count(self, *wanted: Standing) -> int:
        return sum(
            standing in wanted for api in self.apis for standing in self.standings(api).values()
        )

    @property
    def percent(self) -> float:
        """How many of a hundred were seen, never rounded up; 0 where no API was used."""
        return _percent(self.seen, self.counted)

    @property
    def missing(self) -> list[tuple[Item, Standing]]:
        """What was not seen, in order, and how far it got."""
        return [
            (item, standing)
            for api in self.apis
            for item, standing in self.standings(api).items()
            if standing != "seen"
        ]

    # --- written down ---

    def to_json(self) -> dict[str, Any]:
        """As a plain dict, from which it can be made again; and all figures of the report."""
        return {
            "percent": self.percent,
            "counted": self.counted,
            "happened": self.happened,
            "seen": self.seen,
            "apis": {api: self._api_json(api) for api in self.apis},
        }

    def _api_json(self, api: str) -> dict[str, Any]:
        seen, standings = self._seen[api], self.standings(api)
        kinds: dict[str, dict[str, dict[str, str]]] = {
            kind: {f"{sort}s": {} for sort in SORTS} for kind in MACHINES[api]
        }
        for item, standing in standings.items():
            kinds[item.kind][f"{item.sort}s"][item.word] = standing
        return {
            "sandboxes": seen.sandboxes,
            "scenarios": sorted(seen.scenarios),
            "kinds": kinds,
            "not_counted": {
                str(item): only for item, only in items_of(api).items() if item not in standings
            },
        }

    @classmethod
    def of_json(cls, said: Mapping[str, Any]) -> Self:
        """What ``to_json`` has written; what this version knows nothing of is left out."""
        coverage = cls()
        for api, theirs in said["apis"].items():
            seen = coverage._of(api)
            seen.sandboxes = theirs["sandboxes"]
            seen.scenarios = set(theirs["scenarios"])
            for item in items_of(api):
                kind = theirs["kinds"].get(item.kind, {})
                seen.note(item, kind.get(f"{item.sort}s", {}).get(item.word, "never"))
        return coverage

    def lines(self) -> list[Line]:
        """The report, to be read on a terminal: a table, and then what is missing, by name."""
        if not self.apis:
            return [Line("Transition coverage: no sandbox was used.")]
        return [*self._headlines(), Line(""), *self._table(), *self._missing_lines()]

    def text(self) -> str:
        """The same without colours, each line with its line feed."""
        return "".join(f"{line.text}\n" for line in self.lines())

    def _headlines(self) -> Iterator[Line]:
        apis = " and ".join(CALLED[api] for api in self.apis)
        count = sum(self._seen[api].sandboxes for api in self.apis)
        over = f"{plural(count, 'sandbox', 'sandboxes')}"
        figures = f"{self.percent:g} % ({self.seen} of {self.counted})"
        yield Line(f"Transition coverage of {apis}: {figures}, {over}", "bold")
        watched = f"{_percent(self.seen, self.happened):g} % ({self.seen} of {self.happened})"
        yield Line(f"Of what happened there, clients saw {watched}.")

    def _table(self) -> Iterator[Line]:
        yield Line(f"{'':<10}{'states':>10}{'operators':>12}{'edges':>10}")
        for api in self.apis:
            standings = self.standings(api)
            for kind in MACHINES[api]:
                of_kind = {i: standing for i, standing in standings.items() if i.kind == kind}
                cells = [_cell(of_kind, sort) for sort in SORTS]
                row = f"{kind.replace('_', ' '):<10}{cells[0]:>10}{cells[1]:>12}{cells[2]:>10}"
                yield Line(row, "green" if set(of_kind.values()) == {"seen"} else "")

    def _missing_lines(self) -> Iterator[Line]:
        """What happened and nobody saw comes first; edges stand with what explains them."""
        for standing, said in _SAID.items():
            told = [text for api in self.apis for text in _told(self.standings(api), standing)]
            colour = "yellow" if standing == "happened" else "red"
            yield from (Line("") for _ in told[:1])
            yield from (Line(text.format(said=said), colour) for text in told)


_SAID: Final[Mapping[Standing, str]] = {
    "happened": "happened, nobody looked",
    "asked": "asked for, never accepted",
    "never": "never happened",
}


def _told(standings: Mapping[Item, Standing], standing: Standing) -> Iterator[str]:
    """A line for each thing that stands so; edges are counted with the state, or under the
    operation, of which no more is known than of them.
    """
    heads = {i: _head(i, standings) for i, s in standings.items() if s == standing}
    edges = Counter(head for item, head in heads.items() if item.sort == "edge")
    for head in dict.fromkeys(heads.values()):
        count = f", {plural(edges[head], 'edge')}" if edges[head] else ""
        is_edge = " → " in head
        is_unasked = standing == "never" and any(
            item.sort == "operator" and str(item) == head for item in heads
        )
        yield f"{head}: {'never asked for' if is_unasked else '{said}'}{'' if is_edge else count}"


def _head(item: Item, standings: Mapping[Item, Standing]) -> str:
    """What an item is told as: itself, or of an edge the state or operation that explains it."""
    if item.sort != "edge":
        return str(item)
    before, _, after = item.word.partition(" → ")
    state, _, operation = after.partition("/")
    for each in (state, before):
        found = Item(item.kind, "state", each)
        if standings.get(found) == standings[item]:
            return str(found)
    akin = {
        standings[each]
        for each in standings
        if each.kind == item.kind and each.sort == "edge" and each.word.endswith(f"/{operation}")
    }
    return f"{item.kind.replace('_', ' ')} under {operation}" if len(akin) == 1 else str(item)


def _percent(part: int, whole: int) -> float:
    """Of a hundred, to one place, never rounded up."""
    return math.floor(1000 * part / whole) / 10 if whole else 0.0


def _cell(standings: Mapping[Item, Standing], sort: Sort) -> str:
    """How many of a sort were seen, out of how many."""
    these = [standing for item, standing in standings.items() if item.sort == sort]
    return f"{these.count('seen')}/{len(these)}" if these else "–"


# --- reading journals and explanations ------------------------------------------------------------


def _is_good(entry: Mapping[str, Any]) -> bool:
    return entry["status"] is not None and entry["status"] < 300


def _note_call(seen: Seen, api: str, entry: Mapping[str, Any]) -> None:
    """An operator that was asked for; one whose answer was lost was not accepted to be seen."""
    item = _operator(operation_of(api, entry["operation"], entry["request_body"]))
    if item in items_of(api):
        seen.note(item, "seen" if _is_good(entry) else "asked")


def _note_sighting(
    seen: Seen, api: str, sighting: Observation, last: dict[tuple[str, str], Label]
) -> None:
    """A state; and an edge, if what was shown last of the same thing is its other end.

    An answer that leaves the operation out shows a state, and no end of an edge.
    """
    state = Item(sighting.kind, "state", sighting.state)
    if state in items_of(api):
        seen.note(state, "seen")
    if sighting.operation:
        key, now = (sighting.kind, sighting.id), sighting.shown
        before = last.get(key, now)
        if MACHINES[api][sighting.kind].between(before, now):
            seen.note(_edge(sighting.kind, before, now), "seen")
        last[key] = now


_STAGE: Final = re.compile(r" at stage \d+$")


def _items_of_event(api: str, event: Mapping[str, Any]) -> Iterator[Item]:
    """The states and the edge of an event; a refusal, or a stage that moves, is no edge.

    A dag is born with its nodes and their sub tasks.
    """
    kind = next(each for each in MACHINES[api] if event["who"].startswith(each.replace("_", " ")))
    after, before = _shown(event["to"]), _shown(event["from"] or event["to"])
    yield Item(kind, "state", before[0])
    yield Item(kind, "state", after[0])
    if MACHINES[api][kind].between(before, after):
        yield _edge(kind, before, after)
    if kind == "dag" and event["from"] is None:
        for part in ("node", "sub_task"):
            yield from (Item(part, "state", state) for state, _ in MACHINES[api][part].initial)


def _shown(text: str) -> Label:
    return parse_label(_STAGE.sub("", text))
