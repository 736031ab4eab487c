"""An order: what was said to the command, and what of it cannot be meant together.

Everything here is made sure of before a byte is sent or a file is touched. No message shows a
secret, nor a URL with one in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click

from oceanmock.checks import Phase
from oceanmock.conformance.model import Api
from oceanmock.errors import OceanmockError

SECRETS: Final = ("password", "secret_key", "agent_password", "viewer_password")


class Unready(OceanmockError):
    """A run cannot begin, though the words are right: something that it needs is not there."""


@dataclass(frozen=True, slots=True)
class Order:
    """What was said to the command, option by option; secrets are not shown when it is printed."""

    what: tuple[str, ...]
    api: Api | None
    mock: bool
    user: str | None
    password: str | None = field(repr=False)
    access_key: str | None
    secret_key: str | None = field(repr=False)
    agent_password: str | None = field(repr=False)
    viewer: str | None
    viewer_password: str | None = field(repr=False)
    write: bool
    task: tuple[str, ...]
    story: tuple[Path, ...]
    story_id: tuple[tuple[str, str], ...]
    phases: tuple[Phase, ...] | None
    seed: int
    max_examples: int | None
    rate: float
    patience: int
    baseline: tuple[str, ...]
    update_baseline: bool
    report: tuple[tuple[tuple[str, Path], ...], ...]
    wait: int
    insecure: bool
    ca: Path | None

    @property
    def reports(self) -> list[tuple[str, Path]]:
        """Every report that is wanted."""
        return [report for several in self.report for report in several]

    @property
    def verify(self) -> bool | str:
        """Whether a certificate is looked at, or the path of those to trust."""
        return str(self.ca) if self.ca else not self.insecure

    @property
    def own_baselines(self) -> list[Path]:
        """The baselines that are files of the user's own."""
        paths = [Path(each) for each in self.baseline]
        return [path for path in paths if is_file(path) or path.name != str(path)]


def is_file(reference: str | Path) -> bool:
    """Whether a baseline is called as a file is, be it there or not."""
    return Path(reference).suffix in (".yaml", ".yml")


# --- words that do not go together ----------------------------------------------------------------


def check_words(order: Order) -> None:
    """Raises a UsageError for what cannot be meant."""
    wrong = next(_wrong_words(order), None)
    if wrong is not None:
        raise click.UsageError(wrong)


def _wrong_words(order: Order) -> Iterator[str]:
    yield from (_wrong_for_mock if order.mock else _wrong_for_url)(order)
    if order.insecure and order.ca:
        yield "--insecure takes any certificate, and --ca only some: which is meant?"
    places = Counter(path.absolute() for _, path in order.reports)
    for _, path in order.reports:
        if places[path.absolute()] > 1:
            yield f"two reports cannot be one file, {path}: name another for one of them."
    if "none" in order.baseline and len(order.baseline) > 1:
        yield "--baseline none stands alone."
    if order.update_baseline and not order.own_baselines:
        yield "--update-baseline needs the file to write: --baseline my.yaml."


def _wrong_for_mock(order: Order) -> Iterator[str]:
    url = next((each for each in order.what if "://" in each), None)
    if url is not None:
        yield f"--mock checks oceanmock itself, and not {_shown_url(url)}: leave out one of them."
    for name in ("user", "access_key", "viewer", *SECRETS):
        if getattr(order, name) is not None and not _is_of_environment(name):
            yield f"--mock has credentials of its own: leave out {_flag(name)}."
    for name in ("write", "task", "insecure", "ca", "story", "story_id"):
        if getattr(order, name):
            yield f"{_flag(name)} is for a real server: with --mock leave it out."
    if order.update_baseline and order.api is None:
        yield "--update-baseline is about one API: say which with --api."


def _wrong_for_url(order: Order) -> Iterator[str]:
    if not order.what:
        yield "what is to be checked? Give the URL of a server, or --mock for oceanmock itself."
        return
    if len(order.what) > 1:
        yield "one URL at a time. Scenarios are checked with --mock."
    url = order.what[0]
    if "://" not in url:
        yield f"{url!r} is no URL: http://…. A scenario is checked with --mock {url}"
    if not _is_url(url):
        yield f"{_shown_url(url)} is no URL of a server: http://… or https://…"
    elif "@" in urlsplit(url).netloc:
        yield "no credentials in the URL, please: they end up in logs. There is --user for it."
    if order.api is None:
        yield "which API is it? Say --api ocp or --api obshell."
    yield from _wrong_credentials(order)
    if order.story_id and not order.story:
        yield "--story-id is about a story: name it with --story."
    if order.task and not order.write:
        yield "--task says what may be played with, which needs --write."


def _wrong_credentials(order: Order) -> Iterator[str]:
    if order.api == "obshell":
        for name in ("user", "access_key", "viewer"):
            if getattr(order, name) is not None:
                yield f"obshell knows no {_flag(name)}: only --password and --agent-password."
        return
    if order.user is None and order.access_key is None:
        yield "OCP asks who you are: give --user and --password, or --access-key and --secret-key."
    if order.user is not None and order.access_key is not None:
        yield "--user or --access-key: which is meant?"
    if order.agent_password is not None and not _is_of_environment("agent_password"):
        yield "--agent-password is obshell's."


def _is_of_environment(name: str) -> bool:
    """Whether an option's value was not said, but stood in the environment."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.ENVIRONMENT


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:  # such as a bracket that is not closed
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _shown_url(url: str) -> str:
    """A URL without the credentials that may be in it."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
