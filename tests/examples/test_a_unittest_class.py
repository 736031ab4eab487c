"""A class of unittest: the fixture is an attribute, and each method has a sandbox of its own."""

import unittest

import pytest
import requests

from oceanmock import Ocp


@pytest.mark.usefixtures("ocp")
@pytest.mark.oceanmock("skip-failed-subtask", progression="manual")
class SkippingTest(unittest.TestCase):
    """What becomes of a subtask that nobody needs."""

    ocp: Ocp

    def setUp(self) -> None:
        self.ocp.clock.advance("10m")
        self.task = f"{self.ocp.url}/api/v2/tasks/instances/5700"

    def post(self, path: str) -> int:
        return requests.post(self.task + path, auth=self.ocp.auth, timeout=9).status_code

    def test_a_failed_subtask_is_skipped_and_the_task_goes_on(self) -> None:
        assert self.post("/subtasks/5702/skip") == 200

        self.ocp.clock.advance("10m")

        self.ocp.task(5700).assert_status("SUCCESSFUL")

    def test_nothing_of_that_is_left_for_the_next_test(self) -> None:
        self.ocp.task(5700).assert_status("FAILED")
        self.ocp.journal.assert_not_called()
