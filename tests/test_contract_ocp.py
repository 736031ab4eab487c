"""The contract of OCP, held to the documents it was written from.

The samples in tests/data/documents are the vendor's, as the documents print them; 003 is kept as
malformed as it is. What is checked here is openapi/ocp.yaml alone: no server, no network.
"""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from contract_file import ContractFile, component, nodes

ROOT = Path(__file__).parents[1]
DOCUMENTS = ROOT / "tests" / "data" / "documents"
MALFORMED = DOCUMENTS / "003_57ed2ca381917a31.malformed.txt"
OCP = ContractFile("ocp")
CONTRACT, SCHEMAS, OPERATIONS = OCP.document, OCP.schemas, OCP.operations
mistakes, follow, response_examples = OCP.mistakes, OCP.follow, OCP.response_examples

STATUSES = {
    "listTaskInstances": {"200", "400", "401", "403", "405", "429"},
    "getTaskInstance": {"200", "400", "401", "403", "404", "405", "429"},
    "retryTask": {"200", "400", "401", "403", "404", "405", "429"},
    "rollbackTask": {"200", "400", "401", "403", "404", "405", "429"},
    "getSubtaskLog": {"200", "400", "401", "403", "404", "405", "429"},
    "retrySubtask": {"200", "400", "401", "403", "404", "405", "429"},
    "skipSubtask": {"200", "400", "401", "403", "404", "405", "429"},
    "cancelSubtask": {"200", "400", "401", "403", "404", "405", "429"},
}
ENUMS = {
    "TaskState": ["RUNNING", "FAILED", "SUCCESSFUL", "ABORTED"],
    "SubtaskState": ["PENDING", "READY", "RUNNING", "CANCELING", "FAILED", "SUCCESSFUL"],
    "TaskOperation": ["EXECUTE", "RETRY", "ROLLBACK", "SKIP", "CANCEL"],
    "SubtaskOperation": ["EXECUTE", "RETRY", "ROLLBACK", "SKIP", "ROLLBACK_SKIP", "CANCEL"],
    "TaskType": ["MANUAL", "SYS_ONCE", "SCHEDULED", "SYS_SCHEDULED"],
    "TaskTypeFilter": ["MANUAL", "SYS_ONCE", "SCHEDULED", "SYS_SCHEDULED", "SYS_ONECE"],
    "NodeType": ["JAVA_TASK"],
    "ClusterType": ["PRIMARY", "STANDBY"],
    "TenantMode": ["ORACLE", "MYSQL"],
}

NEVER_ABSENT = {
    *("description", "downstreams", "id", "name", "nodeType", "operation", "parallelIdx"),
    *("runTime", "seriesId", "status", "timeout", "upstreams"),
}


def sample(name: str) -> dict[str, Any]:
    """One sample of the documents, read anew."""
    document: dict[str, Any] = json.loads((DOCUMENTS / f"{name}.json").read_text("utf-8"))
    return document


def repaired_003() -> dict[str, Any]:
    """Document 003 with the brace taken out that closes `data` before its fields."""
    document: dict[str, Any] = json.loads(
        re.sub(r'"data": \{\s*\},', '"data": {', MALFORMED.read_text("utf-8"), count=1)
    )
    return document


def task() -> dict[str, Any]:
    """The task of document 004."""
    data: dict[str, Any] = sample("004_e3d9e9fc43bd9445")["data"]
    return data


def test_the_contract_has_exactly_the_eight_public_operations() -> None:
    paths = {operation["path"] for operation in OPERATIONS.values()}

    assert set(OPERATIONS) == set(STATUSES)
    assert all(path.startswith("/api/v2/tasks/instances") for path in paths)
    assert CONTRACT["servers"] == [{"url": "/"}]


@pytest.mark.parametrize("name", STATUSES)
def test_every_operation_documents_its_statuses(name: str) -> None:
    operation = OPERATIONS[name]

    assert set(operation["responses"]) == STATUSES[name]


@pytest.mark.parametrize("name", STATUSES)
def test_every_operation_says_what_it_does_who_may_call_it_and_where_that_is_from(
    name: str,
) -> None:
    operation = OPERATIONS[name]
    reads = name.startswith(("get", "list"))

    assert all(operation[key] for key in ("summary", "description", "tags"))
    assert operation["x-permission"] == ("TASK_VIEWER" if reads else "TASK_MANAGER")
    assert operation["x-source"]["pages"]


def test_every_operation_takes_a_password_or_a_signature() -> None:
    schemes = CONTRACT["components"]["securitySchemes"]

    assert CONTRACT["security"] == [{"basicAuth": []}, {"accessKey": []}]
    assert set(schemes) == {"basicAuth", "accessKey"}
    assert not [name for name, operation in OPERATIONS.items() if "security" in operation]


@pytest.mark.parametrize("name", STATUSES)
def test_every_parameter_has_a_type(name: str) -> None:
    parameters = [follow(parameter) for parameter in OPERATIONS[name]["parameters"]]

    types = {parameter["name"]: follow(parameter["schema"])["type"] for parameter in parameters}

    assert set(types.values()) <= {"integer", "string", "array"}


def test_the_list_takes_the_documented_parameters_and_no_other() -> None:
    parameters = OPERATIONS["listTaskInstances"]["parameters"]

    names = [follow(parameter)["name"] for parameter in parameters]

    assert names == [
        *("name", "status", "type", "clusterName", "clusterId", "tenantName", "tenantId"),
        *("hostId", "page", "size", "sort"),
    ]


def test_a_page_has_ten_tasks_unless_asked_and_two_thousand_at_most() -> None:
    page, size = (CONTRACT["components"]["parameters"][name]["schema"] for name in ("Page", "Size"))

    assert (page["minimum"], page["default"]) == (1, 1)
    assert (size["minimum"], size["default"], size["maximum"]) == (1, 10, 2000)


def test_several_states_are_asked_for_with_commas() -> None:
    status = CONTRACT["components"]["parameters"]["Status"]

    assert (status["style"], status["explode"]) == ("form", False)
    assert status["schema"]["items"] == component("TaskState")


@pytest.mark.parametrize("given", [0, -1, 2**63, 1.5, "1", "abc", None, True])
@pytest.mark.parametrize("name", ["TaskInstanceId", "SubtaskInstanceId"])
def test_an_id_in_a_path_is_a_positive_64_bit_integer(name: str, given: Any) -> None:
    schema = CONTRACT["components"]["parameters"][name]["schema"]

    assert mistakes(schema, given)
    assert not mistakes(schema, 1)
    assert not mistakes(schema, 2**63 - 1)


@pytest.mark.parametrize(
    ("order", "is_known"),
    [
        ("id,asc", True),
        ("finishTime,desc", True),
        ("name", True),
        ("id,up", False),
        ("creator,asc", False),
        ("", False),
    ],
)
def test_a_list_is_sorted_by_a_known_field(order: str, is_known: bool) -> None:
    schema = CONTRACT["components"]["parameters"]["Sort"]["schema"]

    assert (mistakes(schema, order) == []) is is_known


@pytest.mark.parametrize(
    ("document", "operation"),
    [
        ("000_cd0e6c4c3689dc1a", "rollbackTask"),
        ("002_34a3c1ff3594d881", "getTaskInstance"),
        ("004_e3d9e9fc43bd9445", "getTaskInstance"),
    ],
)
def test_every_sample_in_the_documents_validates(document: str, operation: str) -> None:
    schema = OPERATIONS[operation]["responses"]["200"]["content"]["application/json"]["schema"]

    assert mistakes(schema, sample(document)) == []


def test_every_sample_is_accounted_for() -> None:
    kept = {path.name.split(".")[0] for path in DOCUMENTS.glob("00[0234]_*")}

    assert kept == set(CONTRACT["info"]["x-source"]["documents"])


def test_sample_003_is_not_json_as_it_is_printed() -> None:
    printed = MALFORMED.read_text("utf-8")

    with pytest.raises(json.JSONDecodeError, match="Extra data: line 26"):
        json.loads(printed)


def test_sample_003_validates_once_its_fields_are_inside_data() -> None:
    repaired = repaired_003()

    assert mistakes(component("SubtaskResponse"), repaired) == []
    assert repaired["data"]["id"] == 13000333
    assert list(repaired) == [
        *("data", "duration", "server", "status", "successful", "timestamp", "traceId"),
    ]


def test_every_example_of_a_parameter_a_header_or_a_schema_validates() -> None:
    components = CONTRACT["components"]
    described = [*components["parameters"].values(), *components["headers"].values()]

    broken = [
        (node, found) for node in described if (found := mistakes(node["schema"], node["example"]))
    ] + [
        (name, found)
        for name, schema in SCHEMAS.items()
        if "example" in schema and (found := mistakes(component(name), schema["example"]))
    ]

    assert broken == []


def test_an_example_answers_the_ids_of_the_path() -> None:
    parameters = CONTRACT["components"]["parameters"]
    data = {row[0]: row[4]["data"] for row in response_examples() if "data" in row[4]}

    answered = {name: data[name]["id"] for name in data if "id" in data[name]}

    assert answered == {
        "getTaskInstance": parameters["TaskInstanceId"]["example"],
        "retryTask": parameters["TaskInstanceId"]["example"],
        "rollbackTask": parameters["TaskInstanceId"]["example"],
        "retrySubtask": parameters["SubtaskInstanceId"]["example"],
    }


def test_an_example_of_an_operation_shows_what_the_operation_did() -> None:
    data = {row[0]: row[4]["data"] for row in response_examples() if "data" in row[4]}

    retried, rolling_back, subtask = (
        data["retryTask"],
        data["rollbackTask"],
        data["retrySubtask"],
    )

    assert (retried["status"], retried["operation"]) == ("RUNNING", "RETRY")
    assert (rolling_back["status"], rolling_back["operation"]) == ("RUNNING", "ROLLBACK")
    assert (subtask["status"], subtask["operation"]) == ("READY", "RETRY")


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_names_a_public_source(name: str) -> None:
    source = SCHEMAS[name]["x-source"]

    assert any(source.get(kind) for kind in ("documents", "pages", "code"))
    assert set(source.get("documents", [])) <= set(CONTRACT["info"]["x-source"]["documents"])


def test_every_contradiction_of_the_documents_is_settled_with_a_reason() -> None:
    overruled = [
        entry for node in nodes(CONTRACT) for entry in node.get("x-source", {}).get("overruled", [])
    ]

    assert {entry["settles"] for entry in overruled} == set(range(1, 23))
    assert all(set(entry) == {"settles", "says", "taken", "because"} for entry in overruled)


def test_every_enum_is_pinned() -> None:
    enums = {name: schema["enum"] for name, schema in SCHEMAS.items() if "enum" in schema}

    assert enums == ENUMS


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ((), "isRemote"),
        (("creator",), "department"),
        (("subtasks", 0), "className"),
        (("subtasks", 0), "progress"),
    ],
)
def test_a_real_server_may_send_unknown_keys(path: tuple[str | int, ...], key: str) -> None:
    given = task()
    place: Any = given
    for step in path:
        place = place[step]

    place[key] = "anything"

    assert mistakes(component("WrappedTaskInstance"), given) == []


@pytest.mark.parametrize("key", ["cluster", "tenant", "finishTime"])
def test_null_in_place_of_an_absent_key_of_a_task_is_refused(key: str) -> None:
    absent = task()
    absent.pop(key, None)

    assert mistakes(component("WrappedTaskInstance"), absent) == []
    assert mistakes(component("WrappedTaskInstance"), {**absent, key: None})


@pytest.mark.parametrize(
    "key", ["executor", "createTime", "startTime", "finishTime", "prohibitRollback"]
)
def test_null_in_place_of_an_absent_key_of_a_subtask_is_refused(key: str) -> None:
    absent = task()["subtasks"][0]
    del absent[key]

    assert mistakes(component("SubtaskInstance"), absent) == []
    assert mistakes(component("SubtaskInstance"), {**absent, key: None})


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("parallelIdx", "paralleIdx"), ("downstreams", "downstream")],
)
def test_the_misspelt_names_of_the_tables_are_refused(right: str, wrong: str) -> None:
    subtask = task()["subtasks"][0]

    subtask[wrong] = subtask.pop(right)

    assert mistakes(component("SubtaskInstance"), subtask) == [
        f"$: '{right}' is a required property"
    ]


@pytest.mark.parametrize("key", sorted(set(task()) - {"finishTime"}))
def test_a_task_without_what_all_samples_have_is_refused(key: str) -> None:
    given = task()

    del given[key]

    assert mistakes(component("WrappedTaskInstance"), given)


@pytest.mark.parametrize("key", sorted(NEVER_ABSENT))
def test_a_subtask_without_what_all_samples_have_is_refused(key: str) -> None:
    subtask = task()["subtasks"][0]

    del subtask[key]

    assert mistakes(component("SubtaskInstance"), subtask)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("status", 1),
        ("status", "SUCCEED"),
        ("type", "SYS_ONECE"),
        ("id", "35000312"),
        ("creator", "admin"),
        ("prohibitRollback", "false"),
        ("createTime", "2021-08-25 15:09:31"),
    ],
)
def test_the_wrong_guesses_about_a_task_are_refused(key: str, value: Any) -> None:
    given = {**task(), key: value}

    assert mistakes(component("WrappedTaskInstance"), given)


@pytest.mark.parametrize("code", ["COM10001", "0", None])
def test_an_error_code_that_is_not_an_integer_is_refused(code: Any) -> None:
    refused = copy.deepcopy(CONTRACT["components"]["examples"]["UnknownTask"]["value"])

    refused["error"]["code"] = code

    assert mistakes(component("ErrorResponse"), refused)


@pytest.mark.parametrize("key", ["code", "message"])
def test_an_error_without_a_code_or_a_message_is_refused(key: str) -> None:
    refused = copy.deepcopy(CONTRACT["components"]["examples"]["UnknownTask"]["value"])

    del refused["error"][key]

    assert mistakes(component("ErrorResponse"), refused)


def test_an_answer_to_a_skip_or_a_cancel_carries_no_data() -> None:
    bare = CONTRACT["components"]["examples"]["NoData"]["value"]

    assert mistakes(component("NoDataResponse"), bare) == []
    assert mistakes(component("NoDataResponse"), {**bare, "data": {}})


@pytest.mark.parametrize("name", ["000_cd0e6c4c3689dc1a", "004_e3d9e9fc43bd9445"])
def test_a_success_that_calls_itself_unsuccessful_is_refused(name: str) -> None:
    contradictory = {**sample(name), "successful": False}

    assert mistakes(component("TaskResponse"), contradictory)


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        ("2021-08-25T15:09:31Z", True),
        ("2021-08-25T15:09:31.5+08:00", True),
        ("2021-08-25T15:09:31.123456789-03:30", True),
        ("2021-08-25T15:09:31.067+0800", True),
        ("2021-08-25T15:09:31", False),
        ("2021-08-25T15:09Z", False),
        ("2021-08-25T15:09:31.+08:00", False),
        ("2021-13-25T15:09:31Z", False),
        ("2021-08-25 15:09:31Z", False),
    ],
)
def test_a_timestamp_has_seconds_an_offset_and_perhaps_a_fraction(text: str, is_read: bool) -> None:
    assert (mistakes(component("Timestamp"), text) == []) is is_read


def test_a_refusal_documents_the_headers_that_go_with_it() -> None:
    responses = CONTRACT["components"]["responses"]

    headers = {name: set(response.get("headers", {})) for name, response in responses.items()}

    assert headers["Unauthorized"] == {"WWW-Authenticate"}
    assert headers["MethodNotAllowed"] == {"Allow"}
    assert headers["TooManyRequests"] == {
        *("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"),
    }


def test_every_link_leads_to_an_operation_and_gives_the_parameters_it_needs() -> None:
    links = [
        follow(link)
        for operation in OPERATIONS.values()
        for link in operation["responses"]["200"].get("links", {}).values()
    ]

    needed = {
        name: {follow(p)["name"] for p in operation["parameters"] if follow(p).get("required")}
        for name, operation in OPERATIONS.items()
    }

    assert {link["operationId"] for link in links} == set(STATUSES) - {"listTaskInstances"}
    assert all(set(link["parameters"]) == needed[link["operationId"]] for link in links)
