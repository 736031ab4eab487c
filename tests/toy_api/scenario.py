"""The toy's scenario format."""

from typing import Annotated, Any, Literal

from pydantic import Field

from oceanmock.scenario import BaseScenario, Model
from oceanmock.scenario.faults import Fault


class Switches(Model):
    """Nothing can be switched."""


class Job(Model):
    """A job that breaks after some seconds, and is done some seconds after its retry."""

    id: int
    name: str
    seconds: int


class Scenario(BaseScenario):
    """Jobs."""

    api: Literal["toy"]
    switches: Switches = Switches()
    jobs: Annotated[tuple[Job, ...], Field(min_length=1)]
    faults: tuple[Fault, ...] = ()
    story: tuple[Any, ...] = ()
