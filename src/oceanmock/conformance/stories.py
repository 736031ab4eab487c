"""Stories on a target: what a scenario tells is done there, step by step, and waited for.

The scenario's tasks are looked for at the target: by ids that are given, else by the scenario's own
id, else by name and parts. A story says in which order states show, and not when: so each is waited
for, with looks, within the timeout. A state that may be gone before the next look counts as
met where the scenario shows it just before what shows instead. The first step that does not hold
ends the story. The one rule: what the client does not let go is a step that failed, never an error.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import orjson

from oceanmock.checks import CheckResult, Exchange, Rule
from oceanmock.clock import SECOND
from oceanmock.conformance.guard import NotAllowed
from oceanmock.conformance.http_client import HttpClient
from oceanmock.conformance.machines.base import UNREADABLE
from oceanmock.conformance.machines.obshell import Dag, read_dag
from oceanmock.conformance.machines.ocp import Task, read_task
from oceanmock.conformance.model import StoryStep
from oceanmock.library import read_scenario
from oceanmock.obshell import scenario as obshell
from oceanmock.obshell import scenario_checks as obshell_rules
from oceanmock.obshell.ids import GenericId, local_id
from oceanmock.ocp import scenario as ocp
from oceanmock.ocp import scenario_checks as ocp_rules
from oceanmock.scenario import story
from oceanmock.scenario.fields import BaseScenario
from oceanmock.scenario.submit_calls import is_variable
from oceanmock.text import format_duration

DIVERGES: Final = Rule(
    "story.diverges",
    "What a scenario tells can be lived with the target, step by step.",
    "the scenario's own story",
)
RULES_OF_STORIES: Final = {DIVERGES.id: DIVERGES}
"""By id."""
RULES = RULES_OF_STORIES

FIRST_LOOK: Final = SECOND // 5
LAST_LOOK: Final = 5 * SECOND
"""How far looks lie apart: at first, and after a while."""
GRACE: Final = 5 * SECOND
"""So long what is at rest is looked at before it is said to stay so."""


class Diverges(Exception):
    """A step that does not hold; the message is one plain sentence."""

    def __init__(self, message: str, exchange: Exchange | None = None) -> None:
        super().__init__(message)
        self.exchange = exchange


def replay(
    client: HttpClient,
    said: Mapping[str, Any] | BaseScenario,
    *,
    ids: Mapping[str, str] | None = None,
    wait: Callable[[float], None],
    timeout: int = 60 * SECOND,
    stands: bool = False,
) -> list[StoryStep]:
    """How each step of a story went on the target: it held, failed, or was not reached.

    ``ids`` maps ids and names of the scenario to ids of the target. ``wait(seconds)`` lets time
    pass; ``stands`` says that it passes in no other way, and that the target keeps the scenario's
    own times, as a sandbox of it does. ``timeout``, in nanoseconds, is for each step. Raises
    ScenarioError where the scenario itself is wrong.
    """
    scenario = said if isinstance(said, BaseScenario) else _scenario(said)
    stage = _stage(client, scenario, ids or {})
    return _Telling(stage, wait=wait, timeout=timeout, stands=stands).told()


def _scenario(said: Mapping[str, Any]) -> BaseScenario:
    """The scenario that a mapping describes; ``name`` is what it is called."""
    written = {key: value for key, value in said.items() if key != "name"}
    text = orjson.dumps(written, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return read_scenario(text, path=str(said.get("name", "story")))


def _stage(client: HttpClient, scenario: BaseScenario, ids: Mapping[str, str]) -> _Stage:
    if isinstance(scenario, ocp.Scenario):
        return _OcpStage(client, scenario, ids)
    assert isinstance(scenario, obshell.Scenario)
    return _ObshellStage(client, scenario, ids)


# --- telling it -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Expected:
    """When a step holds in the scenario, and what shows of its part before and after, if it waits.

    ``after`` is only what did not show before.
    """

    at: int | None = None
    after: frozenset[tuple[str, ...]] = frozenset()


class _Telling:
    """One story, told on one stage."""

    def __init__(
        self, stage: _Stage, *, wait: Callable[[float], None], timeout: int, stands: bool
    ) -> None:
        self.stage: Final = stage
        self.timeout: Final = timeout
        self.stands: Final = stands
        self._wait_seconds = wait
        self._now = 0

    def told(self) -> list[StoryStep]:
        """Every step, and how it went."""
        steps, told = self.stage.steps, list[StoryStep]()
        for number, (step, expected) in enumerate(zip(steps, self._expected(), strict=True)):
            began, text = self._now, self.stage.text_of(step)
            try:
                detail = self._do(step, expected)
            except Diverges as why:
                took = self._now - began
                told.append(StoryStep(text, "failed", str(why), took))
                self._find(text, why)
                rest = map(self.stage.text_of, steps[number + 1 :])
                return told + [StoryStep(each, "not reached") for each in rest]
            told.append(StoryStep(text, "passed", detail, self._now - began))
        return told

    def _do(self, step: story.Step, expected: _Expected) -> str:
        """Does a step; what is to be said of it. Raises Diverges."""
        if isinstance(step, story.Wait):
            self._wait(step.span)
            return ""
        if isinstance(step, story.Until):
            return self._await(step, expected)
        try:
            exchange = self.stage.start(step) if isinstance(step, story.Start) else None
            if isinstance(step, story.Call):
                exchange = self.stage.operate(step)
        except NotAllowed as refusal:
            raise Diverges(f"{self.stage.text_of(step)} was not sent: {refusal}") from None
        if exchange is None:
            return "it is there: its id was given"
        self._check_answer(step, exchange)
        return f"answered {exchange.status}"

    def _check_answer(self, step: story.Start | story.Call, exchange: Exchange) -> None:
        if exchange.status == step.answers:
            if isinstance(step, story.Start) and step.answers == 200:
                self.stage.learn(step.actor, exchange)
            return
        shown = self.stage.shows_now(step) if isinstance(step, story.Call) else ""
        said = exchange.problem or f"{exchange.status} {_error_of(exchange)}".strip()
        raise Diverges(
            f"{self.stage.text_of(step)} was answered {said}, and not {step.answers}{shown}.",
            exchange,
        )

    def _await(self, step: story.Until, expected: _Expected) -> str:
        """Looks until the step's words show, or have been passed. Raises Diverges."""
        began, distance, since = self._now, FIRST_LOOK, self._now
        before, has_waited = None, False
        while True:
            shown = self.stage.look(step.actor, step.part)
            if _fits(step.words, shown.words):
                return ""
            if shown.words in expected.after:
                return f"it was passed unseen: {'/'.join(shown.words)} already shows"
            since = since if shown == before else self._now
            before = shown
            is_over = shown.at_rest and self._now - since >= GRACE and "ABORTED" not in step.words
            if (is_over and (has_waited or not self.stands)) or self._now - began > self.timeout:
                raise Diverges(self._never(step, shown, self._now - began), shown.exchange)
            if self.stands and not has_waited and expected.at is not None:
                has_waited = True
                if expected.at > self._now:
                    self._wait(expected.at - self._now)
                    continue
            self._wait(distance)
            distance = min(distance * 5 // 4, LAST_LOOK)

    def _never(self, step: story.Until, shown: _Shown, waited: int) -> str:
        wanted = " ".join(word for word in step.words if word)
        called = self.stage.called(step.actor, step.part)
        at_rest = ", where all is at rest" if shown.at_rest else ""
        return (
            f"{called} should come to be {wanted}, and is {'/'.join(shown.words)} "
            f"after {format_duration(waited // 10**8 * 10**8)}{at_rest}; "
            f"the whole shows {shown.whole}."
        )

    def _find(self, text: str, why: Diverges) -> None:
        """Tells the client, so that the answer that showed it is in the report."""
        exchange = why.exchange
        self.stage.client.found(
            CheckResult(
                rule=DIVERGES.id,
                operation=exchange.operation if exchange else "",
                status=exchange.status if exchange else None,
                path=f"story {self.stage.scenario.name}",
                message=f"{text}: {why}",
                source=DIVERGES.source,
                exchange=exchange,
            )
        )

    def _wait(self, span: int) -> None:
        self._wait_seconds(span / SECOND)
        self._now += span

    # --- what the scenario itself tells ---

    def _expected(self) -> Iterator[_Expected]:
        """For each step when it holds, and what its part shows between it and the next call."""
        steps, tellings = self.stage.steps, self.stage.tellings
        for number, step in enumerate(steps):
            at = tellings[number + 1].ended
            if not isinstance(step, story.Until):
                yield _Expected(at)
                continue
            actor = tellings[number].actors[step.actor]
            shown = [(actor.born + each.at, each.words) for each in actor.shows(step.part)]
            calls = [
                (place, tellings[place].ended)
                for place, each in enumerate(steps)
                if isinstance(each, story.Call) and each.actor == step.actor
            ]
            until = next((instant for place, instant in calls if place > number), None)
            start = max((i for place, i in calls if place < number), default=actor.born)
            earlier = {words for i, words in shown if start <= i < at}
            later = {words for i, words in shown if i > at and (until is None or i <= until)}
            yield _Expected(at, frozenset(later - earlier))


def _fits(wanted: Sequence[str | None], shown: Sequence[str]) -> bool:
    return all(want in (None, word) for want, word in zip(wanted, shown, strict=False))


def _error_of(exchange: Exchange) -> str:
    body = exchange.json()
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return ""
    return f"({error.get('errCode') or error.get('code')}: {error.get('message')})"


# --- where it is told -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a part shows, and its whole; and the answer that says so."""

    words: tuple[str, ...]
    whole: str
    at_rest: bool
    exchange: Exchange

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Shown):
            return NotImplemented
        return (self.words, self.whole) == (other.words, other.whole)

    def __hash__(self) -> int:
        return hash((self.words, self.whole))


class _Stage(ABC):
    """A target, and who of the scenario is who there.

    ``tellings`` are the story's own, of its first steps: none, one, and so on.
    """

    def __init__(
        self,
        client: HttpClient,
        scenario: BaseScenario,
        ids: Mapping[str, str],
        *,
        steps: Sequence[story.Step],
        tellings: Sequence[story.Told[Any]],
    ) -> None:
        self.client: Final = client
        self.scenario: Final = scenario
        self.steps: Final = steps
        self.tellings: Final = tellings
        self._given: Final = {str(key): str(value) for key, value in ids.items()}
        self._found: dict[int, str] = {}

    # --- what is one API's ---

    @abstractmethod
    def look(self, actor: int, part: story.Part) -> _Shown:
        """What a part shows. Raises Diverges where it cannot be read."""

    @abstractmethod
    def operate(self, step: story.Call) -> Exchange:
        """Operates. Raises Diverges where there is nobody, NotAllowed."""

    @abstractmethod
    def candidates(self, place: int) -> Iterator[str]:
        """The ids that could be those of the scenario's task at a place, the likeliest first."""

    @abstractmethod
    def written(self, place: int) -> Any:
        """The task or dag as the scenario has it."""

    # --- what is both's ---

    def called(self, actor: int, part: story.Part) -> str:
        """What messages call a part."""
        name: str = self.tellings[0].actors[actor].called(part)
        return name

    def text_of(self, step: story.Step) -> str:
        """A step, as it is read."""
        if isinstance(step, story.Wait):
            return f"wait {format_duration(step.span)}"
        if isinstance(step, story.Until):
            words = " ".join(word for word in step.words if word)
            return f"until {self.called(step.actor, step.part)} is {words}"
        refused = "" if step.answers == 200 else f", refused with {step.answers}"
        if isinstance(step, story.Start):
            return f"start {self.called(step.actor, ())}{refused}"
        return f"{step.operation} {self.called(step.actor, step.part)}{refused}"

    def shows_now(self, step: story.Call) -> str:
        """What is shown by whom was operated on, to end a sentence with."""
        try:
            return f"; it shows {self.look(step.actor, ()).whole}"
        except Diverges:
            return ""

    def id_of(self, actor: int) -> str:
        """The target's id. Raises Diverges where nobody fits."""
        if actor not in self._found:
            self._found[actor] = self._locate(actor)
        return self._found[actor]

    def _locate(self, actor: int) -> str:
        given = self._given_for(actor)
        for id in [given] if given else self.candidates(actor):
            if id not in self._found.values():
                return id
        called = self.called(actor, ())
        raise Diverges(f"the target has nothing that is {called} with the same parts; give its id.")

    def _given_for(self, actor: int) -> str | None:
        written = self.written(actor)
        keys = (str(written.id), str(written.name))
        return next((self._given[key] for key in keys if key in self._given), None)

    def start(self, step: story.Start) -> Exchange | None:
        """Sends the request that starts it; None where its id was given. Raises NotAllowed."""
        if self._given_for(step.actor):
            return None
        starts_on = self.written(step.actor).starts_on
        path = "/".join("1" if is_variable(each) else each for each in starts_on.segments)
        return self.client.send(starts_on.method, path, phase="story", json=starts_on.body or {})

    def learn(self, actor: int, exchange: Exchange) -> None:
        """The id of what was started. Raises Diverges where the answer has none."""
        try:
            data = exchange.json()["data"]
            self._found[actor] = str((data["contents"][0] if "contents" in data else data)["id"])
        except UNREADABLE:
            said = f"{self.called(actor, ())} was started, and the answer does not say its id."
            raise Diverges(said, exchange) from None

    def get(self, path: str) -> Exchange:
        """Reads."""
        return self.client.send("GET", path, phase="story")

    def rows(self, path: str) -> list[Any]:
        """What a list answers; nothing, where it answers no list."""
        try:
            return list(self.get(path).json()["data"]["contents"])
        except UNREADABLE:
            return []


def _preferred(ids: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Those that may be played with first."""
    return sorted(ids, key=lambda id: id not in wanted)


def _are_named(wanted: Sequence[str | None], shown: Sequence[Any]) -> bool:
    """Whether names fit, in any order; what has none fits any."""
    rest = list(shown)
    for name in filter(None, wanted):
        if name not in rest:
            return False
        rest.remove(name)
    return len(wanted) == len(shown)


class _OcpStage(_Stage):
    def __init__(self, client: HttpClient, scenario: ocp.Scenario, ids: Mapping[str, str]) -> None:
        steps = ocp_rules.steps_of(scenario)
        told = [ocp_rules.tell(scenario, steps=count) for count in range(len(steps) + 1)]
        super().__init__(client, scenario, ids, steps=steps, tellings=told)
        self._tasks: Final = scenario.tasks
        self._subtasks: dict[tuple[int, int], int] = {}

    def written(self, place: int) -> ocp.Task:
        """The task in the file."""
        return self._tasks[place]

    def candidates(self, place: int) -> Iterator[str]:
        """That of its own id, if it fits; then those of its name and subtasks, the newest first."""
        written = self._tasks[place]
        names = [each.name for each in written.subtasks]
        if written.id is not None:
            row = self._row(self.get(_task_path(written.id)))
            if row is not None and _are_named(names, [each["name"] for each in row["subtasks"]]):
                yield str(written.id)
        name = (written.name or "").replace("{n}", "1")
        asked = f"&name={quote(name)}" if name else ""
        rows = self.rows(f"/api/v2/tasks/instances?size=2000{asked}")
        fitting = [
            str(row["id"])
            for row in rows
            if (not name or row["name"] == name)
            and _are_named(names, [each["name"] for each in row["subtasks"]])
        ]
        yield from _preferred(fitting, self.client.options.tasks)

    def _row(self, exchange: Exchange) -> Any:
        body = exchange.json()
        return body["data"] if exchange.status == 200 and isinstance(body, dict) else None

    def look(self, actor: int, part: story.Part) -> _Shown:
        """The status and operation of the task, or of a subtask."""
        exchange, task = self._read(actor)
        if not part:
            words = (task.status, task.operation)
        else:
            id = self._subtask_of(actor, part[0], task, exchange)
            found = next(each for each in task.subtasks if each.id == id)
            words = (found.status, found.operation)
        return _Shown(words, task.words, task.at_rest, exchange)

    def operate(self, step: story.Call) -> Exchange:
        """Posts to the operation's path."""
        path = _task_path(self.id_of(step.actor))
        if step.part:
            exchange, task = self._read(step.actor)
            path += f"/subtasks/{self._subtask_of(step.actor, step.part[0], task, exchange)}"
        return self.client.send("POST", f"{path}/{step.operation.lower()}", phase="story")

    def _read(self, actor: int) -> tuple[Exchange, Task]:
        exchange = self.get(_task_path(self.id_of(actor)))
        try:
            return exchange, read_task(exchange.json()["data"])
        except UNREADABLE:
            raise _unreadable(self.called(actor, ()), exchange) from None

    def _subtask_of(self, actor: int, place: int, task: Task, exchange: Exchange) -> int:
        """The target's id of the subtask at a place of the file: given, its own, or by its name."""
        key = (actor, place)
        if key not in self._subtasks:
            self._subtasks[key] = self._find_subtask(actor, place, task, exchange)
        return self._subtasks[key]

    def _find_subtask(self, actor: int, place: int, task: Task, exchange: Exchange) -> int:
        written = self._tasks[actor].subtasks
        wanted, there = written[place], {str(each.id): each for each in task.subtasks}
        given = self._given.get(str(wanted.id)) or self._given.get(str(wanted.name))
        if given in there or str(wanted.id) in there:
            return there[given or str(wanted.id)].id
        namesakes = [each.id for each in task.subtasks if each.name == wanted.name]
        before = sum(each.name == wanted.name for each in written[:place])
        if wanted.name is None:
            namesakes, before = [each.id for each in task.subtasks], place
        if before < len(namesakes):
            return namesakes[before]
        called = self.called(actor, (place,))
        raise Diverges(f"the target's task {task.id} has no subtask that is {called}.", exchange)


def _task_path(id: str | int) -> str:
    return f"/api/v2/tasks/instances/{id}"


class _ObshellStage(_Stage):
    def __init__(
        self, client: HttpClient, scenario: obshell.Scenario, ids: Mapping[str, str]
    ) -> None:
        steps = obshell_rules.steps_of(scenario)
        told = [obshell_rules.tell(scenario, steps=count) for count in range(len(steps) + 1)]
        super().__init__(client, scenario, ids, steps=steps, tellings=told)
        self._dags: Final = scenario.dags

    def written(self, place: int) -> obshell.Dag:
        """The dag in the file."""
        return self._dags[place]

    def candidates(self, place: int) -> Iterator[str]:
        """That of its own number, if it fits; then those of its name and nodes, newest first."""
        written = self._dags[place]
        if written.id is not None and (id := self._own_id(written)) is not None:
            exchange = self.get(_dag_path(id))
            if exchange.status == 200 and self._fits(written, _data_of(exchange)):
                yield id
        store = "ob" if written.scope == "cluster" else "agent"
        rows = self.rows(f"/api/v1/task/dags/{store}?show_details=true")
        fitting = [row for row in rows if self._fits(written, row)]
        newest = sorted(fitting, key=lambda row: int(row["dag_id"]), reverse=True)
        yield from _preferred([str(row["id"]) for row in newest], self.client.options.tasks)

    def _own_id(self, written: obshell.Dag) -> str | None:
        """The id of the file's number on the agent that is asked."""
        if written.scope == "cluster":
            return str(GenericId("cluster", int(written.id or 0)))
        address = self.client.target.own_address
        if address is None:
            return None
        kind = "obproxy" if written.maintenance == "obproxy" else "local"
        return local_id(int(written.id or 0), ip=address[0], port=address[1], kind=kind)  # type: ignore[arg-type]

    def _fits(self, written: obshell.Dag, row: Any) -> bool:
        try:
            names = [node["name"] for node in row["nodes"]]
            wanted = [node.name for node in written.nodes]
            pairs = zip(wanted, names, strict=True)
            return written.name in (None, row["name"]) and all(w in (None, n) for w, n in pairs)
        except UNREADABLE:
            return False

    def look(self, actor: int, part: story.Part) -> _Shown:
        """State and operator of the dag, with its stage, or of a node, or of a sub task."""
        exchange, dag = self._read(actor)
        words: tuple[str, ...] = (dag.state, dag.operator, f"stage {dag.stage}")
        try:
            if part:
                node = dag.nodes[part[0]]
                it = node.sub_tasks[part[1]] if len(part) > 1 else node
                words = (it.state, it.operator)
        except IndexError:
            raise Diverges(
                f"the target's dag has no {self.called(actor, part)}.", exchange
            ) from None
        return _Shown(words, dag.words, dag.at_rest, exchange)

    def operate(self, step: story.Call) -> Exchange:
        """Posts the operator to the dag, or to a node."""
        path = _dag_path(self.id_of(step.actor))
        if step.part:
            _, dag = self._read(step.actor)
            path = f"/api/v1/task/node/{dag.nodes[step.part[0]].id}"
        return self.client.send("POST", path, phase="story", json={"operator": step.operation})

    def _read(self, actor: int) -> tuple[Exchange, Dag]:
        exchange = self.get(_dag_path(self.id_of(actor)))
        try:
            return exchange, read_dag(exchange.json()["data"])
        except UNREADABLE:
            raise _unreadable(self.called(actor, ()), exchange) from None


def _dag_path(id: str) -> str:
    return f"/api/v1/task/dag/{id}"


def _data_of(exchange: Exchange) -> Any:
    body = exchange.json()
    return body.get("data") if isinstance(body, dict) else None


def _unreadable(called: str, exchange: Exchange) -> Diverges:
    said = exchange.problem or f"{exchange.status} {_error_of(exchange)}".strip()
    return Diverges(f"{called} cannot be read: the answer is {said}.", exchange)
