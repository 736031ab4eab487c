"""The state of one API in a sandbox: its tasks or dags, and the templates of further ones.

A task or dag has data and a history. The data (names, ids, users) come from its scenario, or from ``FakeData``, which
generates them from a seed; its machine computes the history. Reading changes nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import attrgetter
from random import Random
from threading import Lock
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeVar

from oceanmock.clock import Clock
from oceanmock.engine.machine import History, next_due, next_tick, view_at
from oceanmock.errors import InputError, NoSuchTask
from oceanmock.scenario import BaseScenario


@dataclass(frozen=True, slots=True)
class TaskItem:
    """A task or dag, or a part of one, as the admin API lists it; one with ``parts`` has ``started`` as well."""

    id: str
    number: int  # that of the scenario file
    name: str
    state: str
    operation: str
    parts: tuple[TaskItem, ...] | None = None
    started: int | None = None
    stage: int | None = None


PLACEHOLDER: Final = "{n}"  # stands for its number in the name of a repeated task


class Row(NamedTuple):
    """The values that lists are filtered and sorted by; ``finished`` is -1 before the end, as MySQL sorts NULL."""

    id: int
    name: str
    started: int
    finished: int
    state: Any  # whose instants do not count
    data: Any  # of which only the values count that all tasks of a template share


@dataclass(frozen=True, slots=True)
class Stage:
    """The values of a task in lists from ``since`` after its first tick on; the first stage begins with the task."""

    since: int
    state: Any
    finished: int | None


@dataclass(slots=True)
class Group:
    """The tasks of a template that repeats, numbered from 0; ``changed`` has the sorted numbers of operated ones.

    The ticks of the server are ``tick`` apart, and ``phase`` is one of them. ``history`` is that of a task whose first
    tick comes at ``tick``; from its first tick on, every task has the same. ``data`` is the first task's. ``formats``
    has encoded rows with placeholders, by the instant of their state in ``history``.
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
        self.stages, previous = [], None
        for state in self.history.upcoming:
            values = (state.status, state.operation, state.finish_time, state.prohibit_rollback)
            if values != previous:
                finished = None if state.finish_time is None else state.finish_time - self.tick
                self.stages.append(Stage(state.at - self.tick, state, finished))
            previous = values

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

    def state_of(self, number: int, now: int) -> tuple[Any, int | None]:
        """Return a task's state, whose instants are those of ``history``, and the instant at which it finished."""
        shift = self.first_tick(number) - self.tick
        state = view_at(self.history, now - shift)
        return state, None if state.finish_time is None else state.finish_time + shift

    def next_due(self, now: int, number: int | None = None) -> int | None:
        """Return the first instant after ``now`` at which a task changes, by default any that was not operated."""
        dues = []
        for state in self.history.states[1:]:
            offset = state.at - self.tick
            if number is not None:
                dues.append(self.first_tick(number) + offset)
            elif (first := self._unchanged(self.ticked_by(now - offset), 1)) < len(self.ids):
                dues.append(self.first_tick(first) + offset)
        return min((due for due in dues if due > now), default=None)

    def end(self) -> int | None:
        """Return the last instant at which a task that was not operated changes."""
        last = self._unchanged(len(self.ids) - 1, -1)
        return None if last < 0 else self.first_tick(last) + self.history.upcoming.last.at - self.tick

    def _unchanged(self, number: int, step: int) -> int:
        place = bisect_left(self.changed, number)
        while 0 <= place < len(self.changed) and self.changed[place] == number:
            number, place = number + step, place + step
        return number

    def row(self, number: int, stage: Stage) -> Row:
        name = self.name.replace(PLACEHOLDER, str(number + 1))
        finished = self.finished_at(stage, number)
        return Row(self.ids[number], name, self.start_of(number), finished, stage.state, self.data)

    def finished_at(self, stage: Stage, number: int) -> int:
        """Return the instant at which a task in a stage finished, -1 before the end."""
        return -1 if stage.finished is None else self.first_tick(number) + stage.finished

    def rows(self, now: int, *, with_changed: bool = False) -> Iterator[Row]:
        """Yield the rows of tasks by ascending id; operated ones, whose states are not theirs, only if asked."""
        changed = set(() if with_changed else self.changed)
        for stage, numbers in self.spans(now):
            yield from (self.row(number, stage) for number in numbers if number not in changed)

    def spans(self, now: int) -> Iterator[tuple[Stage, range]]:
        """Yield the stages at an instant, each with the numbers of its tasks, which ascend."""
        low = 0
        for stage in reversed(self.stages[1:]):
            high = self.ticked_by(now - stage.since)
            yield stage, range(low, high)
            low = high
        yield self.stages[0], range(low, len(self.ids))


MAX_BUILT: Final = 500  # how many built tasks of groups are kept: those read last by themselves

Key = TypeVar("Key", bound=Hashable)
Data = TypeVar("Data")
State = TypeVar("State")
Setting = TypeVar("Setting")


@dataclass(frozen=True, slots=True)
class View(Generic[Data, State]):
    """The data of a task or dag and its state at ``now``; the state's instants count from ``data.created``."""

    data: Data
    state: State
    now: int = field(compare=False)


class World(ABC, Generic[Key, Data, State]):
    """The tasks or dags of one API by their keys, each with its history.

    A subclass sets ``api``, the API's name; ``machine``, the module that operates; and ``switches``, the defaults. Data
    have a ``key`` and the instant at which they were ``created``; a template's ``starts_on`` is the request that starts
    it.
    """

    api: ClassVar[str]
    machine: ClassVar[Any]
    switches: Any = None
    listens_on: Sequence[int] = ()  # the ports of the servers that a sandbox stands for, if several; 0 for any free one

    def __init__(
        self,
        clock: Clock,
        scenarios: Sequence[Any] = (),
        *,
        seed: int = 0,
        switches: Mapping[str, Any] | None = None,
        ports: Sequence[int] = (),
    ) -> None:
        """Raise InputError if the scenarios differ in a switch. ``switches`` outrank theirs.

        ``ports`` are those that were opened for ``listens_on``.
        """
        agreed = agreed_setting(scenarios, "switches", self.switches, "switches")
        self.switches = type(agreed).model_validate({**agreed.model_dump(), **switches}) if switches else agreed
        self.clock: Final = clock
        self.templates: Final[list[Any]] = []
        self._seed: Final = seed
        self._first_tick: Final = clock.origin
        self._data: dict[Any, Any] = {}
        self._histories: dict[Any, History[Any, Any, Any]] = {}
        self._groups: list[Group] = []
        self._changed: set[Any] = set()  # the keys of operated tasks of groups
        self._starts = Counter[int]()  # of each template
        self._built: dict[Any, tuple[Any, History[Any, Any, Any]]] = {}

    def __len__(self) -> int:
        return len(self._data) + sum(len(group.ids) - len(group.changed) for group in self._groups)

    @abstractmethod
    def key_of(self, id: str) -> Key:
        """Return the key of the task or dag of an id, or of a number. Raises NoSuchTask."""

    def data_of(self, key: Key) -> Any:
        """Return the constant data of a task or dag. Raises NoSuchTask."""
        return self._find(key)[0]

    def _find(self, key: Any) -> tuple[Any, History[Any, Any, Any]]:
        """Return the data and the history of a task or dag. Those of a group are built, and kept for a while."""
        if key in self._data:
            return self._data[key], self._histories[key]
        if key not in self._built:
            if (group := self.group_of(key)) is None:
                raise NoSuchTask(_number_of(key))
            if len(self._built) >= MAX_BUILT:
                del self._built[next(iter(self._built))]
            self._built[key] = self._build(group, key - group.ids.start)
        return self._built[key]

    def group_of(self, key: Any) -> Group | None:
        """Return the group of a task; None for one that was operated, and for a task or dag that is in no group."""
        if key in self._data:
            return None
        place = bisect_right(self._groups, key, key=FIRST_ID) if self._groups else 0
        return self._groups[place - 1] if place and key in self._groups[place - 1].ids else None

    def _build(self, group: Group, number: int) -> tuple[Any, History[Any, Any, Any]]:
        """Return the data and the history of a task of a group, for an API whose templates may repeat."""
        raise NotImplementedError

    def view(self, key: Key, now: int | None = None) -> View[Data, State]:
        """Return a task or dag at an instant, by default now. Raises NoSuchTask."""
        data, history = self._find(key)
        now = self.clock.now() if now is None else now
        return View(data, view_at(history, now - data.created), now)

    def newest(self, reference: int | str) -> View[Data, State] | None:
        """Return the last started task or dag of an id or a name, its own or its template's; None if there is none."""
        matching = [it for it in self.all_data() if reference in (it.name, it.model.name, _number_of(it.key))]
        # Of a group, ``all_data`` has only the first task; the template's name stands for the last one.
        matching += [self._find(it.ids[-1])[0] for it in self._groups if it.name == reference]
        newest = max(matching, key=lambda data: (data.created, _number_of(data.key)), default=None)
        return None if newest is None else self.view(newest.key)

    def view_named(self, ids: Mapping[str, str]) -> View[Data, State]:
        """Return the task or dag of a path's ids by kind, with the state of the part named. Raises NoSuchTask."""
        raise NotImplementedError

    def all_data(self) -> Iterator[Any]:
        """Yield the constant data of every task or dag; of a group, those of the first."""
        yield from (group.data for group in self._groups)
        yield from self._data.values()

    def history_of(self, key: Key) -> History[Any, Any, Any]:
        """Return the history of a task or dag without further operations. Raises NoSuchTask."""
        return self._find(key)[1]

    def due(self, now: int, keys: Iterable[Any] | None = None) -> Iterator[int]:
        """Yield the next instant after ``now`` at which each task or dag, of all or some keys, changes.

        For the tasks of a group that were not operated, it yields the first such instant of all.
        """
        for key in self._data if keys is None else keys:
            if (group := self.group_of(key)) is not None:
                due = group.next_due(now, key - group.ids.start)
            elif (due := next_due(self._histories[key], now - self._data[key].created)) is not None:
                due += self._data[key].created
            if due is not None:
                yield due
        for group in self._groups if keys is None else ():
            if (due := group.next_due(now)) is not None:
                yield due

    def ends(self) -> Iterator[int]:
        """Yield the last instant at which each task, dag or group changes."""
        for key, history in self._histories.items():
            yield self._data[key].created + history.upcoming.last.at
        yield from (end for group in self._groups if (end := group.end()) is not None)

    def templates_for(self, method: str, path: str) -> list[Any]:
        """Return the templates that a request with this method and path may start."""
        templates = [item for item in self.templates if item.starts_on.fits(method, path)]
        return [item for item in templates if self._starts[item.number] != item.starts_on.times]

    def settings(self) -> dict[str, Any]:
        """Return the keys that a scenario file must have to be loaded into this sandbox."""
        return {}

    def details(self) -> dict[str, Any]:
        """Return further fields of the sandbox in the admin API."""
        return {}

    @abstractmethod
    def items(self) -> Iterator[TaskItem]:
        """Return every task or dag, without parts."""

    @abstractmethod
    def item(self, id: str) -> TaskItem:
        """Return the task or dag of an id, or of a number, with its parts. Raises NoSuchTask."""

    def check(self, scenarios: Sequence[Any], *, sandbox: str) -> None:
        """Raise InputError if a scenario needs other settings than those of this sandbox."""
        for scenario in scenarios:
            if scenario.switches not in (self.switches, type(scenario.switches)()):
                raise InputError(
                    f"scenario {scenario.name!r} sets other switches than sandbox {sandbox!r} has, "
                    "which is in use. Load it into a fresh one."
                )

    @abstractmethod
    def populate(self, scenarios: Sequence[Any], *, start: int) -> None:
        """Add the tasks and templates of scenarios that begin at an instant. Raises InputError."""

    def operate(self, key: Key, operation: str, part: int | None, at: int) -> View[Data, State]:
        """Operate a task or dag, or its part. Raises the error of the machine's refusal; then nothing has changed."""
        data, before = self._find(key)
        history = self.machine.operate(before, operation, at - data.created, part)
        self._check_operation(data, view_at(before, at - data.created), operation, part)
        if (group := self.group_of(key)) is not None:
            insort(group.changed, data.key - group.ids.start)
            self._changed.add(key)
        self._add(key, data, history)
        return self.view(key, at)

    def _check_operation(self, data: Any, state: Any, operation: str, part: int | None) -> None:
        """Raise an API's error if other tasks or dags prevent an operation that the state allows; else note it."""

    @abstractmethod
    def start(self, template: int, at: int, values: Mapping[str, Any]) -> View[Data, State]:
        """Start a task or dag of a template. Raises CallerError; then nothing has changed."""

    @abstractmethod
    def create(self, scenario: Any, at: int) -> str:
        """Start the task or dag of a scenario and return its id. Raises IdTaken; then nothing has changed."""

    def _add(self, key: Key, data: Any, history: History[Any, Any, Any]) -> None:
        self._data[key] = data
        self._histories[key] = history
        self._built.pop(key, None)
        if self.clock.progression == "immediate":
            self.clock.move_to(data.created + history.upcoming.last.at)


def _number_of(key: Any) -> Any:
    return key[-1] if isinstance(key, tuple) else key


FIRST_ID: Final = attrgetter("ids.start")


def agreed_setting(scenarios: Iterable[BaseScenario], plural: str, default: Setting, key: str) -> Setting:
    """Return the setting that scenarios have in common, or the default. Raises InputError if two set it differently."""
    settings = {item.name: setting for item in scenarios if (setting := getattr(item, key)) != default}
    first, *others = settings.values() or (default,)
    if others.count(first) < len(others):
        raise InputError(f"scenarios {', '.join(settings)} set different {plural}. Serve them apart.")
    return first


_start: Final = attrgetter("start")
FIRST_FREE_ID: Final = 1_000_000
LAST_FREE_ID: Final = 2**31  # OCP's ids that a scenario leaves out are drawn between these
MAX_DRAWS: Final = 1000
MAX_UNDRAWN: Final = 500
"""If a scenario has more users, they are drawn when it is loaded, in a thread of its own, and not when one is read."""
_drawing: Final = Lock()  # held while the process's only faker draws from one of several random sources


@cache
def load_faker() -> Any:
    """Return the process's faker, imported on first use, since the import is slow."""
    from faker import Factory  # noqa: PLC0415 (a tenth of a second)

    return Factory.create("en_US")


class TakenIds:
    """Ids in use: single ones, and disjoint ranges."""

    def __init__(self) -> None:
        self._single: set[int] = set()
        self._ranges: list[range] = []
        self.last = 0

    def add(self, ids: range) -> None:
        """Add an id, or a range of several."""
        self.last = max(self.last, ids.stop - 1)
        if len(ids) == 1:
            self._single.add(ids.start)
        else:
            insort(self._ranges, ids, key=_start)

    def first_in(self, ids: range) -> int | None:
        """Return the lowest id of a range that is taken; None if all are free."""
        single: Collection[int] = self._single
        fewer, more = (ids, single) if len(ids) < len(single) else (single, ids)
        taken = [id for id in fewer if id in more]
        place = bisect_right(self._ranges, ids.start, key=_start)
        others = self._ranges[max(place - 1, 0) : place + 1]
        taken += [first for other in others if (first := max(other.start, ids.start)) in ids and first in other]
        return min(taken, default=None)


class FakeData:
    """Generate from a seed, in the order of the calls, the names, users and ids that a scenario leaves out."""

    def __init__(self, seed: str, taken: TakenIds | None = None) -> None:
        self.seed: Final = seed
        self._random = Random(seed)  # noqa: S311 (reproducible, not secret)
        self._words: Random | None = None
        self._requested, self._users = 0, list[tuple[int, str]]()
        self._taken = taken or TakenIds()
        self.host: Final = f"192.0.2.{self._random.randint(1, 254)}"  # for documents: RFC 5737

    def _faker(self) -> Any:
        """Return the process's faker, after setting its random source to this object's."""
        self._words = self._words or Random(self.seed)  # noqa: S311 (reproducible, not secret)
        faker = load_faker()
        faker.random = self._words
        return faker

    def phrase(self) -> str:
        """Return a name of a task or a part."""
        self.drawn_user(self._requested - 1)
        with _drawing:
            return str(self._faker().bs()).capitalize()

    def user(self) -> FakeUser:
        """Return a user, whose id and name are drawn when they are read, or the next phrase is drawn."""
        self._requested += 1
        return FakeUser(self._requested - 1, self.seed, self)

    def draw_users(self) -> None:
        """Draw the users now if there are many, so that no request waits for it."""
        if self._requested > MAX_UNDRAWN:
            self.drawn_user(self._requested - 1)

    def drawn_user(self, number: int) -> tuple[int, str]:
        """Return the id and the name of a user, drawn after those before it."""
        while len(self._users) <= number:
            with _drawing:
                faker = self._faker()
                self._users.append((faker.random_int(100, 999), faker.user_name()))
        return self._users[number] if self._users else (0, "")

    def ids(self, count: int) -> range:
        """Take ``count`` consecutive free ids, and return them. Raises InputError if none are found."""
        for _ in range(MAX_DRAWS if FIRST_FREE_ID + count < LAST_FREE_ID else 0):
            first = self._random.randrange(FIRST_FREE_ID, LAST_FREE_ID - count + 1)
            drawn = range(first, first + count)
            if self._taken.first_in(drawn) is None:
                self._taken.add(drawn)
                return drawn
        raise InputError(f"there are no {count:,} free ids in a row. Let fewer tasks `repeat`.")


@dataclass(frozen=True, slots=True)
class FakeUser:
    """A generated user; its id and name are drawn when they are read."""

    number: int
    seed: str
    source: FakeData = field(compare=False, repr=False)

    @property
    def id(self) -> int:
        return self.source.drawn_user(self.number)[0]

    @property
    def name(self) -> str:
        return self.source.drawn_user(self.number)[1]
