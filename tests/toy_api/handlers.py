"""The toy's operations over HTTP."""

from collections.abc import Callable
from typing import Any

import orjson

from oceanmock.api import ApiError, Request, Response, Service
from oceanmock.engine.sandbox import Sandbox
from oceanmock.errors import IllegalOperation, NoSuchTask
from toy_api.api import API
from toy_api.world import Jobs, retry


class ServiceFactory:
    """Makes the service, of which there is one variant."""

    def __init__(self, *, wall: Callable[[], int]) -> None:
        pass

    def variant_of(self, sandbox: Sandbox) -> str:
        return ""

    def service(self, variant: str) -> Service:
        return Service(
            name=API.name,
            prefix=API.prefix,
            spec=API.spec,
            handlers={"listJobs": list_jobs, "getJob": get_job, "retryJob": retry_job},
            render_error=render_error,
            security={},
            encode=orjson.dumps,
        )


def list_jobs(request: Request) -> Response:
    jobs = request.sandbox.world(Jobs)
    return Response(200, {"jobs": [_body(jobs, int(item.id)) for item in jobs.items()]})


def get_job(request: Request) -> Response:
    return Response(200, _body(request.sandbox.world(Jobs), request.parameters["job"]))


def retry_job(request: Request) -> Response:
    retry(request.sandbox, request.parameters["job"])
    return get_job(request)


def _body(jobs: Jobs, id: int) -> dict[str, Any]:
    state = jobs.state(id)
    return {"id": id, "name": state.job.name, "state": state.state_at(jobs.clock.now()), "operation": state.operation}


def render_error(request: Request, error: Exception) -> Response:
    match error:
        case ApiError():
            status = error.status_code
        case NoSuchTask():
            status = 404
        case IllegalOperation():
            status = 409
        case _:
            status = 500
    return Response(status, {"oops": str(error)})
