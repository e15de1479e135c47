"""What operators decide, in the server's store: names that are freed or deleted, bans, invitations.

Each function is one request of a transaction. The tables are in server_schema.py, all else about names in
server_store.py.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from trio_chat.protocol.log import about_letter
from trio_chat.protocol.records import EntryKind
from trio_chat.storage import server_rooms
from trio_chat.storage.past_owners import keep_past_owner
from trio_chat.storage.rules import Ban, Invitation
from trio_chat.storage.server_log import LogTransaction

_T = TypeVar("_T")


def forget_name(transaction: LogTransaction, name: str, only_for: str) -> bool:
    """Free a name, perhaps for one key only. False: no such name."""
    changed = transaction.database.execute(
        "UPDATE names SET freed = 1, reserved = ? WHERE name = ?", (only_for or None, name)
    )
    return changed.rowcount == 1


def delete_name(transaction: LogTransaction, name: str, at: float) -> bool:
    """Remove a name (in lower case), and tell the senders of what waits for it. False: no such name."""
    reader = transaction.owner(name)
    if transaction.database.execute("SELECT 1 FROM names WHERE name = ?", (name,)).fetchone() is None:
        return False
    keep_past_owner(transaction, name)
    unread = transaction.take_all_letters(name, transaction.head)
    server_rooms.leave_all(transaction, name, at)
    transaction.database.execute("DELETE FROM mailboxes WHERE name = ?", (name,))
    transaction.database.execute("DELETE FROM names WHERE name = ?", (name,))
    transaction.database.execute("DELETE FROM online WHERE name = ?", (name,))
    failed = [one for one in unread if transaction.has_its_sender(one)]
    transaction.append([about_letter(one, EntryKind.FAILED, reader, at) for one in failed])
    return True


def unused(transaction: LogTransaction, online: str, before: float, now: float) -> list[str]:
    """The names that nobody has used since `before`. `online`: a JSON list of those who are online."""
    # Later than now: the clock was wrong then, or the row is damaged.
    transaction.database.execute(
        "UPDATE names SET seen = ?1 WHERE seen IS NULL OR seen > ?1 OR name IN (SELECT value FROM json_each(?2))",
        (now, online),
    )
    rows = transaction.database.execute(
        "SELECT names.name FROM names JOIN mailboxes USING (name) WHERE seen < ? AND letters = 0 ORDER BY number",
        (before,),
    )
    return [name for (name,) in rows]


def date_forward(transaction: LogTransaction, before: float, now: float) -> None:
    """The clock was set forward: who was last seen before this time is seen now."""
    transaction.database.execute("UPDATE names SET seen = ? WHERE seen < ?", (now, before))


# --- bans and invitations ---


def rules(transaction: LogTransaction) -> tuple[list[Ban], list[Invitation]]:
    """All bans and invitations. Damaged rows are left out."""
    bans = transaction.database.execute("SELECT kind, value, name FROM bans ORDER BY rowid").fetchall()
    invitations = transaction.database.execute("SELECT hash, until, name FROM invitations ORDER BY rowid").fetchall()
    return (
        _valid(transaction, Ban, ("kind", "value", "name"), bans),
        _valid(transaction, Invitation, ("hash", "until", "name"), invitations),
    )


def _valid(transaction: LogTransaction, kind: type[_T], fields: Iterable[str], rows: Iterable[Any]) -> list[_T]:
    found = []
    for row in rows:
        try:
            found.append(msgspec.convert(dict(zip(fields, row, strict=True)), kind, builtin_types=(bytes,)))
        except msgspec.ValidationError as error:
            transaction.damaged.append(f"{kind.__name__.lower()}: {error}")
    return found


def add_bans(transaction: LogTransaction, rows: Iterable[tuple[str, str, str]]) -> None:
    """Add bans: kind, value, name."""
    transaction.database.executemany("INSERT OR REPLACE INTO bans (kind, value, name) VALUES (?, ?, ?)", rows)


def remove_bans(transaction: LogTransaction, rows: Iterable[tuple[str, str]]) -> None:
    """Remove bans: kind, value."""
    transaction.database.executemany("DELETE FROM bans WHERE kind = ? AND value = ?", rows)


def add_invitation(transaction: LogTransaction, invitation: Invitation, now: float) -> None:
    """Add an invitation; drop those that are too old."""
    transaction.database.execute("DELETE FROM invitations WHERE until < ?", (now,))
    transaction.database.execute(
        "INSERT OR REPLACE INTO invitations (hash, until, name) VALUES (?, ?, ?)",
        (invitation.hash, invitation.until, invitation.name),
    )
