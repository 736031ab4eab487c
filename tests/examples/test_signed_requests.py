"""Clients that sign: OCP's access keys, by httpx and by requests alike.

`ocp.access_key` is ready to be anybody's `auth=`. A signature covers the path and the host, which
is why each sandbox has a port of its own.
"""

import httpx
import pytest
import requests

from oceanmock import Ocp

pytestmark = pytest.mark.oceanmock("retry-failed-subtask", progression="manual")

TASK = "/api/v2/tasks/instances/1000"


def test_httpx_signs(ocp: Ocp) -> None:
    answer = httpx.get(ocp.url + TASK, auth=ocp.access_key)

    assert answer.status_code == 200
    ocp.journal.assert_called("getTaskInstance", caller=ocp.access_key.id)


def test_requests_signs(ocp: Ocp) -> None:
    answer = requests.get(ocp.url + TASK, auth=ocp.access_key, timeout=9)

    assert answer.status_code == 200


def test_nobody_gets_in_without(ocp: Ocp) -> None:
    assert httpx.get(ocp.url + TASK).status_code == 401

    ocp.journal.assert_called("getTaskInstance", status=401, caller="")
