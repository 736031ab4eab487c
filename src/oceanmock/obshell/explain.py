"""Why an obshell dag is in its state: its sub tasks' runs, the scheduler's ticks, the operators.

What the machine does on its own is told from the difference between two states; the rules that are
named are those of ``lifecycle/obshell.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from oceanmock.clock import Clock
from oceanmock.engine import history as timeline
from oceanmock.engine.records import OperationRecord
from oceanmock.engine.sandbox import Sandbox
from oceanmock.errors import IllegalOperator
from oceanmock.obshell import machine as obshell
from oceanmock.obshell.machine import DagState, History, NodeState, Operator, SubTaskState
from oceanmock.obshell.world import Dag, Dags
from oceanmock.report.explanation import (
    MOST,
    ClockFace,
    Event,
    Explanation,
    Next,
    Offer,
    Part,
    Step,
    ends_with,
    last_of,
    last_request,
    next_text,
    reasons_of,
    steps_of,
)
from oceanmock.text import first_few, one_line, round_duration

_OPERATORS: Final[tuple[Operator, ...]] = ("RETRY", "ROLLBACK", "CANCEL", "PASS")
_ENDED: Final = ("FAILED", "SUCCEED")

TWO_TICKS: Final = (
    "a stage takes two ticks: on one its node starts, on the first after all its sub tasks have "
    "ended the node ends and the stage moves; the next node starts one tick later"
)
TWO_RUNS: Final = (
    "RETRY first undoes what has FAILED, and the first tick after that has ended runs it again"
)
STUCK: Final = (
    "CANCEL marks the first node that has not ended in the order of stages: once a rollback has "
    "begun that is {}, not the one at the stage; from then on the stages count up again, and "
    "ROLLBACK is refused for good, as that first node is neither FAILED nor under ROLLBACK"
)


@dataclass(frozen=True, slots=True)
class _Scene:
    """A dag, and the life it is told from."""

    dag: Dag
    life: History

    def at(self, instant: int) -> int:
        """An instant of the life, since the epoch."""
        return self.dag.born + instant

    def who(self, part: Part = ()) -> str:
        """What sentences call the dag, a node or a sub task."""
        if not part:
            return f"dag {self.dag.number} “{one_line(self.dag.name)}”"
        node = self.dag.nodes[part[0]]
        if len(part) == 1:
            return f"node {node.number} “{one_line(node.name)}”"
        sub_task = node.sub_tasks[part[1]]
        name = f" “{one_line(sub_task.name)}”" if sub_task.name != node.name else ""
        host = f"[{sub_task.agent.ip}]" if ":" in sub_task.agent.ip else sub_task.agent.ip
        whereabouts = f" on {host}:{sub_task.agent.port}" if len(node.sub_tasks) > 1 else ""
        return f"sub task {sub_task.number}{name}{whereabouts}"

    def event(self, state: DagState, part: Part, before: str | None, after: str, why: str) -> Event:
        """A change of the dag or a part of it, at the instant at which ``state`` begins."""
        number = self.dag.number
        if part:
            node = self.dag.nodes[part[0]]
            number = node.sub_tasks[part[1]].number if part[1:] else node.number
        return Event(self.at(state.at), part, number, self.who(part), before, after, why)

    def stage(self, stage: int) -> str:
        """What sentences call a stage."""
        return f"stage {stage} of {len(self.dag.nodes)}, {self.who((stage - 1,))}"


def explain(sandbox: Sandbox, id: int | str) -> Explanation:
    """Return why the dag of a generic id, or of a number, is in its state. Raises NoSuchTask."""
    dags = sandbox.world(Dags)
    dag = dags.find(str(id)).dag
    key = (dag.store, dag.number)
    operated = sandbox.operations_of(Dags.api, key)
    return explain_history(dag, dags.life_of(key), operated, clock=sandbox.clock)


def explain_history(
    dag: Dag, life: History, operated: Sequence[OperationRecord], *, clock: Clock
) -> Explanation:
    """Why the dag is in the state it shows now."""
    face, scene = ClockFace.of(clock), _Scene(dag, life)
    instant = face.now - dag.born
    past = timeline.until(life.states, instant) or life.states[:1]
    state = past[-1]
    steps = list(steps_of(past, operated, born=dag.born))
    events = [event for step in steps for event in _events(scene, step)]
    return Explanation(
        who=scene.who(),
        state=state.state,
        operation=state.operator,
        born=dag.born,
        since=scene.at(_since(past)),
        because=reasons_of(events, _leading(state, events), _holding(scene, state)),
        events=tuple(events),
        next=_next(scene, state, obshell.next_due(life, instant)),
        accepts=tuple(_offers(scene, state, instant)),
        clock=face,
    )


def _since(past: Sequence[DagState]) -> int:
    """When the dag began to show what its last state shows."""
    began = past[-1]
    for state in reversed(past):
        if (state.state, state.operator) != (began.state, began.operator):
            break
        began = state
    return began.at


def _offers(scene: _Scene, state: DagState, instant: int) -> Iterator[Offer]:
    """What the machine would accept now."""
    for operator in _OPERATORS:
        if _accepts(scene.life, operator, instant):
            yield Offer(operator, scene.who())
    for place, node in enumerate(state.nodes):
        if node.state == "FAILED" and _accepts(scene.life, "PASS", instant, node=place):
            yield Offer("PASS", scene.who((place,)))


def _accepts(life: History, operator: Operator, instant: int, *, node: int | None = None) -> bool:
    try:
        obshell.operate(life, operator, instant, node=node)
    except IllegalOperator:
        return False
    return True


def _next(scene: _Scene, state: DagState, due: int | None) -> Next | None:
    if due is None:
        return None
    step = Step(state, obshell.view_at(scene.life, due))
    return Next(scene.at(due), next_text(_events(scene, step)))


# --- words ----------------------------------------------------------------------------------------


def _words(it: DagState | NodeState | SubTaskState) -> str:
    stage = f" at stage {it.stage}" if isinstance(it, DagState) else ""
    return f"{it.state}/{it.operator}{stage}"


def _it(state: DagState, part: Part) -> DagState | NodeState | SubTaskState:
    if not part:
        return state
    node = state.nodes[part[0]]
    return node.sub_tasks[part[1]] if len(part) > 1 else node


def _parts(state: DagState) -> Iterator[Part]:
    """The dag, its nodes, and the sub tasks of each."""
    yield ()
    for place, node in enumerate(state.nodes):
        yield (place,)
        yield from ((place, position) for position in range(len(node.sub_tasks)))


# --- what happened --------------------------------------------------------------------------------


def _events(scene: _Scene, step: Step[DagState]) -> Iterator[Event]:
    """What changes in a step, in the order in which the machine does it."""
    before, after, by = step.before, step.after, step.by
    if by is not None and by.refused:
        part: Part = () if by.position is None else (by.position,)
        words = _words(_it(after, part))
        why = f"{by.operation} of {scene.who(part)} is refused: {by.refused}"
        yield replace(scene.event(after, part, words, words, why), at=by.at, by=by)
    elif before is None:
        yield scene.event(after, (), None, _words(after), "it is born READY")
    elif step.by_request:
        yield from _operation(scene, before, after, by)
    else:
        ranked = [*_dag_changes(scene, before, after), *_node_changes(scene, before, after)]
        for place, node in enumerate(after.nodes):
            if node is not before.nodes[place]:
                for position in range(len(node.sub_tasks)):
                    ranked += _sub_task_changes(scene, (place, position), before, after)
        yield from (event for _, event in sorted(ranked, key=lambda each: each[0]))


def _operation(
    scene: _Scene, before: DagState, after: DagState, by: OperationRecord | None
) -> Iterator[Event]:
    """The one it was meant for, then all else that it changed."""
    target: Part = () if by is None or by.position is None else (by.position,)
    arrives = f"{by.operation} of {scene.who(target)} arrives" if by else "an operator arrives"
    effect = _effect(scene, before, after, by) if by else "its record is lost"
    for part in sorted(_parts(after), key=lambda each: each != target):
        old, new = _it(before, part), _it(after, part)
        if part == target or _words(old) != _words(new):
            why = f"{arrives}: {effect}" if part == target else arrives
            event = scene.event(after, part, _words(old), _words(new), why)
            yield replace(event, by=by) if part == target else event


def _effect(scene: _Scene, before: DagState, after: DagState, by: OperationRecord) -> str:
    """What an operator does."""
    if by.operation == "ROLLBACK":
        return f"what has run is undone stage by stage, from {scene.stage(after.stage)}, down to 1"
    if by.operation == "RETRY":
        return f"{scene.stage(after.stage)}, runs again; what FAILED there is undone first"
    if by.operation == "CANCEL":
        pairs = enumerate(zip(before.nodes, after.nodes, strict=True))
        marked = [scene.who((place,)) for place, (old, new) in pairs if old != new]
        return (
            f"it marks {first_few(marked) or 'nothing new'}, to be FAILED on the tick of its stage"
        )
    if by.position is not None:
        return "it counts as SUCCEED, and the dag is READY to go on"
    return "the FAILED node and all after it count as SUCCEED, and so does the dag"


def _is_marked(node: NodeState) -> bool:
    return node.state == "PENDING" and node.operator == "CANCEL"


def _dag_changes(scene: _Scene, before: DagState, after: DagState) -> Iterator[tuple[int, Event]]:
    if _words(before) != _words(after):
        rank, why = _dag_why(scene, before, after)
        words = _words(before), _words(after)
        yield rank, scene.event(after, (), *words, why)


def _dag_why(scene: _Scene, before: DagState, after: DagState) -> tuple[int, str]:
    who, node = scene.who(), scene.who((before.stage - 1,))
    if after.state == "RUNNING" and before.state == "READY":
        stages = len(scene.dag.nodes)
        return 1, f"the scheduler's tick takes the dag up at stage {after.stage} of {stages}"
    if after.state == "FAILED":
        return 5, f"{who} is FAILED with {node}"
    if after.state == "SUCCEED":
        last = "first stage is undone" if after.operator == "ROLLBACK" else "last stage is done"
        return 5, f"{who} is SUCCEED: its {last}"
    way = "down" if after.stage < before.stage else "up"
    return 5, f"the dag moves {way} to {scene.stage(after.stage)}, which the next tick starts"


def _node_changes(scene: _Scene, before: DagState, after: DagState) -> Iterator[tuple[int, Event]]:
    for place, (old, new) in enumerate(zip(before.nodes, after.nodes, strict=True)):
        if _words(old) != _words(new):
            rank, why = _node_why(scene, place, old, new)
            words = _words(old), _words(new)
            yield rank, scene.event(after, (place,), *words, why)


def _node_why(scene: _Scene, place: int, old: NodeState, new: NodeState) -> tuple[int, str]:
    who, tick = scene.who((place,)), "the scheduler's tick"
    if new.state == "RUNNING":
        why = {"ROLLBACK": " to undo it", "RETRY": " to run it again"}.get(new.operator, "")
        return 2, f"{tick} starts {who}, stage {place + 1} of {len(scene.dag.nodes)}{why}"
    if new.operator == "CANCEL":
        return 4, f"{tick} carries CANCEL out: {who} is FAILED at once"
    if new.state == "FAILED":
        failed = [each for each, it in enumerate(new.sub_tasks) if it.state == "FAILED"]
        blamed = first_few([scene.who((place, each)) for each in failed])
        return 4, f"{tick} finds all sub tasks of {who} ended, {blamed} FAILED: so is the node"
    if old.state == "PENDING":
        return 4, f"{tick} finds nothing to do in {who}: it is SUCCEED"
    return 4, f"{tick} finds all sub tasks of {who} SUCCEED: so is the node"


def _sub_task_changes(
    scene: _Scene, part: Part, before: DagState, after: DagState
) -> Iterator[tuple[int, Event]]:
    """Runs that end or start, each with its rank in a tick."""
    old, new = _sub_task(before, part), _sub_task(after, part)
    words, starts = _words(old), before.nodes[part[0]].state == "PENDING"
    for number in range(max(len(old.runs) - 1, 0), len(new.runs)):
        run = new.runs[number]
        if number >= len(old.runs):
            now = f"RUNNING/{run.operator}"
            why = _start(scene, part, new, with_node=starts)
            yield 3, scene.event(after, part, words, now, why)
            words = now
        elif run.ended is not None and old.runs[number].ended is None:
            now = _words(new) if number == len(new.runs) - 1 else f"{old.will_end}/{run.operator}"
            why = _ending(scene, part, new, number, now)
            yield 0, scene.event(after, part, words, now, why)
            words = now


def _sub_task(state: DagState, part: Part) -> SubTaskState:
    return state.nodes[part[0]].sub_tasks[part[1]]


def _owned(scene: _Scene, part: Part) -> str:
    return f"{scene.who(part)} of {scene.who(part[:1])}"


def _start(scene: _Scene, part: Part, sub_task: SubTaskState, *, with_node: bool) -> str:
    called = _called(sub_task, len(sub_task.runs) - 1)
    if with_node:
        return f"{called} of {scene.who(part)} starts with it"
    return f"the scheduler's tick starts {called} of {_owned(scene, part)}"


def _called(sub_task: SubTaskState, number: int) -> str:
    """`run 3 (attempt 2)`: the API counts all runs as one, a script those of each kind."""
    operator = sub_task.runs[number].operator
    count = sum(run.operator == operator for run in sub_task.runs[: number + 1])
    return f"run {number + 1} ({'rollback' if operator == 'ROLLBACK' else 'attempt'} {count})"


def _ending(scene: _Scene, part: Part, sub_task: SubTaskState, number: int, words: str) -> str:
    """How a run ends, and the last line it logs where it fails."""
    run = sub_task.runs[number]
    ended = run.started if run.ended is None else run.ended
    outcome = words.partition("/")[0]
    sentence = f"{_called(sub_task, number)} of {_owned(scene, part)} ends {outcome}"
    sentence += f" after {round_duration(ended - run.started)}"
    if outcome != "FAILED":
        return sentence
    lines = [each.text for each in obshell.lines_of(sub_task, ended)]
    return sentence + ends_with(lines)


# --- why it is so now -----------------------------------------------------------------------------


def _leading(state: DagState, events: Sequence[Event]) -> Iterator[Event]:
    """The events that led here: the last operator, the stage, its node and its sub tasks."""
    yield from last_request(events)
    yield from last_of(events, ())
    place = state.stage - 1
    yield from last_of(events, (place,))
    for position, sub_task in enumerate(state.nodes[place].sub_tasks):
        if state.state != "SUCCEED" and (sub_task.runs or sub_task.state != "PENDING"):
            yield from last_of(events, (place, position))
    if state.state in _ENDED:
        yield from _failures(state, events)


def _failures(state: DagState, events: Sequence[Event]) -> Iterator[Event]:
    if state.state == "FAILED":
        for part in _parts(state):
            if len(part) == 1 and _it(state, part).state == "FAILED":
                yield from last_of(events, part)


def _holding(scene: _Scene, state: DagState) -> Iterator[str]:
    """What holds now: what is waited for, and the rules that explain it."""
    place = state.stage - 1
    node = state.nodes[place]
    if state.state == "READY":
        yield "the scheduler's next tick takes it up"
    if state.state == "RUNNING":
        yield from _awaited(scene, state, node, place)
    if _is_stuck(state):
        yield STUCK.format(scene.who((0,)))
    elif state.state not in _ENDED:
        later = [each for each in range(len(state.nodes)) if each > place]
        marked = [each for each in later if _is_marked(state.nodes[each])]
        for each in marked[:MOST]:
            yield f"{scene.who((each,))} is marked by CANCEL: it FAILS when its stage comes"
    if state.state == "FAILED" and not state.is_finished:
        yield "a maintenance dag that FAILED is not finished: it holds its lock until it SUCCEEDs"


def _awaited(scene: _Scene, state: DagState, node: NodeState, place: int) -> Iterator[str]:
    """What a RUNNING dag waits for: a run, or a tick."""
    running = [
        scene.who((place, each))
        for each, sub_task in enumerate(node.sub_tasks)
        if sub_task.state == "RUNNING"
    ]
    if node.state == "RUNNING" and running:
        yield f"{scene.who((place,))} is RUNNING until {first_few(running)} has ended"
    elif node.operator == "RETRY" and any(_is_undone(each) for each in node.sub_tasks):
        yield TWO_RUNS
    else:
        yield TWO_TICKS


def _is_undone(sub_task: SubTaskState) -> bool:
    return (sub_task.state, sub_task.operator) == ("SUCCEED", "ROLLBACK")


def _is_stuck(state: DagState) -> bool:
    """Whether CANCEL has marked the first node while another one was at the stage."""
    return state.state != "SUCCEED" and state.stage > 1 and _is_marked(state.nodes[0])
