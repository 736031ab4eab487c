"""obshell over HTTP answers as a real obshell answered: every exchange of tests/data/obshell.

Each recording is played again from its first request to its last (obshell_replay says how, and what
is renamed in both answers), and each answer is the recorded one to the order of its keys. EXCEPT
names the few that cannot be, each with the reason; one of them that does agree fails here too, so
that the table says no more than is true.
"""

from __future__ import annotations

import pytest

from obshell_recordings import FOLDER, exchanges_of
from obshell_replay import replayed
from obshell_replay_scenarios import WORLDS

pytestmark = pytest.mark.slow

NOT_SERVED = "calls that change the agent and make no dag are not served"
NO_PEERS = "a follower forwarded it to its master, and a sandbox is one agent"
NO_CONSOLE = (
    "obshell's web console is not served, and OCP answers for all paths that are not its own"
)
ENGLISH = "messages are English whatever Accept-Language says"

EXCEPT: dict[tuple[str, str], str] = {
    ("password.json", "set agent password"): NOT_SERVED,
    ("pass-dag.json", "unfinished before"): NO_PEERS,
    ("pass-dag.json", "node PASS after"): NO_PEERS,
    ("pass-dag.json", "unfinished after"): NO_PEERS,
    ("auth.json", "chinese"): ENGLISH,
    ("auth.json", "chinese bad id"): ENGLISH,
    ("lone.json", "unknown version"): NO_CONSOLE,
    ("lone.json", "not the api"): NO_CONSOLE,
    ("lone.json", "root"): NO_CONSOLE,
}
"""Exchanges that the mock answers in another way, by file and label."""

NO_RECORDING = "001_fdf33ed94fc51ae1.json"

ALL = [(file, each.number, each.label) for file in WORLDS for each in exchanges_of(file)]


def test_every_recording_is_replayed() -> None:
    recordings = {path.name for path in FOLDER.glob("*.json")} - {NO_RECORDING}

    assert set(WORLDS) == recordings


@pytest.mark.parametrize(
    ("file", "number"),
    [
        pytest.param(file, number, id=f"{file} {number} {label}")
        for file, number, label in ALL
        if (file, label) not in EXCEPT
    ],
)
def test_an_answer_is_the_recorded_one(file: str, number: int) -> None:
    replay = replayed(file)[number]

    assert replay.mocked == replay.recorded


@pytest.mark.parametrize(("file", "label"), EXCEPT)
def test_an_exception_still_is_one(file: str, label: str) -> None:
    replay = [each for each in replayed(file) if each.exchange.label == label]

    assert [each.mocked == each.recorded for each in replay] == [False]
