"""A scenario as a picture in the terminal: what is to be done, and how it goes over time.

Every task or dag has a title, its steps, and a timeline of their states. Draws what the story leads
to when there is one, and otherwise what happens if nobody interferes. Returns lines of rich markup;
prints nothing. What an API's steps look like is drawn in ``tasks`` (OCP) and ``dags`` (obshell);
everything over time in ``bands``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from rich.markup import escape

from oceanmock.obshell import drawing as dags
from oceanmock.obshell import scenario as obshell
from oceanmock.obshell import timeline as obshell_bands
from oceanmock.ocp import drawing as tasks
from oceanmock.ocp import scenario as ocp
from oceanmock.ocp import timeline as ocp_bands
from oceanmock.report.timeline import draw_timeline
from oceanmock.scenario.fields import BaseScenario

__all__ = ["draw_scenario"]

_MOST: Final = 12


def draw_scenario(scenario: BaseScenario, *, width: int = 100) -> Iterator[str]:
    """The whole scenario, line by line, in rich markup."""
    if isinstance(scenario, obshell.Scenario):
        pictures, legend = dags.draw_dags(scenario), obshell_bands.LEGEND
        kind, total = "dags", len(scenario.dags)
    else:
        assert isinstance(scenario, ocp.Scenario)
        pictures, legend = tasks.draw_tasks(scenario), ocp_bands.LEGEND
        kind, total = "tasks", len(scenario.tasks)
    yield f"[bold]{escape(scenario.name)}[/]  {escape(scenario.summary)}"
    for picture in islice(pictures, _MOST):
        yield ""
        yield f"[bold]{escape(picture.title)}[/]"
        yield from picture.steps
        yield ""
        yield from draw_timeline(picture.course, width=width)
    if total > _MOST:
        yield f"\n… and {total - _MOST} more {kind}"
    yield ""
    yield legend
