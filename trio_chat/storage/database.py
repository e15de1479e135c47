"""One SQLite file: opened for one program alone, checked, and brought to the newest schema.

The tables are in the stores' modules, transactions in group_commit.py.
"""

import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from functools import cache
from pathlib import Path

import attrs

from trio_chat.errors import StoreError, StoreHeld


@attrs.frozen(eq=False)
class Schema:
    """What kind of file it is (`application_id`, four bytes) and the scripts from each version to the next.

    `functions`: what these scripts use and SQLite does not have. No index may use them.
    """

    application_id: int
    migrations: Sequence[str]
    functions: Mapping[str, Callable[..., bytes | int]] = attrs.field(factory=dict)


def open_database(path: Path, schema: Schema) -> sqlite3.Connection:
    """Open or create a database file, mode 0600, and keep it locked until the connection is closed.

    Commits are durable when they return (WAL, synchronous=FULL). A file that is refused is left as it was.

    Raises:
        StoreError: the folder cannot be written, the file is not a database or another program's, it is damaged, or
            its schema is newer than this program.
        StoreHeld: another program holds it.
    """
    try:
        is_new = _create(path)
        # mode=rw: SQLite must not create it, with a mode after the umask. timeout=0: a second program fails at once.
        # The connection is used in worker threads, one at a time, with transactions of our own (isolation_level).
        uri = f"{path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"cannot open the store {path}: {_reason(error)}") from error
    try:
        _prepare(connection, schema, path)
    except (sqlite3.Error, StoreError) as error:
        connection.close()
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            # It is not removed, even if it is new: the other program opened it a moment after it was created.
            raise StoreHeld(f"cannot use the store {path}: another program holds it") from error
        if is_new:
            path.unlink()
        if isinstance(error, StoreError):
            raise
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT:  # the low byte is the kind of error
            raise _damaged(path, _reason(error)) from error
        raise StoreError(f"cannot use the store {path}: {_reason(error)}") from error
    return connection


def open_in_memory(schema: Schema) -> sqlite3.Connection:
    """A new database that is in no file. It may be used by one thread after the other."""
    connection = _connect_in_memory()
    _create_tables(connection, schema)
    return connection


def _connect_in_memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


def _create(path: Path) -> bool:
    with suppress(FileExistsError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        return True
    return False


def _prepare(connection: sqlite3.Connection, schema: Schema, path: Path) -> None:
    # Nothing is written before it is clear that the file is ours and that no other program uses it.
    # EXCLUSIVE keeps the first lock until the connection is closed: two servers on one file would both number letters.
    # It ends with the process, so a crash leaves nothing to clean up.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    version = _number(connection, "PRAGMA user_version")
    is_empty = _number(connection, "SELECT count(*) FROM sqlite_master") == 0
    if not is_empty and _number(connection, "PRAGMA application_id") != schema.application_id:
        raise StoreError(f"cannot use the store {path}: it is another program's database")
    if version > len(schema.migrations):
        raise StoreError(f"cannot use the store {path}: it was written by a newer trio_chat")
    # A damaged page would be noticed when it is needed, in the middle of the work, and others would be built upon it.
    with closing(connection.execute("PRAGMA quick_check(1)")) as cursor:
        (found,) = cursor.fetchone()
    if found != "ok":
        raise _damaged(path, found)
    # WAL needs one fsync for a commit, a rollback journal several. NORMAL, the usual choice with it, needs none, but a
    # power cut would take commits that have been answered.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    if is_empty:
        _create_tables(connection, schema)
    else:
        _migrate(connection, schema, version)


def _create_tables(connection: sqlite3.Connection, schema: Schema) -> None:
    """Make an empty database one of the newest schema, in one transaction."""
    _add_functions(connection, schema)
    with closing(_connect_in_memory()) as empty:
        empty.deserialize(_empty_database(schema))
        # It would wait without end for another program's lock. In a file, the lock is ours since the mode became WAL.
        empty.backup(connection)


@cache
def _empty_database(schema: Schema) -> bytes:
    """A database without data, brought through all versions: that takes 10 ms, a copy of it 0.5 ms."""
    with closing(_connect_in_memory()) as connection:
        _migrate(connection, schema, 0)
        return connection.serialize()


def _add_functions(connection: sqlite3.Connection, schema: Schema) -> None:
    for name, function in schema.functions.items():
        connection.create_function(name, -1, function, deterministic=True)


def _migrate(connection: sqlite3.Connection, schema: Schema, version: int) -> None:
    _add_functions(connection, schema)
    for number, script in enumerate(schema.migrations[version:], start=version + 1):
        # One transaction a step: a script that fails half-way leaves the version before it.
        connection.executescript(
            f"BEGIN IMMEDIATE; {script}; PRAGMA application_id = {schema.application_id:d};"
            f" PRAGMA user_version = {number:d}; COMMIT"
        )


def _damaged(path: Path, found: str) -> StoreError:
    # With the -wal file: SQLite would apply it to whatever takes the place of the file.
    advice = f"move it away, with {path.name}-wal if there is one; then put back a copy, or begin with an empty store"
    return StoreError(f"the store {path} is damaged ({' '.join(found.split())}): {advice}")


def _number(connection: sqlite3.Connection, query: str) -> int:
    with closing(connection.execute(query)) as cursor:
        number: int = cursor.fetchone()[0]
        return number


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
