"""The plugin's options, on the command line, in the environment and in the ini file; and the mark.

What is said on the command line outranks the environment, and that the ini file. Imported by every
run of pytest: the rule is to import nothing but pytest.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

import pytest

GATHERING: Final = "oceanmock-coverage"
"""The name of the plugin that gathers coverage, where that is wanted."""
MARK: Final = (
    "scenario(*scenarios, progression=…, speed=…, seed=…, starts_at=…, switches=…, auth=…, "
    "strict=…): what lives in the sandbox of the fixtures `ocp` and `obshell`, and how. A scenario "
    "is a name of the library (`oceanmock list` has them), the path of a file (beside the test, or "
    "in the rootdir) or a mapping. progression: polls (usual), manual, immediate, time. "
    "strict=True fails a test by a request that means no operation, and by a fault that strikes "
    "nothing. A mark that names scenarios speaks to the fixtures of their APIs, another one to "
    "both. On a class or a module it holds for every test: a test's own names replace those, each "
    "keyword only itself. Marks on one level add up."
)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a run of pytest is told. ``url`` is None where the server is to be in this process."""

    url: str | None
    url_is_urgent: bool
    """Whether the command line says it: then a run without that server is of no use."""
    token: str | None
    strict: bool
    prints_coverage: bool
    coverage_path: str | None
    least_coverage: float | None
    """The percentage below which the run fails."""

    @property
    def gathers(self) -> bool:
        """Whether what the clients see is to be gathered."""
        wanted = self.prints_coverage or self.coverage_path is not None
        return wanted or self.least_coverage is not None


SETTING: Final = pytest.StashKey[Setting]()


def add_options(parser: pytest.Parser) -> None:
    """Adds the options of the command line and of the ini file."""
    group = parser.getgroup("oceanmock", "oceanmock (the task APIs of OceanBase, mocked)")
    group.addoption(
        "--oceanmock-url",
        metavar="URL",
        help="use the oceanmock server there, a sandbox on it for each test, instead of one in "
        "this process (also OCEANMOCK_URL, or oceanmock_url in the ini file)",
    )
    group.addoption(
        "--oceanmock-token",
        metavar="TOKEN",
        help="that server's token; not needed on its own machine (also OCEANMOCK_TOKEN)",
    )
    group.addoption(
        "--oceanmock-strict",
        action="store_true",
        help="let requests that mean no operation, and faults that strike nothing, fail a test "
        "unless its mark says otherwise (also oceanmock_strict in the ini file)",
    )
    group.addoption(
        "--oceanmock-coverage",
        action="store_true",
        help="print which states and transitions of their scenarios the tests' clients have seen",
    )
    group.addoption(
        "--oceanmock-coverage-json", metavar="PATH", help="write the same into a file, as JSON"
    )
    group.addoption(
        "--oceanmock-coverage-min",
        metavar="PERCENT",
        help="fail a run whose clients have seen less (also oceanmock_coverage_min in the ini "
        "file)",
    )
    parser.addini("oceanmock_url", "the server to use; see --oceanmock-url", default="")
    parser.addini("oceanmock_host", "where a server in this process listens", default="127.0.0.1")
    parser.addini("oceanmock_strict", "see --oceanmock-strict", type="bool", default=False)
    parser.addini("oceanmock_coverage_min", "see --oceanmock-coverage-min", default="")


def setting_of(config: pytest.Config) -> Setting:
    """What this run is told. Raises UsageError."""
    said = config.option
    url = said.oceanmock_url or os.environ.get("OCEANMOCK_URL") or config.getini("oceanmock_url")
    return Setting(
        url=url or None,
        url_is_urgent=bool(said.oceanmock_url),
        token=said.oceanmock_token or os.environ.get("OCEANMOCK_TOKEN"),
        strict=said.oceanmock_strict or config.getini("oceanmock_strict"),
        prints_coverage=said.oceanmock_coverage,
        coverage_path=said.oceanmock_coverage_json,
        least_coverage=_percentage(
            said.oceanmock_coverage_min or config.getini("oceanmock_coverage_min")
        ),
    )


def _percentage(said: str) -> float | None:
    try:
        value = float(said) if said else None
    except ValueError:
        value = -1.0
    if value is not None and not 0 <= value <= 100:
        raise pytest.UsageError(f"oceanmock_coverage_min is {said!r}: a percentage is 0 to 100.")
    return value
