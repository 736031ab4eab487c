"""A run of schemathesis against an app over HTTP, and what the app was seen to answer.

A clean run says little by itself: one that is answered 404 throughout is clean too. So the app is
served behind a ``Recorder``, and a run counts only for the answers that were seen.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hypothesis
import schemathesis

from oceanmock.engine.sandboxes import DEFAULT_SANDBOX
from oceanmock.http.app import App
from oceanmock.http.server import Server
from oceanmock.openapi import Operation, load_spec, operations_at, operations_of, spec_path

HERE = Path(__file__).parent
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
NO_PATH = "no path of the contract"
NO_METHOD = "no method of its path"


class Recorder:
    """An ASGI app around another, that notes each operation's answers by their status.

    What is no path of the contract, and a method that a path does not know, are noted under their
    own names; but where the contract documents 405, that is an answer of the path's operation.
    """

    def __init__(self, app: App, api: str) -> None:
        self.app = app
        self.spec = spec_path(api)
        self.operations = operations_of(load_spec(self.spec))
        self.seen: defaultdict[str, Counter[int]] = defaultdict(Counter)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def noting_send(message: Any) -> None:
            if message["type"] == "http.response.start":
                asked = self.operation_of(scope["method"], scope["path"])
                self.seen[asked][message["status"]] += 1
            await send(message)

        await self.app(scope, receive, noting_send)

    def statuses(self) -> dict[str, set[int]]:
        """The statuses that each operation has answered."""
        return {operation: set(counts) for operation, counts in self.seen.items()}

    def operation_of(self, method: str, path: str) -> str:
        """The operation that is asked, whatever its ids; a literal path goes before a variable."""
        at_path = operations_at(self.operations, path)
        asked = [o.id for o in at_path if o.method == method or "405" in o.statuses]
        return asked[0] if asked else NO_METHOD if at_path else NO_PATH


def documented(operation: Operation) -> set[int]:
    """The statuses that the contract documents for an operation."""
    return {int(status) for status in operation.statuses}


@dataclass(frozen=True, slots=True)
class Finding:
    """A check that failed, what was asked, and the error it was answered: errCode and message."""

    operation: str
    check: str
    query: str
    status: int
    said: str


def run_cleanly(
    recorder: Recorder, config: Path, *options: str, env: Mapping[str, str] | None = None
) -> dict[str, set[int]]:
    """A run that finds nothing, and the statuses each operation answered."""
    run = _run(recorder, config, options, env or {})
    assert run.returncode == 0, "schemathesis found something: see its report below"
    return recorder.statuses()


def run_for_findings(
    recorder: Recorder, config: Path, *options: str, report: Path, env: Mapping[str, str] | None = None
) -> list[Finding]:
    """Everything a run has found; ``report`` is where schemathesis may write what it did."""
    run = _run(recorder, config, (*options, "--report-ndjson-path", str(report)), env or {})
    events = [json.loads(line) for line in report.read_text("utf-8").splitlines()]
    findings = [each for event in events for each in _findings_in(event, recorder)]
    assert run.returncode == bool(findings)
    assert not [event for event in events if event.keys() & {"FatalError", "NonFatalError"}]
    return findings


def walk(recorder: Recorder, config: Path, *, walks: int, auth: Any = None) -> dict[str, set[int]]:
    """So many walks along the links of the contract, each in the app's sandbox as it was at first.

    They are the same every time. Gives back the statuses that each operation has answered.
    """
    schema = schemathesis.openapi.from_path(recorder.spec, config=schemathesis.Config.from_path(str(config)))
    if auth is None:
        schema.config.checks.update(excluded_check_names=["ignored_auth"])

    settings = hypothesis.settings(
        max_examples=walks,
        stateful_step_count=8,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    schema.filter_set.exclude(tag="submits")
    with Server(recorder) as server:
        schema.config.update(base_url=server.url)

        class Walk(schema.as_state_machine()):  # type: ignore[misc]
            def setup(self) -> None:
                recorder.app.sandboxes.reset(DEFAULT_SANDBOX)

            def get_call_kwargs(self, case: Any) -> dict[str, Any]:
                return {} if auth is None else {"auth": auth}

        Walk.run(settings=settings)
    return recorder.statuses()


def _run(
    recorder: Recorder, config: Path, options: tuple[str, ...], env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    with Server(recorder) as server:
        run = subprocess.run(
            [
                str(SCHEMATHESIS),
                *("--config-file", str(config), "run", str(recorder.spec)),
                *("--url", server.url, *(() if "--include-tag" in options else ("--exclude-tag", "submits")), *options),
            ],
            capture_output=True,
            text=True,
            cwd=HERE,
            env={**os.environ, "PYTHONPATH": _search_path(), "COLUMNS": "120", **env},
            check=False,
        )
    seen = {operation: dict(counts) for operation, counts in recorder.seen.items()}
    print(run.stdout, run.stderr, f"Answered: {seen}", sep="\n")  # pytest shows it on failure
    return run


def _search_path() -> str:
    """Where the hooks are found, and what the tests themselves have been told."""
    return os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])


def _findings_in(event: Any, recorder: Recorder) -> Iterator[Finding]:
    """The failed checks of an event of a report, each with the exchange it is about."""
    done = event.get("ScenarioFinished", {}).get("recorder", {})
    for case, checks in done.get("checks", {}).items():
        for check in checks:
            if check["status"] != "success":
                failure = check["failure_info"]["failure"]
                exchange = done["interactions"][failure["case_id"] or case]
                yield _finding(check["name"], exchange, recorder)


def _finding(check: str, exchange: Any, recorder: Recorder) -> Finding:
    request, response = exchange["request"], exchange["response"]
    target = urlsplit(request["uri"])
    answer = json.loads(base64.b64decode(response["content"]["$base64"]))
    return Finding(
        operation=recorder.operation_of(request["method"], target.path),
        check=check,
        query=target.query,
        status=response["status_code"],
        said="{errCode}: {message}".format_map(answer["error"]) if "error" in answer else "",
    )
