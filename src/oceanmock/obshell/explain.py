"""obshell's explanations and drawings.

The sentences explain the state of a dag by its runs, the ticks and the operators. A node and its only sub task are
drawn as one; of several sub tasks each has its own line and track, named by its agent. An operator is printed unless it
is RUN, and the label of a sub task unless it is that of its node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.markup import escape

from oceanmock.clock import SECOND
from oceanmock.engine.machine import Change, Part
from oceanmock.obshell import machine
from oceanmock.obshell.agent import TenantLock
from oceanmock.obshell.api import API, ClientOperator, authority
from oceanmock.obshell.scenario import Dag, Node, Scenario, SubTask, id_of, number_below
from oceanmock.obshell.states import DagState
from oceanmock.report.explain import MAX_EXPLAINED, Event, Explainer
from oceanmock.scenario.story import Actor
from oceanmock.text import ends_with, one_line, round_duration, runs_text, timeout_text

TWO_TICKS: Final = (
    "a stage takes two ticks: on one its node starts, on the first after all its sub tasks have ended the node ends "
    "and the stage moves; the next node starts one tick later"
)
TWO_RUNS: Final = "RETRY first undoes what has FAILED, and the first tick after that has ended runs it again"
STUCK: Final = (
    "CANCEL marks the first node that has not ended in the order of stages: once a rollback has begun that is {}, not "
    "the one at the stage; from then on the stages count up again, and ROLLBACK is refused for good, as that first "
    "node is neither FAILED nor under ROLLBACK"
)

GLYPHS: Final = {
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


class DagExplainer(Explainer[DagState]):
    """The sentences about one dag; its parts are nodes, and theirs the sub tasks."""

    api, number_key, styles = API, "number", GLYPHS

    def name(self, part: Part = ()) -> str:
        """Return `node 403 “Start observer”`; of several sub tasks, each with its agent."""
        if len(part) < 2:
            return super().name(part)
        node, sub_task = self.item_at(part[:1]), self.item_at(part)
        name = f" “{one_line(sub_task.name)}”" if sub_task.name != node.name else ""
        where = f" on {authority(sub_task.agent)}" if len(node.sub_tasks) > 1 else ""
        return f"sub task {sub_task.number}{name}{where}"

    def offers(self) -> Iterator[tuple[str, str]]:
        operators: tuple[ClientOperator, ...] = ("RETRY", "ROLLBACK", "CANCEL", "PASS")
        for operator in operators:
            if machine.allows(self.history, operator, self.age):
                yield operator, self.name()
        for place, node in enumerate(self.state.nodes):
            if node.state == "FAILED" and machine.allows(self.history, "PASS", self.age, node=place):
                yield "PASS", self.name((place,))

    def why(self, before: DagState, after: DagState, change: Change) -> str:
        if change.before is None:
            return "" if change.part else "it starts READY"
        if change.target is not None:
            arrives = f"{change.cause.partition('.')[2]} of {self.name(change.target)} arrives"
            is_target = change.part == change.target
            return f"{arrives}: {self._effect(before, after, change.cause)}" if is_target else arrives
        if not change.part:
            return self._dag_move(before, after, change)
        if len(change.part) == 1:
            return self._node_move(before, after, change)
        if change.after[0] == "RUNNING":
            starts_with_node = f"{_last_run(after, change.part)} of {self.name(change.part)} starts with it"
            starts = f"the scheduler's tick starts {self._run_of(after, change.part)}"
            return starts_with_node if before.nodes[change.part[0]].state == "PENDING" else starts
        sub_task = after.nodes[change.part[0]].sub_tasks[change.part[1]]
        run = sub_task.last_run
        assert run is not None
        ended = run.started if run.ended is None else run.ended
        log = [text for _, _, text in machine.lines_of(sub_task, ended)] if change.after[0] == "FAILED" else []
        took = round_duration(ended - run.started)
        return f"{self._run_of(after, change.part)} ends {change.after[0]} after {took}{ends_with(log)}"

    def _effect(self, before: DagState, after: DagState, operator: str) -> str:
        if operator == "dag.ROLLBACK":
            return f"what has run is undone stage by stage, from {self._stage(after.stage)}, down to 1"
        if operator == "dag.RETRY":
            return f"{self._stage(after.stage)}, runs again; what FAILED there is undone first"
        if operator == "dag.CANCEL":
            pairs = enumerate(zip(before.nodes, after.nodes, strict=True))
            marked = self.names((place,) for place, (old, new) in pairs if old != new)
            return f"it marks {marked or 'nothing new'}, to be FAILED on the tick of its stage"
        if operator == "node.PASS":
            return "it counts as SUCCEED, and the dag is READY to go on"
        return "the FAILED node and all after it count as SUCCEED, and so does the dag"

    def _dag_move(self, before: DagState, after: DagState, change: Change) -> str:
        if change.cause == "stage":
            way = "down" if after.stage < before.stage else "up"
            return f"the dag moves {way} to {self._stage(after.stage)}, which the next tick starts"
        if change.after[0] == "RUNNING":
            return f"the scheduler's tick takes the dag up at stage {after.stage} of {len(self.item.nodes)}"
        if change.after[0] == "FAILED":
            return f"{self.name()} is FAILED with {self.name((before.stage - 1,))}"
        last = "first stage is undone" if after.operator == "ROLLBACK" else "last stage is done"
        return f"{self.name()} is SUCCEED: its {last}"

    def _node_move(self, before: DagState, after: DagState, change: Change) -> str:
        place, who, tick = change.part[0], self.name(change.part), "the scheduler's tick"
        state, operator = change.after
        if state == "RUNNING":
            why = {"ROLLBACK": " to undo it", "RETRY": " to run it again"}.get(operator, "")
            return f"{tick} starts {who}, stage {place + 1} of {len(self.item.nodes)}{why}"
        if operator == "CANCEL":
            return f"{tick} carries CANCEL out: {who} is FAILED at once"
        if state == "FAILED":
            sub_tasks = enumerate(after.nodes[place].sub_tasks)
            failed = self.names((place, at) for at, it in sub_tasks if it.state == "FAILED")
            return f"{tick} finds all sub tasks of {who} ended, {failed} FAILED: so is the node"
        if before.nodes[place].state == "PENDING":
            return f"{tick} finds nothing to do in {who}: it is SUCCEED"
        return f"{tick} finds all sub tasks of {who} SUCCEED: so is the node"

    def _run_of(self, state: DagState, part: Part) -> str:
        return f"{_last_run(state, part)} of {self.name(part)} of {self.name(part[:1])}"

    def _stage(self, stage: int) -> str:
        return f"stage {stage} of {len(self.item.nodes)}, {self.name((stage - 1,))}"

    def leading(self) -> list[Event]:
        """Return the last events of the dag, of the node at the stage and its sub tasks, and of FAILED nodes."""
        state, place = self.state, self.state.stage - 1
        leading = [*self.last_of(()), *self.last_of((place,))]
        for position, sub_task in enumerate(state.nodes[place].sub_tasks):
            if state.state != "SUCCEED" and (sub_task.last_run or sub_task.state != "PENDING"):
                leading += self.last_of((place, position))
        for item, node in enumerate(state.nodes):
            if state.state == node.state == "FAILED":
                leading += self.last_of((item,))
        return leading

    def holding(self) -> Iterator[str]:
        state = self.state
        if state.state == "READY":
            yield "the scheduler's next tick takes it up"
        if state.state == "RUNNING":
            place, node = state.stage - 1, state.nodes[state.stage - 1]
            running = self.names((place, at) for at, it in enumerate(node.sub_tasks) if it.state == "RUNNING")
            if node.state == "RUNNING" and running:
                yield f"{self.name((place,))} is RUNNING until {running} has ended"
            else:
                is_undone = any(item.label == ("SUCCEED", "ROLLBACK") for item in node.sub_tasks)
                yield TWO_RUNS if node.operator == "RETRY" and is_undone else TWO_TICKS
        marked = [at for at, node in enumerate(state.nodes) if node.label == ("PENDING", "CANCEL")]
        if state.state != "SUCCEED" and state.stage > 1 and 0 in marked:
            yield STUCK.format(self.name((0,)))
        elif state.state not in ("FAILED", "SUCCEED"):
            for place in [at for at in marked if at >= state.stage][:MAX_EXPLAINED]:
                yield f"{self.name((place,))} is marked by CANCEL: it FAILS when its stage comes"
        if state.state == "FAILED" and not state.is_finished:
            lock = "holds its lock until it SUCCEEDs"
            if not machine.holds_lock(self.script, state):
                lock = "has given its lock back, and needs it again to go on"
            yield f"a maintenance dag that FAILED is not finished: it {lock}"

    def labels(self) -> list[list[str]]:
        """Return the name of each sub task, or the address of its agent."""
        return [
            [authority(item.agent) if item.name == node.name else one_line(item.name) for item in node.sub_tasks]
            for node in self.item.nodes
        ]

    @staticmethod
    def describe(state: DagState, part: Part, changes: Sequence[Change]) -> str:
        """Return a label without RUN, or a dag's stage; "" for a part that has not begun, or has its node's label."""
        label = state.label_of(part)
        if part:
            is_first = not changes or changes[0].before is None
            if (is_first and label == ("PENDING", "RUN")) or (part[1:] and label == state.label_of(part[:1])):
                return ""
        elif changes and changes[-1].cause == "stage":
            return f"stage {state.stage}"
        operator = "" if label[1] == "RUN" else f"/{label[1]}"
        return f"[{GLYPHS[label[0]][1]}]{label[0]}[/]{operator}"

    @classmethod
    def picture(cls, scenario: Scenario, script: Dag, actor: Actor) -> tuple[list[str], Iterator[str], list[list[str]]]:
        agent = scenario.members[scenario.place_of(script)]
        facts = [] if script.id is None else [id_of(script, script.id, ip=agent.ip, port=agent.port)]
        if isinstance(script.maintenance, TenantLock):
            facts.append(f"maintenance of tenant {script.maintenance.tenant}")
        elif script.maintenance != "none":
            facts.append(f"maintenance {script.maintenance}")
        places = [[authority(scenario.address_of(it, script)) for it in node.sub_tasks] for node in script.nodes]
        labels = [
            [item.name or place for item, place in zip(node.sub_tasks, row, strict=True)]
            for node, row in zip(script.nodes, places, strict=True)
        ]
        where = ["" if row[0] == authority(agent) else f"on {row[0]}  " for row in places]
        return facts, _draw_nodes(script, actor.names, labels, where), labels


explain: Final = DagExplainer.of
draw_scenario: Final = DagExplainer.draw_scenario


def _last_run(state: DagState, part: Part) -> str:
    """Return `run 3 (attempt 2)`: the API counts all runs, a script those of each kind."""
    sub_task = state.nodes[part[0]].sub_tasks[part[1]]
    run = sub_task.last_run
    assert run is not None
    kind = "rollback" if run.operator == "ROLLBACK" else "attempt"
    return f"run {sub_task.execute_times} ({kind} {run.number})"


def _draw_nodes(dag: Dag, names: Sequence[str], labels: Sequence[Sequence[str]], where: Sequence[str]) -> Iterator[str]:
    """Yield a line for each node and each of several sub tasks; ``where`` names the agent of a node, if another."""
    widest = min(max(map(cell_len, names)), MAX_NAME_WIDTH)
    for place, (node, name) in enumerate(zip(dag.nodes, names, strict=True)):
        number = node.id or (dag.id and number_below(dag.id, place))
        facts = [f"  ●  {escape(set_cell_size(name, max(widest, cell_len(name))))}", _number_text(number)]
        first, *others = node.sub_tasks
        if not others:
            facts.append(_runs_text(node, first, where[place]))
        flags = " ".join(sorted(node.can)) or "nothing"
        yield "  ".join([*filter(None, facts), f"[dim]can {flags}[/]"])
        rail = " " if node is dag.nodes[-1] else "[dim]│[/]"
        width = max(map(cell_len, labels[place]))
        for at, sub_task in enumerate(node.sub_tasks if others else ()):
            facts = [
                f"  {rail}    {escape(set_cell_size(labels[place][at], width))}",
                _number_text(sub_task.id or (number and number_below(number, at))),
                _runs_text(node, sub_task, ""),
            ]
            yield "  ".join(filter(None, facts))


def _number_text(number: int | None) -> str:
    return "" if number is None else f"[dim]{number}[/]"


def _runs_text(node: Node, sub_task: SubTask, where: str) -> str:
    """Return a description of its runs, and of its rollbacks if the file has them."""
    limit, runs = node.timeout * SECOND, [(attempt.outcome == "FAILED", attempt.takes) for attempt in sub_task.runs]
    does = runs_text(runs, limit)
    if "rollback" in sub_task.model_fields_set:
        rollbacks = [(attempt.outcome == "FAILED", attempt.takes) for attempt in sub_task.rollback]
        does, runs = f"{does}  ↶ {runs_text(rollbacks, limit)}", runs + rollbacks
    does += timeout_text(runs, limit, is_set="timeout" in node.model_fields_set)
    return f"[dim]{escape(where)}{does}[/]"
