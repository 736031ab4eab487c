"""contract.py: finding, reading and checking contracts, and the view of them that the app runs."""

from pathlib import Path
from typing import Any

import pytest

from oceanmock.errors import EnvironmentProblem, InputError
from oceanmock.openapi import (
    check_spec,
    data_folder,
    find_operation,
    load_spec,
    operations_at,
    operations_of,
    runtime_view,
    spec_path,
)

TINY = """
openapi: 3.0.3
info: {title: Tiny, version: '1'}
paths:
  /things/{id}:
    parameters:
      - {name: id, in: path, required: true, schema: {type: integer, format: int64, minimum: 1}}
    get:
      operationId: getThing
      x-permission: VIEWER
      parameters:
        - {name: size, in: query, schema: {type: integer, format: int32}, example: 3}
      responses:
        '200':
          description: A thing.
          content: {application/json: {schema: {$ref: '#/components/schemas/Thing'}}}
        404: {description: None.}
    delete:
      operationId: deleteThing
      responses: {'204': {description: Gone.}}
components:
  schemas:
    Color: {type: string, enum: [RED, BLUE]}
    Thing:
      type: object
      x-source: {pages: [things.md]}
      properties:
        example: {type: string, example: text}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Any:
    return load_spec(written(tmp_path, TINY))


@pytest.mark.parametrize("name", ["openapi", "scenarios"])
def test_the_data_folders_of_a_checkout_stand_beside_its_pyproject(name: str) -> None:
    folder = data_folder(name)

    assert folder == Path(__file__).parents[1] / name


def test_a_missing_data_folder_is_a_problem_of_the_environment() -> None:
    with pytest.raises(EnvironmentProblem, match=r"'recipes'.*Install oceanmock again"):
        data_folder("recipes")


def test_an_operation_is_listed_with_all_the_app_needs_to_know_of_it(tiny: Any) -> None:
    get_thing, delete_thing = operations_of(tiny)

    assert (get_thing.id, get_thing.method, get_thing.path) == ("getThing", "GET", "/things/{id}")
    assert (get_thing.permission, get_thing.statuses) == ("VIEWER", ("200", "404"))
    assert (delete_thing.id, delete_thing.permission) == ("deleteThing", None)


def test_an_operation_without_an_id_is_named(tmp_path: Path) -> None:
    spec = load_spec(written(tmp_path, TINY.replace("operationId: deleteThing", "summary: x")))

    with pytest.raises(InputError, match=r"^DELETE /things/\{id\} has no operationId"):
        operations_of(spec)


@pytest.mark.parametrize(
    ("api", "method", "path", "asked"),
    [
        ("obshell", "GET", "/api/v1/task/dag/unfinish", "getUnfinishedDags"),
        ("obshell", "GET", "/api/v1/task/dag/x%2Fy", "getDagDetail"),
        ("obshell", "POST", "/api/v1/task/dag/1", "dagHandler"),
        ("obshell", "DELETE", "/api/v1/task/dag/1", None),
        ("obshell", "GET", "/api/v1/task/dag/", None),
        ("obshell", "GET", "/api/v1/task/dag/1/", None),
        ("ocp", "DELETE", "/api/v2/tasks/instances/1", "getTaskInstance"),
        ("ocp", "GET", "/api/v2/tasks", None),
    ],
)
def test_the_operation_that_is_asked_is_known_by_method_and_path(
    api: str, method: str, path: str, asked: str | None
) -> None:
    operations = operations_of(load_spec(spec_path(api)))

    found = find_operation(operations, method, path)

    assert (found.id if found else None) == asked


def test_operations_at_a_path_come_with_the_literal_path_first() -> None:
    operations = operations_of(load_spec(spec_path("obshell")))

    found = [each.id for each in operations_at(operations, "/api/v1/task/dag/unfinish")]

    assert found == ["getUnfinishedDags", "getDagDetail", "dagHandler"]


def test_a_contract_is_read_again_only_when_its_file_has_changed(tmp_path: Path) -> None:
    path = written(tmp_path, TINY)
    first = load_spec(path)

    assert load_spec(path) is first


def test_every_key_of_a_contract_is_a_text(tmp_path: Path) -> None:
    path = written(tmp_path, "openapi: 3.0.3\npaths: {}\nx-days: {2024-01-10: {200: OK}}\n")

    assert load_spec(path)["x-days"] == {"2024-01-10": {"200": "OK"}}


def test_text_that_is_no_yaml_is_refused_with_its_place(tmp_path: Path) -> None:
    path = written(tmp_path, "openapi: 3.0.3\npaths: {a: [\n")

    with pytest.raises(InputError, match=r"tiny\.yaml:3:1: not YAML"):
        load_spec(path)


def test_yaml_that_is_no_contract_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "summary: a scenario\n")

    with pytest.raises(InputError, match=r"tiny\.yaml:1:1: not an OpenAPI document"):
        load_spec(path)


def test_a_contract_that_is_not_there_is_a_problem_of_the_environment(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"cannot read the contract .*none\.yaml"):
        load_spec(tmp_path / "none.yaml")


def test_our_contracts_have_no_mistakes() -> None:
    assert check_spec(spec_path("ocp")) == []


def test_every_mistake_of_a_contract_is_listed_with_its_place(tmp_path: Path) -> None:
    broken = TINY.replace("operationId: deleteThing", "operationId: getThing")
    path = written(tmp_path, broken.replace("title: Tiny, ", ""))

    mistakes = check_spec(path)

    assert len(mistakes) == 2
    assert f'{path}: #/info: "title" is a required property' in mistakes
    assert any("getThing" in mistake for mistake in mistakes)


def test_openapi_3_1_is_a_mistake_because_connexion_does_not_read_it(tmp_path: Path) -> None:
    path = written(tmp_path, TINY.replace("3.0.3", "3.1.0"))

    assert check_spec(path) == [f"{path}: 'openapi' must be 3.0.x; connexion does not read '3.1.0'."]


def test_the_runtime_view_gives_each_operation_the_parameters_of_its_path(tiny: Any) -> None:
    item = runtime_view(tiny)["paths"]["/things/{id}"]

    assert [parameter["name"] for parameter in item["get"]["parameters"]] == ["size", "id"]
    assert [parameter["name"] for parameter in item["delete"]["parameters"]] == ["id"]
    assert "parameters" not in item


def test_the_runtime_view_bounds_an_integer_as_its_format_says(tiny: Any) -> None:
    size, id = runtime_view(tiny)["paths"]["/things/{id}"]["get"]["parameters"]

    assert (size["schema"]["minimum"], size["schema"]["maximum"]) == (-(2**31), 2**31 - 1)
    assert (id["schema"]["minimum"], id["schema"]["maximum"]) == (1, 2**63 - 1)


def test_the_runtime_view_leaves_prose_out_but_not_a_property_of_that_name(tiny: Any) -> None:
    view = runtime_view(tiny)

    assert view["components"]["schemas"]["Thing"] == {"type": "object", "properties": {"example": {"type": "string"}}}


def test_the_runtime_view_answers_an_alias_as_the_path_it_stands_for(tiny: Any) -> None:
    paths = runtime_view(tiny, aliases={"/stuff/{id}": "/things/{id}"})["paths"]

    assert paths["/stuff/{id}"] == paths["/things/{id}"]


def test_the_runtime_view_changes_nothing_in_the_contract_itself(tiny: Any) -> None:
    before = repr(tiny)

    runtime_view(tiny, aliases={"/stuff/{id}": "/things/{id}"})["paths"].clear()

    assert repr(tiny) == before
