"""Test handles of obshell: a sandbox, its dags, their nodes and sub tasks."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from oceanmock.admin_client import HIDE_FRAMES, without_none
from oceanmock.api import Json
from oceanmock.errors import EnvironmentProblem
from oceanmock.handles import PartHandle, PartSource, RunSource, SandboxHandle, ScenarioSource, TaskHandle, attempts_of
from oceanmock.obshell.api import API
from oceanmock.openapi import Operation

if TYPE_CHECKING:
    from obshell import ClientV1

    from oceanmock.obshell.auth import Sealed

__tracebackhide__ = HIDE_FRAMES


def server_title(world: Any) -> str:
    """Return the name of the server in the banner: its agents."""
    return f"{API.title} " + " and ".join(f"{it.ip}:{it.port} ({it.identity})" for it in world.agents)


def command(operation: Operation, url: str, world: Any, *, authenticates: bool) -> str:
    """Return a shell command for an operation: of curl, or of the vendor's SDK, which seals headers; "" for none."""
    if not authenticates and operation.method != "GET":
        operator = "PASS" if operation.id == "nodeHandler" else "ROLLBACK"
        return f"""curl -s -d '{{"operator": "{operator}"}}' {url}"""
    if not authenticates or operation.id == "getAgentInfo":
        return f"curl -s {url}"
    address, agent = urlsplit(url), world.agents[0]
    dag = address.path.rpartition("/")[2]
    calls = {"getDagDetail": f"get_dag('{dag}').state", "dagHandler": f"operate_dag('{dag}', 'ROLLBACK')"}
    if operation.id not in calls:
        return ""
    password = f"agent_password={agent.agent_password!a}"
    if agent.agent_password is None or agent.identity == "FOLLOWER":
        # A follower forwards requests to its master, which does not accept the follower's own password.
        password = f"{agent.root_password or ''!a}"
    client = f"ClientSet('{address.hostname}', {address.port}, PasswordAuth({password}))"
    imports = "from obshell import ClientSet; from obshell.auth import PasswordAuth"
    code = f"{imports}; print({client}.v1.{calls[operation.id]})"
    needs_quoting = any(character in code for character in '"$`\\!')
    return f"python -c {shlex.quote(code)}" if needs_quoting else f'python -c "{code}"'


def node(
    name: str,
    *attempts: RunSource,
    can: str | Sequence[str] | None = None,
    sub_tasks: Sequence[Mapping[str, Any]] | None = None,
    **rest: Any,
) -> Json:
    """Return a node of the file format from the runs of its one sub task, or from ``sub_tasks``.

        node("Restart", fails(error="exit status 1"), succeeds(), can=["retry", "pass"])
        node("Restart", sub_tasks=[sub_task(succeeds()), sub_task(fails(), agent=second)])

    ``can`` are the operators that it allows: cancel, continue, pass, retry, rollback.
    """
    if attempts and sub_tasks is not None:
        raise TypeError(f"node {name!r} has attempts and sub_tasks; give each sub task its own.")
    parts = [sub_task(*attempts)] if attempts else sub_tasks
    operators = list(can) if isinstance(can, tuple) else can
    return {"name": name, **without_none(can=operators, sub_tasks=None if parts is None else list(parts)), **rest}


def sub_task(*attempts: RunSource, name: str | None = None, **rest: Any) -> Json:
    """Return a sub task of the file format from its runs; the last run repeats.

    sub_task(fails(), succeeds(), agent={"ip": "10.0.0.2", "port": 2886})
    """
    return {**without_none(name=name), **attempts_of(attempts), **rest}


class Obshell(SandboxHandle):
    """A sandbox for clients of obshell.

    with oceanmock.running("initialize-cluster-fails", api="obshell") as obshell:
        obshell.dag(4).until("FAILED")
        obshell.sdk().operate_dag(obshell.dag(4).id, "ROLLBACK")
    """

    API = API
    _auth: Sealed | None = None

    @property
    def agents(self) -> list[AgentHandle]:
        """Return its agents, the first one at its own URL; a scenario's `agents` have ports of their own."""
        agents = self.json().get("agents")
        if agents is None:
            return [AgentHandle(self, self.host, self.port, self.url)]
        scheme = urlsplit(self.url).scheme
        return [AgentHandle(self, it["ip"], it["port"], f"{scheme}://{self.host}:{it['port']}") for it in agents]

    @property
    def auth(self) -> Sealed:
        """Credentials that seal each request of httpx or requests; ``auth.password`` is root's.

        Where requests need not authenticate, they leave each request as it is.
        """
        agent = self.json()["agent"]
        own = None if agent["identity"] == "FOLLOWER" else agent["agent_password"]  # which its master does not take
        passwords = agent["root_password"] or "", own
        if self._auth is None or (self._auth.password, self._auth.agent_password) != passwords:
            from oceanmock.obshell.auth import Sealed, Unsealed  # noqa: PLC0415 (slow)

            kind = Sealed if self.authenticates else Unsealed
            self._auth = kind(*passwords, verify=self.admin.tls or True)
        return self._auth

    def load(self, *scenarios: ScenarioSource) -> Self:
        """Load scenarios, as ``SandboxHandle.load`` does; their agent may have passwords."""
        self._auth = None
        return super().load(*scenarios)

    def sdk(self, **options: Any) -> ClientV1:
        """Return the vendor's own SDK (``pip install obshell``), at this sandbox.

        ``options`` go to its ``ClientSet``. Raises EnvironmentProblem where it is not installed.
        """
        return self.agents[0].sdk(**options)

    def dag(self, id_or_name: int | str, nodes: Sequence[PartSource] | None = None, /, **rest: Any) -> Dag:
        """Return the dag of a number, an id or a name; or, with nodes, add one that starts now.

            obshell.dag(4)
            obshell.dag("Upgrade", ["Check", node("Restart", fails(), succeeds(), can="retry")])

        ``rest`` holds further keys of a dag in a scenario file. Raises InputError when there is no such dag, or with
        everything wrong in the new one.
        """
        return Dag(self.admin, self._find_or_add(id_or_name, nodes, rest))

    def dags(self) -> list[Dag]:
        """Return every dag, of more than 10,000 the first, by ascending number; the agent's before the cluster's."""
        return [Dag(self.admin, row) for row in self.rows()]


@dataclass(frozen=True, slots=True)
class AgentHandle:
    """One agent of a sandbox: its address, as ids and lists state it, and its URL."""

    sandbox: Obshell
    ip: str
    port: int
    url: str

    def sdk(self, **options: Any) -> ClientV1:
        """Return the vendor's own SDK (``pip install obshell``), at this agent.

        ``options`` go to its ``ClientSet``. Raises EnvironmentProblem where it is not installed.
        """
        try:
            from obshell import ClientSet  # noqa: PLC0415 (slow, and optional)
            from obshell.auth import PasswordAuth  # noqa: PLC0415
        except ImportError:
            raise EnvironmentProblem("obshell's SDK is not installed here. `pip install obshell` brings it.") from None
        auth = self.sandbox.auth
        own = auth.agent_password if self.url == self.sandbox.url else None
        options = {"auth": PasswordAuth(auth.password, **without_none(agent_password=own)), **options}
        client: ClientV1 = ClientSet(urlsplit(self.url).hostname, self.port, **options).v1
        return client


class _ObshellHandle(PartHandle):
    """A dag, a node or a sub task."""

    API = API

    @property
    def id(self) -> str:
        """Its generic id, by which the API finds it."""
        return self._id

    @property
    def state(self) -> str:
        """Its state now."""
        return str(self.json()["state"])

    @property
    def operator(self) -> str:
        """Its operator now."""
        return str(self.json()["operation"])

    def assert_state(self, expected: str, *, operator: str | None = None) -> None:
        """Assert that it has this state, and this operator if given; the AssertionError explains its state."""
        self._assert(expected, operator)


class Dag(_ObshellHandle, TaskHandle):
    """A dag of obshell."""

    KIND = API.kind("dag")

    @property
    def stage(self) -> int:
        """The number of the node that runs, counted from 1."""
        return int(self.json()["stage"])

    @property
    def nodes(self) -> list[NodeHandle]:
        """Its nodes, in order."""
        return [NodeHandle(self, part) for part in self.json()["parts"]]

    def node(self, id_or_name: int | str) -> NodeHandle:
        """Return the node of a number, an id or a name. Raises InputError when there is none."""
        return NodeHandle(self, self._find(id_or_name))


class NodeHandle(_ObshellHandle):
    """A node of a dag of obshell."""

    KIND = API.kind("node")

    def __init__(self, dag: Dag, data: Json) -> None:
        super().__init__(dag, data)
        self.dag: Final = dag

    @property
    def sub_tasks(self) -> list[SubTaskHandle]:
        """Its sub tasks, in order."""
        return [SubTaskHandle(self, part) for part in self.json()["parts"]]

    def sub_task(self, id_or_name: int | str) -> SubTaskHandle:
        """Return the sub task of a number, an id or a name. Raises InputError for none."""
        return SubTaskHandle(self, self._find(id_or_name))


class SubTaskHandle(_ObshellHandle):
    """A sub task of a node: its work on one agent."""

    KIND = API.kind("sub_task")

    def __init__(self, node: NodeHandle, data: Json) -> None:
        super().__init__(node, data)
        self.node: Final = node
