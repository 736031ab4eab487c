"""What ``serve`` prints once it listens: what is served, and every operation as a line to paste.

Lines for OCP are curl's. obshell's headers are sealed for each request, which no shell does, so its
line is one of the vendor's Python SDK; where nobody has to authenticate, they are curl's as well.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from urllib.parse import urlsplit

from oceanmock import __version__
from oceanmock.engine.sandbox import Sandbox
from oceanmock.obshell import scenario as obshell
from oceanmock.obshell.world import Dag, Dags, id_of
from oceanmock.ocp import scenario as ocp
from oceanmock.ocp.world import Task, Tasks
from oceanmock.openapi import Operation, load_spec, operations_of, spec_path
from oceanmock.scenario.fields import BaseScenario
from oceanmock.scenario.submit_calls import StartsOn
from oceanmock.text import plural

NAME_WIDTH: Final = 32
OPERATION_WIDTH: Final = 18


def welcome(
    sandbox: Sandbox, scenarios: Sequence[BaseScenario], url: str, *, with_auth: bool
) -> Iterator[str]:
    """The lines, the last of which says that the server is ready."""
    tasks = [view.task for view in sandbox.world(Tasks).all()]
    dags = [
        view.dag
        for view in (*sandbox.world(Dags).all("agent"), *sandbox.world(Dags).all("cluster"))
    ]
    clock, agent = sandbox.clock, sandbox.world(Dags).agent
    pace = f"{clock.progression} × {clock.speed:g}" if clock.speed != 1 else clock.progression
    of_ocp, of_obshell = sandbox.world(Tasks).templates, sandbox.world(Dags).templates
    held = [f"OCP, {_held(len(tasks), 'task', len(of_ocp))}"] if tasks or of_ocp else []
    if dags or of_obshell:
        where = f"{agent.ip}:{agent.port} ({agent.identity})"
        held.append(f"obshell {where}, {_held(len(dags), 'dag', len(of_obshell))}")
    yield f"oceanmock {__version__}: {'; '.join(held)}; progression {pace}"
    for scenario in scenarios:
        yield f"  {scenario.name:<{NAME_WIDTH}}{scenario.summary}"
    if tasks:
        yield ""
        yield from _lines(_of_ocp(_telling_task(tasks, scenarios), url, with_auth=with_auth))
    if dags:
        yield ""
        telling = _telling_dag(dags, scenarios)
        yield from _lines(_of_obshell(sandbox, telling, url, with_auth=with_auth))
    if of_ocp or of_obshell:
        yield ""
        yield from (_of_template(each.starts_on, each.model.name) for each in of_ocp)
        yield from (_of_template(each.starts_on, each.model.name) for each in of_obshell)
    yield f"\nReady on {url} (stop it with Ctrl-C)"


def _held(there: int, noun: str, on_request: int) -> str:
    """How many are there, and how many more kinds a client may start."""
    if not on_request:
        return plural(there, noun)
    begun = f"{plural(there, noun)} and " if there else ""
    return f"{begun}{plural(on_request, noun)} on request"


def _of_template(starts_on: StartsOn, name: str | None) -> str:
    """The request that starts a task or dag."""
    needs = "" if starts_on.body is None else f" with {json.dumps(starts_on.body)}"
    return f"  {starts_on.method} {starts_on.path}{needs} starts {name!r}"


def _lines(commands: Iterable[tuple[Operation, str]]) -> Iterator[str]:
    """Each operation and its command, the commands in one column."""
    listed = list(commands)
    width = max(OPERATION_WIDTH, *(len(operation.id) for operation, _ in listed))
    for operation, command in listed:
        yield f"  {operation.id:<{width}} {command}"


# --- OCP ------------------------------------------------------------------------------------------


def _telling_task(tasks: Sequence[Task], scenarios: Sequence[BaseScenario]) -> tuple[Task, int]:
    """The task to paste commands about, and the subtask: one that fails, of the first scenario
    that is about one task, or else the first."""
    by_id = {task.id: task for task in tasks}
    of_ocp = [each for each in scenarios if isinstance(each, ocp.Scenario)]
    for scenario in sorted(of_ocp, key=lambda each: each.name != "retry-failed-subtask"):
        for model in scenario.tasks:
            for place, subtask in enumerate(model.subtasks):
                if model.id in by_id and subtask.attempts[0].ends == "FAILED":
                    return by_id[model.id], place
    return tasks[0], 0


def _of_ocp(
    telling: tuple[Task, int], url: str, *, with_auth: bool
) -> Iterator[tuple[Operation, str]]:
    task, place = telling
    for operation in operations_of(load_spec(spec_path("ocp"))):
        path = operation.path.replace("{taskInstanceId}", str(task.id)).replace(
            "{subtaskInstanceId}", str(task.subtasks[place].id)
        )
        user = "viewer:viewer" if operation.permission == "TASK_VIEWER" else "manager:manager"
        who = f" -u {user}" if with_auth else ""
        method = "" if operation.method == "GET" else f" -X {operation.method}"
        yield operation, f"curl -s{who}{method} {url}{path}"


# --- obshell --------------------------------------------------------------------------------------


def _telling_dag(dags: Sequence[Dag], scenarios: Sequence[BaseScenario]) -> tuple[Dag, int]:
    """The dag to paste commands about, and the node: one that fails, or else the first."""
    by_key: dict[tuple[str, int | None], Dag] = {(dag.store, dag.number): dag for dag in dags}
    of_obshell = [each for each in scenarios if isinstance(each, obshell.Scenario)]
    for scenario in sorted(of_obshell, key=lambda each: each.name != "initialize-cluster-fails"):
        for model in scenario.dags:
            for place, node in enumerate(model.nodes):
                fails = any(each.runs[0].outcome == "FAILED" for each in node.sub_tasks)
                if fails and (model.scope, model.id) in by_key:
                    return by_key[model.scope, model.id], place
    return dags[0], 0


def _of_obshell(
    sandbox: Sandbox, telling: tuple[Dag, int], url: str, *, with_auth: bool
) -> Iterator[tuple[Operation, str]]:
    agent, (dag, place) = sandbox.world(Dags).agent, telling
    node = dag.nodes[place]
    numbers = {"dag": dag.number, "node": node.number, "sub_task": node.sub_tasks[0].number}
    ids = {kind: id_of(dag, number) for kind, number in numbers.items()}
    for operation in operations_of(load_spec(spec_path("obshell"))):
        kind = operation.path.removesuffix("/logs").split("/")[-2]
        path = operation.path.replace("{id}", ids.get(kind, ""))
        if not with_auth:
            yield operation, _plain_curl(operation, f"{url}{path}")
        elif operation.id == "getAgentInfo":
            yield operation, f"curl -s {url}{path}"
        elif operation.id == "getDagDetail":
            yield operation, _sdk_call(url, agent, f"get_dag('{ids['dag']}').state")
        elif operation.id == "dagHandler":
            call = f"operate_dag('{ids['dag']}', 'ROLLBACK')"
            yield operation, _sdk_call(url, agent, call)


def _plain_curl(operation: Operation, url: str) -> str:
    if operation.method == "GET":
        return f"curl -s {url}"
    operator = "PASS" if operation.id == "nodeHandler" else "ROLLBACK"
    return f"""curl -s -d '{{"operator": "{operator}"}}' {url}"""


def _sdk_call(url: str, agent: obshell.Agent, call: str) -> str:
    """A line for the vendor's SDK (`pip install obshell`)."""
    where = urlsplit(url)
    code = (
        "from obshell import ClientSet; from obshell.auth import PasswordAuth; "
        f"print(ClientSet('{where.hostname}', {where.port}, {_password_of(agent)}).v1.{call})"
    )
    needs_care = any(sign in code for sign in '"$`\\!')
    return f"python -c {shlex.quote(code)}" if needs_care else f'python -c "{code}"'


def _password_of(agent: obshell.Agent) -> str:
    """The password that an agent takes: its own, where it has one and no master to forward to."""
    if agent.agent_password is None or agent.identity == "FOLLOWER":
        return f"PasswordAuth({agent.root_password or ''!a})"
    return f"PasswordAuth(agent_password={agent.agent_password!a})"
