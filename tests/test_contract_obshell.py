"""Lint the contract of obshell against the recordings of a running obshell.

The recordings in tests/data/obshell are of obshell 4.5.0.0 and outrank every document; a sample of
the vendor's page is beside them. Only openapi/obshell.yaml is checked: no server, no network.
Every recorded response is checked: OUTSIDE lists those that the contract does not know.
"""

import copy
import itertools
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from contract_file import Case, ContractFile, component, nodes

ROOT = Path(__file__).parents[1]
RECORDINGS = ROOT / "tests" / "data" / "obshell"
DOCUMENT = "001_fdf33ed94fc51ae1"
TEXT = (ROOT / "openapi" / "obshell.yaml").read_text("utf-8")
OBSHELL = ContractFile("obshell")
CONTRACT, SCHEMAS, OPERATIONS = OBSHELL.document, OBSHELL.schemas, OBSHELL.operations
problems, follow = OBSHELL.problems, OBSHELL.follow

EXCHANGES = {"auth": 29, "cancel": 36, "init": 95, "join": 105, "lone": 118, "pass": 27, "pass-dag": 14, "password": 96}
BESIDE_THE_CONTRACT = "submits-single"
"""The recording of routes that the contract does not have; test_obshell_replay.py compares it."""

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
    "GoBool": [*("1", "t", "T", "TRUE", "true", "True"), *("0", "f", "F", "FALSE", "false", "False", "")],
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
    "TaskDetailDTO": [*("id", "task_id", "name", *STATUS_KEYS), *("execute_times", "execute_agent", "task_logs")],
    "SubTaskLog": [*("id", "sub_task_id", "execute_times", "log_content", "is_sync"), *("create_time", "update_time")],
    "Agent": ["ip", "port"],
    "AgentInfo": [
        *("pid", "state", "startAt", "homePath", "obVersion", "architecture", "ip", "port"),
        *("zone", "identity", "version", "isObproxyAgent", "security", "supportedAuth"),
    ],
    "AgentSecret": ["ip", "port", "public_key"],
    "GitInfo": ["branch", "commitId", "shortCommitId", "commitTime"],
    "AgentStatus": [*("agent", "state", "version", "pid", "startAt", "port", "obState", "underMaintenance")],
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
    "unknown-dag-is-asked-for-without-end": {404},
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
    exchanges: list[dict[str, Any]] = json.loads((RECORDINGS / f"{name}.json").read_text("utf-8"))["exchanges"]
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


def without(value: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a copy without a key."""
    return {other: each for other, each in value.items() if other != key}


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


def test_every_operation_documents_its_statuses() -> None:
    assert {name: set(each["responses"]) for name, each in OPERATIONS.items()} == STATUSES


def test_every_task_operation_takes_either_header_and_what_a_client_reads_first_takes_none() -> None:
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

    assert without == {*("dagHandler", "nodeHandler", "getSubTaskDetail", "getFullSubTaskLogs"), *HELPERS}
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

    assert kept == {*EXCHANGES, DOCUMENT, BESIDE_THE_CONTRACT}
    assert {name: len(recorded(name)) for name in EXCHANGES} == EXCHANGES


def test_every_recorded_response_of_an_operation_validates() -> None:
    inside = [(name, each) for name in EXCHANGES for each in recorded(name) if is_inside(each)]
    count = Counter(name for name, _ in inside)

    assert (
        OBSHELL.misjudged(
            Case(
                f"{name} {each['label']}",
                media(str(operation_of(each["request"])), each["response"]["status"])["schema"],
                each["response"]["body"],
                valid=True,
            )
            for name, each in inside
        )
        == []
    )
    assert count == {name: EXCHANGES[name] - len(OUTSIDE[name]) for name in EXCHANGES}


def test_every_recorded_response_of_an_operation_is_json() -> None:
    types = {
        each["response"]["headers"]["content-type"].partition(";")[0]
        for name in EXCHANGES
        for each in recorded(name)
        if is_inside(each)
    }

    assert types == {"application/json"}


def test_every_recorded_response_outside_the_contract_is_named() -> None:
    outside = {name: [each["label"] for each in recorded(name) if not is_inside(each)] for name in EXCHANGES}

    assert outside == {name: list(labels) for name, labels in OUTSIDE.items()}


def test_a_response_outside_the_contract_has_the_same_envelope() -> None:
    assert (
        OBSHELL.misjudged(
            Case(f"{name} {each['label']}", component(schema), each["response"]["body"], valid=True)
            for name, labels in OUTSIDE.items()
            for label, schema in labels.items()
            if schema != "no envelope"
            for each in recorded(name)
            if each["label"] == label
        )
        == []
    )


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
    assert all(problems(component("CreatedDagResponse"), each) == [] for each in created)
    assert all(
        problems(component("CreatedDagResponse"), {**each, "data": {**each["data"], "nodes": []}}) for each in created
    )


def test_the_recorded_keys_are_exactly_the_required_ones_and_in_their_order() -> None:
    marks = {"DagDetailDTO": "dag_id", "NodeDetailDTO": "node_id", "TaskDetailDTO": "execute_agent"}
    orders = {schema: {tuple(node) for node in nodes(bodies()) if mark in node} for schema, mark in marks.items()}

    assert orders == {schema: {tuple(SCHEMAS[schema]["required"])} for schema in marks}


def test_a_recorded_envelope_has_its_keys_in_order_then_data_and_error() -> None:
    orders = {tuple(body) for body in bodies() if isinstance(body, dict)}

    envelope = tuple(REQUIRED["Envelope"])

    assert orders == {envelope, (*envelope, "data"), (*envelope, "error"), (*envelope, "data", "error")}


def test_a_recorded_error_has_a_code_exactly_when_it_is_a_401() -> None:
    errors = [body for body in bodies() if isinstance(body, dict) and "error" in body]

    coded = {body["status"] for body in errors if "code" in body["error"]}
    uncoded = {body["status"] for body in errors if "code" not in body["error"]}

    assert coded == {401}
    assert uncoded == {400, 404, 500}


def test_every_recorded_id_is_one_the_contract_knows() -> None:
    ids = {node["id"] for node in nodes(bodies()) if isinstance(node.get("id"), str)}

    assert len(ids) > 30
    assert [text for text in ids if problems(component("GenericId"), text)] == []


def test_an_id_that_was_refused_breaks_the_pattern_but_for_an_address_that_is_none() -> None:
    asked = {
        each["request"]["target"].removeprefix("/api/v1/task/dag/")
        for each in recorded("lone")
        if each["label"].startswith("dag id ") and each["response"]["status"] == 400
    }

    missed = {text for text in asked if not problems(component("GenericId"), text)}

    assert len(asked) > 15
    assert missed == {"3000000000000000000000000000000000000001028861"}


def test_every_recorded_spelling_of_show_details_is_known_unless_the_server_failed_over_it() -> None:
    answered = {
        each["request"]["target"].partition("show_details")[2].removeprefix("="): each["response"]
        for each in recorded("join")
        if each["label"].startswith("dag ?show_details")
    }

    unknown = {text for text in answered if problems(component("GoBool"), text)}

    assert len(answered) > 6
    assert unknown == {"maybe"}
    assert unknown == {text for text, answer in answered.items() if answer["status"] == 500}


# --- the examples ---------------------------------------------------------------------------------


def test_every_example_of_an_answer_is_a_recorded_one_or_the_documents() -> None:
    sample = json.loads((RECORDINGS / f"{DOCUMENT}.json").read_text("utf-8"))
    known = [*bodies(), sample]

    unknown = [name for name, example in CONTRACT["components"]["examples"].items() if example["value"] not in known]

    assert unknown == []
    assert example("Operated") == sample


def test_a_dag_just_made_is_exemplified_though_no_operation_answers_it() -> None:
    used = {node["$ref"] for node in nodes(CONTRACT["paths"]) if "$ref" in node}

    assert not [reference for reference in used if "CreatedDag" in reference]
    assert problems(component("CreatedDagResponse"), example("CreatedDag")) == []


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

    broken = [(value, found) for schema, value in shown if (found := problems(schema, value))]

    assert broken == []


# --- sources --------------------------------------------------------------------------------------


def test_every_recording_and_document_that_is_named_is_there() -> None:
    sources = [node["x-source"] for node in nodes(CONTRACT["paths"]) if "x-source" in node]
    sources += [node["x-source"] for node in nodes(CONTRACT["components"]) if "x-source" in node]

    named = set(itertools.chain(*(each.get("recorded", []) for each in sources)))
    documents = set(itertools.chain(*(each.get("documents", []) for each in sources)))

    assert named == {f"{name}.json" for name in (*EXCHANGES, BESIDE_THE_CONTRACT)}
    assert documents == set(CONTRACT["info"]["x-source"]["documents"]) == {DOCUMENT}


def test_no_source_is_on_somebodys_machine() -> None:
    assert not re.findall(r"shared/|/work/|reference/|corpus", TEXT)
    assert max(len(line) for line in TEXT.splitlines()) <= 150


def test_every_contradiction_is_settled_once_and_with_a_reason() -> None:
    overruled = [entry for node in nodes(CONTRACT) for entry in node.get("x-source", {}).get("overruled", [])]

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
    required = {name: schema["required"] for name, schema in SCHEMAS.items() if "required" in schema}

    assert required == REQUIRED


def test_objects_have_their_required_keys_and_null_only_where_it_is_allowed() -> None:
    values = instances()
    keys = [(name, key) for name, required in REQUIRED.items() for key in required]

    assert (
        OBSHELL.misjudged(
            [
                *(Case("whole", component(name), values[name], True) for name in REQUIRED),
                *(
                    Case(f"{name} without {key}", component(name), without(values[name], key), False)
                    for name, key in keys
                ),
                *(
                    Case(f"{name}.{key}", component(name), {**values[name], key: None}, is_nullable)
                    for name, key in keys
                    if name.endswith("DTO")
                    for is_nullable in [(name, key) in NULLABLE]
                ),
            ]
        )
        == []
    )


def test_lists_logs_and_dags_are_read_as_the_server_writes_them() -> None:
    values = instances()
    lists, unknown = ("DagList", "SubTaskLogList"), {"anything": "else"}
    open_schemas = ("DagDetailDTO", "NodeDetailDTO", "TaskDetailDTO", "AgentInfo")
    logs: list[Any] = [None, [], ["start observer"]]
    wrong = [("id", 22130706433028873), ("id", "61"), ("state", "SUCCESSFUL"), ("state", 5),
             ("operator", "EXECUTE"), ("stage", 0), ("maintenance_type", "2"),
             ("start_time", "2026-11-22 19:44:40"), ("start_time", 0),
             ("nodes", {"contents": []})]  # fmt: skip
    sub_task, dag = values["TaskDetailDTO"], values["DagDetailDTO"]

    assert OBSHELL.misjudged(
        [
            *(
                Case(name, component(name), value, valid)
                for name in lists
                for value, valid in [({"contents": None}, True), ({"contents": []}, True),
                                     ([], False), (None, False)]
            ),
            *(
                Case("logs", component("TaskDetailDTO"), {**sub_task, "task_logs": lines}, True)
                for lines in logs
            ),
            *(
                Case("wrong guess", component("DagDetailDTO"), {**dag, key: value}, False)
                for key, value in wrong
            ),
            *(
                Case("unknown key", component(name), {**values[name], **unknown}, True)
                for name in open_schemas
            ),
        ]
    ) == []  # fmt: skip


def test_an_error_code_is_a_positive_integer_and_an_err_code_is_dotted_words() -> None:
    refused = example("Unknown")
    wrong = [("code", code) for code in ("Task.NotFound", "10008", None, 0, 1.5)]
    wrong += [("errCode", code) for code in (2300, "Task", "", None)]

    assert (
        OBSHELL.misjudged(
            Case(key, component("ErrorResponse"), {**refused, "error": {**refused["error"], key: code}}, valid=False)
            for key, code in wrong
        )
        == []
    )


def test_refused_credentials_always_have_a_code() -> None:
    refused = example("WrongPassword")

    del refused["error"]["code"]

    assert problems(component("ErrorResponse"), refused) == []
    assert problems(component("UnauthorizedResponse"), refused)


def test_responses_have_the_data_that_belongs_to_them_and_do_not_contradict_themselves() -> None:
    error_data: list[tuple[Any, bool]] = [(None, True), ({"contents": None}, True), ([], False), ("", False)]
    contradictions: list[dict[str, Any]] = [
        {"successful": False},
        {"status": 204},
        {"error": None},
        {"data": None},
        {"traceId": None},
    ]
    panicked, operated, dag = example("Panicked"), example("Operated"), example("FinishedDag")

    assert (
        OBSHELL.misjudged(
            [
                *(
                    Case("error data", component("ServerErrorResponse"), {**panicked, "data": d}, valid)
                    for d, valid in error_data
                ),
                Case("operated", component("NoDataResponse"), operated, True),
                *(
                    Case("no data", component("NoDataResponse"), {**operated, "data": data}, False)
                    for data in list[Any]([None, {}, {"contents": []}])
                ),
                *(
                    Case("contradiction", component("DagResponse"), {**dag, **changed}, False)
                    for changed in contradictions
                ),
            ]
        )
        == []
    )


def test_operators_timestamps_and_ids_are_read_as_the_server_reads_them() -> None:
    operators = [
        ({"operator": "retry"}, True),
        ({"operator": "RETRY", "id": "1", "x": 1}, True),
        ({"operator": "RUN"}, False),
        ({"operator": ""}, False),
        ({"operator": None}, False),
        ({"operator": 1}, False),
        ({}, False),
        ([], False),
        ("RETRY", False),
    ]
    timestamps = {
        "1970-01-01T00:00:00Z": True,
        "1970-01-01T08:00:00+08:00": True,
        "2026-11-22T19:38:20.27883711Z": True,
        "2024-01-10T14:44:28.366402356+08:00": True,
        "2026-11-22T19:38:20.2788371100Z": False,
        "2026-11-22T19:38:20.270Z": False,
        "2026-11-22T19:38:20.Z": False,
        "2026-11-22T19:38:20": False,
        "2026-11-22T19:38:20+0800": False,
        "2026-13-22T19:38:20Z": False,
    }
    ids = {
        "22130706433028869": True,
        "11": True,
        "42130706433028861": True,
        "3" + "0" * 38 + "1" + "02886" + "1": True,
        "1": False,
        "2213070643302886": False,
        "61": False,
        "2213070643302886-1": False,
        " 22130706433028869": False,
        "": False,
    }

    assert (
        OBSHELL.misjudged(
            Case(schema, component(schema), value, valid)
            for schema, values in (
                ("DagOperator", operators),
                ("Timestamp", timestamps.items()),
                ("GenericId", ids.items()),
            )
            for value, valid in values
        )
        == []
    )


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
