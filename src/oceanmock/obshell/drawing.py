"""obshell's dags: nodes one below the other, as they run, with what may be done to each of them.

A node's only sub task is drawn with it; of several each has a line and a band of its own, named by
its agent. An operator is said where it is not RUN, and a sub task where it is not as its node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.markup import escape

from oceanmock.clock import MILLISECOND, SECOND
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
from oceanmock.obshell.scenario_checks import ObshellActor, tell
from oceanmock.obshell.timeline import course_of
from oceanmock.report.picture import Picture, marks_on, on_request

_WIDEST: Final = 40


def draw_dags(scenario: Scenario) -> Iterator[Picture]:
    """A picture of each dag."""
    told = tell(scenario)
    for number, (dag, actor) in enumerate(zip(scenario.dags, told.actors, strict=True)):
        labels = [_labels(node, scenario.agent) for node in dag.nodes]
        course = course_of(actor, labels, marks_on(told.marks, number))
        title = _title(dag, actor, scenario.agent)
        yield Picture(title, _draw_nodes(dag, actor, scenario.agent), course)


def _title(dag: Dag, actor: ObshellActor, agent: Agent) -> str:
    number = "" if dag.id is None else f" {dag.id}"
    ident = "" if dag.id is None else f"  {_generic_id(dag, dag.id, agent)}"
    return f"dag{number} {actor.name}{ident}{_lock(dag)}{on_request(dag.starts_on)}"


def _generic_id(dag: Dag, number: int, agent: Agent) -> str:
    """The id by which the API knows the dag."""
    if dag.scope == "cluster":
        return str(GenericId("cluster", number))
    kind: Final = "obproxy" if dag.maintenance == "obproxy" else "local"
    return local_id(number, ip=agent.ip, port=agent.port, kind=kind)


def _lock(dag: Dag) -> str:
    if isinstance(dag.maintenance, TenantLock):
        return f"  maintenance of tenant {dag.maintenance.tenant}"
    return "" if dag.maintenance == "none" else f"  maintenance {dag.maintenance}"


# --- the nodes ------------------------------------------------------------------------------------


def _draw_nodes(dag: Dag, actor: ObshellActor, agent: Agent) -> Iterator[str]:
    widest = min(max(map(cell_len, actor.names)), _WIDEST)
    for place, (node, name) in enumerate(zip(dag.nodes, actor.names, strict=True)):
        label = escape(set_cell_size(name, max(widest, cell_len(name))))
        facts = [label, _number(node_number(dag, place))]
        if len(node.sub_tasks) == 1:
            facts.append(_describe(node.sub_tasks[0], _whereabouts(node.sub_tasks[0], agent)))
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
        yield "  ".join([f"  {rail}    {label}", *filter(None, [number]), _describe(sub_task, "")])


def _number(number: int | None) -> str:
    return "" if number is None else f"[dim]{number}[/]"


def _flags(node: Node) -> str:
    return f"can {' '.join(sorted(node.can)) or 'nothing'}"


def _whereabouts(sub_task: SubTask, agent: Agent) -> str:
    """Which agent does it, unless it is the scenario's own."""
    if sub_task.agent is None or _text(sub_task.agent) == _text(agent):
        return ""
    return f"on {_text(sub_task.agent)}  "


def _labels(node: Node, agent: Agent) -> list[str]:
    """What tells a node's sub tasks from one another: a name of their own, or else the agent."""
    return [each.name or _text(each.agent or agent) for each in node.sub_tasks]


def _text(address: Address | Agent) -> str:
    host = f"[{address.ip}]" if ":" in address.ip else address.ip
    return f"{host}:{address.port}"


def _describe(sub_task: SubTask, whereabouts: str) -> str:
    """What its runs do, and its rollbacks where the file says so, in a few words."""
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
