"""Bytes and messages: what is a message comes through unchanged, and what is not gives WireError and nothing else."""

import math
import random

import attrs
import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.strategies import MESSAGES, messages, of_kind
from trio_chat.protocol.messages import (
    Ack,
    Chat,
    GroupPost,
    Heartbeat,
    Held,
    Letters,
    Part,
    PartAck,
    Refused,
    Register,
    Registered,
    Save,
    Saved,
    TableChange,
)
from trio_chat.protocol.records import MAX_TEXT, Letter, LetterKind, Record, Version
from trio_chat.protocol.wire import MAX_PLAINTEXT, WireError, decode_untrusted, encode

ID = bytes(range(16))
VERSION = Version(b"8 bytes.", 3)
LETTER = Letter(LetterKind.DIRECT, ID, "alice", 12.5, "hi")
RECORD = Record("bob", "127.0.0.1", 3333, True, 12.5)
SAMPLES = {
    Register: Register(ID, "bob"),
    Chat: Chat(ID, "alice", "bob", "hi"),
    Save: Save(ID, "bob", "hi"),
    GroupPost: GroupPost(ID, "hi"),
    Letters: Letters(ID, "bob", (LETTER,)),
    TableChange: TableChange(ID, VERSION, VERSION, (RECORD,)),
    Heartbeat: Heartbeat(ID, "bob"),
    Ack: Ack(Chat.kind, ID),
    Refused: Refused(Save.kind, ID, "full"),
    Registered: Registered(Register.kind, ID, VERSION, 2, 12.5),
    Saved: Saved(Save.kind, ID, 12.5),
    Held: Held(TableChange.kind, ID, VERSION),
    Part: Part(Save.kind, ID, 0, 2, b"body"),
    PartAck: PartAck(Save.kind, ID, 3),
}

fast = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def fields_of(message) -> dict:
    return msgspec.to_builtins(message, builtin_types=(bytes,))


def with_fields(kind: int, fields: object) -> bytes:
    return bytes((kind,)) + msgspec.msgpack.encode(fields)


def is_refused(data: bytes) -> bool:
    try:
        decode_untrusted(data)
    except WireError:
        return True
    return False


def check_untrusted(data: bytes) -> None:
    """These bytes are a message, which can be sent on, or they give WireError."""
    try:
        message = decode_untrusted(data)
    except WireError:
        return
    assert decode_untrusted(encode(message)) == message, data


# --- there and back ---


@pytest.mark.parametrize("message_class", MESSAGES)
@settings(fast, max_examples=30)
@given(st.data())
def test_every_message_comes_through_unchanged(message_class, data):
    message = data.draw(of_kind(message_class))
    decoded = decode_untrusted(encode(message))
    assert decoded == message
    assert type(decoded) is message_class


def test_every_class_has_a_kind_of_its_own():
    assert len({message_class.kind for message_class in MESSAGES}) == len(MESSAGES)


@given(of_kind(Part))
@settings(fast, max_examples=50)
def test_a_part_always_fits_into_a_datagram(part):
    assert len(encode(part)) <= MAX_PLAINTEXT


def test_text_of_16_kib_is_counted_in_bytes_and_not_in_characters():
    for text in ("x" * MAX_TEXT, "ä" * (MAX_TEXT // 2), "🙂" * (MAX_TEXT // 4)):
        assert decode_untrusted(encode(Save(ID, "bob", text))).text == text


def test_a_letter_may_be_empty():
    receipt = Letters(ID, "bob", (Letter(LetterKind.RECEIPT, ID, "alice", 0.0),))
    assert decode_untrusted(encode(receipt)) == receipt


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=lambda sample: type(sample).__name__)
@pytest.mark.parametrize("extra", [None, 7, "text", b"\xff", [1, [2, {"x": None}]], {"a": {"b": [0.5]}}])
def test_fields_of_a_newer_version_are_skipped(sample, extra):
    assert (
        decode_untrusted(with_fields(sample.kind, {"before_all": extra, **fields_of(sample), "new": extra})) == sample
    )


# --- what is not a message ---


@given(st.binary(max_size=1300))
@settings(fast, max_examples=300)
@example(b"")
@example(bytes((Letters.kind,)) + b"\xdf\xff\xff\xff\xff")
@example(bytes((Ack.kind,)) + b"\x81\xa3new" + b"\xdd\xff\xff\xff\xff")
def test_any_bytes(data):
    check_untrusted(data)


def test_any_bytes_behind_a_kind():
    dice = random.Random(1)
    for _ in range(10_000):
        kind = dice.choice(MESSAGES).kind
        assert is_refused(bytes((kind,)) + dice.randbytes(dice.randrange(60)))


@given(messages(), st.integers(0, 2**64))
@settings(fast, max_examples=200)
def test_10000_mutated_messages(message, seed):
    dice = random.Random(seed)
    whole = encode(message)
    for _ in range(50):
        data = bytearray(whole)
        for _ in range(dice.randrange(1, 4)):
            mutate(data, dice)
        check_untrusted(bytes(data))


def mutate(data: bytearray, dice: random.Random) -> None:
    # Most of it near the beginning: there is the structure, and the rest may be one long text.
    place = dice.randrange(min(len(data), dice.choice((40, 200, 100_000))))
    match dice.randrange(4):
        case 0:
            data[place] ^= 1 << dice.randrange(8)
        case 1:
            data[place] = dice.randrange(256)
        case 2:
            del data[place + 1 : place + 1 + dice.randrange(1, 5)]
        case 3:
            data[place:place] = data[place : place + dice.randrange(1, 20)]


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=lambda sample: type(sample).__name__)
def test_a_message_that_is_cut_short_or_goes_on_is_none(sample):
    whole = encode(sample)
    assert all(is_refused(whole[:size]) for size in range(len(whole)))
    assert is_refused(whole + b"\xc0")
    assert is_refused(whole + whole)


def test_there_are_no_other_kinds():
    for kind in set(range(256)) - {message_class.kind for message_class in MESSAGES}:
        assert is_refused(with_fields(kind, {"of": 1, "id": ID, "name": "bob"}))


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=lambda sample: type(sample).__name__)
def test_no_field_may_be_missing_or_nothing(sample):
    fields = fields_of(sample)
    for name in fields:
        assert is_refused(with_fields(sample.kind, {other: fields[other] for other in fields if other != name})), name
        may_be_none = (type(sample), name) == (Held, "version")
        assert is_refused(with_fields(sample.kind, fields | {name: None})) != may_be_none, name


@pytest.mark.parametrize("other", [None, True, 1, -1.5, "text", b"bytes", [], ["of", 1], {"of": 1}, {1: 2}])
def test_what_is_no_map_of_fields_is_no_message(other):
    assert all(is_refused(with_fields(message_class.kind, other)) for message_class in MESSAGES)


@pytest.mark.parametrize("nest", [b"\x91", b"\x81\xa1x", b"\x81"])
def test_deep_nesting(nest):
    field = b"\x83\xa2of\x01\xa2id\xc4\x10" + ID + b"\xa3new"
    for depth in (10, 1_000, 10_000, 60_000):
        check_untrusted(bytes((Ack.kind,)) + field + nest * depth + b"\xc0")
    assert is_refused(bytes((Ack.kind,)) + field + nest * 60_000 + b"\xc0")


@pytest.mark.parametrize("text", [b"\xff", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"hi\xfe"])
def test_text_that_is_no_utf_8(text):
    written = bytes((0xA0 | len(text),)) + text
    for_text = b"\x83\xa2id\xc4\x10" + ID + b"\xa9recipient\xa3bob\xa4text" + written
    as_key = b"\x83\xa2id\xc4\x10" + ID + b"\xa9recipient\xa3bob" + written + b"\xa1x"
    assert is_refused(bytes((Save.kind,)) + for_text)
    assert is_refused(bytes((Save.kind,)) + as_key)


# --- fields out of their bounds ---


def replaced(sample, **changes) -> bytes:
    return with_fields(sample.kind, fields_of(sample) | changes)


@pytest.mark.parametrize("size", [0, 1, 15, 17, 32, 255])
def test_an_id_has_16_bytes(size):
    assert all(is_refused(replaced(sample, id=bytes(size))) for sample in SAMPLES.values())
    assert all(is_refused(replaced(sample, id="x" * 16)) for sample in SAMPLES.values())


@pytest.mark.parametrize("version", [{"epoch": bytes(7), "n": 0}, {"epoch": bytes(9), "n": 0}, {"epoch": bytes(8)}])
def test_an_epoch_has_8_bytes_and_a_version_a_number(version):
    assert is_refused(replaced(SAMPLES[Held], version=version))


@pytest.mark.parametrize("n", [-1, 2**53 + 1, 2**64 - 1, 1.5, "1", True])
def test_numbers_of_changes_and_letters_are_counts(n):
    assert is_refused(replaced(SAMPLES[Held], version={"epoch": bytes(8), "n": n}))
    assert is_refused(replaced(SAMPLES[Registered], waiting=n))


@pytest.mark.parametrize("time", [math.nan, math.inf, -math.inf, -1.0, 253_402_300_800.0, 1e300, "12.5", None, True])
def test_a_time_is_a_number_of_seconds_until_the_year_9999(time):
    assert is_refused(replaced(SAMPLES[Saved], sent_at=time))
    assert is_refused(replaced(SAMPLES[Registered], at=time))
    assert is_refused(replaced(SAMPLES[Letters], letters=[fields_of(LETTER) | {"sent_at": time}]))
    assert is_refused(replaced(SAMPLES[TableChange], records=[fields_of(RECORD) | {"since": time}]))


@pytest.mark.parametrize(
    "name",
    [
        *("", "x" * 33, "_bob", ".bob", "-bob", "a/b", "a@b", "b ob", "bob ", " bob"),
        *("bob\n", "bob\r\n", "\nbob", "bob\0", "b\x1bb", "a\u202eb"),
        *("böb", "\N{KELVIN SIGN}elvin", "bob\N{ARABIC-INDIC DIGIT ONE}"),
        *(b"bob", 7, None),
    ],
)
def test_what_is_no_name(name):
    for sample, field in [(Register, "name"), (Heartbeat, "name"), (Save, "recipient"), (Letters, "recipient")]:
        assert is_refused(replaced(SAMPLES[sample], **{field: name}))
    assert is_refused(replaced(SAMPLES[Chat], sender=name))
    assert is_refused(replaced(SAMPLES[Chat], recipient=name))
    assert is_refused(replaced(SAMPLES[Letters], letters=[fields_of(LETTER) | {"sender": name}]))
    assert is_refused(replaced(SAMPLES[TableChange], records=[fields_of(RECORD) | {"name": name}]))


@pytest.mark.parametrize("name", ["a", "7", "Bob", "x" * 32, "a_.-", "0-0"])
def test_what_is_a_name(name):
    assert decode_untrusted(replaced(SAMPLES[Register], name=name)).name == name


@pytest.mark.parametrize(
    "host",
    [
        *("", "localhost", "x.y", "1", "1" * 46, "127.0.0.1\n", "::1\0", "::1 ", "[::1]", "fe80::1%eth0"),
        *("cafe", "dead.beef", "...", "::::", "256.0.0.1", "127.1", b"::1", None),
    ],
)
def test_a_host_in_the_table_is_numeric(host):
    assert is_refused(replaced(SAMPLES[TableChange], records=[fields_of(RECORD) | {"host": host}]))


@pytest.mark.parametrize("port", [0, -1, 65536, 2**40, "80", 80.5])
def test_a_port_in_the_table_is_a_port(port):
    assert is_refused(replaced(SAMPLES[TableChange], records=[fields_of(RECORD) | {"port": port}]))


@pytest.mark.parametrize("text", ["", "x" * (MAX_TEXT + 1), "ä" * (MAX_TEXT // 2) + "x", b"hi", None])
def test_a_text_has_1_byte_to_16_kib(text):
    assert all(is_refused(replaced(SAMPLES[kind], text=text)) for kind in (Chat, Save, GroupPost))
    if text != "":
        assert is_refused(replaced(SAMPLES[Letters], letters=[fields_of(LETTER) | {"text": text}]))


def test_a_batch_has_1_to_64_letters_and_a_page_up_to_64_rows():
    letter, record = fields_of(LETTER), fields_of(RECORD)
    assert len(decode_untrusted(replaced(SAMPLES[Letters], letters=[letter] * 64)).letters) == 64
    assert is_refused(replaced(SAMPLES[Letters], letters=[letter] * 65))
    assert is_refused(replaced(SAMPLES[Letters], letters=[]))
    assert len(decode_untrusted(replaced(SAMPLES[TableChange], records=[record] * 64)).records) == 64
    assert is_refused(replaced(SAMPLES[TableChange], records=[record] * 65))


@pytest.mark.parametrize("kind", ["", "Direct", "letter", 1, None])
def test_there_are_no_other_kinds_of_letters(kind):
    assert is_refused(replaced(SAMPLES[Letters], letters=[fields_of(LETTER) | {"kind": kind}]))


def test_there_are_no_other_reasons_to_refuse():
    assert is_refused(replaced(SAMPLES[Refused], reason="mood"))


@pytest.mark.parametrize(
    "changes",
    [
        *({"index": 2}, {"index": -1}, {"index": 32, "count": 33}, {"index": 31, "count": 31}),
        *({"count": 0}, {"count": 1}, {"count": 33}),
        *({"body": b""}, {"body": bytes(1101)}, {"body": "text"}),
        *({"of": 0}, {"of": 128}),
    ],
)
def test_what_is_no_part(changes):
    assert is_refused(replaced(SAMPLES[Part], **changes))


@pytest.mark.parametrize("held", [-1, 2**32, 1.0])
def test_a_part_ack_speaks_of_32_parts_at_most(held):
    assert is_refused(replaced(SAMPLES[PartAck], held=held))


def test_messages_cannot_be_changed():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        SAMPLES[Save].text = "something else"
