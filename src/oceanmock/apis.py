"""The registry of the APIs that oceanmock serves and checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from oceanmock.api import Api
from oceanmock.errors import AuthorError
from oceanmock.obshell.api import API as OBSHELL
from oceanmock.ocp.api import API as OCP
from oceanmock.text import suggest

APIS: Final[tuple[Api, ...]] = (OCP, OBSHELL)


def api_named(name: str, apis: Sequence[Api] = APIS) -> Api:
    """Return the API of a name. Raises AuthorError with the nearest name."""
    for api in apis:
        if api.name == name:
            return api
    hint = suggest(name, [api.name for api in apis])
    raise AuthorError(f"there is no API {name[:100]!r}. {hint}")
