"""The same objects without a fixture: in a script, a notebook, or another test framework.

`with` and `async with` do the same; the server is gone when the block ends.
"""

import asyncio

import httpx
import requests

import oceanmock


def test_a_block_has_a_sandbox_of_its_own() -> None:
    with oceanmock.running("retry-failed-subtask", progression="manual") as ocp:
        ocp.clock.advance("1m")

        answer = requests.get(f"{ocp.url}/api/v2/tasks/instances/1000", auth=ocp.auth, timeout=9)

        assert answer.json()["data"]["status"] == "FAILED"


async def statuses_of_two_tasks() -> list[str]:
    """What two sandboxes show, in an async program."""
    async with (
        oceanmock.running("rollback", progression="manual") as one,
        oceanmock.running("never-succeeds", progression="immediate") as other,
        httpx.AsyncClient(auth=one.auth) as http,
    ):
        looks = (f"{one.url}/api/v2/tasks/instances/5400", f"{other.url}/api/v2/tasks/instances/5300")
        answers = await asyncio.gather(*(http.get(look) for look in looks))
        return [answer.json()["data"]["status"] for answer in answers]


def test_an_async_block_does_the_same() -> None:
    assert asyncio.run(statuses_of_two_tasks()) == ["RUNNING", "FAILED"]
