"""What each session sees of the table (pure): those who block it are away for it, and keys come when it needs them.

Who blocks whom is in blocks.py.
"""

from collections.abc import Iterable

import attrs

from trio_chat.protocol.messages import MAX_NAMES_LISTED, Find, Found, ListedName, ListNames, NamesListed, TableChange
from trio_chat.protocol.records import NO_KEY, Credentials, Entry, Record, fold
from trio_chat.protocol.table import ServerTable
from trio_chat.server.blocks import Blocks
from trio_chat.server.sessions import Session


@attrs.frozen
class Views:
    """The table as sessions see it."""

    _table: ServerTable
    _blocks: Blocks
    _owners: dict[tuple[str, bytes], Credentials] = attrs.field(init=False, factory=dict)

    def sees_all(self, session: Session) -> bool:
        """Whether nobody blocks the owner of this session."""
        return not self._blocks.seen_by(session.key, 0)[0]

    # --- what is sent ---

    def change_for(self, session: Session, shared: TableChange | None, id: bytes) -> TableChange | None:
        """What a session gets of the table, if those whom nobody blocks get the `shared` change in its place."""
        if shared is None:
            return None
        instead, has_newer = self._blocks.seen_by(session.key, shared.before.n)
        # Little more is done for those whom somebody blocks: a stranger may block many, and come and go all the time.
        if has_newer:
            change = self._table.change_since(session.held, id, session.floor, instead, session.left_out) or shared
        else:
            seen = tuple(record for record in shared.records if fold(record.name) not in instead)
            change = shared if len(seen) == len(shared.records) else attrs.evolve(shared, records=seen)
        # An empty change would tell that somebody who blocks them has come, gone or moved. What is missing here comes
        # with the next change; but not before the client is registered, which needs all up to then.
        if not change.records and shared.before == session.held and session.held.n >= session.table_wanted:
            return None
        return change

    def remember_owner(self, name: str, owner: Credentials | None) -> None:
        """This key has the name now, or had it before."""
        if owner is not None:
            self._owners[fold(name), owner.keys.signing] = owner

    def senders(self, session: Session, entries: Iterable[Entry]) -> tuple[tuple[str, Credentials], ...]:
        """The senders of these entries whose keys a client may lack.

        It may not hold their rows, or has other keys in them. Who blocks it is away for it.
        """
        named = dict.fromkeys((entry.sender, entry.key) for entry in entries)
        return tuple(
            (name, owner)
            for name, key in named
            if (owner := self._owners.get((fold(name), key)))
            and not (
                self._table.is_held(name, session.held)
                and self._table[name].credentials == owner
                and not self._blocks.hides(fold(name), session.key)
            )
        )

    # --- what is asked for ---

    def find(self, session: Session, request: Find) -> Found:
        """The row of a name that is in the table."""
        return request.found(self._row(session, request.name), self._table.version)

    def list_names(self, session: Session, request: ListNames) -> NamesListed:
        """The next names."""
        names = self._table.names_after(request.after, MAX_NAMES_LISTED)
        return request.listed(tuple(_listed(self._row(session, name)) for name in names))

    def _row(self, session: Session, name: str) -> Record:
        instead, _ = self._blocks.seen_by(session.key, 0)
        _, record = instead.get(fold(name), (0, self._table[name]))
        return record


def _listed(row: Record) -> ListedName:
    return row.name, row.online, row.since, row.credentials.keys.signing if row.credentials else NO_KEY
