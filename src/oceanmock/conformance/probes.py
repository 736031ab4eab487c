"""Send prepared requests (probes), and operate on tasks and dags (walks).

Probes are requests that must be refused, hostile requests, and reads of lists that must agree; they are the same in
each run. A run that writes also sends operations that a correct server refuses. A probe states the responses that are
expected from any server of its API, both where public sources allow two. The client's checkers check the rest. A wrong
password is sent once in each way, since a server may lock the user.

A walk reads one task or dag, requests an operation, reads again and lets time pass. Its requests are probes, and it
checks nothing itself. A sandbox that is reset has many walks, a server one for each task. Only given ids are changed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, zip_longest
from random import Random
from typing import Any, Final, Literal, get_args

from oceanmock.apis import api_named
from oceanmock.checks import UNAVAILABLE, CheckResult, Exchange, Probe, Probes, RuleChecker, Subject, WalkAction, check
from oceanmock.conformance import NotAllowed
from oceanmock.conformance.checks import RULES
from oceanmock.conformance.http_client import HttpClient
from oceanmock.conformance.target import detail_path
from oceanmock.observations import Observation, ProbeTarget, items_in_response

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
"""The statuses of a redirect to a login page, by a proxy in front of the server."""
MAX_READ: Final = 24  # the most tasks or dags that are read in full
MAX_CHANGEABLE: Final = 60  # the most of those that the run may change, if they are more


class Prober(RuleChecker):
    """Sends probes with a client, and reports unexpected responses to it."""

    def __init__(self, client: HttpClient) -> None:
        super().__init__(client.contract, RULES)
        self.client = client

    def ask(self, probe: Probe) -> Exchange | None:
        """Return the checked exchange of a probe; None if the target's version lacks the operation, or NotAllowed."""
        if self.contract.lacks(probe.method, probe.target.partition("?")[0]):
            return None
        with suppress(NotAllowed):
            return self.client.send(
                probe.method,
                probe.target,
                headers=probe.headers,
                body=probe.body,
                auth=probe.auth,
                expects_refusal=probe.is_wrong,
                checker=partial(self._unexpected, probe),
            )
        return None

    def run(self, probes: Probes) -> None:
        """Send probes, and report the results of comparing their responses."""
        response: Subject | None = None
        with suppress(StopIteration):
            while True:
                item = probes.send(response)
                response = None
                if not isinstance(item, Probe):
                    self.client.found(*self.failures(item[0], [item[1]]))
                elif (exchange := self.ask(item)) is not None and exchange.status is not None:
                    response = Subject(exchange, self.contract)

    def _unexpected(self, probe: Probe, exchange: Exchange) -> list[CheckResult]:
        """Return the failed results of a response. Quirks and failures of the server are checked by other rules."""
        subject, checks = Subject(exchange, self.contract), api_named(self.contract.api).checks
        if exchange.status is None or subject.status in UNAVAILABLE or subject.status >= 500:
            return []
        return [] if checks.is_explained(subject) else self.failures(subject, self._judge(probe, subject))

    def _judge(self, probe: Probe, subject: Subject) -> Iterator[CheckResult]:
        status = subject.status
        if probe.refused != "error.status" and status in (401, 403):
            return  # the user of the run may not operate
        allowed = " or ".join(str(item) for item in sorted(probe.statuses))
        wrong = f"{probe.what} is answered {status}; it should be {allowed}."
        is_of_access = probe.accepted.startswith("auth.")
        is_expected = status in probe.statuses or (is_of_access and status in REDIRECTS)
        if probe.accepted != "error.status":
            was_done = status < 300
            if is_of_access:
                was_done = status not in (401, 403) and isinstance(subject.body, dict)
            was_done = was_done and not is_expected
            yield check(probe.accepted, not was_done, "$", wrong)
            if was_done:
                return
        if probe.refused != "error.status" and 400 not in probe.statuses:
            yield check(probe.refused, status != 400, "$", wrong)
            if status == 400:
                return
        yield check("error.status", is_expected, "$", wrong)
        code, number = subject.error.get("errCode"), subject.error.get("code")
        if is_expected and status >= 400 and probe.codes and isinstance(code, str):
            wrong = f"{probe.what} is answered {code}; it should be {' or '.join(probe.codes)}."
            yield check("error.code", code in probe.codes, "$.error.errCode", wrong)
        if status == 400 and probe.other_codes and isinstance(number, int):
            wrong = f"{probe.what} is answered with the code {number}, which has another meaning."
            yield check("error.code", number not in probe.other_codes, "$.error.code", wrong)


def probe(prober: Prober, items: tuple[Observation, ...]) -> None:
    """Send every probe; first, if the run writes, the operations that the state of its own tasks or dags forbids."""
    client = prober.client
    target, options = client.target, client.options
    probes = api_named(target.api).module("probes")
    context = ProbeTarget(target, items, options.write, options.tasks, is_spared=bool(client.guard.spared))
    with client.during("probes"):
        for illegal in _illegal_operations(context) if options.write else ():
            prober.ask(illegal)
        for id in probes.ids_to_refuse(context):
            client.guard.may_change(id)
        prober.run(probes.probes(context))


def _illegal_operations(target: ProbeTarget) -> Iterator[Probe]:
    """Yield each operation that a state forbids, on the first task or dag at rest in that state."""
    server, api = target.server, api_named(target.server.api).conformance
    knowledge = server.knowledge or api.knowledge(server.version)
    sent = set[tuple[str, str]]()
    for item in filter(api.is_at_rest, target.own):
        for action in api.actions(item, is_mock=server.is_ours, knowledge=knowledge):
            is_illegal = action.probe.accepted == "call.illegal-accepted" and 200 not in action.probe.statuses
            if is_illegal and (action.goal, action.state) not in sent:
                sent.add((action.goal, action.state))
                yield action.probe


def find_items(client: HttpClient) -> tuple[Observation, ...]:
    """Return the tasks or dags of a target with their parts, from its lists and by reading each.

    On obshell only the target's own ids are read: it would forward the others. At most MAX_READ are read in full, some
    of each state; those that the run may change come first.
    """
    target, own = client.target, client.options.tasks
    api = api_named(target.api)

    def read(path: str) -> list[Observation]:
        with suppress(NotAllowed):  # for an unknown id on a target that such ids may harm
            return items_in_response(api, client.send("GET", path))
        return []

    by_state: defaultdict[str, list[str]] = defaultdict(list)
    for path in api.module("probes").list_targets(target.identity):
        for row in read(path):
            if row.kind == api.root.name:
                by_state[row.state].append(row.id)
    mixed = filter(None, chain.from_iterable(zip_longest(*by_state.values())))  # one of each state in turn
    ids = [*dict.fromkeys([*own, *mixed])][: max(MAX_READ, min(MAX_CHANGEABLE, len(own)))]
    return tuple(item for id in ids for item in read(detail_path(target.api, id))[:1])


Pause = Literal["none", "tick", "rest"]
"""What follows a move: nothing, one read after a while, or reads until the task is at rest."""

ILLEGAL: Final = "illegal"
LOOK: Final = "look"
MOVES: Final = 8
TOURS: Final = 6  # the number of tasks with a walk for each goal
QUICK_READS: Final = 12  # the number of reads at the walker's interval; then each interval is twice the last one
SLOWEST_READ: Final = 10.0
SEEKS: Final = 16  # the most reads until an operation becomes possible
READ_ATTEMPTS: Final = 5
LINGER_SECONDS: Final = 8.0  # the time after which a task at rest is read once more
MAX_ENDINGS: Final = 6  # the most attempts to end a task: a pass may be refused, a rollback may fail
ANY_STATUS: Final = frozenset({200, 400, 500})


class Walk:
    """A walk on one task or dag."""

    def __init__(self, walker: Walker, id: str) -> None:
        self.walker: Final = walker
        self.id: Final = id
        self.record: Final = api_named(walker.prober.contract.api)
        self.api: Final = self.record.conformance
        self.knowledge: Final = walker.knowledge or self.api.knowledge(walker.prober.contract.version)
        self.current: Observation | None = None
        self.is_over = False
        self.may_end = True  # whether operations may be requested after which no other one is possible
        self._first: Observation | None = None  # the state before the first accepted operation since the last rest

    @property
    def is_at_rest(self) -> bool:
        """Return whether the task has ended and nothing of it runs."""
        return self.current is not None and self.api.is_at_rest(self.current)

    def move(self, goal: str, choice: int, pause: Pause) -> None:
        """Request the goal's operation, if it becomes possible, and let time pass.

        The goal ``illegal`` requests an operation that must be refused, ``look`` none. With an odd ``choice`` an
        illegal operation comes first.
        """
        if self.is_over or self.read() is None:
            return
        if goal == ILLEGAL or choice % 2:
            self._try(self.actions(accepted=False), choice)
        if goal not in (ILLEGAL, LOOK):
            self._seek(goal, choice)
        if pause == "tick":
            self.wait(self.walker.poll)
        elif pause == "rest":
            self.rest()

    def repeat(self, goal: str) -> None:
        """Request the goal's operation again if it must be refused, as while the first one runs."""
        if not self.is_over:
            self._try([item for item in self.actions(accepted=False) if item.goal == goal], 0)

    def rarest(self) -> str:
        """Return the goal that was accepted least often, of those that are possible now."""
        possible = {item.goal for item in self.actions(accepted=True)}
        if possible:  # an operation that is accepted can then be cancelled
            possible.add(self.api.cancel)
        goals = [goal for goal in self.api.goals if goal in possible] or self.api.goals
        return min(goals, key=lambda goal: self.walker.operations[goal, 200])

    def _seek(self, goal: str, choice: int) -> None:
        """Request an operation as soon as it is possible.

        If it is not possible at rest, another operation comes first, preferably a retry: only a running task can be
        cancelled.
        """
        has_restarted = False
        for _ in range(SEEKS):
            if self.current is None or self.is_over:
                return
            possible = self.actions(accepted=True)
            fitting = [item for item in possible if item.goal == goal]
            if fitting:
                self._try(fitting, choice)
                return
            if not self.is_at_rest:
                self.wait(self.walker.poll)
            elif has_restarted:
                return
            else:
                has_restarted = True
                retries = [item for item in possible if item.goal in self.api.retries]
                self._try(retries or possible, choice)

    def actions(self, *, accepted: bool, last: bool = False) -> list[WalkAction]:
        """Return the actions that may be accepted, or those that must be refused, of the current state.

        ``last`` adds those that nothing can follow. While the state may change by itself, there are only cancels.
        """
        if self.current is None:
            return []
        stands = self.walker.stands
        return [
            item
            for item in self.api.actions(self.current, is_mock=stands, knowledge=self.knowledge)
            if (200 in item.probe.statuses) is accepted
            and (last or self.may_end or not (accepted and item.is_last))
            and (stands or item.goal == self.api.cancel or self.is_at_rest)
        ]

    def _try(self, actions: Sequence[WalkAction], choice: int) -> None:
        """Request the action that was tried least often, and read the state right after."""
        if not actions:
            return
        tried = self.walker.tried
        counts = [(tried[_kind(item)], tried[item.goal, item.state]) for item in actions]
        rarest = [item for item, count in zip(actions, counts, strict=True) if count == min(counts)]
        action = rarest[choice % len(rarest)]
        tried.update([_kind(action), (action.goal, action.state)])
        probe = action.probe
        if not self.walker.stands and not self.is_at_rest:  # the state may have changed since it was read
            probe = replace(probe, statuses=ANY_STATUS, codes=(), other_codes=frozenset())
        exchange = self.walker.prober.ask(probe)
        status = exchange.status if exchange is not None else None
        self.walker.operations[action.goal, status] += 1
        if status in UNAVAILABLE or exchange is None:
            return
        if status in (None, 401, 403):
            self.is_over = True
            return
        if status is not None and status < 300 and self._first is None:
            self._first = self.current
        self.read()

    def rest(self) -> None:
        """Read until the task is at rest, or the time is up; then read the logs of the parts that have run."""
        waited, interval, number = 0.0, self.walker.poll, 0
        while self.current is not None and not (self.is_over or self.is_at_rest) and waited < self.walker.timeout:
            number += 1
            if number > QUICK_READS:
                interval = min(interval * 2, max(SLOWEST_READ, self.walker.poll))
            self.wait(interval)
            waited += interval
        if self.is_at_rest and self._first is not None:
            for path in self.api.log_paths(self._first, self.current):
                self._get(path)
            self._first = None

    def finish(self) -> None:
        """Rest, and read once more later: a task at rest must not change."""
        self.rest()
        if self.is_at_rest and not self.is_over:
            self.wait(LINGER_SECONDS)

    def end(self) -> None:
        """Bring the task to an end and record its last state: cancel it, roll it back or pass it."""
        self.rest()
        for _ in range(MAX_ENDINGS):
            possible = [item for item in self.actions(accepted=True, last=True) if item.is_last or not self.is_at_rest]
            if self.is_over or not possible:
                break
            self._try(possible, 0)
            self.rest()
        stage = f" at stage {self.current.raw['stage']}" if self.current and "stage" in self.current.raw else ""
        self.walker.left[self.id] = self.current.words + stage if self.current else "it could not be read"

    def wait(self, seconds: float) -> None:
        """Let time pass, and read."""
        self.walker.wait(seconds)
        self.read()

    def read(self) -> Observation | None:
        """Return the current state; None if it cannot be read, and then the walk is over."""
        for attempt in range(READ_ATTEMPTS + 1):
            if attempt:
                self.walker.wait(self.walker.poll)
            exchange = self._get(detail_path(self.record.name, self.id))
            if exchange is None or exchange.status not in UNAVAILABLE:
                break
        items = items_in_response(self.record, exchange) if exchange is not None else []
        self.current = items[0] if items and all(item.operation for item in items[0].all()) else None
        self.is_over = self.is_over or self.current is None
        return self.current

    def _get(self, path: str) -> Exchange | None:
        """Read a path; None if the run leaves its operation out."""
        with suppress(NotAllowed):
            return self.walker.prober.client.send("GET", path)
        return None


def _kind(action: WalkAction) -> tuple[Any, ...]:
    return action.goal, action.probe.statuses, action.probe.codes, action.probe.accepted


@dataclass
class Walker:
    """Take walks on tasks or dags.

    ``wait(seconds)`` lets time pass, ``poll`` seconds between two reads; if ``stands``, time passes in no other way, as
    in a sandbox with a manual clock. A task that is not at rest after ``timeout`` seconds is left alone.
    """

    prober: Prober
    wait: Callable[[float], None]
    stands: bool = True
    poll: float = 0.5
    timeout: float = 60.0
    seed: int = 0
    knowledge: Any = None
    operations: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    """How often each goal had each status."""
    tried: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    """How often each kind of action, and each action in a state, was tried."""
    left: dict[str, str] = field(default_factory=dict)  # the last state of each task that was walked on, by id

    def walk_sandbox(self, ids: Sequence[str], *, reset: Callable[[], object], examples: int) -> None:
        """Take walks on the tasks of a sandbox, each after a reset.

        Each of the first tasks has a walk for each goal, so that no operation depends on chance: an illegal operation,
        the goal, and the next goal. A walk that cancels begins before the task first ends. Then ``examples`` random
        walks take the ids in turn.
        """
        random = Random(self.seed)  # noqa: S311 (the same seed, the same walk)
        api = api_named(self.prober.contract.api).conformance

        def begin(id: str, *, is_new: bool) -> Walk:
            reset()
            walk = Walk(self, id)
            walk.read()
            if not is_new:
                walk.rest()
            return walk

        with self.prober.client.during("machine"):
            for id in ids[:TOURS]:
                for number, goal in enumerate(api.goals):
                    walk = begin(id, is_new=goal == api.cancel)
                    walk.move(ILLEGAL, number, "none")
                    walk.move(goal, 2 * number, "none")
                    walk.repeat(goal)
                    walk.rest()
                    walk.move(api.goals[(number + 1) % len(api.goals)], 2 * number + 1, "rest")
                    walk.finish()
            for turn in range(examples if ids else 0):
                walk = begin(ids[turn % len(ids)], is_new=turn // len(ids) % 2 == 1)
                for goal in random.choices((*api.goals, ILLEGAL, LOOK), k=MOVES):
                    walk.move(goal, random.randrange(1000), random.choice(get_args(Pause)))
                walk.finish()

    def walk_server(self, ids: Iterable[str], *, moves: int = MOVES) -> None:
        """Take one walk on each task of a server that cannot be reset.

        A walk begins with a cancel, then with the goals that were accepted least often; random moves come after that,
        so that no required response depends on chance. Operations that nothing can follow come last, to bring the task
        to an end. They come at once if every other possible one was tried: once a task succeeds, none is possible.
        """
        random = Random(self.seed)  # noqa: S311 (the same seed, the same walk)
        api = api_named(self.prober.contract.api).conformance
        with self.prober.client.during("machine"):
            for id in ids:
                walk = Walk(self, id)
                walk.read()
                walk.rest()
                walk.may_end = False
                for number in range(moves):
                    possible = walk.actions(accepted=True, last=True)
                    untried = [item for item in possible if not self.tried[_kind(item)]]
                    if untried and all(item.is_last for item in untried):
                        break
                    goal = random.choice((*api.goals, ILLEGAL, LOOK))
                    if number < len(api.goals):
                        goal = walk.rarest() if number else api.cancel
                    walk.move(goal, random.randrange(1000), random.choice(get_args(Pause)))
                walk.end()
                walk.finish()

    def leave(self, ids: Iterable[str]) -> None:
        """Bring tasks to an end, by any operation."""
        self.tried.clear()
        self.left.clear()
        for id in ids:
            walk = Walk(self, id)
            if walk.read() is not None:
                walk.end()
