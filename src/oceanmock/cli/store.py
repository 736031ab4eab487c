"""Open the stores of ``serve --state`` and ``--store``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oceanmock.errors import EnvironmentProblem

if TYPE_CHECKING:
    from oceanmock.engine.redis_store import RedisStore
    from oceanmock.engine.sandbox import Sandbox
    from oceanmock.engine.state_file import StateFile
    from oceanmock.scenario.fields import BaseScenario


def open_store(place: str | Path, *, replica: str) -> RedisStore | StateFile:
    """Return the store at a URL, or in a state file. Raises EnvironmentProblem."""
    from oceanmock.library import read_fault, scenario_of

    if isinstance(place, Path):
        from oceanmock.engine.state_file import StateFile

        return StateFile(place, scenario_of=scenario_of, fault_of=read_fault)
    try:
        from oceanmock.engine.redis_store import RedisStore
    except ImportError:
        raise EnvironmentProblem(
            "a store in Redis needs its client. Install it: pip install 'oceanmock[redis]'"
        ) from None
    return RedisStore(place, replica=replica, scenario_of=scenario_of, fault_of=read_fault)


def default_sandbox(
    store: RedisStore | StateFile, scenarios: Sequence[BaseScenario], settings: Mapping[str, Any]
) -> Sandbox:
    """Return the default sandbox of a store, or a new one where it has none, or one of other scenarios or options."""
    from oceanmock.apis import APIS
    from oceanmock.engine.encoding import encode_spec
    from oceanmock.engine.log import SandboxSpec
    from oceanmock.engine.sandbox import Sandbox
    from oceanmock.engine.sandboxes import DEFAULT_SANDBOX

    fresh = SandboxSpec(tuple(scenarios), created=store.wall(), **settings)
    digest = sha256(encode_spec(replace(fresh, created=0))).digest()
    base = 0
    while True:
        if DEFAULT_SANDBOX in store.names():
            changes = store.read(DEFAULT_SANDBOX, since=-1)
            kept, base = changes.spec, changes.base
            assert kept is not None
            is_same = encode_spec(replace(fresh, created=kept.created, ports=kept.ports)) == encode_spec(kept)
            if is_same or (store.replica and store.keep("options", lambda: digest) == digest):
                sandbox = Sandbox(kept, APIS, store=store, wall=store.wall, is_stored=False)
                sandbox.refresh(since=-1)
                return sandbox
            click.echo(f"{store} has a default sandbox of other scenarios or options; it is replaced.", err=True)
        sandbox = Sandbox(fresh, APIS, store=store, wall=store.wall, is_stored=False)
        if sandbox.put(replaces=base):
            store.keep("options", lambda: digest, anew=True)
            return sandbox
