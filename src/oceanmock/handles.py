"""Handles of a sandbox, its injected faults and its tasks: the base of each API's own (``ocp/client.py``).

A handle reads everything from the admin API each time, of a local server as of a remote one. Reading never moves the
clock. An assertion that fails explains the task's state.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path
from typing import Any, ClassVar, Final, NoReturn, Self, TypedDict, Unpack, cast
from urllib.parse import SplitResult, quote, urlsplit

from oceanmock.admin_client import (
    HIDE_FRAMES,
    Admin,
    Refused,
    SandboxClock,
    SandboxJournal,
    check_keywords,
    without_none,
)
from oceanmock.api import Api, Json, Kind
from oceanmock.errors import EnvironmentProblem, InputError, ScenarioError
from oceanmock.text import TimeSpan, did_you_mean, duration_text, first_few, suggest

__tracebackhide__ = HIDE_FRAMES

MANAGER_LOGIN: Final = ("manager", "manager")
VIEWER_LOGIN: Final = ("viewer", "viewer")

ScenarioSource = str | Path | Mapping[str, Any]
"""A scenario: a name of the library, the path of a file, or a mapping of the file format."""
RunSource = Mapping[str, Any]
"""One run: ``fails(…)``, ``succeeds(…)``, ``hangs()``, or a mapping of the file format."""
_NAMES_FILES: Final = re.compile(r"\b(include|body_file)['\"]?\s*:")
PartSource = str | Mapping[str, Any]
"""A subtask or node: its name, or a mapping of the file format, as ``subtask(…)`` returns it."""


def locate(source: ScenarioSource, folders: Sequence[Path] = ()) -> ScenarioSource:
    """Return a scenario; of a file, its path in the first folder that has it."""
    if isinstance(source, str):
        is_name = Path(source).name == source and not source.endswith((".yaml", ".yml"))
        return source if is_name else locate(Path(source), folders)
    if isinstance(source, Path):
        return Path(next((relpath(folder / source) for folder in folders if (folder / source).is_file()), source))
    return source


def send_scenarios(
    ask: Callable[[str, str, Json], Json],
    path: str,
    body: Json,
    *,
    scenarios: Sequence[ScenarioSource],
    folders: Sequence[Path] = (),
) -> Json:
    """Send scenarios to the admin API; return the response. Raises InputError with the names of files."""
    contents: list[str | Json] = []
    files: dict[str, str] = {}
    for number, source in enumerate(locate(item, folders) for item in scenarios):
        if not isinstance(source, Path):
            contents.append(dict(source) if isinstance(source, Mapping) else source)
            continue
        files[f"scenarios[{number}]"] = str(source)
        try:
            text = source.read_text(encoding="utf-8") + "\n"
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise InputError(f"the scenario file {source} cannot be read: {reason}.") from None
        if _NAMES_FILES.search(text):  # the server does not have these files
            from oceanmock.scenario.document import Document  # noqa: PLC0415 (most scenarios do not need it)
            from oceanmock.scenario.faults import read_bodies  # noqa: PLC0415

            document = Document(text, str(source), folder=source.parent)
            if issues := [*document.duplicates, *map(document.locate, read_bodies(document, source.parent))]:
                raise ScenarioError(issues)
            contents.append(document.data)
        else:
            contents.append(text)
    try:
        return ask("POST", path, {**body, "scenarios": contents})
    except InputError as error:
        text = str(error)
        for label, file in files.items():
            text = text.replace(label, file)
        raise InputError(text) from None


def succeeds(takes: TimeSpan | None = None, *, log: str | Sequence[str] | None = None) -> RunSource:
    """Return a run that succeeds: by default after a second, or 10 ms for obshell."""
    return _attempt(takes, log=log)


def fails(
    takes: TimeSpan | None = None,
    *,
    log: str | Sequence[str] | None = None,
    error: Mapping[str, Any] | str | None = None,
) -> RunSource:
    """Return a run that fails. ``error`` is obshell's: its message, or a mapping of the format."""
    return _attempt(takes, ends="FAILED", log=log, error={"message": error} if isinstance(error, str) else error)


def hangs(*, log: str | Sequence[str] | None = None) -> RunSource:
    """Return a run that ends only by its timeout or by a cancel."""
    return _attempt("forever", log=log)


def _attempt(takes: TimeSpan | None, *, log: str | Sequence[str] | None, **items: Any) -> RunSource:
    span = None if takes is None else duration_text(takes)
    return without_none(takes=span, log=list(log) if isinstance(log, tuple) else log, **items)


def attempts_of(attempts: Sequence[RunSource]) -> Json:
    """Return the key ``attempts`` of the file format, if there are any."""
    return {"attempts": [dict(attempt) for attempt in attempts]} if attempts else {}


class FaultFields(TypedDict, total=False):
    """The keys of a fault, as in a scenario file: which requests it affects, and how."""

    name: str
    api: str
    operation: str | Sequence[str]
    task: int | str
    subtask: int | str
    dag: int | str
    node: int | str
    sub_task: int | str
    stub: str
    caller: str
    calls: int | str | Sequence[int | str]
    counts: str
    probability: float
    from_: TimeSpan
    until: TimeSpan
    when: Mapping[str, Any]
    delay: TimeSpan
    jitter: TimeSpan
    status: int
    headers: Mapping[str, str]
    body: Any
    error_code: int | str
    error_message: str
    reset: bool
    drop_response: bool
    empty: bool
    truncate: int
    malformed: bool
    content_type: str
    dribble: Mapping[str, Any]
    set: Mapping[str, Any]
    drop: str | Sequence[str]
    change_type: str | Sequence[str]
    still_executes: bool


@dataclass(frozen=True, slots=True)
class AddedFault:
    """A fault that is injected into a sandbox."""

    _admin: Admin
    name: str

    @property
    def counted(self) -> int:
        """The number of requests that it has counted."""
        return int(self.json()["counted"])

    @property
    def affected(self) -> int:
        """The number of requests that it has affected."""
        return int(self.json()["affected"])

    def json(self) -> Json:
        """Return the fault as JSON of the admin API. Raises InputError if it was removed."""
        for fault in self._admin.ask("GET", "/faults")["faults"]:
            if fault["name"] == self.name:
                return cast("Json", fault)
        raise InputError(f"there is no fault {self.name!r} any more: it was removed.")

    def remove(self) -> None:
        """Remove it."""
        self._admin.ask("DELETE", f"/faults/{quote(self.name, safe='')}")

    def __repr__(self) -> str:
        return f"<Fault {self.name}>"


@dataclass(frozen=True, slots=True)
class SandboxFaults:
    """The injected faults of a sandbox; the first that matches a request affects it.

    ocp.faults.add(operation="getTaskInstance", calls=2, status=503)
    ocp.faults.add(operation="retrySubtask", calls=1, drop_response=True)
    """

    _admin: Admin

    def add(self, **fields: Unpack[FaultFields]) -> AddedFault:
        """Add a fault after the others. Raises InputError with everything wrong in it."""
        check_keywords(fields, FaultFields.__annotations__, of="a fault")
        body = without_none(**{key.rstrip("_"): value for key, value in fields.items()})
        body |= {key: duration_text(body[key]) for key in ("delay", "jitter", "from", "until") if key in body}
        return AddedFault(self._admin, self._admin.ask("POST", "/faults", body)["name"])

    def all(self) -> list[AddedFault]:
        """Return the faults, in order."""
        return [AddedFault(self._admin, fault["name"]) for fault in self._admin.ask("GET", "/faults")["faults"]]

    def remove(self, name: str) -> None:
        """Remove one fault."""
        AddedFault(self._admin, name).remove()

    def clear(self) -> None:
        """Remove every fault."""
        self._admin.ask("DELETE", "/faults")

    def __iter__(self) -> Iterator[AddedFault]:
        return iter(self.all())

    def __len__(self) -> int:
        return len(self.all())


class SandboxHandle:
    """One sandbox of a server, until it is closed. Made by a ``Mock``, or by ``running``."""

    API: ClassVar[Api]

    def __init__(
        self,
        admin: Admin,
        *,
        url: str,
        unreachable_url: str,
        seed: int,
        strict: bool,
        authenticates: bool,
        on_close: Callable[[SandboxHandle], object],
    ) -> None:
        self.admin: Final = admin
        """The admin API's paths of this sandbox."""
        self.name: Final = str(admin.name)
        self.url: Final = url
        """The base URL for clients of the API."""
        self.seed: Final = seed
        self.strict: Final = strict
        self.authenticates: Final = authenticates
        """Whether requests must authenticate."""
        self.clock: Final = SandboxClock(admin)
        self.journal: Final = SandboxJournal(admin)
        self.faults: Final = SandboxFaults(admin)
        self.folders: Sequence[Path] = ()
        """The folders in which ``load`` searches for a file before the current one."""
        self.is_closed = False
        """Whether it was deleted by ``close``, or with its server."""
        self._unreachable_url: Final = unreachable_url
        self._on_close: Final = on_close

    @property
    def host(self) -> str:
        """The host of its own port. Raises EnvironmentProblem where clients have to use a path."""
        return self._own_address().hostname or ""

    @property
    def port(self) -> int:
        """Its own port. Raises EnvironmentProblem where clients have to use a path."""
        address = self._own_address()
        return address.port or {"https": 443}.get(address.scheme, 80)

    def _own_address(self) -> SplitResult:
        if self._unreachable_url:
            raise EnvironmentProblem(
                f"the sandbox has no host and port of its own here: {self._unreachable_url} cannot be reached from "
                f"this machine, and {self.url} is a path of the server's. Let this machine reach the server's other "
                "ports, or use `url`."
            )
        return urlsplit(self.url)

    def load(self, *scenarios: ScenarioSource) -> Self:
        """Load scenarios: names, paths of files, or mappings; return the sandbox.

        An unused sandbox is built again with them; in a used one their tasks start now. Raises InputError with
        everything wrong in them.
        """
        body = {"api": self.API.name}
        send_scenarios(self.admin.ask, "/scenarios", body, scenarios=scenarios, folders=self.folders)
        return self

    def reset(self) -> None:
        """Restore it as it was made: tasks, clock and faults; the journal is emptied."""
        self.admin.ask("POST", "/reset")

    def close(self) -> None:
        """Delete it, if it still exists; closing it twice changes nothing."""
        if not self.is_closed:
            self.is_closed = True
            try:
                self._on_close(self)
            finally:
                self.admin.delete()

    def timelines(self) -> list[str]:
        """Return a drawing of each task or dag: its states over the sandbox's time."""
        paths = [f"/tasks/{self.API.name}/{row['id']}/explain" for row in self.rows()]
        return [self.admin.text(path, query={"format": "timeline"}) for path in paths]

    def json(self) -> Json:
        """Return the sandbox as JSON of the admin API."""
        return self.admin.ask("GET")

    def rows(self) -> list[Json]:
        """Return the tasks or dags of its API, as JSON of the admin API."""
        return [row for row in self.admin.ask("GET", "/tasks")["tasks"] if row["api"] == self.API.name]

    def _find_or_add(self, id_or_name: int | str, parts: Sequence[PartSource] | None, rest: Json) -> Json:
        """Return the task or dag of an id, a number or a name; or, with parts, a new one. Raises InputError."""
        if parts is None:
            if (id := str(id_or_name)).isalnum():  # the list has only the first 10,000
                with suppress(Refused):
                    return self.admin.ask("GET", f"/tasks/{self.API.name}/{quote(id)}")
            return find(self.rows(), id_or_name, what=self.API.root.title, where=f"in sandbox {self.name!r}")
        template = {"name": id_or_name, f"{self.API.kinds[1].name}s": list(parts), **rest}
        return self.admin.ask("POST", "/tasks", {"api": self.API.name, "template": template})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} at {self.url}>"


def find(parts: Sequence[Json], id_or_name: int | str, *, what: str, where: str) -> Json:
    """Return the part of an id, a number or a name. Raises InputError with the nearest part."""
    expected = str(id_or_name)
    for key in ("id", "number", "name"):
        for part in parts:
            if str(part[key]) == expected:
                return part
    hint = "It is empty."
    if parts:
        names = first_few([f"{part['number']} {part['name']!r}" for part in parts], 10)
        texts = [str(part[key]) for key in ("name", "number") for part in parts[:500]]
        hint = f"It has {names}. {did_you_mean(expected, texts)}".rstrip()
    raise InputError(f"there is no {what} {id_or_name!r} {where}. {hint}")


class PartHandle:
    """A task or dag, or a part of one, which is found by its number."""

    API: ClassVar[Api]
    KIND: ClassVar[Kind]

    def __init__(self, owner: Admin | PartHandle, data: Json) -> None:
        self._owner: Final = owner
        self._id: Final = str(data["id"])
        self._task: Final[tuple[Admin, str]] = owner._task if isinstance(owner, PartHandle) else (owner, self._id)
        """The admin API of its sandbox, and the id of the task or dag that it belongs to."""
        self._key: Final = (owner, self.API.name, self._id)
        self.number: Final[int] = data["number"]
        self.name: Final[str] = data["name"]

    def json(self) -> Json:
        """Return it with its parts as JSON of the admin API, in the same form for both APIs."""
        if not isinstance(self._owner, PartHandle):
            return self._owner.ask("GET", f"/tasks/{self.API.name}/{self._id}")
        parts: list[Json] = self._owner.json()["parts"]
        return next(part for part in parts if part["number"] == self.number)

    def until(self, state: str) -> Self:
        """Move the clock, from change to change, until it is in this state.

        Raises AssertionError when nothing more is due that could change it.
        """
        self._check_state(state)
        admin, _ = self._task
        while (actual := self.json()["state"]) != state:
            if admin.ask("GET", "/clock")["next_due"] is None:
                self._fail(f"is {actual}, and nothing is due that could make it {state}.")
            admin.ask("POST", "/clock/next")
        return self

    def _find(self, id_or_name: int | str) -> Json:
        what = next(kind.title for kind in self.API.kinds if kind.parent == self.KIND.name)
        return find(self.json()["parts"], id_or_name, what=what, where=f"in {self.KIND.title} {self.number}")

    def _assert(self, state: str, operation: str | None) -> None:
        self._check_state(state)
        data = self.json()
        actual, expected = data["state"], state
        if operation is not None:
            actual, expected = f"{actual}/{data['operation']}", f"{expected}/{operation}"
        if actual != expected:
            self._fail(f"is {actual}, not {expected}.")

    def _check_state(self, state: str) -> None:
        states = list(dict.fromkeys(name for kind in self.API.kinds for name in kind.states))
        if state not in states:
            raise InputError(f"{self.API.title} has no state {state!r}. {suggest(state, states)}")

    def _fail(self, problem: str) -> NoReturn:
        raise AssertionError(f"{self.KIND.title} {self.number} {problem}\n\n{self._explain('text').rstrip()}")

    def _explain(self, format: str) -> str:
        """Return the explanation of its task or dag as ``text`` or as a ``timeline``."""
        admin, id = self._task
        return admin.text(f"/tasks/{self.API.name}/{id}/explain", query={"format": format})

    def __repr__(self) -> str:
        return f"<{type(self).__name__.removesuffix('Handle')} {self.number} {self.name!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PartHandle) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


class TaskHandle(PartHandle):
    """A task or a dag of a sandbox."""

    def explain(self) -> str:
        """Return why it is in its state, and what changes it next and when."""
        return self._explain("text")

    def timeline(self) -> str:
        """Return a drawing of its history: a track for each part, with marked operations."""
        return self._explain("timeline")
