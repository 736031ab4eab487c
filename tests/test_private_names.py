"""The undocumented names of other libraries exist; each of these libraries is pinned."""

from __future__ import annotations

import ast
import importlib.util
import tomllib
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[1]
PINNED = {"connexion": "~=3.3.0", "uvicorn": "<0.55", "schemathesis": "<4.33"}
"""The libraries of which more than the documented names is used, with the pin in pyproject."""

ATTRIBUTES = {
    "connexion.middleware.security:SecurityOperation": ("from_operation", "_get_verification_fn"),
    "connexion.security:AbstractSecurityHandler": ("get_fn",),
    "connexion.operations:OpenAPIOperation": ("from_spec", "is_request_body_defined"),
    "connexion.spec:OpenAPISpecification": ("_validate_spec",),
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol": (
        *("on_message_begin", "on_headers_complete", "on_message_complete", "_start_asgi_task"),
        *("data_received", "connection_lost", "shutdown"),
    ),
    "uvicorn.server:Server": ("handle_exit", "startup", "run"),
    "uvicorn.server:ServerState": (),
}
"""The attributes that are overridden or called, by class."""


def imported_names() -> set[tuple[str, str]]:
    """Return the (module, name) pairs that the sources import from a pinned library."""
    return {
        (node.module, alias.name)
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0
        for alias in node.names
        if node.module.partition(".")[0] in PINNED
    }


def _has(module: str, name: str) -> bool:
    return hasattr(importlib.import_module(module), name) or importlib.util.find_spec(f"{module}.{name}") is not None


def test_every_name_that_is_imported_from_a_pinned_library_exists() -> None:
    names = imported_names()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        missing = [f"{module}.{name}" for module, name in sorted(names) if not _has(module, name)]

    assert missing == []
    assert {module.partition(".")[0] for module, _ in names} == set(PINNED)


def test_every_attribute_that_is_overridden_or_called_exists() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        missing = [
            f"{place}.{attribute}"
            for place, attributes in ATTRIBUTES.items()
            for module, _, name in [place.partition(":")]
            for attribute in attributes
            if not hasattr(getattr(importlib.import_module(module), name), attribute)
        ]

    assert missing == []


def test_each_of_these_libraries_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    dependencies = [*project["dependencies"], *project["optional-dependencies"]["conform"]]

    pins = {name: [d for d in dependencies if d.startswith(name)] for name in PINNED}

    assert all(PINNED[name] in found[0] for name, found in pins.items()), pins
