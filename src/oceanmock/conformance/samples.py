"""Compare samples of one item: which states may follow each other, and which members may change.

Any number of ticks may lie between two observations. So an observation is a set of labels: all
that the transition table reaches by time alone. An accepted operation takes its item along one of
its transitions, in the order of the requests; one without a response may have been accepted or
not. Where others may operate as well, every operation may have happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from oceanmock.api import Api
from oceanmock.checks import CheckResult, check, instant, objects, whole
from oceanmock.engine.machine import Label, StateMachine, reachable
from oceanmock.observations import ApiHistory, Call, Sample, id_text

Labels = frozenset[Label]

# --- labels ---------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def labels_of(machine: StateMachine, state: str, operation: str) -> Labels:
    """Return the possible labels; a row of a list has no operation."""
    return frozenset(s for s in machine.labels if s[0] == state and operation in ("", s[1]))


@lru_cache(maxsize=1024)
def in_time(machine: StateMachine, labels: Labels, *, by_anybody: bool = False) -> Labels:
    """Return the labels reachable by time alone, or ``by_anybody``'s operations too."""
    triggers = None if by_anybody else ()
    return frozenset().union(*(reachable(machine, label, triggers=triggers) for label in labels))


@lru_cache(maxsize=1024)
def moved(machine: StateMachine, labels: Labels, by: str) -> Labels:
    """Return the labels after an operation, without those in which it has no transition."""
    moves = (e for e in machine.transitions if e.trigger == by and e.before in labels)
    return frozenset(e.after for e in moves)


def after_calls(
    machine: StateMachine, id: str, labels: Labels, calls: Sequence[Call], *, is_certain: bool
) -> Labels:
    """Return the labels after operations; with ``is_certain`` accepted ones had their effect.

    An operation without a transition from the possible labels has no effect here; another rule
    reports that it was accepted.
    """
    for call in calls:
        labels = in_time(machine, labels)
        if call.kind == machine.kind and call.id != id:
            continue
        after = moved(machine, labels, call.name)
        is_own = (call.kind, call.id) == (machine.kind, id)
        labels = after if is_certain and call.is_sure and is_own and after else labels | after
    return in_time(machine, labels)


def takers(machine: StateMachine, name: str, *, switched: bool) -> Labels:
    """Return the labels in which an operation is legal; ``switched``: with every switch on."""
    moves = (e for e in machine.transitions if e.trigger == name and (switched or not e.only))
    return frozenset(e.before for e in moves)


# --- members --------------------------------------------------------------------------------------


def is_same_end(before: Sample, now: Sample) -> bool:
    """Return whether both show the same end, so that nothing happened in between."""
    ended = before.is_terminal and now.is_terminal and before.state == now.state
    return ended and before.end is not None and before.end == now.end


def view_rule(*samples: Sample) -> str:
    """Return the rule that fails if views of one state differ."""
    is_list = any(sample.view == "list" for sample in samples)
    return "list.differs-from-detail" if is_list else "views.differ"


def members(
    api: Api, history: ApiHistory, before: Sample, now: Sample, calls: Sequence[Call]
) -> Iterator[CheckResult]:
    """Check the members that never change, and those that only grow."""
    table, path = history.members[now.kind], now.path
    for name in table.fixed:
        if name in before.raw and name in now.raw:
            wrong = f"{name} was {before.raw[name]!r}, and is {now.raw[name]!r}."
            is_same = _is_alike(before.raw[name], now.raw[name])
            yield check("kept.changed", is_same, f"{path}.{name}", wrong)
    key = api.kind(now.kind).parts_key
    old_parts, new_parts = before.raw.get(key), now.raw.get(key)
    if isinstance(old_parts, list) and isinstance(new_parts, list):
        old_ids, new_ids = (
            sorted(id_text(item.get("id")) for item in objects(parts))
            for parts in (old_parts, new_parts)
        )
        wrong = f"the {key} of {now.kind} {now.id} are others than before."
        yield check("kept.changed", old_ids == new_ids, f"{path}.{key}", wrong)
    for name in table.growing:
        old_time, new_time = instant(before.raw.get(name)), instant(now.raw.get(name))
        if old_time and new_time:  # neither absent nor the epoch, to which obshell resets
            wrong = f"{name} was {before.raw[name]}, and is {now.raw[name]}."
            is_later = new_time >= old_time - history.slack(now)
            yield check("time.went-back", is_later, f"{path}.{name}", wrong)
    old, new = whole(before.raw.get(table.count)), whole(now.raw.get(table.count))
    if old is None or new is None:
        return
    least, most = history.runs(before, now, calls)
    name, path = table.count, f"{path}.{table.count}"
    yield check("count.went-down", new >= old, path, f"{name} was {old}, and is {new}.")
    if least:
        wrong = f"{name} is {new} after another run, as it was before that."
        yield check("count.not-bumped", new > old, path, wrong)
    if most is not None:
        most += old
        wrong = f"{name} was {old}, and is {new}; what was asked for makes it {most} at most."
        yield check("count.unasked", new <= most, path, wrong)


def settled(api: Api, history: ApiHistory, before: Sample, now: Sample) -> Iterator[CheckResult]:
    """Check that the parts of an ended item do not change."""
    key = api.kind(now.kind).parts_key
    old, new = before.raw.get(key), now.raw.get(key)
    is_settled = is_same_end(before, now) and before.state in history.members[now.kind].settled
    if isinstance(old, list) and isinstance(new, list) and is_settled:
        wrong = f"{now.kind} {now.id} has ended, and its {key} are not as they were then."
        is_same = part_labels(api, history, old) == part_labels(api, history, new)
        yield check("terminal.moved", is_same, f"{now.path}.{key}", wrong)


def part_labels(api: Api, history: ApiHistory, parts: Any) -> dict[str, Any]:
    """Return state, operation, count and times of each part, and of its parts."""
    names = (api.state_key, api.operation_key, *(m.count for m in history.members.values()))
    keys = [kind.parts_key for kind in api.kinds[1:] if kind.parts_key]
    return {
        id_text(item.get("id")): (
            [item.get(name) for name in names],
            _plain(item.get(api.end_key)),
            [part_labels(api, history, item.get(key)) for key in keys],
        )
        for item in objects(parts)
    }


def same_views(api: Api, history: ApiHistory, one: Sample, other: Sample) -> Iterator[CheckResult]:
    """Check that two views of one end show the same."""
    parts = {kind.parts_key for kind in api.kinds}
    for name in (one.raw.keys() & other.raw.keys()) - history.one_view - parts:
        wrong = f"{name} is {other.raw[name]!r} here, and {one.raw[name]!r} in {one.subject.id}."
        is_same = _is_alike(one.raw[name], other.raw[name])
        yield check(view_rule(one, other), is_same, f"{other.path}.{name}", wrong)


def _is_alike(one: Any, other: Any) -> bool:
    """Return whether two values are equal; OCP's response to a submit has a user's name alone."""
    if isinstance(one, dict) and isinstance(other, str):
        return bool(one.get("name") == other)
    if isinstance(one, str) and isinstance(other, dict):
        return bool(other.get("name") == one)
    return bool(_plain(one) == _plain(other))


def _plain(value: Any) -> Any:
    """Return a value as it is compared.

    Lists of ids have no order; an instant has several spellings; and of an object (a cluster, a
    user) only the id counts, since its name may change.
    """
    if isinstance(value, dict):
        return value.get("id", value)
    if isinstance(value, list):
        return sorted(value, key=repr)
    at = instant(value)
    return value if at is None else at
