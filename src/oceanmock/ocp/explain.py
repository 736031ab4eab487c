"""OCP's explanations and drawings.

The sentences explain the state of a task by the runs of its subtasks, the ticks and the operations. The DAG of a task
is drawn above its timeline, with one lane for each edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from rich.markup import escape

from oceanmock.clock import SECOND
from oceanmock.engine.machine import Change, Label, Part
from oceanmock.ocp import machine
from oceanmock.ocp.api import API, Operation, SubtaskStatus
from oceanmock.ocp.scenario import Scenario, Task
from oceanmock.ocp.states import SubtaskState, TaskScript, TaskState, watchdog
from oceanmock.report.explain import MAX_EXPLAINED, Event, Explainer
from oceanmock.scenario.story import Actor
from oceanmock.text import ends_with, first_few, one_line, round_duration, runs_text, timeout_text

_EFFECTS: Final = {
    "task.RETRY": "every FAILED subtask is READY again",
    "task.ROLLBACK": "all that has run is to be undone, from the far end backwards",
    "subtask.RETRY": "it is READY again, and the task RUNNING",
    "subtask.SKIP": "it is READY for a run that does nothing",
    "subtask.CANCEL": "its run is CANCELING until the subtask scheduler's tick interrupts it",
}
MAX_LEADING: Final = 20  # how many subtasks explain the state of the task, each by its last event
GLYPHS: Final = {
    "PENDING": ("·", "dim"),
    "READY": ("○", "cyan"),
    "RUNNING": ("█", "blue"),
    "CANCELING": ("▒", "magenta"),
    "FAILED": ("✗", "red"),
    "SUCCESSFUL": ("━", "green"),
    "ABORTED": ("▪", "red"),
}
_SIDES: Final = ("", "ud", "udr", "udl", "udlr", "lr", "ul", "ur", "ulr", "dl", "dr", "dlr")
_RAILS: Final = dict(zip(_SIDES, " │├┤┼─╯╰┴╮╭┬", strict=True))
"""Glyphs by the sides at which they connect: up, down, left, right."""


class TaskExplainer(Explainer[TaskState]):
    """The sentences about one task; a part is a subtask."""

    api, number_key, styles = API, "id", GLYPHS

    def offers(self) -> Iterator[tuple[str, str]]:
        state, rules, allowed = self.state, self.history.rules, dict[Label, Sequence[Operation]]()
        yield from ((operation, self.name()) for operation in machine.allowed_operations(state, rules))
        for place, item in enumerate(state.subtasks):
            if item.label not in allowed:
                allowed[item.label] = machine.allowed_operations(state, rules, subtask=place)
            yield from ((operation, self.name((place,))) for operation in allowed[item.label])

    def why(self, before: TaskState, after: TaskState, change: Change) -> str:
        if change.target is not None:
            effect = ""
            if change.part == change.target:
                effect = f": {_EFFECTS[change.cause]}"
            elif _is_open(before, change.part) and not _is_open(after, change.part):
                effect = ", and cuts its run short"
            return f"{change.cause.partition('.')[2]} of {self.name(change.target)} arrives{effect}"
        if not change.part:
            return self._verdict(after, change.cause)
        who, place = self.name(change.part), change.part[0]
        if change.cause == "start":
            return f"{who} is READY from the start" if change.after[0] == "READY" else ""
        if change.cause == "task tick":
            return f"the task scheduler's tick makes {who} READY{self._turn(after, place)}"
        if change.cause != "subtask tick":
            return self._end(after.subtasks[place], place)
        run = f"starts {self._run(after.subtasks[place], place)}"
        effect = f"interrupts {who}" if change.after[1] == "CANCEL" else run
        if change.after[0] == "READY":
            effect = f"makes {who} READY once more: the server retries it by itself"
        return f"the subtask scheduler's tick {effect}"

    def _verdict(self, state: TaskState, cause: str) -> str:
        if cause == "start":
            return "it starts RUNNING, and what needs nothing else READY"
        if state.status == "ABORTED":
            span = round_duration(self.script.abandoned_after or 0)
            return f"no operation has come for the FAILED task for {span}: it is abandoned"
        tick = "the task scheduler's tick finds"
        if state.status == "FAILED":
            return f"{tick} {self._those(_with(state, 'FAILED'))} FAILED and none RUNNING: so is the task"
        if state.operation == "ROLLBACK":
            return f"{tick} every subtask PENDING, so all is undone: the task is SUCCESSFUL"
        return f"{tick} every subtask SUCCESSFUL: so is the task"

    def _turn(self, after: TaskState, place: int) -> str:
        if after.operation == "ROLLBACK":
            undone = self.script.downstreams[place]
            return " to be undone" + (f", as is all that needs it: {self._those(undone)}" if undone else "")
        needs = self.script.subtasks[place].needs
        if not needs:
            return f": fewer than {self.script.limit} are under way again"
        return f": all it needs is SUCCESSFUL, {self._those(needs)}"

    def _run(self, subtask: SubtaskState, place: int) -> str:
        """Return `attempt 2 of …`, `rollback run 1 of …` or `the skip of …` for the last run."""
        run = subtask.last_run
        assert run is not None
        kind = "rollback run" if run.operation == "ROLLBACK" else "attempt"
        return f"{f'{kind} {run.number}' if run.number else 'the skip'} of {self.name((place,))}"

    def _end(self, subtask: SubtaskState, place: int) -> str:
        run, of = subtask.last_run, self._run(subtask, place)
        assert run is not None
        ended = run.started if run.ended is None else run.ended
        took, log = round_duration(ended - run.started), machine.log_lines_at(run, ended)
        if run.ended_by == "interrupt":
            return f"{of}, interrupted, ends FAILED after {took}{ends_with(log)}"
        if run.ends == "PENDING":
            return f"{of} ends: it is undone, and PENDING again"
        if run.ends != "FAILED":
            return f"{of} ends {run.ends} after {took}"
        limit = ""
        if run.ended_by == "timeout":
            limit = ", its timeout" if self.script.subtasks[place].timeout else ", as a run without a timeout does"
        return f"{of} ends FAILED after {took}{limit}{ends_with(log)}"

    def leading(self) -> list[Event]:
        state = self.state
        matter: tuple[SubtaskStatus, ...] = ("READY", "RUNNING", "CANCELING", "FAILED")
        if state.status != "RUNNING":
            matter = () if state.status == "SUCCESSFUL" else ("FAILED",)
        leading = self.last_of((), number=2 if state.status == "ABORTED" else 1)
        for place in _with(state, *matter)[:MAX_LEADING]:
            leading += self.last_of((place,))
        if state.status != "ABORTED":
            leading += [item for item in self.events if item.part and not item.is_refusal][-1:]
        return leading

    def holding(self) -> Iterator[str]:
        state = self.state
        failed, running = _with(state, "FAILED"), _with(state, "RUNNING")
        if state.status == "RUNNING":
            if failed and running:
                yield f"the task is not FAILED while a subtask is RUNNING: {self._those(running)}"
            elif failed or len(_with(state, _passed(state))) == len(state.subtasks):
                yield "the task scheduler's next tick gives the verdict"
            for place in running[:MAX_EXPLAINED]:
                run = state.subtasks[place].last_run
                if run is not None and (lines := machine.log_lines_at(run, self.age)):
                    yield f"the log of {self.name((place,))} so far ends “{one_line(lines[-1])}”"
        if state.status == "FAILED" or (state.status == "RUNNING" and not failed):
            yield from self._waits()
        if state.status == "FAILED" and state.prohibit_rollback:
            yield "ROLLBACK is refused: the task, or a subtask that has run, forbids it"
        if state.status == "ABORTED":
            yield "an ABORTED task is over for good"

    def _waits(self) -> Iterator[str]:
        """Yield what each subtask waits for; subtasks that wait for waiting ones are only counted."""
        state, number = self.state, 0
        rolling_back = state.operation == "ROLLBACK"
        passed, waiting = _passed(state), _with(state, "SUCCESSFUL" if rolling_back else "PENDING")
        are_waiting = {*waiting}
        for place in waiting:
            if number == MAX_EXPLAINED:
                break
            before = self.script.downstreams[place] if rolling_back else self.script.subtasks[place].needs
            blocking = [item for item in before if state.subtasks[item].status != passed]
            if not are_waiting.isdisjoint(blocking):
                continue
            number += 1
            waits = f"{self.name((place,))} {'is still to be undone' if rolling_back else 'is PENDING'}"
            if blocking:
                others = first_few([f"{self.name((it,))} ({state.subtasks[it].status})" for it in blocking])
                yield f"{waits}: it {'waits for' if rolling_back else 'needs'} {others}"
            elif state.status != "RUNNING":
                yield waits
            elif len(_with(state, "READY", "RUNNING")) >= self.script.limit:
                yield f"{waits}: no more than {self.script.limit} may be under way at once"
            else:
                yield f"{waits} until the task scheduler's next tick"
        if rest := len(waiting) - number:
            yield f"{rest} more {'waits for its' if rest == 1 else 'wait for their'} turn"

    def _those(self, places: Iterable[int]) -> str:
        return self.names((place,) for place in places)

    @staticmethod
    def describe(state: TaskState, part: Part, changes: Sequence[Change]) -> str:
        status, operation = state.label_of(part)
        if (status, operation) == ("PENDING", "EXECUTE") and (not changes or changes[0].before is None):
            return ""
        return f"[{GLYPHS[status][1]}]{status}[/]/{operation}"

    @classmethod
    def picture(cls, scenario: Scenario, script: Task, actor: Actor) -> tuple[list[str], Iterator[str], tuple[()]]:
        facts = [f"× {script.repeat.count}"] if script.repeat else []
        return facts, _draw_dag(script, actor.names, actor.history.script, scenario.tick), ()


explain: Final = TaskExplainer.of
draw_scenario: Final = TaskExplainer.draw_scenario


def _is_open(state: TaskState, part: Part) -> bool:
    """Return whether a subtask has a run under way."""
    return bool(part and (run := state.subtasks[part[0]].last_run) and run.ended is None)


def _with(state: TaskState, *statuses: SubtaskStatus) -> list[int]:
    """Return the positions of the subtasks in one of these statuses."""
    return [place for place, item in enumerate(state.subtasks) if item.status in statuses]


def _passed(state: TaskState) -> SubtaskStatus:
    """Return the status of a subtask for which its dependents wait."""
    return "PENDING" if state.operation == "ROLLBACK" else "SUCCESSFUL"


def _draw_dag(task: Task, names: Sequence[str], script: TaskScript, tick: int) -> Iterator[str]:
    """Yield the rows of a DAG. Each lane leads one edge down to its subtask."""
    lanes: list[int | None] = []
    order = list[int]()  # upstreams first, otherwise as listed
    while len(order) < len(script.subtasks):
        order += [n for n, it in enumerate(script.subtasks) if n not in order and set(it.needs) <= set(order)]
    for position in order:
        arriving = [lane for lane, target in enumerate(lanes) if target == position]
        home = arriving[0] if arriving else _free_lane(lanes)
        lanes[home] = position
        if len(arriving) > 1:
            yield _connection(lanes, home, arriving[1:], "u")
            for lane in arriving[1:]:
                lanes[lane] = None
        row = [" " if target is None else "│" for target in lanes]
        row[home] = "●"
        number = f"  [dim]{task.subtasks[position].id}[/]" if task.subtasks[position].id else ""
        subtask, is_set = script.subtasks[position], "timeout" in task.subtasks[position].model_fields_set
        limit = subtask.timeout * SECOND or watchdog(tick)
        runs = [(attempt.ends == "FAILED", attempt.takes) for attempt in subtask.attempts]
        does = runs_text(runs, limit) + timeout_text(runs, limit, is_set=is_set)
        yield f"  {' '.join(row)}  {escape(names[position])}{number}  [dim]{does}[/]"
        lanes[home], *others = script.downstreams[position] or (None,)
        opened = []
        for other in others:
            opened.append(_free_lane(lanes))
            lanes[opened[-1]] = other
        if opened:
            yield _connection(lanes, home, opened, "d")
        while lanes and lanes[-1] is None:
            lanes.pop()


def _free_lane(lanes: list[int | None]) -> int:
    if None not in lanes:
        lanes.append(None)
    return lanes.index(None)


def _connection(lanes: Sequence[int | None], home: int, ends: Sequence[int], side: str) -> str:
    """Return a row in which lanes join the home lane from above (side "u") or leave it downwards ("d")."""
    low, high = min(home, *ends), max(home, *ends)
    row = ""
    for lane, target in enumerate(lanes):
        vertical = side if lane in ends else "ud" if lane == home or target is not None else ""
        left, right = "l" * (low < lane <= high), "r" * (low <= lane < high)
        row += _RAILS[vertical + left + right] + ("─" if right else " ")
    return f"  [dim]{row.rstrip()}[/]"
