"""One SQLite file: opened for one program alone, checked, and brought to the present schema.

What is in its tables is the stores' business, and when a transaction ends is group_commit.py's.
"""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import attrs

from trio_chat.errors import StoreError, StoreHeld

__all__ = ["Schema", "open_database"]


@attrs.frozen
class Schema:
    """Whose file it is (`application_id`, four bytes) and the scripts that lead from each version to the next."""

    application_id: int
    migrations: Sequence[str]


def open_database(path: Path, schema: Schema) -> sqlite3.Connection:
    """Open or make a database file, mode 0600, and hold it until the connection is closed.

    Commits are durable when they return (WAL, synchronous=FULL). A file that is refused is left as it was.

    Raises:
        StoreError: the folder cannot be written, the file is no database or another program's, or its schema is newer
            than this program.
        StoreHeld: another program holds it.
    """
    try:
        is_new = _make_file(path)
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
        )
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"cannot open the store {path}: {_reason(error)}") from error
    try:
        _take(connection, schema, path)
    except (sqlite3.Error, StoreError) as error:
        connection.close()
        if is_new:
            path.unlink()
        if isinstance(error, StoreError):
            raise
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            raise StoreHeld(f"cannot use the store {path}: another program holds it") from error
        raise StoreError(f"cannot use the store {path}: {_reason(error)}") from error
    return connection


def _make_file(path: Path) -> bool:
    with suppress(FileExistsError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        return True
    return False


def _take(connection: sqlite3.Connection, schema: Schema, path: Path) -> None:
    # Nothing is written before it is clear that the file is ours and that nobody else holds it.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    version = _pragma(connection, "user_version")
    is_empty = _count(connection, "sqlite_master") == 0
    if not is_empty and _pragma(connection, "application_id") != schema.application_id:
        raise StoreError(f"cannot use the store {path}: it is another program's database")
    if version > len(schema.migrations):
        raise StoreError(f"cannot use the store {path}: it was written by a newer trio_chat")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("ROLLBACK")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    for number, script in enumerate(schema.migrations[version:], start=version + 1):
        # One transaction a step: a script that fails half-way leaves the version before it.
        connection.executescript(
            f"BEGIN IMMEDIATE; {script}; PRAGMA application_id = {schema.application_id:d};"
            f" PRAGMA user_version = {number:d}; COMMIT"
        )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    with closing(connection.execute(f"PRAGMA {name}")) as cursor:
        value: int = cursor.fetchone()[0]
        return value


def _count(connection: sqlite3.Connection, table: str) -> int:
    with closing(connection.execute(f"SELECT count(*) FROM {table}")) as cursor:  # noqa: S608 - a constant
        value: int = cursor.fetchone()[0]
        return value


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
