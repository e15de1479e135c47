"""Hypothesis strategies for messages: `requests()`, `answers()`, `messages()`, and their fields.

All values are valid. Invalid ones are made by hand in the tests that need them.
"""

from typing import get_args

import hypothesis.strategies as st

from trio_chat.protocol.messages import (
    ANSWERS,
    MAX_BATCH,
    MAX_KEPT,
    MAX_NAMES_LISTED,
    MAX_RECEIPTS,
    REQUESTS,
    Accepted,
    Ack,
    Batch,
    Busy,
    Delivered,
    Deregister,
    Deregistered,
    DirectMessage,
    Elsewhere,
    Find,
    Found,
    GroupPost,
    Heartbeat,
    Introduce,
    Introduced,
    ListNames,
    Message,
    MessagesKept,
    NamesListed,
    Part,
    PartAck,
    Refused,
    Register,
    Registered,
    Save,
    Saved,
    SessionEnded,
    TableChange,
    TableHeld,
    Taken,
)
from trio_chat.protocol.records import (
    EVERYONE,
    MAX_BODY,
    MAX_EPOCH,
    MAX_PARTS,
    MAX_TEXT,
    Credentials,
    Entry,
    EntryKind,
    PublicKeys,
    Reason,
    Record,
    Room,
    Version,
    fold,
)
from trio_chat.protocol.room_messages import (
    EPOCH_PART,
    MAX_MEMBERS_LISTED,
    MAX_ROOMS_LISTED,
    BeginEpoch,
    CreateRoom,
    EpochPart,
    GetEpoch,
    JoinRoom,
    LeaveRoom,
    ListMembers,
    ListRooms,
    MemberList,
    RoomChanged,
    RoomList,
)

MESSAGES = get_args(Message)
"""Every class of message."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def ids() -> st.SearchStrategy[bytes]:
    return st.binary(min_size=16, max_size=16)


def names() -> st.SearchStrategy[str]:
    return st.builds(str.__add__, st.sampled_from(LETTERS), st.text(LETTERS + "_.-", max_size=31))


def hosts() -> st.SearchStrategy[str]:
    return st.ip_addresses().map(str)


def times() -> st.SearchStrategy[float]:
    return st.floats(0, 253_402_300_799)


def texts() -> st.SearchStrategy[str]:
    """Texts of all lengths up to the longest, in characters of one to four bytes."""
    short = st.text(st.characters(codec="utf-8"), min_size=1, max_size=50)
    long = st.builds(_cut, short, st.integers(1, MAX_TEXT))
    return short | long


def _cut(pattern: str, size: int) -> str:
    whole = pattern.encode() * (size // len(pattern.encode()) + 1)
    return whole[:size].decode(errors="ignore") or "."


def bodies() -> st.SearchStrategy[bytes]:
    """Bytes of all lengths up to the longest."""
    short = st.binary(max_size=50)
    long = st.builds(lambda pattern, size: (pattern * size)[:size], st.binary(min_size=1), st.integers(1, MAX_BODY))
    return short | long


def proofs() -> st.SearchStrategy[bytes]:
    """Bytes in the place of a receipt: often as long as a real one."""
    return st.binary(max_size=96) | st.binary(min_size=96, max_size=96)


def keys() -> st.SearchStrategy[bytes]:
    return st.binary(min_size=32, max_size=32)


def credentials() -> st.SearchStrategy[Credentials]:
    """Keys and certificates that are valid by their form only."""
    return st.builds(Credentials, st.builds(PublicKeys, keys(), keys()), st.binary(min_size=64, max_size=64))


def counts() -> st.SearchStrategy[int]:
    return st.integers(0, 2**53)


def versions() -> st.SearchStrategy[Version]:
    return st.builds(Version, st.binary(min_size=8, max_size=8), counts())


def records() -> st.SearchStrategy[Record]:
    ports = st.integers(1, 65535)
    return st.builds(Record, names(), hosts(), ports, st.booleans(), times(), st.none() | credentials())


def room_ids() -> st.SearchStrategy[str]:
    return st.just(EVERYONE) | st.binary(min_size=16, max_size=16).map(lambda id_: "#!"[id_[0] % 2] + id_.hex())


def rooms() -> st.SearchStrategy[Room]:
    return st.builds(Room, room_ids(), names(), keys(), counts(), counts())


def entries() -> st.SearchStrategy[Entry]:
    """Entries of all kinds, and of those that only a newer server knows."""
    kinds = st.sampled_from(EntryKind).map(str) | st.text(max_size=16)
    recipients = room_ids() | names().map(fold)
    return st.builds(Entry, counts(), kinds, ids(), names(), keys(), recipients, times(), bodies())


def senders() -> st.SearchStrategy[tuple[tuple[str, Credentials], ...]]:
    """What a batch says about the senders of its entries."""
    return st.lists(st.tuples(names(), credentials()), max_size=3).map(tuple)


def room_names() -> st.SearchStrategy[tuple[tuple[str, str], ...]]:
    """What a batch says about the rooms of its entries."""
    return st.lists(st.tuples(room_ids(), names()), max_size=3).map(tuple)


def listed_names() -> st.SearchStrategy[tuple[str, bool, float, bytes]]:
    """What a list says of a name."""
    return st.tuples(names(), st.booleans(), times(), keys())


def afters() -> st.SearchStrategy[str]:
    """Where a list goes on."""
    return st.just("") | names()


def parts() -> st.SearchStrategy[Part]:
    def of_count(count: int) -> st.SearchStrategy[Part]:
        body = st.binary(min_size=1, max_size=1100)
        whole = st.binary(max_size=8)
        return st.builds(Part, _kinds(), ids(), st.integers(0, count - 1), st.just(count), body, whole)

    return st.integers(2, MAX_PARTS).flatmap(of_count)


def _kinds() -> st.SearchStrategy[int]:
    return st.integers(1, 127)


def _bits(count: int) -> st.SearchStrategy[int]:
    return st.integers(0, 2**count - 1)


_OF_CLASS: dict[type, st.SearchStrategy[Message]] = {
    Register: st.builds(
        Register,
        ids(),
        names(),
        credentials(),
        ids(),
        times(),
        st.lists(keys(), max_size=8).map(tuple),
        held=st.none() | versions(),
    ),
    Deregister: st.builds(Deregister, ids()),
    DirectMessage: st.builds(DirectMessage, ids(), names(), names(), texts(), st.booleans()),
    MessagesKept: st.builds(MessagesKept, ids(), st.lists(ids(), min_size=1, max_size=MAX_KEPT).map(tuple)),
    Save: st.builds(Save, ids(), names(), bodies()),
    GroupPost: st.builds(GroupPost, ids(), bodies(), room_ids()),
    Batch: st.builds(
        Batch, ids(), names(), st.lists(entries(), min_size=1, max_size=8).map(tuple), senders(), room_names()
    ),
    TableChange: st.builds(TableChange, ids(), versions(), versions(), st.lists(records(), max_size=64).map(tuple)),
    Heartbeat: st.builds(Heartbeat, ids(), times()),
    Find: st.builds(Find, ids(), names()),
    ListNames: st.builds(ListNames, ids(), afters()),
    Introduce: st.builds(Introduce, ids(), names(), st.binary(max_size=128)),
    Introduced: st.builds(Introduced, ids(), names(), st.binary(max_size=128)),
    SessionEnded: st.builds(SessionEnded, ids(), times()),
    CreateRoom: st.builds(CreateRoom, ids(), names()),
    JoinRoom: st.builds(JoinRoom, ids(), names()),
    LeaveRoom: st.builds(LeaveRoom, ids(), room_ids()),
    ListRooms: st.builds(ListRooms, ids(), afters(), st.booleans()),
    ListMembers: st.builds(ListMembers, ids(), room_ids(), afters()),
    BeginEpoch: st.builds(BeginEpoch, ids(), room_ids(), st.integers(1, 2**53), bodies()),
    GetEpoch: st.builds(GetEpoch, ids(), room_ids(), counts(), st.integers(0, MAX_EPOCH - 1)),
    Ack: st.builds(Ack, _kinds(), ids()),
    Busy: st.builds(Busy, _kinds(), ids()),
    Refused: st.builds(Refused, _kinds(), ids(), st.sampled_from(Reason)),
    Registered: st.builds(Registered, _kinds(), ids(), versions(), times(), counts(), counts(), counts()),
    Deregistered: st.builds(Deregistered, _kinds(), ids()),
    Delivered: st.builds(Delivered, _kinds(), ids(), proofs()),
    Saved: st.builds(Saved, _kinds(), ids()),
    Accepted: st.builds(Accepted, _kinds(), ids()),
    TableHeld: st.builds(TableHeld, _kinds(), ids(), st.none() | versions()),
    Taken: st.builds(
        Taken, _kinds(), ids(), st.integers(1, MAX_BATCH), st.lists(proofs(), max_size=MAX_RECEIPTS).map(tuple)
    ),
    Found: st.builds(Found, _kinds(), ids(), records(), versions()),
    NamesListed: st.builds(
        NamesListed, _kinds(), ids(), st.lists(listed_names(), max_size=MAX_NAMES_LISTED).map(tuple)
    ),
    Elsewhere: st.builds(Elsewhere, _kinds(), ids(), times()),
    RoomChanged: st.builds(RoomChanged, _kinds(), ids(), rooms()),
    RoomList: st.builds(RoomList, _kinds(), ids(), st.lists(rooms(), max_size=MAX_ROOMS_LISTED).map(tuple)),
    MemberList: st.builds(MemberList, _kinds(), ids(), st.lists(names(), max_size=MAX_MEMBERS_LISTED).map(tuple)),
    EpochPart: st.builds(
        EpochPart, _kinds(), ids(), counts(), counts(), st.integers(1, MAX_EPOCH), st.binary(max_size=EPOCH_PART)
    ),
    Part: parts(),
    PartAck: st.builds(PartAck, _kinds(), ids(), _bits(MAX_PARTS)),
}


def of_kind(message_class: type) -> st.SearchStrategy[Message]:
    """Messages of one class."""
    return _OF_CLASS[message_class]


def requests() -> st.SearchStrategy[Message]:
    return st.one_of(*map(of_kind, REQUESTS))


def answers() -> st.SearchStrategy[Message]:
    return st.one_of(*map(of_kind, ANSWERS))


def messages() -> st.SearchStrategy[Message]:
    return st.one_of(*map(of_kind, MESSAGES))
