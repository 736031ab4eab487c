"""Lint the contract of OCP against the documents that it was written from.

The samples in tests/data/documents are the vendor's, as the documents print them; 003 is kept as
malformed as it is. Only openapi/ocp.yaml is checked: no server, no network.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from contract_file import Case, ContractFile, component, nodes

ROOT = Path(__file__).parents[1]
DOCUMENTS = ROOT / "tests" / "data" / "documents"
MALFORMED = DOCUMENTS / "003_57ed2ca381917a31.malformed.txt"
OCP = ContractFile("ocp")
CONTRACT, SCHEMAS, OPERATIONS = OCP.document, OCP.schemas, OCP.operations
problems, follow, response_examples = OCP.problems, OCP.follow, OCP.response_examples

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


def without(value: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a copy without a key."""
    return {other: each for other, each in value.items() if other != key}


def test_the_contract_has_exactly_the_eight_public_operations() -> None:
    paths = {operation["path"] for operation in OPERATIONS.values()}

    assert set(OPERATIONS) == set(STATUSES)
    assert all(path.startswith("/api/v2/tasks/instances") for path in paths)
    assert CONTRACT["servers"] == [{"url": "/"}]


def test_every_operation_documents_its_statuses() -> None:
    assert {name: set(each["responses"]) for name, each in OPERATIONS.items()} == STATUSES


def test_reading_needs_the_viewers_permission_and_changing_the_managers() -> None:
    permissions = {name: operation["x-permission"] for name, operation in OPERATIONS.items()}

    assert permissions == {
        name: "TASK_VIEWER" if name.startswith(("get", "list")) else "TASK_MANAGER" for name in STATUSES
    }


def test_every_operation_takes_a_password_or_a_signature() -> None:
    schemes = CONTRACT["components"]["securitySchemes"]

    assert CONTRACT["security"] == [{"basicAuth": []}, {"accessKey": []}]
    assert set(schemes) == {"basicAuth", "accessKey"}
    assert not [name for name, operation in OPERATIONS.items() if "security" in operation]


def test_every_parameter_has_a_type() -> None:
    parameters = [follow(each) for name in STATUSES for each in OPERATIONS[name]["parameters"]]

    assert {follow(each["schema"])["type"] for each in parameters} <= {"integer", "string", "array"}


def test_the_list_takes_the_documented_parameters_and_no_other() -> None:
    parameters = OPERATIONS["listTaskInstances"]["parameters"]

    names = [follow(parameter)["name"] for parameter in parameters]

    assert names == [
        *("name", "status", "type", "clusterName", "cluterName", "clusterId", "tenantName", "tenantId"),
        *("hostId", "page", "size", "sort"),
    ]


def test_a_page_has_ten_tasks_unless_asked_and_two_thousand_at_most() -> None:
    page, size = (CONTRACT["components"]["parameters"][name]["schema"] for name in ("Page", "Size"))

    assert (page["minimum"], page["default"]) == (1, 1)
    assert (size["minimum"], size["default"], size["maximum"]) == (1, 10, 2000)


def test_several_states_are_asked_for_with_commas() -> None:
    status = CONTRACT["components"]["parameters"]["Status"]

    assert (status["style"], status["explode"]) == ("form", False)
    assert status["schema"]["items"] == {"type": "string"}


def test_parameters_accept_what_the_documents_allow_and_nothing_else() -> None:
    parameters = {name: parameter["schema"] for name, parameter in CONTRACT["components"]["parameters"].items()}
    ids = [(value, False) for value in (-(2**63) - 1, 2**63, 1.5, "1", "abc", None, True)]
    orders = {"id,asc": True, "finishTime,DESC": True, "name": True, "id,up": False,
              "creator,asc": True, "age,asc": False, "": False}  # fmt: skip

    assert (
        OCP.misjudged(
            [
                *(
                    Case(name, parameters[name], value, valid)
                    for name in ("TaskInstanceId", "SubtaskInstanceId")
                    for value, valid in [*ids, (-1, True), (0, True), (2**63 - 1, True)]
                ),
                *(Case("Sort", parameters["Sort"], order, valid) for order, valid in orders.items()),
            ]
        )
        == []
    )


def test_every_sample_in_the_documents_validates() -> None:
    samples = {
        "000_cd0e6c4c3689dc1a": "rollbackTask",
        "002_34a3c1ff3594d881": "getTaskInstance",
        "004_e3d9e9fc43bd9445": "getTaskInstance",
    }

    assert (
        OCP.misjudged(
            Case(name, response["content"]["application/json"]["schema"], sample(name), valid=True)
            for name, operation in samples.items()
            for response in [OPERATIONS[operation]["responses"]["200"]]
        )
        == []
    )


def test_every_sample_is_accounted_for() -> None:
    kept = {path.name.split(".")[0] for path in DOCUMENTS.glob("00[0234]_*")}

    assert kept == set(CONTRACT["info"]["x-source"]["documents"])


def test_sample_003_is_not_json_as_it_is_printed() -> None:
    printed = MALFORMED.read_text("utf-8")

    with pytest.raises(json.JSONDecodeError, match="Extra data: line 26"):
        json.loads(printed)


def test_sample_003_validates_once_its_fields_are_inside_data() -> None:
    repaired = repaired_003()

    assert problems(component("SubtaskResponse"), repaired) == []
    assert repaired["data"]["id"] == 13000333
    assert list(repaired) == [*("data", "duration", "server", "status", "successful", "timestamp", "traceId")]


def test_every_example_of_a_parameter_a_header_or_a_schema_validates() -> None:
    components = CONTRACT["components"]
    described = [*components["parameters"].values(), *components["headers"].values()]

    broken = [(node, found) for node in described if (found := problems(node["schema"], node["example"]))] + [
        (name, found)
        for name, schema in SCHEMAS.items()
        if "example" in schema and (found := problems(component(name), schema["example"]))
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

    retried, rolling_back, subtask = (data["retryTask"], data["rollbackTask"], data["retrySubtask"])

    assert (retried["status"], retried["operation"]) == ("RUNNING", "RETRY")
    assert (rolling_back["status"], rolling_back["operation"]) == ("RUNNING", "ROLLBACK")
    assert (subtask["status"], subtask["operation"]) == ("READY", "RETRY")


def test_every_document_that_a_schema_names_is_listed() -> None:
    documents = {document for schema in SCHEMAS.values() for document in schema["x-source"].get("documents", [])}

    assert documents <= set(CONTRACT["info"]["x-source"]["documents"])


def test_every_contradiction_of_the_documents_is_settled_with_a_reason() -> None:
    overruled = [entry for node in nodes(CONTRACT) for entry in node.get("x-source", {}).get("overruled", [])]

    assert {entry["settles"] for entry in overruled} == set(range(1, 23))
    assert all(set(entry) == {"settles", "says", "taken", "because"} for entry in overruled)


def test_every_enum_is_pinned() -> None:
    enums = {name: schema["enum"] for name, schema in SCHEMAS.items() if "enum" in schema}

    assert enums == ENUMS


def test_tasks_and_subtasks_are_read_as_the_samples_have_them() -> None:
    whole, subtask = component("WrappedTaskInstance"), component("SubtaskInstance")
    of_task = ("cluster", "tenant", "finishTime")
    of_subtask = ("executor", "createTime", "startTime", "finishTime", "prohibitRollback")
    wrong = [("status", 1), ("status", "SUCCEED"), ("type", "SYS_ONECE"), ("id", "35000312"),
             ("creator", "admin"), ("prohibitRollback", "false"),
             ("createTime", "2021-08-25 15:09:31")]  # fmt: skip
    misspelt = {"parallelIdx": "paralleIdx", "downstreams": "downstream"}
    first = task()["subtasks"][0]

    assert (
        OCP.misjudged(
            [
                Case("unknown key", whole, {**task(), "isRemote": "x"}, True),
                Case("unknown key", whole, {**task(), "creator": {**task()["creator"], "x": 1}}, True),
                Case("unknown key", subtask, {**first, "className": "x", "progress": "x"}, True),
                *(Case("absent key", whole, without(task(), key), True) for key in of_task),
                *(Case("null", whole, {**task(), key: None}, False) for key in of_task),
                *(Case("absent key", subtask, without(first, key), True) for key in of_subtask),
                *(Case("null", subtask, {**first, key: None}, False) for key in of_subtask),
                *(
                    Case("misspelt", subtask, {**without(first, right), name: first[right]}, False)
                    for right, name in misspelt.items()
                ),
                *(Case(f"without {key}", whole, without(task(), key), False) for key in set(task()) - {"finishTime"}),
                *(Case(f"no {key}", subtask, without(first, key), False) for key in NEVER_ABSENT),
                *(Case("wrong guess", whole, {**task(), key: value}, False) for key, value in wrong),
            ]
        )
        == []
    )


def test_an_error_has_an_integer_code_and_a_message() -> None:
    schema, refused = component("ErrorResponse"), CONTRACT["components"]["examples"]["UnknownTask"]
    error = refused["value"]["error"]

    def response(error: dict[str, Any]) -> dict[str, Any]:
        return {**refused["value"], "error": error}

    codes = ("COM10001", "0", None)

    assert (
        OCP.misjudged(
            [
                *(Case("code", schema, response({**error, "code": code}), False) for code in codes),
                Case("no code", schema, response(without(error, "code")), False),
                Case("no message", schema, response(without(error, "message")), False),
            ]
        )
        == []
    )


def test_an_answer_to_a_skip_or_a_cancel_carries_no_data() -> None:
    bare = CONTRACT["components"]["examples"]["NoData"]["value"]

    assert problems(component("NoDataResponse"), bare) == []
    assert problems(component("NoDataResponse"), {**bare, "data": {}})


def test_a_success_that_calls_itself_unsuccessful_is_refused() -> None:
    assert (
        OCP.misjudged(
            Case(name, component("TaskResponse"), {**sample(name), "successful": False}, valid=False)
            for name in ("000_cd0e6c4c3689dc1a", "004_e3d9e9fc43bd9445")
        )
        == []
    )


def test_a_timestamp_has_seconds_an_offset_and_perhaps_a_fraction() -> None:
    texts = {
        "2021-08-25T15:09:31Z": True,
        "2021-08-25T15:09:31.5+08:00": True,
        "2021-08-25T15:09:31.123456789-03:30": True,
        "2021-08-25T15:09:31.067+0800": True,
        "2021-08-25T15:09:31": False,
        "2021-08-25T15:09Z": False,
        "2021-08-25T15:09:31.+08:00": False,
        "2021-13-25T15:09:31Z": False,
        "2021-08-25 15:09:31Z": False,
    }

    assert OCP.misjudged(Case("timestamp", component("Timestamp"), text, valid) for text, valid in texts.items()) == []


def test_a_refusal_documents_the_headers_that_go_with_it() -> None:
    responses = CONTRACT["components"]["responses"]

    headers = {name: set(response.get("headers", {})) for name, response in responses.items()}

    assert headers["Unauthorized"] == {"WWW-Authenticate"}
    assert headers["MethodNotAllowed"] == {"Allow"}
    assert headers["TooManyRequests"] == {*("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")}


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
