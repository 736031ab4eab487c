"""Keep sandboxes in Redis, so that any number of replicas serve them: the only module that imports redis.

Each change is one Lua script, which Redis runs as a whole or not at all. A script first removes sandboxes whose leases
have run out. Before a replica evaluates a command, it claims the append. An append compares the version, and refuses an
entry that is older than the newest one. Versions are microseconds of Redis's own clock and only grow, so that they
differ from those of a store that was emptied or restored. A replica's time is its own monotonic clock, set by Redis's
``TIME``, and never before the newest entry that it has read. A request costs one round trip to compare versions, one
for its journal entry, and more for each command or count. After a store has not responded within a second, every
request is refused for half a second, without asking it.

Redis 6.2 or newer, not a cluster, with a ``maxmemory-policy`` that evicts no key.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from functools import lru_cache
from threading import Lock
from typing import Any, Final
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import orjson
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from oceanmock.clock import MICROSECOND, MILLISECOND, SECOND, machine_now, pause, stopwatch
from oceanmock.engine import log
from oceanmock.engine.log import LogEntry, MoveClock, OperationRecord, SandboxSpec
from oceanmock.engine.machine import MAX_OPERATIONS
from oceanmock.engine.store import MAX_CALLERS, Attempt, LogChanges, SandboxDeleted, StoreUnavailable
from oceanmock.errors import EnvironmentProblem
from oceanmock.journal import MAX_JOURNAL_BYTES, MAX_JOURNAL_ENTRIES, MAX_STORE_BYTES, Journal
from oceanmock.journal.entries import Entry, encode_headers
from oceanmock.text import format_duration

PREFIX: Final = "oceanmock:"  # of every key in Redis
STORE_FORMAT: Final = b"1"
TIMEOUT_S: Final = 1.0
PAUSE: Final = SECOND // 2  # how long requests are refused after the store has not responded
DRIFT: Final = 2000  # two clocks drift apart by at most 1 ns in 2,000 ns
PAGE: Final = 100
CLAIM_PAUSE: Final = MILLISECOND  # before a replica claims an append again that another one has claimed
_BIAS: Final = 2**63
"""Added to an instant, so that texts of 20 digits sort as numbers; Lua has no integers of 64 bits."""

_BEGIN: Final = """
local root, name = KEYS[1], ARGV[1]
local function key(kind, of) return root .. kind .. ':' .. (of or name) end
local head, log, journal
local function use(of)
  name = of
  head, log, journal = key('sandbox'), key('log'), key('journal')
end
local function now()
  local time = redis.call('TIME')
  return math.max(tonumber(redis.call('GET', root .. 'version') or '0'), time[1] * 1000000 + time[2])
end
local function lease(span)
  if span ~= '' then redis.call('ZADD', root .. 'leases', 'GT', string.format('%.0f', now() + span), name) end
end
local function next_version()
  local version = string.format('%.0f', now() + 1)
  redis.call('SET', root .. 'version', version)
  return version
end
local function resize(of, by)
  redis.call('HINCRBY', key('sandbox', of), 'bytes', by)
  redis.call('ZINCRBY', root .. 'journals', by, of)
  return redis.call('INCRBY', root .. 'journal-bytes', by)
end
local function drop(of)
  local first = redis.call('XRANGE', key('journal', of), '-', '+', 'COUNT', 1)[1]
  redis.call('XDEL', key('journal', of), first[1])
  redis.call('HINCRBY', key('sandbox', of), 'dropped', 1)
  return resize(of, -#first[2][2])
end
local function clear()
  local count = redis.call('XLEN', journal)
  redis.call('DEL', journal)
  resize(name, 0 - (redis.call('HGET', head, 'bytes') or 0))
  redis.call('ZREM', root .. 'journals', name)
  return count
end
local function release(replica)
  if redis.call('GET', key('claim')) == replica then redis.call('DEL', key('claim')) end
end
local function erase()
  clear()
  for _, of in ipairs({'sandboxes', 'leases'}) do redis.call('ZREM', root .. of, name) end
  redis.call('DEL', head, log, key('count'), key('attempt'), key('record'))
end
for _, due in ipairs(redis.call('ZRANGEBYSCORE', root .. 'leases', 0, now())) do
  use(due)
  erase()
end
use(ARGV[1])
"""
_SCRIPTS: Final = {
    "put": """
local has = redis.call('HMGET', head, 'base', 'version', 'last')
if ARGV[3] ~= '' and (has[1] or '0') ~= ARGV[3] then return false end
if ARGV[4] ~= '' and (has[1] ~= has[2] or has[3] ~= '0') then return false end
local version, created = next_version(), redis.call('ZSCORE', root .. 'sandboxes', name)
erase()
redis.call('HSET', head, 'spec', ARGV[2], 'base', version, 'version', version, 'last', 0, 'dropped', 0, 'bytes', 0)
redis.call('ZADD', root .. 'sandboxes', created or version, name)
lease(ARGV[5])
return version
""",
    "names": "return redis.call('ZRANGE', root .. 'sandboxes', 0, -1)",
    "journal": """
if redis.call('HGET', head, 'base') ~= ARGV[2] then return 0 end
local number = redis.call('HINCRBY', head, 'last', 1)
redis.call('XADD', journal, number .. '-0', 'e', ARGV[3])
local total, count = resize(name, #ARGV[3]), redis.call('XLEN', journal)
while count > 1 and (count > tonumber(ARGV[4]) or tonumber(redis.call('HGET', head, 'bytes')) > tonumber(ARGV[5])) do
  total, count = drop(name), count - 1
end
while total > tonumber(ARGV[6]) do
  local largest = redis.call('ZREVRANGE', root .. 'journals', 0, 0)[1]
  for _ = 1, math.ceil(redis.call('XLEN', key('journal', largest)) / 2) do total = drop(largest) end
end
return number
""",
    "clear": """
if redis.call('HGET', head, 'base') ~= ARGV[2] then return 0 end
local count = clear()
redis.call('HSET', head, 'dropped', 0)
return count
""",
    "entries": """
if redis.call('HGET', head, 'base') ~= ARGV[2] then return {} end
return redis.call('XRANGE', journal, ARGV[3] .. '-0', '+', 'COUNT', ARGV[4])
""",
    "ping": """
redis.call('SET', root .. 'ping', 1)
return {redis.call('ZCARD', root .. 'sandboxes'), redis.call('GET', root .. 'journal-bytes') or 0, redis.call('TIME')}
""",
}
_IF_EXISTS: Final = "if redis.call('EXISTS', head) == 0 then return false end\n"
_SANDBOX_SCRIPTS: Final = {
    "renew": "lease(ARGV[2]) return 1",
    "delete": "erase() return 1",
    "read": """
local has = redis.call('HMGET', head, 'version', 'base', 'last', 'dropped', 'bytes')
if ARGV[3] ~= '' and not redis.call('SET', key('claim'), ARGV[3], 'NX', 'PX', 1000) then
  if redis.call('GET', key('claim')) ~= ARGV[3] then return 'claimed' end
end
local since, version, base, spec, entries = tonumber(ARGV[2]), tonumber(has[1]), tonumber(has[2]), false, {}
if since < base or since > version then
  spec, since = redis.call('HGET', head, 'spec'), base
end
if since ~= version then
  entries = redis.call('XRANGE', log, string.format('%.0f-0', since + 1), '+')
end
local lease = redis.call('ZSCORE', root .. 'leases', name)
local left = lease and lease - now()
return {has[1], has[2], spec, entries, left, has[3], has[4], has[5], redis.call('XLEN', journal), redis.call('TIME')}
""",
    "append": """
local has = redis.call('HMGET', head, 'version', 'at', 'wall', 'moves')
release(ARGV[7])
if has[1] ~= ARGV[2] or (has[2] and (ARGV[3] < has[2] or ARGV[4] < has[3])) then return '' end
local version = next_version()
if ARGV[5] == '1' and has[4] == '1' then redis.call('XDEL', log, has[1] .. '-0') end
redis.call('XADD', log, version .. '-0', 'a', ARGV[3], 'w', ARGV[4], 'c', ARGV[6])
redis.call('HSET', head, 'version', version, 'at', ARGV[3], 'wall', ARGV[4], 'moves', ARGV[5])
return version
""",
    "release": "release(ARGV[2]) return 1",
    "count": """
if ARGV[3] == '0' then return redis.call('HGET', key('count'), ARGV[2]) or 0 end
return redis.call('HINCRBY', key('count'), ARGV[2], ARGV[3])
""",
    "attempt": """
local last = redis.call('HGET', key('attempt'), ARGV[2])
redis.call('HDEL', key('attempt'), ARGV[2])
if ARGV[3] ~= '' then
  if redis.call('HLEN', key('attempt')) >= tonumber(ARGV[4]) then
    redis.call('HDEL', key('attempt'), redis.call('HRANDFIELD', key('attempt')))
  end
  redis.call('HSET', key('attempt'), ARGV[2], ARGV[3])
end
return last or ''
""",
    "record": """
local lines = (redis.call('HGET', key('record'), ARGV[2]) or '') .. ARGV[3] .. '\\n'
local _, count = string.gsub(lines, '\\n', '')
if count > tonumber(ARGV[4]) then lines = string.sub(lines, string.find(lines, '\\n') + 1) end
redis.call('HSET', key('record'), ARGV[2], lines)
return 1
""",
    "records": "return redis.call('HGET', key('record'), ARGV[2]) or ''",
}


class RedisStore:
    """The store of several replicas. ``skew`` is the error of the replica's time when it was last set."""

    def __init__(self, url: str, *, replica: str, decoder: log.Decoder) -> None:
        """Connect. Raises EnvironmentProblem if the store cannot be used, and says why."""
        self.replica = replica
        self._sandboxes = self._journal_bytes = 0  # as the last ``ping`` read them
        self.skew = SECOND
        self._command, self._spec = lru_cache(1024)(decoder.command), lru_cache(128)(decoder.spec)
        self._offset = self._measured = self._latest = self._retry_at = 0
        self._problem, self._lock = "", Lock()
        self._requests = self._waited = self._conflicts = 0
        self._journals = WeakValueDictionary[str, SharedJournal]()
        try:
            parts = urlsplit(url)
            host = parts.netloc.rpartition("@")[2] or ("" if parts.scheme == "unix" else "localhost")
            self.address: Final = host + parts.path
            self._redis: Any = redis.Redis.from_url(
                url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0)
            )
            bodies = _SCRIPTS | {key: _IF_EXISTS + body for key, body in _SANDBOX_SCRIPTS.items()}
            self._scripts = {key: self._redis.register_script(_BEGIN + body) for key, body in bodies.items()}
        except ValueError:
            raise EnvironmentProblem(
                "the URL of the store is not that of a Redis. Give one such as redis://127.0.0.1:6379/0 or rediss://HOST/0."
            ) from None
        try:
            self.ping()
            format = self.keep("format", lambda: STORE_FORMAT)
            info = self._ask(lambda: self._redis.info("memory"))
        except StoreUnavailable as problem:
            raise EnvironmentProblem(f"{problem} Start it, or give another URL.") from None
        if format != STORE_FORMAT:
            raise EnvironmentProblem(
                f"{self.address} has sandboxes of format {format.decode()}; this oceanmock has {STORE_FORMAT.decode()}."
            )
        policy = info.get("maxmemory_policy", "noeviction")
        if info.get("maxmemory") and policy.startswith("allkeys"):
            raise EnvironmentProblem(
                f"{self.address} would evict sandboxes when its memory is full ({policy}). "
                "Set its maxmemory-policy to noeviction."
            )

    def __str__(self) -> str:
        return self.address

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def ping(self) -> None:
        """Write to the store, and read the figures for its metrics. Raises StoreUnavailable."""
        self._sandboxes, journal_bytes, _ = self._run("ping", "")
        self._journal_bytes = int(journal_bytes)

    def wall(self) -> int:
        """Return the common time of the replicas, which never goes back."""
        return self._not_before(machine_now() + self._offset)

    def _not_before(self, instant: int) -> int:
        with self._lock:
            self._latest = max(self._latest, instant)
            return self._latest

    def clock_error(self) -> int:
        """Return how many nanoseconds the time may differ from Redis's."""
        return self.skew + (machine_now() - self._measured) // DRIFT

    def put(self, spec: SandboxSpec, *, replaces: int | None = None, if_untouched: bool = False) -> int | None:
        expected = "" if replaces is None else replaces
        lease = "" if spec.ttl is None else spec.ttl // MICROSECOND
        version = self._run("put", spec.name, log.encode(spec), expected, "1" if if_untouched else "", lease)
        return None if version is None else int(version)

    def names(self) -> list[str]:
        return [name.decode() for name in self._run("names", "")]

    def renew(self, name: str, span: int) -> None:
        self._run_on(name, "renew", span // MICROSECOND)

    def delete(self, name: str) -> None:
        self._run_on(name, "delete")

    def release(self, name: str) -> None:
        with suppress(StoreUnavailable):  # it expires
            self._run("release", name, self.replica)

    def read(self, name: str, *, since: int, claims: bool = False) -> LogChanges:
        while (reply := self._run_on(name, "read", since, self.replica if claims else "")) == b"claimed":
            pause(CLAIM_PAUSE)
        version, base, spec, entries, left, last, dropped, size, count, _ = reply
        journal = self.journal(name, int(base))
        journal.last, journal.dropped, journal.bytes, journal.length = map(int, (last, dropped, size, count))
        newer = [
            LogEntry(int(at) - _BIAS, int(wall) - _BIAS, self._command(command))
            for _, (_, at, _, wall, _, command) in entries
        ]
        lease_left = None if left is None else left * MICROSECOND
        changes = LogChanges(int(version), newer, spec and self._spec(spec), int(base), lease_left, journal)
        if changes.spec is not None:
            self._not_before(changes.spec.created)
        if changes.entries:
            self._not_before(changes.entries[-1].wall)
        return changes

    def append(self, name: str, entry: LogEntry, *, expected_version: int) -> int | None:
        instants = (f"{instant + _BIAS:020d}" for instant in (entry.at, entry.wall))
        moves, command = int(isinstance(entry.command, MoveClock)), log.encode(entry.command)
        args = (expected_version, *instants, moves, command, self.replica)
        version = int(self._run_on(name, "append", *args) or 0)
        self._conflicts += not version
        return version or None

    def journal(self, name: str, base: int) -> SharedJournal:
        journal = self._journals.get(name)
        if journal is None or journal.base != base:
            journal = self._journals[name] = SharedJournal(self._run, name, base)
        return journal

    def keep(self, name: str, make: Callable[[], bytes], *, anew: bool = False) -> bytes:
        key = PREFIX + name
        if anew or self._ask(lambda: self._redis.get(key)) is None:
            new = make()
            self._ask(lambda: self._redis.set(key, new, nx=not anew))
        value: bytes = self._ask(lambda: self._redis.get(key))
        return value

    def count(self, name: str, counter: Hashable, *, by: int = 1) -> int:
        return int(self._run_on(name, "count", log.encode(counter), by))

    def swap_attempt(self, name: str, caller: str, attempt: Attempt | None = None) -> Attempt:
        value = orjson.dumps([attempt[0], [*attempt[1].items()]]) if attempt else b""
        last = self._run_on(name, "attempt", caller.encode("utf-8", "backslashreplace"), value, MAX_CALLERS)
        digest, numbers = orjson.loads(last) if last else ("", ())
        return digest, dict(numbers)

    def record(self, name: str, key: Hashable, record: OperationRecord) -> None:
        with suppress(StoreUnavailable):  # a record that is lost changes no response
            self._run_on(name, "record", log.encode(key), log.encode((record,)), MAX_OPERATIONS)

    def records(self, name: str, key: Hashable) -> tuple[OperationRecord, ...]:
        lines = self._run_on(name, "records", log.encode(key)).splitlines()
        return tuple(record for line in lines for record in log.decode_records(line))

    def details(self, name: str) -> tuple[dict[Hashable, int], dict[Hashable, tuple[OperationRecord, ...]]]:
        """Return a sandbox's counters, and the records of its tasks."""
        counts = self._ask(lambda: self._redis.hgetall(f"{PREFIX}count:{name}"))
        keys = self._ask(lambda: self._redis.hkeys(f"{PREFIX}record:{name}"))
        counters = {log.decode_key(key): int(value) for key, value in counts.items()}
        return counters, {key: self.records(name, key) for key in map(log.decode_key, keys)}

    def _run_on(self, name: str, script: str, *args: Any) -> Any:
        """Run a script on a sandbox. Raises SandboxDeleted, StoreUnavailable."""
        reply = self._run(script, name, *args)
        if reply is None:
            raise SandboxDeleted(name, ())
        return reply

    def _run(self, script: str, name: str, *args: Any) -> Any:
        before = machine_now()
        reply = self._ask(lambda: self._scripts[script](keys=[PREFIX], args=[name, *args]))
        if script in ("read", "ping") and isinstance(reply, list):
            self._set_clock(before, machine_now(), *map(int, reply[-1]))
        return reply

    def _set_clock(self, before: int, after: int, seconds: int, micros: int) -> None:
        """Set the offset by Redis's time, read between two own times, if it is more exact, or the last is wrong."""
        error = (after - before) // 2
        offset = seconds * SECOND + micros * MICROSECOND - (before + error)
        if error <= self.clock_error() or abs(offset - self._offset) > error + self.clock_error():
            self._offset, self.skew, self._measured = offset, error, after

    def _ask(self, command: Callable[[], Any]) -> Any:
        """Return Redis's reply. Raises StoreUnavailable; without asking, if it has just not responded."""
        began = stopwatch()
        if began < self._retry_at:
            raise StoreUnavailable(self._problem)
        try:
            return command()
        except redis.RedisError as problem:
            reason = str(problem).partition("script:")[0].strip().rstrip(",.:") or type(problem).__name__
            self._problem = f"the store {self.address} cannot be used: {reason}."
            if isinstance(problem, redis.ConnectionError | redis.TimeoutError):
                self._retry_at = stopwatch() + PAUSE
            raise StoreUnavailable(self._problem) from None
        finally:
            with self._lock:
                self._requests += 1
                self._waited += stopwatch() - began

    def replica_details(self) -> dict[str, str]:
        return {"replica": self.replica, "clock_skew": format_duration(self.clock_error())}

    def metrics(self) -> dict[str, float]:
        return {
            "sandboxes": max(self._sandboxes, 1),
            "journal_bytes": self._journal_bytes,
            "store_conflicts_total": self._conflicts,
            "store_requests_total": self._requests,
            "store_seconds_total": self._waited / SECOND,
        }


class SharedJournal(Journal):
    """The journal of the sandbox that was put at version ``base``; the store has only masked entries."""

    def __init__(self, run: Callable[..., Any], name: str, base: int) -> None:
        super().__init__()
        self.base: Final = base
        self.length = 0
        self._run = run
        self._name: Final = name

    def _keep(self, entry: Entry, size: int) -> None:
        values = log.fields_of(entry.masked())
        data = json.dumps(values, default=lambda content: content.decode("latin-1")).encode()
        limits = (MAX_JOURNAL_ENTRIES, MAX_JOURNAL_BYTES, MAX_STORE_BYTES)
        entry.number = self._run("journal", self._name, self.base, data, *limits)

    def _since(self, after: int) -> Iterator[Entry]:
        while page := self._run("entries", self._name, self.base, max(after, 0) + 1, PAGE):
            for id, (_, data) in page:
                after = int(id.partition(b"-")[0])
                yield _decode_entry(data, number=after)
            if len(page) < PAGE:
                return

    def count(self) -> int:
        return self.length

    def clear(self) -> int:
        self.length = self.bytes = self.dropped = 0
        return int(self._run("clear", self._name, self.base))


def _decode_entry(data: bytes, *, number: int) -> Entry:
    values = json.loads(data) | {"number": number}
    for side in ("request", "response"):
        values[f"{side}_headers"] = encode_headers(values[f"{side}_headers"])
        values[f"{side}_body"] = values[f"{side}_body"].encode("latin-1")
    return Entry(**values)
