"""A sandbox in a test's hand: where a client reaches it, its clock, journal and faults.

Everything is said to the admin API, so that a sandbox of a server in this process and one of a
server elsewhere are driven by the same object. The rule: asking here never moves a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypedDict
from urllib.parse import SplitResult, urlsplit

from oceanmock.client.admin import Admin, Json, Refused
from oceanmock.client.clock import Clock, check_progression, instant_text
from oceanmock.client.faults import Faults
from oceanmock.client.held import HIDDEN, Held, blamed, check_keywords
from oceanmock.client.journal import Journal
from oceanmock.client.parts import find
from oceanmock.errors import AuthorError, EnvironmentProblem, OceanmockError

if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType

    from oceanmock.clock import Progression

__tracebackhide__ = HIDDEN

SUFFIXES: Final = (".yaml", ".yml")

Given = str | Path | Mapping[str, Any]
"""A scenario: a name of the library, the path of a file, or what a file would say."""


class Options(TypedDict, total=False):
    """What a sandbox is to be like; all of it may be left out."""

    name: str
    """What the server calls it; made up, if left out."""
    progression: Progression
    """How time passes; as the scenario's file says, and ``polls`` where it says nothing."""
    speed: float
    seed: int
    """Fills what the scenarios leave out; the same seed gives the same names and ids."""
    starts_at: datetime | str
    """Where its clock starts; now, if left out."""
    switches: Mapping[str, Any]
    """Switches of its API, over those of the scenarios."""
    auth: bool
    """Whether requests must authenticate; they must, if left out."""
    strict: bool
    """Whether a test of the pytest plugin fails by what nobody has expected, or has not come."""


class Sandbox:
    """One sandbox of a server, until it is closed. Made by a ``Mock``, or by ``running``."""

    api: str

    def __init__(
        self,
        driven: Held,
        *,
        made: Json,
        url: str,
        unreachable_url: str = "",
        strict: bool = False,
        is_guarded: bool = True,
        on_close: Callable[[Sandbox], object] | None = None,
    ) -> None:
        self.admin: Final = driven
        """Its own paths of the admin API."""
        self.name: Final = driven.name
        self.seed: Final[int] = made["seed"]
        self.strict: Final = strict
        self.is_guarded: Final = is_guarded
        """Whether requests must authenticate."""
        self.clock: Final = Clock(driven)
        self.journal: Final = Journal(driven)
        self.faults: Final = Faults(driven)
        self.folders: Sequence[Path] = ()
        """Where ``load`` looks for a file first; then it is one from the current folder."""
        self.url: Final = url
        """Where a client finds it; the API's paths come behind it."""
        self._unreachable_url = unreachable_url
        self._on_close = on_close
        self.is_closed = False
        """Whether it has been deleted, by ``close`` or with its server."""

    @property
    def host(self) -> str:
        """The host of its own port. Raises EnvironmentProblem where only a path leads to it."""
        return self._own_address().hostname or ""

    @property
    def port(self) -> int:
        """Its own port. Raises EnvironmentProblem where only a path leads to it."""
        address = self._own_address()
        return address.port or {"https": 443}.get(address.scheme, 80)

    def _own_address(self) -> SplitResult:
        if self._unreachable_url:
            raise EnvironmentProblem(
                f"the sandbox has no host and port of its own here: {self._unreachable_url} cannot "
                f"be reached from this machine, and {self.url} is a path of the server's. Let this "
                "machine reach the server's other ports, or use `url`."
            )
        return urlsplit(self.url)

    def load(self, *scenarios: Given) -> Self:
        """Lets scenarios live in it: names, paths of files, or mappings; gives the sandbox.

        Untouched, it becomes as if made with them; in use, their tasks are born now. Raises
        AuthorError with all that is wrong with them.
        """
        given = [read_given(place_of(each, self.folders)) for each in scenarios]
        body = {"scenarios": [each.said for each in given], "api": self.api}
        try:
            self.admin.ask("POST", "/scenarios", body)
        except AuthorError as mistakes:
            raise naming_files(mistakes, given) from None
        return self

    def reset(self) -> None:
        """Makes it as it was when it was made: tasks, clock, faults; and its journal is empty."""
        self.admin.ask("POST", "/reset")

    def close(self) -> None:
        """Deletes it, if it is still there; closing it twice changes nothing."""
        if self.is_closed:
            return
        self.is_closed = True
        try:
            if self._on_close is not None:
                self._on_close(self)
        finally:
            try:
                self.admin.admin.ask("DELETE", self.admin.path())
            except Refused as refusal:
                if refusal.status != 404:
                    raise

    def timelines(self) -> list[str]:
        """A picture of each task or dag: its states over the sandbox's time, operations marked."""
        return [
            self.admin.text(f"/tasks/{self.api}/{each['id']}/explain", query={"format": "timeline"})
            for each in self._rows()
        ]

    def json(self) -> Json:
        """The sandbox as the admin API tells of it."""
        return self.admin.ask("GET")

    def _rows(self) -> list[Json]:
        """The tasks or dags of its API, as the admin API lists them."""
        rows: list[Json] = self.admin.ask("GET", "/tasks")["tasks"]
        return [each for each in rows if each["api"] == self.api]

    def _find(self, wanted: int | str, *, what: str) -> Json:
        """The task or dag of an id, a number or a name. Raises AuthorError when there is none."""
        return find(self._rows(), wanted, what=what, where=f"in sandbox {self.name!r}")

    def _start(self, template: Json) -> Json:
        """A task or dag that is born now. Raises AuthorError with all that is wrong with it."""
        return self.admin.ask("POST", "/tasks", {"api": self.api, "template": template})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} at {self.url}>"


# --- how one is made ------------------------------------------------------------------------------


def create(
    admin: Admin,
    api: str,
    scenarios: Sequence[Given],
    options: Options,
    *,
    own_port: bool | None = True,
) -> Json:
    """What the server says of the sandbox it has just made. Raises AuthorError."""
    check_keywords(options, Options.__annotations__, what="a sandbox")
    check_progression(options.get("progression"))
    given = [read_given(each) for each in scenarios]
    body: Json = {
        "scenarios": [each.said for each in given],
        "api": api,
        "auth": options.get("auth", True),
        "users": list(USERS),
        "own_port": own_port is not False,
        "otherwise": "polls",
    }
    body |= {key: value for key, value in options.items() if key in PLAIN}
    if "starts_at" in options:
        body["starts_at"] = instant_text(options["starts_at"])
    if "switches" in options:
        said = options["switches"]
        is_mapping = isinstance(said, Mapping)  # what is none the server refuses
        body["switches" if api == "ocp" else "obshell_switches"] = (
            dict(said) if is_mapping else said
        )
    try:
        return admin.ask("POST", "/sandboxes", body)
    except Refused as refusal:
        raise naming_files(blamed(refusal), given) from None


PLAIN: Final = ("name", "progression", "speed", "seed")
"""The options that are said to the server as they are."""
MANAGER: Final = ("manager", "manager")
VIEWER: Final = ("viewer", "viewer")
USERS: Final = (
    {"name": VIEWER[0], "password": VIEWER[1], "permissions": ["TASK_VIEWER"]},
    {"name": MANAGER[0], "password": MANAGER[1]},
)
"""Said even where they are the server's own, so that a test goes the same everywhere."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario as the admin API takes it; ``place`` is what its mistakes are to be found in."""

    said: str | Json
    place: str | None = None


def is_path(given: str | Path) -> bool:
    """Whether a file is meant, instead of a name."""
    return isinstance(given, Path) or given.endswith(SUFFIXES) or Path(given).name != given


def place_of(given: Given, folders: Sequence[Path]) -> Given:
    """A scenario whose file, if it is one, is the first that there is in some folders."""
    if not isinstance(given, str | Path) or not is_path(given):
        return given
    found = (folder / given for folder in folders if (folder / given).is_file())
    return Path(next((relpath(each) for each in found), given))


def read_given(given: Given) -> Scenario:
    """A scenario as it is given in a test. Raises AuthorError for a file that cannot be read."""
    if isinstance(given, Mapping):
        return Scenario(dict(given))
    if isinstance(given, str) and not is_path(given):
        return Scenario(given)
    try:
        return Scenario(Path(given).read_text(encoding="utf-8") + "\n", str(given))
    except (OSError, UnicodeDecodeError) as problem:
        why = getattr(problem, "strerror", None) or str(problem)
        raise AuthorError(f"the scenario file {given} cannot be read: {why}.") from None


def naming_files(mistakes: OceanmockError, given: Sequence[Scenario]) -> OceanmockError:
    """Mistakes in scenarios that were read from files here, told with the files' names."""
    if not isinstance(mistakes, AuthorError):
        return mistakes
    text = str(mistakes)
    for number, scenario in enumerate(given):
        if scenario.place is not None:
            text = text.replace(f"scenarios[{number}]", scenario.place)
    return AuthorError(text)
