"""Run conformance inside a test suite: one assertion checks a server against its contract.

The run and its summary are those of the command. The suite starts the target; nothing here prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

from rich.console import Console

from oceanmock.checks import Phase
from oceanmock.conformance.baseline import choose_baselines, joined
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
    """The optional settings of a run; the command's options explain them."""

    write: bool
    """Whether the run may operate on tasks, and not only read."""
    tasks: Sequence[str | int]
    """The tasks it may operate on."""
    phases: Iterable[Phase]
    baseline: str | Path | Sequence[str | Path]
    """Known deviations to accept; by default the baseline for the version."""
    seed: int
    max_examples: int
    rate: float
    """Maximum requests per second; 0 for no limit."""
    verify: bool | str
    """Whether to verify the certificate, or the path of those to trust."""
    wait: float
    """How many seconds the server may take to respond for the first time."""


@dataclass(frozen=True, slots=True)
class ConformanceRun:
    """A finished run against a server, and its result."""

    result: Result

    def assert_passed(self) -> None:
        """Raise AssertionError with the summary unless the run passed.

        It passed without violations, and with all required responses observed.
        """
        __tracebackhide__ = True
        if self.result.exit_code:
            raise AssertionError(f"the server does not conform to the contract\n{self.text()}")

    def text(self) -> str:
        """Return the summary that the command prints."""
        console = Console(file=StringIO(), width=WIDTH, color_system=None, legacy_windows=False)
        print_results([self.result], console)
        assert isinstance(console.file, StringIO)
        return console.file.getvalue()

    def report(self, kind: str, path: str | Path) -> None:
        """Write a report: html, json or junit. Raises EnvironmentProblem where that fails."""
        write_report(kind, [self.result], Path(path))


class Conformance:
    """The fixture ``conformance``: a callable that checks a server against its contract.

    run = conformance("http://127.0.0.1:8080", api="ocp", auth=("admin", "secret"))
    run.assert_passed()
    """

    def __call__(
        self, url: str, *, api: Api, auth: Auth | tuple[str, str] | None, **setting: Unpack[Setting]
    ) -> ConformanceRun:
        """Run against a server; it only reads, unless ``write`` and ``tasks`` are given.

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
        given = setting.get("baseline", ())
        references = [given] if isinstance(given, str | Path) else list(given)
        baselines, _ = choose_baselines(references, api=api, version=target.version)
        return ConformanceRun(conform(target, options, baseline=joined(baselines)))


def _check_names(setting: Setting) -> None:
    """Raise AuthorError for misspelt settings and phases."""
    _check_each("setting", setting, known=list(Setting.__annotations__))
    _check_each("phase", setting.get("phases", ()), known=PHASES)


def _check_each(what: str, names: Iterable[str], *, known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise AuthorError(f"a run has no {what} {name!r}. {suggest(name, known)}")


def _options(setting: Setting) -> Options:
    """Return the run's options: the given settings, and defaults for the rest."""
    values: dict[str, Any] = {
        key: setting[key] for key in ("write", "seed", "max_examples", "rate") if key in setting
    }
    if "phases" in setting:
        values["phases"] = frozenset(setting["phases"])
    return Options(tasks=tuple(map(str, setting.get("tasks", ()))), **values)
