"""The contract of obshell, held to what a running obshell answered.

The recordings in tests/data/obshell are of obshell 4.5.0.0 and outrank every document; a sample of
the vendor's page is beside them. What is checked here is openapi/obshell.yaml alone: no server, no
network. No recorded answer is left out: what the contract does not know is named in OUTSIDE.
"""

import copy
import itertools
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from contract_file import ContractFile, component, nodes

ROOT = Path(__file__).parents[1]
RECORDINGS = ROOT / "tests" / "data" / "obshell"
DOCUMENT = "001_fdf33ed94fc51ae1"
TEXT = (ROOT / "openapi" / "obshell.yaml").read_text("utf-8")
OBSHELL = ContractFile("obshell")
CONTRACT, SCHEMAS, OPERATIONS = OBSHELL.document, OBSHELL.schemas, OBSHELL.operations
mistakes, follow = OBSHELL.mistakes, OBSHELL.follow

EXCHANGES = {
    "auth": 29,
    "cancel": 36,
    "init": 95,
    "join": 105,
    "lone": 118,
    "pass": 27,
    "pass-dag": 14,
    "password": 96,
}

BY_ID = {"200", "400", "401", "404", "500"}
LIST = {"200", "400", "401", "500"}
HELPER = {"200", "401"}
STATUSES = {
    "getDagDetail": BY_ID,
    "dagHandler": BY_ID,
    "getNodeDetail": BY_ID,
    "nodeHandler": BY_ID,
    "getSubTaskDetail": BY_ID,
    "getFullSubTaskLogs": BY_ID,
    "getAllClusterDags": LIST,
    "getAllAgentDags": LIST,
    "getObLastMaintenanceDag": BY_ID,
    "getAgentLastMaintenanceDag": BY_ID,
    "getAllAgentsLastMaintenanceDag": LIST,
    "getUnfinishedDags": LIST,
    "getClusterUnfinishDags": LIST,
    "getAgentUnfinishDags": LIST,
    "getAgentMainDags": LIST,
    "getAgentInfo": HELPER,
    "getSecret": HELPER,
    "getTime": HELPER,
    "getGitInfo": HELPER,
    "getStatus": HELPER,
}
ROUTES = {
    "getDagDetail": "get /api/v1/task/dag/{id}",
    "dagHandler": "post /api/v1/task/dag/{id}",
    "getNodeDetail": "get /api/v1/task/node/{id}",
    "nodeHandler": "post /api/v1/task/node/{id}",
    "getSubTaskDetail": "get /api/v1/task/sub_task/{id}",
    "getFullSubTaskLogs": "get /api/v1/task/sub_task/{id}/logs",
    "getAllClusterDags": "get /api/v1/task/dags/ob",
    "getAllAgentDags": "get /api/v1/task/dags/agent",
    "getObLastMaintenanceDag": "get /api/v1/task/dag/maintain/ob",
    "getAgentLastMaintenanceDag": "get /api/v1/task/dag/maintain/agent",
    "getAllAgentsLastMaintenanceDag": "get /api/v1/task/dag/maintain/agents",
    "getUnfinishedDags": "get /api/v1/task/dag/unfinish",
    "getClusterUnfinishDags": "get /api/v1/task/dag/ob/unfinish",
    "getAgentUnfinishDags": "get /api/v1/task/dag/agent/unfinish",
    "getAgentMainDags": "get /api/v1/task/dag/agent/main_dags",
    "getAgentInfo": "get /api/v1/info",
    "getSecret": "get /api/v1/secret",
    "getTime": "get /api/v1/time",
    "getGitInfo": "get /api/v1/git-info",
    "getStatus": "get /api/v1/status",
}
HELPERS = {name for name, statuses in STATUSES.items() if statuses is HELPER}

ENUMS = {
    "GoBool": [
        *("1", "t", "T", "TRUE", "true", "True"),
        *("0", "f", "F", "FALSE", "false", "False", ""),
    ],
    "TaskState": ["PENDING", "READY", "RUNNING", "FAILED", "SUCCEED"],
    "TaskOperator": ["RUN", "RETRY", "ROLLBACK", "CANCEL", "PASS"],
    "MaintenanceType": [0, 1, 2, 3, 4],
    "AgentIdentity": [
        *("MASTER", "FOLLOWER", "SINGLE", "CLUSTER AGENT", "TAKE OVER MASTER"),
        *("TAKE OVER FOLLOWER", "SCALING OUT", "SCALING IN", "UNIDENTIFIED"),
    ],
}
BODY_ENUMS = {
    "DagOperator": ["ROLLBACK", "RETRY", "PASS", "CANCEL", "rollback", "retry", "pass", "cancel"],
    "NodeOperator": ["PASS", "pass"],
}
STATUS_KEYS = ["state", "operator", "start_time", "end_time", "additional_data"]
REQUIRED = {
    "Envelope": ["successful", "timestamp", "duration", "status", "traceId"],
    "ApiError": ["errCode", "message"],
    "DagList": ["contents"],
    "SubTaskLogList": ["contents"],
    "DagDetailDTO": [
        *("id", "dag_id", "name", "stage", "max_stage", "maintenance_type", "maintenance_key"),
        *STATUS_KEYS,
        "nodes",
    ],
    "NodeDetailDTO": ["id", "node_id", "name", *STATUS_KEYS, "sub_tasks"],
    "TaskDetailDTO": [
        *("id", "task_id", "name", *STATUS_KEYS),
        *("execute_times", "execute_agent", "task_logs"),
    ],
    "SubTaskLog": [
        *("id", "sub_task_id", "execute_times", "log_content", "is_sync"),
        *("create_time", "update_time"),
    ],
    "Agent": ["ip", "port"],
    "AgentInfo": [
        *("pid", "state", "startAt", "homePath", "obVersion", "architecture", "ip", "port"),
        *("zone", "identity", "version", "isObproxyAgent", "security", "supportedAuth"),
    ],
    "AgentSecret": ["ip", "port", "public_key"],
    "GitInfo": ["branch", "commitId", "shortCommitId", "commitTime"],
    "AgentStatus": [
        *("agent", "state", "version", "pid", "startAt", "port", "obState", "underMaintenance"),
    ],
    "AgentWithIdentity": ["ip", "port", "identity"],
    "DagOperator": ["operator"],
    "NodeOperator": ["operator"],
}
NULLABLE = {
    *(("DagDetailDTO", "additional_data"), ("DagDetailDTO", "nodes")),
    *(("NodeDetailDTO", "additional_data"), ("NodeDetailDTO", "sub_tasks")),
    *(("TaskDetailDTO", "additional_data"), ("TaskDetailDTO", "task_logs")),
}
QUIRKS = {
    "body-id-overrules-path": {404},
    "body-that-is-no-object-is-eof": {400},
    "cancelled-rollback-is-stuck": {500},
    "foreign-obproxy-id-is-forwarded-too": {404},
    "forwarded-pass-loses-its-body": {400},
    "logs-of-nothing-are-empty": {200},
    "lost-race-is-500": {500},
    "missing-header-is-400": {400},
    "never-maintained-is-500": {500},
    "no-oceanbase-is-500": {500},
    "node-body-says-dag-operator": {400},
    "node-without-details-is-500": {500},
    "panic-is-dated-at-start": {500},
    "refusal-is-never-sent": {500},
    "status-has-no-trace-id": {200},
    "undecryptable-body-is-500": {500},
    "unheld-cluster-id-is-500": {500},
    "unreachable-owner-is-500": {500},
    "unreadable-show-details-is-500": {500},
}

OUTSIDE: dict[str, dict[str, str]] = {
    "auth": {},
    "cancel": {"init": "CreatedDagResponse"},
    "init": {
        "observer config": "CreatedDagResponse",
        "obcluster config": "CreatedDagResponse",
        "init": "CreatedDagResponse",
        "second init while failed": "ServerErrorResponse",
        "observer config while failed": "ServerErrorResponse",
    },
    "join": {"join": "CreatedDagResponse", "join again": "BadRequestResponse"},
    "lone": {
        "PUT /dag/22130706433028861": "NotFoundResponse",
        "DELETE /dag/22130706433028861": "NotFoundResponse",
        "PATCH /dag/22130706433028861": "NotFoundResponse",
        "HEAD /dag/22130706433028861": "no envelope",
        "OPTIONS /dag/22130706433028861": "NotFoundResponse",
        "POST /sub_task/22130706433028861": "NotFoundResponse",
        "GET ": "NotFoundResponse",
        "GET /": "NotFoundResponse",
        "GET /dag": "NotFoundResponse",
        "GET /dag/": "no envelope",
        "GET /dag/22130706433028861/": "no envelope",
        "POST /dag/22130706433028861/": "no envelope",
        "GET /nope": "NotFoundResponse",
        "GET /dag/22130706433028861/nope": "NotFoundResponse",
        "GET /sub_task/22130706433028861/log": "NotFoundResponse",
        "GET //dag/22130706433028861": "NotFoundResponse",
        "unknown api path": "NotFoundResponse",
        "unknown version": "no envelope",
        "not the api": "no envelope",
        "root": "no envelope",
        "post status": "NotFoundResponse",
    },
    "pass": {"init": "CreatedDagResponse"},
    "pass-dag": {},
    "password": {"join": "CreatedDagResponse", "set agent password": "ServerErrorResponse"},
}
"""The recorded answers that are none of an operation of the contract, and what else they are."""


@cache
def recorded(name: str) -> list[dict[str, Any]]:
    """The exchanges of a recording, in order; not to be changed."""
    exchanges: list[dict[str, Any]] = json.loads(
        (RECORDINGS / f"{name}.json").read_text("utf-8"),
    )["exchanges"]
    return exchanges


def bodies() -> list[Any]:
    """The body of every recorded answer."""
    return [each["response"]["body"] for name in EXCHANGES for each in recorded(name)]


def operation_of(request: dict[str, Any]) -> str | None:
    """The operation that a recorded request is for; a literal segment goes before a variable."""
    path = request["target"].partition("?")[0]
    matching = [
        (operation["path"].count("{"), name)
        for name, operation in OPERATIONS.items()
        if operation["method"] == request["method"].lower()
        and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", operation["path"]), path)
    ]
    return min(matching)[1] if matching else None


def is_inside(exchange: dict[str, Any]) -> bool:
    """Whether an exchange is with an operation of the contract, and its status documented."""
    name = operation_of(exchange["request"])
    return name is not None and str(exchange["response"]["status"]) in STATUSES[name]


def media(name: str, status: int) -> dict[str, Any]:
    """The documented answer of an operation, as JSON."""
    response = follow(OPERATIONS[name]["responses"][str(status)])
    described: dict[str, Any] = response["content"]["application/json"]
    return described


def example(name: str) -> Any:
    """An example of the contract, for a test to spoil."""
    return copy.deepcopy(CONTRACT["components"]["examples"][name]["value"])


def instances() -> dict[str, dict[str, Any]]:
    """One good value of every schema that REQUIRED pins, each taken from an answer."""
    dag = example("FailedDag")["data"]
    return {
        "Envelope": example("Operated"),
        "ApiError": example("NotDecryptable")["error"],
        "DagList": example("Dags")["data"],
        "SubTaskLogList": example("SubTaskLogs")["data"],
        "DagDetailDTO": dag,
        "NodeDetailDTO": dag["nodes"][0],
        "TaskDetailDTO": dag["nodes"][0]["sub_tasks"][0],
        "SubTaskLog": example("SubTaskLogs")["data"]["contents"][0],
        "Agent": dag["nodes"][0]["sub_tasks"][0]["execute_agent"],
        "AgentInfo": example("AgentInfo")["data"],
        "AgentSecret": example("Secret")["data"],
        "GitInfo": example("GitInfo")["data"],
        "AgentStatus": example("AgentStatus")["data"],
        "AgentWithIdentity": example("AgentStatus")["data"]["agent"],
        "DagOperator": {"operator": "ROLLBACK"},
        "NodeOperator": {"operator": "PASS"},
    }


# --- the document ---------------------------------------------------------------------------------


def test_the_contract_has_the_fifteen_task_operations_and_the_five_a_client_reads_first() -> None:
    routes = {name: f"{each['method']} {each['path']}" for name, each in OPERATIONS.items()}

    assert routes == ROUTES
    assert len([route for route in routes.values() if "/api/v1/task/" in route]) == 15
    assert CONTRACT["servers"] == [{"url": "/"}]


def test_a_literal_path_stands_before_a_variable_one_that_would_take_it() -> None:
    paths = list(CONTRACT["paths"])

    taken = [
        (variable, literal)
        for variable, literal in itertools.combinations(paths, 2)
        if re.fullmatch(variable.replace("{id}", "[^/]+"), literal)
    ]

    assert taken == []


@pytest.mark.parametrize("name", STATUSES)
def test_every_operation_documents_its_statuses(name: str) -> None:
    operation = OPERATIONS[name]

    assert set(operation["responses"]) == STATUSES[name]


@pytest.mark.parametrize("name", STATUSES)
def test_every_operation_says_what_it_does_and_where_that_is_from(name: str) -> None:
    operation = OPERATIONS[name]

    assert all(operation[key] for key in ("summary", "description", "tags"))
    assert operation["x-source"]["code"]
    assert operation["x-source"]["recorded"]


def test_every_task_operation_takes_either_header_and_what_a_client_reads_first_takes_none() -> (
    None
):
    schemes = CONTRACT["components"]["securitySchemes"].values()
    own = {name: each["security"] for name, each in OPERATIONS.items() if "security" in each}

    assert CONTRACT["security"] == [{"oceanbasePassword": []}, {"agentPassword": []}]
    assert [(each["type"], each["in"], each["name"]) for each in schemes] == [
        ("apiKey", "header", "X-OCS-Header"),
        ("apiKey", "header", "X-OCS-Agent-Header"),
    ]
    assert own == {name: [] for name in HELPERS}


def test_details_can_be_left_out_of_every_answer_with_dags_or_a_node() -> None:
    parameters = {
        name: [each["$ref"].rpartition("/")[2] for each in operation["parameters"]]
        for name, operation in OPERATIONS.items()
    }

    without = {name for name, taken in parameters.items() if "ShowDetails" not in taken}

    assert without == {
        *("dagHandler", "nodeHandler", "getSubTaskDetail", "getFullSubTaskLogs"),
        *HELPERS,
    }
    assert parameters["getSubTaskDetail"] == ["Id", "IgnoredShowDetails"]


def test_every_parameter_is_a_text() -> None:
    parameters = CONTRACT["components"]["parameters"].values()

    assert {follow(each["schema"])["type"] for each in parameters} == {"string"}


def test_details_are_shown_unless_asked_otherwise() -> None:
    show_details = follow(CONTRACT["components"]["parameters"]["ShowDetails"]["schema"])

    assert show_details["default"] == "true"


def test_what_the_server_words_itself_is_left_to_the_operation() -> None:
    components = CONTRACT["components"]
    described = [*components["parameters"].values(), *components["requestBodies"].values()]

    assert {each["x-checked-by"] for each in described} == {"operation"}


# --- the recordings -------------------------------------------------------------------------------


def test_every_recording_is_read_and_complete() -> None:
    kept = {path.stem for path in RECORDINGS.glob("*.json")}

    assert kept == {*EXCHANGES, DOCUMENT}
    assert {name: len(recorded(name)) for name in EXCHANGES} == EXCHANGES


@pytest.mark.parametrize("name", EXCHANGES)
def test_every_recorded_answer_of_an_operation_validates(name: str) -> None:
    inside = [each for each in recorded(name) if is_inside(each)]

    broken = [
        f"{each['label']}: {operation} {each['response']['status']} {mistake}"
        for each in inside
        for operation in [operation_of(each["request"])]
        for mistake in mistakes(
            media(str(operation), each["response"]["status"])["schema"], each["response"]["body"]
        )
    ]

    assert broken == []
    assert len(inside) == EXCHANGES[name] - len(OUTSIDE[name])


@pytest.mark.parametrize("name", EXCHANGES)
def test_every_recorded_answer_of_an_operation_is_json(name: str) -> None:
    types = {
        each["response"]["headers"]["content-type"].partition(";")[0]
        for each in recorded(name)
        if is_inside(each)
    }

    assert types == {"application/json"}


@pytest.mark.parametrize("name", EXCHANGES)
def test_every_recorded_answer_outside_the_contract_is_named(name: str) -> None:
    outside = [each["label"] for each in recorded(name) if not is_inside(each)]

    assert outside == list(OUTSIDE[name])


@pytest.mark.parametrize(
    ("name", "label", "schema"),
    [
        (name, label, schema)
        for name, labels in OUTSIDE.items()
        for label, schema in labels.items()
        if schema != "no envelope"
    ],
)
def test_an_answer_outside_the_contract_has_the_same_envelope(
    name: str, label: str, schema: str
) -> None:
    (answer,) = [each["response"] for each in recorded(name) if each["label"] == label]

    assert mistakes(component(schema), answer["body"]) == []


def test_what_has_no_envelope_is_no_json_or_has_no_body() -> None:
    answers = {
        label: next(each["response"] for each in recorded(name) if each["label"] == label)
        for name, labels in OUTSIDE.items()
        for label, schema in labels.items()
        if schema == "no envelope"
    }

    assert {label: answer["status"] for label, answer in answers.items()} == {
        "HEAD /dag/22130706433028861": 404,
        "GET /dag/": 301,
        "GET /dag/22130706433028861/": 301,
        "POST /dag/22130706433028861/": 307,
        "unknown version": 200,
        "not the api": 200,
        "root": 200,
    }
    assert all(isinstance(answer["body"], str) for answer in answers.values())


def test_a_dag_just_made_has_no_details() -> None:
    created = [
        each["response"]["body"]
        for name, labels in OUTSIDE.items()
        for each in recorded(name)
        if labels.get(each["label"]) == "CreatedDagResponse"
    ]

    assert len(created) == 7
    assert all(mistakes(component("CreatedDagResponse"), each) == [] for each in created)
    assert all(
        mistakes(component("CreatedDagResponse"), {**each, "data": {**each["data"], "nodes": []}})
        for each in created
    )


@pytest.mark.parametrize(
    ("schema", "mark"),
    [("DagDetailDTO", "dag_id"), ("NodeDetailDTO", "node_id"), ("TaskDetailDTO", "execute_agent")],
)
def test_the_recorded_keys_are_exactly_the_required_ones_and_in_their_order(
    schema: str, mark: str
) -> None:
    orders = {tuple(node) for node in nodes(bodies()) if mark in node}

    assert orders == {tuple(SCHEMAS[schema]["required"])}


def test_a_recorded_envelope_has_its_keys_in_order_then_data_and_error() -> None:
    orders = {tuple(body) for body in bodies() if isinstance(body, dict)}

    envelope = tuple(REQUIRED["Envelope"])

    assert orders == {
        envelope,
        (*envelope, "data"),
        (*envelope, "error"),
        (*envelope, "data", "error"),
    }


def test_a_recorded_error_has_a_code_exactly_when_it_is_a_401() -> None:
    errors = [body for body in bodies() if isinstance(body, dict) and "error" in body]

    coded = {body["status"] for body in errors if "code" in body["error"]}
    uncoded = {body["status"] for body in errors if "code" not in body["error"]}

    assert coded == {401}
    assert uncoded == {400, 404, 500}


def test_every_recorded_id_is_one_the_contract_knows() -> None:
    ids = {node["id"] for node in nodes(bodies()) if isinstance(node.get("id"), str)}

    assert len(ids) > 30
    assert [text for text in ids if mistakes(component("GenericId"), text)] == []


def test_an_id_that_was_refused_breaks_the_pattern_but_for_an_address_that_is_none() -> None:
    asked = {
        each["request"]["target"].removeprefix("/api/v1/task/dag/")
        for each in recorded("lone")
        if each["label"].startswith("dag id ") and each["response"]["status"] == 400
    }

    missed = {text for text in asked if not mistakes(component("GenericId"), text)}

    assert len(asked) > 15
    assert missed == {"3000000000000000000000000000000000000001028861"}


def test_every_recorded_spelling_of_show_details_is_known_unless_the_server_failed_over_it() -> (
    None
):
    answered = {
        each["request"]["target"].partition("show_details")[2].removeprefix("="): each["response"]
        for each in recorded("join")
        if each["label"].startswith("dag ?show_details")
    }

    unknown = {text for text in answered if mistakes(component("GoBool"), text)}

    assert len(answered) > 6
    assert unknown == {"maybe"}
    assert unknown == {text for text, answer in answered.items() if answer["status"] == 500}


# --- the examples ---------------------------------------------------------------------------------


def test_every_example_of_an_answer_is_a_recorded_one_or_the_documents() -> None:
    sample = json.loads((RECORDINGS / f"{DOCUMENT}.json").read_text("utf-8"))
    known = [*bodies(), sample]

    unknown = [
        name
        for name, example in CONTRACT["components"]["examples"].items()
        if example["value"] not in known
    ]

    assert unknown == []
    assert example("Operated") == sample


def test_a_dag_just_made_is_exemplified_though_no_operation_answers_it() -> None:
    used = {node["$ref"] for node in nodes(CONTRACT["paths"]) if "$ref" in node}

    assert not [reference for reference in used if "CreatedDag" in reference]
    assert mistakes(component("CreatedDagResponse"), example("CreatedDag")) == []


def test_every_example_of_a_parameter_a_body_or_a_schema_validates() -> None:
    parameters = CONTRACT["components"]["parameters"].values()
    requests = [
        (described["schema"], each["value"])
        for body in CONTRACT["components"]["requestBodies"].values()
        for described in body["content"].values()
        for each in described["examples"].values()
    ]
    shown = [
        *requests,
        *((each["schema"], each["example"]) for each in parameters),
        *((component(n), each["example"]) for n, each in SCHEMAS.items() if "example" in each),
    ]

    broken = [(value, found) for schema, value in shown if (found := mistakes(schema, value))]

    assert broken == []


# --- sources --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_names_a_source_that_others_can_read(name: str) -> None:
    source = SCHEMAS[name]["x-source"]

    assert any(source.get(kind) for kind in ("documents", "code", "recorded"))


def test_every_recording_and_document_that_is_named_is_there() -> None:
    sources = [node["x-source"] for node in nodes(CONTRACT["paths"]) if "x-source" in node]
    sources += [node["x-source"] for node in nodes(CONTRACT["components"]) if "x-source" in node]

    named = set(itertools.chain(*(each.get("recorded", []) for each in sources)))
    documents = set(itertools.chain(*(each.get("documents", []) for each in sources)))

    assert named == {f"{name}.json" for name in EXCHANGES}
    assert documents == set(CONTRACT["info"]["x-source"]["documents"]) == {DOCUMENT}


def test_no_source_is_on_somebodys_machine() -> None:
    assert not re.findall(r"shared/|/work/|reference/|corpus", TEXT)
    assert max(len(line) for line in TEXT.splitlines()) <= 150


def test_every_contradiction_is_settled_once_and_with_a_reason() -> None:
    overruled = [
        entry for node in nodes(CONTRACT) for entry in node.get("x-source", {}).get("overruled", [])
    ]

    assert sorted(entry["settles"] for entry in overruled) == list(range(1, 11))
    assert all(set(entry) == {"settles", "says", "taken", "because"} for entry in overruled)


def test_every_quirk_has_a_name_that_stays_and_says_when_and_where_from() -> None:
    quirks = [quirk for node in nodes(CONTRACT) for quirk in node.get("x-quirk", [])]

    found: dict[str, set[int]] = {}
    for quirk in quirks:
        found.setdefault(quirk["name"], set()).add(quirk["status"])

    assert found == QUIRKS
    assert all(set(quirk) == {"name", "status", "when", "source"} for quirk in quirks)


# --- the schemas ----------------------------------------------------------------------------------


def test_every_enum_is_pinned() -> None:
    enums = {name: schema["enum"] for name, schema in SCHEMAS.items() if "enum" in schema}
    operators = {name: SCHEMAS[name]["properties"]["operator"]["enum"] for name in BODY_ENUMS}

    assert enums == ENUMS
    assert operators == BODY_ENUMS


def test_every_required_key_is_pinned() -> None:
    required = {
        name: schema["required"] for name, schema in SCHEMAS.items() if "required" in schema
    }

    assert required == REQUIRED


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name, keys in REQUIRED.items() for key in keys]
)
def test_an_object_without_a_required_key_is_refused(name: str, key: str) -> None:
    whole = instances()[name]
    without = {other: value for other, value in whole.items() if other != key}

    assert mistakes(component(name), whole) == []
    assert mistakes(component(name), without) == [f"$: '{key}' is a required property"]


@pytest.mark.parametrize(
    ("name", "key"),
    [(name, key) for name in REQUIRED if name.endswith("DTO") for key in REQUIRED[name]],
)
def test_null_is_taken_for_exactly_the_nullable_keys(name: str, key: str) -> None:
    with_null = {**instances()[name], key: None}

    assert (mistakes(component(name), with_null) == []) is ((name, key) in NULLABLE)


@pytest.mark.parametrize("name", ["DagList", "SubTaskLogList"])
def test_the_contents_of_a_list_may_be_null_and_the_list_may_not(name: str) -> None:
    assert mistakes(component(name), {"contents": None}) == []
    assert mistakes(component(name), {"contents": []}) == []
    assert mistakes(component(name), [])
    assert mistakes(component(name), None)


@pytest.mark.parametrize("lines", [None, [], ["start observer"]])
def test_a_log_is_null_empty_or_lines(lines: list[str] | None) -> None:
    sub_task = {**instances()["TaskDetailDTO"], "task_logs": lines}

    assert mistakes(component("TaskDetailDTO"), sub_task) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", 22130706433028873),
        ("id", "61"),
        ("state", "SUCCESSFUL"),
        ("state", 5),
        ("operator", "EXECUTE"),
        ("stage", 0),
        ("maintenance_type", "2"),
        ("start_time", "2026-11-22 19:44:40"),
        ("start_time", 0),
        ("nodes", {"contents": []}),
    ],
)
def test_the_wrong_guesses_about_a_dag_are_refused(key: str, value: Any) -> None:
    dag = {**instances()["DagDetailDTO"], key: value}

    assert mistakes(component("DagDetailDTO"), dag)


@pytest.mark.parametrize("name", ["DagDetailDTO", "NodeDetailDTO", "TaskDetailDTO", "AgentInfo"])
def test_a_real_server_may_send_unknown_keys(name: str) -> None:
    given = {**instances()[name], "anything": "else"}

    assert mistakes(component(name), given) == []


@pytest.mark.parametrize("code", ["Task.NotFound", "10008", None, 0, 1.5])
def test_an_error_code_that_is_not_a_positive_integer_is_refused(code: Any) -> None:
    refused = example("Unknown")

    refused["error"]["code"] = code

    assert mistakes(component("ErrorResponse"), refused)


@pytest.mark.parametrize("code", [2300, "Task", "", None])
def test_an_error_is_named_in_words_joined_by_dots(code: Any) -> None:
    refused = example("Unknown")

    refused["error"]["errCode"] = code

    assert mistakes(component("ErrorResponse"), refused)


def test_refused_credentials_always_have_a_code() -> None:
    refused = example("WrongPassword")

    del refused["error"]["code"]

    assert mistakes(component("ErrorResponse"), refused) == []
    assert mistakes(component("UnauthorizedResponse"), refused)


@pytest.mark.parametrize(
    ("data", "is_taken"), [(None, True), ({"contents": None}, True), ([], False), ("", False)]
)
def test_an_error_may_carry_what_a_handler_could_not_make(data: Any, is_taken: bool) -> None:
    refused = {**example("Panicked"), "data": data}

    assert (mistakes(component("ServerErrorResponse"), refused) == []) is is_taken


@pytest.mark.parametrize("data", [None, {}, {"contents": []}])
def test_an_answer_to_an_operator_carries_no_data(data: Any) -> None:
    assert mistakes(component("NoDataResponse"), example("Operated")) == []
    assert mistakes(component("NoDataResponse"), {**example("Operated"), "data": data})


@pytest.mark.parametrize(
    "changed",
    [{"successful": False}, {"status": 204}, {"error": None}, {"data": None}, {"traceId": None}],
)
def test_a_success_that_contradicts_itself_is_refused(changed: dict[str, Any]) -> None:
    contradictory = {**example("FinishedDag"), **changed}

    assert mistakes(component("DagResponse"), contradictory)


@pytest.mark.parametrize(
    ("body", "is_told"),
    [
        ({"operator": "retry"}, True),
        ({"operator": "RETRY", "id": "1", "x": 1}, True),
        ({"operator": "RUN"}, False),
        ({"operator": ""}, False),
        ({"operator": None}, False),
        ({"operator": 1}, False),
        ({}, False),
        ([], False),
        ("RETRY", False),
    ],
)
def test_a_client_is_told_what_an_operator_is(body: Any, is_told: bool) -> None:
    assert (mistakes(component("DagOperator"), body) == []) is is_told


@pytest.mark.parametrize(
    ("text", "is_written"),
    [
        ("1970-01-01T00:00:00Z", True),
        ("1970-01-01T08:00:00+08:00", True),
        ("2026-11-22T19:38:20.27883711Z", True),
        ("2024-01-10T14:44:28.366402356+08:00", True),
        ("2026-11-22T19:38:20.2788371100Z", False),
        ("2026-11-22T19:38:20.270Z", False),
        ("2026-11-22T19:38:20.Z", False),
        ("2026-11-22T19:38:20", False),
        ("2026-11-22T19:38:20+0800", False),
        ("2026-13-22T19:38:20Z", False),
    ],
)
def test_a_timestamp_is_written_as_go_writes_it(text: str, is_written: bool) -> None:
    assert (mistakes(component("Timestamp"), text) == []) is is_written


@pytest.mark.parametrize(
    ("text", "is_an_id"),
    [
        ("22130706433028869", True),
        ("11", True),
        ("42130706433028861", True),
        ("3" + "0" * 38 + "1" + "02886" + "1", True),
        ("1", False),
        ("2213070643302886", False),
        ("61", False),
        ("2213070643302886-1", False),
        (" 22130706433028869", False),
        ("", False),
    ],
)
def test_an_id_is_a_kind_an_address_and_a_number(text: str, is_an_id: bool) -> None:
    assert (mistakes(component("GenericId"), text) == []) is is_an_id


def test_every_link_leads_to_an_operation_and_gives_it_the_id() -> None:
    links = [
        link
        for operation in OPERATIONS.values()
        for link in follow(operation["responses"]["200"]).get("links", {}).values()
    ]

    led_to = {link["operationId"] for link in links}

    assert led_to == {
        *("getDagDetail", "dagHandler", "getNodeDetail", "nodeHandler"),
        *("getSubTaskDetail", "getFullSubTaskLogs"),
    }
    assert all(set(link["parameters"]) == {"id"} for link in links)
