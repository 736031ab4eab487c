"""Check logs over time: they only grow, and each run adds its lines."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from oceanmock.checks import CheckResult, Subject, check, objects, whole
from oceanmock.conformance.history.sighted import Sighting

Key = tuple[str, str]
ENDS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "EXECUTE": ("SUCCESSFUL", "FAILED"),
    "RETRY": ("SUCCESSFUL", "FAILED"),
    "ROLLBACK": ("PENDING", "FAILED"),
}
"""The statuses in which a subtask of an operation has had a run of that operation."""
OPENING: Final = re.compile(r"#{12}\{([A-Z_]+)\}\{")


def _comes_late(id: str) -> bool:
    """Return whether other agents may add lines late: those of the cluster's sub tasks."""
    return id.startswith("1")


class Logs:
    """The logs observed so far, by subtask or sub task."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._lines: dict[str, list[str]] = {}
        self._failed: dict[str, tuple[int, int]] = {}
        self._grown: list[CheckResult] = []

    def sighted(self, now: Sighting) -> None:
        """Record the log in an observation of a sub task."""
        lines, id = now.raw.get("task_logs"), now.id
        if now.kind != "sub_task" or not isinstance(lines, list):
            return
        path = f"{now.path}.task_logs"
        before = self._lines.get(id, [])
        wrong = f"the log of sub task {id} had {len(before)} lines, which are not there any more."
        comes_late = _comes_late(id)
        stays = not Counter(map(str, before)) - Counter(map(str, lines))
        passed = stays if comes_late else lines[: len(before)] == before
        self._grown.append(check("log.rewritten", passed, path, wrong))
        self._lines[id] = lines
        if comes_late:
            return
        runs = whole(now.raw.get("execute_times"))
        if now.state == "FAILED" and now.operation != "PASS" and runs is not None:
            existing = self._failed.setdefault(id, (runs, len(lines)))
            if runs > existing[0]:
                wrong = f"sub task {id} has failed in run {runs}, and its log does not say why."
                self._grown.append(check("log.stale", len(lines) > existing[1], path, wrong))
                self._failed[id] = (runs, len(lines))

    def results(self, subject: Subject, latest: Mapping[Key, Sighting]) -> Iterator[CheckResult]:
        """Yield the results of recorded logs, and those of a response that is a log."""
        due, self._grown = self._grown, []
        yield from due
        if subject.status == 200 and isinstance(subject.data, dict) and subject.path_ids:
            if subject.id == "getSubtaskLog":
                yield from self._text(subject, latest.get(("subtask", subject.path_ids[-1])))
            elif subject.id == "getFullSubTaskLogs":
                yield from self._rows(subject, latest.get(("sub_task", subject.path_ids[-1])))

    def _text(self, subject: Subject, subtask: Sighting | None) -> Iterator[CheckResult]:
        """Check OCP's log: one text, in which each run begins with a line of its own."""
        text, id = subject.data.get("log"), subject.path_ids[-1]
        if not isinstance(text, str) or not text:
            return
        before = self._texts.get(id, "")
        wrong = f"the log of subtask {id} does not begin as it did before."
        yield check("log.rewritten", text.startswith(before), "$.data.log", wrong)
        self._texts[id] = text
        if subtask is not None and subtask.state in ENDS_OF.get(subtask.operation, ()):
            runs = OPENING.findall(text)  # no public sample has one, so it may have none
            wrong = f"subtask {id} is {subtask.words}, and its log has no run of that."
            passed = not runs or subtask.operation in runs
            yield check("log.stale", passed, "$.data.log", wrong)

    def _rows(self, subject: Subject, sub_task: Sighting | None) -> Iterator[CheckResult]:
        """Check obshell's log: its lines name their run; a failed run has at least one."""
        if sub_task is None or sub_task.state != "FAILED" or sub_task.operation == "PASS":
            return
        if _comes_late(sub_task.id):
            return
        runs = whole(sub_task.raw.get("execute_times"))
        rows = objects(subject.data.get("contents"))
        last = max([whole(row.get("execute_times")) or 0 for row in rows], default=0)
        if runs is not None:
            wrong = f"the sub task has failed in run {runs}, and its last line is of run {last}."
            yield check("log.stale", last >= runs, "$.data.contents", wrong)
