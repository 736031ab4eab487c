"""What opening a security header of obshell costs: of three blocks, and refused for a wrong key.

Run it with ``python tests/benchmarks/bench_rsa.py``; it asserts nothing.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from oceanmock.obshell.auth import ServerKey, make_private_key, open_body, open_header, read_key
from oceanmock.obshell.errors import ObshellError

sys.path.insert(0, str(Path(__file__).parents[1]))
import obshell_client as client

KEYS = client.AES_KEY + client.AES_IV
URI = "/api/v1/task/dag/22130706433028869?show_details=true"


def header_for(key: ServerKey) -> str:
    return client.sealed_header(key.public_key, auth="secret", ts="1795376453", uri=URI, keys=KEYS)


def microseconds(act: Callable[[], object], *, times: int = 200) -> float:
    """The median of one act."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e6


def refused(key: ServerKey, value: str) -> None:
    with suppress(ObshellError):
        open_header(key, value)


def main() -> None:
    key = read_key(make_private_key())
    right, wrong = header_for(key), header_for(read_key(make_private_key()))
    body = client.sealed_body(b'{"operator": "RETRY"}')
    acts: dict[str, Callable[[], object]] = {
        "a new key": make_private_key,
        f"a header of {len(right) * 3 // 4 // 128} blocks": lambda: open_header(key, right),
        "the same, sealed with another key": lambda: refused(key, wrong),
        "a body": lambda: open_body(body, KEYS),
    }
    for name, act in acts.items():
        print(f"{name:36}{microseconds(act):10.0f} us")


if __name__ == "__main__":
    main()
