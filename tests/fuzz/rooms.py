"""What is fuzzed of private rooms: epochs and sealed posts, forged, of a member who can seal, and of Alice, who signs
anything. What a target is: see targets.py.
"""

import random
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tests.fuzz.mutations import mutated
from trio_chat.crypto import room_keys
from trio_chat.crypto.identities import Identity
from trio_chat.crypto.letters import Unreadable
from trio_chat.crypto.room_keys import NONCE, NUMBER, RoomKey, SignedEpoch, sign_epoch
from trio_chat.crypto.signatures import SIGNATURE_SIZE, TIME, statement
from trio_chat.protocol.epochs import MAX_OWNERS, MAX_PRIVATE_MEMBERS
from trio_chat.protocol.records import MAX_TEXT, fold

ALICE, BOB = (Identity(bytes((n,)) * 32, bytes((n + 100,)) * 32) for n in (1, 2))
ID, KEY = bytes(range(16)), bytes(range(32))
POSTED = {"id": ID, "sender": "Alice"}


def _epoch(before: SignedEpoch | None = None) -> SignedEpoch:
    members = [("Alice", ALICE.public), ("bob", BOB.public)]
    owners = [ALICE.public.signing]
    return sign_epoch(ALICE, KEY, room="!" + "1" * 32, name="lunch", members=members, owners=owners, before=before)


FIRST = _epoch()
SECOND = _epoch(FIRST)
GENUINE = {FIRST.body, SECOND.body}
ROOM = RoomKey(FIRST.epoch.room, "lunch", 1, FIRST.hash, KEY)


def check_rooms(data: bytes) -> set[object]:
    """Nobody begins an epoch or posts in the name of Alice, and what she signs is within the bounds, or unreadable."""
    how, data = data[:1], data[1:]
    match how:
        case b"e":
            return {_read_epoch(data, may_be=GENUINE.__contains__)}
        case b"E":
            signed = ALICE.signing.sign(statement(room_keys._EPOCH, data)) + data
            return {_read_epoch(signed, may_be=lambda body: True)}
        case b"p":
            return {_open_post(data, None)}
        case b"m":
            return {_open_post(_sealed(data), None)}
    signed = ALICE.signing.sign(_private_post(data)) + data
    return {_open_post(_sealed(signed), data)}


def _read_epoch(body: bytes, may_be: Callable[[bytes], bool]) -> object:
    try:
        epoch = room_keys.read_epoch_untrusted(body).epoch
    except Unreadable as error:
        return ("epoch", str(error))
    if epoch.owner == ALICE.public.signing:
        assert may_be(body), "Alice did not sign this"
    names = {fold(name) for name in epoch.names}
    assert len(names) == len(epoch.members) == len(set(epoch.names.values())) <= MAX_PRIVATE_MEMBERS, "a member twice"
    assert {*epoch.owners, epoch.owner} <= set(epoch.names.values()), "an owner is no member"
    assert 1 <= len(epoch.owners) <= MAX_OWNERS
    try:
        room_keys.room_key_untrusted(epoch, BOB)
    except Unreadable as error:
        return ("epoch", "of alice", str(error))
    return ("epoch", "opened", epoch.n == 1)


def _open_post(body: bytes, signed: bytes | None) -> object:
    """`signed`: what Alice has signed, time and text; None: only what is in `_sample`."""
    try:
        opened = room_keys.open_sealed_post_untrusted(body, ROOM, ALICE.public.signing, **POSTED)
    except Unreadable as error:
        return ("post", signed is None, str(error))
    raw = opened.text.encode()
    expected = TIME.pack(12.5) + b"soup" if signed is None else signed
    assert TIME.pack(opened.sent_at) + raw == expected, "Alice did not write this"
    assert 1 <= len(raw) <= MAX_TEXT, "no text"
    return ("post", signed is None, "opened")


def _private_post(data: bytes) -> bytes:
    at, raw = (TIME.unpack(data[:8])[0], data[8:]) if len(data) >= 8 else (0.0, data)
    return room_keys._private_post(ROOM, ID, "Alice", at, raw)


def _sealed(inside: bytes) -> bytes:
    nonce = bytes(NONCE)
    sealed = ChaCha20Poly1305(KEY).encrypt(nonce, inside, room_keys._sealed_post(ROOM, ID, "Alice"))
    return (1).to_bytes(NUMBER, "big") + nonce + sealed


def _sample() -> bytes:
    return room_keys.seal_post(ALICE, ROOM, bytes(NONCE), **POSTED, sent_at=12.5, text="soup")


def room_samples() -> list[bytes]:
    raw, text = SECOND.body[SIGNATURE_SIZE:], TIME.pack(12.5) + b"soup"
    inside = ChaCha20Poly1305(KEY).decrypt(
        bytes(NONCE), _sample()[NUMBER + NONCE :], room_keys._sealed_post(ROOM, ID, "Alice")
    )
    return [
        *(b"e" + FIRST.body, b"e" + SECOND.body, b"E" + raw, b"p" + _sample(), b"m" + inside),
        *(b"s" + one for one in (text, text[:8], b"short", TIME.pack(12.5) + b"x" * (MAX_TEXT + 1))),
    ]


def rearranged_room(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    """The same, brought by somebody else, or another end of it."""
    if dice.random() < 0.5:
        return data[:-20] + mutated(data[-20:], dice, others)
    return dice.choice((b"e", b"E", b"p", b"m", b"s")) + data[1:]
