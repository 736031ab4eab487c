"""An answer of obshell as text, so that a recorded one and the mock's can be equal.

What is another's on every server has a name for its value, and only if it looks as it should: trace
ids, durations, process ids and keys. Times have their place among one another and beside now; lines
of a log are counted. All else stays as it is, and in its order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from obshell_recordings import EPOCH, instant_of

Json = dict[str, Any]

TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?Z")
OPAQUE: Final = {
    "duration": re.compile(r"\d+"),
    "traceId": re.compile(r"[0-9a-f]{16}"),
    "pid": re.compile(r"[1-9]\d*"),
    "startAt": re.compile(r"[1-9]\d{18}"),
    **dict.fromkeys(("homePath", "data_dir", "log_dir"), re.compile(r"/.+")),
    "public_key": re.compile(r"MIGJ[A-Za-z0-9+/]{183}="),
}
"""What is another's on every server, and how it looks."""


def renamed(response: Json, *, instant: int, are_lines_counted: bool = False) -> str:
    """An answer as text, keys in their order; what cannot be equal has a name for its value.

    ``are_lines_counted`` is True where every line of a log that the server had is in the recording.
    """
    headers = {name: response["headers"].get(name) for name in ("content-type", "location")}
    body = response["body"]
    if isinstance(body, dict):
        times = _times(body.get("data"), instant)
        stamp = {"timestamp": _stamp(body["timestamp"], instant)} if "timestamp" in body else {}
        body = _renamed((body if are_lines_counted else _counted(body)) | stamp, times)
    said = {"status": response["status"]} | headers | {"body": body}
    return json.dumps(said, indent=1, ensure_ascii=False)


def _stamp(text: str, instant: int) -> str:
    """When an answer says it was written: now, but that of a recovery, which was made before."""
    if not TIME.fullmatch(text) or _in_order(text) > instant:
        return text
    return "now" if _in_order(text) == instant else "before"


def _times(data: Any, instant: int) -> dict[str, str]:
    """A name for each time: its place among the others, and on which side of now it lies."""
    found = sorted(set(_texts_of_time(data)), key=_in_order)
    names = {
        text: f"time {place}" if _in_order(text) <= instant else "a time to come" for place, text in enumerate(found)
    }
    return names | {EPOCH: "epoch"}


def _texts_of_time(value: Any) -> Iterator[str]:
    if isinstance(value, str) and TIME.fullmatch(value) and value != EPOCH:
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts_of_time(each)


def _in_order(text: str) -> int:
    instant = instant_of(text)
    assert instant is not None
    return instant


def _renamed(value: Any, times: dict[str, str], key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _renamed(each, times, name) for name, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, times) for each in value]
    if key in OPAQUE and OPAQUE[key].fullmatch(str(value)):
        return f"some {key}"
    return times.get(value, value) if isinstance(value, str) else value


def _counted(value: Any) -> Any:
    """A value in which the ids of log lines count from the first one of its list."""
    if isinstance(value, dict):
        return {key: _counted(each) for key, each in value.items()}
    if not isinstance(value, list):
        return value
    first = next((each["id"] for each in value if isinstance(each, dict) and "log_content" in each), None)
    return [_counted(each) if first is None else each | {"id": each["id"] - first} for each in value]
