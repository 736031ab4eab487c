"""Check each response against the earlier observations of the same task, dag or part.

A change that may have happened in between is no violation: only terminal states must stay, only changes that the
transition table excludes are reported, and times are the server's. ``own_ids`` are the tasks and dags without other
users; any other may be operated on at any time. A correct server never fails a check, however rarely, late and by
whatever operations it is read.

Any number of ticks may lie between two observations. So an observation is a set of labels: all that the transition
table reaches by time alone. An accepted operation takes its item along one of its transitions, in the order of the
requests; one without a response may have been accepted or not. Where others may operate as well, every operation may
have happened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, get_args

from oceanmock.apis import api_named
from oceanmock.checks import (
    CheckResult,
    Contract,
    Exchange,
    RuleChecker,
    Subject,
    check,
    guarded,
    instant,
    objects,
    whole,
)
from oceanmock.clock import SECOND
from oceanmock.conformance.checks import RULES
from oceanmock.conformance.model import TransitionCounts
from oceanmock.engine.machine import Label, StateMachine, reachable
from oceanmock.observations import SKEW, ApiHistory, Call, Sample, View, id_text, observations, requested_operation

ItemKey = tuple[str, str]
"""A kind and an id."""
Labels = frozenset[Label]

SET_BACK: Final = 60 * SECOND
"""The longest time by which a server's clock may be set back."""
LONGEST_WAIT: Final = 120 * SECOND
"""The longest time from the end of the parts to that of the whole: the schedulers run once a second, that of
ocp-express first a minute after its start (TaskCoordinator.java:58-59)."""


class HistoryChecker(RuleChecker):
    """A checker that keeps observations; ``transitions`` and ``labels`` count what was observed.

    ``own_ids`` are the ids of the tasks or dags without other users; None means all.
    """

    def __init__(self, contract: Contract, *, own_ids: Container[str] | None = None) -> None:
        super().__init__(contract, RULES)
        self.own_ids = own_ids
        self.transitions: TransitionCounts = Counter()
        self.labels: Counter[tuple[str, str]] = Counter()
        self._api: Final = api_named(contract.api)
        self._machines: Final[Mapping[str, StateMachine]] = self._api.states.MACHINES
        self._late: list[tuple[Subject, CheckResult]] = []
        self.forget()

    def forget(self) -> None:
        """Delete the observations, as after a reset of the server; the counts stay."""
        self._own: ApiHistory = self._api.checks.HISTORY(is_shared=self.own_ids is not None)
        self._last: dict[tuple[ItemKey, View], Sample] = {}
        self._latest: dict[ItemKey, Sample] = {}
        self._roots: dict[ItemKey, str] = {}
        self._calls: list[Call] = []
        self._refused: dict[ItemKey, tuple[Subject, Sample, str]] = {}
        self._timestamps: dict[str, int] = {}
        self._waiting: dict[ItemKey, tuple[Any, int]] = {}
        self._ends: dict[ItemKey, int] = {}
        self._ends_while_running: dict[ItemKey, int] = {}

    def __call__(self, exchange: Exchange) -> list[CheckResult]:
        """Return the failed results of an exchange, and those it proves of earlier ones."""
        failed = super().__call__(exchange)
        late, self._late = self._late, []
        return failed + [item for subject, result in late for item in self.failures(subject, [result])]

    def results(self, subject: Subject) -> Iterator[CheckResult]:
        """Yield the result of every check of one exchange."""
        for item in (self._clock, self._still_there, self._call):
            yield from guarded(item, subject)
        samples = self._samples(subject)
        yield from guarded(lambda _: self._compare(samples), subject)
        yield from guarded(lambda _: self._own.results(subject, samples, self._latest), subject)

    def _samples(self, subject: Subject) -> list[Sample]:
        """Return a response's observations; a part has the task or dag of an earlier one."""
        if subject.status != 200:
            return []
        items = list(observations(self._api, subject.id, subject.body))
        view: View = "list" if items and items[0].path != "$.data" else "detail"
        if view == "detail" and items and items[0].kind != self._api.root.name:
            view = "part"
        return [
            Sample(
                kind=item.kind,
                id=item.id,
                name=item.name,
                state=item.state,
                operation=item.operation,
                root=item.root or self._roots.get((item.kind, item.id), ""),
                path=item.path,
                raw=item.raw,
                subject=subject,
                view=view,
                calls=len(self._calls),
                is_terminal=item.state in self._api.kind(item.kind).terminal_states,
                end=instant(item.raw.get(self._api.end_key)),
            )
            for item in items
        ]

    # --- the server -------------------------------------------------------------------------------

    def _clock(self, subject: Subject) -> Iterator[CheckResult]:
        """Check that a clock does not go back."""
        at = subject.at
        clock = None if at is None else self._own.clock_of(subject)
        if at is None or clock is None:
            return
        latest = self._timestamps.setdefault(clock, at)
        wrong = f"timestamp is {subject.body['timestamp']}, before that of an earlier answer."
        yield check("envelope.went-back", at >= latest - SET_BACK, "$.timestamp", wrong)
        self._timestamps[clock] = max(latest, at)

    def _still_there(self, subject: Subject) -> Iterator[CheckResult]:
        """Check that what was there is found."""
        keys = list(zip(self._api.ids_of(subject.id), subject.path_ids, strict=False))
        is_known = bool(keys) and all(key in self._latest for key in keys)
        if not is_known or subject.request_json.get("id"):
            return
        root = self._latest[keys[-1]].root
        is_pair = len(keys) == 1 or root == keys[0][1]
        if subject.status in (200, 404) and self._is_ours(root) and is_pair:
            wrong = f"{' '.join(keys[-1])} was there before, and is answered 404."
            yield check("id.vanished", subject.status == 200, "$", wrong)

    def _is_ours(self, root: str) -> bool:
        return self.own_ids is None or (bool(root) and root in self.own_ids)

    # --- operations -------------------------------------------------------------------------------

    def _call(self, subject: Subject) -> Iterator[CheckResult]:
        """Check an operation against the observations before it, and record it.

        An accepted one must have been legal in some state possible at that time.
        """
        name = requested_operation(self._api, subject.id, dict(subject.request_json))
        kind = name.partition(".")[0]
        if kind not in self._machines or not subject.path_ids:
            return
        key, machine = (kind, subject.path_ids[-1]), self._machines[kind]
        before, is_sure = self._latest.get(key), subject.status // 100 == 2
        if before is not None and name in machine.triggers:
            if is_sure:
                labels, legal = self._labels_now(before), takers(machine, name, switched=True)
                if labels and not self._own.is_undecided(before, {name}):
                    wrong = f"{name} is accepted, and {kind} {before.id} was {before.words} before."
                    yield check("call.illegal-accepted", bool(labels & legal), "$", wrong)
                is_certain = not self._calls_since(before) and self._is_ours(before.root)
                yield from self._own.acceptance(name, before, is_certain=is_certain)
            elif subject.status == 400:
                self._refused[key] = (subject, before, name)
        if is_sure or subject.exchange.status is None or subject.status >= 500:
            root, roots = self._api.root.name, set[str]()
            if kind == root or key in self._roots:
                roots.add(self._roots.get(key, ""))
                if root in self._api.ids_of(subject.id):  # ocp-express ignores the task of a pair
                    roots.add(subject.path_ids[0])
            self._calls.append(Call(name, key[1], frozenset(roots - {""}), is_sure))

    def _calls_since(self, before: Sample) -> list[Call]:
        """Return the operations since an observation that may have changed its task or dag, or a part of it."""
        root = before.root
        return [call for call in self._calls[before.calls :] if not call.roots or not root or root in call.roots]

    def _labels_now(self, before: Sample, *, is_certain: bool = False) -> Labels:
        """Return every label that is possible now, after an earlier observation.

        With ``is_certain`` accepted operations had their effect. One without a transition from the possible labels has
        no effect here; another rule reports that it was accepted.
        """
        machine = self._machines[before.kind]
        labels = labels_of(machine, before.state, before.operation)
        calls: Sequence[Call] = self._calls_since(before)
        is_decided = not self._own.is_undecided(before, {call.name for call in calls})
        if not self._is_ours(before.root) or not is_decided:
            return in_time(machine, labels, by_anybody=True)
        for call in self._own.possible_calls(before, calls):
            labels = in_time(machine, labels)
            if call.kind == machine.kind and call.id != before.id:
                continue
            after = moved(machine, labels, call.name)
            is_own = (call.kind, call.id) == before.key
            labels = after if is_certain and call.is_sure and is_own and after else labels | after
        return in_time(machine, labels)

    # --- observations -----------------------------------------------------------------------------

    def _compare(self, samples: list[Sample]) -> Iterator[CheckResult]:
        """Check every observation of a response against the earlier ones, and record it."""
        self._roots.update({item.key: item.root for item in samples if item.root})
        for now in samples:
            latest = self._latest.get(now.key)
            is_waited_for = now.key in self._refused or now.key in self._waiting
            if (
                latest is not None
                and not is_waited_for
                and (latest.view, latest.calls, latest.raw) == (now.view, now.calls, now.raw)
            ):
                yield check("terminal.moved" if now.is_terminal else "transition.illegal", True)
                continue
            same = self._last.get((now.key, now.view))
            if same is not None:
                yield from self._transition(same, now)
            if latest is not None and latest is not same:
                yield from self._transition(latest, now)
            if same is not None:
                yield from self._members(same, now)
            yield from self._other_views(now)
            yield from self._refusal(now)
            if now.view == "detail" and now.kind == self._api.root.name:
                yield from self._wait(now)
                yield from self._end(now)
        for now in samples:
            if now.operation:
                self.labels[now.kind, now.words] += 1
                before = self._last.get((now.key, now.view))
                if before is not None and before.words != now.words:
                    self.transitions[now.kind, before.words, now.words] += 1
            self._latest[now.key] = self._last[now.key, now.view] = now

    def _transition(self, before: Sample, now: Sample) -> Iterator[CheckResult]:
        """Check that an item could become what it is; the schema's checks report other labels."""
        machine = self._machines[now.kind]
        labels = labels_of(machine, now.state, now.operation)
        if not labels or not labels_of(machine, before.state, before.operation):
            return
        calls = [call for call in self._calls_since(before) if call.is_sure]
        is_target = any((call.kind, call.id) == now.key for call in calls)
        rule = "terminal.moved" if before.is_terminal else "transition.illegal"
        if is_target or before.view != now.view:
            rule = "call.wrong-effect" if is_target else view_rule(before, now)
        wrong = f"{now.kind} {now.id} was {before.words}, and is {now.words}"
        may, must = self._labels_now(before), self._labels_now(before, is_certain=True)
        yield check(rule, bool(may & labels), now.path, f"{wrong}, which it cannot become.")
        if is_target:
            is_still = is_same_end(before, now) and before.operation == now.operation
            passed = not may & labels or bool(must & labels and not is_still)
            yield check("call.no-effect", passed, now.path, f"{wrong}, as if nothing had been asked of it in between.")

    def _other_views(self, now: Sample) -> Iterator[CheckResult]:
        """Check that all views of one end show the same, and those between two observations."""
        before = self._last.get((now.key, now.view))
        others = [self._last.get((now.key, view)) for view in get_args(View) if view != now.view]
        for other in others if before is not None and is_same_end(before, now) else ():
            if before is None or other is None:
                continue
            if before.subject.exchange.number < other.subject.exchange.number:
                rule = view_rule(other, now)
                wrong = f"{now.kind} {now.id} is {other.words} here, and {now.words} by itself, before and after."
                yield check(rule, True)
                if other.state != now.state:
                    self._late.append((other.subject, CheckResult(rule, other.path, wrong)))
        parts = {kind.parts_key for kind in self._api.kinds}
        for other in others:
            if other is None or not is_same_end(other, now):
                continue
            for name in (other.raw.keys() & now.raw.keys()) - self._own.one_view - parts:
                wrong = f"{name} is {now.raw[name]!r} here, and {other.raw[name]!r} in {other.subject.id}."
                is_same = _is_alike(other.raw[name], now.raw[name])
                yield check(view_rule(other, now), is_same, f"{now.path}.{name}", wrong)

    def _refusal(self, now: Sample) -> Iterator[CheckResult]:
        """Check that an operation refused for its state is illegal in the state around it."""
        refused = self._refused.pop(now.key, None)
        if refused is None:
            return
        subject, before, name = refused
        if self._calls_since(before) or not is_same_end(before, now):
            return
        machine = self._machines[now.kind]
        labels = labels_of(machine, before.state, before.operation)
        is_legal = bool(labels) and labels <= takers(machine, name, switched=False)
        wrong = f"{name} is refused, and {now.kind} {now.id} was {before.words} all the while."
        yield check("call.legal-refused", True)
        if is_legal and self._own.is_refused_for_state(subject, before):
            self._late.append((subject, CheckResult("call.legal-refused", "$", wrong)))

    def _wait(self, now: Sample) -> Iterator[CheckResult]:
        """Check that a task or dag ends soon after its parts."""
        key, at = now.key, now.subject.at
        labels, since = self._waiting.pop(key, (None, 0))
        if at is None or not self._own.is_waiting(now):
            return
        current = self._part_labels(now.raw.get(self._api.root.parts_key))
        self._waiting[key] = (current, since if labels == current else at)
        if labels == current:
            wrong = f"{now.kind} {now.id} is still {now.words}, long after its parts have ended."
            yield check("parent.stuck", at - since < LONGEST_WAIT, now.path, wrong)

    def _end(self, now: Sample) -> Iterator[CheckResult]:
        """Check that a task or dag that ran again after its end ends at a new time."""
        if now.is_terminal and now.end is not None:
            former = self._ends_while_running.pop(now.key, None)
            if former is not None:
                wrong = f"{now.kind} {now.id} ran again after its end, and ends at that same time."
                yield check("time.not-renewed", now.end != former, now.path, wrong)
            self._ends[now.key] = now.end
            return
        end = self._ends.get(now.key)
        if not now.is_terminal and end is not None and (now.subject.at or 0) > end + SKEW:
            self._ends_while_running[now.key] = end

    # --- members ----------------------------------------------------------------------------------

    def _members(self, before: Sample, now: Sample) -> Iterator[CheckResult]:
        """Check the members that never change, and those that only grow, and the parts of an ended item."""
        table, path = self._own.members[now.kind], now.path
        for name in table.fixed:
            if name in before.raw and name in now.raw:
                wrong = f"{name} was {before.raw[name]!r}, and is {now.raw[name]!r}."
                is_same = _is_alike(before.raw[name], now.raw[name])
                yield check("kept.changed", is_same, f"{path}.{name}", wrong)
        for name in table.growing:
            old_time, new_time = instant(before.raw.get(name)), instant(now.raw.get(name))
            if old_time and new_time:  # neither absent nor the epoch, to which obshell resets
                wrong = f"{name} was {before.raw[name]}, and is {now.raw[name]}."
                is_later = new_time >= old_time - self._own.slack(now)
                yield check("time.went-back", is_later, f"{path}.{name}", wrong)
        name, path = table.count, f"{path}.{table.count}"
        old, new = whole(before.raw.get(name)), whole(now.raw.get(name))
        if old is not None and new is not None:
            least, most = self._own.runs(before, now, self._calls_since(before))
            yield check("count.went-down", new >= old, path, f"{name} was {old}, and is {new}.")
            if least:
                wrong = f"{name} is {new} after another run, as it was before that."
                yield check("count.not-bumped", new > old, path, wrong)
            if most is not None:
                most += old
                wrong = f"{name} was {old}, and is {new}; what was asked for makes it {most} at most."
                yield check("count.unasked", new <= most, path, wrong)
        key = self._api.kind(now.kind).parts_key
        parts, now_parts = before.raw.get(key), now.raw.get(key)
        if isinstance(parts, list) and isinstance(now_parts, list):
            ids, now_ids = (sorted(id_text(item.get("id")) for item in objects(some)) for some in (parts, now_parts))
            wrong = f"the {key} of {now.kind} {now.id} are others than before."
            yield check("kept.changed", ids == now_ids, f"{now.path}.{key}", wrong)
            is_settled = is_same_end(before, now) and before.state in table.settled
            if is_settled and (self._is_ours(now.root) or now.state != "FAILED"):
                wrong = f"{now.kind} {now.id} has ended, and its {key} are not as they were then."
                is_same = self._part_labels(parts) == self._part_labels(now_parts)
                yield check("terminal.moved", is_same, f"{now.path}.{key}", wrong)

    def _part_labels(self, parts: Any) -> dict[str, Any]:
        """Return state, operation, count and times of each part, and of its parts."""
        api = self._api
        names = (api.state_key, api.operation_key, *(m.count for m in self._own.members.values()))
        keys = [kind.parts_key for kind in api.kinds[1:] if kind.parts_key]
        return {
            id_text(item.get("id")): (
                [item.get(name) for name in names],
                _plain(item.get(api.end_key)),
                [self._part_labels(item.get(key)) for key in keys],
            )
            for item in objects(parts)
        }


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
    return frozenset(e.after for e in machine.transitions if e.trigger == by and e.before in labels)


def takers(machine: StateMachine, name: str, *, switched: bool) -> Labels:
    """Return the labels in which an operation is legal; ``switched``: with every switch on."""
    return frozenset(e.before for e in machine.transitions if e.trigger == name and (switched or not e.only))


def is_same_end(before: Sample, now: Sample) -> bool:
    """Return whether both show the same end, so that nothing happened in between."""
    ended = before.is_terminal and now.is_terminal and before.state == now.state
    return ended and before.end is not None and before.end == now.end


def view_rule(*samples: Sample) -> str:
    """Return the rule that fails if views of one state differ."""
    return "list.differs-from-detail" if any(sample.view == "list" for sample in samples) else "views.differ"


def _is_alike(one: Any, other: Any) -> bool:
    """Return whether two values are equal; OCP's response to a submit has a user's name alone."""
    if isinstance(one, dict) and isinstance(other, str):
        return bool(one.get("name") == other)
    if isinstance(one, str) and isinstance(other, dict):
        return bool(other.get("name") == one)
    return bool(_plain(one) == _plain(other))


def _plain(value: Any) -> Any:
    """Return a value as it is compared.

    Lists of ids have no order; an instant has several spellings; and of an object (a cluster, a user) only the id
    counts, since its name may change.
    """
    if isinstance(value, dict):
        return value.get("id", value)
    if isinstance(value, list):
        return sorted(value, key=repr)
    at = instant(value)
    return value if at is None else at
