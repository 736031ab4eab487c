"""A server to test against: in this process, or one that runs elsewhere; and sandboxes on it.

``running`` is a block with one sandbox, ``Mock`` a server that many are made on. In this process
the server has a thread of its own and a free port. Either server is reached over its port only.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from secrets import token_urlsafe
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Final,
    Generic,
    Literal,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    overload,
)
from urllib.parse import urljoin, urlsplit

from oceanmock.client.admin import Admin, raise_if_blocked
from oceanmock.client.held import HIDDEN, Held, check_keywords, nearest_of
from oceanmock.client.sandbox import Given, Options, Sandbox, create
from oceanmock.errors import AuthorError
from oceanmock.obshell.client import Obshell
from oceanmock.ocp.client import Ocp

if TYPE_CHECKING:
    from oceanmock.http.server import Server

__tracebackhide__ = HIDDEN

Api = TypeVar("Api", bound=Sandbox)

REACH_SECONDS: Final = 1.0
"""How long a server's further port may take to answer, before a path is taken instead."""


class Mock:
    """A server, and what makes sandboxes on it.

    with Mock.start() as mock:
        ocp, obshell = mock.ocp("retry-failed-subtask"), mock.obshell()
    """

    def __init__(self, admin: Admin, *, server: Server | None) -> None:
        self._admin = admin
        self._server = server
        self._reaches_ports: bool | None = None if server is None else True
        self._open: list[Sandbox] = []
        self.url: Final = admin.url
        self.on_close: Callable[[Sandbox], object] | None = None
        """Told of each of its sandboxes that is closed, while it still stands."""

    @classmethod
    def start(
        cls, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> Self:
        """A server in this process, on any free port unless one is said; by TLS, if ``tls`` is.

        Raises EnvironmentProblem when the port can't be had.
        """
        from oceanmock.engine.sandbox import Sandbox as World  # noqa: PLC0415
        from oceanmock.http.app import create_app  # noqa: PLC0415
        from oceanmock.http.server import Server  # noqa: PLC0415

        token = token_urlsafe()
        app = create_app(World.of_scenarios([]), token=token)
        try:
            server = Server(app, host=host, port=port, tls=tls).start()
        except RuntimeError as error:
            raise_if_blocked(error, host=host)
            raise
        return cls(Admin(server.url, token, tls=tls and _trust_all()), server=server)

    @classmethod
    def attach(
        cls, url: str, *, token: str | None = None, tls: ssl.SSLContext | None = None
    ) -> Self:
        """A server that runs elsewhere. Raises NoAnswer when nobody, or somebody else, is there."""
        admin = Admin(url.rstrip("/"), token, tls=tls)
        admin.ask("GET", "/sandboxes")
        return cls(admin, server=None)

    @property
    def admin(self) -> Admin:
        """The server's admin API."""
        return self._admin

    @property
    def is_here(self) -> bool:
        """Whether the server is in this process."""
        return self._server is not None

    def ocp(self, *scenarios: Given, **options: Unpack[Options]) -> Ocp:
        """A new sandbox for clients of OCP. Raises AuthorError with all that is wrong."""
        return self._make(Ocp, scenarios, options)

    def obshell(self, *scenarios: Given, **options: Unpack[Options]) -> Obshell:
        """A new sandbox for clients of obshell. Raises AuthorError with all that is wrong."""
        return self._make(Obshell, scenarios, options)

    @property
    def sandboxes(self) -> list[Sandbox]:
        """Those that it has made and that are open, the oldest first."""
        return list(self._open)

    def stop(self) -> None:
        """Stop a server in this process, whose sandboxes are gone then; twice changes nothing."""
        if self._server is not None:
            self._server.stop()
            for sandbox in self._open:
                sandbox.is_closed = True
            self._open.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _make(self, kind: type[Api], scenarios: tuple[Given, ...], options: Options) -> Api:
        made = create(self._admin, kind.api, scenarios, options, own_port=self._reaches_ports)
        path, port_url = urljoin(self.url, made["urls"]["path"]), made["urls"].get("port", "")
        if self._reaches_ports is None:
            self._reaches_ports = _is_reached(port_url)
        sandbox = kind(
            Held(self._admin, made["name"]),
            made=made,
            url=port_url if self._reaches_ports else path,
            unreachable_url="" if self._reaches_ports else port_url,
            strict=options.get("strict", False),
            is_guarded=options.get("auth", True),
            on_close=self._closes,
        )
        self._open.append(sandbox)
        return sandbox

    def _closes(self, sandbox: Sandbox) -> None:
        self._open.remove(sandbox)
        if self.on_close is not None:
            self.on_close(sandbox)


def _trust_all() -> ssl.SSLContext:
    """Return a client's context for the server of this process, whose certificate is the test's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _is_reached(url: str) -> bool:
    """Whether something listens there, as seen from here."""
    parts = urlsplit(url)
    try:
        address = (parts.hostname or "", parts.port or 80)
        socket.create_connection(address, timeout=REACH_SECONDS).close()
    except OSError:
        return False
    return True


class Running(Generic[Api]):
    """A sandbox on a server of its own, for the length of a block, ``with`` or ``async with``."""

    def __init__(self, begin: Callable[[], tuple[Mock, Api]]) -> None:
        self._begin = begin
        self._running: tuple[Mock, Api] | None = None

    def __enter__(self) -> Api:
        self._running = self._begin()
        return self._running[1]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        running, self._running = self._running, None
        if running is not None:
            mock, sandbox = running
            try:
                sandbox.close()
            finally:
                mock.stop()

    async def __aenter__(self) -> Api:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)


class Where(TypedDict, total=False):
    """Which server is meant: a new one in this process, or one that runs elsewhere."""

    url: str
    """Where it runs; in this process, if left out."""
    token: str
    """The token of a server elsewhere."""
    host: str
    """The address that a server in this process listens at: 127.0.0.1, if left out."""
    port: int
    """And its port; any that is free, if left out."""


class Setting(Options, Where, total=False):
    """All that ``running`` can be told beside the scenarios."""


@overload
def running(
    *scenarios: Given, api: Literal["ocp"] = "ocp", **setting: Unpack[Setting]
) -> Running[Ocp]: ...


@overload
def running(
    *scenarios: Given, api: Literal["obshell"], **setting: Unpack[Setting]
) -> Running[Obshell]: ...


def running(
    *scenarios: Given, api: str = "ocp", **setting: Unpack[Setting]
) -> Running[Ocp] | Running[Obshell]:
    """A sandbox in which scenarios live, for the length of a block.

        with oceanmock.running("retry-failed-subtask") as ocp:
            client = Client(ocp.url, auth=ocp.auth)

        async with oceanmock.running("initialize-cluster-fails", api="obshell") as obshell:
            ...

    An asynchronous test asks the sandbox in the same way, and waits about a millisecond for it.
    Entering it raises AuthorError with all that is wrong with a scenario, EnvironmentProblem when a
    port can't be had, and NoAnswer when there is no server at ``url``.
    """
    check_keywords(setting, Setting.__annotations__, what="running")
    kind = KINDS.get(api)
    if kind is None:
        raise AuthorError(f"api is {api!r}. {nearest_of(api, KINDS)}")
    said = {key: value for key, value in setting.items() if key in Options.__annotations__}
    options = cast("Options", said)

    def begin() -> tuple[Mock, Ocp | Obshell]:
        mock = _server(setting)
        try:
            return mock, mock._make(kind, scenarios, options)
        except BaseException:
            mock.stop()
            raise

    return cast("Running[Ocp] | Running[Obshell]", Running(begin))


KINDS: Final[dict[str, type[Ocp] | type[Obshell]]] = {"ocp": Ocp, "obshell": Obshell}


def _server(setting: Setting) -> Mock:
    url = setting.get("url")
    if url is not None:
        return Mock.attach(url, token=setting.get("token"))
    return Mock.start(host=setting.get("host", "127.0.0.1"), port=setting.get("port", 0))
