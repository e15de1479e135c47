"""One SQLite file: opened for one program alone, checked, and brought to the newest schema.

The tables are in the stores' modules, transactions in group_commit.py.
"""

import os
import shlex
import sqlite3
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from functools import cache
from pathlib import Path

import attrs

from trio_chat.errors import StoreError, StoreHeld
from trio_chat.storage.private_files import (
    CHECK_ACCESS,
    CHECK_DISK,
    IS_WINDOWS,
    MAKE_ROOM,
    chmod_command,
    file_problem,
    make_private_folder,
    reason_of,
)

_FILES = ("-wal", "-shm", "-journal", "")
_READ_WRITE = stat.S_IRUSR | stat.S_IWUSR
_ADVICE = {
    sqlite3.SQLITE_FULL: MAKE_ROOM,
    sqlite3.SQLITE_NOTADB: "name another file",
    **dict.fromkeys((sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM), CHECK_ACCESS),
}


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

    Commits are durable when they return (WAL, synchronous=FULL). What is deleted is overwritten. A file that is refused
    is left as it was.

    Raises:
        StoreError: the folder cannot be written, the file is not a database or another program's, others can read it,
            it is damaged, or its schema is newer than this program.
        StoreHeld: another program holds it.
    """
    try:
        _check_files(path)
        is_new = _create(path)
        # mode=rw: SQLite must not create it, with a mode after the umask. timeout=0: a second program fails at once.
        # The connection is used in worker threads, one at a time, with transactions of our own (isolation_level).
        uri = f"{path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False)
    except OSError as error:
        raise StoreError(f"cannot open the store {path}: {reason_of(error)}") from error
    except sqlite3.Error as error:
        raise cannot_use(path, error) from error
    try:
        _prepare(connection, schema, path)
    except (sqlite3.Error, StoreError) as error:
        connection.close()
        reported = error if isinstance(error, StoreError) else cannot_use(path, error)
        # If it is held, it is not removed, even if it is new: the other program opened it a moment after it was made.
        if is_new and not isinstance(reported, StoreHeld):
            path.unlink()
        raise reported from error
    return connection


class OpenFiles:
    """The files of an open database, and whether they still have their names."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        with closing(connection.execute("PRAGMA database_list")) as cursor:
            self._path: str = cursor.fetchone()[2]  # empty for one in memory
        self._wal = f"{self._path}-wal"
        self._files = {file: _identity(file) for file in (self._path, self._wal) if self._path}

    def find_missing(self) -> str | None:
        """What is wrong, and what to do, if a file was moved, deleted or replaced since it was opened."""
        missing = [file for file, identity in self._files.items() if _identity(file) != identity]
        if self._path in missing:
            return "it was moved, deleted or replaced meanwhile; put it back, then start again"
        # Not lost: SQLite still has the file open, and copies what is in it to the database when it closes it.
        return f"{self._wal} was moved or deleted meanwhile; start again, and leave it where it is" if missing else None


def _identity(file: str) -> tuple[int, int] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def cannot_use(path: Path, error: sqlite3.Error) -> StoreError:
    """What a person reads if SQLite fails before a store is open."""
    # Without a code it is an error of Python's: what is in the file cannot be converted.
    match code_of(error) or sqlite3.SQLITE_CORRUPT:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreHeld(f"cannot use the store {path}: another program holds it; end that program first")
        case sqlite3.SQLITE_CORRUPT:
            return _damaged(path, str(error))
        case code:
            return StoreError(f"cannot use the store {path}: {error}; {_ADVICE.get(code, CHECK_DISK)}")


def code_of(error: sqlite3.Error) -> int:
    """The kind of error, such as SQLITE_FULL; 0 if it has none."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF  # the rest is details


def open_in_memory(schema: Schema) -> sqlite3.Connection:
    """A new database that is in no file. It may be used by one thread after the other."""
    connection = _connect_in_memory()
    _create_tables(connection, schema)
    return connection


def _connect_in_memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


def _check_files(path: Path) -> None:
    """Raise StoreError unless the file, and what SQLite has left beside it, are files that only we can use."""
    # Not opened: to close a file of a database that this process has open elsewhere would end its lock. `-wal` comes
    # first: another program that is creating the database makes it last.
    found = {}
    for end in _FILES:
        with suppress(FileNotFoundError):
            found[Path(f"{path}{end}")] = os.lstat(f"{path}{end}")
    files = sorted(found.items())
    open_to_others = [file for file, status in files if stat.S_ISREG(status.st_mode) and file_problem(status, ())]
    for file, status in files:
        if problem := _store_problem(file, status, open_to_others):
            raise StoreError(f"cannot use the store {file}: {problem}")
    # SQLite deletes a -wal file whose database is gone or empty. It may have all that was ever acknowledged.
    wal = Path(f"{path}-wal")
    if wal in found and found[wal].st_size and not (path in found and found[path].st_size):
        advice = f"put the database back that belongs to {wal}, or move that away"
        raise StoreError(f"cannot use the store {path}: it is missing; {advice}")


def _store_problem(file: Path, status: os.stat_result, open_to_others: Sequence[Path]) -> str | None:
    if stat.S_ISLNK(status.st_mode):
        # What is beside the link is not what is beside the file.
        return f"it is a link; name the file itself: {shlex.quote(os.path.realpath(file))}"
    problem = file_problem(status, open_to_others)
    if not stat.S_ISREG(status.st_mode):
        return f"{problem}; name another file"
    if not IS_WINDOWS and status.st_uid != os.geteuid():
        return "it belongs to another user; start as that user, or name a file of your own"
    if problem:
        return problem
    if status.st_mode & _READ_WRITE != _READ_WRITE:
        return f"it is read-only; {chmod_command([file])}"
    return None


def _create(path: Path) -> bool:
    make_private_folder(path.parent)
    with suppress(FileExistsError):
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        if not IS_WINDOWS:
            os.fchmod(fd, 0o600)  # the umask may have taken our own rights; SQLite gives its files the same mode
        os.close(fd)
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
        raise StoreError(f"cannot use the store {path}: it is another program's database; name another file")
    if version > len(schema.migrations):
        raise StoreError(f"cannot use the store {path}: it was written by a newer trio_chat; install that version")
    # A damaged page would be noticed when it is needed, in the middle of the work, and others would be built upon it.
    with closing(connection.execute("PRAGMA quick_check(1)")) as cursor:
        (found,) = cursor.fetchone()
    if found != "ok":
        raise _damaged(path, found)
    # WAL needs one fsync for a commit, a rollback journal several. NORMAL, the usual choice with it, needs none, but a
    # power cut would take commits that have been answered.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    # Else a text that was deleted stays in the file until its place is needed.
    connection.execute("PRAGMA secure_delete = ON")
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
