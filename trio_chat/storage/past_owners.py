"""The keys of those who have lost a name, in the server's store: what they have sent may still have to be verified.

A name is lost when it is deleted, or freed and registered with another key. The keys are kept for as long as the log
has an entry from before that. The table is in server_schema.py.
"""

import msgspec

from trio_chat.protocol.records import Count, Credentials, Name
from trio_chat.storage.interface import MAX_PAST_OWNERS
from trio_chat.storage.server_log import LogTransaction

_Row = tuple[Name, Credentials, Count]


def keep_past_owner(transaction: LogTransaction, name: str) -> None:
    """The owner of a name, or the last one if it was freed, is about to lose it: keep their keys, if they are known."""
    transaction.database.execute(
        "INSERT OR REPLACE INTO past_owners (name, signing, link, certificate, head)"
        " SELECT name, signing, link, certificate, ? FROM names WHERE name = ? AND signing IS NOT NULL",
        (transaction.head, name),
    )
    transaction.database.execute(
        "DELETE FROM past_owners WHERE number IN"
        " (SELECT number FROM past_owners ORDER BY number DESC LIMIT -1 OFFSET ?)",
        (MAX_PAST_OWNERS,),
    )


def past_owners(transaction: LogTransaction) -> list[tuple[str, Credentials]]:
    """Names and the keys that were kept for them, the oldest first. Damaged rows are set aside."""
    rows = transaction.database.execute(
        "SELECT number, name, signing, link, certificate, head FROM past_owners ORDER BY number"
    ).fetchall()
    found = []
    for number, name, signing, link, certificate, head in rows:
        fields = (name, {"keys": {"signing": signing, "link": link}, "certificate": certificate}, head)
        try:
            found.append(msgspec.convert(fields, _Row, builtin_types=(bytes,))[:2])
        except msgspec.ValidationError as error:
            transaction.database.execute(
                "INSERT INTO damaged_past_owners SELECT * FROM past_owners WHERE number = ?", (number,)
            )
            transaction.database.execute("DELETE FROM past_owners WHERE number = ?", (number,))
            transaction.damaged.append(f"past owner {number}: {error}")
    return found


def drop_past_owners(transaction: LogTransaction) -> None:
    """Drop the keys of those from whose time nothing is left in the log."""
    # By numbers, not by times: a clock that was set changes nothing.
    transaction.database.execute(
        "DELETE FROM past_owners WHERE head < coalesce((SELECT min(seq) FROM entries WHERE seq > 0), ?)",
        (transaction.head + 1,),
    )
