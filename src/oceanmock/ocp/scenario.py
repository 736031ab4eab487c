"""Model an OCP scenario: its tasks, their subtasks, its faults and its story.

A file says what each attempt of each subtask does and how long it takes; the engine generates ids, names and addresses
that are left out from a seed. The rules at the end check what only the whole file shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from itertools import product
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, StrictBool, model_validator
from pydantic.alias_generators import to_camel

from oceanmock import clock
from oceanmock import scenario as base
from oceanmock.api import Json
from oceanmock.errors import Issue, Loc
from oceanmock.ocp import api, machine, states
from oceanmock.ocp.api import API, ChangeId, SubtaskOperation, SubtaskStatus, TaskOperation, TaskStatus, read_long
from oceanmock.openapi import path_matches
from oceanmock.scenario.document import Wording, contradiction, wrong_value
from oceanmock.scenario.faults import MAX_FAULTS, Fault, OperationName
from oceanmock.scenario.story import Actor, Format, label_of
from oceanmock.scenario.stubs import BaseWhen, StartRefusal, StartsOn, Stub
from oceanmock.text import suggest

MAX_UNORDERED: Final = 10_000  # tasks of a file whose names' order is not that of their numbers: a list reads each


class Attempt(base.Model):
    """One run of a subtask."""

    takes: base.Takes = Field(default=clock.SECOND, json_schema_extra={"default": "1s"})
    """The duration of the run; `forever` if only its timeout or a cancel ends it."""
    ends: states.Outcome | None = None
    """The state in which it ends: SUCCESSFUL (the default) or FAILED."""
    log: base.Lines = ()
    """Its log: a text or a list of lines, written evenly over the time that it takes."""


Attempts = Annotated[tuple[Attempt, ...], Field(min_length=1), base.OrOne()]


class Named(base.Model):
    """A person or a thing with an id and a name."""

    id: base.Id
    name: base.Name

    @cached_property
    def as_json(self) -> Json:
        """Return it as the API has it."""
        return {to_camel(key): value for key, value in self}


class Cluster(Named):
    """The OceanBase cluster a task works on."""

    ob_cluster_id: base.Id
    type: Literal["PRIMARY", "STANDBY"] = "PRIMARY"


class Tenant(Named):
    """The OceanBase tenant a task works on."""

    ob_tenant_id: base.Id
    mode: Literal["MYSQL", "ORACLE"] = "MYSQL"


class Subtask(base.NamedModel):
    """A step of a task. Its name alone is enough: `- Start observer`."""

    id: base.Id | None = None
    name: base.Name | None = None
    description: str | None = None
    """The name, if left out."""
    needs: Annotated[tuple[base.Reference, ...], base.OrOne()] | None = None
    """The subtasks that must succeed before this one starts, by id or name; if left out, the one listed before it.
    `[]` if it may start at once."""
    attempts: Attempts = (Attempt(),)
    """The result of each run: one attempt, or a list whose last one repeats. If left out, a run takes a second and
    succeeds."""
    rollback: Attempts = (Attempt(),)
    """The result of each rollback of it, in the same form."""
    timeout: base.Timeout = Field(default=3600, json_schema_extra={"default": "1h"})
    """The time after which a run fails. With `0s` only the server's watchdog ends it: at the first tick after eleven
    seconds."""
    retries: Annotated[int, Field(ge=0, le=100), base.WHOLE] = 0
    """How often the server itself runs it again after a failure, as ocp-express does with some classes of subtasks;
    runTime counts each run (FailedSubtaskWorker.java:59-88). The task may be FAILED before the last of these runs, and
    then stays FAILED (RunningTaskWorker.java:104-121)."""
    prohibit_rollback: StrictBool = False
    """Whether the task can no longer be rolled back once this subtask has started."""
    executor: str | None = None
    """The address of the node that runs it."""
    series_id: Annotated[int, Field(ge=0, le=base.MAX_ID), base.WHOLE] | None = None
    """The API's seriesId, which is *not* the order of execution; its position, if left out."""
    parallel_idx: Annotated[int, Field(ge=-1, lt=2**31), base.WHOLE] = -1
    class_name: str | None = None
    """The Java class that older versions of OCP show."""


class OcpStartsOn(StartsOn):
    """The request outside the task API that starts it; each matching request starts another one."""

    api: ClassVar = API

    in_contents: StrictBool = False
    """Whether the response has the task in `data.contents`, as the response to adding hosts has, instead of
    as `data` itself."""
    refuses: Annotated[tuple[OcpRefusal, ...], Field(max_length=base.MAX_REFUSALS)] = ()
    """Refusals of the request; the first one that matches is sent, and nothing starts."""


class Repeat(base.Model):
    """Many tasks of one kind. `{n}` in the name is the number of the task; ids of tasks and subtasks are consecutive.
    Each task is built when it is read: a million cost no more than one. With `{n}` twice in the name, or before a
    digit, a file may have 10,000."""

    count: Annotated[int, Field(ge=1, le=base.MAX_COPIES), base.WHOLE]
    """The number of tasks, at most 1,000,000."""
    every: base.DurationText = Field(default=0, json_schema_extra={"default": "0s"})
    """The time between the starts of two tasks."""


class OtherCall(base.Model):
    """An operation of another client. It has no effect if the task's state does not allow it."""

    at: base.DurationText
    """The time since the task's start."""
    call: ChangeId
    subtask: Annotated[int, Field(ge=1), base.WHOLE] | None = None
    """The subtask that the call names, by its position in the task, from 1."""


class Task(base.Model):
    """An OCP task: a DAG of subtasks."""

    id: base.Id | None = None
    name: base.Name | None = None
    type: Literal["MANUAL", "SYS_ONCE", "SCHEDULED", "SYS_SCHEDULED"] = "MANUAL"
    """How it was started. The logs of a SYS_SCHEDULED task lack the lines of its attempts, as in ocp-express
    (RunnerFactory.java:170-177)."""
    subtasks: Annotated[tuple[Subtask, ...], Field(min_length=1, max_length=2000)]
    """Its subtasks in the order of the API's list, which may differ from the order in which they run."""
    age: base.DurationText = Field(default=0, json_schema_extra={"default": "0s"})
    """The time between its start and the sandbox's start."""
    starts_on: OcpStartsOn | None = None
    """The request that starts it. Without one, it exists from the start."""
    repeat: Repeat | None = None
    concurrency: Annotated[int, Field(ge=1, le=base.MAX_ID), base.WHOLE] | None = None
    """The number of subtasks that may be READY or RUNNING at once; if left out, ten, except that at the start all
    that need no other are READY, as in ocp-express (ReadyTaskWorker.java:176-191)."""
    prohibit_rollback: StrictBool = False
    abandoned_after: base.DurationText | None = None
    """The time after which a FAILED task is abandoned and becomes ABORTED: a state that OCP's metadata database has,
    but that no public document shows in the API."""
    creator: Named | None = None
    cluster: Cluster | None = None
    tenant: Tenant | None = None
    host_id: base.Id | None = None
    executor: str | None = None
    task_definition_id: Annotated[int, Field(ge=-1, le=base.MAX_ID), base.WHOLE] = -1
    """-1 for a task that no schedule started."""
    others: Annotated[tuple[OtherCall, ...], Field(max_length=base.MAX_OTHERS)] = ()
    """Operations of other clients."""

    @model_validator(mode="after")
    def _others_have_a_part(self) -> Task:
        for other in self.others:
            if ("subtask" in API.ids_of(other.call)) != (other.subtask is not None):
                raise contradiction("bad_other", "has a call of others that needs a `subtask`, or has none to have")
            if (other.subtask or 0) > len(self.subtasks):
                raise contradiction("bad_other", "has a call of others on a subtask that it does not have")
        if self.others and self.repeat is not None:
            raise contradiction("bad_other", "repeats, and yet has calls of others")
        return self


class Switches(base.Model):
    """Choices where no public document says what OCP does; the defaults are ocp-express', unless a
    switch says why not."""

    subtask_pairing: Literal["ignored", "checked"] = "ignored"
    """Whether a subtask's route checks that the subtask belongs to the task in the path.
    ocp-express ignores the task (TaskService.java:103-133) and returns an empty log for an unknown
    subtask; `checked` refuses both with 404."""
    undocumented_task_path: StrictBool = False
    """Also serve GET /api/v2/tasks/{id}, which no document has and a public client polls."""
    retry_after_failed_rollback: StrictBool = False
    """Accept a retry of a task whose rollback failed, as the user guide of OCP 4.2.2 says."""
    subtask_retry_counts: StrictBool = False
    """Let the retry of one subtask increment its runTime, as the database's comment says."""
    basic_challenge: StrictBool = False
    """Send `WWW-Authenticate: Basic` with a 401, for clients that wait for it before they send
    credentials. ocp-express sends none (CustomAuthenticationEntryPoint.java:62-70)."""
    unknown_path: Literal["refused", "index"] = "refused"
    """The response to a path that the mock does not serve: 404 and a JSON error, or 200 and a web page as from
    ocp-express (CustomErrorController.java:34-42). The mock serves few of OCP's paths: with 200 for the others, a test
    could pass although its request was never executed."""
    wrong_method: Literal["refused", "index", "failed"] = "refused"
    """The response to a method that a path does not have: `refused`, 405 and a JSON error; `index`, the web page, as
    Spring 5.3 responds because the ControllerAdvice of ocp-express names its packages; or `failed`, 500, as that advice
    responds to other exceptions (RestExceptionHandler.java:343-358). Of these, a client can tell only 405 from a
    broken server."""
    error_code_not_found: base.Int32 = 20000
    error_code_illegal_state: base.Int32 = 20003
    error_code_rollback_prohibited: base.Int32 = 20004
    error_code_forbidden: base.Int32 = 30014


class Until(base.Model):
    """A state to wait for: of a task, or of one of its subtasks."""

    task: base.Reference
    subtask: base.Reference | None = None
    status: Literal[SubtaskStatus, TaskStatus] | None = None
    operation: SubtaskOperation | None = None

    @model_validator(mode="after")
    def _check_words(self) -> Until:
        if self.status is None and self.operation is None:
            raise contradiction("bad_step", "waits for neither a status nor an operation")
        kind = API.kinds[0 if self.subtask is None else 1]
        if self.status not in (None, *kind.states):
            what = f"a {kind.title} is never {self.status}"
            raise wrong_value("status", what, suggest(self.status, kind.states))
        if self.operation not in (None, *kind.shown_operations):
            what = f"the operation of a {kind.title} is never {self.operation}"
            raise wrong_value("operation", what, suggest(self.operation, kind.shown_operations))
        return self


class Step(base.BaseStep):
    """One step of a story: wait `until` a state shows, `wait` a while, `start` a task that starts
    on a request, or `call` an operation."""

    keys_of_calls: ClassVar[Mapping[str, tuple[str, ...]]] = {
        route.id: tuple(route.ids) for route in API.routes if route.changes
    }
    operations: ClassVar[Mapping[str, str]] = {route.id: route.operation for route in API.routes}

    until: Until | None = None
    call: ChangeId | None = None
    task: base.Reference | None = None
    subtask: base.Reference | None = None
    answers: Literal[200, 400] = 200
    """The HTTP status of the response: 400 if the state does not allow the call."""


class OcpFaultWhen(BaseWhen):
    """A condition of a fault: on a task of this file or of the request, on the clock, or on both."""

    api: ClassVar = API
    of_request: ClassVar = True

    task: base.Reference | None = None
    """A task by its id or name; the task or subtask that the request names, if left out."""
    status: Annotated[tuple[Literal[SubtaskStatus, TaskStatus], ...], base.OrOne()] = ()
    """The states in which the condition holds; any, if left out."""


class OcpFault(Fault):
    """An injected fault: the requests that it applies to, and its effects. Tasks are not affected."""

    api: ClassVar[str] = API.name
    ids_by_operation: ClassVar[Mapping[str, Mapping[str, str]]] = {route.id: route.ids for route in API.routes}
    changing_operations: ClassVar[frozenset[str]] = frozenset(route.id for route in API.routes if route.changes)

    operation: Annotated[tuple[Annotated[str, OperationName(API)], ...], Field(min_length=1), base.OrOne()] = ()
    """The operations that it applies to, by operationId, including those that start something; all, if left out."""
    task: base.Id | None = None
    """The id of the task in the request's path; any, if left out."""
    subtask: base.Id | None = None
    """The id of the subtask in the request's path; any, if left out."""
    when: OcpFaultWhen | None = None
    error_code: Annotated[int, Field(strict=True, ge=0, lt=10**9)] | None = None

    @staticmethod
    def is_same_id(id: str, expected: int | str) -> bool:
        with suppress(ValueError):
            return read_long(id) == expected
        return False


class When(BaseWhen):
    """A condition of a stub: on a task of this file, on the clock, or on both."""

    api: ClassVar = API
    item_schema: ClassVar = "WrappedTaskInstance"

    task: base.Reference | None = None
    """A task, by its id or name, that must have started; of several, the one that started last."""
    status: Annotated[tuple[TaskStatus, ...], base.OrOne()] = ()
    """The states in which the condition holds; any, if left out."""
    operation: Annotated[tuple[TaskOperation, ...], base.OrOne()] = ()
    """The operations in which the condition holds; any, if left out."""


class OcpRefusal(StartRefusal):
    """A refusal of the request that starts it, once its body and credentials are accepted."""

    when: When | None = None
    code: base.Int32 = 0
    """The error's code."""


class OcpStub(Stub):
    """A response to a call beside the task routes; the first stub that matches a request responds."""

    when: When | None = None


class Scenario(base.BaseScenario):
    """A scenario: tasks, how time passes for them, faults, and a story of a client with them."""

    api: Literal["ocp"]
    switches: Switches = Switches()
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    stubs: Annotated[tuple[OcpStub, ...], Field(max_length=base.MAX_STUBS)] = ()
    faults: Annotated[tuple[OcpFault, ...], Field(max_length=MAX_FAULTS)] = ()
    """Injected faults; the first one that applies to a request is injected."""
    story: Annotated[tuple[Step, ...], Field(max_length=base.MAX_STORY_STEPS)] = ()
    """Steps of a client with these tasks, simulated when the file is loaded."""


def script_of(task: Task) -> states.TaskScript:
    """Return the machine's script of a task whose references have been checked."""
    scripts = list[states.SubtaskScript]()
    for subtask, needs in zip(task.subtasks, upstreams_of(task), strict=True):
        attempts, rollbacks = tuple(map(_run_script, subtask.attempts)), tuple(map(_run_script, subtask.rollback))
        limits = subtask.timeout, subtask.prohibit_rollback, subtask.retries
        scripts.append(states.SubtaskScript(attempts, rollbacks, needs, *limits))
    operations = {route.id: route.operation for route in API.routes}
    others = [(it.at, operations[it.call], it.subtask and it.subtask - 1) for it in task.others]
    options = (task.concurrency, task.prohibit_rollback, task.abandoned_after)
    return states.TaskScript(tuple(scripts), *options, tuple(others))


def _run_script(run: Attempt) -> states.RunScript:
    return states.RunScript(run.takes, run.ends or "SUCCESSFUL", base.lines_of(run.log))


def rules_of(tick: int, switches: Switches) -> states.Rules:
    """Return the machine's rules under a tick and switches."""
    retries, counts = switches.retry_after_failed_rollback, switches.subtask_retry_counts
    return states.Rules(tick, retry_after_failed_rollback=retries, subtask_retry_counts=counts)


def upstreams_of(task: Task) -> list[tuple[int, ...]]:
    """Return the positions of the upstreams of each subtask."""
    positions: dict[int | str | None, int] = {}
    for place, subtask in enumerate(task.subtasks):
        positions.setdefault(subtask.id, place)
        positions.setdefault(subtask.name, place)
    upstreams = list[tuple[int, ...]]()
    for place, subtask in enumerate(task.subtasks):
        needs = [place - 1] if place else []
        if subtask.needs is not None:
            needs = [positions[reference] for reference in subtask.needs]
        upstreams.append(tuple(dict.fromkeys(needs)))
    return upstreams


class OcpActor(Actor):
    """A task of a story; its parts are its subtasks."""

    api: ClassVar = API
    machine: ClassVar = machine

    @staticmethod
    def begin(scenario: Scenario, script: Task, created: int) -> machine.History:
        rules = rules_of(scenario.tick, scenario.switches)
        return machine.start(script_of(script), replace(rules, phase=-created % rules.tick))


def _check_tasks(scenario: Scenario) -> Iterator[Issue]:
    """Yield issues of repeated tasks (ids of subtasks, starts after the sandbox's, names), and cycles of subtasks."""
    unordered = 0
    for number, task in enumerate(scenario.tasks):
        if task.repeat is not None:
            if re.search(r"\{n}([0-9]|.*\{n})", task.name or "", re.DOTALL):
                unordered += task.repeat.count
                if unordered > MAX_UNORDERED:
                    what = f"more than {MAX_UNORDERED:,} tasks have a name with `{{n}}` twice, or before a digit"
                    hint = "Let them repeat less often, or write `{n}` once, and no digit behind it."
                    yield Issue(("tasks", number, "name"), "unordered-names", what, hint)
            for place, subtask in enumerate(task.subtasks):
                if subtask.id is not None:
                    what = "a subtask of a repeated task cannot have an id of its own"
                    loc: Loc = ("tasks", number, "subtasks", place, "id")
                    yield Issue(loc, "repeated-id", what, "Leave it out: each gets one.")
            last = task.repeat.every * (task.repeat.count - 1)
            if last > task.age:
                what = "the last of these tasks would start after the sandbox's start"
                hint = f"Give `age` at least {-(-last // clock.SECOND)}s."
                yield Issue(("tasks", number, "repeat"), "starts-later", what, hint)
        try:
            TopologicalSorter(dict(enumerate(upstreams_of(task)))).prepare()
        except CycleError as error:
            places = error.args[1][:0:-1]  # each one waits for the next
            first = places.index(min(places))
            cycle = [*places[first:], *places[: first + 1]]
            names = " → ".join(label_of(task.subtasks[place], place) for place in cycle)
            loc = ("tasks", number, "subtasks", cycle[0], "needs")
            yield Issue(loc, "cycle", f"these subtasks wait for one another: {names}")


def _check_paths(scenario: Scenario) -> Iterator[Issue]:
    """Yield the stubs at the path that a switch gives to a task."""
    for number, stub in enumerate(scenario.stubs if scenario.switches.undocumented_task_path else ()):
        if stub.method == "GET" and path_matches(api.UNDOCUMENTED_TASK_PATH, stub.path):
            what = f"{stub.path} belongs to getTaskInstance where `undocumented_task_path` is true"
            yield Issue(("stubs", number, "path"), "wrong-path", what)


def _check_attempts(scenario: Scenario) -> Iterator[Issue]:
    """Yield attempts that never run, and successes that would come after the timeout."""
    cancels = {(step.task, step.subtask) for step in scenario.story if step.call == "cancelSubtask"}
    for number, task in enumerate(scenario.tasks):
        for place, subtask in enumerate(task.subtasks):
            limit, name = subtask.timeout * clock.SECOND or states.watchdog(scenario.tick), label_of(subtask, place)
            references = product((task.id, task.name), (subtask.id, subtask.name))
            # A retry after a failed rollback runs subtasks again that succeeded and were rolled back.
            is_cancelled = ("cancelSubtask", place + 1) in {(it.call, it.subtask) for it in task.others}
            is_cancelled |= not cancels.isdisjoint(references)
            runs_again = scenario.switches.retry_after_failed_rollback or is_cancelled
            for key, attempts in (("attempts", subtask.attempts), ("rollback", subtask.rollback)):
                loc: Loc = ("tasks", number, "subtasks", place, key)
                for nth, attempt in enumerate(attempts, start=1):
                    is_in_time = attempt.takes is not None and attempt.takes <= limit
                    if attempt.ends == "SUCCESSFUL" and not is_in_time:
                        what = (
                            f"attempt {nth} of subtask {name!r} cannot end SUCCESSFUL: "
                            f"it takes longer than the timeout of {limit / clock.SECOND:g} s"
                        )
                        hint = "Raise the timeout, or leave `ends` out."
                        yield Issue((*loc, nth - 1, "ends"), "impossible-outcome", what, hint)
                    if is_in_time and attempt.ends != "FAILED" and nth < len(attempts) and not runs_again:
                        what = f"attempt {nth + 1} of subtask {name!r} is never reached"
                        hint = f"Attempt {nth} succeeds; say `ends: FAILED` there, or remove this."
                        yield Issue((*loc, nth), "unreachable-attempt", what, hint)


FORMAT: Final = Format(
    api=API,
    model=Scenario,
    fault=OcpFault,
    actor=OcpActor,
    wording=Wording(API.title, server_words=frozenset(("ends", "mode", "operation", "status", "type"))),
    rules=(_check_tasks, _check_paths, _check_attempts),
    needing_kind="subtask",
    may_repeat=True,
    checks_fault_ids=True,
)
