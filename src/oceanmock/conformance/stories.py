"""Replay a scenario's story on a target: send its operations, and wait for its states.

A story states the order of states, not their times: so each state is awaited, with repeated reads, until the timeout. A
state that may end before the next read counts as observed once the scenario's next state is. The first step that fails
ends the story; a request that the guard refuses is a failed step, never an error. If the target's tasks are at rest
already, a story begins at the first step before which the scenario's tasks have the same states.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final

from oceanmock.apis import api_named
from oceanmock.checks import UNREADABLE, CheckResult, Exchange, Rule
from oceanmock.clock import SECOND
from oceanmock.conformance import ApiName, NotAllowed, StoryStep
from oceanmock.conformance.http_client import HttpClient
from oceanmock.conformance.target import detail_path
from oceanmock.errors import InputError
from oceanmock.library import load_scenario
from oceanmock.observations import Observation, items_in_response
from oceanmock.scenario import BaseScenario, story
from oceanmock.text import format_duration, plural

DIVERGES: Final = Rule(
    "story.diverges", "A scenario's story can be replayed on the target, step by step.", "the scenario's own story"
)
FIRST_DELAY: Final = SECOND // 5  # the time between the first two reads; it grows up to LAST_DELAY
LAST_DELAY: Final = 5 * SECOND
GRACE: Final = 5 * SECOND  # the time after which an unchanged task at rest counts as final
UNCERTAIN_STATE: Final = "ABORTED"  # a state that a task at rest may reach without an operation


class Diverges(Exception):
    """A step that failed; the message is one plain sentence."""

    def __init__(self, message: str, exchange: Exchange | None = None) -> None:
        super().__init__(message)
        self.exchange = exchange


def load_story(
    reference: str, api: ApiName, *, writes: bool, submits: bool = False, ids: Container[str] = (), first: int = 0
) -> tuple[BaseScenario, list[str]]:
    """Return the scenario of a story to replay from a step on, and texts on what it creates. Raises InputError.

    ``ids`` are the ids or names, in the scenario, of tasks that exist on the target: these are not created.
    """
    scenario = load_scenario(reference)
    if scenario.api != api:
        raise InputError(f"{reference} is a story of {scenario.api}, not of {api}.")
    record = api_named(api)
    steps = record.scenario.FORMAT.steps_of(scenario)
    if not steps:
        raise InputError(f"{reference} has no `story`.")
    if first >= len(steps):
        raise InputError(f"the story of {reference} has {plural(len(steps), 'step')}: give --from 1 to {len(steps)}.")
    if not writes and any(step.kind == "call" for step in steps[first:]):
        raise InputError(f"the story of {reference} changes the target: it needs --write.")
    scripts, created = getattr(scenario, record.scripts_key), []
    starts = [step for step in steps[first:] if step.kind == "start" and step.status == HTTPStatus.OK]
    for step in starts:
        script = scripts[step.actor]
        if str(script.id) not in ids and str(script.name) not in ids:
            request = f"{script.starts_on.method} {script.starts_on.path}"
            created.append(f"{record.root.title} {script.name or script.id!r} by {request}")
    if created and not submits:
        hint = "--submit allows it. To replay it on one that exists, give --story-id, or --from STEP."
        raise InputError(f"the story of {reference} creates {', '.join(created)}: {hint}")
    return scenario, created


def replay(client: HttpClient, scenario: BaseScenario) -> list[StoryStep]:
    """Return the outcome of each step of a scenario's story on the target; the mock replays every step, in its time."""
    with client.during("story"):
        return _Replay(client, scenario).steps()


@dataclass(frozen=True, slots=True)
class _View:
    """The id and the state of a part, the text of the whole task's states, and the response with them."""

    id: str
    words: tuple[str, ...]
    text: str
    at_rest: bool
    exchange: Exchange


class _Replay:
    """The replay of one story on one target.

    ``_runs`` are simulations of the story's first 0, 1, 2 … steps. ``_ids`` has the target's ids of the tasks found so
    far, ``_now`` the time that has passed.
    """

    def __init__(self, client: HttpClient, scenario: BaseScenario) -> None:
        self._client, self._scenario, self._options = client, scenario, client.options
        self._target_ids: Mapping[str, str] = dict(client.options.story_ids)
        self._api = api_named(scenario.api)
        self._server = self._api.conformance
        format = self._api.scenario.FORMAT
        self._steps: Sequence[story.Action] = format.steps_of(scenario)
        counts = range(len(self._steps) + 1)
        self._runs: Sequence[story.StoryRun] = [format.simulate(scenario, steps=count) for count in counts]
        self._scripts: Sequence[Any] = getattr(scenario, self._api.scripts_key)
        self._ids: dict[int, str] = {}
        self._now = 0

    def steps(self) -> list[StoryStep]:
        """Return every step and its outcome."""
        first = 0 if self._client.target.is_ours else self._options.first
        why = "the target is beyond it" if first is None else "--from is after it"
        first = self._first_step() if first is None else first
        texts = [self._step_text(item) for item in self._steps]
        outcomes = [StoryStep(text, "skipped", why) for text in texts[:first]]
        for number, step in enumerate(self._steps[first:], first):
            began = self._now
            try:
                detail = self._do(step, number)
            except Diverges as why:
                outcomes.append(StoryStep(texts[number], "failed", str(why), self._now - began))
                outcomes += [StoryStep(text, "not reached") for text in texts[number + 1 :]]
                path, message, exchange = f"story {self._scenario.name}", f"{texts[number]}: {why}", why.exchange
                finding = CheckResult(DIVERGES.id, path, message, source=DIVERGES.source, exchange=exchange)
                if exchange is not None:
                    finding = replace(finding, operation=exchange.operation, status=exchange.status)
                self._client.found(finding)
                return outcomes
            outcomes.append(StoryStep(texts[number], "passed", detail, self._now - began))
        return outcomes

    def _name(self, actor: int, part: story.PartPath = ()) -> str:
        return str(self._runs[0].actors[actor].called(part))

    def _step_text(self, step: story.Action) -> str:
        if step.kind == "wait":
            return f"wait {format_duration(step.span)}"
        if step.kind == "until":
            return f"until {self._name(step.actor, step.part)} is {' '.join(filter(None, step.words))}"
        refused = "" if step.status == 200 else f", refused with {step.status}"
        return f"{step.operation or 'start'} {self._name(step.actor, step.part)}{refused}"

    def _do(self, step: story.Action, number: int) -> str:
        """Do a step, and return details of it. This method and those below raise Diverges."""
        if step.kind == "wait":
            self._wait(step.span)
            return ""
        if step.kind == "until":
            return self._await(step, number)
        is_start, text = step.kind == "start", self._step_text(step)
        try:
            exchange = self._start(step) if is_start else self._operate(step)
        except NotAllowed as refusal:
            raise Diverges(f"{text} was not sent: {refusal}") from None
        if exchange is None:
            return "already started: its id was given"
        if exchange.status != step.status:
            state = ""
            with suppress(Diverges):
                state = "" if is_start else f"; it is {self._read(step.actor).text}"
            response = _response_text(exchange)
            raise Diverges(f"{text}: the response is {response}, not {step.status}{state}.", exchange)
        if is_start and step.status == 200:
            try:
                data = exchange.json()["data"]
                id = self._ids[step.actor] = str((data["contents"][0] if "contents" in data else data)["id"])
            except UNREADABLE:
                why = f"{self._name(step.actor)} was started, but the response has no id."
                raise Diverges(why, exchange) from None
            self._client.guard.may_change(id, kind=self._api.root.name)
        return f"response {exchange.status}"

    def _await(self, step: story.Action, number: int) -> str:
        """Read until the step's state, or a later one, is observed."""
        began, delay, unchanged_since = self._now, FIRST_DELAY, self._now
        previous: object = None
        has_waited = not self._client.target.is_ours
        due_at, after = self._runs[number + 1].ended_at, self._words_after(step, number)
        while True:
            view = self._read(step.actor, step.part)
            if all(word in (None, actual) for word, actual in zip(step.words, view.words, strict=False)):
                return ""
            if view.words in after:
                return f"passed unobserved: it is already {'/'.join(view.words)}"
            if previous != (view.words, view.text):
                previous, unchanged_since = (view.words, view.text), self._now
            is_final = view.at_rest and self._now - unchanged_since >= GRACE and UNCERTAIN_STATE not in step.words
            if (is_final and has_waited) or self._now - began > self._options.timeout:
                goal, name = " ".join(filter(None, step.words)), self._name(step.actor, step.part)
                waited = format_duration((self._now - began) // 10**8 * 10**8)
                state = f"is {'/'.join(view.words)} after {waited}{', at rest' if view.at_rest else ''}"
                raise Diverges(f"{name} should be {goal}, and {state}; the whole is {view.text}.", view.exchange)
            if not has_waited and due_at > self._now:
                self._wait(due_at - self._now)
            else:
                self._wait(delay)
                delay = min(delay * 5 // 4, LAST_DELAY)
            has_waited = True

    def _wait(self, span: int) -> None:
        self._client.target.wait(span / SECOND)
        self._now += span

    def _words_after(self, step: story.Action, number: int) -> set[tuple[str, ...]]:
        """Return the states of a step's part that follow it, until the next operation, and do not occur before it."""
        at, actor = self._runs[number + 1].ended_at, self._runs[number].actors[step.actor]
        shown = [(actor.created + item.at, item.words) for item in actor.shows(step.part)]
        calls = [
            (place, self._runs[place].ended_at)
            for place, item in enumerate(self._steps)
            if item.kind == "call" and item.actor == step.actor
        ]
        until = next((instant for place, instant in calls if place > number), None)
        start = max((i for place, i in calls if place < number), default=actor.created)
        earlier = {words for i, words in shown if start <= i < at}
        return {words for i, words in shown if i > at and (until is None or i <= until)} - earlier

    def _first_step(self) -> int:
        """Return the first step before which every task has its state at the target, if all are at rest; else 0."""
        if any(step.kind == "start" and self._target_id(step.actor) is None for step in self._steps):
            return 0
        try:
            views = [self._read(actor) for actor in range(len(self._scripts))]
        except Diverges:
            return 0
        for number, run in enumerate(self._runs[:-1] if all(view.at_rest for view in views) else ()):
            if all(view.text == self._text_at(run, actor) for actor, view in enumerate(views)):
                return number
        return 0

    def _text_at(self, run: story.StoryRun, actor: int) -> str:
        """Return the text of a task's states at the end of a run."""
        shown, words = run.actors[actor], list[tuple[str, ...]]()
        places = range(len(getattr(self._scripts[actor], self._api.root.parts_key)))
        for part in ((), *((place,) for place in places)):
            past = [item.words for item in shown.shows(part) if shown.created + item.at <= run.ended_at]
            words.append(past[-1] if past else ())
        return _text(words[0], words[1:])

    def _read(self, actor: int, part: story.PartPath = ()) -> _View:
        """Return the state of a task, or of its part."""
        exchange = self._get(detail_path(self._api.name, self._id(actor)))
        task = next(iter(items_in_response(self._api, exchange)), None)
        if task is None:
            response = _response_text(exchange)
            raise Diverges(f"{self._name(actor)} cannot be read: the response is {response}.", exchange)
        text = _text(_words(task), [_words(item) for item in sorted(task.parts, key=_number)])
        item = self._part(actor, part, task, exchange)
        return _View(item.id, _words(item), text, self._server.is_at_rest(task), exchange)

    def _get(self, path: str) -> Exchange:
        try:
            return self._client.send("GET", path)
        except NotAllowed as refusal:
            raise Diverges(str(refusal)) from None

    def _start(self, step: story.Action) -> Exchange | None:
        """Send the request that starts a task; None if its id was given. Raises NotAllowed."""
        if self._target_id(step.actor):
            return None
        starts_on = self._scripts[step.actor].starts_on
        path = re.sub(r"\{[^}]*\}", "1", starts_on.path)
        if self._options.submit:
            self._client.guard.submits.add((starts_on.method, path))
        body = {**self._api.submit_body(starts_on.method, path), **(starts_on.body or {})}
        return self._client.send(starts_on.method, path, json=body)

    def _operate(self, step: story.Action) -> Exchange:
        """Send an operation on a task or its part. Raises Diverges, NotAllowed."""
        kind = self._api.kinds[len(step.part)].name
        ids = {self._api.root.name: self._id(step.actor)}
        if step.part:
            ids[kind] = self._read(step.actor, step.part).id
        routes = (route for route in self._api.routes if route.changes == kind)
        route = next(route for route in routes if route.operation in ("", step.operation))
        path = route.path.format_map({parameter: ids[name] for name, parameter in route.ids.items()})
        body = None if route.operation else {self._api.operation_key: step.operation}
        return self._client.send("POST", path, json=body)

    def _part(self, actor: int, part: story.PartPath, task: Observation, exchange: Exchange) -> Observation:
        """Return the target's part of a task for a part of the scenario. Raises Diverges."""
        script, item = self._scripts[actor], task
        for kind, place in zip(self._api.kinds, part, strict=False):
            scripts = getattr(script, kind.parts_key, None)
            scripts = scripts if isinstance(scripts, Sequence) else ()
            found = self._same_part(scripts, place, sorted(item.parts, key=_number))
            if found is None:
                missing = self._name(actor, part)
                raise Diverges(f"the target's {self._api.root.title} {task.id} has no {missing}.", exchange)
            script, item = scripts[place] if place < len(scripts) else None, found
        return item

    def _same_part(self, scripts: Sequence[Any], place: int, parts: Sequence[Observation]) -> Observation | None:
        """Return the part with the given or the script's id, else the one at its position, among those of its name."""
        if place < len(scripts):
            id, name = getattr(scripts[place], "id", None), getattr(scripts[place], "name", None)
            by_id = {part.id: part for part in parts}
            for candidate in (self._target_ids.get(str(id)) or self._target_ids.get(str(name)), str(id)):
                if candidate in by_id:
                    return by_id[candidate]
            if name is not None:
                place = sum(getattr(item, "name", None) == name for item in scripts[:place])
                parts = [part for part in parts if part.name == name]
        return parts[place] if place < len(parts) else None

    def _id(self, actor: int) -> str:
        """Return the target's id of a task. Raises Diverges where none matches."""
        if actor not in self._ids:
            target_id = self._target_id(actor)
            ids = [target_id] if target_id else self._candidates(self._scripts[actor])
            id = next((id for id in ids if id not in self._ids.values()), None)
            if id is None:
                raise Diverges(f"the target has no {self._name(actor)} with the same parts: give its id.")
            self._ids[actor] = id
        return self._ids[actor]

    def _target_id(self, actor: int) -> str | None:
        script = self._scripts[actor]
        return self._target_ids.get(str(script.id)) or self._target_ids.get(str(script.name))

    def _candidates(self, script: Any) -> Iterator[str]:
        """Yield ids of similar tasks: the script's own, then those that the run may change, the newest first."""
        own, key = self._server.own_id(script, self._client.target.own_address), self._api.root.parts_key
        similar = [row for row in self._tasks_at(self._server.list_path(script)) if _is_similar(script, row, key)]
        with suppress(Diverges):  # for an id that is not in the list, on a target that unknown ids may harm
            rows = self._tasks_at(detail_path(self._api.name, own)) if own is not None else []
            yield from (row.id for row in rows if _is_similar(script, row, key, named=False))
        similar.sort(key=lambda row: _number(row, self._server.number_key), reverse=True)
        yield from sorted((row.id for row in similar), key=lambda id: id not in self._options.tasks)

    def _tasks_at(self, path: str) -> list[Observation]:
        items = items_in_response(self._api, self._get(path))
        return [item for item in items if item.kind == self._api.root.name]


def _is_similar(script: Any, row: Observation, key: str, *, named: bool = True) -> bool:
    """Return whether a task has the script's name, if ``named``, and parts with the names of the script's."""
    names, scripts = [part.name for part in row.parts], getattr(script, key)
    name = (script.name or "").replace("{n}", "1")
    if len(scripts) != len(names) or (named and name not in ("", row.name)):
        return False
    return not Counter(item.name for item in scripts if item.name) - Counter(names)


def _words(item: Observation) -> tuple[str, ...]:
    return (*item.label, f"stage {item.raw['stage']}") if "stage" in item.raw else item.label


def _text(whole: Sequence[str], parts: Sequence[Sequence[str]]) -> str:
    """Return the states of a task and its parts as one text."""
    stage = f" at {whole[2]}" if len(whole) > 2 else ""
    return f"{'/'.join(whole[:2])}{stage} [{', '.join('/'.join(words[:2]) for words in parts)}]"


def _number(item: Observation, key: str = "id") -> int:
    """Return a number of an item, else 0: parts whose ids are texts are in order already."""
    number = item.raw.get(key)
    return number if isinstance(number, int) else 0


def _response_text(exchange: Exchange) -> str:
    """Return a response's status and error, or why there is none."""
    body = exchange.json()
    error = body.get("error") if isinstance(body, dict) else None
    if exchange.problem or not isinstance(error, dict):
        return exchange.problem or str(exchange.status)
    return f"{exchange.status} ({error.get('errCode') or error.get('code')}: {error.get('message')})"
