"""Keep sandboxes in a file, so that they outlive the process: a memory store that also writes to SQLite.

A change is committed before its request is answered. The file is in WAL mode with ``synchronous=NORMAL``: whatever ends
the process, no acknowledged change is lost; a loss of power may lose the last ones. One server at a time has the file.
Journals, and the last requests that had a fault, are not kept.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, Final

from oceanmock.clock import machine_now
from oceanmock.engine import log
from oceanmock.engine.log import LogEntry, MoveClock, OperationRecord, SandboxSpec
from oceanmock.engine.store import MemoryStore, StoreUnavailable
from oceanmock.errors import EnvironmentProblem, InputError

APPLICATION_ID: Final = 0x6F6D_6B31  # the mark of a state file, which ``file`` and SQLite show
FILE_FORMAT: Final = 1
_TABLES: Final = """
CREATE TABLE sandbox (name TEXT PRIMARY KEY, version INTEGER NOT NULL, spec BLOB NOT NULL);
CREATE TABLE entry (
    version INTEGER PRIMARY KEY, sandbox TEXT NOT NULL, at INTEGER NOT NULL, wall INTEGER NOT NULL,
    command BLOB NOT NULL
);
CREATE INDEX entry_of ON entry (sandbox);
CREATE TABLE counter (
    sandbox TEXT NOT NULL, key TEXT NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (sandbox, key)
);
CREATE TABLE record (sandbox TEXT NOT NULL, key TEXT NOT NULL, records BLOB NOT NULL, PRIMARY KEY (sandbox, key));
"""
_PUT: Final = """
INSERT INTO sandbox VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET version = excluded.version, spec = excluded.spec
"""


class StateFile(MemoryStore):
    """The store of one server with ``--state``."""

    def __init__(self, path: Path, *, decoder: log.Decoder) -> None:
        """Read the file, or create it. Raises EnvironmentProblem if it cannot be used, and says why."""
        super().__init__()
        self.path: Final = path
        self._lock: Final = Lock()
        self._connection: Final = _open(path)
        try:
            self._ahead = max(self._restore(decoder) - machine_now(), 0)
        except (InputError, KeyError, TypeError, ValueError) as problem:
            self.close()
            raise _unusable(path, f"it was written by another version of oceanmock ({problem})", is_ours=True) from None

    def __str__(self) -> str:
        return str(self.path)

    def wall(self) -> int:
        """Return a time of the machine, never before that of an entry, even if its clock was set back."""
        return machine_now() + self._ahead

    def details(self, name: str) -> tuple[Mapping[Hashable, int], Mapping[Hashable, Iterable[OperationRecord]]]:
        """Return a sandbox's counters, and the records of its tasks."""
        stored = self._sandboxes[name]
        return stored.counters, stored.records

    def close(self) -> None:
        self._connection.close()

    def put(self, spec: SandboxSpec, *, replaces: int | None = None, if_untouched: bool = False) -> int | None:
        if not self.may_put(spec.name, replaces, if_untouched=if_untouched):
            return None
        with self._writing() as execute:
            _erase(execute, spec.name)
            execute(_PUT, spec.name, self._last_version + 1, log.encode(spec))
        return super().put(spec)

    def delete(self, name: str) -> None:
        if name in self._sandboxes:
            with self._writing() as execute:
                execute("DELETE FROM sandbox WHERE name = ?", name)
                _erase(execute, name)
        super().delete(name)

    def append(self, name: str, entry: LogEntry, *, expected_version: int) -> int | None:
        stored = self._sandboxes[name]
        if stored.version != expected_version:
            return None
        version = self._last_version + 1
        with self._writing() as execute:
            if isinstance(entry.command, MoveClock) and stored.log.ends_with_move:
                execute("DELETE FROM entry WHERE version = ?", stored.version)
            row = (version, name, entry.at, entry.wall, log.encode(entry.command))
            execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?)", *row)
        return super().append(name, entry, expected_version=expected_version)

    def count(self, name: str, counter: Hashable, *, by: int = 1) -> int:
        if by:
            value = super().count(name, counter, by=0) + by
            with self._writing() as execute:
                execute("INSERT OR REPLACE INTO counter VALUES (?, ?, ?)", name, log.encode(counter).decode(), value)
        return super().count(name, counter, by=by)

    def record(self, name: str, key: Hashable, record: OperationRecord) -> None:
        super().record(name, key, record)
        # The operation is in the log already, or refused: a record that is lost changes no response.
        with suppress(StoreUnavailable), self._writing() as execute:
            records = log.encode(self.records(name, key))
            execute("INSERT OR REPLACE INTO record VALUES (?, ?, ?)", name, log.encode(key).decode(), records)

    @contextmanager
    def _writing(self) -> Iterator[Callable[..., Any]]:
        """Run statements as one transaction. Raises StoreUnavailable; then nothing has changed."""
        with self._lock:
            try:
                with self._connection as connection:
                    connection.execute("BEGIN IMMEDIATE")
                    yield lambda statement, *values: connection.execute(statement, values)
            except sqlite3.Error as problem:
                raise StoreUnavailable(f"the state file {self.path} cannot be written: {problem}.") from None

    def _restore(self, decoder: log.Decoder) -> int:
        """Read every sandbox into memory; return the latest time of the machine that the file has."""
        read, latest = self._connection.execute, 0
        for base, data in read("SELECT version, spec FROM sandbox ORDER BY rowid"):
            self._last_version = base - 1
            spec = decoder.spec(data)
            super().put(spec)
            latest = max(latest, spec.created)
        for version, name, at, wall, command in read("SELECT * FROM entry ORDER BY version"):
            self._last_version = version - 1
            entry = LogEntry(at, wall, decoder.command(command))
            super().append(name, entry, expected_version=self._sandboxes[name].version)
            latest = max(latest, wall)
        self._last_version = max((stored.version for stored in self._sandboxes.values()), default=0)
        for name, key, value in read("SELECT * FROM counter"):
            super().count(name, log.decode_key(key), by=value)
        for name, key, records in read("SELECT * FROM record"):
            for record in log.decode_records(records):
                super().record(name, log.decode_key(key), record)
        return latest


def _erase(execute: Callable[..., Any], name: str) -> None:
    execute("DELETE FROM entry WHERE sandbox = ?", name)
    execute("DELETE FROM counter WHERE sandbox = ?", name)
    execute("DELETE FROM record WHERE sandbox = ?", name)


def _open(path: Path) -> sqlite3.Connection:
    """Open a state file, or create one. Raises EnvironmentProblem."""
    with ExitStack() as stack:
        try:
            path.touch(mode=0o600)
            connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            stack.callback(connection.close)
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            mark = connection.execute("PRAGMA application_id").fetchone()[0]
            format = connection.execute("PRAGMA user_version").fetchone()[0]
            is_empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if is_empty and not mark:
                for statement in filter(str.strip, _TABLES.split(";")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {FILE_FORMAT}")
            elif mark != APPLICATION_ID:
                raise _unusable(path, "it is no state file of oceanmock")
            elif format != FILE_FORMAT:
                reason = f"its format is {format}, and this version of oceanmock has format {FILE_FORMAT}"
                raise _unusable(path, reason, is_ours=True)
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
        except (sqlite3.Error, OSError) as problem:
            text = getattr(problem, "strerror", None) or str(problem)
            reasons = {"database is locked": "another server uses it", "file is not a database": "it is no state file"}
            raise _unusable(path, reasons.get(text, text)) from None
        stack.pop_all()
    return connection


def _unusable(path: Path, reason: str, *, is_ours: bool = False) -> EnvironmentProblem:
    hint = "Give another file" + (", or delete this one to begin anew." if is_ours else ".")
    return EnvironmentProblem(f"cannot keep the state in {path}: {reason}. {hint}")
