"""The session of a name, and what a request leads to if it is allowed and needs the store (pure).

What is allowed is decided in service.py.
"""

import attrs

from trio_chat.link.session import Peer
from trio_chat.protocol.messages import (
    GroupPost,
    Register,
    Save,
)
from trio_chat.protocol.records import Entry, EntryKind, Record, Version, fold
from trio_chat.protocol.room_messages import (
    RoomRequest,
)


@attrs.define(eq=False)
class Session:
    """One registration of a name at one address. When it ends, a newer one of the same name is not affected.

    `folded`: the name as it is compared. `key`: the Ed25519 key that the name belongs to.
    `since`: when it began, by the monotonic clock; the client knows it by this number.
    `held`: the version of the table that the client holds, as far as the server knows.
    `floor`: the `TableChange.floor` of the first page of that copy. `left_out`: until the client has this number of the
    table, those who are away since it or an earlier one are left out.
    `table_due`: what the client lacks of the table is sent next.
    `table_wanted`: the number of the change up to which the client needs the table to be registered.
    `position`: the client has everything for it up to this entry of the log. `upto`: its position when it has taken the
    batch that is in flight.
    `is_busy`: something is in flight, or is being looked for. `is_idle`: nothing in the log waits for it.
    `rooms`: those that it is in besides that of everyone, and the entry with which it joined each. `left`: those that
    it has left since it began.
    """

    name: str
    key: bytes
    peer: Peer
    program: bytes
    since: float
    heard_at: float
    held: Version | None = None
    floor: int = 0
    left_out: int = 0
    table_due: bool = True
    table_wanted: int = 0
    position: int = 0
    upto: int = 0
    is_busy: bool = True
    is_idle: bool = False
    rooms: dict[str, int] = attrs.field(factory=dict)
    left: set[str] = attrs.field(factory=set)
    folded: str = attrs.field(init=False)

    @folded.default
    def _folded(self) -> str:
        return fold(self.name)


@attrs.frozen
class Admission:
    """The name is registered: put the record into the store, then answer.

    `ended`: the sessions that the new one replaces. Nothing waits for their answers any more. `invitation`: the hash of
    the one that is used up, or empty.
    """

    request: Register
    session: Session
    record: Record
    ended: tuple[Session, ...]
    invitation: bytes = b""

    @property
    def superseded(self) -> list[Session]:
        """Those of other programs elsewhere, which are told; at the new one's own address nobody else listens."""
        new = self.session
        return [ended for ended in self.ended if ended.program != new.program and ended.peer != new.peer]


@attrs.frozen
class Append:
    """The request is allowed: append its entry to the log, then answer."""

    request: Save | GroupPost
    entry: Entry


@attrs.frozen
class AskRoom:
    """The request about rooms is allowed: do it in the store for this name of this key, then answer. `at`: now.

    `origin`: the address that it counts for; see limits.py.
    """

    request: RoomRequest
    name: str
    key: bytes
    at: float
    origin: str = ""


@attrs.frozen
class Introduction:
    """Tell the program at `to` that the person with this name sends to it directly. `at` is for its eyes only."""

    to: Peer
    name: str
    at: bytes


@attrs.frozen
class RoomEvent:
    """Somebody has created, joined or left a room, or changed who is in it: CREATED, JOINED, LEFT or EPOCH."""

    kind: EntryKind
    room: str
    name: str
