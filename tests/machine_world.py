"""A scenario for walks, served: the mock, or the mock with one thing broken, and a client to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from in_process import AFTERNOON
from mutants.bending import Mutant
from oceanmock.apis import api_named, make_sandbox
from oceanmock.clock import SECOND
from oceanmock.conformance import ApiName, Options, contract_for
from oceanmock.conformance.checks import ResponseChecker
from oceanmock.conformance.history import HistoryChecker
from oceanmock.conformance.http_client import HttpClient
from oceanmock.conformance.mock import walk_scenario
from oceanmock.conformance.probes import Prober, Walker
from oceanmock.credentials import Basic, Sealed
from oceanmock.engine.sandboxes import DEFAULT_SANDBOX, Sandboxes
from oceanmock.http.app import App
from oceanmock.http.server import Server
from oceanmock.observations import Target
from oceanmock.scenario import BaseScenario

OWN_ADDRESS = ("127.0.0.1", 2886)


@dataclass(frozen=True, slots=True)
class World:
    """A sandbox that is served and whose clock stands, and the client to it."""

    app: App
    api: ApiName
    client: HttpClient
    prober: Prober
    memory: HistoryChecker
    scenario: BaseScenario

    @property
    def knowledge(self) -> Any:
        """The flags that the scenario gives its nodes."""
        version = self.prober.contract.version
        return api_named(self.api).conformance.knowledge(version, [self.scenario])

    @property
    def ids(self) -> list[str]:
        """Those of its tasks or dags."""
        sandbox = self.app.sandboxes.get(DEFAULT_SANDBOX)
        return [item.id for item in sandbox.worlds[self.api].items()]

    @property
    def rules(self) -> set[str]:
        """The rules that were broken."""
        return {result.rule for result in self.client.result.findings}

    def told(self) -> list[str]:
        """What was found, to be read where a test fails."""
        found = self.client.result.findings
        return [f"{each.rule}: {each.breadcrumb}: {each.message}" for each in found]

    def wait(self, seconds: float) -> None:
        """Moves the clock."""
        self.app.sandboxes.get(DEFAULT_SANDBOX).clock.advance(round(seconds * SECOND))

    def reset(self) -> None:
        """The world as it was at first."""
        self.app.sandboxes.reset(DEFAULT_SANDBOX)
        self.memory.forget()

    def walk(self, *, examples: int = 2, **options: Any) -> Walker:
        """What some walks did; time passes when it is waited for."""
        walker = Walker(self.prober, self.wait, **{"knowledge": self.knowledge} | options)
        walker.walk_sandbox(self.ids, reset=self.reset, examples=examples)
        return walker


@contextmanager
def served(
    api: ApiName,
    scenario: BaseScenario | None = None,
    *,
    broken: Mutant | None = None,
    write: bool = True,
    version: str = "",
    **options: Any,
) -> Iterator[World]:
    """A scenario, or the walker's own, over a socket; asked by anybody, who may write."""
    scenario = scenario or walk_scenario(api)
    with (broken or WHOLE).broken() as wrap:
        sandbox = make_sandbox([scenario], starts_at=AFTERNOON, seed=1, progression="manual", **options)
        app = App(Sandboxes(sandbox))
        with Server(wrap(app)) as server:
            auth = Basic("manager", "manager") if api == "ocp" else Sealed("oceanmock")
            target = Target(server.url, api, auth, own_address=OWN_ADDRESS, version=version)
            ids = tuple(item.id for item in sandbox.worlds[api].items())
            yield world_of(app, target, ids, scenario, write=write)


def world_of(
    app: Any,
    target: Target,
    ids: tuple[str, ...],
    scenario: Any,
    *,
    write: bool = True,
    ours: tuple[str, ...] | None = None,
) -> World:
    """A client to a target, with every checker."""
    contract = contract_for(target.api, target.version)
    memory = HistoryChecker(contract, own_ids=ours)
    options = Options(write=write, tasks=ids, cancel_rollback=True)
    client = HttpClient(target, options, checkers=[ResponseChecker(contract), memory])
    return World(app, target.api, client, Prober(client), memory, scenario)


@contextmanager
def _as_it_is() -> Iterator[Any]:
    yield lambda app: app


WHOLE = Mutant("whole", "ocp", "nothing is broken", frozenset(), _as_it_is)
