"""What is fuzzed: functions of bytes from the network, and the promises that each of them must keep for any bytes.

A check returns the outcomes of an input, in few words. An input with a new outcome is kept for further mutations. A
check raises an AssertionError for a broken promise, and lets every unexpected exception pass.
"""

import json
import math
import random
import re
import struct
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import suppress

import attrs
import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from tests.fuzz.bundles import bundle_samples, check_bundle, rearranged_bundle
from tests.fuzz.links import check_links, link_samples, rearranged_arrivals
from tests.fuzz.mutations import LONGEST, mixed, mutated
from tests.fuzz.rooms import check_rooms, rearranged_room, room_samples
from tests.fuzz.samples import SAMPLES
from trio_chat.crypto import identities, letters, receipts
from trio_chat.crypto.identities import Identity
from trio_chat.crypto.letters import OpenedText, Unreadable
from trio_chat.crypto.receipts import NO_HASH, Verdict
from trio_chat.presence.json_stream import MAX_DEPTH, MAX_OBJECT, JsonError, JsonStream
from trio_chat.presence.messages import (
    Refusal,
    Watch,
    encode_news,
    encode_refusal,
    encode_request,
    parse_answer,
    parse_watch,
)
from trio_chat.protocol.messages import Ack, Message, Request
from trio_chat.protocol.parts import PART_BODY, OutgoingRequest
from trio_chat.protocol.records import MAX_PARTS, MAX_TEXT, NAME, PublicKeys
from trio_chat.protocol.wire import MAX_PLAINTEXT, WireError, decode_untrusted, encode

Rearrange = Callable[[bytes, random.Random, Sequence[bytes]], bytes]


@attrs.frozen
class Target:
    """Something that takes bytes. `rearranged` changes inputs in ways that only their structure allows."""

    check: Callable[[bytes], set[object]]
    samples: Callable[[], list[bytes]]
    rearranged: Rearrange

    def next_input(self, dice: random.Random, corpus: Sequence[bytes]) -> bytes:
        """An input made of one or more of these."""
        data = dice.choice(corpus)
        if dice.random() < 0.5:
            return mutated(data, dice, corpus)
        data = self.rearranged(data, dice, corpus)[:LONGEST]
        return mutated(data, dice, corpus) if dice.random() < 0.2 else data


def in_short(error: Exception) -> str:
    """What is wrong, without the numbers and names of the one input."""
    return re.sub(r"""0x[0-9a-f]+|\d+|"[^"]*"|'[^']*'""", "#", str(error))[:200]


# --- messages ---

MEMORY = 16 * 1024
MEMORY_PER_BYTE = 64
"""Bytes of memory that a decoder may take at a time: once, and for each byte that it is given."""


def peak_of_decoding(data: bytes) -> int:
    """The most memory that decoding these bytes takes at a time, in bytes."""
    tracemalloc.start()
    try:
        with suppress(WireError):
            decode_untrusted(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def check_message(data: bytes) -> set[object]:
    """These bytes are a message, which can be sent on as it is, or they give WireError, and little memory is taken."""
    # The memory of all threads is measured, and another one may allocate just now, such as the test runner's: what is
    # too much is too much three times.
    limit = MEMORY + MEMORY_PER_BYTE * len(data)
    assert any(peak_of_decoding(data) <= limit for _ in range(3)), "more memory than so few bytes are worth"
    try:
        message = decode_untrusted(data)
    except WireError as error:
        return {in_short(error)}
    again = encode(message)
    assert decode_untrusted(again) == message, "sent on, it is another message"
    assert encode(decode_untrusted(again)) == again, "sent on, it has other bytes"
    if not isinstance(message, Request):
        assert len(again) <= MAX_PLAINTEXT, "an answer that fits into no datagram"
    elif len(again) <= MAX_PARTS * PART_BODY:  # nothing longer comes in
        assert OutgoingRequest(message.kind, message.id, again).datagrams
    return {(type(message).__name__, len(again).bit_length())}


def message_samples() -> list[bytes]:
    long = [attrs.evolve(sample, **{name: filled}) for sample, name, filled in _long_messages()]
    newer = bytes((Ack.kind,)) + msgspec.msgpack.encode({"new": [{"a": 0.5}], "of": 1, "id": ID, "newest": [None]})
    return [*(encode(message) for message in (*SAMPLES.values(), *long)), newer]


def _long_messages() -> list[tuple[Message, str, object]]:
    filled = {"text": "x" * MAX_TEXT, "records": 64, "entries": 64, "senders": 64}
    found = []
    for sample in SAMPLES.values():
        for name, value in filled.items():
            if hasattr(sample, name):
                found.append((sample, name, getattr(sample, name) * value if isinstance(value, int) else value))
    return found


def rearranged_fields(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    try:
        fields, other = (msgspec.msgpack.decode(one[1:]) for one in (data, dice.choice(others)))
        return data[:1] + msgspec.msgpack.encode(mixed(fields, other, dice))
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError):
        return data


# --- letters ---

ALICE, BOB, EVE = (Identity(bytes((n,)) * 32, bytes((n + 100,)) * 32) for n in (1, 2, 3))
ID = bytes(range(16))
POSTED = {"id": ID, "sender": "Alice"}
NAMES = POSTED | {"recipient": "bob"}
WRITTEN = {"sent_at": 12.5, "text": "hi"}
HI, HO = map(receipts.hash_text, ("hi", "ho"))
TIME = struct.Struct(">d")


def check_letters(data: bytes) -> set[object]:
    """Letters, posts and receipts: forged ones, those of Eve, who can seal, and of Alice, who signs anything."""
    how, data = data[:1], data[1:]
    match how:
        case b"s":
            return {_read_as_alices(_open, data)}
        case b"e":
            return {_read_as_alices(_open, _sealed_to_bob(data))}
        case b"p":
            return {_read_as_alices(_read_post, data)}
        case b"S":
            at, raw = _time_of(data)
            stated = letters._letter(ID, "Alice", ALICE.public.signing, "bob", BOB.public, at, raw)
            return {_read_as_signed(_open, _sealed_to_bob(ALICE.signing.sign(stated) + data), data)}
        case b"P":
            at, raw = _time_of(data)
            return {
                _read_as_signed(
                    _read_post,
                    ALICE.signing.sign(letters._post(ID, "Alice", letters.TO_EVERYONE, at, raw)) + data,
                    data,
                )
            }
    return {_check_proofs(data)}


def _open(data: bytes) -> OpenedText:
    return letters.open_letter_untrusted(data, BOB, ALICE.public.signing, **NAMES)


def _read_post(data: bytes) -> OpenedText:
    return letters.open_post_untrusted(data, ALICE.public.signing, **POSTED)


def _sealed_to_bob(inside: bytes) -> bytes:
    key = X25519PublicKey.from_public_bytes(BOB.public.link)
    return letters.HPKE.encrypt(inside, key, letters._envelope(**NAMES))


def _time_of(data: bytes) -> tuple[float, bytes]:
    """Time and text of what Alice signs; too short, it is signed as something else."""
    return (TIME.unpack(data[:8])[0], data[8:]) if len(data) >= 8 else (0.0, data)


def _read_as_alices(read: Callable[[bytes], OpenedText], data: bytes) -> object:
    try:
        opened = read(data)
    except Unreadable as error:
        return (read.__name__, str(error))
    assert opened == OpenedText(**WRITTEN), "Alice did not write this"
    return (read.__name__, "opened")


def _read_as_signed(read: Callable[[bytes], OpenedText], data: bytes, signed: bytes) -> object:
    try:
        opened = read(data)
    except Unreadable as error:
        return (read.__name__, "signed", str(error))
    raw = opened.text.encode()
    assert TIME.pack(opened.sent_at) + raw == signed, "Alice did not sign this"
    assert 1 <= len(raw) <= MAX_TEXT, "no text"
    assert 0 <= opened.sent_at < 253_402_300_800, "no time"
    return (read.__name__, "signed", "opened")


def _check_proofs(data: bytes) -> object:
    """Only Bob makes proofs with Bob's key. With keys from the input any result is right, but no exception."""
    key, proof = data[:32], data[32:]
    genuine = {hash_: receipts.sign_receipt(BOB, **POSTED, text_hash=hash_) for hash_ in (HI, HO, NO_HASH)}
    read = receipts.verify_receipt(proof, BOB.public.signing, **POSTED)
    assert read == (proof in genuine.values()), "not the receipts that Bob gives"
    verdict = receipts.read_receipt(proof, BOB.public.signing, **POSTED, text_hash=HI)
    expected = {genuine[HI]: Verdict.RECEIVED, genuine[HO]: Verdict.WRONG_TEXT, genuine[NO_HASH]: Verdict.NOT_OPENED}
    assert verdict is expected.get(proof, Verdict.FORGED), "Bob did not say so"
    keys = PublicKeys(key, data[-32:])
    answers = (
        receipts.verify_receipt(proof, key, **POSTED),
        identities.verify_identity(keys, proof, name="bob", server_key=key),
        identities.verify_link_key(keys, proof),
    )
    try:
        sealed = len(letters.seal_letter(ALICE, keys, **NAMES, **WRITTEN))
    except Unreadable as error:
        return ("proof", verdict, answers, str(error))
    return ("proof", verdict, answers, sealed)


def letter_samples() -> list[bytes]:
    sealed = letters.seal_letter(ALICE, BOB.public, **NAMES, **WRITTEN)
    inside = letters.HPKE.decrypt(sealed, BOB.link, letters._envelope(**NAMES))
    long, key = TIME.pack(12.5) + b"x" * MAX_TEXT, BOB.public.signing
    return [
        *(b"s" + sealed, b"e" + inside, b"p" + letters.sign_post(ALICE, **POSTED, **WRITTEN)),
        *(mark + what for mark in (b"S", b"P") for what in (inside[64:], long, long + b"x", inside[:72], b"short")),
        *(b"k" + key + receipts.sign_receipt(BOB, **POSTED, text_hash=hash_) for hash_ in (HI, HO, NO_HASH)),
        b"k" + BOB.public.signing + identities.sign_link_key(BOB) + BOB.public.link,
        b"k" + bytes(160),
    ]


def rearranged_letter(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    """The same, brought by somebody else, or the same beginning with another end: there is the text."""
    if dice.random() < 0.5:
        return data[:-10] + mutated(data[-10:], dice, others)
    return dice.choice((b"s", b"e", b"p", b"S", b"P", b"k")) + data[1:]


# --- the presence service ---

LONG = b"\x01"
"""Replaced by 16 KiB in a stream, so that inputs are short. JSON has no such byte."""

MOST_LONG = 8
"""How many of them are replaced; more would fill the memory."""

BYTE_BY_BYTE = 1000
"""Up to so many bytes, a stream is also fed byte by byte."""


def check_presence(data: bytes) -> set[object]:
    """A stream gives the same objects however it is cut, and the same as another parser; or JsonError."""
    stream = data.replace(LONG, b"x" * 16 * 1024, MOST_LONG)
    whole, why = _read([stream])
    dice = random.Random(data)
    cuts = sorted(dice.randrange(len(stream) + 1) for _ in range(8))
    cuttings = [[stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]]
    if len(stream) <= BYTE_BY_BYTE:
        cuttings.append([bytes((byte,)) for byte in stream])
    for pieces in cuttings:
        found, failed = _read(pieces)
        assert (repr(found), bool(failed)) == (repr(whole), bool(why)), "cut differently it is something else"
    _check_that_others_read_the_same(stream, whole, waiting=not why)
    return {why, len(whole).bit_length(), *(_meaning(fields) for fields in whole)}


def _read(pieces: Sequence[bytes]) -> tuple[list[dict[str, object]], str]:
    """All objects in them, and the error after the last one, if there is one."""
    stream, found = JsonStream(), []
    try:
        for piece in pieces:
            stream.feed(piece)
            while (fields := stream.take()) is not None:
                found.append(fields)
            assert len(stream._buffer) <= MAX_OBJECT, "more is kept than an object may have"
    except JsonError as error:
        return found, str(error)
    return found, ""


def _check_that_others_read_the_same(stream: bytes, found: Sequence[dict[str, object]], *, waiting: bool) -> None:
    rest = stream.decode(errors="replace").lstrip(" \t\r\n")
    for fields in found:
        theirs, end = json.JSONDecoder().raw_decode(rest)
        assert repr(fields) == repr(theirs), "others read it otherwise"
        assert _depth(fields) <= MAX_DEPTH, "deeper than an object may be"
        rest = rest[end:].lstrip(" \t\r\n")
    assert not waiting or rest[:1] in ("", "{"), "what is no object is waited for"
    assert not _begins_with_an_object(rest), "an object that others read is not read"


def _begins_with_an_object(text: str) -> bool:
    """Whether there is one within the bounds: strict JSON without what Python alone takes for JSON."""
    try:
        fields, end = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite).raw_decode(text)
        msgspec.json.encode(fields)
        depth = _depth(fields)
    except (ValueError, RecursionError):  # of which a lone surrogate is one, too
        return False
    if not isinstance(fields, dict) or "\ufffd" in text[:end]:
        return False
    return len(text[:end].encode()) <= MAX_OBJECT and depth <= MAX_DEPTH


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(digits)


def _depth(value: object) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)


def _meaning(fields: dict[str, object]) -> object:
    try:
        watch = parse_watch(fields)
        assert all(map(_is_user_or_name, (watch.user_id, *watch.friends))), "a friend that is none"
        assert watch.user_id not in watch.friends, "a friend of oneself"
        assert parse_watch(json.loads(encode_request(watch))) == watch, "asked again, it is another request"
        request = f"friends: {len(watch.friends).bit_length()}, {watch.push}"
    except Refusal as refused:
        request = _refused(refused)
    try:
        answer = parse_answer(fields)
        assert answer is None or _is_user_or_name(answer.user_id), "news of nobody"
    except Refusal:
        answer = "a refusal"
    return (request, type(answer).__name__)


def _is_user_or_name(given: object) -> bool:
    return re.fullmatch(NAME, given) is not None if type(given) is str else type(given) is int and 0 < given < 2**63


def _refused(refused: Refusal) -> str:
    assert refused.code in (3, 5, 6), "no code to refuse with"
    assert len(encode_refusal(refused)) <= 256, "too long for the ancestors"
    return refused.text


def presence_samples() -> list[bytes]:
    watches = [Watch(1, (2, "Bob", 2**63 - 1)), Watch(2, (), push=True), Watch(3, (1, "x" * 32)), Watch(4, (4,))]
    inputs = [
        *map(encode_request, watches),
        encode_news(2, True),
        encode_news("Bob", False),
        encode_refusal(Refusal(6, "You can't")),
    ]
    inputs += [b'{"a": "\\u00e9\\"}{\\\\", "b": [1.5e3, -0, [null, {}]], "a": true}', b'{"a": "\xc3\xa9"} \r\n\t{}']
    inputs += [b'{"a": ' + b"[" * depth + b"]" * depth + b"}" for depth in (31, 32, 2000)]
    inputs += [b'{"a": "' + LONG * 3 + b'"}', b'{"a": "' + LONG * 4 + b'"}']
    inputs += [b'{"user_id": 1, "friends": [' + b"2, " * 5000 + b"2]}", b'{"n": 123456789012345678901234567890}']
    return [*inputs, b"".join(inputs[:8]), b"\n".join(inputs[3:7])]


def rearranged_objects(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    """One object with its fields mixed, or pieces between commas or objects in another order."""
    other = dice.choice(others)
    if dice.random() < 0.5:
        between = dice.choice((b",", b"}", b'"'))
        pieces = [*data.split(between), *dice.sample(theirs := other.split(between), min(2, len(theirs)))]
        dice.shuffle(pieces)
        return between.join(pieces)
    try:
        return msgspec.json.encode(mixed(*map(msgspec.json.decode, (data, other)), dice))
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError):
        return data + other


TARGETS = {
    "messages": Target(check_message, message_samples, rearranged_fields),
    "bundles": Target(check_bundle, bundle_samples, rearranged_bundle),
    "letters": Target(check_letters, letter_samples, rearranged_letter),
    "rooms": Target(check_rooms, room_samples, rearranged_room),
    "links": Target(check_links, link_samples, rearranged_arrivals),
    "presence": Target(check_presence, presence_samples, rearranged_objects),
}
"""All of them, by name."""
