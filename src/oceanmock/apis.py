"""The registry of the APIs that oceanmock serves and checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from oceanmock.api import Api
from oceanmock.clock import machine_now
from oceanmock.engine.log import SandboxSpec
from oceanmock.engine.sandbox import Sandbox
from oceanmock.engine.store import Store
from oceanmock.errors import InputError
from oceanmock.obshell.api import API as OBSHELL
from oceanmock.ocp.api import API as OCP
from oceanmock.scenario import BaseScenario
from oceanmock.text import suggest

APIS: Final[tuple[Api, ...]] = (OCP, OBSHELL)


def api_named(name: str, apis: Sequence[Api] = APIS) -> Api:
    """Return the API of a name. Raises InputError with the nearest name."""
    for api in apis:
        if api.name == name:
            return api
    raise InputError(f"there is no API {name[:100]!r}. {suggest(name, [api.name for api in apis])}")


def make_sandbox(
    scenarios: Iterable[BaseScenario] = (),
    *,
    apis: Sequence[Api] = APIS,
    wall: Callable[[], int] = machine_now,
    store: Store | None = None,
    **settings: Any,
) -> Sandbox:
    """Create a sandbox in a store, by default in one of its own; ``settings`` are those of ``SandboxSpec``.

    Raises InputError when the scenarios cannot be served together.
    """
    return Sandbox(SandboxSpec(tuple(scenarios), created=wall(), **settings), apis, wall=wall, store=store)


def operations_by_api(
    apis: Sequence[Api] = APIS, *, with_submits: bool = True
) -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    """Return, by API and operation, the path parameter of each kind; submits, which are read on demand, have none."""
    return {
        api.name: {route.id: route.ids for route in api.routes}
        | ({submit.id: {} for submit in api.submits} if with_submits else {})
        for api in apis
    }
