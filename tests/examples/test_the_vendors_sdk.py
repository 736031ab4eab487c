"""obshell's own SDK from PyPI, encryption and all, against a dag that stands still.

Under `manual` the clock moves when the test says so. The SDK's `_sync` calls sleep three seconds
between two looks; here those naps move the sandbox's clock, so nobody waits.
"""

from types import SimpleNamespace

import pytest
from obshell import OBShellHandleError, TaskExecuteFailedError

from oceanmock import Obshell

pytestmark = pytest.mark.oceanmock("initialize-cluster-fails", progression="manual")


@pytest.fixture(autouse=True)
def naps(obshell: Obshell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK sleeps by the sandbox's clock."""
    naps = SimpleNamespace(sleep=obshell.clock.sleep)
    monkeypatch.setattr("obshell.service.client_v1.time", naps)


def test_a_dag_is_watched_tick_by_tick(obshell: Obshell) -> None:
    sdk, dag = obshell.sdk(), obshell.dag(4)
    seen = [sdk.get_dag(dag.id)]

    for _ in range(3):
        obshell.clock.advance("1s")
        seen.append(sdk.get_dag(dag.id))

    assert [each.state for each in seen] == ["READY", "RUNNING", "RUNNING", "RUNNING"]
    assert [each.stage for each in seen] == [1, 1, 2, 2]


def test_the_sdk_says_why_a_dag_has_failed(obshell: Obshell) -> None:
    sdk, dag = obshell.sdk(), obshell.dag(4)

    with pytest.raises(TaskExecuteFailedError, match="No such file or directory"):
        sdk.wait_dag_succeed(dag.id)

    dag.assert_state("FAILED")


def test_a_failed_dag_is_rolled_back(obshell: Obshell) -> None:
    sdk, dag = obshell.sdk(), obshell.dag(4)
    obshell.clock.advance("1m")

    sdk.operate_dag_sync(dag.id, "ROLLBACK")

    dag.assert_state("SUCCEED")
    assert dag.operator == "ROLLBACK"
    obshell.journal.assert_called("dagHandler", body={"operator": "ROLLBACK"}, times=1)


def test_what_cannot_be_passed_is_refused(obshell: Obshell) -> None:
    sdk, dag = obshell.sdk(), obshell.dag(4)
    obshell.clock.advance("1m")

    with pytest.raises(OBShellHandleError, match="node Cluster boostrap cannot pass"):
        sdk.operate_dag(dag.id, "PASS")

    dag.assert_state("FAILED")
