"""Transition coverage of a run: gathered sandbox by sandbox, told and judged at its end.

What was seen is worked out in ``transition_coverage``. Under xdist each worker gathers for itself
and hands over what it has to the controller, which alone tells, writes and judges.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from oceanmock.client.sandbox import Sandbox
from oceanmock.pytest_plugin.options import Setting
from oceanmock.pytest_plugin.report import entries_of
from oceanmock.report.coverage import Coverage

HANDED_OVER: Final = "oceanmock_coverage"
"""Where a worker's output holds what it has gathered."""
MOST_LIVES: Final = 100


class Gathering:
    """A plugin that is there when coverage is wanted."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._coverage = Coverage()
        self._problem = ""

    def take(self, sandbox: Sandbox) -> None:
        """Adds what the clients of a sandbox have seen, and what there was to see.

        What became of a task is asked for one by one, of the first ``MOST_LIVES``.
        """
        scenarios = [each["name"] for each in sandbox.json()["scenarios"]]
        self._coverage.add(sandbox.api, scenarios, entries_of(sandbox.admin))
        tasks = sandbox.admin.ask("GET", "/tasks")["tasks"]
        for task in [each for each in tasks if each["api"] == sandbox.api][:MOST_LIVES]:
            path = f"/tasks/{sandbox.api}/{task['id']}/explain"
            self._coverage.add_lived(sandbox.api, sandbox.admin.ask("GET", path))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Takes over what a worker of xdist has gathered; a crashed one hands over nothing."""
        output = getattr(node, "workeroutput", {})
        if HANDED_OVER in output:
            self._coverage.merge(Coverage.of_json(json.loads(output[HANDED_OVER])))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hands over; or writes and judges."""
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[HANDED_OVER] = json.dumps(self._coverage.to_json())
            return
        if self._setting.coverage_path is not None:
            self._write(Path(self._setting.coverage_path))
        self._problem = self._problem or self._shortfall()
        if self._problem and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Prints what was seen and what was not, if that is wanted; and why the run fails."""
        for text, markup in self._lines():
            terminalreporter.write_line(text, **markup)

    def _lines(self) -> Iterator[tuple[str, dict[str, bool]]]:
        if self._setting.prints_coverage:
            yield "", {}
            for line in self._coverage.lines():
                yield line.text, {line.colour: True} if line.colour else {}
        if self._problem:
            yield f"\nThe run fails: {self._problem}", {"red": True}

    def _write(self, path: Path) -> None:
        text = json.dumps(self._coverage.to_json(), indent=2, ensure_ascii=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n", encoding="utf-8")
        except OSError as problem:
            self._problem = f"{path} cannot be written: {problem.strerror or problem}."

    def _shortfall(self) -> str:
        """Why it is not enough; "" if it is, or if no sandbox was used."""
        least, percent = self._setting.least_coverage, self._coverage.percent
        if least is None or not self._coverage.apis or percent >= least:
            return ""
        return (
            f"its clients have seen {percent:g} % of the states, operators and edges of their "
            f"APIs, and {least:g} % is asked for (--oceanmock-coverage-min)."
        )
