"""Load the contracts, list their operations, and copy them for the app.

Users, schemathesis and ``check_spec`` read the file of a contract. The app routes and validates by ``runtime_view``: a
copy without prose that makes up for connexion's gaps. In it an int64 has the bounds of its format, and each operation
lists the parameters of its path (connexion 3.3 appends them for every middleware, operations/openapi.py:76-78). It does
not validate components marked ``x-checked-by: operation``. Nothing here depends on connexion, and a loaded contract is
never changed.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache
from hashlib import sha256
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any, Final, TypeVar

from oceanmock.errors import EnvironmentProblem, InputError

Spec = Mapping[str, Any]
Loaded = TypeVar("Loaded")

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
INTEGER_BOUNDS: Final = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}
VIEWER_PERMISSION: Final = "TASK_VIEWER"
MANAGER_PERMISSION: Final = "TASK_MANAGER"
ALL_PERMISSIONS: Final = frozenset({VIEWER_PERMISSION, MANAGER_PERMISSION})
"""OCP's permissions for its tasks, as ``x-permission`` has them."""
PROSE: Final = frozenset({"example", "examples", "externalDocs", "links", "x-source"})
"""Keys that no check needs; they make up most of a contract."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a contract; ``permission`` is its ``x-permission``, ``definition`` the whole mapping."""

    id: str
    method: str
    path: str
    permission: str | None
    statuses: tuple[str, ...]
    definition: Mapping[str, Any] = field(compare=False, repr=False)


@cache
def data_folder(name: str) -> Path:
    """Return the folder ``openapi`` or ``scenarios`` of the checkout, else of the wheel."""
    package = Path(__file__).parent
    checkout = package.parents[1]
    homes = (checkout, package) if (checkout / "pyproject.toml").is_file() else (package,)
    for home in homes:
        if (home / name).is_dir():
            return home / name
    raise EnvironmentProblem(
        f"the folder '{name}' that comes with oceanmock is missing beside {package}. "
        "Install oceanmock again, or run it from a complete checkout."
    )


def compiled(path: Path, content: bytes, parse: Callable[[], Any], part: str = "") -> Any:
    """Return what ``parse`` returns for a YAML file's content, or for a ``part`` of it: data that JSON can hold.

    YAML is slow to read, so the data of a packaged file is cached as JSON, beside the compiled modules of Python.
    """
    if path.parent not in (data_folder("openapi"), data_folder("scenarios")):
        return parse()
    cached, key = Path(cache_from_source(str(path))).with_suffix(f".{part}json"), sha256(content).hexdigest()
    with suppress(OSError, ValueError):
        cached_key, _, text = cached.read_text(encoding="utf-8").partition("\n")
        if cached_key == key:
            return json.loads(text)
    data = parse()
    if not sys.dont_write_bytecode:
        with suppress(OSError):
            cached.parent.mkdir(parents=True, exist_ok=True)
            written = cached.with_suffix(f".{os.getpid()}")
            written.write_text(f"{key}\n{json.dumps(data)}", encoding="utf-8")
            written.replace(cached)  # atomically, since another process may read it
    return data


def spec_path(api: str) -> Path:
    """Return the path of a contract: ``openapi/<api>.yaml``."""
    return data_folder("openapi") / f"{api}.yaml"


def load_spec(path: Path, *, without_submits: bool = False) -> Spec:
    """Return the contract in a file, read once per version of the file; do not change it.

    ``without_submits`` leaves out everything marked ``x-submit``: the operations that start something. It is cached
    separately, so that a server without such requests does not load them. Raises InputError with the place if the file
    is not YAML or not an OpenAPI document.
    """
    return _load(_read_spec, path, without_submits)


def load_submits(path: Path) -> tuple[Operation, ...]:
    """Return the operations of the contract in a file that start something, in its order."""
    return _load(_read_submits, path)


def _load(read: Callable[..., Loaded], path: Path, *options: bool) -> Loaded:
    try:
        return read(path, path.stat().st_mtime_ns, *options)
    except OSError as problem:
        raise EnvironmentProblem(f"cannot read the contract {path}: {problem.strerror}") from None


@lru_cache(maxsize=16)
def _read_spec(path: Path, _version: int, without_submits: bool) -> Spec:
    content = path.read_bytes()

    def parse() -> Spec:
        spec = _parse_spec(path, content)
        if not without_submits:
            return spec
        paths = {at: item for at, own in spec["paths"].items() if set(item := _without_submits(own)) & {*METHODS}}
        components = {kind: _without_submits(named) for kind, named in spec.get("components", {}).items()}
        return {**_without_submits(spec), "paths": paths, **({"components": components} if components else {})}

    spec: Spec = compiled(path, content, parse, "tasks." if without_submits else "")
    return spec


@lru_cache(maxsize=16)
def _read_submits(path: Path, version: int) -> tuple[Operation, ...]:
    return operations_of(_read_spec(path, version, False), are_submits=True)


def _without_submits(node: Spec) -> dict[str, Any]:
    return {
        key: value
        for key, value in node.items()
        if key != "x-submit" and not (isinstance(value, dict) and "x-submit" in value)
    }


def _parse_spec(path: Path, content: bytes) -> Spec:
    import yaml  # noqa: PLC0415 (slow; credentials do not need it)

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml: 8 times faster
    try:
        document = yaml.load(content, Loader=loader)  # noqa: S506 (both are safe loaders)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise InputError(f"{place}: not YAML: {problem.problem}") from None
    except yaml.YAMLError as problem:
        raise InputError(f"{path}: not YAML: {problem}") from None
    if not isinstance(document, dict) or not isinstance(document.get("paths"), dict):
        raise InputError(f"{path}:1:1: not an OpenAPI document: it has no 'paths'.")
    spec: Spec = _with_text_keys(document)
    return spec


def _with_text_keys(node: Any) -> Any:
    """Return a document whose keys are texts: ``200:`` is a number in YAML, but a name in OpenAPI."""
    if isinstance(node, dict):
        return {str(key): _with_text_keys(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_with_text_keys(value) for value in node]
    return node


def operations_of(spec: Spec, *, are_submits: bool = False) -> tuple[Operation, ...]:
    """Return the operations of a contract, or its submits, in its order. Raises InputError for one without an id."""
    operations = list[Operation]()
    for path, item in spec["paths"].items():
        for method in METHODS:
            definition = item.get(method)
            if definition is None or ("x-submit" in definition) is not are_submits:
                continue
            if "operationId" not in definition:
                raise InputError(f"{method.upper()} {path} has no operationId. Give it one.")
            permission, statuses = definition.get("x-permission"), tuple(definition.get("responses", {}))
            id = definition["operationId"]
            operations.append(Operation(id, method.upper(), path, permission, statuses, definition))
    return tuple(operations)


def find_operation(operations: Iterable[Operation], method: str, path: str) -> Operation | None:
    """Return the operation of a request, or else one at its path that documents 405, or None."""
    at_path = operations_at(operations, path)
    return next((o for o in at_path if o.method == method or "405" in o.statuses), None)


def operations_at(operations: Iterable[Operation], path: str) -> list[Operation]:
    """Return the operations whose path template matches a path, literal paths first."""
    matching = [operation for operation in operations if path_matches(operation.path, path)]
    return sorted(matching, key=lambda operation: "{" in operation.path)


def path_matches(template: str, path: str) -> bool:
    """Return whether a template matches a path, or every path of another template."""
    segments, parts = template.split("/"), path.split("/")
    return len(segments) == len(parts) and all(
        part if segment.startswith("{") else part == segment for segment, part in zip(segments, parts, strict=True)
    )


@lru_cache(maxsize=16)
def load_checked_spec(path: Path) -> Spec:
    """Return the contract in a file. Raises InputError with every error in it."""
    if errors := check_spec(path):
        raise InputError("\n".join(errors))
    return load_spec(path)


def check_spec(path: Path) -> list[str]:
    """Return every error in a contract, with its file and place; empty if valid."""
    from openapi_spec_validator import OpenAPIV30SpecValidator  # noqa: PLC0415 (136 ms to import)

    try:
        spec = load_spec(path)
    except InputError as mistake:
        return [str(mistake)]
    if not str(spec.get("openapi", "")).startswith("3.0."):
        return [f"{path}: 'openapi' must be 3.0.x; connexion does not read {spec.get('openapi')!r}."]
    lines = list[str]()
    for error in OpenAPIV30SpecValidator(copy.deepcopy(spec)).iter_errors():
        steps = (str(step).replace("~", "~0").replace("/", "~1") for step in error.path)
        lines.append(f"{path}: #/{'/'.join(steps)}: {error.message.splitlines()[0]}")
    return lines


def runtime_view(spec: Spec, *, aliases: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return a copy of the contract for the app, with further paths: ``aliases`` maps them to its own."""
    view: dict[str, Any] = _runtime_copy(spec)
    components = view.get("components", {})
    for parameter in components.get("parameters", {}).values():
        if "x-checked-by" in parameter:
            parameter["schema"] = {"type": "string"}
    unchecked = [
        {"$ref": f"#/components/requestBodies/{name}"}
        for name, body in components.get("requestBodies", {}).items()
        if "x-checked-by" in body
    ]
    for item in view["paths"].values():
        shared = item.pop("parameters", [])
        for operation in (item[method] for method in METHODS if method in item):
            own = operation.get("parameters", [])
            operation["parameters"] = [*own, *copy.deepcopy(shared)]
            if operation.get("requestBody") in unchecked:
                del operation["requestBody"]
    for alias, path in (aliases or {}).items():
        view["paths"][alias] = copy.deepcopy(view["paths"][path])
    return view


def _runtime_copy(node: Any, *, named: bool = False) -> Any:
    """Return a copy without prose, and with the bounds of integer formats; ``named``: its keys are property names."""
    if isinstance(node, list):
        return [_runtime_copy(value) for value in node]
    if not isinstance(node, dict):
        return node
    result = {
        key: _runtime_copy(value, named=key == "properties" and not named)
        for key, value in node.items()
        if named or key not in PROSE
    }
    if node.get("type") == "integer" and node.get("format") in INTEGER_BOUNDS:
        least, most = INTEGER_BOUNDS[node["format"]]
        result = {"minimum": least, "maximum": most, **result}
    return result
