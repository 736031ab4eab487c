"""Lifecycle machines: what a server does with tasks and dags, held to what the contract says.

``play`` lets hypothesis draw the moves, each walk in a world made anew; ``walk_once`` takes one
bounded walk on each task of a server that cannot be made anew. Both use the client alone, know
nothing of the server but what it shows, and end with what was seen (``Played``). ``load_world``
gives tasks or dags that are made for it. The one rule: only the ids that are given are ever
operated on.
"""

from __future__ import annotations

from oceanmock.conformance.machines.base import Pace, Played, Sender
from oceanmock.conformance.machines.knowledge import Codes, Known
from oceanmock.conformance.machines.obshell import Flags, flags_of_scenarios, known_flags
from oceanmock.conformance.machines.playing import load_world, play, walk_once, world_ids
from oceanmock.conformance.machines.rules import RULES_OF_MACHINES

RULES = RULES_OF_MACHINES

__all__ = [
    "RULES",
    "RULES_OF_MACHINES",
    "Codes",
    "Flags",
    "Known",
    "Pace",
    "Played",
    "Sender",
    "flags_of_scenarios",
    "known_flags",
    "load_world",
    "play",
    "walk_once",
    "world_ids",
]
