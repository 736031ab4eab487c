"""Record the transition coverage of a run, sandbox by sandbox; print and judge it at its end.

``report.coverage`` computes it. Under xdist each worker records its own and sends it to the
controller, which alone prints, writes and judges.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from oceanmock.admin_client import JOURNAL_LIMIT
from oceanmock.apis import APIS
from oceanmock.handles import SandboxHandle
from oceanmock.pytest_plugin import PluginOptions
from oceanmock.report.coverage import Coverage

WORKER_KEY: Final = "oceanmock_coverage"
"""The key of a worker's output that has its coverage."""
MAX_EXPLAINED_TASKS: Final = 100


class CoverageRecorder:
    """A plugin that records coverage; registered where an option needs it."""

    def __init__(self, options: PluginOptions) -> None:
        self._options = options
        self._coverage = Coverage(APIS)
        self._problem = ""

    def record(self, sandbox: SandboxHandle) -> None:
        """Add what the clients of a sandbox observed, and the histories of its tasks.

        Each history is a request of its own; only ``MAX_EXPLAINED_TASKS`` are read.
        """
        api = sandbox.API.name
        scenarios = [scenario["name"] for scenario in sandbox.json()["scenarios"]]
        page = sandbox.admin.ask("GET", "/journal", query={"limit": JOURNAL_LIMIT})
        self._coverage.add(api, scenarios, page["entries"])
        for row in sandbox.rows()[:MAX_EXPLAINED_TASKS]:
            path = f"/tasks/{api}/{row['id']}/explain"
            self._coverage.add_explanation(api, sandbox.admin.ask("GET", path))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Add the coverage of a worker of xdist; a crashed one sends none."""
        output = getattr(node, "workeroutput", {})
        if WORKER_KEY in output:
            self._coverage.merge(Coverage.of_json(json.loads(output[WORKER_KEY]), APIS))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Send the coverage to the controller; or write and judge it."""
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[WORKER_KEY] = json.dumps(self._coverage.to_json())
            return
        if self._options.coverage_path is not None:
            self._write(Path(self._options.coverage_path))
        self._problem = self._problem or self._shortfall()
        if self._problem and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the coverage, if an option asks for it, and why the run fails."""
        for text, markup in self._lines():
            terminalreporter.write_line(text, **markup)

    def _lines(self) -> Iterator[tuple[str, dict[str, bool]]]:
        if self._options.prints_coverage:
            yield "", {}
            for text, colour in self._coverage.lines():
                yield text, {colour: True} if colour else {}
        if self._problem:
            yield f"\nThe run fails: {self._problem}", {"red": True}

    def _write(self, path: Path) -> None:
        text = json.dumps(self._coverage.to_json(), indent=2, ensure_ascii=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n", encoding="utf-8")
        except OSError as error:
            self._problem = f"{path} cannot be written: {error.strerror or error}."

    def _shortfall(self) -> str:
        """Return why the coverage is too low, or "" if it is not or no sandbox was used."""
        least, percent = self._options.min_coverage, self._coverage.percent
        if least is None or not self._coverage.apis or percent >= least:
            return ""
        return (
            f"its clients have seen {percent:g} % of the states, operators and transitions "
            f"of their APIs, and {least:g} % is asked for (--oceanmock-coverage-min)."
        )
