"""A conformance run inside a test suite: a server is held to the contract by one assertion.

The same run as the command's, told as the command tells it. What the target needs to be is the
suite's to start; nothing here prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

from rich.console import Console

from oceanmock.checks import Phase
from oceanmock.conformance.baseline import Baseline, joined, load_baseline, shipped_for
from oceanmock.conformance.extra import check_extra
from oceanmock.conformance.model import PHASES, Api, Options, Result
from oceanmock.conformance.reports.files import write_report
from oceanmock.conformance.reports.terminal import print_results
from oceanmock.errors import AuthorError
from oceanmock.text import suggest

if TYPE_CHECKING:
    from oceanmock.conformance.http_client import Auth

WIDTH: Final = 100


class Setting(TypedDict, total=False):
    """How a run goes; all of it may be left out. The options of the command say more."""

    write: bool
    """Whether it may operate, and not only read."""
    tasks: Sequence[str | int]
    """What may be played with then."""
    phases: Iterable[Phase]
    baseline: str | Path | Sequence[str | Path]
    """Known deviations to let pass; what comes with oceanmock for the version, if left out."""
    seed: int
    max_examples: int
    rate: float
    """Requests per second at most; 0 for no limit."""
    verify: bool | str
    """Whether its certificate is looked at, or the path of those to trust."""
    wait: float
    """How many seconds it may take until the server answers."""


@dataclass(frozen=True, slots=True)
class Held:
    """What became of a server that was held to the contract."""

    result: Result

    def assert_kept(self) -> None:
        """Holds if nothing was found, and everything that has to be seen was seen.

        What fails it is the summary that the command prints.
        """
        __tracebackhide__ = True
        if self.result.exit_code:
            raise AssertionError(f"the contract was not kept\n{self.text()}")

    def text(self) -> str:
        """The summary, as the command prints it."""
        console = Console(file=StringIO(), width=WIDTH, color_system=None, legacy_windows=False)
        print_results([self.result], console)
        assert isinstance(console.file, StringIO)
        return console.file.getvalue()

    def report(self, kind: str, path: str | Path) -> None:
        """Writes a report: html, json or junit. Raises EnvironmentProblem where it cannot."""
        write_report(kind, [self.result], Path(path))


class Conformance:
    """Holds servers to the contract; what the fixture ``conformance`` is.

    held = conformance("http://127.0.0.1:8080", api="ocp", auth=("admin", "secret"))
    held.assert_kept()
    """

    def __call__(
        self, url: str, *, api: Api, auth: Auth | tuple[str, str] | None, **setting: Unpack[Setting]
    ) -> Held:
        """A run against a server, over; it only reads, unless ``write`` and ``tasks`` say more.

        ``auth`` is a name and a password, or what ``oceanmock.credentials`` has. Raises Untestable
        when the server is down, is not that API, or refuses the credentials; EnvironmentProblem
        without the extra ``oceanmock[conform]``; AuthorError for a setting that there is not.
        """
        check_extra()
        _check_names(setting)
        from oceanmock.conformance.run import conform  # noqa: PLC0415 (schemathesis is slow)
        from oceanmock.conformance.target import check_tasks, reach  # noqa: PLC0415

        verify, wait = setting.get("verify", True), setting.get("wait", 5.0)
        target = reach(url, api=api, auth=auth, verify=verify, wait=wait)
        options = _options(setting)
        check_tasks(target, options.tasks)
        known = _baseline(setting.get("baseline"), api, target.version)
        return Held(conform(target, options, baseline=known))


def _check_names(setting: Setting) -> None:
    """Raises AuthorError for what is misspelt, and would go unheard."""
    _check_each("setting", setting, known=list(Setting.__annotations__))
    _check_each("phase", setting.get("phases", ()), known=PHASES)


def _check_each(what: str, said: Iterable[str], *, known: Sequence[str]) -> None:
    for name in said:
        if name not in known:
            raise AuthorError(f"a run has no {what} {name!r}. {suggest(name, known)}")


def _options(setting: Setting) -> Options:
    """The options that are said, and the usual ones for the rest."""
    said: dict[str, Any] = {
        key: setting[key] for key in ("write", "seed", "max_examples", "rate") if key in setting
    }
    if "phases" in setting:
        said["phases"] = frozenset(setting["phases"])
    return Options(tasks=tuple(map(str, setting.get("tasks", ()))), **said)


def _baseline(given: Any, api: Api, version: str) -> Baseline | None:
    """The known deviations that are meant."""
    if given is None:
        return shipped_for(api, version)
    several = [given] if isinstance(given, str | Path) else list(given)
    return joined([load_baseline(each) for each in several if each != "none"])
