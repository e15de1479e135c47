"""What is too old in the log of the server's store: it is removed, and the senders of unread letters are told.

Each function is a part of one transaction. When this is done, and with which clock, is decided in server/.
"""

from collections.abc import Sequence
from itertools import takewhile

import attrs

from trio_chat.protocol.log import about_letter
from trio_chat.protocol.records import Entry, EntryKind, is_room
from trio_chat.storage.epoch_rows import drop_old_epochs
from trio_chat.storage.server_log import LogTransaction

RETAIN_ROWS = 250
"""Rows that one transaction removes because of their age: others wait for it."""


@attrs.frozen
class _Old:
    """What is too old; no entry if the row was damaged. `size` of its body: None if that is gone.

    `is_kept`: it was to be handed out.
    """

    entry: Entry | None
    size: int | None
    is_kept: bool


def retain_log(transaction: LogTransaction, before: float, now: float) -> bool:
    """Remove the oldest entries, up to the first one that is young enough. True if there may be more."""
    _date_back(transaction, now)
    # What answers requests that were done with before there was one log.
    answers = transaction.database.execute(
        "DELETE FROM entries WHERE seq IN"
        " (SELECT seq FROM entries WHERE seq <= 0 AND (taken_at < ? OR typeof(taken_at) <> 'real') LIMIT ?)",
        (before, RETAIN_ROWS),
    ).rowcount
    rows = transaction.database.execute(
        "SELECT seq, kind, sender, key, id, recipient, taken_at,"
        " iif(typeof(body) = 'blob' OR kept = 0, x'', NULL), length(body), kept"
        " FROM entries WHERE seq > 0 ORDER BY seq LIMIT ?",
        (RETAIN_ROWS,),
    ).fetchall()
    found = (_Old(transaction.entry(row), size, bool(kept)) for *row, size, kept in rows)
    old = list(takewhile(lambda one: one.entry is None or one.entry.taken_at < before, found))
    _remove(transaction, old, now)
    if RETAIN_ROWS in (answers, len(old)):
        return True
    # Not before the posts of their time have gone.
    return drop_old_epochs(transaction.database, before, RETAIN_ROWS)


def _date_back(transaction: LogTransaction, now: float) -> None:
    """What is dated later than now was taken while the clock was wrong. It would keep everything behind it, too."""
    (is_wrong,) = transaction.database.execute("SELECT latest > ? FROM log", (now,)).fetchone()
    if is_wrong:  # rarely: it reads the whole table
        transaction.database.execute("UPDATE entries SET taken_at = ?1 WHERE taken_at > ?1", (now,))
        transaction.database.execute("UPDATE epochs SET taken_at = ?1 WHERE taken_at > ?1", (now,))
        transaction.database.execute("UPDATE log SET latest = ?", (now,))


def date_log_forward(transaction: LogTransaction, before: float, now: float) -> None:
    """The clock was set forward: date what is dated before this time as of now."""
    transaction.database.execute("UPDATE entries SET taken_at = ? WHERE taken_at < ?", (now, before))
    transaction.database.execute("UPDATE epochs SET taken_at = ? WHERE taken_at < ?", (now, before))
    transaction.database.execute("UPDATE log SET latest = max(latest, ?)", (now,))


def _remove(transaction: LogTransaction, old: Sequence["_Old"], now: float) -> None:
    """Remove entries. Tell the senders of unread letters."""
    found = [(one.entry, one.size, one.is_kept) for one in old if one.entry is not None]
    transaction.database.executemany("DELETE FROM entries WHERE seq = ?", [(entry.seq,) for entry, *_ in found])
    left = [(entry, size, is_kept) for entry, size, is_kept in found if size is not None]
    transaction.database.executemany(
        "UPDATE rooms SET posts = max(posts - 1, 0), bytes = max(bytes - ?, 0) WHERE id = ?",
        [(size, entry.recipient) for entry, size, _ in left if is_room(entry.recipient)],
    )
    letters = [(entry, size, is_kept) for entry, size, is_kept in left if entry.kind == EntryKind.DIRECT]
    transaction.database.executemany(
        "UPDATE mailboxes SET letters = max(letters - 1, 0), bytes = max(bytes - ?, 0) WHERE name = ?",
        [(size, letter.recipient) for letter, size, is_kept in letters if is_kept],
    )
    transaction.append(
        [
            about_letter(letter, EntryKind.FAILED, transaction.owner(letter.recipient), now)
            for letter, *_ in letters
            if transaction.has_its_sender(letter)
        ]
    )
