"""What schemathesis cannot know of obshell: the ids that are there, and how a request is sealed.

It loads this file by its name (`hooks` in tests/data/schemathesis-obshell.toml), in a process of
its own, whose environment says which world is served and whether requests are to be sealed. The one
rule, as for OCP: a request that is meant to be wrong stays as it is.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit

import requests
import schemathesis
from schemathesis.core import NOT_SET

import obshell_client as client
from oceanmock.apis import make_sandbox
from oceanmock.engine.log import Accounts
from oceanmock.engine.sandbox import Sandbox
from oceanmock.library import load_scenario
from oceanmock.obshell.agent import Switches
from oceanmock.obshell.world import Dags, id_of
from oceanmock.openapi import load_spec, spec_path

World = Literal["agent", "cluster"]
"""The agent that was never a cluster's, and the one that is and was never under maintenance."""

SCENARIOS: Final = Path(__file__).parent / "data" / "scenarios"
COPIES: Final = 3
"""So many dags of each kind that has no number, so that there is one more to operate on."""
WORLD: Final = "OBSHELL_WORLD"
SEALED: Final = "OBSHELL_SEALED"

GENERIC_ID: Final = re.compile(load_spec(spec_path("obshell"))["components"]["schemas"]["GenericId"]["pattern"])
UNGUARDED: Final = re.compile(r"/api/v1/(info|secret|time|git-info|status)")
OF_OBPROXY: Final = re.compile(r"/api/v1/task/\w+/[45]")


def hooked_sandbox(world: World, switches: Switches, accounts: Accounts | None = None) -> Sandbox:
    """The sandbox that is served; its ids are the same in every process, and its clock stands."""
    name = {"agent": "dags", "cluster": "cluster-dags"}[world]
    scenario: Any = load_scenario(SCENARIOS / f"{name}-for-schemathesis.yaml")
    others = tuple(dag for dag in scenario.dags if dag.id is None)
    many = scenario.model_copy(update={"dags": scenario.dags + others * (COPIES - 1)})
    return make_sandbox(
        [many], seed=0, switches={"obshell": switches.model_dump(exclude_unset=True)}, accounts=accounts or Accounts()
    )


@cache
def ids_of(world: World) -> dict[str, list[str]]:
    """What is there, by the name it has in a path: dag, node, sub_task."""
    sandbox = hooked_sandbox(world, Switches())
    dags = [view.data for store in ("agent", "cluster") for view in sandbox.world(Dags).all(store)]
    nodes = [(dag, node) for dag in dags for node in dag.nodes]
    return {
        "dag": [id_of(dag, dag.number) for dag in dags],
        "node": [id_of(dag, node.number) for dag, node in nodes],
        "sub_task": [id_of(dag, s.number) for dag, node in nodes for s in node.sub_tasks],
    }


# --- ids ------------------------------------------------------------------------------------------

NOBODYS: Final = (
    "19999999999999",  # the cluster's
    "221307064330288699999",  # of the agent itself
    "23232235777028869",  # of 192.168.1.1:2886
    "42130706433028869999",  # of obproxy
    "3336294682933583715844663186250927177729028861",  # of [fd00::1]:2886
)
"""Ids as the contract has them, of nothing that is there.

What schemathesis makes up fits the pattern, but most of it is refused: no pattern says which digits
are an address.
"""


@schemathesis.hook
def before_add_examples(context: Any, examples: list[Any]) -> None:
    """Adds an example for each id of nothing, so that no run depends on chance for a 404."""
    for id in NOBODYS if "{id}" in context.operation.path else ():
        case = examples[0].derive(keep_auth=True)
        case.path_parameters = {"id": id}
        examples.append(case)


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    """Puts an id that is there in place of what could be one; every sixth time, one that is not.

    The phases `examples` and `coverage` do not ask: they send the contract's example.
    """
    id = case.path_parameters.get("id") if case.path_parameters else None
    if not isinstance(id, str) or not GENERIC_ID.fullmatch(id):
        return case
    known = ids_of("cluster" if os.environ.get(WORLD) == "cluster" else "agent")
    body = case.body if case.body is not NOT_SET else None  # what is not set tells its address
    chance = Random(repr((case.path, id, case.query, body)))
    several = NOBODYS if chance.random() < 1 / 6 else known[case.path.split("/")[4]]
    case.path_parameters = {"id": chance.choice(several)}
    return case


# --- sealing --------------------------------------------------------------------------------------

PASSWORDS: Final = {"X-OCS-Header": "oceanmock", "X-OCS-Agent-Header": "secret"}

Wrong = Literal["no header", "noise", "another uri", "expired", "wrong password", "plain body", "wrong header"]


class Sealing(requests.auth.AuthBase):
    """Seals a request as the vendor's SDKs do; one in five is sealed wrongly, or not at all.

    What is done to a request hangs on what it asks, so that it is answered the same each time.
    """

    def __init__(self) -> None:
        self.public_keys: dict[str, str] = {}
        self.unguarded: Counter[str] = Counter()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        target, body = request.path_url, _bytes(request.body)
        if UNGUARDED.fullmatch(target):
            return self._greet(request)
        chance = Random(f"{request.method} {target} {body!r}")
        wrong = chance.choice(get_args(Wrong)) if chance.random() < 1 / 5 else None
        self._seal(request, target, body, wrong)
        return request

    def _greet(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Every second time with a header that nothing asks for, and that is noise."""
        self.unguarded[request.path_url] += 1
        if self.unguarded[request.path_url] % 2 == 0:
            request.headers["X-OCS-Header"] = "bm9pc2U="
        return request

    def _seal(self, request: requests.PreparedRequest, target: str, body: bytes, wrong: Wrong | None) -> None:
        for name in PASSWORDS:
            request.headers.pop(name, None)
        if body and (wrong, request.method) != ("plain body", "POST"):
            request.prepare_body(client.sealed_body(body), None)
        if wrong == "no header":
            return
        is_obproxy = OF_OBPROXY.match(target) is not None
        right = "X-OCS-Agent-Header" if is_obproxy else "X-OCS-Header"
        other = "X-OCS-Header" if is_obproxy else "X-OCS-Agent-Header"
        password = "wrong" if wrong == "wrong password" else PASSWORDS[right]
        request.headers[other if wrong == "wrong header" else right] = (
            "bm9pc2U="
            if wrong == "noise"
            else client.sealed_header(
                self._public_key(request),
                auth=password,
                ts=str(int(time.time()) + (-60 if wrong == "expired" else 600)),
                uri="/api/v1/time" if wrong == "another uri" else target,
                keys=client.AES_KEY + client.AES_IV,
            )
        )

    def _public_key(self, request: requests.PreparedRequest) -> str:
        parts = urlsplit(request.url or "")
        server = f"{parts.scheme!s}://{parts.netloc!s}"
        if server not in self.public_keys:
            answer = requests.get(f"{server}/api/v1/secret", timeout=10).json()
            self.public_keys[server] = answer["data"]["public_key"]
        return self.public_keys[server]


def _bytes(body: Any) -> bytes:
    return body.encode() if isinstance(body, str) else body or b""


if SEALED in os.environ:
    schemathesis.auth.set_from_requests(Sealing())  # type: ignore[attr-defined]
