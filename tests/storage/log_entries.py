"""Letters, posts and people for the tests of server stores, and readers that go to the end of the log."""

from collections.abc import Callable

import attrs

from trio_chat.crypto.room_keys import NUMBER, SignedEpoch, signed_epoch
from trio_chat.crypto.signatures import SIGNATURE_SIZE
from trio_chat.protocol.epochs import NO_EPOCH, SEALED_KEY, Epoch, RoomMember, encode_epoch
from trio_chat.protocol.records import EVERYONE, Credentials, Entry, EntryKind, PublicKeys, Record, fold, room_id
from trio_chat.storage.interface import Acknowledged

KIB = 1024
PEOPLE = ("alice", "bob", "carol")


def key_of(name: str) -> bytes:
    """The Ed25519 key of a person, which is no text."""
    return b"\xff\0" + fold(name).encode().ljust(30, b"\x80")


def record(name: str, *, owner: str | None = None, since: float = 1.0, host: str = "10.0.0.1") -> Record:
    """A row of the client table with the keys of `owner`, or of the person with this name."""
    key = key_of(owner or name)
    return Record(name, host, 1, True, since, Credentials(PublicKeys(key, key[::-1]), key * 2))


def direct(number: int, *, sender: str = "alice", to: str = "bob", body: bytes = b"hi") -> Entry:
    """A letter; it is taken at 100 s and `number`."""
    return _entry(EntryKind.DIRECT, number, sender, to, body)


def post(number: int, *, sender: str = "alice", room: str = EVERYONE, body: bytes = b"hi all") -> Entry:
    """A post; it is taken at 100 s and `number`."""
    return _entry(EntryKind.GROUP, number, sender, room, body)


def create(number: int, *, sender: str = "alice", name: str = "lunch") -> Entry:
    """A request to create a room."""
    return _entry(EntryKind.CREATED, number, sender, EVERYONE, name.encode())


def join(number: int, *, sender: str = "alice", name: str = "lunch") -> Entry:
    """A request to join a room."""
    return _entry(EntryKind.JOINED, number, sender, EVERYONE, name.encode())


def leave(number: int, room: str, *, sender: str = "alice") -> Entry:
    """A request to leave the room with this id."""
    return _entry(EntryKind.LEFT, number, sender, room, b"")


def id_of(created: Entry) -> str:
    """The id of the room that a request creates."""
    return room_id(created.key, created.id)


def begin(
    number: int,
    *members: str,
    sender: str = "alice",
    after: Entry | None = None,
    owners: tuple[str, ...] = ("alice",),
    keys: dict[str, str] | None = None,
    **changes: object,
) -> Entry:
    """A request to begin the epoch `after` another one, or the first one of a private room. Nobody has signed it.

    `keys`: whose keys some members have, if not their own. `changes`: other fields of the epoch.
    """
    key, before = key_of(sender), after and signed_of(after)
    listed = tuple(
        RoomMember(name, PublicKeys(key_of(owner), key_of(owner)[::-1]), bytes(SEALED_KEY))
        for name in members
        for owner in [(keys or {}).get(name, name)]
    )
    epoch = Epoch(
        before.epoch.room if before else room_id(key, number.to_bytes(16, "big"), private=True),
        before.epoch.name if before else "lunch",
        before.epoch.n + 1 if before else 1,
        before.hash if before else NO_EPOCH,
        key,
        bytes(32),
        tuple(map(key_of, owners)),
        listed,
    )
    epoch = attrs.evolve(epoch, **changes)
    return _entry(EntryKind.EPOCH, number, sender, epoch.room, bytes(SIGNATURE_SIZE) + encode_epoch(epoch))


def signed_of(begun: Entry) -> SignedEpoch:
    """The epoch that a request begins."""
    return signed_epoch(begun.body)


def sealed(number: int, n: int, room: str, *, sender: str = "alice", body: bytes = b"sealed") -> Entry:
    """A post to a private room, as if it were sealed in epoch `n`."""
    return post(number, sender=sender, room=room, body=n.to_bytes(NUMBER, "big") + body)


def _entry(kind: EntryKind, number: int, sender: str, recipient: str, body: bytes) -> Entry:
    return Entry(0, kind, number.to_bytes(16, "big"), sender, key_of(sender), recipient, 100.0 + number, body)


async def register(store, *names: str) -> None:
    for name in names:
        await store.save_name(record(name))


async def read_all(store, name: str, after: int) -> list[Entry]:
    """Read to the end of the log, as a server does, without acknowledging anything."""
    entries: list[Entry] = []
    while (page := await store.read(name, after)).upto > after:
        entries += page.entries
        after = page.upto
    return entries


async def take_all(store, name: str, receipt: Callable[[Entry], bytes], at: float = 5.0) -> list[Entry]:
    """Read and acknowledge, page by page. With `receipt`s for the letters."""
    entries: list[Entry] = []
    after = (await store.save_name(record(name))).seq
    while (page := await store.read(name, after)).upto > after:
        letters = [entry for entry in page.entries if entry.kind == EntryKind.DIRECT]
        if letters:
            receipts = {entry.seq: receipt(entry) for entry in letters}
            await store.acknowledge([Acknowledged(name, page.upto, receipts)], at)
        else:
            await store.advance({name: page.upto})
        entries += page.entries
        after = page.upto
    return entries
