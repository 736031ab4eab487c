"""Page through many tasks without building them.

A ``Group`` has the tasks that one template repeats. They differ only in number, id and start, so at an instant the
tasks in one state have consecutive numbers: a span. A page merges sorted sequences, one for each span and one of the
tasks that are kept one by one. It reads each at a few places, so its cost does not depend on the number of tasks.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from heapq import merge
from itertools import accumulate, count, islice, pairwise
from operator import attrgetter
from typing import Any, Final, Literal

from oceanmock.engine.world import PLACEHOLDER, Group, Row, Stage

Entry = tuple[Any, int]
"""A sort key and the id, which is negative in a descending order: tasks with equal keys are sorted by ascending id."""


@dataclass(frozen=True, slots=True)
class Sort:
    """A sort key of rows; ``by`` tells keys that depend on states, and names, from others.

    If the keys of a group's tasks in one stage grow with their numbers, ``value`` returns the key of a number, and
    ``count`` how many numbers have a key below a value. Without these, all have the same key.
    """

    key: Callable[[Row], Any]
    by: Literal["start", "state", "name"] = "start"
    value: Callable[[Group, Stage, int], int] | None = None
    count: Callable[[Group, Stage, int], int] | None = None


def by_start(unit: int = 1) -> Sort:
    """Return the sort by start, in units of ``unit`` nanoseconds."""
    return Sort(
        lambda row: row.started // unit,
        value=lambda group, _, number: group.start_of(number) // unit,
        count=lambda group, _, value: group.started_before(value * unit),
    )


def _finished_before(group: Group, stage: Stage, instant: int) -> int:
    if stage.finished is None:
        return len(group.ids) if instant > -1 else 0
    return group.ticked_by(instant - stage.finished - 1)


BY_ID: Final = Sort(
    attrgetter("id"), value=lambda group, _, number: group.ids[number], count=lambda group, _, id: id - group.ids[0]
)
BY_FINISH: Final = Sort(attrgetter("finished"), by="state", value=Group.finished_at, count=_finished_before)


@dataclass(frozen=True, slots=True)
class Query:
    """The filters and the order of a list. ``tests`` check data against a value; names contain ``part``."""

    tests: tuple[tuple[Callable[[Any, Any], bool], Any], ...] = ()
    statuses: frozenset[str] | None = None
    part: str = ""
    sort: Sort = BY_ID
    descending: bool = False

    @property
    def needs_states(self) -> bool:
        """Return whether the list depends on the states of tasks."""
        return self.statuses is not None or self.sort.by == "state"

    def matches(self, data: Any) -> bool:
        """Return whether the data of a task or of a group match."""
        return all(test(data, value) for test, value in self.tests)

    def entries(self, rows: Iterable[Row]) -> list[Entry]:
        """Return the entries of the rows that match."""
        part, statuses, key, sign = self.part.casefold(), self.statuses, self.sort.key, -1 if self.descending else 1
        return [
            (key(row), sign * row.id)
            for row in rows
            if (statuses is None or row.state.status in statuses)
            and (not part or part in row.name.casefold())
            and self.matches(row.data)
        ]


MAX_LISTS: Final = 8  # how many sorted lists are kept: the newest
MAX_MOVES: Final = 100  # if more rows change at once, the lists are sorted anew


class Index:
    """The rows of the tasks that are kept one by one, and sorted lists of them."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self._repeated: set[int] = set()
        self._lists: dict[Query, _Kept] = {}

    def update(self, rows: Mapping[int, Row], repeated: Collection[int]) -> None:
        """Replace or add rows; ``repeated`` are the ids of those that a template repeats."""
        if len(rows) > MAX_MOVES:
            self._lists.clear()
        old = {id: self.rows[id] for id in rows if id in self.rows}
        self._repeated.update(repeated)
        for query, kept in self._lists.items():
            for entry in self._entries(query, old):
                del kept[kept.rank(entry)]
            for entry in self._entries(query, rows):
                kept.insert(kept.rank(entry), entry)
        self.rows.update(rows)

    def entries(self, query: Query) -> _Kept:
        """Return the entries that match, without repeated tasks if states do not matter: ``select`` has these."""
        if query not in self._lists:
            if len(self._lists) >= MAX_LISTS:
                del self._lists[next(iter(self._lists))]
            self._lists[query] = _Kept(self._entries(query, self.rows), descending=query.descending)
        return self._lists[query]

    def _entries(self, query: Query, rows: Mapping[int, Row]) -> list[Entry]:
        hidden = () if query.needs_states else self._repeated
        return query.entries(row for id, row in rows.items() if id not in hidden)


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
            rows = group.rows(now, with_changed=not query.needs_states)
            yield _Kept(query.entries(rows), descending=query.descending)  # such names are not in the order of numbers
            continue
        if query.statuses is not None:
            spans = (span for span in spans if span[0].state.status in query.statuses)
        elif not query.needs_states:
            spans = iter([(group.stages[0], range(len(group.ids)))])
        for stage, numbers in (span for span in spans if span[1]):
            several = _Numbers(group, stage, numbers, group.changed if query.needs_states else (), pattern)
            if by_name:
                named.setdefault(group.name, []).append(several)
            else:
                yield _Span(several, query)
    yield from (_Named(several, query) for several in named.values())


DIGITS: Final = frozenset("0123456789")
_State = str | None


class _Pattern:
    """The numbers that, between ``head`` and ``tail``, make a text that contains ``part``.

    An automaton reads the digits. Its state is the longest prefix of the part that the text so far ends with, or the
    whole part once the text contains it. It is None before the first digit, for which leading zeros do not count.
    """

    def __init__(self, head: str, part: str, tail: str) -> None:
        self._part, self._tail = part, tail
        self.start: Final = self._after("", head)
        self.steps = cache(self._steps)
        self._sums = cache(self._count)

    def _after(self, state: str, text: str) -> str:
        text, part = state + text, self._part
        return part if part in text else next(text[at:] for at in count() if part.startswith(text[at:]))

    def _steps(self, state: _State) -> list[_State]:
        if state is None:
            return [None, *self.steps(self.start)[1:]]
        return [self._after(state, str(digit)) for digit in range(10)]

    def _count(self, state: _State, digits: int) -> list[int]:
        """Return, for n from 0 to 10, how many texts of ``digits`` digits, the first below n, fit after a state."""
        if not digits:
            return [0] * 10 + [int(state is not None and self._after(state, self._tail) == self._part)]
        return [*accumulate((self.ways(after, digits - 1) for after in self.steps(state)), initial=0)]

    def ways(self, state: _State, digits: int) -> int:
        return self._sums(state, digits)[10]

    def fits(self, number: int) -> bool:
        return bool(self.ways(self._after(self.start, str(number)), 0))

    def below(self, number: int) -> int:
        """Return how many of the numbers from 1, below a number, fit."""
        state: _State = None
        count, text = 0, str(number)
        for digits, digit in zip(range(len(text), 0, -1), map(int, text), strict=True):
            count += self._sums(state, digits)[digit]
            state = self.steps(state)[digit]
        return count

    def at(self, place: int, digits: int) -> int:
        """Return the number at a place, from 0, among the fitting ones of at most ``digits`` digits."""
        state: _State = None
        number = 0
        for left in range(digits, 0, -1):
            sums = self._sums(state, left)
            digit = bisect_right(sums, place) - 1
            number, place, state = number * 10 + digit, place - sums[digit], self.steps(state)[digit]
        return number


_pattern: Final = lru_cache(maxsize=64)(_Pattern)

_Branch = tuple[int, int, int, _State]
"""The numbers that begin with a prefix: the least and the most digits that follow, and the state of the pattern."""


class _Numbers:
    """The numbers, from 1, of a group's tasks in a stage: a range from ``low`` up to, but without, ``high``.

    Changed tasks are left out and, with a pattern, numbers that do not fit it.
    """

    def __init__(
        self, group: Group, stage: Stage, numbers: range, changed: Sequence[int], pattern: _Pattern | None
    ) -> None:
        self.group, self.stage, self.pattern = group, stage, pattern
        self.low, self.high = numbers.start + 1, numbers.stop + 1
        low, high = bisect_left(changed, numbers.start), bisect_left(changed, numbers.stop)
        if pattern is not None:
            changed = [number for number in changed[low:high] if pattern.fits(number + 1)]
            low, high = 0, len(changed)
        self._changed, self._places = changed, range(low, high)
        self._first = self._below(self.low)
        self._digits = len(str(self.high))

    def __len__(self) -> int:
        return self.rank(self.high)

    def rank(self, number: int) -> int:
        """Return how many are below a number."""
        number = self.low if number < self.low else self.high if number > self.high else number
        return self._below(number) - self._first - (self._changed_below(number) if self._places else 0)

    def _changed_below(self, number: int) -> int:
        places = self._places
        return bisect_left(self._changed, number - 1, places.start, places.stop) - places.start

    def _below(self, number: int) -> int:
        return self.pattern.below(number) if self.pattern else number

    def at(self, place: int) -> int:
        place += self._first
        if self._places:
            numbers, before = self._changed, self._places.start
            place += bisect_right(self._places, place, key=lambda at: self._below(numbers[at] + 1) - at + before)
        return place if self.pattern is None else self.pattern.at(place, self._digits)

    def count(self, branch: _Branch) -> int:
        """Return how many there are in a branch."""
        prefix, least, most, state = branch
        count = 0
        for digits in range(least, most + 1):
            size: int = 10**digits
            low, high = prefix * size or size // 10, (prefix + 1) * size
            low, high = low if low > self.low else self.low, high if high < self.high else self.high
            if low >= high:
                continue
            if self.pattern is None or high - low < size:
                count += self._below(high) - self._below(low)
            else:
                count += self.pattern.ways(state, digits)
            if self._places:
                count -= self._changed_below(high) - self._changed_below(low)
        return count


class _Span:
    """The entries of a group's tasks in one stage."""

    def __init__(self, numbers: _Numbers, query: Query) -> None:
        self._numbers, self._len, self._descending = numbers, len(numbers), query.descending
        self._group, self._stage = numbers.group, numbers.stage
        self._value, self._count = query.sort.value, query.sort.count
        self._falls, self._shares_keys = query.descending and self._value is not None, query.sort is not BY_ID
        self._key = None if self._value else query.sort.key(self._group.row(numbers.low - 1, self._stage))

    def __len__(self) -> int:
        return self._len

    def __getitem__(self, place: int) -> Entry:
        number, key = self._numbers.at(self._len - 1 - place if self._falls else place), self._key
        if self._value is not None:
            key = self._value(self._group, self._stage, number - 1)
            if self._falls and self._shares_keys:  # those with equal keys ascend all the same
                low, high = self._equal(key)
                number = self._numbers.at(low + high - self._len + place)
        id = self._group.ids[number - 1]
        return key, -id if self._descending else id

    def _equal(self, key: int) -> tuple[int, int]:
        """Return the ascending places of the first number with a key, and of the first one with a larger key."""
        assert self._count is not None
        low, high = [self._count(self._group, self._stage, value) for value in (key, key + 1)]
        return self._numbers.rank(low + 1), self._numbers.rank(high + 1)

    def rank(self, entry: Entry) -> int:
        """Return how many are before an entry."""
        key, id = entry
        low, high = 0, self._len
        if self._count is not None:
            low, high = self._equal(key)
        elif key != self._key:
            return self._len if (self._key < key) != self._descending else 0
        place = low if low == high else min(max(self._numbers.rank(abs(id) - self._group.ids[0] + 1), low), high)
        return self._len - high + place - low if self._falls else place

    def read(self, place: int) -> Iterator[Entry]:
        return map(self.__getitem__, range(place, self._len))


class _Named:
    """The entries of groups' tasks by name, which has their number; tasks of several groups may share a name.

    The decimals of the numbers are a tree, whose branches are in the order of texts: "1" is before "10", and "1,"
    before "10,", but "10x" before "1x".
    """

    def __init__(self, members: Sequence[_Numbers], query: Query) -> None:
        self._members, self._len, self._descending = members, sum(map(len, members)), query.descending
        self._head, _, self._tail = members[0].group.name.partition(PLACEHOLDER)
        pattern, most = members[0].pattern, len(str(max(member.high for member in members)))
        self._pattern, self._root = pattern, (0, 1, most, pattern.start if pattern else None)

    def __len__(self) -> int:
        return self._len

    def __getitem__(self, place: int) -> Entry:
        return next(self.read(place))

    def rank(self, entry: Entry) -> int:
        name, count, branches = entry[0], 0, [self._root]
        if not name.startswith(self._head):
            return self._len if (self._head < name) != self._descending else 0
        rest = name.removeprefix(self._head)
        while branches:
            branch = branches.pop()
            digits = str(branch[0] or "")
            if not branch[2]:
                count += sum([(each < entry) != self._descending and each != entry for each in self._entries(branch)])
            elif rest.startswith(digits):
                branches += self._children(branch)
            elif (digits < rest) != self._descending:
                count += self._count(branch)
        return count

    def read(self, place: int) -> Iterator[Entry]:
        branches = [self._root]
        while branches:
            branch = branches.pop()
            count = self._count(branch)
            if place >= count:
                place -= count
            elif branch[2]:
                children = self._children(branch)
                branches += children if self._descending else reversed(children)
            else:
                yield from self._entries(branch)[place:]
                place = 0

    def _count(self, branch: _Branch) -> int:
        return sum([member.count(branch) for member in self._members])

    def _entries(self, branch: _Branch) -> list[Entry]:
        """Return the entries of one number, in their order."""
        ids = sorted(member.group.ids[branch[0] - 1] for member in self._members if member.count(branch))
        name = f"{self._head}{branch[0]}{self._tail}"
        return [(name, -id if self._descending else id) for id in ids]

    def _children(self, branch: _Branch) -> list[_Branch]:
        """Return the branches below a branch, by ascending text."""
        prefix, least, most, state = branch
        steps = [None] * 10 if self._pattern is None else self._pattern.steps(state)
        fewest = max(least - 1, 0)
        below = [(prefix * 10 + digit, fewest, most - 1, steps[digit]) for digit in range(not prefix, 10)]
        if not least:
            below.insert(0 if self._tail[:1] < "0" else 10, (prefix, 0, 0, state))
        return below


class _Kept(list[Entry]):
    """The entries of tasks that are kept one by one."""

    def __init__(self, entries: list[Entry], *, descending: bool) -> None:
        super().__init__(sorted(entries, reverse=descending))
        self._descending = descending

    def rank(self, entry: Entry) -> int:
        return bisect_left(self, True, key=entry.__ge__ if self._descending else entry.__le__)

    def read(self, place: int) -> Iterator[Entry]:
        return islice(self, place, None)


MAX_GUESSES: Final = 4  # every fourth guess halves the largest sequence, instead of estimating the place by size
Entries = _Span | _Named | _Kept


def page_of(sequences: Sequence[Entries], skip: int, size: int, *, descending: bool) -> list[int]:
    """Return ``size`` ids of the merged sequences, after the first ``skip``, of which it reads few."""
    # Of each sequence, the entries before `low` are skipped, and those from `high` on are not.
    low, high = [0] * len(sequences), [len(entries) for entries in sequences]
    filled = [number for number, most in enumerate(high) if most] if skip else []
    filled.sort(key=lambda number: sequences[number][0], reverse=descending)
    for number, following in pairwise(filled):
        last, first = sequences[number][high[number] - 1], sequences[following][0]
        if (last < first) == descending:
            break
        low[number] = high[number] = min(high[number], skip - sum(low))
    for turn in count(1):
        left, widths = skip - sum(low), [most - least for least, most in zip(low, high, strict=True)]
        width = max(widths)
        if left <= 0 or not width:
            break
        number = widths.index(width)
        share = left * width // sum(widths) if turn % MAX_GUESSES else width // 2
        place = low[number] + min(share, width - 1)
        entry = sequences[number][place]
        ranks = [
            min(max(entries.rank(entry), least), most) if least < most else least
            for entries, least, most in zip(sequences, low, high, strict=True)
        ]
        ranks[number] = place
        if sum(ranks) > skip:
            high = ranks
        else:
            ranks[number] += sum(ranks) < skip
            low = ranks
    rest = [entries.read(place) for entries, place in zip(sequences, low, strict=True)]
    return [abs(id) for _, id in islice(merge(*rest, reverse=descending), size)]
