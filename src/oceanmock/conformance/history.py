"""Compare each response with the earlier observations of the same task, dag or part.

A correct server never fails a check, however rarely and by whatever operations it is read. Any number of ticks may lie
between two observations, so the state after one is a set of labels: all that the transition table reaches by time. An
accepted operation takes its item along a transition; an operation without a response may have been accepted or not;
items with other users may have had any operation. So only ended items must stay as they are, only changes that the
table excludes are reported, and times are those of the server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any, Final

from oceanmock.apis import api_named
from oceanmock.checks import CheckResult, Contract, Exchange, RuleChecker, Subject, check, instant, objects, whole
from oceanmock.clock import MILLISECOND, SECOND
from oceanmock.conformance import TransitionCounts
from oceanmock.conformance.checks import RULES
from oceanmock.engine.machine import Labels, StateMachine, in_time, labels_of, moved, takers, without
from oceanmock.observations import FUTURE, SKEW, ApiHistory, Call, Sample, View, observations, requested_operation

ItemKey = tuple[str, str]

SMALLEST_ZONE: Final = 900 * SECOND  # the differences between time zones are its multiples
LARGEST_ZONE: Final = 14 * 3600 * SECOND
LONGEST_GAP: Final = SECOND  # the time by which the server may state a longer duration than its client measures
LONGEST_WAIT: Final = 120 * SECOND
"""The longest time from the end of the parts to that of the whole: the schedulers run once a second, that of
ocp-express first a minute after its start (TaskCoordinator.java:58-59)."""
SET_BACK: Final = 60 * SECOND  # the time by which a server's clock may be set back


class HistoryChecker(RuleChecker):
    """Checks responses against earlier ones, and counts the observed ``transitions`` and ``labels``.

    ``own_ids`` are the ids of the tasks or dags without other users. None means all, and that the server is the mock;
    ``opted_in`` are then the ``opt_ins`` that its scenarios use.
    """

    compares = True

    def __init__(
        self, contract: Contract, *, own_ids: Container[str] | None = None, opted_in: frozenset[str] = frozenset()
    ) -> None:
        super().__init__(contract, RULES)
        self.own_ids = own_ids
        self.transitions: TransitionCounts = Counter()
        self.labels: Counter[tuple[str, str]] = Counter()
        self._api: Final = api_named(contract.api)
        machines: Mapping[str, StateMachine] = self._api.states.MACHINES
        self._is_shared: Final = own_ids is not None or bool(opted_in)
        absent = frozenset() if self._is_shared else self._api.checks.HISTORY.opt_ins
        self._machines: Final = {kind: without(machine, absent) for kind, machine in machines.items()}
        self._late: list[tuple[Subject, CheckResult]] = []
        self.forget()

    def forget(self) -> None:
        """Delete the observations, as after a reset of the server; the counts stay."""
        self._own: ApiHistory = self._api.checks.HISTORY(is_shared=self._is_shared)
        self._last: dict[ItemKey, dict[str, Sample]] = {}  # by each operation
        self._latest: dict[ItemKey, Sample] = {}
        self._roots: dict[ItemKey, str] = {}
        self._calls: list[Call] = []
        self._first_counts: dict[ItemKey, tuple[Sample, int]] = {}
        self._refused: dict[ItemKey, tuple[Subject, Sample, str]] = {}
        self._timestamps: dict[str, int] = {}
        self._offsets: dict[str, int] = {}
        self._is_virtual = False
        self._trace_ids: Counter[str] = Counter()
        self._logs: dict[ItemKey, tuple[Subject, list[Any], Sample]] = {}
        self._last_logs: dict[ItemKey, tuple[int | None, list[Any]]] = {}
        self._waiting: dict[ItemKey, tuple[Any, int]] = {}

    def last_states(self, ids: Container[str]) -> dict[str, str]:
        """Return the last observed state and operation of tasks or dags, by id."""
        last = {id: item for (kind, id), item in self._latest.items() if kind == self._api.root.name and id in ids}
        return {id: f"{item.words} when it was last read" for id, item in last.items()}

    def __call__(self, exchange: Exchange) -> list[CheckResult]:
        """Return the failed results of an exchange, and those of earlier exchanges that it proves."""
        failed = super().__call__(exchange)
        late, self._late = self._late, []
        return failed + [item for subject, result in late for item in self.failures(subject, [result])]

    def results(self, subject: Subject) -> Iterator[CheckResult]:
        """Yield the result of every check of one exchange."""
        for item in (self._times, self._trace_id, self._still_there, self._call):
            yield from self.guarded(item, subject)
        samples = [item for item in self._samples(subject) if not self._overlaps(item.key, subject.exchange)]
        if subject.status == 200 and subject.path_ids and (lines := self._own.log_lines(subject)) is not None:
            key = [*self._api.ids_of(subject.id)][-1], subject.path_ids[-1]
            if key in self._latest:
                self._logs[key] = subject, lines, self._latest[key]
        yield from self.guarded(lambda _: self._compare(samples), subject)
        yield from self.guarded(lambda _: self._own.results(subject, samples, self._latest), subject)

    def _overlaps(self, key: ItemKey, exchange: Exchange) -> bool:
        """Return whether a request was sent before the item's last response, so that either may be the newer."""
        if exchange.phase != "passive" or key not in self._latest:
            return False
        earlier = self._latest[key].subject.exchange
        return exchange.sent_at < earlier.sent_at + earlier.took

    def _samples(self, subject: Subject) -> list[Sample]:
        """Return a response's observations; a part by itself gets its task or dag from earlier observations."""
        items = list(observations(self._api, subject.id, subject.body)) if subject.status == 200 else []
        view: View = "detail" if items and items[0].kind == self._api.root.name else "part"
        if items and items[0].path != "$.data":
            view = "list"
        roots = [item.root or self._roots.get((item.kind, item.id), "") for item in items]
        context = {"subject": subject, "view": view, "calls": len(self._calls)}
        return [Sample.of(item, root=root, **context) for item, root in zip(items, roots, strict=True)]

    def _times(self, subject: Subject) -> Iterator[CheckResult]:
        """Check the timestamp against earlier ones, its zone by the header Date, and the duration by the client's.

        Other differences may be those of two clocks. Walks and stories of the mock move its clock.
        """
        exchange, at, took = subject.exchange, subject.at, whole(subject.envelope.get("duration"))
        if took is not None:
            wrong = f"duration is {took}, and the answer came after {exchange.took // MILLISECOND} ms."
            yield check("envelope.duration", took * MILLISECOND <= exchange.took + LONGEST_GAP, "$.duration", wrong)
        clock = self._own.clock_of(subject) if at is not None else None
        if at is None or clock is None:
            return
        latest = self._timestamps.setdefault(clock, at)
        wrong = f"timestamp is {subject.body['timestamp']}, before that of an earlier answer."
        yield check("envelope.went-back", at >= latest - SET_BACK, "$.timestamp", wrong)
        self._timestamps[clock] = max(latest, at)
        date, is_moved = exchange.header("date"), self.own_ids is None and exchange.phase in ("machine", "story")
        if date is None or is_moved:
            return
        with suppress(ValueError):
            sent = round(parsedate_to_datetime(date).timestamp()) * SECOND
            zones, rest = divmod(abs(at - sent) + FUTURE, SMALLEST_ZONE)
            wrong = f"timestamp is {subject.body['timestamp']}, and the header Date is {date}: another zone."
            first = self._offsets.setdefault(str(subject.body.get("server")), at - sent)
            if rest > 2 * FUTURE or abs(at - sent) > LARGEST_ZONE + FUTURE or at - sent > first + FUTURE:
                self._is_virtual = True  # not a zone, but the clock of a mock, which runs fast or jumps
            yield check("envelope.date", not zones or self._is_virtual, "$.timestamp", wrong)

    def _trace_id(self, subject: Subject) -> Iterator[CheckResult]:
        """Check that no two answers have the same traceId, unless the request states one."""
        id = subject.envelope.get("traceId")
        is_requested = any("trace" in name.lower() for name, _ in subject.exchange.request_headers)
        if isinstance(id, str) and id.strip() and not is_requested:
            self._trace_ids[id] += 1
            wrong = f"traceId is {id}, as that of another answer."
            yield check("envelope.trace-id-again", self._trace_ids[id] != 2, "$.traceId", wrong)

    def _still_there(self, subject: Subject) -> Iterator[CheckResult]:
        """Check that items that existed are found."""
        keys = list(zip(self._api.ids_of(subject.id), subject.path_ids, strict=False))
        if not keys or not all(key in self._latest for key in keys) or subject.request_json.get("id"):
            return
        root = self._latest[keys[-1]].root
        is_pair = len(keys) == 1 or root == keys[0][1]
        if subject.status in (200, 404) and self._is_ours(root) and is_pair:
            wrong = f"{' '.join(keys[-1])} was there before, and is answered 404."
            yield check("id.vanished", subject.status == 200, "$", wrong)

    def _is_ours(self, root: str) -> bool:
        return self.own_ids is None or (bool(root) and root in self.own_ids)

    def _call(self, subject: Subject) -> Iterator[CheckResult]:
        """Check that an accepted operation was legal in a state that was possible at that time; record operations."""
        name = requested_operation(self._api, subject.id, dict(subject.request_json))
        kind = name.partition(".")[0]
        if kind not in self._machines or not subject.path_ids:
            return
        key, machine = (kind, subject.path_ids[-1]), self._machines[kind]
        before, is_sure = self._latest.get(key), subject.status // 100 == 2
        if before is not None and name in machine.triggers and not self._overlaps(key, subject.exchange):
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
                if root in self._api.ids_of(subject.id):  # ocp-express ignores the task in a subtask's path
                    roots.add(subject.path_ids[0])
            self._calls.append(Call(kind, name, key[1], frozenset(roots - {""}), is_sure))

    def _calls_since(self, before: Sample) -> list[Call]:
        """Return the operations since an observation that may have changed its task or dag, or any of its parts."""
        root = before.root
        return [call for call in self._calls[before.calls :] if not call.roots or not root or root in call.roots]

    def _labels_now(self, before: Sample, *, is_certain: bool = False) -> Labels:
        """Return every label that is possible now, after an earlier observation.

        With ``is_certain``, accepted operations have had their effect. One without a transition from the possible
        labels has none here; another rule reports that it was accepted.
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

    def _compare(self, samples: list[Sample]) -> Iterator[CheckResult]:
        """Check every observation of a response against the earlier ones, and record it."""
        for item in samples:
            if item.root:
                root = self._roots.setdefault(item.key, item.root)
                wrong = f"{item.kind} {item.id} is a part of {item.root}, and was one of {root}."
                yield check("id.two-owners", root == item.root, item.path, wrong)
        for now in samples:
            latest, by_operation = self._latest.get(now.key), self._last.setdefault(now.key, {})
            is_waited_for = any(now.key in items for items in (self._refused, self._waiting, self._logs))
            is_same = latest is not None and (latest.subject.id, latest.calls) == (now.subject.id, now.calls)
            if latest is not None and is_same and latest.raw == now.raw and not is_waited_for:
                yield check("terminal.moved" if now.is_terminal else "transition.illegal", True)
                continue
            same = by_operation.get(now.subject.id)
            if same is not None:
                yield from against(same, now, self._transition(same, now))
            if latest is not None and latest is not same:
                yield from against(latest, now, self._transition(latest, now))
            for other in by_operation.values():
                yield from against(other, now, self._members(other, now))
            yield from self._counts(now)
            yield from self._between(now)
            yield from self._log(now)
            yield from self._refusal(now)
            if now.view == "detail" and now.kind == self._api.root.name:
                yield from self._wait(now)
                was_running = latest is not None and latest.state in self._api.conformance.active_states
                if latest is not None and was_running and now.is_terminal and now.end:
                    wrong = f"{now.kind} {now.id} has ended, at a time at which it was {latest.words}."
                    passed = now.end >= (latest.subject.at or 0) - SKEW
                    yield check("time.not-renewed", passed, f"{now.path}.{self._api.end_key}", wrong)
        for now in samples:
            before = self._last[now.key].get(now.subject.id)
            if now.operation:
                self.labels[now.kind, now.words] += 1
                if before is not None and before.words != now.words:
                    self.transitions[now.kind, before.words, now.words] += 1
            self._latest[now.key] = self._last[now.key][now.subject.id] = now

    def _transition(self, before: Sample, now: Sample) -> Iterator[CheckResult]:
        """Check that an item could reach its label; the schema's checks report unknown labels."""
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

    def _between(self, now: Sample) -> Iterator[CheckResult]:
        """Check that other operations show the same in between two equal answers of one operation."""
        by_operation = self._last[now.key]
        same = by_operation.get(now.subject.id)
        if same is None:
            return
        if not is_same_end(same, now):
            is_sure = self._is_ours(now.root) or now.end is not None  # else it may have run in between
            if not is_sure or same.raw != now.raw or self._calls_since(same):
                return
        for other in by_operation.values():
            rule = view_rule(other, now)
            if other.subject.exchange.number > same.subject.exchange.number:
                yield check(rule, True)
                for name in self._shared(other, now) if same.raw == now.raw else [self._api.state_key]:
                    if not is_alike(other.raw[name], now.raw[name]):
                        wrong = f"{name} is {other.raw[name]!r} here, and {now.raw[name]!r} in {now.subject.id},"
                        there = same.subject.exchange, f"{same.path}.{name}"
                        result = CheckResult(rule, f"{other.path}.{name}", f"{wrong} before and after.", earlier=there)
                        self._late.append((other.subject, result))

    def _is_unmoved(self, before: Sample, now: Sample) -> bool:
        """Return whether an ended item cannot have changed between two observations.

        That is certain if the ends are equal, if no part has run again, or if only this run operates.
        """
        kind, table = self._api.kind(now.kind), self._own.members[now.kind]
        is_alike = before.operation == now.operation or not (before.operation and now.operation)
        if not (before.is_terminal and now.is_terminal and before.state == now.state and is_alike):
            return False
        if is_same_end(before, now):
            return True
        if kind.parts_key:
            parts = before.raw.get(kind.parts_key), now.raw.get(kind.parts_key)
            return bool(parts[0]) and parts[0] == parts[1]
        runs = before.raw.get(table.count), now.raw.get(table.count)
        is_alone = self._is_ours(now.root) and not self._own.possible_calls(before, self._calls_since(before))
        return (is_alone or table.counts_all) and runs[0] is not None and runs[0] == runs[1]

    def _shared(self, before: Sample, now: Sample) -> Iterable[str]:
        """Return the members that both observations have, without parts and members that may come late."""
        names = (before.raw.keys() & now.raw.keys()) - {kind.parts_key for kind in self._api.kinds}
        if not is_long_over(before):
            return names - self._own.one_view
        return {n for n in names if n not in self._own.one_view or None not in (before.raw[n], now.raw[n])}

    def _log(self, now: Sample) -> Iterator[CheckResult]:
        """Check the log that was read between two observations of the same end, or before the first run."""
        subject, lines, before = self._logs.get(now.key, (now.subject, [], now))
        never_ran = now.label in self._machines[now.kind].initial
        if before is now or not (never_ran or (now.end is not None and before.end is not None)):
            return
        del self._logs[now.key]
        if never_ran:
            wrong = f"{now.kind} {now.id} has never run, and has a log of {len(lines)} lines."
            self._late.append((subject, check("log.presence", not lines, "$.data", wrong)))
        elif is_same_end(before, now) and is_long_over(before):
            end, earlier = self._last_logs.get(now.key, (now.end, lines))
            wrong = f"{now.kind} {now.id} has ended, and its log had {len(earlier)} lines, and has {len(lines)}."
            ended = check("terminal.moved", end != now.end or earlier == lines, "$.data", wrong)
            self._late += [(subject, item) for item in (ended, *self._own.log_results(subject, now))]
            self._last_logs[now.key] = now.end, lines
        yield from ()

    def _refusal(self, now: Sample) -> Iterator[CheckResult]:
        """Check that an operation refused for the state is illegal in the state before and after it."""
        subject, before, name = self._refused.pop(now.key, (now.subject, now, ""))
        if not name or self._calls_since(before) or not is_same_end(before, now):
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
        members = self._own.members
        current = {
            (item.kind, item.id): (item.label, item.raw.get(members[item.kind].count), item.end)
            for part in now.parts
            for item in part.all()
        }
        self._waiting[key] = (current, since if labels == current else at)
        if labels == current:
            wrong = f"{now.kind} {now.id} is still {now.words}, long after its parts have ended."
            yield check("parent.stuck", at - since < LONGEST_WAIT, now.path, wrong)

    def _members(self, before: Sample, now: Sample) -> Iterator[CheckResult]:
        """Check members that never change, those of ended items, times, and the ids of parts."""
        table, path, is_view = self._own.members[now.kind], now.path, before.subject.id != now.subject.id
        is_unmoved, rule = self._is_unmoved(before, now), view_rule(before, now) if is_view else "kept.changed"
        where = f" in {before.subject.id}" if is_view else ""
        for name in self._shared(before, now):
            old, new = before.raw[name], now.raw[name]
            if is_unmoved or name in table.fixed:
                kind = rule if is_view or name in table.fixed else "terminal.moved"
                wrong = f"{name} is {new!r}, and was {old!r}{where}; it cannot have changed in between."
                yield check(kind, is_alike(old, new), f"{path}.{name}", wrong)
            elif name in table.times and (old_at := instant(old)) and (new_at := instant(new)) and old_at != new_at:
                # neither is absent or the epoch, to which obshell resets
                wrong = f"{name} was {old}, and is {new}, which is before that was read."
                least = max(old_at, (before.subject.at or 0) - SKEW) - self._own.slack(now)
                yield check("time.went-back", new_at >= least, f"{path}.{name}", wrong)
        key = self._api.kind(now.kind).parts_key
        parts, now_parts = before.raw.get(key), now.raw.get(key)
        if isinstance(parts, list) and isinstance(now_parts, list):
            ids, now_ids = (sorted(str(part.get("id")) for part in objects(some)) for some in (parts, now_parts))
            wrong = f"the {key} of {now.kind} {now.id} are others than before{where}."
            yield check(rule, ids == now_ids, f"{now.path}.{key}", wrong)

    def _counts(self, now: Sample) -> Iterator[CheckResult]:
        """Check that a count of runs grows by the runs that were requested."""
        name = self._own.members[now.kind].count
        path, new = f"{now.path}.{name}", whole(now.raw.get(name))
        if new is None:
            return
        first, first_count = self._first_counts.setdefault(now.key, (replace(now, calls=0), new))
        for before in sorted(self._last[now.key].values(), key=lambda item: item.subject.exchange.number)[-1:]:
            old, is_new = whole(before.raw.get(name)), self._own.has_run_again(before, now, self._calls_since(before))
            yield check("count.went-down", old is None or new >= old, path, f"{name} was {old}, and is {new}.")
            if is_new and old is not None:
                wrong = f"{name} is {new} after another run, as it was before that."
                yield check("count.not-bumped", new > old, path, wrong)
        most = self._own.most_runs(first, self._calls_since(first))
        if most is not None:
            wrong = f"{name} was {first_count}, and is {new}; what was asked for makes it {most} at most."
            yield check("count.unasked", new <= most, path, wrong)


def against(before: Sample, now: Sample, results: Iterable[CheckResult]) -> Iterator[CheckResult]:
    """Yield results of comparing two observations; a failed one has the earlier response, and the same place there."""
    for item in results:
        there = before.subject.exchange, before.path + item.path.removeprefix(now.path)
        yield item if item.passed else replace(item, earlier=there)


def is_same_end(before: Sample, now: Sample) -> bool:
    """Return whether both show the same end, so that nothing happened in between."""
    ended = before.is_terminal and now.is_terminal and before.state == now.state
    return ended and before.end is not None and before.end == now.end


def is_long_over(sample: Sample) -> bool:
    """Return whether an item ended so long before that none of its members can come late."""
    return sample.is_terminal and sample.end is not None and (sample.subject.at or 0) > sample.end + LONGEST_WAIT


def view_rule(*samples: Sample) -> str:
    """Return the rule that fails if views of one state differ."""
    return "list.differs-from-detail" if any(sample.view == "list" for sample in samples) else "views.differ"


def is_alike(one: Any, other: Any) -> bool:
    """Return whether two values are equal; in OCP's response to a submit a user is only a name."""
    for user, name in ((one, other), (other, one)):
        if isinstance(user, dict) and isinstance(name, str):
            return bool(user.get("name") == name)
    return bool(plain(one) == plain(other))


def plain(value: Any) -> Any:
    """Return a value in the form in which it is compared.

    Lists of ids have no order, instants have several spellings, and objects (a cluster, a user) are the same if their
    ids are, since names may change.
    """
    if isinstance(value, dict):
        return value.get("id", value)
    if isinstance(value, list):
        return sorted(value, key=repr)
    at = instant(value)
    return value if at is None else at
