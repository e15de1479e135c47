"""Whether the program that used a client's store last was ended by force: then its latest changes are in `-wal` alone.

When this is noted, and when a file is missing, is decided in client_store.py.
"""

import sqlite3
from pathlib import Path

RUNS_MIGRATION = "CREATE TABLE runs (since REAL NOT NULL)"


def has_wal(path: Path) -> bool:
    """Whether the file is there that SQLite leaves beside a store when its program is killed."""
    return Path(f"{path}-wal").exists()


def begin_run(database: sqlite3.Connection, now: float) -> float | None:
    """Note that a program uses the store; return since when the last one did, if that was ended by force."""
    row: tuple[float] | None = database.execute("SELECT since FROM runs").fetchone()
    database.execute("BEGIN IMMEDIATE")
    end_run(database)
    database.execute("INSERT INTO runs VALUES (?)", (now,))
    database.execute("COMMIT")
    # Into the file itself: in -wal it would be lost with what it tells about.
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return row[0] if row else None


def end_run(database: sqlite3.Connection) -> None:
    """Note that the program ends. In the transaction that writes its last changes."""
    database.execute("DELETE FROM runs")
