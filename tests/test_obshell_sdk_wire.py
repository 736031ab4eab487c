"""What the vendor's own SDK, obshell 0.0.9 from PyPI, sends to get one answer, and to whom it gets.

Passwords, the requests around a request, two clients at once, and servers that went away. What the
requests are about is test_obshell_sdk's.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier
from typing import Any, Final

import httpx
import pytest
from Crypto.PublicKey import RSA
from obshell import OBShellHandleError

from command import PATIENCE
from obshell_sdk import INITIALIZE, Served, local, served, shown, standing, told

Serve = Callable[[str], Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve scenarios until the test is over."""
    with ExitStack() as stack:
        yield lambda scenario: stack.enter_context(served(scenario))


# --- passwords ------------------------------------------------------------------------------------

DAG_4: Final = f"GET task/dag/{local(4)}"
INCORRECT: Final = "Security.Authentication.IncorrectOceanbasePassword"
WITH_AGENT_PASSWORD: Final = "Security.Authentication.WithAgentPassword"


def of_agent(agent: str) -> str:
    """INITIALIZE on an agent that is described so."""
    return f"{INITIALIZE}agent: {{{agent}}}\n"


def test_the_right_password_is_sealed_after_three_questions(serve: Serve) -> None:
    mock = serve(INITIALIZE)

    mock.client().get_dag(local(4))

    assert mock.asked == ["GET info", "GET info", "GET secret", DAG_4]


def test_what_was_answered_is_not_asked_again(serve: Serve) -> None:
    mock = serve(INITIALIZE)
    client = mock.client()
    client.get_dag(local(4))

    client.get_node(local(401))

    assert mock.asked[4:] == [f"GET task/node/{local(401)}"]


def test_a_client_that_names_its_version_asks_before_every_request(serve: Serve) -> None:
    mock = serve(INITIALIZE)
    client = mock.client(version="v2")
    client.get_dag(local(4))

    client.get_dag(local(4))

    assert mock.asked[4:] == ["GET info", DAG_4]


def test_a_server_too_old_to_name_its_version_is_taken_for_v2(serve: Serve) -> None:
    client = serve(f"{INITIALIZE}switches: {{obshell_version: 4.2.3.0}}\n").client()

    assert client.get_dag(local(4)).name == "Initialize cluster"


@pytest.mark.parametrize(("version", "bits"), [("4.2.3.0", 512), ("4.4.1.9", 512), ("4.4.2.0", 1024)])
def test_a_key_has_512_bits_before_4_4_2(serve: Serve, version: str, bits: int) -> None:
    mock = serve(f"{INITIALIZE}switches: {{obshell_version: {version}}}\n")
    mock.later(60)

    assert mock.client().operate_dag(local(4), "ROLLBACK")

    key = httpx.get(f"{mock.sandbox.url}/api/v1/secret").json()["data"]["public_key"]
    assert RSA.import_key(base64.b64decode(key)).size_in_bits() == bits


@pytest.mark.parametrize("password", ["", 'pa\'ss "word"\\', "密码 пароль 🔑", "0123456789" * 20], ids=len)
def test_any_text_can_be_the_password(serve: Serve, password: str) -> None:
    mock = serve(of_agent(f"root_password: {json.dumps(password, ensure_ascii=False)}"))

    assert mock.client(password).get_dag(local(4)).dag_id == 4


def test_a_wrong_password_is_refused_in_the_servers_words(serve: Serve) -> None:
    client = serve(INITIALIZE).client("wrong")

    with pytest.raises(OBShellHandleError) as refused:
        client.get_dag(local(4))

    assert told(refused.value) == (10008, INCORRECT, "Unauthorized: OceanBase password is incorrect")


def test_a_wrong_password_is_tried_twice_and_all_is_asked_anew_in_between(serve: Serve) -> None:
    mock = serve(INITIALIZE)

    with pytest.raises(OBShellHandleError):
        mock.client("wrong").get_dag(local(4))

    assert mock.asked == ["GET info", "GET info", "GET secret", DAG_4] * 2


def test_a_wrong_password_operates_nothing(serve: Serve) -> None:
    mock = serve(INITIALIZE)
    mock.later(60)

    with pytest.raises(OBShellHandleError):
        mock.client("wrong").operate_dag(local(4), "ROLLBACK")

    assert mock.client().get_dag(local(4)).is_failed()


def test_the_right_password_is_taken_after_a_wrong_one(serve: Serve) -> None:
    mock = serve(INITIALIZE)
    with pytest.raises(OBShellHandleError):
        mock.client("wrong").get_dag(local(4))

    assert mock.client().get_dag(local(4)).dag_id == 4


def test_a_header_past_its_lifetime_is_refused(serve: Serve) -> None:
    client = serve(INITIALIZE).client(lifetime=-10)

    with pytest.raises(OBShellHandleError) as refused:
        client.get_dag(local(4))

    message = "Unauthorized: Authentication expired"
    assert told(refused.value) == (10008, "Security.Authentication.Expired", message)


@pytest.mark.parametrize("password", [None, "", "whatever"])
def test_a_single_agent_takes_any_password(serve: Serve, password: str | None) -> None:
    client = serve(of_agent("identity: SINGLE")).client(password)

    assert client.get_dag(local(4)).dag_id == 4


def test_a_single_agent_with_a_password_of_its_own_takes_no_other(serve: Serve) -> None:
    client = serve(of_agent("identity: SINGLE, agent_password: secret")).client()

    with pytest.raises(OBShellHandleError) as refused:
        client.get_dag(local(4))

    why = "Should use agent_password to verify: agent password has been set"
    assert told(refused.value) == (10008, WITH_AGENT_PASSWORD, f"Unauthorized: {why}")


@pytest.mark.parametrize("identity", ["SINGLE", "MASTER", "CLUSTER AGENT"])
def test_an_agents_own_password_comes_in_a_header_of_its_own(serve: Serve, identity: str) -> None:
    mock = serve(of_agent(f"identity: {identity}, agent_password: secret"))

    dag = mock.client("wrong", agent_password="secret").get_dag(local(4))

    assert dag.dag_id == 4
    assert mock.sealed == ["x-ocs-agent-header"]


def test_a_wrong_password_of_an_agents_own_is_refused(serve: Serve) -> None:
    client = serve(of_agent("agent_password: secret")).client(agent_password="wrong")

    with pytest.raises(OBShellHandleError) as refused:
        client.get_dag(local(4))

    assert told(refused.value) == (
        10008,
        "Security.Authentication.IncorrectAgentPassword",
        "Unauthorized: Agent password is incorrect",
    )


def test_an_agents_own_password_is_not_sent_to_one_that_has_none(serve: Serve) -> None:
    mock = serve(INITIALIZE)

    mock.client(agent_password="secret").get_dag(local(4))

    assert mock.sealed == ["x-ocs-header"]


OF_OBPROXY: Final = """
summary: An obproxy cannot be started
api: obshell
progression: manual
agent: {agent_password: secret}
dags:
  - id: 6
    name: Start obproxy
    maintenance: obproxy
    age: 1m
    nodes: [{name: Start obproxy, can: [retry], sub_tasks: [{attempts: [{ends: FAILED}, {}]}]}]
"""
OBPROXY_DAG: Final = "42130706433028866"


def test_an_obproxys_dag_is_read_and_retried_with_its_agents_own_password(serve: Serve) -> None:
    client = serve(OF_OBPROXY).client(agent_password="secret")

    succeeded = client.operate_dag_sync(OBPROXY_DAG, "RETRY")

    dag = client.get_dag(OBPROXY_DAG)
    assert succeeded is True
    assert (dag.generic_id, *standing(dag)) == (OBPROXY_DAG, "SUCCEED", "RUN", 1)


def test_an_obproxys_dag_is_not_shown_for_oceanbases_password(serve: Serve) -> None:
    client = serve(OF_OBPROXY).client()

    with pytest.raises(OBShellHandleError) as refused:
        client.get_dag(OBPROXY_DAG)

    why = "Should use agent_password to verify: this route only support agent password"
    assert told(refused.value) == (10008, WITH_AGENT_PASSWORD, f"Unauthorized: {why}")


# --- more than one request ------------------------------------------------------------------------


def test_whatever_is_refused_is_sent_a_second_time(serve: Serve) -> None:
    mock = serve(INITIALIZE)

    with pytest.raises(OBShellHandleError):
        mock.client().operate_dag(local(4), "RETRY")

    assert mock.asked[3:] == [f"POST task/dag/{local(4)}"] * 2


def test_two_clients_at_once_each_read_with_a_key_of_their_own(serve: Serve) -> None:
    mock = serve("initialize-cluster-fails")
    mock.later(60)
    both = Barrier(2, timeout=PATIENCE)

    def read() -> list[Any]:
        client = mock.client()
        both.wait()
        return [shown(client.get_dag(local(4))) for _ in range(20)]

    with ThreadPoolExecutor(2) as pool:
        mine, others = pool.map(lambda _: read(), range(2))

    assert mine == others == [shown(mock.client().get_dag(local(4)))] * 20


def test_of_two_clients_that_retry_at_once_one_is_refused(serve: Serve) -> None:
    mock = serve("initialize-cluster-fails")
    mock.later(60)
    both = Barrier(2, timeout=PATIENCE)

    def retry() -> object:
        client = mock.client()
        both.wait()
        try:
            return client.operate_dag(local(4), "RETRY")
        except OBShellHandleError as refusal:
            return refusal.err_code

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: retry(), range(2)))

    assert sorted(answers, key=str) == ["Task.Dag.Operator.RetryNotFailedDag", True]
