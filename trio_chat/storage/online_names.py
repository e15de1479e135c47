"""Who is online and where, in the server's store: a server that starts again calls them.

The table is in server_schema.py.
"""

from collections.abc import Mapping
from ipaddress import ip_address

import msgspec

from trio_chat.protocol.records import Address, Name, Port
from trio_chat.storage.server_log import LogTransaction


def names_online(transaction: LogTransaction) -> list[tuple[str, Address]]:
    """The names that were online, and where. Damaged rows are removed: nothing but a call is lost."""
    found = []
    for row in transaction.database.execute("SELECT name, host, port FROM online ORDER BY name").fetchall():
        try:
            name, host, port = msgspec.convert(row, tuple[Name, str, Port])
            ip_address(host)
            found.append((name, (host, port)))
        except ValueError as error:
            transaction.database.execute("DELETE FROM online WHERE name = ?", row[:1])
            transaction.damaged.append(f"where {row[0]!r} was online: {error}")
    return found


def note_online(transaction: LogTransaction, changes: Mapping[str, Address | float]) -> None:
    """Remember where these names (in lower case) are online, or since when they are not."""
    gone = [(since, name) for name, since in changes.items() if isinstance(since, float)]
    there = [(name, *address) for name, address in changes.items() if not isinstance(address, float)]
    transaction.database.executemany("DELETE FROM online WHERE name = ?", ((name,) for _, name in gone))
    transaction.database.executemany("UPDATE names SET since = ? WHERE name = ?", gone)
    transaction.database.executemany("INSERT OR REPLACE INTO online (name, host, port) VALUES (?, ?, ?)", there)
