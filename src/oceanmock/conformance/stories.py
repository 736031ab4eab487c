"""Replay a scenario's story on a target: send its operations, and wait for its states.

The scenario's tasks are found at the target by given ids, by the scenario's own id, or by name and parts. A story
states the order of states, not their times: so each state is awaited, with repeated reads, until the timeout. A state
that may end before the next read counts as observed when the state after it, by the scenario, is observed. The first
step that fails ends the story. A request that the guard refuses is a failed step, never an error. On a server whose
task is at rest already, a story begins at the first step before which the scenario's task shows the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from oceanmock.apis import api_named
from oceanmock.checks import UNREADABLE, CheckResult, Exchange, Rule
from oceanmock.clock import SECOND
from oceanmock.conformance.http_client import HttpClient
from oceanmock.conformance.model import ApiName, NotAllowed, StoryStep
from oceanmock.conformance.target import detail_path
from oceanmock.errors import AuthorError
from oceanmock.library import load_scenario
from oceanmock.scenario import story
from oceanmock.scenario.fields import BaseScenario
from oceanmock.text import format_duration, plural

DIVERGES: Final = Rule(
    "story.diverges", "A scenario's story can be replayed on the target, step by step.", "the scenario's own story"
)
RULES_OF_STORIES: Final = {DIVERGES.id: DIVERGES}

FIRST_DELAY: Final = SECOND // 5
LAST_DELAY: Final = 5 * SECOND
"""The time between two reads: at first, and after a while."""
GRACE: Final = 5 * SECOND
"""How long a task at rest is read before it counts as final."""
UNCERTAIN_STATE: Final = "ABORTED"
"""A state that time alone may lead to from rest."""


class Diverges(Exception):
    """A step that failed; the message is one plain sentence."""

    def __init__(self, message: str, exchange: Exchange | None = None) -> None:
        super().__init__(message)
        self.exchange = exchange


def load_story(
    reference: str, api: ApiName, *, writes: bool, submits: bool = False, ids: Container[str] = (), first: int = 0
) -> tuple[BaseScenario, list[str]]:
    """Return the scenario of a story to replay from a step on, and what it creates on the target. Raises AuthorError.

    Nothing is created for a task whose id at the target is given, by one of its ``ids`` in the scenario.
    """
    scenario = load_scenario(reference)
    if scenario.api != api:
        raise AuthorError(f"{reference} is a story of {scenario.api}, not of {api}.")
    record = api_named(api)
    steps = record.scenario.FORMAT.steps_of(scenario)
    if not steps:
        raise AuthorError(f"{reference} has no `story`.")
    if first >= len(steps):
        raise AuthorError(f"the story of {reference} has {plural(len(steps), 'step')}: give --from 1 to {len(steps)}.")
    if not writes and any(isinstance(step, story.CallAction) for step in steps[first:]):
        raise AuthorError(f"the story of {reference} changes the target: it needs --write.")
    scripts, created = getattr(scenario, record.scripts_key), []
    for step in steps[first:]:
        if isinstance(step, story.StartAction) and step.status == HTTPStatus.OK:
            script = scripts[step.actor]
            if str(script.id) not in ids and str(script.name) not in ids:
                request = f"{script.starts_on.method} {script.starts_on.path}"
                created.append(f"{record.root.title} {script.name or script.id!r} by {request}")
    if created and not submits:
        raise AuthorError(
            f"the story of {reference} creates {', '.join(created)}: --submit allows it. To replay it on one that "
            "exists, give --story-id, or --from STEP."
        )
    return scenario, created


def replay(
    client: HttpClient,
    scenario: BaseScenario,
    *,
    ids: Mapping[str, str] | None = None,
    wait: Callable[[float], None],
    timeout: int = 60 * SECOND,
    stands: bool = False,
    first: int | None = 0,
) -> list[StoryStep]:
    """Return the outcome of each step of a scenario's story on the target, from the step at ``first`` on.

    None stands for the first step that fits what the target shows.

    ``ids`` maps ids and names of the scenario to ids of the target. ``wait(seconds)`` lets time pass; ``stands`` says
    that time passes in no other way, and that the target keeps the scenario's times, as its sandbox does. ``timeout``,
    in nanoseconds, is for each step.
    """
    with client.during("story"):
        return _Replay(_Tasks(client, scenario, ids or {}), wait, timeout, stands).steps(first)


@dataclass(slots=True)
class _Replay:
    """One story on one target, and the time that has passed in it."""

    tasks: _Tasks
    wait_seconds: Callable[[float], None]
    timeout: int
    stands: bool
    _now: int = 0

    def steps(self, first: int | None) -> list[StoryStep]:
        """Return every step and its outcome."""
        steps = self.tasks.steps
        why = "the target is beyond it" if first is None else "--from is after it"
        first = self.tasks.first_step() if first is None else first
        outcomes = [StoryStep(self.tasks.text_of(item), "skipped", why) for item in steps[:first]]
        for number, step in enumerate(steps[first:], first):
            began, text = self._now, self.tasks.text_of(step)
            try:
                detail = self._do(step, number)
            except Diverges as why:
                outcomes.append(StoryStep(text, "failed", str(why), self._now - began))
                outcomes += [StoryStep(self.tasks.text_of(item), "not reached") for item in steps[number + 1 :]]
                exchange = why.exchange
                self.tasks.client.found(
                    CheckResult(
                        rule=DIVERGES.id,
                        operation=exchange.operation if exchange else "",
                        status=exchange.status if exchange else None,
                        path=f"story {self.tasks.scenario.name}",
                        message=f"{text}: {why}",
                        source=DIVERGES.source,
                        exchange=exchange,
                    )
                )
                return outcomes
            outcomes.append(StoryStep(text, "passed", detail, self._now - began))
        return outcomes

    def _do(self, step: story.Action, number: int) -> str:
        """Do a step, and return details of it. Raises Diverges."""
        if isinstance(step, story.WaitAction):
            self._wait(step.span)
            return ""
        if isinstance(step, story.UntilAction):
            return self._await(step, number)
        is_start = isinstance(step, story.StartAction)
        try:
            exchange = self.tasks.start(step) if isinstance(step, story.StartAction) else self.tasks.operate(step)
        except NotAllowed as refusal:
            raise Diverges(f"{self.tasks.text_of(step)} was not sent: {refusal}") from None
        if exchange is None:
            return "already started: its id was given"
        if exchange.status != step.status:
            state = ""
            with suppress(Diverges):
                state = "" if is_start else f"; it is {self.tasks.read(step.actor, ()).text}"
            raise Diverges(
                f"{self.tasks.text_of(step)}: the response is {_response_text(exchange)}, not {step.status}{state}.",
                exchange,
            )
        if is_start and step.status == 200:
            self.tasks.learn(step.actor, exchange)
        return f"response {exchange.status}"

    def _await(self, step: story.UntilAction, number: int) -> str:
        """Read until the step's state is observed, or was passed. Raises Diverges."""
        began, delay, unchanged_since = self._now, FIRST_DELAY, self._now
        previous: object = None
        has_waited = False
        due_at, after = self.tasks.runs[number + 1].ended_at, self._labels_after(step, number)
        while True:
            view = self.tasks.read(step.actor, step.part)
            pairs = zip(step.words, view.label, strict=False)
            if all(word in (None, actual) for word, actual in pairs):
                return ""
            if view.label in after:
                return f"passed unobserved: it is already {'/'.join(view.label)}"
            if previous != (view.label, view.text):
                previous, unchanged_since = (view.label, view.text), self._now
            is_final = view.at_rest and self._now - unchanged_since >= GRACE
            is_final = is_final and UNCERTAIN_STATE not in step.words
            if (is_final and (has_waited or not self.stands)) or self._now - began > self.timeout:
                goal = " ".join(word for word in step.words if word)
                name = self.tasks.name_of(step.actor, step.part)
                waited = format_duration((self._now - began) // 10**8 * 10**8)
                at_rest = ", at rest" if view.at_rest else ""
                raise Diverges(
                    f"{name} should be {goal}, and is {'/'.join(view.label)} after "
                    f"{waited}{at_rest}; the whole is {view.text}.",
                    view.exchange,
                )
            if self.stands and not has_waited:
                has_waited = True
                if due_at > self._now:
                    self._wait(due_at - self._now)
                    continue
            self._wait(delay)
            delay = min(delay * 5 // 4, LAST_DELAY)

    def _wait(self, span: int) -> None:
        self.wait_seconds(span / SECOND)
        self._now += span

    def _labels_after(self, step: story.UntilAction, number: int) -> set[tuple[str, ...]]:
        """Return what a step's part shows only after it, until the next operation."""
        runs = self.tasks.runs
        at, actor = runs[number + 1].ended_at, runs[number].actors[step.actor]
        labels = [(actor.created + item.at, item.words) for item in actor.shows(step.part)]
        calls = [
            (place, runs[place].ended_at)
            for place, item in enumerate(self.tasks.steps)
            if isinstance(item, story.CallAction) and item.actor == step.actor
        ]
        until = next((instant for place, instant in calls if place > number), None)
        start = max((i for place, i in calls if place < number), default=actor.created)
        earlier = {words for i, words in labels if start <= i < at}
        return {words for i, words in labels if i > at and (until is None or i <= until)} - earlier


def _response_text(exchange: Exchange) -> str:
    """Return a response's status and error, or why there is none."""
    if exchange.problem:
        return exchange.problem
    body = exchange.json()
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return str(exchange.status)
    code = error.get("errCode") or error.get("code")
    return f"{exchange.status} ({code}: {error.get('message')})"


@dataclass(frozen=True, slots=True)
class _View:
    """The label of a part, the states of the whole task, and the response that shows them."""

    label: tuple[str, ...]
    text: str
    at_rest: bool
    exchange: Exchange


class _Tasks:
    """The scenario's tasks or dags at the target; ``runs`` are the story's own, of its first steps: none, one, two …"""

    def __init__(self, client: HttpClient, scenario: Any, ids: Mapping[str, str]) -> None:
        self.client: Final = client
        self.scenario: Final = scenario
        self.api: Final = api_named(scenario.api)
        format = self.api.scenario.FORMAT
        self.steps: Final[Sequence[story.Action]] = format.steps_of(scenario)
        self.runs: Final[Sequence[story.StoryRun]] = [
            format.simulate(scenario, steps=count) for count in range(len(self.steps) + 1)
        ]
        self._server: Final = self.api.conformance
        self._scripts: Final[Sequence[Any]] = getattr(scenario, self.api.scripts_key)
        self._part_keys: Final = [f"{kind.name}s" for kind in self.api.kinds if kind.parent]
        self._target_ids: Final = {str(key): str(value) for key, value in ids.items()}
        self._ids: dict[int, str] = {}

    def name_of(self, actor: int, part: story.PartPath) -> str:
        """Return the name of a task or part in messages."""
        name: str = self.runs[0].actors[actor].called(part)
        return name

    def text_of(self, step: story.Action) -> str:
        """Return a step as text."""
        if isinstance(step, story.WaitAction):
            return f"wait {format_duration(step.span)}"
        if isinstance(step, story.UntilAction):
            words = " ".join(word for word in step.words if word)
            return f"until {self.name_of(step.actor, step.part)} is {words}"
        refused = "" if step.status == 200 else f", refused with {step.status}"
        if isinstance(step, story.StartAction):
            return f"start {self.name_of(step.actor, ())}{refused}"
        return f"{step.operation} {self.name_of(step.actor, step.part)}{refused}"

    def read(self, actor: int, part: story.PartPath) -> _View:
        """Return the state of a task, or of its part. Raises Diverges where it cannot be read."""
        exchange, task = self._read(actor)
        try:
            node = self._part(actor, part, task, exchange)
            label = self._label(node) + ((f"stage {node['stage']}",) if "stage" in node else ())
            stage = f" at stage {task['stage']}" if "stage" in task else ""
            labels = ["/".join(self._label(item)) for item in sorted(task[self._part_keys[0]], key=_number)]
            text = f"{'/'.join(self._label(task))}{stage} [{', '.join(labels)}]"
            # at rest it has ended, and no part that can run on still does
            at_rest, parts = task[self.api.state_key] in self.api.root.terminal_states, [task]
            for key in self._part_keys if at_rest else ():
                parts = [below for item in parts for below in item[key]]
            at_rest = at_rest and not any(item[self.api.state_key] in self._server.active_states for item in parts)
            return _View(label, text, at_rest, exchange)
        except UNREADABLE:
            raise self._unreadable(actor, exchange) from None

    def first_step(self) -> int:
        """Return the first step before which every task shows what it does at the target, all at rest; else 0."""
        actors = range(len(self._scripts))
        if any(isinstance(step, story.StartAction) and self._target_id(step.actor) is None for step in self.steps):
            return 0
        try:
            views = [self.read(actor, ()) for actor in actors]
        except Diverges:
            return 0
        for number in range(len(self.steps)) if all(view.at_rest for view in views) else ():
            run = self.runs[number]
            if all(view.text == self._text_at(run, actor) for view, actor in zip(views, actors, strict=True)):
                return number
        return 0

    def _text_at(self, run: story.StoryRun, actor: int) -> str:
        """Return the text of a task, as a view has it, at the end of a run."""
        shown = run.actors[actor]

        def words(part: story.PartPath) -> tuple[str, ...]:
            past = [item.words for item in shown.shows(part) if shown.created + item.at <= run.ended_at]
            return past[-1] if past else ()

        whole, parts = words(()), range(len(getattr(self._scripts[actor], self._part_keys[0])))
        stage = f" at {whole[2]}" if len(whole) > 2 else ""
        return f"{'/'.join(whole[:2])}{stage} [{', '.join('/'.join(words((place,))[:2]) for place in parts)}]"

    def start(self, step: story.StartAction) -> Exchange | None:
        """Send the request that starts a task; None if its id was given. Raises NotAllowed."""
        if self._target_id(step.actor):
            return None
        starts_on = self._scripts[step.actor].starts_on
        path = re.sub(r"\{[^}]*\}", "1", starts_on.path)
        if self.client.options.submit:
            self.client.guard.may_submit(starts_on.method, path)
        return self.client.send(starts_on.method, path, json=starts_on.body or {})

    def operate(self, step: story.CallAction) -> Exchange:
        """Send an operation on a task or its part. Raises Diverges, NotAllowed."""
        kind = self.api.kinds[len(step.part)].name
        ids = {self.api.root.name: self._id_of(step.actor)}
        if step.part:
            exchange, task = self._read(step.actor)
            ids[kind] = str(self._part(step.actor, step.part, task, exchange)["id"])
        routes = (route for route in self.api.routes if route.changes == kind)
        route = next(route for route in routes if route.operation in ("", step.operation))
        path = route.path
        for name, parameter in route.ids.items():
            path = path.replace(f"{{{parameter}}}", ids[name])
        body = None if route.operation else {self.api.operation_key: step.operation}
        return self.client.send("POST", path, json=body)

    def learn(self, actor: int, exchange: Exchange) -> None:
        """Take the id of a started task from the response. Raises Diverges if it has none."""
        try:
            data = exchange.json()["data"]
            self._ids[actor] = str((data["contents"][0] if "contents" in data else data)["id"])
            self.client.guard.may_change(self._ids[actor], kind=self.api.root.name)
        except UNREADABLE:
            text = f"{self.name_of(actor, ())} was started, but the response has no id."
            raise Diverges(text, exchange) from None

    def _read(self, actor: int) -> tuple[Exchange, Any]:
        exchange = self.client.send("GET", detail_path(self.api.name, self._id_of(actor)))
        data = _data_of(exchange)
        if not isinstance(data, dict):
            raise self._unreadable(actor, exchange)
        return exchange, data

    def _unreadable(self, actor: int, exchange: Exchange) -> Diverges:
        response = f"the response is {_response_text(exchange)}"
        return Diverges(f"{self.name_of(actor, ())} cannot be read: {response}.", exchange)

    def _label(self, part: Any) -> tuple[str, ...]:
        return str(part[self.api.state_key]), str(part[self.api.operation_key])

    def _part(self, actor: int, part: story.PartPath, task: Any, exchange: Exchange) -> Any:
        """Return the JSON of a task's part at the scenario's position. Raises Diverges."""
        script, node = self._scripts[actor], task
        for depth, place in enumerate(part):
            key = self._part_keys[depth]
            scripts = getattr(script, key, None)
            scripts = scripts if isinstance(scripts, Sequence) else ()
            parts = sorted(node[key], key=_number)
            node = self._same_part(scripts, place, parts)
            if node is None:
                missing = self.name_of(actor, part)
                raise Diverges(f"the target's {self.api.root.title} {task['id']} has no {missing}.", exchange)
            script = scripts[place] if place < len(scripts) else None
        return node

    def _same_part(self, scripts: Sequence[Any], place: int, parts: Sequence[Any]) -> Any:
        """Return the part with the given or the script's id, else the one at the same position.

        Where parts have names, the position counts among those of one name.
        """
        if place < len(scripts):
            id, name = getattr(scripts[place], "id", None), getattr(scripts[place], "name", None)
            by_id = {str(part["id"]): part for part in parts}
            target_id = self._target_ids.get(str(id)) or self._target_ids.get(str(name))
            for candidate in (target_id, str(id)):
                if candidate in by_id:
                    return by_id[candidate]
            if name is not None:
                place = sum(getattr(item, "name", None) == name for item in scripts[:place])
                parts = [part for part in parts if part["name"] == name]
        return parts[place] if place < len(parts) else None

    def _id_of(self, actor: int) -> str:
        """Return the target's id of a task. Raises Diverges where none matches."""
        if actor not in self._ids:
            target_id = self._target_id(actor)
            ids = [target_id] if target_id else self._candidates(self._scripts[actor])
            id = next((id for id in ids if id not in self._ids.values()), None)
            if id is None:
                raise Diverges(f"the target has no {self.name_of(actor, ())} with the same parts: give its id.")
            self._ids[actor] = id
        return self._ids[actor]

    def _target_id(self, actor: int) -> str | None:
        script = self._scripts[actor]
        keys = (str(script.id), str(script.name))
        return next((self._target_ids[key] for key in keys if key in self._target_ids), None)

    def _candidates(self, script: Any) -> Iterator[str]:
        """Yield ids of similar tasks: its own, then those the run may change, the newest first."""
        own = self._server.own_id(script, self.client.target.own_address)
        data = _data_of(self.client.send("GET", self._server.list_path(script)))
        with suppress(NotAllowed):  # of an id that the list does not show, on a target that is spared
            exchange = self.client.send("GET", detail_path(self.api.name, own)) if own is not None else None
            if exchange and exchange.status == 200 and self._is_similar(script, _data_of(exchange), named=False):
                yield str(own)
        rows = data.get("contents") if isinstance(data, dict) else None
        similar = [row for row in rows or () if self._is_similar(script, row)]
        similar.sort(key=lambda row: int(row[self._server.number_key]), reverse=True)
        ids = [str(row["id"]) for row in similar]
        yield from sorted(ids, key=lambda id: id not in self.client.options.tasks)

    def _is_similar(self, script: Any, row: Any, *, named: bool = True) -> bool:
        """Return whether a task has the script's name, and parts with the script's names."""
        key = self._part_keys[0]
        try:
            names = [part["name"] for part in row[key]]
            scripts = getattr(script, key)
            name = (script.name or "").replace("{n}", "1")
            if len(scripts) != len(names) or (named and name not in ("", row["name"])):
                return False
            int(row[self._server.number_key])
        except UNREADABLE:
            return False
        return not Counter(item.name for item in scripts if item.name) - Counter(names)


def _number(part: Any) -> int:
    """Return a part's id if it is a number, else 0: parts with texts as ids are in order."""
    return part["id"] if isinstance(part["id"], int) else 0


def _data_of(exchange: Exchange) -> Any:
    body = exchange.json()
    return body.get("data") if isinstance(body, dict) else None
