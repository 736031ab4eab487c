"""The registry of APIs: each record states what its contract states."""

from __future__ import annotations

import pytest

from oceanmock.api import Api
from oceanmock.apis import APIS, api_named
from oceanmock.errors import AuthorError
from oceanmock.openapi import operations_of

every_api = pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)


@every_api
def test_routes_are_the_operations_of_the_contract(api: Api) -> None:
    contract = {operation.id: operation.path for operation in operations_of(api.spec)}
    assert {route.id: route.path for route in api.routes} == contract


@every_api
def test_routes_and_kinds_refer_to_kinds_and_routes_of_the_api(api: Api) -> None:
    kinds = {kind.name for kind in api.kinds}
    for route in api.routes:
        assert {*route.ids, route.changes, route.lists, route.shows} <= kinds | {""}
        assert all(f"{{{parameter}}}" in route.path for parameter in route.ids.values())
    for kind in api.kinds:
        assert kind.parent in kinds | {""}
        assert kind.terminal_states <= set(kind.states)
        assert not kind.detail or kind.name in api.route(kind.detail).ids


@every_api
def test_an_api_is_found_by_its_name(api: Api) -> None:
    assert api_named(api.name) is api


def test_a_misspelt_name_gets_a_suggestion() -> None:
    with pytest.raises(AuthorError, match="obshell"):
        api_named("obshel")
