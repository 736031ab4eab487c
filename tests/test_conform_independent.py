"""A server that is not the mock, and shares no line with it: what a run finds there, and what not.

It is the OCP of ``independent_ocp``, on a port of this machine. Every look at one of its tasks
moves that on, so nobody has to wait: what a run waits for, it looks for again at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

import pytest
from click.testing import CliRunner
from click.testing import Result as Ended

from independent_ocp import DEVIATIONS, Ocp
from oceanmock.checks import Phase
from oceanmock.cli import main
from oceanmock.clock import SECOND
from oceanmock.conformance.model import PASSED, UNTESTABLE, Api, Options, Result
from oceanmock.conformance.run import Environment, conform
from oceanmock.conformance.target import Untestable, reach
from oceanmock.credentials import Basic
from oceanmock.http.server import Server

pytestmark = pytest.mark.slow

OPERATOR, READER = Basic("operator", "s3cret"), Basic("reader", "read0nly")
TASKS = ("1", "2", "3", "4", "5", "6")
ALL: frozenset[Phase] = Options().phases
READ_ONLY_SHOWS = {
    "text code": "schema.type",
    "open door": "auth.missing-accepted",
    "missing executor": "schema.required",
    "deaf to status": "filter.ignored",
}
"""Deviations that somebody who only reads can see, and the rule that is meant for each."""
WRITING_SHOWS = READ_ONLY_SHOWS | {
    "eager retry": "call.illegal-accepted",
    "forward rollback": "rollback.order",
    "lost count": "count.not-bumped",
    "forgetful log": "log.rewritten",
}
"""Those that somebody who operates can see."""


@dataclass
class World:
    """The server, and where it is."""

    ocp: Ocp
    url: str

    @property
    def methods(self) -> set[str]:
        """The methods in its access log."""
        return {method for method, _ in self.ocp.asked}

    def run(self, *, write: bool = False, seed: int = 1, phases: frozenset[Phase] = ALL) -> Result:
        """What a run against it comes to."""
        target = replace(reach(self.url, api="ocp", auth=OPERATOR), read_only_auth=READER)
        options = Options(
            write=write,
            tasks=TASKS if write else (),
            seed=seed,
            max_examples=3,
            phases=phases,
            timeout=400 * SECOND,
        )
        return conform(target, options, environment=Environment(wait=lambda _: None))


@contextmanager
def served(*deviations: str) -> Iterator[World]:
    """The server, broken in some ways or in none."""
    ocp = Ocp(deviations=set(deviations))
    with Server(ocp) as server:
        yield World(ocp, server.url)


@cache
def after_a_run(*, write: bool) -> tuple[World, Result]:
    """A server that keeps the contract, and what a run came to there."""
    with served() as world:
        return world, world.run(write=write)


def told(result: Result) -> list[str]:
    """What is wrong with a result, to be read where a test fails."""
    lines = [f"{each.rule} {each.breadcrumb}: {each.message}" for each in result.findings]
    return lines + [f"missing: {each.operation} {each.status}" for each in result.missing]


# --- a server that keeps the contract -------------------------------------------------------------


@pytest.mark.parametrize("write", [False, True], ids=["read-only", "write"])
def test_a_server_that_keeps_the_contract_is_green_and_adequate(write: bool) -> None:
    _, result = after_a_run(write=write)

    assert told(result) == []
    assert result.exit_code == PASSED
    assert set(result.phases) == ALL - (set() if write else {"machine"})
    assert result.rules["schema.required"].looked > 100


def test_a_run_that_only_reads_leaves_nothing_but_gets_in_the_access_log() -> None:
    world, result = after_a_run(write=False)

    assert world.methods == {"GET"}
    assert result.changes == []
    assert len(world.ocp.asked) == result.asked + 1  # and one to see whether it was let in


def test_a_run_that_writes_operates_on_nothing_but_what_it_was_given_and_what_is_nobodys() -> None:
    world, _ = after_a_run(write=True)

    theirs = {path.split("/")[5] for method, path in world.ocp.asked if method != "GET"}
    there = {id for id in theirs if id.isascii() and id.isdigit() and int(id) in world.ocp.tasks}
    assert there == set(TASKS)


# --- one that does not ----------------------------------------------------------------------------


@pytest.mark.parametrize(("deviation", "rule"), READ_ONLY_SHOWS.items())
def test_what_can_be_seen_is_found_by_who_only_reads(deviation: str, rule: str) -> None:
    with served(deviation) as world:
        result = world.run(phases=frozenset({"probes"}))

    assert rule in {each.rule for each in result.findings}, told(result)
    assert world.methods == {"GET"}


@pytest.mark.parametrize(("deviation", "rule"), WRITING_SHOWS.items())
def test_every_deviation_is_found_by_who_writes(deviation: str, rule: str) -> None:
    with served(deviation) as world:
        result = world.run(write=True, phases=frozenset({"probes", "machine"}))

    assert rule in {each.rule for each in result.findings}, told(result)


def test_every_deviation_that_there_is_has_its_rule() -> None:
    assert WRITING_SHOWS.keys() == DEVIATIONS.keys()


# --- who is not let in, and what is not there -----------------------------------------------------


def oceanmock(url: str, *words: str, api: Api = "ocp", password: str = "s3cret") -> Ended:
    who = ["--api", api, "--user", "operator", "--password", password]
    return CliRunner().invoke(main, ["conform", url, *who, *words])


@pytest.mark.parametrize("words", [(), ("--write", "--task", "1")], ids=["read-only", "write"])
def test_a_wrong_password_never_ends_in_success(words: tuple[str, ...]) -> None:
    with served() as world:
        ended = oceanmock(world.url, *words, password="guessed")
        asked = list(world.ocp.asked)

    assert ended.exit_code == UNTESTABLE
    assert "refuses the name and password of 'operator'" in ended.output
    assert asked == [("GET", "/api/v2/tasks/instances")], "once: who guesses is locked out"


def test_a_wrong_password_is_no_target() -> None:
    with served() as world, pytest.raises(Untestable, match="Bad credentials"):
        reach(world.url, api="ocp", auth=Basic("operator", "guessed"))


def test_a_target_that_is_down_is_untestable() -> None:
    with served() as world:
        gone = world.url

    ended = oceanmock(gone, "--connect-timeout", "0s")

    assert ended.exit_code == UNTESTABLE
    assert f"nothing responds at {gone}" in ended.output


def test_a_target_that_is_another_api_is_untestable() -> None:
    with served() as world:
        ended = oceanmock(world.url, api="obshell")

    assert ended.exit_code == UNTESTABLE
