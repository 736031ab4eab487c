"""A world to play with, served: the mock, or the mock with one thing broken, and a client to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from conftest import AFTERNOON
from mutants.bending import Mutant
from oceanmock.apis import make_sandbox
from oceanmock.clock import SECOND
from oceanmock.conformance.http_client import HttpClient
from oceanmock.conformance.machines import (
    Known,
    Pace,
    Played,
    flags_of_scenarios,
    load_world,
    play,
    world_ids,
)
from oceanmock.conformance.model import Api, Options
from oceanmock.conformance.target import Target
from oceanmock.engine.accounts import Accounts
from oceanmock.engine.sandboxes import DEFAULT, Sandboxes
from oceanmock.http.app import App
from oceanmock.http.server import Server
from oceanmock.scenario.fields import BaseScenario


@dataclass(frozen=True, slots=True)
class World:
    """A sandbox that is served and whose clock stands, and the client to it."""

    app: App
    api: Api
    client: HttpClient
    scenario: BaseScenario

    @property
    def pace(self) -> Pace:
        """Time passes when it is waited for."""
        return Pace(self.wait)

    @property
    def known(self) -> Known:
        """The flags that the scenario gives its nodes."""
        return Known(flags=flags_of_scenarios([self.scenario]))

    @property
    def ids(self) -> list[str]:
        """Those of its tasks or dags."""
        return world_ids(self.scenario)

    def wait(self, seconds: float) -> None:
        """Moves the clock."""
        self.app.sandboxes.get(DEFAULT).clock.advance(round(seconds * SECOND))

    def reset(self) -> None:
        """The world as it was at first."""
        self.app.sandboxes.reset(DEFAULT)

    def play(self, **options: Any) -> Played:
        """What comes of some walks."""
        given: dict[str, Any] = {"pace": self.pace, "reset": self.reset, "known": self.known}
        return play(self.client, self.api, self.ids, **given | {"examples": 2} | options)


@contextmanager
def served(
    api: Api,
    scenario: BaseScenario | None = None,
    *,
    broken: Mutant | None = None,
    write: bool = True,
    **options: Any,
) -> Iterator[World]:
    """A scenario, or the machines' own, over a socket; asked by anybody, who may write."""
    scenario = scenario or load_world(api)
    with (broken or WHOLE).broken() as wrap:
        sandbox = make_sandbox(
            [scenario],
            starts_at=AFTERNOON,
            seed=1,
            progression="manual",
            accounts=Accounts(required=False),
            **options,
        )
        app = App(Sandboxes(sandbox))
        with Server(wrap(app)) as server:
            target = Target(server.url, api, own_address=("127.0.0.1", 2886))
            ids = tuple(world_ids(scenario))
            client = HttpClient(target, Options(write=write, tasks=ids))
            yield World(app, api, client, scenario)


@contextmanager
def _as_it_is() -> Iterator[Any]:
    yield lambda app: app


WHOLE = Mutant("whole", "ocp", "nothing is broken", frozenset(), _as_it_is)
