"""Check each response against the earlier observations of the same task, dag or part.

A change that may have happened in between is no violation: only terminal states must stay, only
changes that the transition table excludes are reported (``chains``), and times are the server's.
``ours`` are the tasks and dags without other users; any other may be operated on at any time. A
correct server never fails a check, however rarely, late and by whatever operations it is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping
from itertools import product
from typing import Final

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
)
from oceanmock.clock import SECOND
from oceanmock.conformance.checks.ocp import BACKWARDS
from oceanmock.conformance.checks.times import SKEW
from oceanmock.conformance.history import chains, facts, logs
from oceanmock.conformance.history.chains import Call
from oceanmock.conformance.history.sighted import Sighting, View, sightings
from oceanmock.conformance.model import TransitionCounts
from oceanmock.conformance.quirks import has_panicked
from oceanmock.conformance.rules import RULES

Key = tuple[str, str]

RETRIES: Final = frozenset({"task.RETRY", "subtask.RETRY"})
UNDECIDED: Final = frozenset(product(RETRIES, BACKWARDS))
OF_SUBTASKS: Final = frozenset({"subtask.RETRY", "subtask.SKIP", "subtask.CANCEL"})
LONGEST_SKIP: Final = 10 * SECOND
"""The longest run of a skipped subtask of the mock; two ticks of the scheduler suffice."""
EARLIER: Final = 60 * SECOND
"""The longest time by which a server's clock may be set back."""
ABOUT_A_TASK: Final = frozenset({"getTaskInstance", "retryTask", "rollbackTask"})
"""The operations whose 404 has a single reason: an unknown task."""
KINDS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "getTaskInstance": ("task",),
    "retryTask": ("task",),
    "rollbackTask": ("task",),
    "getSubtaskLog": ("task", "subtask"),
    "retrySubtask": ("task", "subtask"),
    "skipSubtask": ("task", "subtask"),
    "cancelSubtask": ("task", "subtask"),
    "getDagDetail": ("dag",),
    "dagHandler": ("dag",),
    "getNodeDetail": ("node",),
    "nodeHandler": ("node",),
    "getSubTaskDetail": ("sub_task",),
}
"""The kinds of the ids in an operation's path."""


class HistoryChecker(RuleChecker):
    """A checker that keeps observations; ``walked`` counts transitions, ``shown`` labels.

    ``ours`` are the ids of the tasks or dags without other users; None means all.
    """

    def __init__(self, contract: Contract, *, ours: Container[str] | None = None) -> None:
        super().__init__(contract, RULES)
        self.ours = ours
        self._parse: Final = api_named(contract.api).parse
        self.walked: TransitionCounts = Counter()
        self.shown: Counter[tuple[str, str]] = Counter()
        self._late: list[tuple[Subject, CheckResult]] = []
        self.forget()

    def forget(self) -> None:
        """Delete the observations, as after a reset of the server; the counts stay."""
        self._last: dict[tuple[Key, View], Sighting] = {}
        self._latest: dict[Key, Sighting] = {}
        self._roots: dict[Key, str] = {}
        self._calls: list[Call] = []
        self._refused: dict[Key, tuple[Subject, Sighting, str]] = {}
        self._codes: dict[tuple[str, int], int] = {}
        self._timestamps: dict[str, int] = {}
        self._waiting: dict[Key, facts.Waiting] = {}
        self._ends: dict[Key, int] = {}
        self._ends_while_running: dict[Key, int] = {}
        self._skipped_since: dict[Key, int] = {}
        self._logs = logs.Logs()

    def __call__(self, exchange: Exchange) -> list[CheckResult]:
        """Return the failed results of an exchange, and those it proves of earlier ones."""
        found = super().__call__(exchange)
        late, self._late = self._late, []
        return found + [
            item for subject, broken in late for item in self.failures(subject, [broken])
        ]

    def results(self, subject: Subject) -> Iterator[CheckResult]:
        """Yield the result of every check of one exchange."""
        for item in (self._clock, self._codes_agree, self._still_there, self._call, self._sights):
            yield from guarded(item, subject)
        yield from guarded(self._log, subject)

    # --- the server -------------------------------------------------------------------------------

    def _clock(self, subject: Subject) -> Iterator[CheckResult]:
        at = instant(subject.body.get("timestamp")) if isinstance(subject.body, dict) else None
        if at is None or has_panicked(subject):
            return
        server = f"{subject.body.get('server', '')} {self._is_passed_on(subject)}"
        latest = self._timestamps.setdefault(server, at)
        wrong = f"timestamp is {subject.body['timestamp']}, before that of an earlier answer."
        yield check("envelope.went-back", at >= latest - EARLIER, "$.timestamp", wrong)
        self._timestamps[server] = max(latest, at)

    def _is_passed_on(self, subject: Subject) -> bool:
        """Return whether another agent may have responded: a FOLLOWER forwards if authorized."""
        is_guarded = subject.operation is not None and not self.contract.is_open(subject.id)
        return self.contract.api == "obshell" and is_guarded and subject.status == 200

    def _codes_agree(self, subject: Subject) -> Iterator[CheckResult]:
        """Check that an unknown task always has the same code; OCP's codes are not public."""
        code = subject.error.get("code")
        is_plain = subject.status == 404 and all(
            id.isascii() and id.isdigit() for id in subject.path_ids
        )
        if subject.id not in ABOUT_A_TASK or not is_plain or not isinstance(code, int):
            return
        first = self._codes.setdefault((subject.id, subject.status), code)
        wrong = f"code is {code}, and was {first} the last time this was answered {subject.status}."
        yield check("error.code-differs", code == first, "$.error.code", wrong)

    def _still_there(self, subject: Subject) -> Iterator[CheckResult]:
        kinds = KINDS_OF.get(subject.id, ())
        keys = list(zip(kinds, subject.path_ids, strict=False))
        if (
            not kinds
            or not all(key in self._latest for key in keys)
            or subject.request_json.get("id")
        ):
            return
        root = self._latest[keys[-1]].root
        is_pair = len(keys) == 1 or root == keys[0][1]
        if subject.status in (200, 404) and self._is_ours(root) and is_pair:
            wrong = f"{' '.join(keys[-1])} was there before, and is answered 404."
            yield check("id.vanished", subject.status == 200, "$", wrong)

    # --- calls ------------------------------------------------------------------------------------

    def _is_ours(self, root: str) -> bool:
        return self.ours is None or (bool(root) and root in self.ours)

    def _call(self, subject: Subject) -> Iterator[CheckResult]:
        """Check an operation against the observations before it, and record it."""
        name = self._parse.requested_operation(subject.id, dict(subject.request_json))
        kind = name.partition(".")[0]
        if not name or kind not in chains.MACHINES or not subject.path_ids:
            return
        key = (kind, subject.path_ids[-1])
        before = self._latest.get(key)
        if before is not None and name in chains.known_calls(kind):
            if subject.status // 100 == 2:
                yield from self._accepted(name, key, before)
            elif subject.status == 400:
                self._refused[key] = (subject, before, name)
        is_sure = subject.status // 100 == 2
        if is_sure or subject.exchange.status is None or subject.status >= 500:
            self._calls.append(Call(name, key[1], self._moved_by(subject, key), is_sure))

    def _moved_by(self, subject: Subject, key: Key) -> frozenset[str]:
        """Return the tasks or dags it may change; ocp-express ignores the task of a pair."""
        roots = {self._roots.get(key, "")}
        if key[0] in ("task", "subtask"):
            roots.add(subject.path_ids[0])
        if key[0] == "dag":
            roots.add(key[1])
        existing = roots - {""}
        return (
            frozenset(existing) if key[0] in ("task", "dag") or key in self._roots else frozenset()
        )

    def _accepted(self, name: str, key: Key, before: Sighting) -> Iterator[CheckResult]:
        """Check that an accepted operation was legal in some state possible at that time."""
        takes = chains.can_take(key[0], name, switched=True)
        was = self._may_be_now(before)
        is_undecided = self.ours is not None and (name, before.operation) in UNDECIDED
        if was and not is_undecided:
            wrong = f"{name} is accepted, and {key[0]} {key[1]} was {before.words} before."
            yield check("call.illegal-accepted", bool(was & takes), "$", wrong)
        if name == "task.ROLLBACK" and before.state == "FAILED" and not self._calls_since(before):
            wrong = f"a rollback is accepted of task {key[1]}, whose prohibitRollback is true."
            kept = before.raw.get("prohibitRollback") is not True or not self._is_ours(before.root)
            yield check("call.prohibited-accepted", kept, "$", wrong)

    def _calls_since(self, before: Sighting) -> list[Call]:
        return [item for item in self._calls[before.calls :] if item.concerns(before.root)]

    def _may_be_now(self, before: Sighting, *, is_certain: bool = False) -> chains.States:
        """Return every label that is possible now, after an earlier observation."""
        states = chains.could_be(before.kind, before.state, before.operation)
        calls = self._calls_since(before)
        is_sure = self._is_ours(before.root) and not self._is_undecided(before, calls)
        if not is_sure:
            return chains.in_time(before.kind, states, by_anybody=True)
        if self.ours is not None and before.kind == "subtask":
            calls = chains.with_own_retries(before.id, calls)
        return chains.after_calls(before.kind, before.id, states, calls, is_certain=is_certain)

    def _is_undecided(self, before: Sighting, calls: list[Call]) -> bool:
        """Return whether no public source states the operations' effect on a real server.

        These are a retry after a failed rollback (only OCP 4.2.2's user guide has it), and the
        operation of a task of which one subtask is retried, skipped or cancelled.
        """
        if self.ours is None or self.contract.api != "ocp":
            return False
        names = {item.name for item in calls}
        is_half_undone = before.operation in BACKWARDS and names & RETRIES
        return bool(is_half_undone) or (before.kind == "task" and bool(names & OF_SUBTASKS))

    # --- observations -----------------------------------------------------------------------------

    def _sights(self, subject: Subject) -> Iterator[CheckResult]:
        """Check every observation in a response against the earlier ones."""
        found = sightings(subject, roots=self._roots, calls=len(self._calls))
        self._roots.update({item.key: item.root for item in found if item.root})
        for now in found:
            if self._is_nothing_new(now):
                yield check("terminal.moved" if now.is_terminal else "transition.illegal", True)
                continue
            yield from self._became(now)
            yield from self._sandwiched(now)
            yield from self._agrees(now)
            yield from self._refusal_was_right(now)
            yield from self._waits(now, found)
            yield from self._ends_again(now)
            yield from self._skips(now)
        for now in found:
            self._count(now)
            self._latest[now.key] = self._last[now.key, now.view] = now
            self._logs.sighted(now)

    def _is_nothing_new(self, now: Sighting) -> bool:
        """Return whether it equals the last one, in the same view, with no operation since."""
        latest = self._latest.get(now.key)
        if latest is None or latest.view != now.view or now.key in self._refused:
            return False
        is_waiting = now.key in self._waiting or now.key in self._skipped_since
        return latest.calls == now.calls and not is_waiting and latest.raw == now.raw

    def _became(self, now: Sighting) -> Iterator[CheckResult]:
        """Check the transition, the fields that are fixed, and those that only grow."""
        latest = self._latest.get(now.key)
        same = self._last.get((now.key, now.view))
        for before in {id(item): item for item in (same, latest) if item is not None}.values():
            yield from self._moved(before, now)
        if same is not None:
            calls = self._calls_since(same)
            yield from facts.fixed_fields(same, now)
            yield from facts.counted(same, now, calls)
            if self.ours is None:
                yield from facts.not_counted(same, now, calls)
            if self._is_ours(now.root) or now.state != "FAILED":
                yield from facts.settled(same, now)

    def _moved(self, before: Sighting, now: Sighting) -> Iterator[CheckResult]:
        could = chains.could_be(now.kind, now.state, now.operation)
        was = chains.could_be(before.kind, before.state, before.operation)
        if not could or not was:
            return  # the schema's checks report a label that the table does not have
        is_aimed_at = any(
            call.aims_at(*now.key) and call.is_sure for call in self._calls_since(before)
        )
        rule = "call.wrong-effect" if is_aimed_at else _rule_of_move(before, now)
        wrong = f"{now.kind} {now.id} was {before.words}, and is {now.words}"
        may, must = self._may_be_now(before), self._may_be_now(before, is_certain=True)
        yield check(rule, bool(may & could), now.path, f"{wrong}, which it cannot become.")
        if is_aimed_at:
            kept = not may & could or bool(must & could and not _stands_still(before, now))
            wrong = f"{wrong}, as if nothing had been asked of it in between."
            yield check("call.no-effect", kept, now.path, wrong)

    def _sandwiched(self, now: Sighting) -> Iterator[CheckResult]:
        """Check that views between two observations of one end show the same state."""
        before = self._last.get((now.key, now.view))
        if before is None or not _is_same_end(before, now):
            return
        for view in ("list", "detail", "part"):
            between = self._last.get((now.key, view))
            if between is None or view == now.view:
                continue
            if before.subject.exchange.number < between.subject.exchange.number:
                wrong = (
                    f"{now.kind} {now.id} is {between.words} here, and {now.words} by itself, "
                    "before and after."
                )
                rule = "list.differs-from-detail" if "list" in (view, now.view) else "views.differ"
                kept = between.state == now.state
                yield check(rule, True)
                if not kept:
                    self._late.append((between.subject, CheckResult(rule, between.path, wrong)))

    def _agrees(self, now: Sighting) -> Iterator[CheckResult]:
        """Check that all views of one end show the same."""
        for view in ("list", "detail", "part"):
            other = self._last.get((now.key, view))
            if view != now.view and other is not None and _is_same_end(other, now):
                yield from facts.same_everywhere(other, now)

    def _refusal_was_right(self, now: Sighting) -> Iterator[CheckResult]:
        """Check that an operation refused for its state is illegal in the state around it."""
        refused = self._refused.pop(now.key, None)
        if refused is None:
            return
        subject, before, name = refused
        if self._calls_since(before) or not _is_same_end(before, now):
            return
        takes = chains.can_take(now.kind, name, switched=False)
        was = chains.could_be(before.kind, before.state, before.operation)
        is_legal = bool(was) and was <= takes and facts.is_about_the_state(subject, before)
        wrong = f"{name} is refused, and {now.kind} {now.id} was {before.words} all the while."
        yield check("call.legal-refused", True)
        if is_legal:
            self._late.append((subject, CheckResult("call.legal-refused", "$", wrong)))

    def _waits(self, now: Sighting, found: list[Sighting]) -> Iterator[CheckResult]:
        """Check that a task or dag ends soon after its parts."""
        if now.view != "detail" or now.kind not in ("task", "dag"):
            return
        state = facts.waiting(now)
        before = self._waiting.pop(now.key, None)
        if state is None or now.at is None:
            return
        if before is not None and before.shows == state:
            self._waiting[now.key] = before
            wrong = f"{now.kind} {now.id} is still {now.words}, long after its parts have ended."
            kept = now.at - before.since < facts.LONG
            yield check("parent.stuck", kept, now.path, wrong)
        else:
            self._waiting[now.key] = facts.Waiting(state, now.at)

    def _ends_again(self, now: Sighting) -> Iterator[CheckResult]:
        """Check that a task or dag that ran again after its end ends at a new time."""
        if now.kind not in ("task", "dag") or now.view != "detail":
            return
        if now.is_terminal and now.end is not None:
            former = self._ends_while_running.pop(now.key, None)
            if former is not None:
                wrong = f"{now.kind} {now.id} ran again after its end, and ends at that same time."
                yield check("time.not-renewed", now.end != former, now.path, wrong)
            self._ends[now.key] = now.end
            return
        end = self._ends.get(now.key)
        if not now.is_terminal and end is not None and (now.at or 0) > end + SKEW:
            self._ends_while_running[now.key] = end

    def _skips(self, now: Sighting) -> Iterator[CheckResult]:
        """Check that a skipped subtask ends within a few ticks of the scheduler."""
        is_skipped = now.kind == "subtask" and now.operation in ("SKIP", "ROLLBACK_SKIP")
        if not is_skipped or now.state not in ("READY", "RUNNING") or now.at is None:
            self._skipped_since.pop(now.key, None)
            return
        since = self._skipped_since.setdefault(now.key, now.at)
        limit = facts.LONG if self.ours is not None else LONGEST_SKIP
        wrong = f"subtask {now.id} is {now.words}, {(now.at - since) // SECOND} s after its skip."
        yield check("call.skip-runs", now.at - since <= limit, now.path, wrong)

    def _count(self, now: Sighting) -> None:
        """Count the label, and the change from the last one in the same view."""
        if not now.operation:
            return
        self.shown[now.kind, now.words] += 1
        before = self._last.get((now.key, now.view))
        if before is not None and before.words != now.words:
            self.walked[now.kind, before.words, now.words] += 1

    def _log(self, subject: Subject) -> Iterator[CheckResult]:
        yield from self._logs.results(subject, self._latest)


def _rule_of_move(before: Sighting, now: Sighting) -> str:
    if before.view != now.view:
        is_list = "list" in (before.view, now.view)
        return "list.differs-from-detail" if is_list else "views.differ"
    return "terminal.moved" if before.is_terminal else "transition.illegal"


def _is_same_end(before: Sighting, now: Sighting) -> bool:
    """Return whether both show the same end, so that nothing happened in between."""
    ended = before.is_terminal and now.is_terminal and before.state == now.state
    return ended and before.end is not None and before.end == now.end


def _stands_still(before: Sighting, now: Sighting) -> bool:
    """Return whether it still shows the end it had before the operation."""
    return _is_same_end(before, now) and before.operation == now.operation
