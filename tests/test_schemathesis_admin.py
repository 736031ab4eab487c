"""The admin API's contract, held against it by schemathesis: every phase, every check, over HTTP.

From another machine, with the token: from its own, nobody would be asked for one.
"""

from __future__ import annotations

from typing import cast

import pytest

from in_process import REINSTALL
from kit_world import FAR, World
from oceanmock.apis import make_sandbox
from oceanmock.engine.log import SandboxSpec
from oceanmock.http.app import App
from oceanmock.library import read_scenario
from oceanmock.openapi import load_spec, operations_of, spec_path
from schemathesis_run import HERE, NO_METHOD, NO_PATH, Recorder, documented, run_cleanly

pytestmark = pytest.mark.slow

CONFIG = HERE / "data" / "schemathesis-admin.toml"
OPERATIONS = operations_of(load_spec(spec_path("admin")))
NEVER = {405, 413}
"""405 is no operation's own (``NO_METHOD``); bodies as large as 413 wants are not made up."""
DAGS = """
summary: A dag, and a fault that comes back with every reset
api: obshell
dags: [{id: 4, nodes: [a]}]
faults: [{name: outage, delay: 1ms}]
"""


class ByMethod(Recorder):
    """Notes 405 under a name of its own: two operations of a path can't both answer it."""

    def operation_of(self, method: str, path: str) -> str:
        asked = super().operation_of(method, path)
        known = [o for o in self.operations if o.id == asked]
        if not known or known[0].method == method:
            return asked
        same_path = [o for o in self.operations if o.path == known[0].path and o.method == method]
        return same_path[0].id if same_path else NO_METHOD


def make_world() -> World:
    """One that has all that the hooks name; its clocks stand."""
    scenarios = [read_scenario(text) for text in (REINSTALL, DAGS)]
    world = World(make_sandbox(scenarios, progression="manual"), token="secret", client=FAR)
    world.sandboxes.create("t1", SandboxSpec(tuple(scenarios), progression="manual"))
    return world


def test_every_documented_answer_of_every_operation_is_met() -> None:
    recorder = ByMethod(cast("App", make_world()), "admin")

    seen = run_cleanly(recorder, CONFIG)

    assert seen.pop(NO_PATH) == {404}
    assert seen.pop(NO_METHOD) == {405}
    assert seen == {operation.id: documented(operation) - NEVER for operation in OPERATIONS}
