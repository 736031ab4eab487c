"""Exchanges for conformance's checks, made by hand: from the contracts' examples and recordings.

A right one is an example of a contract, or what a real obshell was recorded to answer; a broken one
is a right one with one thing changed. Nothing here checks.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final

import orjson

from oceanmock.checks import Contract, Exchange
from oceanmock.conformance import ApiName
from oceanmock.http.validation import resolve
from oceanmock.openapi import load_spec, operations_of, spec_path

RECORDINGS: Final = Path(__file__).parent / "data" / "obshell"
CONTRACTS: Final = {api: Contract(api, load_spec(spec_path(api))) for api in ("ocp", "obshell")}
TASK: Final = "/api/v2/tasks/instances/35000312"
SUBTASK: Final = f"{TASK}/subtasks/13000333"
DAG: Final = "22130706433028864"
TIME_KEPT: Final = "2021-08-25T15:10:13.351+08:00"

_numbers: Final = count(1)


def exchange(method: str, target: str, said: Any, *, status: int = 200, body: Any = None, **more: Any) -> Exchange:
    """An exchange with the run's own credentials, unless something else is said."""
    sent = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
    given: dict[str, Any] = {
        "number": next(_numbers),
        "phase": "probes",
        "operation": "",
        "request_headers": (),
        "request_body": sent,
        "response_headers": (("content-type", "application/json"),),
        "sent_at": 0,
        "took": 0,
        "credentials": "own",
    }
    if isinstance(said, dict) and str(said.get("traceId") or "").strip():
        said = {**said, "traceId": f"{given['number']:016x}"}
    content = said if isinstance(said, bytes) else orjson.dumps(said)
    return Exchange(**(given | more), method=method, target=target, status=status, response_body=content)


def example(api: ApiName, name: str) -> Any:
    """An example of a contract, to be changed as one likes."""
    return copy.deepcopy(CONTRACTS[api].spec["components"]["examples"][name]["value"])


def changed(body: Any, **places: Any) -> Any:
    """A body with other values: ``data__subtasks__0__status="X"``; ``...`` takes a member out."""
    body = copy.deepcopy(body)
    for place, value in places.items():
        *way, last = (int(part) if part.isdigit() else part for part in place.split("__"))
        node = body
        for part in way:
            node = node[part]
        if value is ...:
            del node[last]
        else:
            node[last] = value
    return body


# --- what is right --------------------------------------------------------------------------------


def examples(api: ApiName) -> Iterator[Exchange]:
    """An exchange for each example that a contract has for an answer of an operation."""
    contract = CONTRACTS[api]
    for operation in operations_of(contract.spec):
        for status, said in operation.definition["responses"].items():
            for media in resolve(contract.spec, said).get("content", {}).values():
                for each in media.get("examples", {}).values():
                    yield _asking_for(resolve(contract.spec, each)["value"], operation, int(status))


def _asking_for(value: Any, operation: Any, status: int) -> Exchange:
    """The exchange that ends in an answer; the ids in its path are those of the answer."""
    data = value.get("data")
    id = str(data["id"]) if isinstance(data, dict) and "id" in data else "35000312"
    path = operation.path.replace("{taskInstanceId}", id).replace("{subtaskInstanceId}", id)
    headers = {"RateLimit-Limit": "10", "RateLimit-Remaining": "0", "RateLimit-Reset": "53"}
    return exchange(
        operation.method,
        _with_query(path.replace("{id}", id), value),
        value,
        status=status,
        body=_operator_of(value) if operation.id in ("dagHandler", "nodeHandler") else None,
        response_headers=(("content-type", "application/json"), *headers.items()),
        credentials="none" if status == 401 else "own",
    )


def _with_query(path: str, value: Any) -> str:
    """The query that an example of a list was asked with."""
    data = value.get("data")
    contents = data.get("contents") if isinstance(data, dict) else None
    if isinstance(contents, list) and contents and contents[0].get("nodes", ...) is None:
        return f"{path}?show_details=false"
    page = data.get("page") if isinstance(data, dict) else None
    return f"{path}?size={page['size']}" if page else path


def _operator_of(value: Any) -> Any:
    """An operator that would be answered so."""
    said = f"{value.get('error', {}).get('errCode', '')} {value.get('error', {}).get('message')}"
    words = {"NotSupport": "NOPE", "Retry": "RETRY", "Rollback": "ROLLBACK", "Cancel": "CANCEL"}
    found = [word for part, word in words.items() if part in said]
    return {} if "Operator.Operator" in said else {"operator": found[0] if found else "PASS"}


def recorded(name: str) -> list[Exchange]:
    """What a real obshell answered, in the order it did."""
    known = json.loads((RECORDINGS / name).read_text("utf-8"))["exchanges"]
    return [_as_recorded(each) for each in known]


def _as_recorded(each: Any) -> Exchange:
    asked, answer, how = each["request"], each["response"], each["request"].get("how") or {}
    body = asked.get("body")
    is_nobody = how.get("auth") == "none" or each["label"].startswith("no header")
    return exchange(
        asked["method"],
        asked["target"],
        answer.get("body") if answer.get("body") is not None else b"",
        status=answer["status"],
        body=body.encode() if isinstance(body, str) else body,
        response_headers=tuple(answer["headers"].items()),
        credentials="none" if is_nobody else "own",
        expects_refusal=bool(how),
    )


def dag_of_the_recording() -> Any:
    """The answer that shows "Initialize cluster" failed at its third node."""
    for each in recorded("init.json"):
        data = (each.json() or {}).get("data")
        if each.target == f"/api/v1/task/dag/{DAG}" and data and data["state"] == "FAILED":
            return each.json()
    raise AssertionError("the recording has no failed dag")
