"""obshell's JSON: a dag, a node, a sub task and a log line, each as one flat object.

Facts: github.com/oceanbase/obshell at 61ee147, ob/agent/engine/task/task_dto.go:32-170. Keys are in
the order of Go's structs, and each is always there: what is absent is null. Nothing here decides
anything; it writes out a view.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from oceanmock.obshell.errors import panic
from oceanmock.obshell.machine import lines_of, task_logs_at
from oceanmock.obshell.states import NodeState, SubTaskState
from oceanmock.obshell.world import Dag, DagView, id_of
from oceanmock.text import format_instant

Json = dict[str, Any]

EPOCH: Final = format_instant(0)
"""What a time is reset to (ob/agent/service/task/dag.go:29)."""
LINES_PER_SUB_TASK: Final = 1000
"""Log lines are numbered apart for each sub task; obshell counts them all up together."""


class JsonWriter:
    """Writes out dags; ``has_maintenance`` adds the two keys of 4.3.1."""

    def __init__(self, *, has_maintenance: bool) -> None:
        self.has_maintenance = has_maintenance

    def dag(self, view: DagView, *, details: bool) -> Json:
        """A dag; without ``details`` its nodes and additional data are null."""
        dag, state = view.dag, view.state
        body: Json = {
            "id": id_of(dag, dag.number),
            "dag_id": dag.number,
            "name": dag.name,
            "stage": state.stage,
            "max_stage": len(dag.nodes),
        }
        if self.has_maintenance:
            body["maintenance_type"] = dag.maintenance_type
            body["maintenance_key"] = dag.maintenance_key
        places = range(len(dag.nodes))
        data = _merged(_node_data(view, place) for place in places) if details else None
        return body | {
            "state": state.state,
            "operator": state.operator,
            "start_time": _time(dag, state.start_time),
            "end_time": _time(dag, state.end_time),
            "additional_data": data,
            "nodes": [self.node(view, place, is_top=False) for place in places]
            if details
            else None,
        }

    def node(self, view: DagView, place: int, *, is_top: bool = True, details: bool = True) -> Json:
        """A node; additional data show only where it is the answer itself (``is_top``)."""
        dag, node, state = view.dag, view.dag.nodes[place], view.state.nodes[place]
        places = range(len(node.sub_tasks))
        return {
            "id": id_of(dag, node.number),
            "node_id": node.number,
            "name": node.name,
            **_standing(dag, state),
            "additional_data": _node_data(view, place) if is_top and details else None,
            "sub_tasks": [self.sub_task(view, place, each, is_top=False) for each in places]
            if details
            else None,
        }

    def sub_task(self, view: DagView, place: int, position: int, *, is_top: bool = True) -> Json:
        """A sub task of the node at ``place``, with the lines of all its runs."""
        dag, sub_task = view.dag, view.dag.nodes[place].sub_tasks[position]
        state = view.state.nodes[place].sub_tasks[position]
        return {
            "id": id_of(dag, sub_task.number),
            "task_id": sub_task.number,
            "name": sub_task.name,
            **_standing(dag, state),
            "additional_data": _merged([sub_task.additional_data]) if is_top else None,
            "execute_times": state.execute_times,
            "execute_agent": {"ip": sub_task.agent.ip, "port": sub_task.agent.port},
            "task_logs": task_logs_at(state, view.now - dag.born),
        }

    def logs(self, view: DagView, place: int, position: int) -> list[Json]:
        """Each line a sub task has logged so far (ob/model/bo/task.go:83-91)."""
        dag, number = view.dag, view.dag.nodes[place].sub_tasks[position].number
        state = view.state.nodes[place].sub_tasks[position]
        lines = lines_of(state, view.now - dag.born)
        return [
            {
                "id": number * LINES_PER_SUB_TASK + place,
                "sub_task_id": number,
                "execute_times": line.execute_times,
                "log_content": line.text,
                "is_sync": True,
                "create_time": _time(dag, line.at),
                "update_time": _time(dag, line.at),
            }
            for place, line in enumerate(lines, start=1)
        ]


def _standing(dag: Dag, state: NodeState | SubTaskState) -> Json:
    return {
        "state": state.state,
        "operator": state.operator,
        "start_time": _time(dag, state.start_time),
        "end_time": _time(dag, state.end_time),
    }


def _time(dag: Dag, instant: int | None) -> str:
    return EPOCH if instant is None else format_instant(dag.born + instant)


# --- additional data ------------------------------------------------------------------------------


def _node_data(view: DagView, place: int) -> Mapping[str, Any] | None:
    return _merged(each.additional_data for each in view.dag.nodes[place].sub_tasks)


def _merged(several: Iterable[Mapping[str, Any] | None]) -> Mapping[str, Any] | None:
    """One child's data as they are, null too; of several, all of them together.

    (task_dto.go, mergeAdditionalData.) Keys are sorted, as Go sorts those of a map.
    """
    all_data = list(several)
    merged: Any = None if len(all_data) == 1 else {}
    for data in all_data:
        merged = _merge(merged, data)
    in_order: Json | None = _sorted(merged)
    return in_order


def _merge(one: Any, other: Any) -> Any:
    """The later of two values; lists one after the other, maps together. Null gives way.

    Raises ObshellError when they are of two types: the server panics over it.
    """
    if one is None or other is None:
        return one if other is None else other
    if _type_of(one) != _type_of(other):
        raise panic()
    if isinstance(one, list):
        return one + other
    if isinstance(one, dict):
        return one | {key: _merge(one.get(key), value) for key, value in other.items()}
    return other


def _type_of(value: Any) -> type:
    """A JSON value's type; a number's is one, whole or not."""
    return float if type(value) is int else type(value)


def _sorted(value: Any) -> Any:
    """The value with the keys of every object in order."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(each) for each in value]
    return value
