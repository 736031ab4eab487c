"""Describe OCP as the target of a conformance run: how to recognize, identify and address it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

from oceanmock.ocp.api import TASKS_PATH

Address = tuple[str, int]

PREFLIGHT_PATH: Final = f"{TASKS_PATH}?size=1"
"""The first request of a run."""
IS_PREFLIGHT_OPEN: Final = False
"""Whether the first request is answered without credentials."""
READ_PATH: Final = PREFLIGHT_PATH
"""A read that needs credentials."""
FAILED_PATH: Final = f"{TASKS_PATH}?status=FAILED&size=50"
"""A list with all FAILED tasks."""
NUMBER_KEY: Final = "id"
"""The key of a task's number; a newer task has a higher one."""
ACTIVE_STATES: Final = frozenset({"READY", "RUNNING", "CANCELING"})
"""States of subtasks that time changes even if their task has ended."""
ID_TYPE: Final = int
"""The type of ids in the contract's paths."""
CREDENTIALS_HINT: Final = "--user and --password, or --access-key and --secret-key"


def is_server(body: Mapping[str, Any]) -> bool:
    """Return whether a response to the first request is this API's."""
    return "server" in body


def identify(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a ``Target`` that the first response states; OCP states none."""
    return {}


def own_id(script: Any, address: Address | None) -> str | None:
    """Return the id that a scenario's task has on a server."""
    return None if script.id is None else str(script.id)


def list_path(script: Any) -> str:
    """Return the path of a list that contains a scenario's task, the newest first."""
    name = (script.name or "").replace("{n}", "1")
    return f"{TASKS_PATH}?size=2000" + (f"&name={quote(name)}" if name else "")


def unknown_ids(address: Address | None, identity: str) -> list[str | int]:
    """Return ids of nothing, which the server looks up itself."""
    return [2**63 - 1]


def addresses_in(path: str, body: bytes) -> Iterator[Address]:
    """Yield the addresses of other servers that a request names: none."""
    yield from ()


def equivalent_ids(id: str) -> set[str]:
    """Return an id and the number a lenient server may read in it: 7 in ``+7``, ``7.0``, ``0x7``.

    Spring drops all blanks and reads hexadecimals (NumberUtils.parseNumber).
    """
    text = re.sub(r"\s", "", id).lower()
    return {id, *(str(read(text)) for pattern, read in _NUMBERS if pattern.fullmatch(text))}


_NUMBERS: Final[Sequence[tuple[re.Pattern[str], Callable[[str], int]]]] = (
    (re.compile(r"[+-]?\d{1,40}"), int),
    (
        re.compile(r"[+-]?\d{1,40}(\.\d*)?(e\+?\d{1,2})?[dfl]?"),
        lambda text: int(Decimal(text.rstrip("dfl"))),
    ),
    (re.compile(r"[+-]?(0x|#)[0-9a-f]{1,40}"), lambda text: int(re.sub("0x|#", "", text), 16)),
)

# --- statuses that schemathesis has to accept -----------------------------------------------------

_UNDECIDED: Final[tuple[int | str, ...]] = (429, "5xx")
"""A server that is busy or broken neither accepts nor refuses; other rules check that."""
SCHEMATHESIS_CHECKS: Final[Mapping[str, Any]] = {
    # Parameters are checked before the task is looked up; 404 is an id that makes another path.
    "negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 405, *_UNDECIDED]},
    "positive_data_acceptance": {"expected-statuses": [200, 401, 403, 404, *_UNDECIDED]},
}
"""The statuses of a refusal; schemathesis' own defaults are wider."""
SCHEMATHESIS_OPERATIONS: Final = (
    ({"include-method": "POST"}, [200, 400, 401, 403, 404, *_UNDECIDED]),
)
"""Operations whose valid requests may be refused because of a state the contract cannot express."""
UNCERTAIN_VALUE: Final = "ABORTED"
"""A status that no document of OCP has, so a server may refuse it (openapi/ocp.yaml)."""
