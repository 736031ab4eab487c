"""Operations that start something: they stand in the contract, are checked as recorded, and belong to no run.

What a SINGLE agent answers to each of obshell's is test_obshell_replay's (submits-single.json); what
a scenario's ``starts_on`` does is test_submit_calls'.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from contract_file import ContractFile, nodes
from obshell_world import said, with_bodies
from oceanmock.apis import APIS
from oceanmock.conformance import spec_for
from oceanmock.errors import InputError
from oceanmock.library import read_scenario
from oceanmock.openapi import operations_of
from served import SECOND, World

OBSHELL: Final = ContractFile("obshell")
AGENT: Final = """
summary: An agent
api: obshell
progression: manual
agent: {identity: %s}
dags:
  - {name: Create tenant, starts_on: {path: /api/v1/tenant, body: {name: t1}}, nodes: [Create]}
  - {name: Configure, maintenance: global, starts_on: {path: /api/v1/obcluster/config}, nodes: [Set]}
  - {name: Mine, starts_on: {path: /api/v1/mine}, nodes: [Do]}
"""
TENANT: Final = "/api/v1/tenant"
ZONES: Final = [{"name": "zone1", "unit_config_name": "u1", "unit_num": 1}]


def agent(identity: str, more: str = "") -> tuple[World, Any]:
    """Return a world of an agent, and a function that asks it in plain JSON."""
    world = World(AGENT % identity + more)
    return world, world.serve(auth=False)


def test_each_submit_has_a_summary_a_source_and_a_body_that_its_schema_takes() -> None:
    problems = [
        f"{id}: {problem}"
        for id, operation in OBSHELL.submits.items()
        for problem in [
            *([] if operation["summary"] and operation["x-source"]["code"] else ["no summary or source"]),
            *OBSHELL.problems(
                {"$ref": f"#/components/schemas/{operation['x-submit'].get('struct', 'ForcePassDagParam')}"},
                body_of(operation),
            ),
        ]
    ]

    assert problems == []
    assert len(OBSHELL.submits) == 38
    assert all(schema["description"] and schema["x-source"] for schema in OBSHELL.submit_schemas.values())


def body_of(operation: dict[str, Any], api: int = 1) -> Any:
    """Return the contract's example of an operation's body."""
    return APIS[api].submit_body(operation["method"].upper(), operation["path"].replace("{", "").replace("}", ""))


def test_the_body_of_each_submit_is_bound_without_an_error_on_an_agent_of_a_cluster() -> None:
    """What nothing starts is unknown: the mock has no dag that a real agent would make."""
    _, ask = agent("CLUSTER AGENT")
    ask = with_bodies(ask)
    operations = [each for each in OBSHELL.submits.values() if each["path"] != "/api/v1/obcluster/config"]

    answers = {
        (each["method"], each["path"]): said(
            ask(each["method"].upper(), each["path"].replace("{", "").replace("}", ""))
        )
        for each in operations
        if each["path"] != TENANT
    }

    refused = {key: answer[1] for key, answer in answers.items() if answer[0] != 404}
    assert refused == {
        ("post", "/api/v1/agent"): "Agent.Identify.NotSupportOperation",
        ("post", "/api/v1/agent/join"): "Agent.Identify.NotSupportOperation",
        ("delete", "/api/v1/agent"): "Agent.Identify.NotSupportOperation",
        ("post", "/api/v1/agent/remove"): "Agent.Identify.NotSupportOperation",
        ("post", "/api/v1/ob/init"): "OB.Cluster.AlreadyInitialized",
        ("post", "/api/v1/observer/config"): "OB.Cluster.AlreadyInitialized",
    }


def test_what_nothing_starts_is_unknown_and_the_journal_names_the_operation() -> None:
    world, ask = agent("CLUSTER AGENT")

    answer = ask("DELETE", "/api/v1/zone/zone1")

    (entry,) = world.sandbox.journal.all()
    assert said(answer)[:2] == (404, "Common.NotFound")
    assert (entry.operation, entry.refusal) == ("DeleteZone", "Nothing of the scenario starts on DeleteZone.")


def test_the_journal_names_the_operation_that_starts_a_dag() -> None:
    world, ask = agent("CLUSTER AGENT")
    body = {"name": "t1", "zone_list": ZONES}

    ask("POST", TENANT, json=body)

    assert world.sandbox.journal.all()[0].operation == "tenantCreate"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"name": 1}, "json: cannot unmarshal number into Go struct field CreateTenantParam.name of type string"),
        (
            {"name": "t1", "zone_list": [{"name": 5}]},
            "json: cannot unmarshal number into Go struct field ZoneParam.zone_list.name of type string",
        ),
        (
            {"name": "t1", "zone_list": {}},
            "json: cannot unmarshal object into Go struct field CreateTenantParam.zone_list of type []param.ZoneParam",
        ),
        (
            {"name": "t1", "read_only": 1},
            "json: cannot unmarshal number into Go struct field CreateTenantParam.read_only of type bool",
        ),
        (
            {"NAME": "t1"},
            "Key: 'CreateTenantParam.ZoneList' Error:Field validation for 'ZoneList' failed on the 'required' tag",
        ),
    ],
    ids=str,
)
def test_a_body_is_bound_as_go_binds_it(body: Any, why: str) -> None:
    _, ask = agent("CLUSTER AGENT")

    assert said(ask("POST", TENANT, json=body)) == (400, "Common.BindJsonFailed", f"Bind JSON failed: {why}")


def test_a_name_that_is_empty_is_there_and_yet_refused() -> None:
    _, ask = agent("CLUSTER AGENT")

    assert said(ask("POST", TENANT, json={"name": "", "zone_list": []}))[1] == "OB.Tenant.Name.Empty"


@pytest.mark.parametrize(
    ("method", "path", "key"),
    [
        ("POST", "/api/v1/agent/remove", ""),
        ("POST", "/api/v1/ob/scale_in", "agent_info"),
        ("DELETE", "/api/v1/observer", "agent_info"),
    ],
)
def test_a_single_agent_has_nothing_to_do_to_remove_itself(method: str, path: str, key: str) -> None:
    _, ask = agent("SINGLE")
    own = {"ip": "127.0.0.1", "port": 2886}

    answer = ask(method, path, json={key: own} if key else own)

    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize(
    ("identity", "path"), [("MASTER", "observer/config"), ("CLUSTER AGENT", "ob/start"), ("CLUSTER AGENT", "ob/stop")]
)
@pytest.mark.parametrize(
    ("scope", "error"),
    [
        ({"type": "host"}, ("OB.Cluster.Scope.Invalid", "Scope 'HOST' is invalid")),
        ({"type": "zone"}, ("Common.IllegalArgument", "The input parameter 'target' is illegal: target is empty")),
    ],
)
def test_a_scope_is_of_a_kind_and_has_targets(
    identity: str, path: str, scope: dict[str, str], error: tuple[str, str]
) -> None:
    _, ask = agent(identity)

    answer = ask("POST", f"/api/v1/{path}", json={"scope": scope, "observerConfig": {"memory_limit": "8G"}})

    assert said(answer) == (400, *error)


@pytest.mark.parametrize(
    ("modes", "error"),
    [
        ({}, "OB.Cluster.ForceStopOrTerminateRequired"),
        ({"force": False}, "OB.Cluster.ForceStopOrTerminateRequired"),
        ({"force": True, "terminate": True}, "OB.Cluster.StopModeConflict"),
        ({"terminate": True}, "Common.NotFound"),
        ({"scope": {"type": "zone", "target": ["zone1"]}}, "Common.NotFound"),
    ],
)
def test_a_whole_cluster_is_stopped_in_one_mode(modes: dict[str, Any], error: str) -> None:
    """ob/agent/executor/ob/stop.go:311-317; what nothing starts is unknown."""
    _, ask = agent("CLUSTER AGENT")

    answer = ask("POST", "/api/v1/ob/stop", json={"scope": {"type": "GLOBAL"}, **modes})

    assert (said(answer)[1], answer.json().get("data", "none")) == (
        error,
        "none" if error == "Common.NotFound" else None,
    )


def test_an_observer_s_config_has_nothing_of_its_cluster() -> None:
    """ob/agent/executor/ob/enter.go:292-300."""
    _, ask = agent("SINGLE")

    answer = ask("POST", "/api/v1/observer/config", json={"observerConfig": {"zone": "zone1", "cluster": "c"}})

    message = "The input parameter 'observerConfig' is illegal: config cluster is not allowed to set"
    assert said(answer) == (400, "Common.IllegalArgument", message)


def test_the_system_tenant_is_not_dropped() -> None:
    _, ask = agent("CLUSTER AGENT")

    answer = ask("DELETE", "/api/v1/tenant/sys")

    assert said(answer)[:2] == (400, "OB.Tenant.SysOperationNotAllowed")
    assert answer.json()["data"] is None


def test_a_master_under_maintenance_removes_no_agent() -> None:
    _, ask = agent("MASTER")
    ask("POST", "/api/v1/obcluster/config", json={"clusterId": 1, "clusterName": "a"})

    answer = ask("POST", "/api/v1/agent/remove", json={"ip": "127.0.0.1", "port": 2886})

    assert said(answer) == (500, "Agent.UnderMaintenance", "127.0.0.1:2886 is under maintenance")


def test_a_lock_that_is_held_is_refused_with_null_by_all_but_join_and_remove() -> None:
    _, ask = agent("MASTER")
    config = {"clusterId": 1, "clusterName": "a"}

    answers = [ask("POST", "/api/v1/obcluster/config", json=config) for _ in range(2)]

    assert said(answers[1])[1] == "Agent.UnderMaintenance"
    assert answers[1].json()["data"] is None


def test_stubs_and_the_scenario_s_own_calls_come_first() -> None:
    stub = "stubs: [{method: POST, path: /api/v1/tenant, data: stubbed, times: 1}]\n"
    _, ask = agent("CLUSTER AGENT", stub)

    answers = [ask("POST", TENANT, json={"name": "t1", "zone_list": ZONES}) for _ in range(2)]

    assert answers[0].json()["data"] == "stubbed"
    assert answers[1].json()["data"]["name"] == "Create tenant"
    assert ask("POST", "/api/v1/mine", json={"any": 1}).status_code == 200


@pytest.mark.parametrize("api", [each.name for each in APIS])
def test_no_conformance_run_knows_a_submit(api: str) -> None:
    """Whatever the phase: fuzzing, examples, walks and probes take their operations from this contract."""
    record = next(each for each in APIS if each.name == api)
    known = {operation.id for operation in operations_of(spec_for(api))}  # type: ignore[arg-type]

    assert known == {route.id for route in record.routes}
    assert not any("x-submit" in node for node in nodes(spec_for(api)))  # type: ignore[arg-type]


# --- starts_on, by the operation's name, and what it refuses ---------------------------------------

NAMED: Final = """
summary: A tenant that exists, and one that needs more than there is
api: obshell
progression: manual
agent: {identity: CLUSTER AGENT}
dags:
  - name: Create tenant {body.name}
    starts_on:
      operation: tenantCreate
      refuses:
        - {matches: {body: {name: sys}}, code: OB.Tenant.Existed, message: "Tenant {body.name} already exists"}
        - {times: 1, status: 500, code: OB.Resource.NotEnough, message: not enough memory}
    nodes: [Create]
  - {name: Drop zone, starts_on: DeleteZone, nodes: [Drop]}
"""


def test_a_start_may_be_named_by_its_operation() -> None:
    ask = World(NAMED).serve(auth=False)

    assert ask("DELETE", "/api/v1/zone/z2").json()["data"]["name"] == "Drop zone"


def test_a_start_is_refused_as_its_scenario_says_once_the_body_is_right() -> None:
    world = World(NAMED)
    ask = world.serve(auth=False)
    bodies = [{"name": "sys"}, *({"name": name, "zone_list": ZONES} for name in ("sys", "t1", "t1"))]

    answers = [ask("POST", TENANT, json=body) for body in bodies]

    assert [said(answer)[:2] for answer in answers[:3]] == [
        (400, "Common.BindJsonFailed"),
        (400, "OB.Tenant.Existed"),
        (500, "OB.Resource.NotEnough"),
    ]
    assert answers[1].json()["error"]["message"] == "Tenant sys already exists"
    assert answers[1].json()["data"] is None
    assert answers[3].json()["data"]["name"] == "Create tenant t1"
    assert [entry.stub for entry in world.sandbox.journal.all()][1:3] == [
        "refusal 1 of Create tenant {body.name}",
        "refusal 2 of Create tenant {body.name}",
    ]


def test_a_refusal_of_what_has_no_name_is_called_by_its_path() -> None:
    starts_on = "{operation: DeleteZone, refuses: [{times: 1, code: OB.Busy, message: It is busy}]}"
    world = World(NAMED.replace("name: Drop zone, starts_on: DeleteZone", f"starts_on: {starts_on}"))

    world.serve(auth=False)("DELETE", "/api/v1/zone/z2")

    assert [entry.stub for entry in world.sandbox.journal.all()] == ["refusal 1 of /api/v1/zone/{zoneName}"]


def test_a_refusal_may_wait_for_the_state_of_a_dag() -> None:
    text = NAMED.replace("{times: 1, status: 500,", "{when: {dag: Drop zone, state: [READY, RUNNING]}, status: 500,")
    world = World(text)
    ask = world.serve(auth=False)
    body = {"name": "t1", "zone_list": ZONES}

    ask("DELETE", "/api/v1/zone/z2")
    early = ask("POST", TENANT, json=body)
    world.advance(60 * SECOND)
    late = ask("POST", TENANT, json=body)

    assert (early.status_code, late.status_code) == (500, 200)


def test_a_tenant_is_restored_and_its_overview_follows_the_dag() -> None:
    text = (Path(__file__).parents[1] / "scenarios" / "restore-tenant.yaml").read_text("utf-8")
    world = World(text, progression="manual")
    ask, overview = world.serve(auth=False), "/api/v1/tenant/t2/restore/overview"
    body = OBSHELL.submit_schemas["RestoreParam"]["example"]

    early = said(ask("GET", overview))
    started = ask("POST", "/api/v1/tenant/restore", json=body).json()["data"]
    world.advance(20 * SECOND)
    meanwhile = ask("GET", overview).json()["data"]["status"]
    world.advance(60 * SECOND)
    late = ask("GET", overview).json()["data"]["status"]
    taken = ask("POST", "/api/v1/tenant/restore", json={**body, "restore_tenant_name": "t1"})

    assert early[:2] == (400, "OB.Tenant.NotExist")
    assert (started["name"], started["maintenance_key"]) == ("Restore backup_t2", "t2")
    assert (meanwhile["status"], late["status"], late["restore_tenant_name"]) == ("RESTORING", "SUCCESS", "t2")
    assert said(taken)[1] == "OB.Tenant.Existed"


OCP_REFUSES: Final = """
summary: A tenant is created, once its name is free
api: ocp
progression: manual
tasks:
  - name: Create tenant
    starts_on:
      path: /api/v2/ob/clusters/{id}/tenants/createTenant
      refuses: [{matches: {body: {name: foo}}, status: 409, code: 60005, message: "{body.name} exists"}]
    subtasks: [Create]
"""


def test_a_cluster_is_taken_over_by_the_calls_of_obd() -> None:
    world = World((Path(__file__).parents[1] / "scenarios" / "take-over-cluster.yaml").read_text("utf-8"))
    ask, body = world.serve(), {"connectionMode": "direct", "rootSysPassword": "x", "address": "10.0.0.1", "port": 2881}

    types, credentials = (ask("GET", f"/api/v2/{path}") for path in ("compute/hostTypes", "profiles/me/credentials"))
    made = ask("POST", "/api/v2/profiles/me/credentials", json={"targetType": "HOST", "name": "root"}).json()["data"]
    ask("POST", "/api/v2/ob/clusters/takeOverPreCheck", json=body).raise_for_status()
    host = {"kind": "DEDICATED_PHYSICAL_MACHINE", "hostTypeId": 1, "sshPort": 22, "credentialId": made["id"]}
    started = ask("POST", "/api/v2/ob/clusters/takeOver", json={**body, "switchConfigUrl": True, "hostInfo": host})
    path = f"/api/v2/tasks/instances/{started.json()['data']['id']}"
    world.advance(60 * SECOND)
    failed = ask("GET", path).json()["data"]
    ask("POST", f"{path}/retry").raise_for_status()
    world.advance(60 * SECOND)

    assert types.json()["data"]["contents"] == credentials.json()["data"]["contents"] == []
    assert started.json()["data"]["clusterId"] == 3
    assert [item["name"] for item in failed["subtasks"] if item["status"] == "FAILED"] == [
        "Install OCP agent on 10.0.0.3"
    ]
    assert ask("GET", path).json()["data"]["status"] == "SUCCESSFUL"
    assert ask("GET", "/api/v2/ob/clusters/3").json()["data"]["name"] == "obcluster"


def test_ocp_refuses_in_its_own_envelope() -> None:
    ask = World(OCP_REFUSES).serve()
    path = "/api/v2/ob/clusters/1/tenants/createTenant"

    refused, started = (
        ask("POST", path, json={"name": name, "rootPassword": "x", "zones": []}) for name in ("foo", "bar")
    )

    assert (refused.status_code, refused.json()["error"]) == (409, {"code": 60005, "message": "foo exists"})
    assert started.json()["data"]["name"] == "Create tenant"


@pytest.mark.parametrize(
    ("start", "why"),
    [
        ("tenantCreat", "`operation` is 'tenantCreat', which starts nothing in obshell [unknown-value]"),
        ("{operation: tenantCraete}", "Did you mean 'tenantCreate'?"),
        ("{operation: tenantCreate, path: /api/v1/x}", "has a `method` or a `path` beside its `operation` [bad-start]"),
        ("{method: DELETE}", "`starts_on` of dag 'Create' has no `path` [missing-key]"),
        (
            "{operation: tenantCreate, refuses: [{code: A.B, message: never}]}",
            "never starts it: it `refuses` every request [bad-start]",
        ),
        ("{operation: tenantCreate, refuses: [{times: 1, code: A.B, message: '{path.x}'}]}", "placeholder {path.x}"),
        ("{operation: tenantCreate, refuses: [{times: 1, code: 7, message: a}]}", "[wrong-type]"),
        ("{operation: tenantCreate, refuses: [{when: {dag: None}, code: A.B, message: a}]}", "[unknown-reference]"),
    ],
)
def test_what_is_wrong_with_a_start_is_said_where_it_stands(start: str, why: str) -> None:
    with pytest.raises(InputError) as refused:
        read_scenario(f"summary: A\napi: obshell\ndags:\n  - {{name: Create, starts_on: {start}, nodes: [One]}}\n")

    assert why in str(refused.value)
    assert "scenario.yaml:4:" in str(refused.value)


# --- OCP ------------------------------------------------------------------------------------------

OCP: Final = ContractFile("ocp")
OCP_NAMED: Final = """
summary: A tenant is created, and hosts are added
api: ocp
progression: manual
tasks:
  - {name: "Create {body.name}", starts_on: createTenant, subtasks: [Create]}
  - {name: Add hosts, starts_on: batchCreateHosts, subtasks: [Add]}
"""
CREATE: Final = "/api/v2/ob/clusters/2/tenants/createTenant"


def test_each_submit_of_ocp_names_a_page_and_takes_its_own_example() -> None:
    bodies = [
        (operation["requestBody"]["content"]["application/json"]["schema"], body_of(operation, api=0))
        for operation in OCP.submits.values()
        if "requestBody" in operation
    ]

    assert [problem for schema, body in bodies for problem in OCP.problems(schema, body)] == []
    assert len(OCP.submits) == 22
    assert all(operation["x-source"]["pages"] for operation in OCP.submits.values())


def test_a_task_starts_on_an_operation_by_name_as_the_page_shows_it() -> None:
    ask = World(OCP_NAMED).serve()
    tenant, hosts = (body_of(OCP.submits[id], api=0) for id in ("createTenant", "batchCreateHosts"))

    created, added = ask("POST", CREATE, json=tenant), ask("POST", "/api/v2/compute/hosts/batchCreate", json=hosts)

    assert created.json()["data"]["name"] == "Create foo"
    assert [task["name"] for task in added.json()["data"]["contents"]] == ["Add hosts"]
    assert OCP.problems({"$ref": "#/components/schemas/TaskInstance"}, created.json()["data"]) == []


@pytest.mark.parametrize(
    ("content", "message", "debug"),
    [
        (b"", "Malformed JSON request", "The body is missing."),
        (b'{"name"', "Malformed JSON request", "The body is not JSON"),
        (b'{"name": "foo"}', "The request is not as the contract says.", '"rootPassword" is a required property'),
        (b"[]", "The request is not as the contract says.", "is not of type"),
    ],
    ids=str,
)
def test_a_body_of_ocp_must_have_what_its_page_requires(content: bytes, message: str, debug: str) -> None:
    ask = World(OCP_NAMED).serve()

    answer = ask("POST", CREATE, content=content, headers={"content-type": "application/json"})

    assert (answer.status_code, answer.json()["error"]["message"]) == (400, message)
    assert debug in answer.json()["error"]["debugMessage"]


@pytest.mark.parametrize("id", ["two", "1_0", "9223372036854775808"])
def test_an_id_in_the_path_of_a_submit_of_ocp_must_be_a_number(id: str) -> None:
    world = World(OCP_NAMED)
    ask, body = world.serve(), body_of(OCP.submits["createTenant"], api=0)

    refused, accepted = [ask("POST", CREATE.replace("2/t", f"{each}/t"), json=body) for each in (id, "0x2")]

    message = f"The parameter 'id' of value '{id}' could not be converted to type 'Long'"
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, message)
    assert accepted.status_code == 200


def test_what_nothing_starts_is_unknown_to_ocp_once_its_body_is_right() -> None:
    world = World(OCP_NAMED)
    ask = world.serve()

    answer = ask("POST", "/api/v2/ob/clusters/1/zones/z1/stop")

    assert (answer.status_code, answer.json()["error"]["debugMessage"]) == (
        404,
        "Nothing of the scenario starts on stopZone.",
    )
    assert world.sandbox.journal.all()[0].operation == "stopZone"
    assert ask("POST", "/api/v2/ob/clusters/1/zones/z1/stop", auth=("viewer", "viewer")).status_code == 403


def test_a_path_that_is_nearly_a_submit_s_is_told_so() -> None:
    world = World(OCP_NAMED)

    world.serve()("POST", "/api/v2/ob/clusters/1/tenants/createTenat")

    assert world.sandbox.journal.all()[0].refusal.endswith(
        "The nearest is POST /api/v2/ob/clusters/{id}/tenants/createTenant."
    )


def test_a_fault_names_the_submit_it_applies_to_and_another_goes_on() -> None:
    world, ask = agent("CLUSTER AGENT", "faults: [{operation: DeleteZone, error_code: Zone.Busy, status: 503}]\n")

    answers = [said(ask("DELETE", "/api/v1/zone/zone1")), said(ask("DELETE", "/api/v1/observer"))]

    assert [answer[0] for answer in answers] == [503, 400]
    assert [entry.fault for entry in world.sandbox.journal.all()] == ["fault 1", ""]
