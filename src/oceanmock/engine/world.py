"""The state of one API in a sandbox: its tasks or dags, and the templates of further ones.

A task or dag joins the data that its scenario states (names, ids, users) with the history that its machine computes on
the clock of its sandbox. Reading changes nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any, ClassVar, Final, Generic, TypeVar

from oceanmock.clock import Clock
from oceanmock.engine.machine import History, next_due, view_at
from oceanmock.errors import AuthorError, NoSuchTask
from oceanmock.scenario.fields import BaseScenario


@dataclass(frozen=True, slots=True)
class TaskItem:
    """A task or dag, or a part of one, as the admin API lists it.

    ``number`` is that of the scenario file. ``started`` and ``stage`` are set for a task or dag that is shown with its
    parts; ``stage`` only where an API has one.
    """

    id: str
    number: int
    name: str
    state: str
    operation: str
    parts: tuple[TaskItem, ...] | None = None
    started: int | None = None
    stage: int | None = None


Key = TypeVar("Key", bound=Hashable)
D = TypeVar("D")
V = TypeVar("V")
Template = TypeVar("Template")
Setting = TypeVar("Setting")


class World(ABC, Generic[Key, D, V, Template]):
    """The tasks or dags of one API by their keys, each with its history.

    A subclass sets ``api``, the API's name; ``view_type``, which makes a view of the data, its state and the instant;
    ``machine``, the module that operates; and ``switches``, the defaults. The data of a task or dag has its ``key`` and
    the instant at which it was ``created``; a template's ``starts_on`` is the request that starts it.
    """

    api: ClassVar[str]
    view_type: ClassVar[Any]
    machine: ClassVar[Any]
    switches: Any = None

    def __init__(
        self, clock: Clock, scenarios: Sequence[Any] = (), *, seed: int = 0, switches: Mapping[str, Any] | None = None
    ) -> None:
        """Raise AuthorError if the scenarios differ in a switch. ``switches`` outrank theirs."""
        agreed = agreed_setting(scenarios, "switches", self.switches, "switches")
        self.switches = type(agreed).model_validate({**agreed.model_dump(), **switches}) if switches else agreed
        self.clock: Final = clock
        self.templates: Final[list[Template]] = []
        self._seed: Final = seed
        self._first_tick: Final = clock.origin
        self._data: dict[Any, Any] = {}
        self._histories: dict[Any, History[Any, Any, Any]] = {}

    # --- reading ---

    def __len__(self) -> int:
        """Return the number of tasks or dags."""
        return len(self._data)

    @abstractmethod
    def key_of(self, id: str) -> Key:
        """Return the key of the task or dag of an id, or of a number. Raises NoSuchTask."""

    def data_of(self, key: Key) -> D:
        """Return the constant data of a task or dag. Raises NoSuchTask."""
        data: D | None = self._data.get(key)
        if data is None:
            number: Any = key[-1] if isinstance(key, tuple) else key
            raise NoSuchTask(number)
        return data

    def view(self, key: Key, now: int | None = None) -> V:
        """Return a task or dag at an instant, by default now. Raises NoSuchTask."""
        data: Any = self.data_of(key)
        now = self.clock.now() if now is None else now
        view: V = self.view_type(data, view_at(self._histories[key], now - data.created), now)
        return view

    def history_of(self, key: Key) -> History[Any, Any, Any]:
        """Return a history, as it goes without further requests. Raises NoSuchTask."""
        self.data_of(key)
        return self._histories[key]

    def due(self, now: int, several: Iterable[D] | None = None) -> Iterator[int]:
        """Yield the next instant after ``now`` at which each task or dag, or each of several, changes."""
        data: Any
        for data in self._data.values() if several is None else several:
            due = next_due(self._histories[data.key], now - data.created)
            if due is not None:
                yield data.created + due

    def ends(self) -> Iterator[int]:
        """Yield the last instant at which each task or dag changes."""
        for key, history in self._histories.items():
            yield self._data[key].created + history.last.at

    def templates_for(self, method: str, path: str) -> list[Template]:
        """Return the templates that a request with this method and path may start."""
        templates: list[Any] = self.templates
        return [item for item in templates if item.starts_on.fits(method, path)]

    @abstractmethod
    def items(self) -> Iterator[TaskItem]:
        """Return every task or dag, without parts."""

    @abstractmethod
    def item(self, id: str) -> TaskItem:
        """Return the task or dag of an id, or of a number, with its parts. Raises NoSuchTask."""

    def settings(self) -> dict[str, Any]:
        """Return the keys by which a scenario file fits this sandbox."""
        return {}

    def details(self) -> dict[str, Any]:
        """Return what else the admin API shows of the sandbox for this API."""
        return {}

    # --- changing ---

    def check(self, scenarios: Sequence[Any], *, sandbox: str) -> None:
        """Raise AuthorError if a scenario needs other settings than those of this sandbox."""
        for scenario in scenarios:
            if scenario.switches not in (self.switches, type(scenario.switches)()):
                raise AuthorError(
                    f"scenario {scenario.name!r} sets other switches than sandbox {sandbox!r} has, "
                    "which is in use. Load it into a fresh one."
                )

    @abstractmethod
    def populate(self, scenarios: Sequence[Any], *, start: int) -> None:
        """Add the tasks and templates of scenarios that begin at an instant. Raises AuthorError."""

    def operate(self, key: Key, operation: str, part: int | None, at: int) -> V:
        """Operate a task or dag, or its part at a position, and return its view.

        Raises what the machine refuses the operation with; then nothing has changed.
        """
        created = self._data[key].created
        history = self.machine.operate(self._histories[key], operation, at - created, part)
        self._histories[key] = history
        self.clock.settle(created + history.last.at)
        return self.view(key, at)

    @abstractmethod
    def start(self, template: int, at: int) -> V:
        """Start a task or dag of the template at a position, and return its view.

        Raises WrongIdentity or UnderMaintenance; then nothing has changed.
        """

    @abstractmethod
    def create(self, scenario: Any, at: int) -> str:
        """Start the task or dag of a scenario and return its id. Raises IdTaken; then nothing has changed."""

    def _add(self, key: Key, data: Any, history: History[Any, Any, Any]) -> None:
        self._data[key] = data
        self._histories[key] = history
        self.clock.settle(data.created + history.last.at)


def agreed_setting(scenarios: Iterable[BaseScenario], plural: str, default: Setting, key: str) -> Setting:
    """Return the one setting of the scenarios that set any. Raises AuthorError if they differ."""
    settings = {item.name: setting for item in scenarios if (setting := getattr(item, key)) != default}
    first, *others = settings.values() or (default,)
    if others.count(first) < len(others):
        raise AuthorError(f"scenarios {', '.join(settings)} set different {plural}. Serve them apart.")
    return first


FIRST_FREE_ID: Final = 1_000_000
"""OCP's ids that a scenario leaves out are drawn from here on, below 2^31."""


@cache
def load_faker() -> Any:
    """Return the process's faker, imported on first use, since the import is slow."""
    from faker import Factory  # noqa: PLC0415 (a tenth of a second)

    return Factory.create("en_US")


class FakeData:
    """Generate the names, users, hosts and ids that a scenario leaves out, from its seed."""

    def __init__(self, seed: str, taken: set[int] | None = None) -> None:
        self._random = Random(seed)  # noqa: S311 (reproducible, not secret)
        self._names = _FakeNames(seed)
        self._taken = set() if taken is None else taken
        self.host: Final = f"192.0.2.{self._random.randint(1, 254)}"  # for documents: RFC 5737

    def phrase(self) -> str:
        """Return a name."""
        return self._names.phrase()

    def user(self) -> FakeUser:
        """Return a user; an id and a name are drawn when one is read, or a phrase is drawn."""
        self._names.requested += 1
        return FakeUser(self._names.requested - 1, self._names)

    def id(self) -> int:
        """Return an id that is not taken yet."""
        while (drawn := self._random.randrange(FIRST_FREE_ID, 2**31)) in self._taken:
            pass
        self._taken.add(drawn)
        return drawn


@dataclass(slots=True)
class _FakeNames:
    """Draw phrases and users in the order of the requests for them; two with the same ``seed`` are equal."""

    seed: str
    requested: int = field(default=0, compare=False)
    _users: list[tuple[int, str]] | None = field(default=None, compare=False)
    _random: Random | None = field(default=None, compare=False)

    def _faker(self) -> Any:
        """Return the process's faker, set to draw from this object's random source."""
        if self._random is None:
            self._random = Random(self.seed)  # noqa: S311 (reproducible, not secret)
        faker = load_faker()
        faker.random = self._random
        return faker

    def phrase(self) -> str:
        """Return a name."""
        self.user(self.requested - 1)
        return str(self._faker().bs()).capitalize()

    def user(self, number: int) -> tuple[int, str]:
        """Return the id and the name of a user, drawn with those before it."""
        users = self._users = self._users or []
        while len(users) < self.requested:
            faker = self._faker()
            users.append((faker.random_int(100, 999), faker.user_name()))
        return users[number] if users else (0, "")


@dataclass(frozen=True, slots=True)
class FakeUser:
    """A generated user; its id and name are drawn when they are read."""

    number: int
    names: _FakeNames

    @property
    def id(self) -> int:
        """Return the user's id."""
        return self.names.user(self.number)[0]

    @property
    def name(self) -> str:
        """Return the user's name."""
        return self.names.user(self.number)[1]
