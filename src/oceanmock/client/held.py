"""What a test asks the admin API, and what becomes of its mistakes.

A request that the server finds wrong is its author's: AuthorError, in the server's own words. A
keyword that there is not is told before anything is asked, with the nearest one that there is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import methodcaller
from typing import Final

from oceanmock.client.admin import Driven, Json, Refused
from oceanmock.errors import AuthorError, OceanmockError
from oceanmock.text import did_you_mean, suggest

HIDDEN: Final = methodcaller("errisinstance", (AssertionError, OceanmockError))
"""What a module of this room says ``__tracebackhide__`` to be: of an assertion that fails, or of an
author's mistake, pytest shows the test's own line, and none of these files.
"""
__tracebackhide__ = HIDDEN


@dataclass(frozen=True, slots=True)
class Held(Driven):
    """One sandbox of a server, asked on behalf of a test."""

    def ask(
        self, method: str, path: str = "", body: Json | None = None, *, query: Json | None = None
    ) -> Json:
        """What it answers. Raises AuthorError for what is wrong or not there, and NoAnswer."""
        try:
            return self.admin.ask(method, self.path(path), body, query=query)
        except Refused as refusal:
            raise blamed(refusal) from None

    def text(self, path: str, *, query: Json | None = None) -> str:
        """A text that it answers. Raises as ``ask``."""
        try:
            return self.admin.read("GET", self.path(path), query=query).decode()
        except Refused as refusal:
            raise blamed(refusal) from None


def blamed(refusal: Refused) -> OceanmockError:
    """What a server refuses, as the mistake of whoever has written the test.

    They have not sent a body, and are told only what is wrong with it. A failure of the server's
    own is no mistake of theirs.
    """
    if refusal.status >= 500:
        return refusal
    return AuthorError(str(refusal).removeprefix("The body: "))


def check_keywords(given: Iterable[str], known: Iterable[str], *, what: str) -> None:
    """Raises AuthorError for keywords that there are not, each with the nearest that there is."""
    names = list(known)
    wrong = [name for name in given if name not in names]
    if wrong:
        raise AuthorError(
            "\n".join(f"{name!r} is no keyword of {what}. {suggest(name, names)}" for name in wrong)
        )


def nearest_of(name: str, names: Iterable[str]) -> str:
    """The names that there are, and the nearest to one that there is not."""
    return suggest(name, list(names))


def did_you_mean_of(name: str, names: Iterable[str]) -> str:
    """The nearest name to one that there is not, if any is near."""
    return did_you_mean(name, list(names))
