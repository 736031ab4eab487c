"""The toy's words."""

from pathlib import Path
from typing import Final

from oceanmock.api import Api, Kind, Route

JOBS_PATH: Final = "/toy/jobs"
JOB_PATH: Final = "/toy/jobs/{job}"

API: Final = Api(
    name="toy",
    title="Toy",
    package="toy_api",
    prefix="/toy/",
    kinds=(
        Kind(
            name="job",
            title="job",
            states=("BUSY", "BROKEN", "DONE"),
            terminal_states=frozenset({"BROKEN", "DONE"}),
            shown_operations=("RUN", "RETRY"),
            operations=("RETRY",),
            detail="getJob",
        ),
    ),
    routes=(
        Route("listJobs", JOBS_PATH, lists="job", shows="job"),
        Route("getJob", JOB_PATH, {"job": "job"}, shows="job"),
        Route("retryJob", f"{JOB_PATH}/retry", {"job": "job"}, changes="job", operation="RETRY"),
    ),
    scripts_key="jobs",
    switches_key="toy_switches",
    state_key="state",
    operation_key="operation",
    start_key="started",
    end_key="ended",
    contract=Path(__file__).parent / "toy.yaml",
)
