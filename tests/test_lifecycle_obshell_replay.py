"""A recording of the real obshell replays on the machine: same states, same order, same refusals.

Each recorded life is given to the machine as its plan and its operators at their instants; every
recorded view must then be what the machine shows at that instant: states, operators, stage,
execution times, log lines, and which time equals or precedes which.
"""

from __future__ import annotations

import pytest

from obshell_recordings import (
    Asked,
    Recording,
    Seen,
    recording_of,
    shape_of_recorded,
    shape_of_state,
)
from oceanmock.errors import IllegalOperator
from oceanmock.obshell import machine as obshell
from oceanmock.obshell.machine import History, start, view_at

pytestmark = pytest.mark.slow

LIVES = [
    ("join.json", "22130706433028861"),
    ("init.json", "22130706433028862"),
    ("init.json", "22130706433028863"),
    ("init.json", "22130706433028864"),
    ("cancel.json", "22130706433028865"),
    ("pass.json", "22130706433028866"),
]

OF_THE_API = (
    "Common.BindJsonFailed",
    "Task.Dag.Operator.NotSupport",
    "Task.Node.Operator.NotSupport",
    "Task.NotFound",
)
"""Refused before the machine is asked: a body, a word or an id."""


def live(recording: Recording) -> tuple[History, list[tuple[Asked, str | None]]]:
    """The machine's life under the recorded operators, and the errCode each one met."""
    life, met = start(recording.plan, recording.rules), []
    for event in recording.events:
        if isinstance(event, Asked) and event.err_code not in OF_THE_API:
            life, refusal = operated(life, event)
            met.append((event, refusal))
    return life, met


def operated(life: History, asked: Asked) -> tuple[History, str | None]:
    try:
        return obshell.operate(life, asked.operator, asked.instant, node=asked.node), None
    except IllegalOperator as refused:
        return life, f"Task.{refused.reason}"


@pytest.mark.parametrize(("file", "dag_id"), LIVES)
def test_every_recorded_view_is_what_the_machine_shows(file: str, dag_id: str) -> None:
    recording = recording_of(file, dag_id)

    life, _ = live(recording)

    views = [event for event in recording.events if isinstance(event, Seen)]
    assert len(views) >= 3
    for seen in views:
        shown = shape_of_state(view_at(life, seen.instant), seen.instant)
        assert shown == shape_of_recorded(seen.dag), (file, seen.instant / 1e9)


@pytest.mark.parametrize(("file", "dag_id"), LIVES)
def test_every_recorded_refusal_is_the_machines(file: str, dag_id: str) -> None:
    _, met = live(recording_of(file, dag_id))

    said = [(asked.operator, asked.node, refusal) for asked, refusal in met]

    assert said == [(asked.operator, asked.node, asked.err_code) for asked, _ in met]
