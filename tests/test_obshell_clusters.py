"""The life of an agent, and several agents in one sandbox: each at a port of its own, with its own dags, lock and key.

What a FOLLOWER forwards, and what the lists of a cluster join, is read in ob/agent/api/common/middleware.go and
ob/agent/executor/task/dag.go; the ids of a pair were recorded (tests/data/obshell/pass-dag.json).
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import httpx
import pytest
from obshell import OBShellHandleError, TaskExecuteFailedError
from obshell.auth import PasswordAuth
from obshell.model.tenant import ZoneParam
from obshell.service import client_v1

from command import serving
from oceanmock import Obshell
from oceanmock.credentials import Sealed
from oceanmock.errors import InputError
from oceanmock.library import load_scenario, read_scenario
from served import client, load_yaml, server

PAIR: Final = """
summary: A master and a follower, each with a dag of its own that has failed
api: obshell
progression: manual
agents:
  - {identity: MASTER}
  - {identity: FOLLOWER, phase: 300ms}
dags:
  - name: Initialize cluster
    maintenance: global
    nodes: [{name: Start observer, can: [rollback], sub_tasks: [{agent: 1}, {agent: 2, ends: FAILED}]}]
  - name: Start observer
    agent: 2
    maintenance: global
    nodes: [{name: Start, can: [pass], sub_tasks: [{ends: FAILED, additional_data: {main_dag_id: "%s"}}]}]
  - {name: Add host, starts_on: {path: /api/v1/host/check}, nodes: [Add]}
"""
CLUSTER: Final = """
summary: Three agents of a cluster, two with a dag of their own
api: obshell
progression: manual
agents: [{identity: CLUSTER AGENT}, {identity: CLUSTER AGENT}, {identity: CLUSTER AGENT}]
dags:
  - {name: Upgrade agent, maintenance: global, nodes: [{sub_tasks: {ends: FAILED}}]}
  - {name: Upgrade agent, agent: 3, maintenance: global, nodes: [{sub_tasks: {takes: forever}}]}
  - {id: 7, name: Scale out, scope: cluster, maintenance: global, nodes: [{sub_tasks: {takes: forever}}]}
"""
PASSWORD: Final = "oceanmock"
NANOSECONDS: Final = "2021-08-25T15:09:31.123456789Z"


def pair() -> Obshell:
    """A master and a follower that need no credentials, a minute later."""
    sandbox = server().obshell(load_yaml(PAIR), auth=False, seed=1)
    sandbox.clock.advance("60s")
    return sandbox


@pytest.fixture(scope="module")
def agents() -> Iterator[Obshell]:
    """A master and a follower of the whole module, which only read."""
    with pair() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def cluster() -> Iterator[Obshell]:
    """Three agents of a cluster, of the whole module."""
    with server().obshell(load_yaml(CLUSTER), auth=False, starts_at=NANOSECONDS) as sandbox:
        sandbox.clock.advance("60s")
        yield sandbox


def ask(sandbox: Obshell, number: int, path: str, method: str = "GET", **options: Any) -> Any:
    """The body of an agent's response; ``number`` counts the agents from 1."""
    return client().request(method, f"{sandbox.agents[number - 1].url}/api/v1/{path}", **options).json()


def names(sandbox: Obshell, number: int, path: str) -> list[str]:
    """The names of the dags that an agent lists."""
    return [dag["name"] for dag in ask(sandbox, number, f"task/{path}")["data"]["contents"]]


def identities(sandbox: Obshell) -> list[str]:
    """The identity of each agent."""
    return [ask(sandbox, number, "info")["data"]["identity"] for number in range(1, 1 + len(sandbox.agents))]


# --- the vendor's SDK -----------------------------------------------------------------------------


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[Obshell]:
    """A sandbox whose clock the SDK's naps move."""
    with server().obshell(progression="manual") as sandbox:
        nap = SimpleNamespace(sleep=lambda seconds: sandbox.clock.advance(f"{seconds}s"))
        monkeypatch.setattr(client_v1, "time", nap)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield sandbox


def create(sandbox: Obshell, **options: Any) -> None:
    """Call the SDK's agg_create_cluster at the first agent, for both."""
    places = [f"{agent.ip}:{agent.port}" for agent in sandbox.agents]
    config = {place: {"zone": f"zone{n}", "memory_limit": "8G"} for n, place in enumerate(places, start=1)}
    sandbox.sdk().agg_create_cluster(config, "obcluster", 1, PASSWORD, **options)


def of_library(name: str) -> Any:
    """A scenario of the library, to be changed."""
    return json.loads(load_scenario(name).source)


def test_the_sdk_makes_a_cluster_of_two_agents(fresh: Obshell) -> None:
    create(fresh.load("cluster-of-two"))

    joined = fresh.dag("Join to master")
    assert identities(fresh) == ["CLUSTER AGENT", "CLUSTER AGENT"]
    assert joined.id.startswith(f"22130706433{fresh.agents[1].port:05}")
    assert fresh.journal.all(operation="getDagDetail", dag=joined.id)


def test_the_sdk_clears_two_agents_whose_initialization_has_failed(fresh: Obshell) -> None:
    scenario = of_library("cluster-of-two")
    scenario["dags"][4]["nodes"][2]["sub_tasks"][1] = {"agent": 2, "ends": "FAILED"}
    del scenario["story"]
    fresh.load(scenario)

    with pytest.raises(TaskExecuteFailedError):
        create(fresh, clear_if_failed=True)

    fresh.dag("Remove all agents").assert_state("SUCCEED")
    assert identities(fresh) == ["SINGLE", "SINGLE"]


def test_the_sdk_leads_one_agent_from_single_to_a_tenant_and_a_password(fresh: Obshell) -> None:
    scenario = of_library("single-to-tenant")
    scenario["agent"]["root_password"] = None
    scenario["dags"][3]["makes"]["root_password"] = PASSWORD
    create(fresh.load(scenario))

    client = fresh.sdk(auth=PasswordAuth(PASSWORD))
    client.create_tenant_sync("t1", [ZoneParam("zone1", "unit", 1)])

    assert fresh.dags()[-1].name == "Create tenant t1"
    assert identities(fresh) == ["CLUSTER AGENT"]
    with pytest.raises(OBShellHandleError, match="OceanBase password is incorrect"):
        fresh.sdk(auth=PasswordAuth("")).get_unfinished_dags()
    assert fresh.sdk().get_unfinished_dags() == []


def test_the_sdk_retries_a_take_over_that_failed(fresh: Obshell) -> None:
    fresh.load("take-over")
    sdk, before = fresh.sdk(), identities(fresh)
    (dag,) = sdk.get_agent_unfinished_dag()
    with pytest.raises(TaskExecuteFailedError, match="connection refused"):
        sdk.wait_dag_succeed(dag.generic_id)
    sdk.operate_dag_sync(dag.generic_id, "RETRY")

    assert (before, identities(fresh)) == (["TAKE OVER MASTER", "TAKE OVER FOLLOWER"], ["CLUSTER AGENT"] * 2)


def test_the_sdk_clears_a_master_that_is_single_again(fresh: Obshell) -> None:
    fresh.load("single-to-tenant")
    agent, client = fresh.agents[0], fresh.sdk()
    client.join_sync(agent.ip, agent.port, "zone1")

    client.agg_clear_uninitialized_agent()

    assert identities(fresh) == ["SINGLE"]
    assert client.join_sync(agent.ip, agent.port, "zone1").is_succeed()


UPGRADE: Final = """
summary: An agent of 4.2.3 becomes one of 4.5
api: obshell
progression: manual
switches: {obshell_version: 4.2.3.0}
dags:
  - name: Upgrade obshell
    starts_on: {path: /api/v1/host/check}
    makes: {obshell_version: 4.5.0.0, agent_password: secret}
    nodes: [Upgrade]
"""


def test_a_dag_makes_the_agent_one_of_another_version() -> None:
    with server().obshell(load_yaml(UPGRADE), auth=False) as sandbox:
        paths = ("task/dags/agent", "task/dag/x")
        old = [ask(sandbox, 1, path) for path in paths for _ in range(2)]
        old_key = ask(sandbox, 1, "secret")["data"]["public_key"]
        ask(sandbox, 1, "host/check", "POST")
        sandbox.clock.advance("10s")
        new = [ask(sandbox, 1, path) for path in paths for _ in range(2)]
        new_key = ask(sandbox, 1, "secret")["data"]["public_key"]
        info = ask(sandbox, 1, "info")["data"]

    assert [answer["successful"] for answer in old] == [False, False, False, False]  # there is no such list
    assert [answer["successful"] for answer in new] == [True, True, False, False]
    assert ["errCode" in answer["error"] for answer in (old[2], new[2])] == [False, True]
    assert (info["version"], info["supportedAuth"], info["security"]) == ("4.5.0.0-1", ["v2"], True)
    assert (len(old_key), len(new_key)) == (100, 188)  # of 512 bits and 1024


# --- what goes to another agent -------------------------------------------------------------------


def test_an_id_of_another_agent_is_answered_by_its_owner(agents: Obshell) -> None:
    own, other = (f"22130706433{agent.port:05}1" for agent in agents.agents)

    answers = [ask(agents, asked, f"task/dag/{id}")["data"]["name"] for asked in (1, 2) for id in (own, other)]

    assert answers == ["Initialize cluster", "Start observer"] * 2


def test_an_id_of_an_unknown_agent_cannot_be_reached(agents: Obshell) -> None:
    answer = ask(agents, 1, "task/dag/22130706433000011")

    assert answer["error"]["message"].endswith("dial tcp 127.0.0.1:1: connect: connection refused")


def test_a_follower_forwards_lists_to_its_master_but_for_its_own_maintenance(agents: Obshell) -> None:
    assert names(agents, 2, "dags/agent") == names(agents, 2, "dag/unfinish") == ["Initialize cluster"]
    assert ask(agents, 2, "task/dag/maintain/agent")["data"]["name"] == "Start observer"
    assert ask(agents, 2, "status")["data"]["agent"]["identity"] == "FOLLOWER"


@pytest.mark.parametrize(
    ("asked", "path", "message"),
    [
        (2, "agent/join", "'{}' is 'SINGLE', instead of 'MASTER', does not support this operation"),
        (1, "ob/scale_out", "'{}' is 'MASTER', instead of 'SINGLE', does not support this operation"),
    ],
)
def test_an_agent_is_joined_with_one_that_is_what_it_must_be(asked: int, path: str, message: str) -> None:
    """ob/agent/api/agent_handler.go:91-98, ob/agent/executor/ob/scale_out.go:73-75."""
    identities = ["SINGLE", "SINGLE"] if asked == 2 else ["CLUSTER AGENT", "MASTER"]
    scenario = {**load_yaml(PAIR), "agents": [{"identity": identity} for identity in identities]}
    with server().obshell(scenario, auth=False) as sandbox:
        other = sandbox.agents[2 - asked]
        body = {"agentInfo": {"ip": other.ip, "port": other.port}, "zoneName": "z", "zone": "z", "obConfigs": {}}
        error = ask(sandbox, asked, path, "POST", json=body)["error"]

    assert error["message"] == message.format(f"{other.ip}:{other.port}")


def test_a_follower_starts_a_dag_on_its_master() -> None:
    with pair() as sandbox:
        started = ask(sandbox, 2, "host/check", "POST")["data"]

        assert started["id"].startswith(f"22130706433{sandbox.agents[0].port:05}")


def test_the_pass_of_another_agent_s_node_loses_its_body_on_the_way() -> None:
    with pair() as sandbox:
        node = f"task/node/{sandbox.dags()[1].nodes[0].id}"

        message = ask(sandbox, 1, node, "POST", json={"operator": "PASS"})["error"]["message"]

        assert message.endswith("Error:Field validation for 'Operator' failed on the 'required' tag")
        sandbox.dags()[1].assert_state("FAILED")


def test_a_dag_of_another_agent_is_operated() -> None:
    with pair() as sandbox:
        dag = sandbox.dags()[1]

        answer = ask(sandbox, 1, f"task/dag/{dag.id}", "POST", json={"operator": "PASS"})

        assert answer["successful"]
        dag.assert_state("SUCCEED", operator="PASS")


SCALING: Final = """
summary: An agent that is added asks for the dag of the cluster that adds it
api: obshell
progression: manual
agents: [{identity: CLUSTER AGENT}, {identity: SCALING OUT}]
dags:
  - {name: Join, agent: 2, maintenance: global, nodes: [Join]}
  - {id: 6, name: Older, scope: cluster, maintenance: global, nodes: [Upgrade]}
  - {id: 7, name: Cluster scale out, scope: cluster, maintenance: global, nodes: [Add server]}
"""


def test_an_agent_that_is_added_forwards_for_the_dag_that_adds_it_alone() -> None:
    with server().obshell(load_yaml(SCALING), auth=False) as sandbox:
        found, other = (ask(sandbox, 2, f"task/dag/{id}") for id in (17, 16))
    alone = load_yaml(SCALING.replace("  - {name: Join, agent: 2, maintenance: global, nodes: [Join]}\n", ""))
    with server().obshell(alone, auth=False) as sandbox:
        unmaintained = ask(sandbox, 2, "task/dag/17")

    assert found["data"]["name"] == "Cluster scale out"
    assert other["error"]["message"] == "Unexpected error: coordinate cluster agent is not found or not match"
    assert unmaintained["error"]["message"] == "Unexpected error: Internal Server Error"


def test_a_follower_without_a_master_forwards_nothing() -> None:
    scenario = {**load_yaml(PAIR), "agents": [{"identity": "SINGLE"}, {"identity": "FOLLOWER"}]}
    with server().obshell(scenario, auth=False) as sandbox:
        error = ask(sandbox, 2, "task/dags/agent")["error"]

        assert error["errCode"] == "Request.Forward.MasterAgent.NotFound"
    with server().obshell(scenario) as sandbox:
        answers = [ask(sandbox, 2, "task/dags/agent", auth=auth) for auth in (None, Sealed("wrong", "own"))]

        codes = [answer["error"]["errCode"] for answer in answers]
        assert codes == ["Request.Header.NotFound", "Request.Forward.MasterAgent.NotFound"]


def test_the_own_password_of_an_agent_is_not_forwarded_to_its_master() -> None:
    scenario = load_yaml(PAIR)
    scenario["agents"] = [{**agent, "agent_password": "own"} for agent in scenario["agents"]]
    with server().obshell(scenario) as sandbox:
        by_master, by_follower = (ask(sandbox, n, "task/dags/agent", auth=Sealed(PASSWORD, "own")) for n in (1, 2))

    assert by_master["successful"]
    assert by_follower["error"]["errCode"] == "Request.Forward.Header.NotExist"


def test_the_password_that_a_follower_forwards_is_its_master_s() -> None:
    scenario = load_yaml(PAIR)
    scenario["agents"][0]["root_password"] = "of the master"
    with server().obshell(scenario) as sandbox:
        sdk = sandbox.agents[1].sdk(auth=PasswordAuth("of the master"))
        wrong = sandbox.agents[1].sdk(auth=PasswordAuth(PASSWORD))

        assert [dag.name for dag in sdk.get_unfinished_dags()] == ["Initialize cluster"]
        with pytest.raises(OBShellHandleError, match="OceanBase password is incorrect"):
            wrong.get_unfinished_dags()


def test_what_a_follower_refuses_itself_is_of_its_own_version_and_time_zone() -> None:
    scenario = load_yaml(PAIR) | {"switches": {"obshell_version": "4.3.0.0"}}
    scenario["agents"][0]["timezone"] = "Asia/Shanghai"
    scenario["dags"].append({"makes": {"obshell_version": "4.5.0.0"}, "nodes": ["Upgrade"]})
    with server().obshell(scenario) as sandbox:
        sandbox.clock.advance("60s")
        own, forwarded = (ask(sandbox, 2, "task/dags/agent", auth=auth) for auth in (None, Sealed("wrong")))

    assert ([*own["error"]], own["timestamp"][-1]) == (["code", "message"], "Z")
    assert ([*forwarded["error"]], forwarded["timestamp"][-6:]) == (["code", "errCode", "message"], "+08:00")


def test_a_trace_id_is_not_forwarded(agents: Obshell) -> None:
    """ob/agent/api/common/forward_handler.go:48: of the headers only Accept-Language is."""
    by_master, by_follower = (
        ask(agents, number, "task/dags/agent", headers={"X-OBSHELL-Trace-ID": "mine"}) for number in (1, 2)
    )

    assert (by_master["traceId"], len(by_follower["traceId"])) == ("mine", 16)


@pytest.mark.parametrize("agent", [{"identity": "SINGLE"}, {"root_password": None}, {"identity": "FOLLOWER"}], ids=str)
def test_a_sandbox_has_the_password_that_its_agent_takes(agent: dict[str, Any]) -> None:
    scenario = {**load_yaml(PAIR), "agent": {**agent, "agent_password": "own"}, "dags": [{"id": 4, "nodes": ["Start"]}]}
    del scenario["agents"]
    with server().obshell(scenario) as sandbox:
        id = sandbox.dag(4).id

        assert sandbox.sdk().get_dag(id).name == ask_dag(sandbox, id)["data"]["name"]


def ask_dag(sandbox: Obshell, id: str) -> Any:
    """The response to a sealed request for a dag."""
    return client().get(f"{sandbox.url}/api/v1/task/dag/{id}", auth=sandbox.auth).json()


# --- what each has of its own ---------------------------------------------------------------------


def test_each_agent_has_a_key_of_its_own(agents: Obshell) -> None:
    one, other = (ask(agents, number, "secret")["data"] for number in (1, 2))

    assert one["public_key"] != other["public_key"]
    assert [one["port"], other["port"]] == [agent.port for agent in agents.agents]


def test_agents_share_numbers_and_neither_lock_nor_ticks(agents: Obshell) -> None:
    one, other = agents.dags()

    starts = [dag.json()["created"] for dag in (one, other)]
    assert one.id[-1] == other.id[-1] == "1"
    assert starts[0] == starts[1]
    begun = [ask(agents, 1, f"task/dag/{dag.id}")["data"]["start_time"] for dag in (one, other)]
    assert (instant(begun[1]) - instant(begun[0])) % 1000 == 300


def instant(text: str) -> int:
    """The milliseconds of a time, of its minute."""
    return round(float(text.split(":")[2].rstrip("Z")[:6].split("+")[0]) * 1000)


def test_a_sub_task_names_the_agent_that_runs_it(agents: Obshell) -> None:
    node = ask(agents, 1, f"task/dag/{agents.dags()[0].id}")["data"]["nodes"][0]

    ports = [sub_task["execute_agent"]["port"] for sub_task in node["sub_tasks"]]
    assert ports == [agent.port for agent in agents.agents]


# --- what is of the whole cluster -----------------------------------------------------------------


def test_the_last_maintenance_dag_of_every_agent_is_listed_the_asked_one_s_first(cluster: Obshell) -> None:
    ids = [cluster.dags()[0].id, cluster.dags()[1].id]

    first, third = (
        [
            (dag["id"], dag["nodes"] is None)
            for dag in ask(cluster, number, "task/dag/maintain/agents?show_details=false")["data"]["contents"]
        ]
        for number in (1, 3)
    )

    assert first == [(ids[0], True), (ids[1], False)]
    assert third == [(ids[1], True), (ids[0], False)]


def test_the_main_dag_of_a_follower_s_dag_is_listed_by_its_master() -> None:
    scenario = load_yaml(PAIR)
    scenario["agents"][0]["port"], scenario["agents"][1]["port"] = free_ports(2)
    scenario["dags"][1]["nodes"][0]["sub_tasks"][0]["additional_data"]["main_dag_id"] = (
        f"22130706433{scenario['agents'][0]['port']:05}1"
    )
    with server().obshell(scenario, auth=False) as sandbox:
        sandbox.clock.advance("60s")

        assert names(sandbox, 1, "dag/agent/main_dags") == ["Initialize cluster"]


def test_a_list_of_main_dags_is_of_the_agent_that_lists_them() -> None:
    scenario = load_yaml(PAIR)
    scenario["agents"][0] |= {"port": free_ports(1)[0], "timezone": "Asia/Shanghai"}
    scenario["agents"][1] |= {"identity": "MASTER", "port": free_ports(1)[0]}
    main_id = f"22130706433{scenario['agents'][1]['port']:05}1"
    scenario["dags"][1]["nodes"][0]["sub_tasks"][0]["additional_data"]["main_dag_id"] = main_id
    with server().obshell(scenario, auth=False) as sandbox:
        sandbox.clock.advance("60s")
        listed = ask(sandbox, 1, "task/dag/agent/main_dags")

    assert (len(listed["data"]["contents"]), listed["timestamp"][-6:]) == (1, "+08:00")


def test_every_agent_of_a_cluster_lists_what_is_unfinished_on_all_and_in_oceanbase(cluster: Obshell) -> None:
    lists = [names(cluster, number, "dag/unfinish") for number in (1, 2)]

    assert lists == [["Upgrade agent", "Upgrade agent", "Scale out"]] * 2
    assert names(cluster, 2, "dag/agent/unfinish") == []
    assert names(cluster, 2, "dags/ob") == names(cluster, 3, "dags/ob") == ["Scale out"]


def test_oceanbase_keeps_the_times_of_its_dags_to_the_microsecond(cluster: Obshell) -> None:
    own, shared = (ask(cluster, 1, f"task/{path}")["data"]["contents"][0] for path in ("dags/agent", "dags/ob"))

    assert own["start_time"] == "2021-08-25T15:09:32.123456789Z"
    assert shared["start_time"] == "2021-08-25T15:09:32.123456Z"


def test_an_agent_writes_each_time_in_its_own_time_zone_and_a_reset_one_too() -> None:
    """(ob/agent/lib/http/response.go:147-153, service/task/dag.go:29.)"""
    scenario = load_yaml(PAIR) | {"stubs": [{"path": "/api/v1/now", "data": "{now}"}]}
    scenario["agents"][0]["timezone"] = "Asia/Shanghai"
    with server().obshell(scenario, auth=False, starts_at=NANOSECONDS) as sandbox:
        sandbox.clock.advance("60s")
        (dag,) = ask(sandbox, 1, "task/dags/agent")["data"]["contents"]
        body = ask(sandbox, 1, f"task/dag/{dag['id']}", "POST", json={"operator": "rollback"})
        reset = ask(sandbox, 1, f"task/dag/{dag['id']}")["data"]
        stub, time, other = (ask(sandbox, *which)["data"] for which in ((1, "now"), (1, "time"), (2, "time")))
        sub_task = dag["nodes"][0]["sub_tasks"][0]["id"]
        line = ask(sandbox, 1, f"task/sub_task/{sub_task}/logs")

    assert (dag["start_time"], body["timestamp"]) == ("2021-08-25T23:09:32.123456789+08:00", time)
    assert (reset["start_time"], reset["nodes"][0]["end_time"]) == ("1970-01-01T08:00:00+08:00",) * 2
    assert (stub, time, other) == (time, "2021-08-25T23:10:31.123456789+08:00", "2021-08-25T15:10:31.123456789Z")
    assert line["timestamp"] == time


def test_the_agents_of_a_cluster_are_listed_with_their_states(cluster: Obshell) -> None:
    addresses = [f"{agent.ip}:{agent.port}" for agent in cluster.agents]

    states = ask(cluster, 2, "agents/status")["data"]
    info = ask(cluster, 3, "ob/info")["data"]
    assert [*states] == sorted(addresses)
    assert [f"{each['ip']}:{each['port']}" for each in info["agent_info"]] == addresses
    assert [states[address]["underMaintenance"] for address in addresses] == [True, False, True]
    assert [*info["obcluster_info"]["topology"]] == ["zone1", "zone2", "zone3"]


def test_maps_of_agents_and_zones_have_their_keys_in_order_as_go_writes_them() -> None:
    scenario = load_yaml(CLUSTER)
    scenario["agents"] = [{"identity": "CLUSTER AGENT", "port": 2900 - number} for number in range(10)]
    with server().obshell(scenario, auth=False) as sandbox:
        addresses = [*ask(sandbox, 1, "agents/status")["data"]]
        zones = [*ask(sandbox, 1, "ob/info")["data"]["obcluster_info"]["topology"]]

    assert (addresses, zones) == (sorted(addresses), ["zone1", "zone10", *[f"zone{number}" for number in range(2, 10)]])


def test_an_agent_that_leaves_names_itself_alone_and_an_unidentified_one_nothing() -> None:
    """ob/agent/executor/ob/info.go:38-61."""
    scenario = load_yaml(CLUSTER)
    scenario["agents"][1:] = [{"identity": "SCALING IN"}, {"identity": "UNIDENTIFIED"}]
    with server().obshell(scenario, auth=False) as sandbox:
        leaving, unidentified = (ask(sandbox, number, "ob/info") for number in (2, 3))

    assert [agent["identity"] for agent in leaving["data"]["agent_info"]] == ["SCALING IN"]
    assert unidentified["error"]["message"] == "Agent identify is unknown: UNIDENTIFIED"


def test_each_agent_of_a_list_has_its_own_version() -> None:
    scenario = load_yaml(CLUSTER)
    scenario["dags"][0] = {"name": "Upgrade agent", "makes": {"obshell_version": "4.4.1.0"}, "nodes": ["Upgrade"]}
    with server().obshell(scenario, auth=False) as sandbox:
        sandbox.clock.advance("60s")
        states = ask(sandbox, 2, "agents/status")["data"]
        agents = ask(sandbox, 2, "ob/info")["data"]["agent_info"]

    assert [agent["version"] for agent in agents] == ["4.4.1.0-1", "4.5.0.0-1", "4.5.0.0-1"]
    assert [states[f"{agent['ip']}:{agent['port']}"]["version"] for agent in agents] == [it["version"] for it in agents]


# --- ports ----------------------------------------------------------------------------------------


def free_ports(count: int) -> list[int]:
    """Ports at which nothing listens now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def test_an_agent_listens_at_the_port_that_its_scenario_states() -> None:
    scenario, ports = load_yaml(PAIR), free_ports(2)
    scenario["agents"] = [{**agent, "port": port} for agent, port in zip(scenario["agents"], ports, strict=True)]

    with server().obshell(scenario, auth=False) as sandbox:
        answers = [client().get(f"http://127.0.0.1:{port}/api/v1/info").json()["data"]["port"] for port in ports]
        with pytest.raises(InputError, match=f"127.0.0.1:{ports[0]}: Address already in use"):
            server().obshell(scenario)

    assert answers == ports
    assert sandbox.is_closed


def test_a_scenario_whose_port_is_taken_changes_nothing() -> None:
    scenario, (free,) = load_yaml(PAIR), free_ports(1)
    with server().obshell(auth=False) as sandbox, closing(socket.create_server(("127.0.0.1", 0))) as taken:
        sandbox.dag("Stays", ["a"])
        for agent, port in zip(scenario["agents"], (free, taken.getsockname()[1]), strict=True):
            agent["port"] = port

        with pytest.raises(InputError, match="Address already in use"):
            sandbox.admin.ask("POST", "/scenarios", {"replace": True, "scenarios": [scenario]})

        assert [dag["name"] for dag in sandbox.admin.ask("GET", "/tasks")["tasks"]] == ["Stays"]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", free))


def test_ports_stay_after_a_reset_and_close_with_the_sandbox() -> None:
    with pair() as sandbox:
        before = [agent.port for agent in sandbox.agents]
        sandbox.reset()

        assert [agent.port for agent in sandbox.agents] == before
    for port in before:
        with pytest.raises(httpx.ConnectError):
            client().get(f"http://127.0.0.1:{port}/")


def test_agents_that_are_loaded_later_get_ports_too() -> None:
    with server().obshell(auth=False) as sandbox:
        sandbox.load(load_yaml(PAIR))

        assert sandbox.agents[0].url == sandbox.url
        assert identities(sandbox) == ["MASTER", "FOLLOWER"]


@pytest.mark.slow
def test_serve_prints_the_agents_and_keeps_their_ports(tmp_path: Path) -> None:
    runs = []
    for _ in range(2):
        with serving("cluster-of-two", "--state", tmp_path / "state") as run:
            ports = [int(port) for port in re.findall(r"127.0.0.1:(\d+) \(SINGLE\)", run.announcement)]
            runs.append([client().get(f"http://127.0.0.1:{port}/api/v1/info").json()["data"]["port"] for port in ports])

    assert runs[0] == runs[1]
    assert len({*runs[0]}) == 2


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "    maintenance: global",
            "    makes: {agents: [2]}\n    maintenance: global",
            "changes nothing of the agent",
        ),
        ("    agent: 2", "    agent: 3", "there is no agent 3: the file has 2 agents"),
        ("{agent: 2, ends", "{agent: 4, ends", "there is no agent 4"),
        ("agents:\n", "agent: {identity: MASTER}\nagents:\n", "the file has `agents` too"),
        ("{identity: MASTER}", "{timezone: Asia/Nowhere}", "of agent 1 is 'Asia/Nowhere', which is no time zone"),
        ("{identity: MASTER}", "{port: 1000}\n  - {port: 1000}", "port 1000 is that of another agent"),
    ],
)
def test_a_mistake_in_the_agents_is_named(before: str, after: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_scenario(PAIR.replace(before, after, 1))
