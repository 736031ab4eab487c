"""A walk on an OCP task: what may be asked of it in which state, and what must follow.

Facts: github.com/oceanbase/ocp-express at eb6f2117, OCP's open-source sibling, in
task/task-service/src/main/java/com/oceanbase/ocp/task/engine; classes are named at each rule. What
no public text decides is accepted either way: whether the retry of one subtask counts its runTime,
whether what a rollback has failed at can be retried, and, where ``Codes`` says so, the numbers of
errors. What a server that is not the mock makes of such a retry, or shows of a task when somebody
operates on one subtask, is not judged at all. Nothing here looks at the mock's machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from oceanmock.checks import Exchange, instant
from oceanmock.conformance.machines.base import (
    ACCEPTED,
    UNREADABLE,
    Act,
    Answers,
    Look,
    Notes,
    Pace,
    Sender,
    Walk,
    look,
)
from oceanmock.conformance.machines.knowledge import NOTHING, Known

WISHES: Final = (
    "retrySubtask",
    "retryTask",
    "rollbackTask",
    "skipSubtask",
    "cancelSubtask",
    "illegal",
    "look",
)
_ON_TASK: Final = ("retryTask", "rollbackTask")
_ON_SUBTASK: Final = ("retrySubtask", "skipSubtask", "cancelSubtask")
_VERBS: Final = {
    "retryTask": "retry",
    "rollbackTask": "rollback",
    "retrySubtask": "retry",
    "skipSubtask": "skip",
    "cancelSubtask": "cancel",
}
_UNDER_WAY: Final = ("READY", "RUNNING", "CANCELING")
_BACKWARD: Final = ("ROLLBACK", "ROLLBACK_SKIP")
_SKIPPED: Final = ("SKIP", "ROLLBACK_SKIP")
ILLEGAL: Final = "illegal"
PROHIBITED: Final = "prohibited"
LONGEST_SKIP: Final = 10.0
"""Seconds, where time stands between looks; two ticks of the scheduler would do."""


@dataclass(frozen=True, slots=True)
class Subtask:
    """What a subtask shows."""

    id: int
    name: str
    status: str
    operation: str
    run_time: int
    finish_time: int | str | None
    upstreams: tuple[int, ...]
    downstreams: tuple[int, ...]
    at: int = field(default=0, compare=False)
    """Where it stood in the answer; the subtasks of a task have no order."""

    @property
    def path(self) -> str:
        """Its JSON path."""
        return f"$.data.subtasks[{self.at}]"

    @property
    def words(self) -> str:
        """Its status and operation."""
        return f"{self.status}/{self.operation}"


@dataclass(frozen=True, slots=True)
class Task:
    """What a task shows."""

    id: int
    status: str
    operation: str
    prohibits_rollback: bool
    finish_time: int | str | None
    subtasks: tuple[Subtask, ...]
    """By their ids."""

    @property
    def words(self) -> str:
        """Its status and operation, and those of its subtasks."""
        return f"{self.status}/{self.operation} [{', '.join(each.words for each in self.subtasks)}]"

    @property
    def at_rest(self) -> bool:
        """Whether it has come to an end, and nothing of it is under way."""
        return self.status != "RUNNING" and not self.any_of(*_UNDER_WAY)

    def any_of(self, *statuses: str) -> bool:
        """Whether a subtask shows one of these statuses."""
        return any(each.status in statuses for each in self.subtasks)


class OcpWalk(Walk[Task]):
    """A walk on a task."""

    def __init__(
        self, client: Sender, id: str, *, pace: Pace, notes: Notes, known: Known = NOTHING
    ) -> None:
        super().__init__(client, id, pace=pace, notes=notes)
        self.codes: Final = known.codes

    # --- reading ---

    def path(self) -> str:
        """Where the task is read."""
        return f"/api/v2/tasks/instances/{self.id}"

    def read(self, data: Any) -> Task:
        """The task in an answer's data."""
        return read_task(data)

    # --- what may be asked ---

    def acts(self, shown: Task) -> Iterable[Act]:
        """Every operation of the contract, on the task and on each subtask."""
        places = range(len(shown.subtasks))
        return [
            *(Act(operation) for operation in _ON_TASK),
            *(Act(operation, place) for operation in _ON_SUBTASK for place in places),
        ]

    def answers_to(self, act: Act, shown: Task) -> Answers:
        """By the status (TaskInstanceManagerImpl:59-117, SubtaskInstanceManagerImpl:40-82)."""
        if shown.status == "ABORTED":
            return frozenset({ILLEGAL})
        if act.part is None:
            return _answers_of_task(act, shown)
        subtask = shown.subtasks[act.part]
        wanted = "RUNNING" if act.operation == "cancelSubtask" else "FAILED"
        if subtask.status != wanted:
            return frozenset({ILLEGAL})
        if act.operation == "retrySubtask" and subtask.operation == "ROLLBACK":
            return frozenset({ILLEGAL} if self.pace.stands else {ACCEPTED, ILLEGAL})
        return frozenset({ACCEPTED})

    def state_for(self, act: Act, shown: Task) -> str:
        """The status and operation of what it is asked of."""
        if act.part is None:
            return f"{shown.status}/{shown.operation}/{shown.prohibits_rollback}"
        return f"{shown.status}/{shown.operation}/{shown.subtasks[act.part].words}"

    def ask(self, act: Act, shown: Task, *, expects_refusal: bool) -> Exchange:
        """Posts to the operation's own path."""
        path = self.path()
        if act.part is not None:
            path = f"{path}/subtasks/{shown.subtasks[act.part].id}"
        return self.client.send(
            "POST",
            f"{path}/{_VERBS[act.operation]}",
            phase="machine",
            operation=act.operation,
            expects_refusal=expects_refusal,
        )

    def called(self, act: Act, shown: Task) -> str:
        """The operation, and of which subtask."""
        if act.part is None:
            return act.operation
        subtask = shown.subtasks[act.part]
        return f"{act.operation} of {subtask.id} ({subtask.words})"

    # --- judging ---

    def judge_answer(self, act: Act, before: Task, exchange: Exchange) -> Iterator[Look]:
        """Accepted where the state allows it, else refused with 400 and the code of its reason."""
        answers, called = self.answers_to(act, before), self.called(act, before)
        is_accepted = (exchange.status or 0) < 300
        state = f"the task is {before.status}/{before.operation}"
        if answers == {ACCEPTED}:
            said = f"{called} is answered {exchange.status}, though {state}."
            yield look("machine.refused", is_accepted, "$", said)
            return
        if ACCEPTED not in answers:
            rule = "machine.prohibited" if PROHIBITED in answers else "machine.illegal"
            because = "it shows prohibitRollback" if PROHIBITED in answers else state
            said = f"{called} is answered {exchange.status}, though {because}."
            yield look(rule, not is_accepted, "$", said)
        if not is_accepted:
            said = f"{called} is refused with {exchange.status}, and not with 400."
            yield look("machine.refusal-status", exchange.status == 400, "$.status", said)
            if exchange.status == 400:
                yield self._judge_code(act, called, PROHIBITED in answers, exchange)

    def _judge_code(self, act: Act, called: str, is_prohibited: bool, exchange: Exchange) -> Look:
        """One of those that are known; else that with which this operation was refused before."""
        reason = PROHIBITED if is_prohibited else ILLEGAL
        code = _code_of(exchange)
        wanted = self.codes.prohibited if is_prohibited else self.codes.illegal
        if wanted is None:
            wanted = self.notes.learned.setdefault(("code", act.operation, reason), code)
        said = f"{called} is refused with the code {code}, and not with {wanted} ({reason})."
        kept = code == wanted and type(code) is int
        return look("machine.refusal-code", kept, "$.error.code", said)

    def judge_effect(self, act: Act, before: Task, after: Task, answer: Exchange) -> Iterator[Look]:
        """What the operation does at once, at the next look and in its own answer."""
        wanted, called = _after(act, before), self.called(act, before)
        if not self.pace.stands:
            if not _is_undecided(act, before):
                yield from self._judge_meanwhile(act, wanted, after, called)
            return
        looks = list(_compared(act, wanted, after, called, "shows"))
        yield from looks
        if not any(each.wrong for each in looks):
            yield from self._judge_data(act, wanted, called, answer)

    def _judge_data(self, act: Act, wanted: Task, called: str, answer: Exchange) -> Iterator[Look]:
        """The data of the answer; skip and cancel have none, and a rollback may have none."""
        body = answer.json()
        data = body.get("data") if isinstance(body, dict) else None
        if not isinstance(data, dict) or act.operation in ("skipSubtask", "cancelSubtask"):
            return
        try:
            if act.operation == "retrySubtask" and act.part is not None:
                looks = [_judge_retried(_subtask(data), wanted.subtasks[act.part], called)]
            else:
                looks = list(_compared(act, wanted, self.read(data), called, "is answered with"))
        except UNREADABLE:
            return  # its shape is for the checks of answers to complain of
        for each in looks:
            wrong = each.wrong and replace(each.wrong, rule="machine.answer")
            yield Look("machine.answer", wrong)

    def _judge_meanwhile(self, act: Act, wanted: Task, after: Task, called: str) -> Iterator[Look]:
        """The same where time runs: what it was asked of may have gone on since."""
        others_fail = sum(each.status == "FAILED" for each in wanted.subtasks) > 0
        said = f"after {called} the task shows {after.words}."
        is_back = after.status == "FAILED" and (others_fail or after.at_rest)
        yield look(
            "machine.parent",
            act.operation == "cancelSubtask" or is_back or after.status != "FAILED",
            "$.data.status",
            said,
        )
        if act.part is not None:
            return  # some documents give a task the operations of subtasks, too
        yield look("machine.effect", after.operation == wanted.operation, "$.data.operation", said)
        for new, old in zip(after.subtasks, wanted.subtasks, strict=False):
            if old.status == "READY" and act.operation == "retryTask":
                yield _judge_count(new, old, called, at_least=True)

    def judge_shown(self, shown: Task) -> Iterator[Look]:
        """What holds at each look."""
        yield from _judge_parent(shown, is_settled=self.pace.stands or shown.at_rest)
        yield from _judge_order(shown)
        if shown.status in ("FAILED", "SUCCESSFUL"):
            said = f"the task is {shown.status}, and has no finishTime."
            kept = shown.finish_time is not None
            yield look("machine.finish-time", kept, "$.data.finishTime", said)
        for place, each in enumerate(shown.subtasks):
            if each.status in ("FAILED", "SUCCESSFUL"):
                said = f"subtask {each.id} is {each.words}, and has no finishTime."
                kept = each.finish_time is not None
                yield look("machine.finish-time", kept, f"{each.path}.finishTime", said)
            if each.operation in _SKIPPED:
                yield self._judge_skipped(place, each)

    def _judge_skipped(self, place: int, subtask: Subtask) -> Look:
        """It is over soon, and has not failed."""
        last = self._since[-1][0] if self._since else None
        is_new = last == Act("skipSubtask", place) and subtask.status in _UNDER_WAY
        lasted = self._waited if is_new else 0.0
        is_short = lasted <= LONGEST_SKIP or not self.pace.stands
        said = f"subtask {subtask.id} is {subtask.words}" + (
            f" {lasted:g} s after it was skipped." if not is_short else ": what is skipped cannot."
        )
        kept = subtask.status != "FAILED" and is_short
        return look("machine.skip", kept, f"{subtask.path}.status", said)

    def judge_rest(self, act: Act, before: Task, after: Task) -> Iterator[Look]:
        """Where an operation has led, if no other one came in between."""
        called = self.called(act, before)
        if _is_undecided(act, before) and not self.pace.stands:
            return
        if before.finish_time is not None and act.operation != "cancelSubtask":
            said = f"after {called} the task ended anew, and has its old finishTime."
            kept = after.finish_time != before.finish_time
            yield look("machine.finish-time", kept, "$.data.finishTime", said)
        if act.part is not None:
            yield from self._judge_subtask(act, before, after, called)
        elif act.operation == "rollbackTask":
            said = f"{called} has led to {after.words}."
            kept = after.operation == "ROLLBACK"
            yield look("machine.outcome", kept, "$.data.operation", said)
        else:
            for old, new in zip(before.subtasks, after.subtasks, strict=False):
                if old.status == "FAILED":
                    yield _judge_ran(new, called)

    def _judge_subtask(self, act: Act, before: Task, after: Task, called: str) -> Iterator[Look]:
        new = after.subtasks[act.part or 0]
        path = f"{new.path}.status"
        said = f"{called} has led to {new.words}."
        if act.operation == "cancelSubtask":
            kept = new.status == "FAILED" or not self.pace.stands
            yield look("machine.cancel", kept, path, said)
        elif act.operation == "retrySubtask":
            if before.operation != "ROLLBACK":
                yield _judge_ran(new, called)
        else:
            wanted = "PENDING" if before.operation == "ROLLBACK" else "SUCCESSFUL"
            kept = new.status == wanted or new.operation not in _SKIPPED
            yield look("machine.skip", kept, path, said)

    def may_move(self, before: Task, after: Task) -> bool:
        """A FAILED task can be abandoned; elsewhere than in a sandbox, others may operate on it."""
        if before.status == "FAILED":
            return after.status == "ABORTED" or not self.pace.stands
        return False

    def is_waiting(self, shown: Task) -> bool:
        """RUNNING, and no subtask is READY, RUNNING or CANCELING."""
        return shown.status == "RUNNING" and not shown.any_of(*_UNDER_WAY)

    def read_logs(self, before: Task, after: Task) -> None:
        """Of one subtask that has ended anew, and rather not of one that ran for the first time."""
        ends = {each.id: each.finish_time for each in before.subtasks}
        anew = [each for each in after.subtasks if each.finish_time != ends.get(each.id)]
        for each in sorted(anew, key=lambda each: each.operation == "EXECUTE")[:1]:
            self.client.send("GET", f"{self.path()}/subtasks/{each.id}/log", phase="machine")


def read_task(data: Any) -> Task:
    """The task in an answer's data. Raises one of UNREADABLE."""
    return Task(
        id=int(data["id"]),
        status=str(data["status"]),
        operation=str(data["operation"]),
        prohibits_rollback=bool(data.get("prohibitRollback")),
        finish_time=_time(data.get("finishTime")),
        subtasks=tuple(
            sorted(
                (_subtask(each, at) for at, each in enumerate(data["subtasks"])),
                key=lambda each: each.id,
            )
        ),
    )


def _subtask(data: Any, at: int = 0) -> Subtask:
    return Subtask(
        id=int(data["id"]),
        name=str(data["name"]),
        status=str(data["status"]),
        operation=str(data["operation"]),
        run_time=int(data["runTime"]),
        finish_time=_time(data.get("finishTime")),
        upstreams=tuple(sorted(data.get("upstreams") or ())),
        downstreams=tuple(sorted(data.get("downstreams") or ())),
        at=at,
    )


def _time(said: Any) -> int | str | None:
    """An instant, however it is written; what is none as it is."""
    at = instant(said)
    return said if at is None else at


def _code_of(exchange: Exchange) -> Any:
    body = exchange.json()
    error = body.get("error") if isinstance(body, dict) else None
    return error.get("code") if isinstance(error, dict) else None


def _answers_of_task(act: Act, shown: Task) -> Answers:
    if shown.status != "FAILED":
        return frozenset({ILLEGAL})
    if act.operation == "rollbackTask":
        return frozenset({PROHIBITED if shown.prohibits_rollback else ACCEPTED})
    # The user guide of OCP 4.2.2 offers what TaskInstanceManagerImpl:99-101 refuses.
    return frozenset({ACCEPTED, ILLEGAL} if shown.operation == "ROLLBACK" else {ACCEPTED})


def _is_undecided(act: Act, before: Task) -> bool:
    """Whether it retries what a rollback has failed at: only a user guide has that."""
    return act.operation in ("retryTask", "retrySubtask") and before.operation == "ROLLBACK"


# --- what an operation does at once ---------------------------------------------------------------


def _after(act: Act, before: Task) -> Task:
    """What must show right after an act that was accepted."""
    if act.operation == "retryTask":
        subtasks = tuple(map(_retried_with_its_task, before.subtasks))
        return replace(before, status="RUNNING", operation="RETRY", subtasks=subtasks)
    if act.operation == "rollbackTask":
        status_of = {each.id: each.status for each in before.subtasks}
        subtasks = tuple(_rolled_back(each, status_of) for each in before.subtasks)
        return replace(before, status="RUNNING", operation="ROLLBACK", subtasks=subtasks)
    place = act.part or 0
    old = before.subtasks[place]
    if act.operation == "cancelSubtask":
        return _with(before, place, replace(old, status="CANCELING"))
    skip = "ROLLBACK_SKIP" if before.operation == "ROLLBACK" else "SKIP"
    operation = "RETRY" if act.operation == "retrySubtask" else skip
    changed = replace(old, status="READY", operation=operation)
    return replace(_with(before, place, changed), status="RUNNING")


def _retried_with_its_task(subtask: Subtask) -> Subtask:
    if subtask.status != "FAILED":
        return subtask
    return replace(subtask, status="READY", operation="RETRY", run_time=subtask.run_time + 1)


def _rolled_back(subtask: Subtask, status_of: dict[int, str]) -> Subtask:
    """Marked, unless it never ran; READY where nothing that came after it is left to undo."""
    if subtask.status == "PENDING":
        return subtask
    is_next = all(status_of.get(each) == "PENDING" for each in subtask.downstreams)
    return replace(subtask, operation="ROLLBACK", status="READY" if is_next else subtask.status)


def _with(task: Task, place: int, subtask: Subtask) -> Task:
    subtasks = (*task.subtasks[:place], subtask, *task.subtasks[place + 1 :])
    return replace(task, subtasks=subtasks)


def _compared(act: Act, wanted: Task, shown: Task, called: str, shows: str) -> Iterator[Look]:
    """A task that shows, held against what has to."""
    said = f"{called} was accepted, and the task {shows} {{}} {{}}, and not {{}}."
    yield look(
        "machine.parent",
        shown.status == wanted.status,
        "$.data.status",
        said.format("status", shown.status, wanted.status),
    )
    yield look(
        "machine.effect",
        shown.operation == wanted.operation,
        "$.data.operation",
        said.format("operation", shown.operation, wanted.operation),
    )
    for place, (new, old) in enumerate(zip(shown.subtasks, wanted.subtasks, strict=False)):
        rule = "machine.rollback-order" if act.operation == "rollbackTask" else "machine.effect"
        if act.operation == "rollbackTask" and new.operation != old.operation:
            rule = "machine.effect"
        yield look(
            rule,
            new.words == old.words,
            f"{new.path}.status",
            f"{called} was accepted, and subtask {new.id} {shows} {new.words}, "
            f"and not {old.words}.",
        )
        if act.operation == "retrySubtask" and place == act.part:
            yield _judge_own_count(new, old, called)
        else:
            yield _judge_count(new, old, called)


def _judge_retried(shown: Subtask, wanted: Subtask, called: str) -> Look:
    said = f"{called} is answered with {shown.words}, and not with {wanted.words}."
    kept = shown.words == wanted.words and shown.id == wanted.id
    return look("machine.answer", kept, "$.data.status", said)


def _judge_count(shown: Subtask, wanted: Subtask, called: str, *, at_least: bool = False) -> Look:
    """Exactly so often; where time runs it may have retried itself since (FailedSubtaskWorker)."""
    said = (
        f"after {called} the runTime of {shown.id} is {shown.run_time}, and not {wanted.run_time}."
    )
    kept = shown.run_time == wanted.run_time or (at_least and shown.run_time > wanted.run_time)
    return look("machine.count", kept, "$.data.subtasks[*].runTime", said)


def _judge_own_count(shown: Subtask, wanted: Subtask, called: str) -> Look:
    """Retried by itself: no text decides whether that counts."""
    may_be = (wanted.run_time, wanted.run_time + 1)
    said = f"after {called} its runTime is {shown.run_time}, and was {wanted.run_time}."
    return look("machine.count", shown.run_time in may_be, "$.data.subtasks[*].runTime", said)


def _judge_ran(subtask: Subtask, called: str) -> Look:
    said = f"{called} has led to {subtask.words}: it did not run again."
    kept = subtask.operation == "RETRY" and subtask.status in ("SUCCESSFUL", "FAILED")
    return look("machine.outcome", kept, f"{subtask.path}.status", said)


# --- what holds at each look ----------------------------------------------------------------------


def _judge_parent(task: Task, *, is_settled: bool) -> Iterator[Look]:
    """What it makes of its subtasks (RunningTaskWorker:105-176).

    One that retries by itself may already be READY again under a task that has FAILED.
    """
    said, path = f"the task shows {task.words}.", "$.data.status"
    if task.status == "FAILED" and is_settled:
        yield look("machine.parent", task.any_of("FAILED"), path, said)
    if task.status == "SUCCESSFUL":
        goal = "PENDING" if task.operation == "ROLLBACK" else "SUCCESSFUL"
        kept = all(each.status == goal for each in task.subtasks) or _is_undone_by_retry(task)
        yield look("machine.parent", kept, path, said)


def _is_undone_by_retry(task: Task) -> bool:
    """Whether what was retried is a rollback that had failed; only a user guide has that."""
    is_back = any(each.operation in _BACKWARD for each in task.subtasks)
    return task.operation == "RETRY" and is_back and not task.any_of("SUCCESSFUL", "FAILED")


def _judge_order(task: Task) -> Iterator[Look]:
    """Forward after what it needs, backward after what came after it."""
    of = {each.id: each for each in task.subtasks}
    for each in task.subtasks:
        path = f"{each.path}.status"
        is_running = each.status in ("READY", "RUNNING")
        if each.operation == "EXECUTE" and is_running:
            early = [up for up in each.upstreams if up in of and of[up].status != "SUCCESSFUL"]
            said = f"subtask {each.id} is {each.words}, and {early} that it needs have not ended."
            yield look("machine.order", not early, path, said)
        if each.operation in _BACKWARD and (is_running or each.status == "PENDING"):
            left = [
                down for down in each.downstreams if down in of and of[down].status != "PENDING"
            ]
            said = f"subtask {each.id} is {each.words} before {left} after it are undone."
            yield look("machine.rollback-order", not left, path, said)
