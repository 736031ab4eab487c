"""A scenario file as checked, typed models: one format for each API, chosen by its ``api``.

A scenario scripts the lives of some tasks or dags: what each run of each step does and how long it
takes, and, in its ``story``, the life a client should be able to live with them. The models are the
file format's one description: ``scenarios/scenario.schema.json``, by which an editor completes and
checks, is generated from them. They refuse what one key can show; what only the whole file can show
(references, cycles, attempts nobody can reach, a story that cannot happen) is asked of
``scenario_rules``; what a file leaves out is filled later, by the engine, from a seed.
"""

from oceanmock.scenario import obshell, ocp

Scenario = ocp.Scenario | obshell.Scenario
"""Either format."""

__all__ = ["Scenario", "obshell", "ocp"]
