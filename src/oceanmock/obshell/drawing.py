"""obshell in the terminal: each dag's nodes, as they run, and its timeline.

A node's only sub task is drawn with it; of several each has a line and a track of its own, named by
its agent. An operator is printed where it is not RUN, and a sub task where it is not as its node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.markup import escape

from oceanmock.clock import MILLISECOND, SECOND
from oceanmock.engine.machine import Change, Label, Part, states_until
from oceanmock.engine.sandbox import Sandbox
from oceanmock.obshell import world
from oceanmock.obshell.ids import GenericId, local_id
from oceanmock.obshell.scenario import (
    Address,
    Agent,
    Attempt,
    Dag,
    Node,
    Scenario,
    SubTask,
    TenantLock,
    node_number,
    sub_task_number,
)
from oceanmock.obshell.scenario_checks import ObshellActor, simulate_story
from oceanmock.obshell.states import DagState
from oceanmock.report.timeline import (
    REPORT_WIDTH,
    Picture,
    Style,
    Timeline,
    Track,
    coloured,
    draw_pictures,
    draw_report,
    markers_of,
    start_text,
)
from oceanmock.scenario.story import Marker
from oceanmock.text import one_line

STYLES: Final[dict[str, Style]] = {
    "PENDING": ("·", "dim"),
    "READY": ("○", "cyan"),
    "RUNNING": ("█", "blue"),
    "RUNNING/ROLLBACK": ("▒", "magenta"),
    "FAILED": ("✗", "red"),
    "SUCCEED": ("━", "green"),
    "SUCCEED/ROLLBACK": ("╌", "magenta"),
    "SUCCEED/PASS": ("═", "yellow"),
}
MAX_NAME_WIDTH: Final = 40


def draw_scenario(scenario: Scenario, *, width: int = REPORT_WIDTH) -> Iterator[str]:
    """Yield the lines of a scenario's picture, in rich markup."""
    message = simulate_story(scenario)
    pictures = [
        Picture(
            _title(dag, actor, scenario.agent),
            _draw_nodes(dag, actor, scenario.agent),
            _timeline(
                actor.name,
                _tracks(actor.names, [_labels(node, scenario.agent) for node in dag.nodes]),
                actor.born,
                actor.life.states,
                tuple(mark for mark in message.markers if mark.actor == number),
            ),
        )
        for number, (dag, actor) in enumerate(zip(scenario.dags, message.actors, strict=True))
    ]
    yield from draw_pictures(scenario.name, scenario.summary, pictures, width=width, kinds="dags")


def draw_timeline(sandbox: Sandbox, id: int | str) -> str:
    """Return the timeline of the dag of a generic id, or of a number. Raises NoSuchTask."""
    now, dags = sandbox.clock.now(), sandbox.world(world.Dags)
    dag = dags.find(str(id)).dag
    key = dag.key
    history = dags.history_of(key)
    name, names = one_line(dag.name), [one_line(node.name) for node in dag.nodes]
    labels = [[_sub_task_label(node, item) for item in node.sub_tasks] for node in dag.nodes]

    def called(part: Part) -> str:
        return f"{names[part[0]]!r} of {name!r}" if part else repr(name)

    markers = markers_of(sandbox.operations_of(world.Dags.api, key), called)
    past = states_until(history, now - dag.created)
    timeline = _timeline(name, _tracks(names, labels), dag.created, past, markers)
    return draw_report(timeline, who=f"dag {dag.number}", now=now)


def _sub_task_label(node: world.NodeData, sub_task: world.SubTaskData) -> str:
    """Return the name of a sub task, or its agent where the name is the node's."""
    return one_line(sub_task.name) if sub_task.name != node.name else _text(sub_task.agent)


# --- the timeline ---------------------------------------------------------------------------------


def _timeline(
    name: str,
    tracks: Iterator[Track],
    started_at: int,
    states: Sequence[DagState],
    markers: tuple[Marker, ...],
) -> Timeline:
    return Timeline(name, started_at, states, tuple(tracks), markers, STYLES, _describe)


def _tracks(names: Sequence[str], labels: Sequence[Sequence[str]]) -> Iterator[Track]:
    """Yield the tracks of a dag; ``labels`` are the names of each node's sub tasks."""
    yield Track((), "dag", "dag")
    for place, (name, below) in enumerate(zip(names, labels, strict=True)):
        yield Track((place,), name, name)
        if len(below) == 1:
            yield Track((place, 0), f"sub task of {name}", None)
            continue
        for position, label in enumerate(below):
            yield Track((place, position), f"{name} ({label})", f"  {label}")


def _describe(state: DagState, part: Part, changes: Sequence[Change]) -> str:
    if not part:
        is_moved = bool(changes) and changes[-1].cause == "stage"
        return f"stage {state.stage}" if is_moved else _label_text(state.label)
    node = state.nodes[part[0]]
    label = node.sub_tasks[part[1]].label if part[1:] else node.label
    is_first = not changes or changes[0].before is None
    if (is_first and label == ("PENDING", "RUN")) or (part[1:] and label == node.label):
        return ""
    return _label_text(label)


def _label_text(label: Label) -> str:
    operator = "" if label[1] == "RUN" else f"/{label[1]}"
    return f"{coloured(label[0], STYLES[label[0]])}{operator}"


# --- the nodes ------------------------------------------------------------------------------------


def _title(dag: Dag, actor: ObshellActor, agent: Agent) -> str:
    number = "" if dag.id is None else f" {dag.id}"
    ident = "" if dag.id is None else f"  {_generic_id(dag, dag.id, agent)}"
    return f"dag{number} {actor.name}{ident}{_lock(dag)}{start_text(dag.starts_on)}"


def _generic_id(dag: Dag, number: int, agent: Agent) -> str:
    """Return the id that the API shows."""
    if dag.scope == "cluster":
        return str(GenericId("cluster", number))
    kind: Final = "obproxy" if dag.maintenance == "obproxy" else "local"
    return local_id(number, ip=agent.ip, port=agent.port, kind=kind)


def _lock(dag: Dag) -> str:
    if isinstance(dag.maintenance, TenantLock):
        return f"  maintenance of tenant {dag.maintenance.tenant}"
    return "" if dag.maintenance == "none" else f"  maintenance {dag.maintenance}"


def _draw_nodes(dag: Dag, actor: ObshellActor, agent: Agent) -> Iterator[str]:
    widest = min(max(map(cell_len, actor.names)), MAX_NAME_WIDTH)
    for place, (node, name) in enumerate(zip(dag.nodes, actor.names, strict=True)):
        label = escape(set_cell_size(name, max(widest, cell_len(name))))
        facts = [label, _number(node_number(dag, place))]
        if len(node.sub_tasks) == 1:
            facts.append(_runs_text(node.sub_tasks[0], _whereabouts(node.sub_tasks[0], agent)))
        yield "  ".join(["  ●", *filter(None, facts), f"[dim]{_flags(node)}[/]"])
        if len(node.sub_tasks) > 1:
            yield from _draw_sub_tasks(dag, place, agent)


def _draw_sub_tasks(dag: Dag, place: int, agent: Agent) -> Iterator[str]:
    rail = " " if place == len(dag.nodes) - 1 else "[dim]│[/]"
    labels = _labels(dag.nodes[place], agent)
    widest = max(map(cell_len, labels))
    for position, sub_task in enumerate(dag.nodes[place].sub_tasks):
        label = escape(set_cell_size(labels[position], widest))
        number = _number(sub_task_number(dag, place, position))
        yield "  ".join([f"  {rail}    {label}", *filter(None, [number]), _runs_text(sub_task, "")])


def _number(number: int | None) -> str:
    return "" if number is None else f"[dim]{number}[/]"


def _flags(node: Node) -> str:
    return f"can {' '.join(sorted(node.can)) or 'nothing'}"


def _whereabouts(sub_task: SubTask, agent: Agent) -> str:
    """Return which agent runs it, unless it is the scenario's own."""
    if sub_task.agent is None or _text(sub_task.agent) == _text(agent):
        return ""
    return f"on {_text(sub_task.agent)}  "


def _labels(node: Node, agent: Agent) -> list[str]:
    """Return a label for each sub task: its own name, or else its agent."""
    return [item.name or _text(item.agent or agent) for item in node.sub_tasks]


def _text(address: Address | Agent) -> str:
    host = f"[{address.ip}]" if ":" in address.ip else address.ip
    return f"{host}:{address.port}"


def _runs_text(sub_task: SubTask, whereabouts: str) -> str:
    """Return what its runs do, and its rollbacks where the file has them, in a few words."""
    back = _outcomes(sub_task.rollback) if "rollback" in sub_task.model_fields_set else ""
    does = _outcomes(sub_task.runs) + (f"  ↶ {back}" if back else "")
    return f"[dim]{escape(whereabouts)}{does}[/]"


def _outcomes(attempts: Sequence[Attempt]) -> str:
    return ", then ".join(map(_outcome, attempts))


def _outcome(attempt: Attempt) -> str:
    if attempt.takes is None:
        return "hangs"
    long = attempt.takes >= SECOND or not attempt.takes
    span = f"{attempt.takes / SECOND:g} s" if long else f"{attempt.takes / MILLISECOND:g} ms"
    return f"{'✗' if attempt.outcome == 'FAILED' else '✓'} {span}"
