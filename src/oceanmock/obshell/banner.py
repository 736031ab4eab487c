"""obshell's part of the banner: operations as commands.

obshell's headers are sealed for each request, which no shell does: commands call the vendor's
Python SDK, and curl where requests need not authenticate.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import urlsplit

from oceanmock.engine.sandbox import Sandbox
from oceanmock.obshell.api import API
from oceanmock.obshell.scenario import Scenario
from oceanmock.obshell.world import STORES, DagData, Dags, id_of
from oceanmock.openapi import Operation, operations_of
from oceanmock.scenario.fields import BaseScenario

EXAMPLE: Final = "initialize-cluster-fails"
"""The scenario whose dag the commands are about, where it is served."""


class Banner:
    """What a sandbox serves of obshell: ``count`` dags, and ``templates`` of further ones."""

    noun: Final = API.root.title

    def __init__(
        self, sandbox: Sandbox, scenarios: Sequence[BaseScenario], url: str, *, authenticates: bool
    ) -> None:
        world = sandbox.world(Dags)
        self._agent: Final = world.agent
        self._dags: Final = [view.dag for store in STORES for view in world.all(store)]
        self._scenarios: Final = [item for item in scenarios if isinstance(item, Scenario)]
        self._url: Final = url
        self._authenticates: Final = authenticates
        self.templates: Final = world.templates
        self.count: Final = len(self._dags)
        agent = self._agent
        self.title: Final = f"{API.title} {agent.ip}:{agent.port} ({agent.identity})"

    def commands(self) -> Iterator[tuple[str, str]]:
        """Yield each operation and its command."""
        dag, position = self._example()
        node = dag.nodes[position]
        numbers = {"dag": dag.number, "node": node.number, "sub_task": node.sub_tasks[0].number}
        ids = {kind: id_of(dag, number) for kind, number in numbers.items()}
        for operation in operations_of(API.spec):
            kind = next(iter(API.ids_of(operation.id)), "")
            url = self._url + operation.path.replace("{id}", ids.get(kind, ""))
            if not self._authenticates:
                yield operation.id, _curl(operation, url)
            elif operation.id == "getAgentInfo":
                yield operation.id, f"curl -s {url}"
            elif operation.id == "getDagDetail":
                yield operation.id, self._sdk_call(f"get_dag('{ids['dag']}').state")
            elif operation.id == "dagHandler":
                yield operation.id, self._sdk_call(f"operate_dag('{ids['dag']}', 'ROLLBACK')")

    def _example(self) -> tuple[DagData, int]:
        """Return a dag and the position of a node that fails, or else the first."""
        dags: dict[tuple[str, int | None], DagData] = {dag.key: dag for dag in self._dags}
        for scenario in sorted(self._scenarios, key=lambda item: item.name != EXAMPLE):
            for model in scenario.dags:
                for position, node in enumerate(model.nodes):
                    fails = any(part.runs[0].outcome == "FAILED" for part in node.sub_tasks)
                    if fails and (model.scope, model.id) in dags:
                        return dags[model.scope, model.id], position
        return self._dags[0], 0

    def _sdk_call(self, call: str) -> str:
        """Return a command that calls the vendor's SDK (`pip install obshell`)."""
        address = urlsplit(self._url)
        code = (
            "from obshell import ClientSet; from obshell.auth import PasswordAuth; "
            f"print(ClientSet('{address.hostname}', {address.port}, {self._password()}).v1.{call})"
        )
        needs_quoting = any(character in code for character in '"$`\\!')
        return f"python -c {shlex.quote(code)}" if needs_quoting else f'python -c "{code}"'

    def _password(self) -> str:
        """Return the agent's own password where it accepts that, and else root's.

        A follower forwards requests to its master, which does not accept the follower's.
        """
        agent = self._agent
        if agent.agent_password is None or agent.identity == "FOLLOWER":
            return f"PasswordAuth({agent.root_password or ''!a})"
        return f"PasswordAuth(agent_password={agent.agent_password!a})"


def _curl(operation: Operation, url: str) -> str:
    if operation.method == "GET":
        return f"curl -s {url}"
    operator = "PASS" if operation.id == "nodeHandler" else "ROLLBACK"
    return f"""curl -s -d '{{"operator": "{operator}"}}' {url}"""
