"""Share one server with the tests of a module: as this process has it, and by its URL alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from oceanmock import Mock

MORNING = "2024-01-10T06:00:00Z"


@pytest.fixture(scope="module")
def here() -> Iterator[Mock]:
    with Mock.start() as started:
        yield started


@pytest.fixture(params=["here", "elsewhere"])
def mock(request: pytest.FixtureRequest, here: Mock) -> Mock:
    """The server as this process has it, and as any other one would."""
    return here if request.param == "here" else Mock.attach(here.url)
