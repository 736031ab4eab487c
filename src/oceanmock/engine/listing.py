"""Page through many tasks without building them.

A ``Group`` has the tasks that one template repeats: alike but for number, id and start, so that their states at an
instant are a few spans of consecutive numbers. A page merges sorted sequences, one for each span and one of the tasks
that are kept one by one. It reads each at a few places, and its cost does not depend on how many tasks there are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from heapq import merge
from itertools import islice, pairwise
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple

from oceanmock.engine.machine import History, next_tick, view_at

PLACEHOLDER: Final = "{n}"
"""The place of its number in the name of a repeated task."""
Entry = tuple[Any, int]
"""A sort key, and the id; negative where the largest key comes first, since equal tasks are sorted by ascending id."""


class Row(NamedTuple):
    """What a list is filtered and sorted by: ``finished`` is -1 before the end, as MySQL sorts NULL.

    Of ``state`` only what is no instant counts, and of ``data`` only what a template's tasks have in common.
    """

    id: int
    name: str
    started: int
    finished: int
    state: Any
    data: Any


@dataclass(frozen=True, slots=True)
class Sort:
    """What rows are sorted by; of tasks in one state it grows with the start, or stays the same.

    ``by`` says whether states matter, or the order of names. ``window`` is set where tasks are equal that start in the
    same window of this length; 0 stands for the server's tick.
    """

    key: Callable[[Row], Any]
    by: Literal["start", "state", "name"] = "start"
    window: int | None = None


BY_ID: Final = Sort(attrgetter("id"))


@dataclass(frozen=True, slots=True)
class Query:
    """The filters and the order of a list: ``matches`` is for the data, ``part`` is one of a name."""

    matches: Callable[[Any], bool] = lambda data: True
    statuses: Collection[str] | None = None
    part: str = ""
    sort: Sort = BY_ID
    descending: bool = False

    @property
    def needs_states(self) -> bool:
        """Return whether the list depends on the states of tasks."""
        return self.statuses is not None or self.sort.by == "state"

    def entry(self, row: Row) -> Entry:
        """Return the entry of a row."""
        return self.sort.key(row), -row.id if self.descending else row.id

    def entries(self, rows: Iterable[Row]) -> _Kept:
        """Return the sorted entries of the rows that match."""
        part, statuses = self.part.casefold(), self.statuses
        entries = [
            self.entry(row)
            for row in rows
            if (statuses is None or row.state.status in statuses)
            and (not part or part in row.name.casefold())
            and self.matches(row.data)
        ]
        return _Kept(sorted(entries, reverse=self.descending))


@dataclass(frozen=True, slots=True)
class Stage:
    """What a list shows of a task from a span after its first tick on; the first one from its start."""

    since: int
    state: Any
    finished: int | None


@dataclass(slots=True)
class Group:
    """The tasks of a template that repeats, with numbers from 0; ``changed`` ones are kept apart, in their order.

    ``history`` is that of a task whose first tick comes at ``tick``. From there on all is the same for every task; the
    ticks of the server are ``tick`` apart, and ``phase`` is one of them. ``data`` is the first task's. ``formats`` are
    encoded rows, by the instant of the state in ``history``, with places for what differs between tasks.
    """

    template: Any
    data: Any
    name: str
    ids: range
    part_ids: range
    started: int
    every: int
    tick: int
    phase: int
    history: History[Any, Any, Any]
    changed: list[int] = field(default_factory=list)
    stages: list[Stage] = field(init=False)
    formats: dict[int, bytes] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.stages, shown = [], None
        for state in self.history.upcoming:
            previous, shown = shown, (state.status, state.operation, state.finish_time, state.prohibit_rollback)
            if shown != previous:
                finished = None if state.finish_time is None else state.finish_time - self.tick
                self.stages.append(Stage(state.at - self.tick, state, finished))

    def start_of(self, number: int) -> int:
        """Return the instant at which a task starts."""
        return self.started + number * self.every

    def first_tick(self, number: int) -> int:
        """Return the instant of the first tick after a task's start."""
        return next_tick(self.started + number * self.every, self.tick, self.phase)

    def started_before(self, instant: int) -> int:
        """Return how many tasks start before an instant."""
        if self.every:
            return min(max(-(-(instant - self.started) // self.every), 0), len(self.ids))
        return len(self.ids) if instant > self.started else 0

    def ticked_by(self, instant: int) -> int:
        """Return how many tasks have had their first tick by an instant."""
        return self.started_before(instant - (instant - self.phase) % self.tick)

    def equal_to(self, number: int, window: int) -> tuple[int, int]:
        """Return the bounds of the numbers whose tasks start in the same window as a task."""
        instant, length, phase = self.start_of(number), window or self.tick, 0 if window else self.phase
        first = instant - (instant - phase) % length
        return self.started_before(first), self.started_before(first + length)

    def state_of(self, number: int, now: int) -> tuple[Any, int | None]:
        """Return a task's state, with the instants of ``history``, and the instant at which it finished."""
        shift = self.first_tick(number) - self.tick
        state = view_at(self.history, now - shift)
        return state, None if state.finish_time is None else state.finish_time + shift

    def next_due(self, now: int, number: int | None = None) -> int | None:
        """Return the first instant after ``now`` at which a task, or the first that is not changed, changes."""
        dues = []
        for state in self.history.upcoming[1:]:
            offset = state.at - self.tick
            if number is not None:
                dues.append(self.first_tick(number) + offset)
            elif (first := self._unchanged(self.ticked_by(now - offset), 1)) < len(self.ids):
                dues.append(self.first_tick(first) + offset)
        return min((due for due in dues if due > now), default=None)

    def end(self) -> int | None:
        """Return the instant after which nothing is due of those that are not changed."""
        last = self._unchanged(len(self.ids) - 1, -1)
        return None if last < 0 else self.first_tick(last) + self.history.last.at - self.tick

    def _unchanged(self, number: int, step: int) -> int:
        place = bisect_left(self.changed, number)
        while 0 <= place < len(self.changed) and self.changed[place] == number:
            number, place = number + step, place + step
        return number

    def row(self, number: int, stage: Stage) -> Row:
        """Return the row of a task in a stage."""
        finished = -1 if stage.finished is None else self.first_tick(number) + stage.finished
        name = self.name.replace(PLACEHOLDER, str(number + 1))
        return Row(self.ids[number], name, self.start_of(number), finished, stage.state, self.data)

    def rows(self, now: int, *, with_changed: bool = False) -> Iterator[Row]:
        """Yield the rows of tasks by ascending id; of those that changed they would have another state."""
        changed = set(() if with_changed else self.changed)
        for stage, numbers in self.spans(now):
            yield from (self.row(number, stage) for number in numbers if number not in changed)

    def spans(self, now: int) -> Iterator[tuple[Stage, range]]:
        """Yield the stages at an instant, each with the numbers of its tasks, in their order."""
        low = 0
        for stage in reversed(self.stages[1:]):
            high = self.ticked_by(now - stage.since)
            yield stage, range(low, high)
            low = high
        yield self.stages[0], range(low, len(self.ids))


def select(groups: Iterable[Group], query: Query, now: int) -> Iterator[Entries]:
    """Yield the sorted entries of the tasks of groups that match."""
    part, named = query.part.casefold(), dict[str, list[_Numbers]]()
    for group in groups:
        if not query.matches(group.data):
            continue
        pattern, spans = None, group.spans(now)
        head, *tails = [text.casefold() for text in group.name.split(PLACEHOLDER)]
        if not any(part in text for text in (head, *tails)):
            if not tails or DIGITS.isdisjoint(part):
                continue
            pattern = _pattern(head, part, tails[0])
        by_name = query.sort.by == "name" and bool(tails)
        if (by_name and tails[0][:1] in DIGITS) or (len(tails) > 1 and (by_name or pattern)):
            yield query.entries(
                group.rows(now, with_changed=not query.needs_states)
            )  # such names are not in the order of their numbers
            continue
        if query.statuses is not None:
            spans = (span for span in spans if span[0].state.status in query.statuses)
        elif not query.needs_states:
            spans = iter([(group.stages[0], range(len(group.ids)))])
        for stage, numbers in (span for span in spans if span[1]):
            several = _Numbers.of(group, stage, numbers, group.changed if query.needs_states else (), pattern)
            if by_name:
                named.setdefault(group.name, []).append(several)
            else:
                yield _Span([several], query)
    yield from (_Span(several, query) for several in named.values())


DIGITS: Final = frozenset("0123456789")


class _Pattern:
    """The numbers that complete the text around them to one that contains a part.

    A state is how much of the part the text so far ends with, or all of it once it contains it (Knuth, Morris, Pratt).
    """

    def __init__(self, head: str, part: str, tail: str) -> None:
        self._part, self._tail = part, tail
        self._borders = [0]
        for character in part[1:]:
            self._borders.append(self._next(self._borders[-1], character))
        self.start: Final = self._run(0, head)
        self._steps: dict[int, list[int]] = {}
        self._ways: dict[tuple[int, int], int] = {}

    def _next(self, matched: int, character: str) -> int:
        while matched and self._part[matched] != character:
            matched = self._borders[matched - 1]
        return matched + (self._part[matched] == character)

    def _run(self, matched: int, text: str) -> int:
        for character in text:
            if matched < len(self._part):
                matched = self._next(matched, character)
        return matched

    def fits(self, number: int) -> bool:
        """Return whether a number completes the text."""
        return bool(self.ways(self._run(self.start, str(number)), 0))

    def steps(self, state: int) -> list[int]:
        """Return the state after each digit."""
        if state not in self._steps:
            self._steps[state] = [self._run(state, str(digit)) for digit in range(10)]
        return self._steps[state]

    def ways(self, state: int, digits: int) -> int:
        """Return in how many ways so many digits complete the text after a state."""
        if state == len(self._part):
            return int(10**digits)
        if not digits:
            return int(self._run(state, self._tail) == len(self._part))
        if (state, digits) not in self._ways:
            self._ways[state, digits] = sum([self.ways(after, digits - 1) for after in self.steps(state)])
        return self._ways[state, digits]


_pattern: Final = lru_cache(maxsize=64)(_Pattern)

_Branch = tuple[int, int, int, int]
"""The numbers that begin with a prefix: how many digits follow, at least and at most, and the state of the pattern."""


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The numbers of a group's tasks in a stage, from 1: from ``low`` to below ``high``, without those that changed.

    Those that fit a pattern, if any. Their decimals are a tree, in which whole branches are counted.
    """

    group: Group
    stage: Stage
    low: int
    high: int
    without: Sequence[int]
    pattern: _Pattern | None
    _partial: dict[tuple[int, int], int] = field(default_factory=dict, init=False)

    @classmethod
    def of(
        cls, group: Group, stage: Stage, numbers: range, changed: Sequence[int], pattern: _Pattern | None
    ) -> _Numbers:
        """Return those of a range from 0, without those that changed."""
        changed = changed[bisect_left(changed, numbers.start) : bisect_left(changed, numbers.stop)]
        without = [number + 1 for number in changed if pattern is None or pattern.fits(number + 1)]
        return cls(group, stage, numbers.start + 1, numbers.stop + 1, without, pattern)

    def __len__(self) -> int:
        if self.pattern is None:
            return max(self.high - self.low, 0) - len(self.without)
        return self.count((0, 1, len(str(self.high)), self.pattern.start))

    def rank(self, number: int) -> int:
        """Return how many are smaller than a number."""
        high = min(max(number, self.low), self.high)
        if self.pattern is None:
            return high - self.low - (bisect_left(self.without, high) if self.without else 0)
        return len(replace(self, high=high, without=self.without[: bisect_left(self.without, high)]))

    def at(self, place: int) -> int:
        """Return the number at a place of their ascending order."""
        if self.pattern is not None:
            return next(_walk([self], place))[0]
        before = 0
        if self.without:
            before = bisect_right(range(len(self.without)), place, key=lambda at: self.without[at] - self.low - at)
        return self.low + place + before

    def count(self, branch: _Branch) -> int:
        """Return how many there are in a branch."""
        prefix, least, most, state = branch
        count = 0
        for digits in range(least, most + 1):
            size: int = 10**digits
            low, high = prefix * size or size // 10, (prefix + 1) * size
            low, high = low if low > self.low else self.low, high if high < self.high else self.high
            if low < high:
                count += high - low if self.pattern is None else self._fitting(prefix, digits, state, high - low)
                if self.without:
                    count -= bisect_left(self.without, high) - bisect_left(self.without, low)
        return count

    def _fitting(self, prefix: int, digits: int, state: int, size: int) -> int:
        """Return how many of a branch fit the pattern, so many of which are in the range."""
        assert self.pattern is not None
        if size == 10**digits:
            return self.pattern.ways(state, digits)
        if (prefix, digits) not in self._partial:
            fitting, below = 0, 10 ** (digits - 1)
            for digit, after in enumerate(self.pattern.steps(state)):
                longer = prefix * 10 + digit
                low, high = max(longer * below, self.low), min((longer + 1) * below, self.high)
                if longer and low < high:
                    fitting += self._fitting(longer, digits - 1, after, high - low)
            self._partial[prefix, digits] = fitting
        return self._partial[prefix, digits]


def _walk(
    members: Sequence[_Numbers], place: int, *, text_after: str | None = None, descending: bool = False
) -> Iterator[tuple[int, _Numbers]]:
    """Yield the numbers of all members from a place on, equal ones by ascending id.

    With a text after them they are in the order of the texts, else of the values: 1 is before 10, and "1," before
    "10,", but "10x" before "1x". All members have one pattern.
    """
    pattern, lengths = members[0].pattern, len(str(max(member.high for member in members)))
    state = 0 if pattern is None else pattern.start
    branches: list[_Branch] = [(0, 1, lengths, state)]
    if text_after is None:
        branches = [(0, length, length, state) for length in range(1, lengths + 1)]
    if not descending:
        branches.reverse()
    while branches:
        branch = branches.pop()
        count = sum([member.count(branch) for member in members])
        if place >= count:
            place -= count
            continue
        prefix, least, most, state = branch
        if not most:
            found = [member for member in members if member.count(branch)]
            found.sort(key=lambda member: member.group.ids[prefix - 1])
            yield from ((prefix, member) for member in found[place:])
            place = 0
            continue
        steps = (0,) * 10 if pattern is None else pattern.steps(state)
        fewest = max(least - 1, 0)
        below = [(prefix * 10 + digit, fewest, most - 1, steps[digit]) for digit in range(not prefix, 10)]
        if not least:
            below.insert(0 if (text_after or "")[:1] < "0" else 10, (prefix, 0, 0, state))
        branches += below if descending else reversed(below)


class _Span:
    """The entries of tasks in some stages, in their order: of one group, or of several with one name."""

    def __init__(self, members: Sequence[_Numbers], query: Query) -> None:
        self._members, self._query, self._len = members, query, sum(map(len, members))
        group, stage = members[0].group, members[0].stage
        _, is_numbered, self._tail = group.name.partition(PLACEHOLDER)
        self._by_name = query.sort.by == "name" and bool(is_numbered)
        key, bounds = query.sort.key, (members[0].low - 1, members[0].high - 2)
        self._is_equal = not self._by_name and len({key(group.row(number, stage)) for number in bounds}) < 2
        self._falls = query.descending and not self._is_equal  # equal ones are always by ascending id

    def __len__(self) -> int:
        return self._len

    def __getitem__(self, place: int) -> Entry:
        if self._by_name:
            return next(self.read(place))
        numbers = self._members[0]
        if not self._falls:
            return self._entry(numbers.at(place), numbers)
        place = self._len - 1 - place
        number = numbers.at(place)
        if self._query.sort.window is not None:
            low, high = (
                numbers.rank(1 + bound) for bound in numbers.group.equal_to(number - 1, self._query.sort.window)
            )
            number = numbers.at(low + high - 1 - place)
        return self._entry(number, numbers)

    def read(self, place: int) -> Iterator[Entry]:
        """Yield the entries from a place on."""
        is_by_place = self._members[0].pattern is None or (self._falls and self._query.sort.window is not None)
        if is_by_place and not self._by_name:
            yield from map(self.__getitem__, range(place, self._len))
        else:
            text = self._tail if self._by_name else None
            for number, member in _walk(self._members, place, text_after=text, descending=self._falls):
                yield self._entry(number, member)

    def _entry(self, number: int, member: _Numbers) -> Entry:
        return self._query.entry(member.group.row(number - 1, member.stage))


class _Kept(list[Entry]):
    """The entries of tasks that are kept one by one."""

    def read(self, place: int) -> Iterator[Entry]:
        """Yield the entries from a place on."""
        return islice(self, place, None)


Entries = _Span | _Kept


def page_of(sequences: Sequence[Entries], skip: int, size: int, *, descending: bool) -> list[int]:
    """Return the ids at some places of merged sequences: so many after the first ones, few of which are read."""
    first, places, sizes = max if descending else min, [0] * len(sequences), [len(entries) for entries in sequences]
    filled = [number for number, size in enumerate(sizes) if size]
    if skip:
        filled.sort(key=lambda number: sequences[number][0], reverse=descending)
    for number, following in pairwise(filled):
        last = sequences[number][sizes[number] - 1] if skip else None
        if last is None or first(last, sequences[following][0]) is not last:
            break
        places[number] = min(skip, sizes[number])
        skip -= places[number]
    # While every sequence has at most `step` entries to go to the one of `reached`, the first of these and all before
    # it in its sequence are among those to skip.
    while skip > 0:
        left = [number for number in filled if places[number] < sizes[number]]
        if len(left) < 2:
            for number in left:
                places[number] += skip
            break
        step = (skip - 1) // len(left) // 2 + 1
        ends = {number: min(places[number] + step, sizes[number]) for number in left}
        reached = {number: sequences[number][ends[number] - 1] for number in left}
        while step <= (skip - 1) // len(left) + 1:
            number = first(reached, key=reached.__getitem__)
            skip -= ends[number] - places[number]
            places[number] = ends[number]
            if ends[number] == sizes[number]:
                break
            ends[number] = min(ends[number] + step, sizes[number])
            reached[number] = sequences[number][ends[number] - 1]
    rest = [entries.read(place) for entries, place in zip(sequences, places, strict=True)]
    return [abs(id) for _, id in islice(merge(*rest, reverse=descending), size)]
