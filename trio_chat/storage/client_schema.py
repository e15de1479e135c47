"""The tables of a client's store, and how older files are brought up to date.

What is written to them is in client_rows.py, history.py, kept_epochs.py and outgoing.py.
"""

import sqlite3

from trio_chat.crypto.receipts import hash_text
from trio_chat.storage.database import Schema
from trio_chat.storage.history import COUNTS_MIGRATION, MIGRATION, ROOMS_MIGRATION
from trio_chat.storage.kept_epochs import EPOCHS_MIGRATION
from trio_chat.storage.outgoing import OUTBOX_MIGRATION
from trio_chat.storage.runs import RUNS_MIGRATION

CLIENT_SCHEMA = Schema(
    application_id=0x74434843,  # "tCHC"
    migrations=(
        """
        CREATE TABLE letters (
            number INTEGER PRIMARY KEY, kind TEXT NOT NULL, sender TEXT NOT NULL COLLATE NOCASE, id BLOB NOT NULL,
            sent_at REAL NOT NULL, text TEXT NOT NULL, count INTEGER NOT NULL, shown INTEGER NOT NULL DEFAULT 0,
            UNIQUE (kind, sender, id)
        );
        CREATE INDEX letters_unshown ON letters (number) WHERE NOT shown;
        CREATE TABLE seen (
            kind TEXT NOT NULL, sender TEXT NOT NULL COLLATE NOCASE, id BLOB NOT NULL, at REAL NOT NULL,
            PRIMARY KEY (kind, sender, id)
        ) WITHOUT ROWID;
        """,
        # A text may be missing now, and SQLite drops a NOT NULL with its column only.
        """
        ALTER TABLE letters ADD COLUMN opened TEXT;
        UPDATE letters SET opened = text;
        ALTER TABLE letters DROP COLUMN text;
        ALTER TABLE letters RENAME COLUMN opened TO text;
        CREATE TABLE pins (name TEXT PRIMARY KEY, key BLOB NOT NULL) WITHOUT ROWID;
        """,
        MIGRATION,
        # One row for each message, receipt or notice received, whichever way it came: `seen` goes. Of what was in it
        # alone, and of what has no text any more, no hash is known. So a later copy is not signed for: that is strict,
        # but a receipt for a text that nobody can compare would prove nothing.
        # Texts of receipts are verdicts now, the text of a count is the number. See also `finish_migration`.
        """
        ALTER TABLE letters RENAME TO received;
        ALTER TABLE received ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE received ADD COLUMN hash BLOB NOT NULL DEFAULT x'';
        ALTER TABLE received ADD COLUMN signed_at REAL;
        INSERT OR IGNORE INTO received (kind, sender, id, sent_at, count, shown)
            SELECT kind, sender, id, at, 0, 1 FROM seen ORDER BY at;
        UPDATE received SET hash = zeroblob(32);
        UPDATE received SET text = CASE
            WHEN text IS NULL THEN 'forged' WHEN kind = 'receipt' THEN 'received' ELSE 'not opened' END
            WHERE kind IN ('receipt', 'unreadable');
        UPDATE received SET text = count WHERE kind = 'missed';
        UPDATE OR IGNORE received SET kind = 'receipt' WHERE kind = 'unreadable';
        DELETE FROM received WHERE kind = 'unreadable';
        ALTER TABLE received DROP COLUMN count;
        DROP TABLE seen;
        CREATE TABLE migrated (at REAL);
        INSERT INTO migrated SELECT NULL WHERE EXISTS (SELECT * FROM received) OR EXISTS (SELECT * FROM pins);
        CREATE TABLE sent (
            number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, recipient TEXT NOT NULL, key BLOB NOT NULL,
            hash BLOB NOT NULL, at REAL NOT NULL
        );
        """,
        COUNTS_MIGRATION
        + "CREATE TABLE blocked (number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, name TEXT NOT NULL)",
        "ALTER TABLE received ADD COLUMN room TEXT NOT NULL DEFAULT '';" + ROOMS_MIGRATION,
        EPOCHS_MIGRATION,
        OUTBOX_MIGRATION,
        RUNS_MIGRATION,
    ),
)


def finish_migration(database: sqlite3.Connection, now: float) -> float | None:
    """Do once what a script cannot: hash the texts, note the time. Returns that time; None for a file that was new."""
    database.create_function("hash_text", 1, hash_text, deterministic=True)
    database.execute("BEGIN IMMEDIATE")
    if database.execute("UPDATE migrated SET at = ? WHERE at IS NULL", (now,)).rowcount:
        database.execute(
            "UPDATE received SET hash = hash_text(text) WHERE text IS NOT NULL AND kind IN ('direct', 'group')"
        )
    row: tuple[float] | None = database.execute("SELECT at FROM migrated").fetchone()
    database.execute("COMMIT")
    return row[0] if row else None
