"""A sandbox's clock: how it runs, stands and is moved. The wall is a list that the test owns."""

import pytest

from oceanmock.clock import LATEST, PROGRESSIONS, SECOND, Clock, Progression, machine_now

STANDING: list[Progression] = [each for each in PROGRESSIONS if each != "time"]


class Wall:
    """A time of day that only the test moves."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def test_a_running_clock_goes_with_the_wall() -> None:
    wall = Wall(100 * SECOND)
    clock = Clock("time", wall=wall)

    wall.now += 3 * SECOND

    assert clock.now() == 103 * SECOND


def test_a_running_clock_may_start_at_another_instant() -> None:
    wall = Wall(100 * SECOND)
    clock = Clock("time", starts_at=5 * SECOND, wall=wall)

    wall.now += 3 * SECOND

    assert clock.now() == 8 * SECOND


@pytest.mark.parametrize(("speed", "passed"), [(0.5, SECOND), (1.0, 2 * SECOND), (60, 120 * SECOND)])
def test_a_running_clock_goes_at_its_speed(speed: float, passed: int) -> None:
    wall = Wall(0)
    clock = Clock("time", speed=speed, wall=wall)

    wall.now += 2 * SECOND

    assert clock.now() == passed


@pytest.mark.parametrize("progression", STANDING)
def test_a_standing_clock_does_not_go_with_the_wall(progression: Progression) -> None:
    wall = Wall(100 * SECOND)
    clock = Clock(progression, wall=wall)

    wall.now += 3600 * SECOND

    assert clock.now() == 100 * SECOND


@pytest.mark.parametrize("progression", PROGRESSIONS)
def test_advancing_moves_any_clock_on(progression: Progression) -> None:
    clock = Clock(progression, starts_at=SECOND, wall=Wall(0))

    clock.advance(4 * SECOND)

    assert clock.now() == 5 * SECOND


@pytest.mark.parametrize("progression", PROGRESSIONS)
def test_no_clock_runs_backwards(progression: Progression) -> None:
    clock = Clock(progression, starts_at=10 * SECOND, wall=Wall(0))

    clock.move_to(9 * SECOND)
    clock.advance(-SECOND)

    assert clock.now() == 10 * SECOND


def test_a_moved_clock_runs_on_from_where_it_is() -> None:
    wall = Wall(0)
    clock = Clock("time", speed=2.0, wall=wall)

    wall.now += SECOND
    clock.move_to(60 * SECOND)
    wall.now += SECOND

    assert clock.now() == 62 * SECOND


def test_without_a_wall_it_is_the_machine_s_time() -> None:
    before = machine_now()

    now = Clock("time").now()

    assert before <= now <= machine_now()


@pytest.mark.parametrize("before", PROGRESSIONS)
@pytest.mark.parametrize("after", PROGRESSIONS)
def test_a_clock_that_is_switched_goes_on_from_where_it_is(before: Progression, after: Progression) -> None:
    wall = Wall(0)
    clock = Clock(before, starts_at=10 * SECOND, speed=2.0, wall=wall)
    wall.now += 3 * SECOND
    then = clock.now()

    clock.set(progression=after, speed=5.0)

    assert clock.now() == then
    wall.now += SECOND
    assert clock.now() == then + (5 * SECOND if after == "time" else 0)


def test_switching_a_clock_leaves_what_is_not_named() -> None:
    clock = Clock("polls", speed=3.0, wall=Wall(0))

    clock.set(speed=4.0)
    clock.set(progression="time")

    assert (clock.progression, clock.speed) == ("time", 4.0)


@pytest.mark.parametrize("progression", PROGRESSIONS)
def test_every_clock_stops_where_calendars_end(progression: Progression) -> None:
    wall = Wall(0)
    clock = Clock(progression, starts_at=LATEST - SECOND, speed=60, wall=wall)

    clock.move_to(LATEST * 5)
    wall.now += SECOND

    assert clock.now() == LATEST
