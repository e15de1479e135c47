"""Every message is unchanged after encoding and decoding; anything else raises WireError, and nothing else.

Pure functions, with messages from hypothesis. Random and mutated bytes are in tests/fuzz/.
"""

import math
import random

import attrs
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.samples import CREDENTIALS, ENTRY, ID, RECORD, ROOM, SAMPLES
from tests.fuzz.targets import check_message
from tests.strategies import MESSAGES, answers, of_kind
from trio_chat.protocol import log
from trio_chat.protocol.log import BATCH_BYTES, ENTRY_OVERHEAD, first_batch, missed_posts
from trio_chat.protocol.messages import (
    MAX_BATCH,
    MAX_KEPT,
    MAX_NAMES_LISTED,
    MAX_RECEIPTS,
    Ack,
    Batch,
    Delivered,
    DirectMessage,
    Elsewhere,
    Find,
    Found,
    GroupPost,
    Heartbeat,
    Introduce,
    Introduced,
    ListNames,
    MessagesKept,
    NamesListed,
    Part,
    PartAck,
    Refused,
    Register,
    Registered,
    Save,
    SessionEnded,
    TableChange,
    TableHeld,
    Taken,
)
from trio_chat.protocol.parts import OutgoingRequest
from trio_chat.protocol.records import (
    EVERYONE,
    MAX_BODY,
    MAX_EPOCH,
    MAX_PARTS,
    MAX_TEXT,
    Entry,
    EntryKind,
    Reason,
    Room,
    Version,
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
from trio_chat.protocol.wire import MAX_PLAINTEXT, WireError, decode_untrusted, encode

fast = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def fields_of(message) -> dict:
    return msgspec.to_builtins(message, builtin_types=(bytes,))


def with_fields(kind: int, fields: object) -> bytes:
    return bytes((kind,)) + msgspec.msgpack.encode(fields)


def in_short(value: object) -> str:
    """A short id for a parameter that may be long."""
    return f"{len(value)} bytes" if isinstance(value, bytes) else f"{value!r:.12}"


def is_refused(data: bytes) -> bool:
    try:
        decode_untrusted(data)
    except WireError:
        return True
    return False


# --- encoding and decoding ---


@pytest.mark.parametrize("message_class", MESSAGES)
@settings(fast, max_examples=30)
@given(st.data())
def test_every_message_is_unchanged_after_encoding_and_decoding(message_class, data):
    message = data.draw(of_kind(message_class))
    decoded = decode_untrusted(encode(message))
    assert decoded == message
    assert type(decoded) is message_class


def test_there_is_a_sample_of_every_class():
    assert SAMPLES.keys() == set(MESSAGES)


def test_every_class_has_a_kind_of_its_own():
    assert len({message_class.kind for message_class in MESSAGES}) == len(MESSAGES)


@given(of_kind(Part))
@settings(fast, max_examples=50)
def test_a_part_always_fits_into_a_datagram(part):
    assert len(encode(part)) <= MAX_PLAINTEXT


@given(answers())
@settings(fast, max_examples=60)
def test_an_answer_always_fits_into_a_datagram(answer):
    assert len(encode(answer)) <= MAX_PLAINTEXT


FULL_RECORD = attrs.evolve(
    RECORD, name="x" * 32, host="ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", port=65535, since=1e11 / 3
)


FULL_ROOM = Room("#" + "f" * 32, "x" * 32, bytes(32), 2**53, 2**53)


@pytest.mark.parametrize(
    "longest",
    [
        Taken(127, ID, MAX_BATCH, (bytes(96),) * MAX_RECEIPTS),
        Found(127, ID, FULL_RECORD, Version(bytes(8), 2**53)),
        NamesListed(127, ID, (("x" * 32, True, 1e11 / 3, bytes(32)),) * MAX_NAMES_LISTED),
        Registered(127, ID, Version(bytes(8), 2**53), 1e11 / 3, 2**53, 2**53, 2**53),
        Delivered(127, ID, bytes(96)),
        Register(ID, "x" * 32, CREDENTIALS, ID, 1e11 / 3, held=Version(bytes(8), 2**53)),
        RoomList(127, ID, (FULL_ROOM,) * MAX_ROOMS_LISTED),
        MemberList(127, ID, ("x" * 32,) * MAX_MEMBERS_LISTED),
        ListMembers(ID, FULL_ROOM.id, "\N{GRINNING FACE}" * 32),
        EpochPart(127, ID, 2**53, 2**53, MAX_EPOCH, bytes(EPOCH_PART)),
        MessagesKept(ID, (ID,) * MAX_KEPT),
    ],
    ids=lambda message: type(message).__name__,
)
def test_the_longest_messages_that_must_fit_into_one_datagram(longest):
    assert len(encode(longest)) <= MAX_PLAINTEXT
    assert decode_untrusted(encode(longest)) == longest


FULL_ENTRY = Entry(2**53, EntryKind.RECEIPT, ID, "x" * 32, bytes(32), "y" * 32, 1e11 / 3)


def full_batch(size: int) -> Batch:
    """As many entries of this size as go together, each of another sender whose keys the client lacks."""
    entry = attrs.evolve(FULL_ENTRY, body=bytes(size))
    together = first_batch([entry] * 100, 0).entries
    return Batch(ID, "y" * 32, together, (("x" * 32, CREDENTIALS),) * len(together))


def posts_to_rooms(size: int, count: int) -> Batch:
    """Posts of this size, each to another room, as many as go together but no more than `count`, with a notice."""
    ids = [f"#{number:032x}" for number in range(count)]
    post = attrs.evolve(FULL_ENTRY, kind=EntryKind.GROUP, body=bytes(size))
    together = first_batch([attrs.evolve(post, recipient=id_) for id_ in ids], 0).entries
    notice = missed_posts("y" * 32, [FULL_ROOM.id], 2**53, 1, 2**53)
    rooms = [(entry.recipient, "x" * 32) for entry in together]
    return Batch(
        ID,
        "y" * 32,
        (notice, *together)[:MAX_BATCH],
        (("x" * 32, CREDENTIALS),) * len(together),
        tuple([(FULL_ROOM.id, "x" * 32), *rooms][:MAX_BATCH]),
    )


@pytest.mark.parametrize(
    "longest",
    [
        posts_to_rooms(BATCH_BYTES // 2 - ENTRY_OVERHEAD, 100),
        posts_to_rooms(96, 100),
        posts_to_rooms(0, 100),
        full_batch(MAX_BODY),
        full_batch(BATCH_BYTES // 2 - ENTRY_OVERHEAD),
        full_batch(96),
        full_batch(0),
        TableChange(ID, Version(bytes(8), 2**53), Version(bytes(8), 2**53), (FULL_RECORD,) * 64),
        Save(ID, "x" * 32, bytes(MAX_BODY)),
        GroupPost(ID, bytes(MAX_BODY), FULL_ROOM.id),
        full_batch(MAX_EPOCH),
        BeginEpoch(ID, "!" + "f" * 32, 2**53, bytes(MAX_EPOCH)),
        DirectMessage(ID, "x" * 32, "y" * 32, "x" * MAX_TEXT),
    ],
    ids=lambda message: type(message).__name__,
)
def test_the_longest_messages_that_are_sent_in_parts(longest):
    data = encode(longest)
    parts = OutgoingRequest(longest.kind, ID, data).datagrams
    assert 1 < len(parts) <= MAX_PARTS
    assert b"".join(decode_untrusted(part).body for part in parts) == data
    assert decode_untrusted(data) == longest


def test_a_batch_about_64_rooms_can_be_sent(monkeypatch):
    """No store makes one: with ENTRY_OVERHEAD, a page ends before it has so many entries."""
    monkeypatch.setattr(log, "ENTRY_OVERHEAD", 0)
    batch = posts_to_rooms(0, MAX_BATCH)
    assert (len(batch.entries), len(batch.rooms)) == (MAX_BATCH, MAX_BATCH)
    assert len(OutgoingRequest(Batch.kind, ID, encode(batch)).datagrams) <= MAX_PARTS
    assert decode_untrusted(encode(batch)) == batch


def test_text_of_16_kib_is_counted_in_bytes_and_not_in_characters():
    for text in ("x" * MAX_TEXT, "ä" * (MAX_TEXT // 2), "🙂" * (MAX_TEXT // 4)):
        assert decode_untrusted(encode(DirectMessage(ID, "alice", "bob", text))).text == text


@pytest.mark.parametrize("size", [0, 1, 96, 1000, MAX_BODY])
def test_the_overhead_of_an_entry_covers_its_fields_and_the_keys_of_its_sender(size):
    (one, *_), (sender, *_) = (batch := full_batch(size)).entries, batch.senders
    alone = len(encode(Batch(ID, "y" * 32, (one,), (sender,))))
    two = len(encode(Batch(ID, "y" * 32, (one,) * 2, (sender,) * 2)))
    assert two - alone <= size + ENTRY_OVERHEAD


@pytest.mark.parametrize("kind", [*EntryKind, "", "reaction", "x" * 16])
def test_an_entry_may_be_empty_and_of_a_kind_that_only_newer_programs_know(kind):
    batch = Batch(ID, "bob", (attrs.evolve(ENTRY, kind=kind, body=b""),))
    assert decode_untrusted(encode(batch)) == batch


def test_a_field_that_is_left_out_has_its_default():
    fields = fields_of(SAMPLES[Register])
    del fields["takeover_at"]
    assert decode_untrusted(with_fields(Register.kind, fields)) == attrs.evolve(SAMPLES[Register], takeover_at=0.0)
    fields = fields_of(SAMPLES[Register])
    del fields["blocked"]
    assert decode_untrusted(with_fields(Register.kind, fields)) == attrs.evolve(SAMPLES[Register], blocked=())
    fields = fields_of(SAMPLES[Register])
    del fields["held"]
    assert decode_untrusted(with_fields(Register.kind, fields)) == attrs.evolve(SAMPLES[Register], held=None)
    assert decode_untrusted(with_fields(ListNames.kind, {"id": ID})) == ListNames(ID, "")
    fields = fields_of(SAMPLES[Batch])
    del fields["senders"]
    assert decode_untrusted(with_fields(Batch.kind, fields)) == attrs.evolve(SAMPLES[Batch], senders=())
    fields = fields_of(SAMPLES[Batch])
    del fields["rooms"]
    assert decode_untrusted(with_fields(Batch.kind, fields)) == attrs.evolve(SAMPLES[Batch], rooms=())
    assert decode_untrusted(with_fields(GroupPost.kind, {"id": ID, "body": b"hi"})) == GroupPost(ID, b"hi", EVERYONE)
    assert decode_untrusted(with_fields(ListRooms.kind, {"id": ID})) == ListRooms(ID, "", False)
    fields = fields_of(SAMPLES[DirectMessage])
    del fields["sender_keeps"]
    assert decode_untrusted(with_fields(DirectMessage.kind, fields)) == attrs.evolve(
        SAMPLES[DirectMessage], sender_keeps=False
    )
    fields = fields_of(ENTRY)
    del fields["body"]
    assert decode_untrusted(replaced(SAMPLES[Batch], entries=[fields])).entries == (attrs.evolve(ENTRY, body=b""),)
    fields = fields_of(RECORD)
    del fields["credentials"]
    unowned = Found(Find.kind, ID, attrs.evolve(RECORD, credentials=None), SAMPLES[Found].version)
    assert decode_untrusted(replaced(SAMPLES[Found], record=fields)) == unowned
    assert decode_untrusted(replaced(SAMPLES[Found], record=fields | {"credentials": None})) == unowned


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=lambda sample: type(sample).__name__)
def test_fields_of_a_newer_version_are_skipped(sample):
    for extra in (None, 7, "text", b"\xff", [1, [2, {"x": None}]], {"a": {"b": [0.5]}}):
        fields = {"before_all": extra, **fields_of(sample), "new": extra}
        assert decode_untrusted(with_fields(sample.kind, fields)) == sample, extra


# --- bytes that are not a message ---


def test_random_bytes_after_a_kind_are_refused():
    dice = random.Random(1)
    for _ in range(10_000):
        kind = dice.choice(MESSAGES).kind
        assert is_refused(bytes((kind,)) + dice.randbytes(dice.randrange(60)))


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=lambda sample: type(sample).__name__)
def test_a_message_that_is_cut_short_or_continued_is_refused(sample):
    whole = encode(sample)
    assert all(is_refused(whole[:size]) for size in range(len(whole)))
    assert is_refused(whole + b"\xc0")
    assert is_refused(whole + whole)


def test_unknown_kinds_are_refused():
    for kind in set(range(256)) - {message_class.kind for message_class in MESSAGES}:
        assert is_refused(with_fields(kind, {"of": 1, "id": ID, "name": "bob"}))


HAVE_DEFAULTS = {
    (Part, "whole"),
    (DirectMessage, "sender_keeps"),
    (RoomChanged, "seq"),
    (Register, "takeover_at"),
    (Register, "blocked"),
    (Register, "invitation"),
    (Register, "held"),
    (ListNames, "after"),
    (Introduce, "at"),
    (Introduced, "at"),
    (Refused, "after"),
    (Batch, "senders"),
    (Batch, "rooms"),
    (GroupPost, "room"),
    (ListRooms, "after"),
    (ListRooms, "own"),
    (ListMembers, "after"),
    (GetEpoch, "n"),
    (GetEpoch, "start"),
    (TableChange, "floor"),
    (SessionEnded, "reason"),
}


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=lambda sample: type(sample).__name__)
def test_a_missing_field_or_none_is_refused(sample):
    fields = fields_of(sample)
    for name in fields:
        may_be_missing = (type(sample), name) in HAVE_DEFAULTS
        others = {other: fields[other] for other in fields if other != name}
        assert is_refused(with_fields(sample.kind, others)) != may_be_missing, name
        may_be_none = (type(sample), name) in {(TableHeld, "version"), (Register, "held")}
        assert is_refused(with_fields(sample.kind, fields | {name: None})) != may_be_none, name


@pytest.mark.parametrize("other", [None, True, 1, -1.5, "text", b"bytes", [], ["of", 1], {"of": 1}, {1: 2}])
def test_anything_but_a_map_of_fields_is_refused(other):
    assert all(is_refused(with_fields(message_class.kind, other)) for message_class in MESSAGES)


@pytest.mark.parametrize("nest", [b"\x91", b"\x81\xa1x", b"\x81"])
def test_deep_nesting(nest):
    field = b"\x83\xa2of\x01\xa2id\xc4\x10" + ID + b"\xa3new"
    for depth in (10, 1_000, 10_000, 60_000):
        check_message(bytes((Ack.kind,)) + field + nest * depth + b"\xc0")
    assert is_refused(bytes((Ack.kind,)) + field + nest * 60_000 + b"\xc0")


@pytest.mark.parametrize("text", [b"\xff", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"hi\xfe"])
def test_text_that_is_not_utf_8_is_refused(text):
    written = bytes((0xA0 | len(text),)) + text
    fields = b"\xa2id\xc4\x10" + ID + b"\xa6sender\xa5alice\xa9recipient\xa3bob"
    chat = bytes((DirectMessage.kind,))
    assert not is_refused(chat + b"\x84" + fields + b"\xa4text\xa2hi")
    assert is_refused(chat + b"\x84" + fields + b"\xa4text" + written)
    assert is_refused(chat + b"\x84" + fields + written + b"\xa2hi")
    check_message(chat + b"\x85" + fields + b"\xa4text\xa2hi" + written + b"\xa2hi")


# --- fields out of their bounds ---


def replaced(sample, **changes) -> bytes:
    return with_fields(sample.kind, fields_of(sample) | changes)


@pytest.mark.parametrize("size", [0, 1, 15, 17, 32, 255])
def test_an_id_has_16_bytes(size):
    assert all(is_refused(replaced(sample, id=bytes(size))) for sample in SAMPLES.values())
    assert all(is_refused(replaced(sample, id="x" * 16)) for sample in SAMPLES.values())
    assert is_refused(replaced(SAMPLES[Register], program=bytes(size)))
    assert is_refused(replaced(SAMPLES[Batch], entries=[fields_of(ENTRY) | {"id": bytes(size)}]))


@pytest.mark.parametrize("what", ["signing", "link", "certificate"])
@pytest.mark.parametrize(
    "wrong", [b"", bytes(31), bytes(33), bytes(63), bytes(65), "x" * 32, "x" * 64, None, 7], ids=in_short
)
def test_a_key_has_32_bytes_and_a_certificate_64(what, wrong):
    shown = fields_of(CREDENTIALS)
    if what == "certificate":
        shown[what] = wrong
    else:
        shown["keys"] = shown["keys"] | {what: wrong}
    for refused in in_every_place(shown):
        assert is_refused(refused)


@pytest.mark.parametrize(
    "wrong", [b"", b"keys", 7, [], {}, {"keys": fields_of(CREDENTIALS.keys)}, {"certificate": bytes(64)}]
)
def test_credentials_are_keys_and_a_certificate(wrong):
    for refused in in_every_place(wrong):
        assert is_refused(refused)


def in_every_place(shown) -> list[bytes]:
    """These credentials in each kind of message that carries credentials."""
    row = fields_of(RECORD) | {"credentials": shown}
    return [
        replaced(SAMPLES[Register], credentials=shown),
        replaced(SAMPLES[TableChange], records=[row]),
        replaced(SAMPLES[Found], record=row),
        replaced(SAMPLES[Batch], senders=[("alice", shown)]),
    ]


@pytest.mark.parametrize("online", [0, 1, "true", None, b""])
def test_flags_are_booleans(online):
    assert is_refused(replaced(SAMPLES[Found], record=fields_of(RECORD) | {"online": online}))
    assert is_refused(replaced(SAMPLES[DirectMessage], sender_keeps=online))


@pytest.mark.parametrize("count", [0, MAX_KEPT + 1])
def test_a_notice_of_kept_messages_has_some_ids_and_not_too_many(count):
    assert is_refused(replaced(SAMPLES[MessagesKept], ids=[ID] * count))


@pytest.mark.parametrize("version", [{"epoch": bytes(7), "n": 0}, {"epoch": bytes(9), "n": 0}, {"epoch": bytes(8)}])
def test_an_epoch_has_8_bytes_and_a_version_a_number(version):
    assert is_refused(replaced(SAMPLES[TableHeld], version=version))


@pytest.mark.parametrize("n", [-1, 2**53 + 1, 2**64 - 1, 1.5, "1", True])
def test_numbers_of_changes_and_entries_are_counts(n):
    assert is_refused(replaced(SAMPLES[TableHeld], version={"epoch": bytes(8), "n": n}))
    assert is_refused(replaced(SAMPLES[Registered], waiting=n))
    assert is_refused(replaced(SAMPLES[Registered], head=n))
    assert is_refused(replaced(SAMPLES[Batch], entries=[fields_of(ENTRY) | {"seq": n}]))


@pytest.mark.parametrize("time", [math.nan, math.inf, -math.inf, -1.0, 253_402_300_800.0, 1e300, "12.5", None, True])
def test_a_time_is_a_number_of_seconds_until_the_year_9999(time):
    assert is_refused(replaced(SAMPLES[SessionEnded], since=time))
    assert is_refused(replaced(SAMPLES[Heartbeat], since=time))
    assert is_refused(replaced(SAMPLES[Register], takeover_at=time))
    assert is_refused(replaced(SAMPLES[Elsewhere], at=time))
    assert is_refused(replaced(SAMPLES[Registered], since=time))
    assert is_refused(replaced(SAMPLES[Batch], entries=[fields_of(ENTRY) | {"taken_at": time}]))
    assert is_refused(replaced(SAMPLES[TableChange], records=[fields_of(RECORD) | {"since": time}]))
    assert is_refused(replaced(SAMPLES[Found], record=fields_of(RECORD) | {"since": time}))


@pytest.mark.parametrize(
    "name",
    [
        *("", "x" * 33, "_bob", ".bob", "-bob", "a/b", "a@b", "b ob", "bob ", " bob"),
        *("bob\n", "bob\r\n", "\nbob", "bob\0", "b\x1bb", "a\u202eb"),
        *("böb", "\N{KELVIN SIGN}elvin", "bob\N{ARABIC-INDIC DIGIT ONE}"),
        *(b"bob", 7, None),
    ],
)
def test_invalid_names_are_refused(name):
    for sample, field in [
        *((Register, "name"), (Find, "name"), (Save, "recipient"), (Batch, "recipient")),
        *((CreateRoom, "name"), (JoinRoom, "name")),
    ]:
        assert is_refused(replaced(SAMPLES[sample], **{field: name}))
    assert is_refused(replaced(SAMPLES[DirectMessage], sender=name))
    assert is_refused(replaced(SAMPLES[DirectMessage], recipient=name))
    assert is_refused(replaced(SAMPLES[Batch], entries=[fields_of(ENTRY) | {"sender": name}]))
    assert is_refused(replaced(SAMPLES[Batch], senders=[(name, fields_of(CREDENTIALS))]))
    assert is_refused(replaced(SAMPLES[TableChange], records=[fields_of(RECORD) | {"name": name}]))
    assert is_refused(replaced(SAMPLES[Found], record=fields_of(RECORD) | {"name": name}))
    assert is_refused(replaced(SAMPLES[Batch], rooms=[(ROOM.id, name)]))
    assert is_refused(replaced(SAMPLES[RoomChanged], room=fields_of(ROOM) | {"name": name}))
    assert is_refused(replaced(SAMPLES[RoomList], rooms=[fields_of(ROOM) | {"name": name}]))
    assert is_refused(replaced(SAMPLES[MemberList], names=["alice", name]))


@pytest.mark.parametrize(
    "wrong",
    [
        *("#", "#" + "0" * 31, "#" + "0" * 33, "0" * 32, "#" + "A" * 32, "#" + "g" * 32, "#" + "0" * 32 + "\n"),
        *("\n", "lunch", "bob", b"#" + b"0" * 32, 7, None),
    ],
)
def test_the_id_of_a_room_is_a_sign_and_32_hexadecimal_digits_or_nothing(wrong):
    requests = [(SAMPLES[message_class], "room") for message_class in (GroupPost, LeaveRoom, ListMembers, GetEpoch)]
    for id_ in (ROOM.id, ROOM.id.replace("#", "!"), EVERYONE):
        assert all(decode_untrusted(replaced(request, **{field: id_})).room == id_ for request, field in requests)
    assert all(is_refused(replaced(request, **{field: wrong})) for request, field in requests)
    assert is_refused(replaced(SAMPLES[Batch], rooms=[(wrong, "lunch")]))
    assert is_refused(replaced(SAMPLES[RoomChanged], room=fields_of(ROOM) | {"id": wrong}))


@pytest.mark.parametrize("name", ["a", "7", "Bob", "x" * 32, "a_.-", "0-0"])
def test_valid_names_are_accepted(name):
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
    assert is_refused(replaced(SAMPLES[Found], record=fields_of(RECORD) | {"host": host}))


@pytest.mark.parametrize("port", [0, -1, 65536, 2**40, "80", 80.5])
def test_a_port_in_the_table_is_valid(port):
    assert is_refused(replaced(SAMPLES[TableChange], records=[fields_of(RECORD) | {"port": port}]))
    assert is_refused(replaced(SAMPLES[Found], record=fields_of(RECORD) | {"port": port}))


@pytest.mark.parametrize("text", ["", "x" * (MAX_TEXT + 1), "ä" * (MAX_TEXT // 2) + "x", b"hi", None])
def test_a_text_has_1_byte_to_16_kib(text):
    assert is_refused(replaced(SAMPLES[DirectMessage], text=text))


@pytest.mark.parametrize("body", [bytes(MAX_EPOCH + 1), bytes(2 * MAX_EPOCH), "hi", None, 7, [b"hi"]], ids=in_short)
def test_a_body_has_as_many_bytes_as_the_longest_sealed_text(body):
    assert is_refused(replaced(SAMPLES[Save], body=body))
    assert is_refused(replaced(SAMPLES[GroupPost], body=body))
    assert is_refused(replaced(SAMPLES[BeginEpoch], epoch=body))
    assert is_refused(replaced(SAMPLES[Batch], entries=[fields_of(ENTRY) | {"body": body}]))
    if isinstance(body, bytes):
        assert is_refused(replaced(SAMPLES[GroupPost], body=bytes(MAX_BODY + 1)))


@pytest.mark.parametrize("receipt", [bytes(97), bytes(1000), "x" * 96, None, 7], ids=in_short)
def test_a_receipt_has_no_more_than_96_bytes(receipt):
    assert is_refused(replaced(SAMPLES[Delivered], receipt=receipt))
    assert is_refused(replaced(SAMPLES[Taken], receipts=[b"", receipt]))


@pytest.mark.parametrize("count", [0, -1, MAX_BATCH + 1, 1.0, True, "1", None])
def test_a_batch_is_taken_up_to_one_of_its_entries(count):
    assert is_refused(replaced(SAMPLES[Taken], count=count))


def test_up_to_256_keys_can_be_blocked():
    longest = attrs.evolve(SAMPLES[Register], blocked=(bytes(32),) * 256)
    assert decode_untrusted(encode(longest)) == longest
    assert MAX_PLAINTEXT < len(encode(longest)) < 10_000, "it goes in parts"
    assert is_refused(replaced(SAMPLES[Register], blocked=[bytes(32)] * 257))
    for wrong in (bytes(31), bytes(33), "x" * 32, None, 7):
        assert is_refused(replaced(SAMPLES[Register], blocked=[wrong]))


def test_a_batch_has_1_to_64_entries_and_10_receipts_and_a_page_up_to_64_rows():
    entry, sender, record = fields_of(ENTRY), ("alice", fields_of(CREDENTIALS)), fields_of(RECORD)
    assert len(decode_untrusted(replaced(SAMPLES[Batch], entries=[entry] * 64)).entries) == 64
    assert is_refused(replaced(SAMPLES[Batch], entries=[entry] * 65))
    assert is_refused(replaced(SAMPLES[Batch], entries=[]))
    assert len(decode_untrusted(replaced(SAMPLES[Batch], senders=[sender] * 64)).senders) == 64
    assert is_refused(replaced(SAMPLES[Batch], senders=[sender] * 65))
    assert decode_untrusted(replaced(SAMPLES[Batch], senders=[])).senders == ()
    assert len(decode_untrusted(replaced(SAMPLES[Taken], receipts=[bytes(96)] * 10)).receipts) == 10
    assert is_refused(replaced(SAMPLES[Taken], receipts=[b""] * 11))
    assert decode_untrusted(replaced(SAMPLES[Taken], receipts=[])).receipts == ()
    room = (ROOM.id, ROOM.name)
    assert len(decode_untrusted(replaced(SAMPLES[Batch], rooms=[room] * 64)).rooms) == 64
    assert is_refused(replaced(SAMPLES[Batch], rooms=[room] * 65))
    assert len(decode_untrusted(replaced(SAMPLES[TableChange], records=[record] * 64)).records) == 64
    assert is_refused(replaced(SAMPLES[TableChange], records=[record] * 65))


def test_a_list_has_7_rooms_or_32_members_at_most_and_begins_after_a_name():
    room = fields_of(ROOM)
    assert len(decode_untrusted(replaced(SAMPLES[RoomList], rooms=[room] * 7)).rooms) == 7
    assert is_refused(replaced(SAMPLES[RoomList], rooms=[room] * 8))
    assert decode_untrusted(replaced(SAMPLES[RoomList], rooms=[])).rooms == ()
    assert len(decode_untrusted(replaced(SAMPLES[MemberList], names=["bob"] * 32)).names) == 32
    assert is_refused(replaced(SAMPLES[MemberList], names=["bob"] * 33))
    for message_class in (ListRooms, ListMembers):
        assert decode_untrusted(replaced(SAMPLES[message_class], after="x" * 32)).after == "x" * 32
        assert all(is_refused(replaced(SAMPLES[message_class], after=wrong)) for wrong in ("x" * 33, b"x", 7))
    assert all(is_refused(replaced(SAMPLES[ListRooms], own=wrong)) for wrong in (0, 1, "yes", None))


@pytest.mark.parametrize("kind", ["x" * 17, 1, None, b"direct"])
def test_the_kind_of_an_entry_is_a_short_text(kind):
    assert is_refused(replaced(SAMPLES[Batch], entries=[fields_of(ENTRY) | {"kind": kind}]))


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33), "x" * 32, None, 7])
def test_the_key_of_an_entry_has_32_bytes(key):
    assert is_refused(replaced(SAMPLES[Batch], entries=[fields_of(ENTRY) | {"key": key}]))


@pytest.mark.parametrize("recipient", ["x" * 34, b"bob", None, 7])
def test_the_recipient_of_an_entry_is_a_text_no_longer_than_the_id_of_a_room(recipient):
    post = fields_of(ENTRY) | {"recipient": ROOM.id}
    assert decode_untrusted(replaced(SAMPLES[Batch], entries=[post])).entries[0].recipient == ROOM.id
    assert is_refused(replaced(SAMPLES[Batch], entries=[fields_of(ENTRY) | {"recipient": recipient}]))


def test_unknown_reasons_are_refused():
    for reason in Reason:
        assert decode_untrusted(replaced(SAMPLES[Refused], reason=reason.value)).reason is reason
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
def test_invalid_parts_are_refused(changes):
    assert is_refused(replaced(SAMPLES[Part], **changes))


@pytest.mark.parametrize("held", [-1, 2**32, 1.0])
def test_a_part_ack_has_bits_for_32_parts_at_most(held):
    assert is_refused(replaced(SAMPLES[PartAck], held=held))


def test_messages_cannot_be_changed():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        SAMPLES[Save].body = b"something else"
