"""obshell in a test's hand: a sandbox, its dags, their nodes and sub tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self, overload

from oceanmock.client.admin import Json
from oceanmock.client.held import HIDDEN
from oceanmock.client.parts import Part, Told, Whole, find
from oceanmock.client.sandbox import Given, Sandbox
from oceanmock.errors import EnvironmentProblem

if TYPE_CHECKING:
    from obshell import ClientV1

    from oceanmock.obshell.credentials import Sealed

__tracebackhide__ = HIDDEN

Step = str | Mapping[str, Any]
"""A node: its name, or what a scenario file says of it; ``node(…)`` writes it."""

STATES: Final = ("PENDING", "READY", "RUNNING", "FAILED", "SUCCEED")


class Obshell(Sandbox):
    """A sandbox for clients of obshell.

    with oceanmock.running("initialize-cluster-fails", api="obshell") as obshell:
        obshell.dag(4).until("FAILED")
        obshell.sdk().operate_dag(obshell.dag(4).id, "ROLLBACK")
    """

    api = "obshell"
    _auth: Sealed | None = None

    @property
    def auth(self) -> Sealed:
        """What seals each request of httpx or requests; ``auth.password`` is root's.

        Where requests need not authenticate, it leaves them as they are.
        """
        if self._auth is None:
            from oceanmock.obshell.credentials import Sealed, Unsealed  # noqa: PLC0415 (slow)

            agent = self.json()["agent"]
            kind = Sealed if self.is_guarded else Unsealed
            self._auth = kind(agent["root_password"] or "", agent["agent_password"])
        return self._auth

    def load(self, *scenarios: Given) -> Self:
        """Lets scenarios live in it, as ``Sandbox.load`` says; their agent may have passwords."""
        self._auth = None
        return super().load(*scenarios)

    def sdk(self, **options: Any) -> ClientV1:
        """The vendor's own SDK (``pip install obshell``), at this sandbox.

        ``options`` go to its ``ClientSet``. Raises EnvironmentProblem where it is not installed.
        """
        try:
            from obshell import ClientSet  # noqa: PLC0415 (slow, and not everybody's)
            from obshell.auth import PasswordAuth  # noqa: PLC0415
        except ImportError:
            raise EnvironmentProblem(
                "obshell's SDK is not installed here. `pip install obshell` brings it."
            ) from None
        said = {"auth": PasswordAuth(self.auth.password), **options}
        client: ClientV1 = ClientSet(self.host, self.port, **said).v1
        return client

    @overload
    def dag(self, wanted: int | str, /) -> Dag: ...

    @overload
    def dag(self, name: str, nodes: Sequence[Step], /, **rest: Any) -> Dag: ...

    def dag(self, wanted: int | str, nodes: Sequence[Step] | None = None, /, **rest: Any) -> Dag:
        """The dag of a number, a generic id or a name; or, with nodes, one that is born now.

            obshell.dag(4)
            obshell.dag("Upgrade", ["Check", node("Restart", fails(), succeeds(), can="retry")])

        ``rest`` is what else a scenario file says of a dag. Raises AuthorError when there is no
        such dag, or with all that is wrong with the new one.
        """
        if nodes is None:
            return Dag(self.admin, self._find(wanted, what="dag"))
        return Dag(self.admin, self._start({"name": wanted, "nodes": list(nodes), **rest}))

    def dags(self) -> list[Dag]:
        """Every dag, by ascending number; those of the agent before those of the cluster."""
        return [Dag(self.admin, each) for each in self._rows()]


class _OfObshell(Told):
    """What a dag, a node and a sub task of obshell are asked alike."""

    @property
    def id(self) -> str:
        """Its generic id, by which the API knows it."""
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
        """Holds if it is in this state, and this operator if one is said.

        Raises AssertionError with why it is in another, and what is next.
        """
        self._assert(expected, operator)

    def until(self, state: str) -> Self:
        """Moves the clock on, from change to change, until it is in this state.

        Raises AssertionError where nothing is due any more that could make it so.
        """
        return self._until(state)


class Dag(_OfObshell, Whole):
    """A dag of obshell."""

    api = "obshell"
    kind = "dag"
    states = STATES

    @property
    def stage(self) -> int:
        """Whose node's turn it is, counted from 1."""
        return int(self.json()["stage"])

    @property
    def nodes(self) -> list[Node]:
        """Its nodes, in order."""
        return [Node(self, part) for part in self.json()["parts"]]

    def node(self, wanted: int | str) -> Node:
        """The node of a number, a generic id or a name. Raises AuthorError when there is none."""
        parts = self.json()["parts"]
        return Node(self, find(parts, wanted, what="node", where=f"in dag {self.number}"))


class Node(_OfObshell, Part):
    """A node of a dag of obshell."""

    kind = "node"

    def __init__(self, dag: Dag, said: Json) -> None:
        super().__init__(dag, said)
        self.dag: Final = dag

    @property
    def sub_tasks(self) -> list[SubTask]:
        """Its sub tasks, in order."""
        return [SubTask(self, part) for part in self.json()["parts"]]

    def sub_task(self, wanted: int | str) -> SubTask:
        """The sub task of a number, a generic id or a name. Raises AuthorError for none."""
        parts = self.json()["parts"]
        where = f"in node {self.number}"
        return SubTask(self, find(parts, wanted, what="sub task", where=where))


class SubTask(_OfObshell, Part):
    """A sub task of a node: its work on one agent."""

    kind = "sub task"

    def __init__(self, node: Node, said: Json) -> None:
        super().__init__(node, said)
        self.node: Final = node
