"""The contract of a ServerStore: each test runs with every backend.

The backends, and how a store is opened again, are in backends.py.
"""

from contextlib import closing

import pytest
import trio

from tests.storage.backends import backends, first_schema, inline
from trio_chat.protocol.messages import Letters
from trio_chat.protocol.parts import OutgoingRequest
from trio_chat.protocol.records import MAX_BODY, Credentials, Letter, LetterKind, PublicKeys, Record
from trio_chat.protocol.wire import encode
from trio_chat.storage.database import open_database
from trio_chat.storage.interface import (
    BATCH_BYTES,
    BATCH_LETTERS,
    MAILBOX_BYTES,
    MAILBOX_LETTERS,
    HandedOver,
    Kept,
    OpenPost,
    Status,
    oldest_batch,
)
from trio_chat.storage.memory import MemoryServerStore
from trio_chat.storage.server_store import SERVER_SCHEMA, open_server_store

KIB = 1024
PEOPLE = ("alice", "bob", "carol")
ANY_BYTES = bytes(range(256))

BACKENDS = backends(MemoryServerStore, open_server_store)


@pytest.fixture(params=BACKENDS.values(), ids=BACKENDS.keys())
def open_store(request, tmp_path):
    """`async with open_store() as store`, again and again."""
    return request.param(tmp_path)


@pytest.fixture
async def store(open_store):
    """A store that knows alice, bob and carol."""
    async with open_store() as store:
        await save_name(store, *PEOPLE)
        yield store


async def save_name(store, *names) -> None:
    for name in names:
        await store.save_name(Record(name, "10.0.0.1", 1, True, 1.0))


def credentials(letter: bytes) -> Credentials:
    return Credentials(PublicKeys(letter * 32, letter.swapcase() * 32), letter * 64)


def direct(number: int, body: bytes = b"hi", sender: str = "alice") -> Letter:
    return Letter(LetterKind.DIRECT, number.to_bytes(16, "big"), sender, 100.0 + number, body)


def group(number: int, body: bytes = b"hi all", sender: str = "alice") -> Letter:
    return Letter(LetterKind.GROUP, number.to_bytes(16, "big"), sender, 100.0 + number, body)


def proof(letter: Letter) -> bytes:
    """What a recipient returns for a letter: different bytes for each, and no text."""
    return b"\xff\0" + letter.id[::-1]


def taken(*letters: Letter) -> list[HandedOver]:
    """Hand these over as read."""
    return [HandedOver(letter, proof(letter)) for letter in letters]


def not_opened(*letters: Letter) -> list[HandedOver]:
    """Hand these over as unreadable."""
    return [HandedOver(letter, proof(letter), opened=False) for letter in letters]


def receipt_of(letter: Letter, reader: str) -> Letter:
    return Letter(LetterKind.RECEIPT, letter.id, reader, letter.sent_at, proof(letter))


def unreadable_of(letter: Letter, reader: str) -> Letter:
    return Letter(LetterKind.UNREADABLE, letter.id, reader, letter.sent_at, proof(letter))


async def save_all(store, recipient, letters) -> list[Status]:
    """Save many at once, in any order."""
    statuses = []

    async def save(letter):
        statuses.append((await store.save(recipient, letter)).status)

    async with trio.open_nursery() as nursery:
        for letter in letters:
            nursery.start_soon(save, letter)
    return statuses


async def fill(store, name, bodies=(b"hi",) * MAILBOX_LETTERS, sender="alice") -> None:
    """Fill the mailbox of a name, by default completely."""
    letters = [direct(10_000 + number, body, sender) for number, body in enumerate(bodies)]
    assert set(await save_all(store, name, letters)) == {Status.NEW}


async def put_group(store, number, *names) -> Letter:
    """A group letter whose fan-out has reached nobody of these."""
    await store.post(group(number), names)
    await store.finish_post(group(number), names)
    return group(number)


async def take_all(store, name) -> list[Letter]:
    """Hand over everything, batch by batch, as a server does."""
    found: list[Letter] = []
    while batch := await store.waiting(name):
        await store.acknowledge(name, taken(*batch), ())
        found += batch
    return found


# --- names ---


async def test_a_new_store_is_empty(open_store):
    async with open_store() as store:
        assert await store.load() == ([], [], [])


async def test_names_are_remembered_as_offline_as_they_were_enrolled_last(open_store):
    async with open_store() as store:
        await store.save_name(Record("bob", "10.0.0.1", 1, True, 1.0))
        await store.save_name(Record("alice", "::1", 2, True, 2.0))
        await store.save_name(Record("Bob", "10.0.0.3", 3, True, 3.0))
    async with open_store() as store:
        records, waiting, posts = await store.load()
        assert {record.name: record for record in records} == {
            "alice": Record("alice", "::1", 2, False, 2.0),
            "Bob": Record("Bob", "10.0.0.3", 3, False, 3.0),
        }
        assert (waiting, posts) == ([], [])


async def test_credentials_are_remembered_as_they_were_enrolled_last(open_store):
    async with open_store() as store:
        for name, own in [("alice", b"a"), ("bob", b"b"), ("carol", None), ("dave", b"d")]:
            await store.save_name(Record(name, "10.0.0.1", 1, True, 1.0, own and credentials(own)))
        await store.save_name(Record("BOB", "10.0.0.1", 1, True, 2.0, credentials(b"c")))
        await store.save_name(Record("Dave", "10.0.0.1", 1, True, 2.0))
    async with open_store() as store:
        records, _, _ = await store.load()
        assert {record.name: record.credentials for record in records} == {
            "alice": credentials(b"a"),
            "BOB": credentials(b"c"),
            "carol": None,
            "Dave": None,
        }


async def test_a_forgotten_name_loses_its_credentials_and_nothing_else(open_store):
    async with open_store() as store:
        await save_name(store, "alice", "carol")
        for name in ("Bob", "dave"):
            await store.save_name(Record(name, "10.0.0.3", 3, True, 3.0, credentials(b"b")))
        await store.save("bob", direct(1))
        assert await store.forget("bOB") is True
    async with open_store() as store:
        records, waiting, _ = await store.load()
        assert Record("Bob", "10.0.0.3", 3, False, 3.0) in records
        assert Record("dave", "10.0.0.3", 3, False, 3.0, credentials(b"b")) in records, "the others keep theirs"
        assert waiting == ["bob"]
        assert await store.save_name(Record("bob", "10.0.0.4", 4, True, 4.0, credentials(b"x"))) == 1
        assert await store.waiting("bob") == [direct(1)]
    async with open_store() as store:
        records, _, _ = await store.load()
        assert Record("bob", "10.0.0.4", 4, False, 4.0, credentials(b"x")) in records


async def test_only_a_known_name_can_be_forgotten(store):
    before = await store.load()
    assert await store.forget("mallory") is False
    assert await store.load() == before, "the name has not been added"
    assert await store.forget("alice") is True, "even without credentials"
    assert await store.forget("alice") is True


async def test_enrolling_returns_the_number_of_waiting_letters(store):
    bob = Record("BOB", "10.0.0.1", 1, True, 1.0)
    assert await store.save_name(bob) == 0
    await store.save("bob", direct(1))
    await put_group(store, 2, "bob")
    await store.post(group(3), ["bob", "carol"])
    assert await store.save_name(bob) == 3
    await store.finish_post(group(3), ["carol"])
    assert await store.save_name(bob) == 2


async def test_enrolling_does_not_count_receipts(store):
    await store.save("bob", direct(1))
    await store.save("bob", direct(2))
    await store.acknowledge("bob", taken(direct(1)) + not_opened(direct(2)), ())
    assert await store.waiting("alice") == [receipt_of(direct(1), "bob"), unreadable_of(direct(2), "bob")]
    assert await store.save_name(Record("alice", "10.0.0.1", 1, True, 1.0)) == 0


async def test_names_are_compared_without_case(store):
    await store.save("BOB", direct(1, sender="Alice"))
    assert (await store.save("bob", direct(1, sender="ALICE"))).status is Status.SAVED
    await store.post(group(2), ["Bob"])
    assert await store.save_name(Record("bOb", "10.0.0.1", 1, True, 1.0)) == 2
    await store.finish_post(group(2), ["BOB"])
    assert await store.waiting("bob") == [direct(1, sender="Alice"), group(2)]
    assert list(await store.acknowledge("boB", taken(direct(1, sender="alice")), ())) == ["alice"]
    assert await store.waiting("ALICE") == [receipt_of(direct(1), "bOb")], "the reader's name as enrolled last"


# --- letters ---


async def test_letters_come_in_the_order_in_which_they_were_saved(store):
    saved = [direct(7), direct(3, sender="carol"), direct(5), direct(1, sender="carol")]
    for letter in saved:
        assert await store.save("bob", letter) == Kept(Status.NEW, letter.sent_at)
    assert await store.waiting("bob") == saved
    assert await store.waiting("bob") == saved, "until they are acknowledged"
    await store.acknowledge("bob", taken(*saved[:2]), ())
    assert await store.waiting("bob") == saved[2:]
    assert await store.waiting("carol") == [receipt_of(saved[1], "bob")]


async def test_calls_take_effect_in_the_order_in_which_they_are_made(store):
    """A server enrols a name, saves a letter to it and goes on, without waiting for the first to be done."""
    letters = [direct(number) for number in range(BATCH_LETTERS)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(save_name, store, "dave")
        for letter in letters:
            await trio.lowlevel.checkpoint()
            nursery.start_soon(store.save, "dave", letter)
    assert await store.waiting("dave") == letters


async def test_letters_survive(open_store):
    async with open_store() as store:
        await save_name(store, *PEOPLE)
        await store.save("bob", direct(1, ANY_BYTES))
        await store.save("bob", direct(2))
        await store.acknowledge("bob", taken(direct(2)), ())
        await put_group(store, 3, "bob", "carol")
    async with open_store() as store:
        _, waiting, _ = await store.load()
        assert {name.lower() for name in waiting} == {"alice", "bob", "carol"}
        assert await store.waiting("bob") == [direct(1, ANY_BYTES), group(3)]
        assert await store.waiting("alice") == [receipt_of(direct(2), "bob")]
        await store.save("bob", direct(4))
        assert (await store.waiting("bob"))[-1] == direct(4), "and what is newer comes after them"


async def test_a_letter_is_taken_once_and_its_answer_is_repeated(store):
    assert await store.save("bob", direct(1)) == Kept(Status.NEW, 101.0)
    again = Letter(LetterKind.DIRECT, direct(1).id, "alice", 999.0, b"hi")
    assert await store.save("bob", again) == Kept(Status.SAVED, 101.0), "with the time of the first copy"
    assert await store.waiting("bob") == [direct(1)]
    await take_all(store, "bob")
    assert await store.save("bob", again) == Kept(Status.SAVED, 101.0)
    assert await store.waiting("bob") == []


async def test_letters_are_identified_by_kind_sender_and_id(store):
    for letter in (direct(1), direct(2), direct(1, sender="carol")):
        assert (await store.save("bob", letter)).status is Status.NEW
    await put_group(store, 1, "bob")
    assert await store.waiting("bob") == [direct(1), direct(2), direct(1, sender="carol"), group(1)]
    await store.acknowledge("bob", taken(direct(1)), ())
    assert await store.waiting("bob") == [direct(2), direct(1, sender="carol"), group(1)]


async def test_acknowledging_an_unknown_letter_does_nothing(store):
    await store.save("bob", direct(1))
    assert list(await store.acknowledge("bob", taken(direct(2), group(1), receipt_of(direct(1), "carol")), ())) == []
    assert list(await store.acknowledge("carol", taken(direct(1)), ())) == []
    assert await store.waiting("bob") == [direct(1)]
    assert await store.waiting("alice") == []


# --- receipts ---


async def test_each_letter_that_waited_causes_one_receipt(store):
    await store.save("bob", direct(1))
    await store.save("bob", direct(2))
    await store.save("bob", direct(3, sender="carol"))
    letters = await store.waiting("bob")
    assert sorted(set(await store.acknowledge("bob", taken(*letters), ()))) == ["alice", "carol"]
    assert list(await store.acknowledge("bob", taken(*letters), ())) == [], "acknowledged once more"
    assert await store.waiting("alice") == [receipt_of(direct(1), "bob"), receipt_of(direct(2), "bob")]
    assert await store.waiting("carol") == [receipt_of(direct(3), "bob")]


async def test_a_letter_that_could_not_be_opened_causes_a_receipt_that_says_so(open_store):
    async with open_store() as store:
        await save_name(store, *PEOPLE)
        for number in (1, 2, 3):
            await store.save("bob", direct(number))
        handed = taken(direct(1)) + not_opened(direct(2)) + taken(direct(3))
        assert await store.acknowledge("bob", handed, ()) == ["alice", "alice", "alice"]
    async with open_store() as store:
        assert await store.waiting("bob") == []
        assert await take_all(store, "alice") == [
            receipt_of(direct(1), "bob"),
            unreadable_of(direct(2), "bob"),
            receipt_of(direct(3), "bob"),
        ]


async def test_a_receipt_is_passed_on_unchanged(open_store):
    given = [b"", b"\0", ANY_BYTES[:96]]
    async with open_store() as store:
        await save_name(store, *PEOPLE)
        for number, receipt in enumerate(given):
            await store.save("bob", direct(number))
            await store.acknowledge("bob", [HandedOver(direct(number), receipt)], ())
    async with open_store() as store:
        assert [letter.body for letter in await store.waiting("alice")] == given


async def test_a_receipt_causes_no_receipt(store):
    await store.save("bob", direct(1))
    await store.save("bob", direct(2))
    await store.acknowledge("bob", taken(direct(1)) + not_opened(direct(2)), ())
    receipts = [receipt_of(direct(1), "bob"), unreadable_of(direct(2), "bob")]
    assert list(await store.acknowledge("alice", not_opened(*receipts), {one.key for one in receipts})) == []
    assert await store.waiting("bob") == await store.waiting("alice") == []


async def test_a_group_letter_causes_no_receipt(store):
    await put_group(store, 1, "bob")
    await put_group(store, 2, "bob")
    assert list(await store.acknowledge("bob", taken(group(1)) + not_opened(group(2)), ())) == []
    assert await store.waiting("alice") == []


async def test_a_relayed_letter_causes_no_receipt_and_is_answered_delivered_from_then_on(open_store):
    async with open_store() as store:
        await save_name(store, *PEOPLE)
        for number in (1, 2, 3):
            await store.save("bob", direct(number))
        handed = taken(direct(1), direct(2)) + not_opened(direct(3))
        assert list(await store.acknowledge("bob", handed, {direct(1).key, direct(3).key})) == ["alice"]
        assert await store.waiting("alice") == [receipt_of(direct(2), "bob")]
        assert await store.save("bob", direct(1)) == Kept(Status.DELIVERED, 101.0, proof(direct(1)))
    async with open_store() as store:
        again = Letter(LetterKind.DIRECT, direct(1).id, "ALICE", 999.0, b"another seal")
        assert await store.save("bob", again) == Kept(Status.DELIVERED, 101.0, proof(direct(1)))
        assert await store.save("bob", direct(2)) == Kept(Status.SAVED, 102.0), "its receipt came as a letter"
        assert await store.save("bob", direct(3)) == Kept(Status.UNREADABLE, 103.0, proof(direct(3)))
        assert await store.waiting("bob") == []


async def test_a_letter_that_was_handed_over_before_is_not_relayed(store):
    await store.save("bob", direct(1))
    await store.acknowledge("bob", taken(direct(1)), ())
    assert list(await store.acknowledge("bob", taken(direct(1)), {direct(1).key})) == []
    assert await store.save("bob", direct(1)) == Kept(Status.SAVED, 101.0), "there is a receipt, so it was not relayed"


async def test_a_receipt_is_queued_behind_earlier_letters(store):
    await store.save("bob", direct(1))
    await store.save("alice", direct(2, sender="bob"))
    await take_all(store, "bob")
    await store.save("alice", direct(3, sender="bob"))
    assert await store.waiting("alice") == [
        direct(2, sender="bob"),
        receipt_of(direct(1), "bob"),
        direct(3, sender="bob"),
    ]


# --- the limits of a mailbox ---


async def test_a_mailbox_holds_1000_letters(store):
    await fill(store, "bob")
    assert await store.save("bob", direct(1)) == Kept(Status.FULL, 101.0)
    assert await store.save("carol", direct(2)) == Kept(Status.NEW, 102.0), "others have room"
    first = (await store.waiting("bob"))[0]
    await store.acknowledge("bob", taken(first), ())
    assert await store.save("bob", direct(1)) == Kept(Status.NEW, 101.0), "a refusal is not remembered"
    assert await store.save("bob", direct(3)) == Kept(Status.FULL, 103.0)
    assert len(await take_all(store, "bob")) == MAILBOX_LETTERS


async def test_a_mailbox_holds_1_mib_of_bodies(store):
    await fill(store, "bob", [b"\xff" * 16 * KIB] * (MAILBOX_BYTES // (16 * KIB) - 1))
    assert (await store.save("bob", direct(1, b"x" * (16 * KIB - 1)))).status is Status.NEW
    assert (await store.save("bob", direct(2, b"xx"))).status is Status.FULL
    assert (await store.save("bob", direct(3, b"x"))).status is Status.NEW
    assert (await store.save("bob", direct(4, b"x"))).status is Status.FULL
    await store.acknowledge("bob", taken(direct(3, b"x")), ())
    assert (await store.save("bob", direct(4, b"x"))).status is Status.NEW


async def test_a_full_mailbox_still_repeats_its_answers(store):
    await store.save("bob", direct(1))
    await fill(store, "bob", [b"hi"] * (MAILBOX_LETTERS - 1))
    assert await store.save("bob", direct(1)) == Kept(Status.SAVED, 101.0)


async def test_the_limits_survive(open_store):
    async with open_store() as store:
        await save_name(store, *PEOPLE)
        await fill(store, "bob")
    async with open_store() as store:
        assert (await store.save("bob", direct(1))).status is Status.FULL


async def test_receipts_do_not_count(store):
    await fill(store, "alice", [b"hi"] * (MAILBOX_LETTERS - 1), sender="carol")
    await save_all(store, "bob", [direct(number) for number in range(5)])
    await take_all(store, "bob")
    assert (await store.save("alice", direct(1, sender="bob"))).status is Status.NEW, "there is still room for one"
    assert (await store.save("alice", direct(2, sender="bob"))).status is Status.FULL
    await store.save("bob", direct(6))
    await take_all(store, "bob")
    kinds = [letter.kind for letter in await take_all(store, "alice")]
    assert kinds.count(LetterKind.RECEIPT) == 6, "they are put into a full mailbox, too"
    await fill(store, "alice", sender="bob")


@pytest.mark.parametrize("opened", [True, False])
async def test_the_bytes_of_receipts_do_not_count(store, opened):
    await fill(store, "alice", [b"x" * 16 * KIB] * (MAILBOX_BYTES // (16 * KIB) - 1), sender="carol")
    await save_all(store, "bob", [direct(number) for number in range(5)])
    handed = [HandedOver(direct(number), ANY_BYTES[:96], opened) for number in range(5)]
    await store.acknowledge("bob", handed[:4], ())
    assert (await store.save("alice", direct(1, b"x" * 16 * KIB, sender="bob"))).status is Status.NEW
    await store.acknowledge("bob", handed[4:], ())
    assert len(await take_all(store, "alice")) == MAILBOX_BYTES // (16 * KIB) + 5, "they are put into a full mailbox"
    await fill(store, "alice", [b"x" * 16 * KIB] * (MAILBOX_BYTES // (16 * KIB)), sender="bob")
    assert (await store.save("alice", direct(2, b"x", sender="bob"))).status is Status.FULL, "taken ones do not either"


# --- group posts ---


async def test_a_post_is_open_until_it_is_finished(open_store):
    async with open_store() as store:
        await save_name(store, *PEOPLE)
        assert await store.post(group(1), ["bob", "carol"]) == Kept(Status.NEW, 101.0)
        await store.post(group(2), ["alice"])
        assert await store.waiting("bob") == []
    async with open_store() as store:
        _, waiting, posts = await store.load()
        assert waiting == []
        assert posts == [
            OpenPost(group(1), frozenset({"bob", "carol"})),
            OpenPost(group(2), frozenset({"alice"})),
        ]
        await store.finish_post(group(1), {"carol"})
    async with open_store() as store:
        _, waiting, posts = await store.load()
        assert waiting == ["carol"]
        assert posts == [OpenPost(group(2), frozenset({"alice"}))]
        assert await store.waiting("bob") == [], "bob had it from the fan-out"
        assert await store.waiting("carol") == [group(1)]


async def test_a_post_that_everyone_got_leaves_nothing(store):
    await store.post(group(1), ["bob", "carol"])
    await store.finish_post(group(1), set())
    assert (await store.load())[1:] == ([], [])


async def test_a_post_for_nobody(store):
    assert (await store.post(group(1), [])).status is Status.NEW
    await store.finish_post(group(1), [])
    assert (await store.post(group(1), [])).status is Status.SAVED


async def test_the_position_of_a_post_is_that_of_its_commit(open_store):
    async with open_store() as store:
        await save_name(store, *PEOPLE)
        await store.save("bob", direct(1))
        await store.post(group(2), ["bob"])
        await store.save("bob", direct(3))
        await store.post(group(4), ["bob"])
        await store.finish_post(group(4), ["bob"])
        assert await store.waiting("bob") == [direct(1), direct(3), group(4)]
    async with open_store() as store:
        await store.save("bob", direct(5))
        await store.finish_post(group(2), ["bob"])
        assert await store.waiting("bob") == [direct(1), group(2), direct(3), group(4), direct(5)]


async def test_a_post_is_taken_once(store):
    await store.post(group(1), ["bob"])
    again = Letter(LetterKind.GROUP, group(1).id, "ALICE", 999.0, b"hi all")
    assert await store.post(again, ["bob", "carol"]) == Kept(Status.SAVED, 101.0), "while it is open"
    await store.finish_post(group(1), ["bob"])
    assert await store.post(again, ["bob", "carol"]) == Kept(Status.SAVED, 101.0), "and afterwards"
    assert (await store.load())[2] == []
    assert await take_all(store, "bob") == [group(1)]
    assert await take_all(store, "carol") == []


async def test_a_full_mailbox_misses_posts_and_its_owner_gets_their_number_once(open_store):
    async with open_store() as store:
        await save_name(store, *PEOPLE)
        await fill(store, "bob")
        for number in (1, 2):
            await put_group(store, number, "bob", "carol")
    async with open_store() as store:
        assert await store.waiting("carol") == [group(1), group(2)]
        *letters, missed = await take_all(store, "bob")
        assert len(letters) == MAILBOX_LETTERS
        assert (missed.kind, missed.count, missed.sender) == (LetterKind.MISSED, 2, "bob")
        assert await store.waiting("bob") == []


async def test_the_number_of_missed_posts_is_not_counted_as_a_letter(store):
    await fill(store, "bob")
    await put_group(store, 1, "bob")
    assert await store.save_name(Record("bob", "10.0.0.1", 1, True, 1.0)) == MAILBOX_LETTERS
    letters = [letter for letter in await take_all(store, "bob") if letter.kind is not LetterKind.MISSED]
    receipts = await take_all(store, "alice")
    assert {receipt.id for receipt in receipts} == {letter.id for letter in letters}


async def test_a_name_with_only_a_number_of_missed_posts_has_something_waiting(open_store):
    async with open_store() as store:
        await save_name(store, *PEOPLE)
        await fill(store, "bob")
        await put_group(store, 1, "bob")
        while (batch := await store.waiting("bob"))[0].kind is not LetterKind.MISSED:
            letters = [letter for letter in batch if letter.kind is not LetterKind.MISSED]
            await store.acknowledge("bob", taken(*letters), ())
    async with open_store() as store:
        assert "bob" in (await store.load())[1]
        assert [letter.count for letter in await take_all(store, "bob")] == [1]
    async with open_store() as store:
        assert "bob" not in (await store.load())[1]


async def test_posts_missed_while_the_number_is_delivered_are_in_the_next_one(store):
    await fill(store, "bob", [b"x" * 16 * KIB] * (MAILBOX_BYTES // (16 * KIB)))
    await put_group(store, 1, "bob")
    await take_letters_only(store, "bob")
    [count] = await store.waiting("bob")
    await fill_again(store, "bob")
    await put_group(store, 2, "bob")
    await put_group(store, 3, "bob")
    await store.acknowledge("bob", taken(count), ())
    *_, missed = await take_all(store, "bob")
    assert missed.count == 2
    assert missed.key != count.key, "or the client would take it for the one before"


async def take_letters_only(store, name) -> None:
    while letters := [one for one in await store.waiting(name) if one.kind is not LetterKind.MISSED]:
        await store.acknowledge(name, taken(*letters), ())


async def fill_again(store, name) -> None:
    statuses = await save_all(store, name, [direct(20_000 + number) for number in range(MAILBOX_LETTERS)])
    assert set(statuses) == {Status.NEW}


# --- batches ---


async def test_a_batch_has_10_letters_at_most(store):
    for number in range(BATCH_LETTERS * 2 + 1):
        await store.save("bob", direct(number))
    assert BATCH_LETTERS == 10
    sizes = []
    while batch := await store.waiting("bob"):
        sizes.append(len(batch))
        await store.acknowledge("bob", taken(*batch), ())
    assert sizes == [BATCH_LETTERS, BATCH_LETTERS, 1]


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [
        ([8 * KIB, 8 * KIB, 1], [2, 1]),
        ([8 * KIB, 8 * KIB + 1], [1, 1]),
        ([16 * KIB, 16 * KIB], [1, 1]),
        ([1, 16 * KIB, 1], [1, 1, 1]),
        ([10 * KIB, 10 * KIB, 5 * KIB, 1 * KIB, 1 * KIB], [1, 3, 1]),
    ],
)
async def test_a_batch_has_16_kib_of_bodies_at_most(store, sizes, batches):
    saved = [direct(number, b"\xff" * size) for number, size in enumerate(sizes)]
    for letter in saved:
        await store.save("bob", letter)
    found = []
    while batch := await store.waiting("bob"):
        assert len(batch) == 1 or sum(len(letter.body) for letter in batch) <= BATCH_BYTES
        found.append(batch)
        await store.acknowledge("bob", taken(*batch), ())
    assert [len(batch) for batch in found] == batches
    assert [letter for batch in found for letter in batch] == saved


@pytest.mark.parametrize(("letters", "batches"), [(9, [10]), (10, [10, 1]), (11, [10, 2])])
async def test_the_number_of_missed_posts_comes_after_the_last_letter_within_the_limit(store, letters, batches):
    await fill(store, "bob")
    await put_group(store, 1, "bob")
    too_many = MAILBOX_LETTERS - letters
    while too_many:
        oldest = (await store.waiting("bob"))[:too_many]
        await store.acknowledge("bob", taken(*oldest), ())
        too_many -= len(oldest)
    found = []
    while batch := await store.waiting("bob"):
        found.append([letter.kind for letter in batch])
        await store.acknowledge("bob", taken(*batch), ())
    assert [len(batch) for batch in found] == batches
    assert [kind for batch in found for kind in batch] == [LetterKind.DIRECT] * letters + [LetterKind.MISSED]


async def test_the_number_of_missed_posts_does_not_come_between_large_letters(store):
    letters = [direct(number, b"x" * 16 * KIB) for number in range(MAILBOX_BYTES // (16 * KIB))]
    for letter in letters:
        await store.save("bob", letter)
    await put_group(store, 1, "bob")
    for letter in letters[:-1]:
        assert await store.waiting("bob") == [letter]
        await store.acknowledge("bob", taken(letter), ())
    assert [letter.kind for letter in await store.waiting("bob")] == [LetterKind.DIRECT, LetterKind.MISSED]


async def test_the_largest_batch_can_be_sent(store):
    name = "b" * 32
    await save_name(store, name)
    body = b"x" * (BATCH_BYTES // BATCH_LETTERS)
    for number in range(BATCH_LETTERS):
        await store.save(name, direct(number, body, sender="a" * 32))
    batch = await store.waiting(name)
    assert len(batch) == BATCH_LETTERS
    OutgoingRequest(Letters.kind, bytes(16), encode(Letters(bytes(16), name, tuple(batch))))


async def test_the_largest_letter_can_be_sent(store):
    await store.save("bob", direct(1, b"x" * MAX_BODY))
    await store.save("bob", direct(2, b""))
    batch = await store.waiting("bob")
    assert batch == [direct(1, b"x" * MAX_BODY)], "alone, because it is larger than a batch"
    OutgoingRequest(Letters.kind, bytes(16), encode(Letters(bytes(16), "bob", tuple(batch))))


def test_only_the_oldest_letters_are_read_and_they_go_together():
    def endless():
        for number in range(12):
            read.append(number)
            yield direct(number, b"x")

    read = []
    assert oldest_batch([]) == []
    assert oldest_batch(endless()) == [direct(number, b"x") for number in range(10)]
    assert len(read) <= 11


# --- old answers ---


async def test_answers_are_forgotten_by_the_time_at_which_they_were_taken(open_store):
    async with open_store() as store:
        await save_name(store, *PEOPLE)
        for number in (1, 2, 3):
            await store.save("bob", direct(number))
            await store.post(group(number), [])
            await store.finish_post(group(number), [])
        await take_all(store, "bob")
        await store.forget_answers(102.0)
    async with open_store() as store:
        for number, status in [(1, Status.NEW), (2, Status.SAVED), (3, Status.SAVED)]:
            assert (await store.save("bob", direct(number))).status is status
            assert (await store.post(group(number), [])).status is status


async def test_forgetting_an_answer_keeps_the_letter(store):
    await store.save("bob", direct(1))
    await store.post(group(2), ["bob"])
    await store.forget_answers(1000.0)
    await store.save("bob", direct(1))
    assert await store.waiting("bob") == [direct(1)], "a letter that waits is not stored twice"
    await store.finish_post(group(2), ["bob"])
    assert await take_all(store, "bob") == [direct(1), group(2)]
    assert await store.waiting("alice") == [receipt_of(direct(1), "bob")]


# --- files of earlier versions ---


async def test_a_file_of_the_first_schema_can_still_be_used(tmp_path):
    path, text = tmp_path / "store.db", "ä\0\x1b[31m\n 🙂"
    old, size = text.encode(), len(text.encode())
    with closing(open_database(path, first_schema(SERVER_SCHEMA))) as database:
        database.executemany(
            "INSERT INTO names VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [("alice", "::1", 2, 2.0, 0, 0, 0, None), ("Bob", "10.0.0.2", 3, 3.0, 2, size + 2, 4, group(9).id)],
        )
        database.executemany(
            "INSERT INTO letters VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                ("bob", 1, "direct", "alice", direct(1).id, 101.0, text),
                ("bob", 3, "group", "alice", group(3).id, 103.0, "42"),
                ("alice", 4, "receipt", "Bob", direct(4).id, 104.0, ""),
            ],
        )
        database.execute("INSERT INTO posts VALUES (?, ?, ?, ?, ?, ?)", (2, "alice", group(2).id, 102.0, text, "bob"))
        database.executemany(
            "INSERT INTO answers VALUES (?, ?, ?, ?, ?)",
            [
                ("direct", "alice", direct(1).id, "SAVED", 101.0),
                ("group", "alice", group(2).id, "SAVED", 102.0),
                ("direct", "alice", direct(5).id, "DELIVERED", 105.0),
            ],
        )
    async with open_server_store(path, inline) as store:
        records, waiting, posts = await store.load()
        assert records == [Record("alice", "::1", 2, False, 2.0), Record("Bob", "10.0.0.2", 3, False, 3.0)]
        assert sorted(waiting) == ["alice", "bob"]
        assert posts == [OpenPost(group(2, old), frozenset({"bob"}))]
        await store.finish_post(group(2, old), ["bob"])
        await store.save("bob", direct(6))
    async with open_server_store(path, inline) as store:
        missed = Letter(LetterKind.MISSED, group(9).id, "bob", 0.0, count=4)
        assert await store.save_name(Record("bob", "10.0.0.2", 3, True, 3.0, credentials(b"b"))) == 4
        letters = [direct(1, old), group(2, old), group(3, b"42"), direct(6)]
        assert await store.waiting("bob") == [*letters, missed]
        assert await store.waiting("alice") == [Letter(LetterKind.RECEIPT, direct(4).id, "Bob", 104.0)]
        assert await store.save("bob", direct(5)) == Kept(Status.DELIVERED, 105.0)
        assert await store.save("bob", direct(1)) == Kept(Status.SAVED, 101.0)
        await store.acknowledge("bob", not_opened(letters[0]) + taken(*letters[1:]), ())
        assert await store.waiting("bob") == [missed]
        await fill(store, "bob", [b"x" * 16 * KIB] * (MAILBOX_BYTES // (16 * KIB)))
        assert (await store.save("bob", direct(7, b"x"))).status is Status.FULL
    async with open_server_store(path, inline) as store:
        assert [record.credentials for record in (await store.load())[0]] == [None, credentials(b"b")]
        assert (await store.waiting("alice"))[1] == unreadable_of(direct(1), "bob")
