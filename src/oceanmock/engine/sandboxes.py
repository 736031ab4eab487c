"""The sandboxes of one server, by their names.

They share a store and nothing else. ``default`` always exists: it is the sandbox of a request that
names none. Creating one costs no more than its scenarios' histories, so that each test can have its
own. Their number is bounded; a sandbox stays until it is deleted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count, islice
from typing import Final

from oceanmock.engine.log import Load, SandboxSpec
from oceanmock.engine.sandbox import Sandbox
from oceanmock.errors import AuthorError, CallerError
from oceanmock.scenario.fields import BaseScenario
from oceanmock.text import did_you_mean, shorten

DEFAULT_SANDBOX: Final = "default"
MAX_SANDBOXES: Final = 10_000
MAX_NAME_LENGTH: Final = 100
SANDBOX_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME_LENGTH - 1}}}")
"""The names that can stand in paths and headers as they are."""
MAX_COMPARED_NAMES: Final = 1000
"""How many names are compared for a suggestion."""


class NoSuchSandbox(CallerError):
    """No sandbox has this name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        hint = did_you_mean(name[:MAX_NAME_LENGTH], list(islice(known, MAX_COMPARED_NAMES)))
        super().__init__(f"there is no sandbox {_quoted(name)}. {hint}".rstrip())


class TwoSandboxes(CallerError):
    """A request names two sandboxes, and can mean only one."""

    def __init__(self, one: str, other: str, *_: str) -> None:
        super().__init__(
            f"the request names two sandboxes, {_quoted(one)} and {_quoted(other)}. "
            "Its port, its header and its path must mean the same one."
        )


class SandboxTaken(CallerError):
    """There is a sandbox of this name already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a sandbox {name!r} already. Delete it, or choose another name.")


class TooManySandboxes(CallerError):
    """There are as many sandboxes as allowed."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"there are {limit:,} sandboxes already. Delete those that are done with.")


class Sandboxes:
    """The sandboxes of one server; ``ports`` maps further ports to the sandboxes they mean."""

    def __init__(self, default: Sandbox, *, limit: int = MAX_SANDBOXES) -> None:
        self.limit: Final = limit
        self.ports: dict[int, str] = {}
        self._store: Final = default.store
        self._by_name = {DEFAULT_SANDBOX: default}
        self._numbers = count(1)

    @property
    def default(self) -> Sandbox:
        """Return the one that is always there."""
        return self._by_name[DEFAULT_SANDBOX]

    def __iter__(self) -> Iterator[Sandbox]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> Sandbox:
        """Return the sandbox of a name. Raises NoSuchSandbox."""
        sandbox = self._by_name.get(name)
        if sandbox is None:
            raise NoSuchSandbox(name, self._by_name)
        return sandbox

    def create(self, name: str | None, spec: SandboxSpec) -> Sandbox:
        """Create a sandbox of a name, by default the next free one.

        Raises AuthorError for an invalid name or specification, SandboxTaken, TooManySandboxes;
        then nothing has changed.
        """
        if len(self) >= self.limit:
            raise TooManySandboxes(self.limit)
        name = self._free_name() if name is None else name
        if not SANDBOX_NAME.fullmatch(name):
            raise AuthorError(
                f"{_quoted(name)} is no name for a sandbox: letters, digits, dots, dashes and "
                f"underscores, at most {MAX_NAME_LENGTH}, a letter or digit first."
            )
        if name in self._by_name:
            raise SandboxTaken(name)
        return self._put(replace(spec, name=name))

    def reset(self, name: str) -> Sandbox:
        """Create a sandbox again by its specification. Raises NoSuchSandbox."""
        sandbox = self.get(name)
        return self._put(replace(sandbox.spec, created=sandbox.wall()))

    def load(self, name: str, scenarios: Sequence[BaseScenario]) -> Sandbox:
        """Add scenarios to a sandbox: to the specification of an untouched one, else now.

        Raises NoSuchSandbox, and AuthorError if they do not fit what is there; then nothing has
        changed.
        """
        sandbox = self.get(name)
        if not sandbox.is_untouched:
            sandbox.execute(Load(tuple(scenarios)))
            return sandbox
        spec = sandbox.spec
        every = (*spec.scenarios, *scenarios)
        return self._put(replace(spec, scenarios=every, created=sandbox.wall()))

    def delete(self, name: str) -> list[int]:
        """Delete a sandbox and return its own ports. Raises NoSuchSandbox.

        ``default`` is reset instead.
        """
        if name == DEFAULT_SANDBOX:
            self.reset(name)
            return []
        self.get(name)
        del self._by_name[name]
        self._store.delete(name)
        freed = [port for port, owner in self.ports.items() if owner == name]
        for port in freed:
            del self.ports[port]
        return freed

    def _put(self, spec: SandboxSpec) -> Sandbox:
        default = self.default
        sandbox = Sandbox(spec, default.apis, store=self._store, wall=default.wall)
        self._by_name[spec.name] = sandbox
        return sandbox

    def _free_name(self) -> str:
        return next(name for n in self._numbers if (name := f"sandbox-{n}") not in self._by_name)


def _quoted(name: str) -> str:
    """Return a name in quotes, cut where it is long; it may be anything that was sent."""
    return repr(shorten(name, MAX_NAME_LENGTH))
