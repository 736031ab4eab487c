"""Observations: the tasks, dags and parts that a response shows, and the base of comparing them over time.

``observations`` accepts any body, skips items without an id or a state, and never raises. A ``Sample`` is an
observation with its response. An ``ApiHistory`` has one API's checks over time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Final, Literal

from oceanmock.api import Api, Json
from oceanmock.checks import CheckResult, Exchange, Subject, check, instant, numbered, objects
from oceanmock.clock import SECOND, pause

SKEW: Final = 2 * SECOND  # the largest difference between the clocks of two machines of a server
FUTURE: Final = 60 * SECOND  # the largest difference between the clocks of the server and of its database


@dataclass(frozen=True, slots=True)
class Observation:
    """One item of one response.

    ``operation`` is empty if the response omits it, as OCP's list does. ``parent`` is the id of the task, dag or node
    that contains the item, ``root`` that of the task or dag; both are empty if the response has the item alone.
    ``path`` is its JSON path, ``raw`` its JSON, ``parts`` are the observations of its parts.
    """

    kind: str  # task or subtask; dag, node or sub_task
    id: str
    name: str
    state: str
    operation: str
    parent: str = ""
    root: str = field(default="", compare=False)
    path: str = field(default="$", compare=False)
    raw: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    parts: tuple[Observation, ...] = field(default=(), compare=False, repr=False)
    is_terminal: bool = field(default=False, compare=False)  # whether it has ended, until the next operation
    end: int | None = field(default=None, compare=False)  # the instant of its last end

    def all(self) -> Iterator[Observation]:
        """Yield it and all its parts."""
        yield self
        for part in self.parts:
            yield from part.all()

    def time(self, key: str) -> int | None:
        """Return the instant at a key, or None."""
        return instant(self.raw.get(key))

    @property
    def label(self) -> tuple[str, str]:
        """Return state and operation."""
        return self.state, self.operation

    @property
    def words(self) -> str:
        """Return state and operation, as the transition tables write them."""
        return f"{self.state}/{self.operation}" if self.operation else self.state


def observations(api: Api, operation: str, body: Any, *, every: bool = False) -> Iterator[Observation]:
    """Yield the items of a response's body in its order, each before its parts.

    ``operation`` is the operationId of the request, empty for a request that starts a task. With ``every``, items
    without an id (then "") or without a textual state (then its text) are included.
    """
    data = body.get("data") if isinstance(body, dict) else None
    shows = next((route.shows for route in api.routes if route.id == operation), "")
    if not isinstance(data, dict) or (operation and not shows):
        return
    for path, item in numbered(data["contents"], "$.data.contents") if "contents" in data else [("$.data", data)]:
        for level, kind in enumerate(api.kinds):
            if kind.name == shows or (not shows and kind.own_key in item):
                for top in _observed(api, level, [(path, item)], every=every):
                    yield from top.all()
                break


def _observed(
    api: Api, level: int, items: Iterable[tuple[str, Json]], *, every: bool, parent: str = "", root: str = ""
) -> Iterator[Observation]:
    """Yield the observations of items of a kind; their parts are of the next one."""
    for path, item in items:
        kind, id, state = api.kinds[level], id_text(item.get("id")), item.get(api.state_key)
        if every or (id and isinstance(state, str)):
            state = str(state)
            name, operation, whole = text_at(item, "name"), text_at(item, api.operation_key), root if level else id
            members = numbered(item.get(kind.parts_key), f"{path}.{kind.parts_key}")
            parts = tuple(_observed(api, level + 1, members, every=every, parent=id, root=whole))
            ends = state in kind.terminal_states, instant(item.get(api.end_key))
            yield Observation(kind.name, id, name, state, operation, parent, whole, path, item, parts, *ends)


def items_in_response(api: Api, exchange: Exchange) -> list[Observation]:
    """Return the items of a response with 200."""
    return [*observations(api, exchange.operation, exchange.json())] if exchange.status == 200 else []


def requested_operation(api: Api, operation: str, body: Any) -> str:
    """Return the operation that a request asks for, such as ``dag.CANCEL``; empty for a read.

    ``body`` is the unencrypted body of the request. obshell accepts operators in lower case.
    """
    for route in api.routes:
        if route.id == operation and route.changes:
            name = route.operation or (text_at(body, api.operation_key).upper() if isinstance(body, dict) else "")
            return f"{route.changes}.{name}" if name else ""
    return ""


def id_text(value: Any) -> str:
    """Return an id, a number or a text, as a text; an empty one for anything else."""
    return str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""


def text_at(body: Mapping[str, Any], key: str) -> str:
    """Return a text of an object, or an empty one."""
    value = body.get(key)
    return value if isinstance(value, str) else ""


def items_in(subject: Subject, api: Api, kind: str = "") -> Iterator[Observation]:
    """Yield every item of a response with 200, or those of a kind, also items without an id or a state."""
    if subject.items is None:
        is_read = subject.status == 200 and bool(subject.id)
        subject.items = [*observations(api, subject.id, subject.body, every=True)] if is_read else []
    return (item for item in subject.items if kind in ("", item.kind))


def listed_once(value: Any, path: str) -> Iterator[CheckResult]:
    """Check that no object of a list occurs twice."""
    ids = [item["id"] for item in objects(value) if "id" in item]
    again = sorted({str(id) for id in ids if ids.count(id) > 1})
    if ids:
        yield check("list.twice", not again, path, f"{', '.join(again[:5])} is listed twice.")


def missing_rows(rows: Sequence[Json], ids: Iterable[str]) -> CheckResult:
    """Return the result of checking that a list has all of some ids."""
    listed = {str(row.get("id")) for row in rows}
    missing = [id for id in ids if id not in listed]
    wrong = f"{', '.join(missing[:5])} can be read, and is not listed."
    return check("list.missing", not missing, "$.data.contents", wrong)


def in_order(item: Observation, first: str, then: str, *, slack: int = SKEW) -> Iterator[CheckResult]:
    """Check that one time of an item is no later than another, if it has both."""
    before, after = item.time(first), item.time(then)
    if before is not None and after is not None:
        wrong = f"{first} is {item.raw[first]}, after {then}, which is {item.raw[then]}."
        yield check("time.start-after-finish", before <= after + slack, f"{item.path}.{first}", wrong)


def not_in_future(item: Mapping[str, Any], path: str, names: tuple[str, ...], now: int | None) -> Iterator[CheckResult]:
    """Check that an item's times are valid, and not after the response's timestamp."""
    for name in (name for name in names if item.get(name) is not None):
        at, where = instant(item[name]), f"{path}.{name}"
        yield check("time.format", at is not None, where, f"{name} is {item[name]!r}, which is no instant.")
        if at is not None and now is not None:
            wrong = f"{name} is {item[name]}, which is after the answer's own timestamp."
            yield check("time.future", at <= now + FUTURE, where, wrong)


ApiName = Literal["ocp", "obshell"]


@dataclass(frozen=True, slots=True)
class Target:
    """A server to be tested; the API's own paths follow ``url``.

    ``verify`` says whether to verify its certificate, or is the path of the certificates to trust. The server states
    ``version`` and ``identity``; ``own_address`` is the address in an obshell's own ids. ``auth`` signs a request, or
    is a name and a password; ``read_only_auth`` are the credentials of a user who may read tasks, but not operate on
    them. ``spared`` is why no unknown id may be sent, or "".

    By default it is a real server: time runs, there are other users, and nothing can be undone. ``is_ours`` says that
    there is no other user, and that time passes only in ``wait``. ``knowledge`` has facts of its scenarios that its
    responses do not show, for the walker; ``opted_in`` are the API's ``opt_ins`` that the scenarios use.
    """

    url: str
    api: ApiName
    auth: Any = field(default=None, repr=False)
    verify: bool | str = True
    version: str = ""
    own_address: tuple[str, int] | None = None
    identity: str = ""
    read_only_auth: Any = field(default=None, repr=False)
    spared: str = ""
    is_ours: bool = False
    wait: Callable[[float], None] = lambda seconds: pause(round(seconds * SECOND))
    reset: Callable[[], object] | None = None
    knowledge: Any = None
    opted_in: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """A target with its tasks or dags, and the ids of those that the run may change."""

    server: Target
    items: tuple[Observation, ...]
    writes: bool = False
    changeable: tuple[str, ...] = ()
    is_spared: bool = False  # whether no unknown ids may be sent

    @property
    def own(self) -> list[Observation]:
        """Return the tasks or dags that the run may change."""
        return [item for item in self.items if item.id in self.changeable]


TargetKind = Literal["agent", "cluster"]
"""The kind of an obshell's agent: one of a cluster (CLUSTER AGENT), or any other."""


@dataclass(frozen=True, slots=True)
class Required:
    """The responses of an API that a run must receive, where they differ from the contract.

    ``log`` is the operation that reads a log; some servers return an empty one for an unknown id. ``of_lists`` are
    further statuses of operations without an id. Of ``either`` one status suffices; ``unreachable`` are statuses that a
    kind of target never returns. ``targets`` says which task or dag must exist for an operation to be accepted, and to
    be refused; ``to_read`` is the hint for reads. If it ``may_redirect``, a proxy in front of the server may
    authenticate. ``since`` has the first version of operations.
    """

    log: str
    to_read: str
    targets: Mapping[str, tuple[str, str]]
    of_lists: frozenset[int] = frozenset()
    either: Mapping[str, frozenset[int]] = field(default_factory=dict)
    unreachable: Mapping[str, Mapping[str, frozenset[int]]] = field(default_factory=dict)
    may_redirect: bool = False
    since: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


View = Literal["list", "detail", "part"]
"""The response's form: a list; a whole task or dag with its parts; a part by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample(Observation):
    """An observation with its response, to be compared with other observations of the same item."""

    subject: Subject
    view: View
    calls: int  # the number of operations requested before it

    @classmethod
    def of(cls, item: Observation, **context: Any) -> Sample:
        """Return a sample of an observation; ``context`` has further fields, and those to replace."""
        return cls(**{entry.name: getattr(item, entry.name) for entry in fields(item)} | context)

    @property
    def key(self) -> tuple[str, str]:
        """Return kind and id."""
        return self.kind, self.id


@dataclass(frozen=True, slots=True)
class Call:
    """An operation that was, or may have been, accepted, such as ``task.RETRY`` of kind task on task 7."""

    kind: str
    name: str
    id: str
    roots: frozenset[str]  # the tasks or dags it may have changed; empty means any
    is_sure: bool  # whether it was accepted, rather than without a conclusive response


@dataclass(frozen=True, slots=True)
class Members:
    """The members of one kind's JSON, by how they may change.

    ``fixed`` never change once present, ``times`` are set anew, ``count`` is the number of runs, of all runs if it
    ``counts_all``. The parts of an item stay as they are in the states that are ``settled``.
    """

    fixed: tuple[str, ...]
    times: tuple[str, ...]
    count: str = ""
    settled: frozenset[str] = frozenset()
    counts_all: bool = False


class ApiHistory:
    """One API's checks over time; each ``checks.py`` has a subclass, which may keep state.

    ``is_shared`` says that the server is real and has other users, or that the mock's scenarios use ``opt_ins``.
    """

    members: ClassVar[Mapping[str, Members]]  # by kind
    one_view: ClassVar[frozenset[str]] = frozenset()  # members that one view may omit, or show later
    opt_ins: ClassVar[frozenset[str]] = frozenset()
    """Keys of a scenario that enable the mock's transitions which have them as ``only``."""

    def __init__(self, *, is_shared: bool) -> None:
        self.is_shared = is_shared

    def results(
        self, subject: Subject, samples: Sequence[Sample], latest: Mapping[tuple[str, str], Sample]
    ) -> Iterator[CheckResult]:
        """Yield the results of further checks; ``latest`` has the last sample of each item, these included."""
        yield from ()

    def acceptance(self, name: str, before: Sample, *, is_certain: bool) -> Iterator[CheckResult]:
        """Yield the results of checking an accepted operation against the state before it."""
        yield from ()

    def clock_of(self, subject: Subject) -> str | None:
        """Return the name of the clock that set a timestamp; None if it is not the time of the response."""
        return str(subject.body.get("server", ""))

    def log_lines(self, subject: Subject) -> list[Any] | None:
        """Return the lines of a response that is a log, else None."""
        return None

    def log_results(self, subject: Subject, sample: Sample) -> Iterator[CheckResult]:
        """Yield the results of checking a log against the item that it is of, which ended long before."""
        yield from ()

    def slack(self, sample: Sample) -> int:
        """Return by how much the clocks that set an item's times may differ."""
        return SKEW

    def possible_calls(self, before: Sample, calls: Sequence[Call]) -> Sequence[Call]:
        """Return the operations after an observation, with those that the server may add by itself."""
        return calls

    def is_undecided(self, before: Sample, names: Set[str]) -> bool:
        """Return whether no public source states the effect of operations on an item."""
        return False

    def has_run_again(self, before: Sample, now: Sample, calls: Sequence[Call]) -> bool:
        """Return whether an item must have had another run since an observation."""
        return False

    def most_runs(self, first: Sample, calls: Sequence[Call]) -> int | None:
        """Return the most runs of an item after its first observation and all operations; None for any."""
        return None

    def is_waiting(self, sample: Sample) -> bool:
        """Return whether all parts of a task or dag have ended, so that it must end next."""
        raise NotImplementedError

    def is_refused_for_state(self, subject: Subject, before: Sample) -> bool:
        """Return whether the state is the reason of a refusal, rather than a flag or a prohibition."""
        raise NotImplementedError
