"""obshell's words in a timeline: how each looks, and what is said when it has become another.

A node's only sub task has no band of its own; of several each has one. An operator is said where it
is not RUN, and a sub task where it is not as its node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from oceanmock.engine.history import until
from oceanmock.engine.sandbox import Sandbox
from oceanmock.obshell.scenario_checks import ObshellActor
from oceanmock.obshell.world import Dags, Node, SubTask
from oceanmock.report.draw_timeline import MOST_STATES, draw_history, markers_of
from oceanmock.report.timeline import Style, Timeline, Track, Words, coloured, legend
from oceanmock.scenario.story import Marker
from oceanmock.text import one_line

LOOKS: Final[dict[str, Style]] = {
    "PENDING": ("·", "dim"),
    "READY": ("○", "cyan"),
    "RUNNING": ("█", "blue"),
    "RUNNING/ROLLBACK": ("▒", "magenta"),
    "FAILED": ("✗", "red"),
    "SUCCEED": ("━", "green"),
    "SUCCEED/ROLLBACK": ("╌", "magenta"),
    "SUCCEED/PASS": ("═", "yellow"),
}
"""How each state looks in a timeline; with its operator, where that makes a difference."""
LEGEND: Final = legend(LOOKS)


def course_of(
    actor: ObshellActor, labels: Sequence[Sequence[str]], marks: tuple[Marker, ...]
) -> Timeline:
    """A dag's life with all its nodes, and the operations on it.

    ``labels`` are what the sub tasks of each node are called.
    """
    return Timeline(actor, actor.life.states, tuple(_rows(actor, labels)), marks, _look)


def _rows(actor: ObshellActor, labels: Sequence[Sequence[str]]) -> Iterator[Track]:
    yield Track((), "dag", "dag", _say_of_dag)
    for place, (name, below) in enumerate(zip(actor.names, labels, strict=True)):
        yield Track((place,), name, name, _say)
        if len(below) == 1:
            yield Track((place, 0), None, f"sub task of {name}", _say_of_sub_task)
            continue
        for position, label in enumerate(below):
            yield Track((place, position), f"  {label}", f"{name} ({label})", _say_of_sub_task)


def _look(words: Words) -> Style:
    return LOOKS.get("/".join(words[:2]), LOOKS[words[0]])


def _say_of_dag(before: Words | None, words: Words, above: Words) -> str:
    """Its state, and its stage where that has moved."""
    state = "" if before is not None and before[:2] == words[:2] else _state(words)
    stage = "" if before is None or before[2:] == words[2:] else words[2]
    return ", ".join(filter(None, [state, stage]))


def _say(before: Words | None, words: Words, above: Words) -> str:
    if before is None and words == ("PENDING", "RUN"):
        return ""  # as everything begins
    return _state(words)


def _say_of_sub_task(before: Words | None, words: Words, above: Words) -> str:
    return "" if words == above else _say(before, words, above)


def _state(words: Words) -> str:
    operator = "" if words[1] == "RUN" else f"/{words[1]}"
    return f"{coloured(words[0], LOOKS[words[0]])}{operator}"


def draw_timeline(sandbox: Sandbox, id: int | str) -> str:
    """Draw the dag of a generic id, or of a number, up to now. Raises NoSuchTask."""
    dags = sandbox.world(Dags)
    dag = dags.find(str(id)).dag
    key = (dag.store, dag.number)
    life = dags.life_of(key)
    now = sandbox.clock.now()
    past = until(life.states, now - dag.born) or life.states[:1]
    actor = ObshellActor(
        born=dag.born,
        name=one_line(dag.name),
        names=tuple(one_line(node.name) for node in dag.nodes),
        life=replace(life, states=tuple(past[-MOST_STATES:])),
    )
    marks = markers_of(actor, sandbox.operations_of(Dags.api, key))
    labels = [[_label(node, each) for each in node.sub_tasks] for node in dag.nodes]
    return draw_history(
        course_of(actor, labels, marks),
        who=f"dag {dag.number}",
        looks=LOOKS,
        now=now,
        left_out=len(past) - MOST_STATES,
    )


def _label(node: Node, sub_task: SubTask) -> str:
    """What tells a sub task from its node's others: a name of its own, or else the agent."""
    agent = sub_task.agent
    host = f"[{agent.ip}]" if ":" in agent.ip else agent.ip
    return one_line(sub_task.name) if sub_task.name != node.name else f"{host}:{agent.port}"
