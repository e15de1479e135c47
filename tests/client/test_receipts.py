"""What a sender is told: what the recipient signed for the text that was sent, once, with the time of the own clock.

The server is played by the test (raw_server.py), which decides in which order its answer and the receipt come. Time is
virtual.
"""

import shutil
import sqlite3
from contextlib import closing

import pytest
import trio

from tests.client.raw_server import RawServer, credentials_of, open_client
from tests.stage import identity_of
from trio_chat.client.events import (
    Delivery,
    ForgedReceiptReceived,
    MessageNotDelivered,
    MessageNotOpened,
    ReceiptReceived,
    WrongReceiptReceived,
)
from trio_chat.crypto.receipts import NO_HASH, hash_text, sign_receipt
from trio_chat.errors import (
    ForgedReceipt,
    IdInUse,
    MailboxFull,
    NotOpened,
    ServerNotResponding,
    TooFast,
    UnknownRecipient,
    WrongReceipt,
)
from trio_chat.protocol.messages import Batch, DirectMessage, Save, Taken
from trio_chat.protocol.records import Entry, EntryKind, Reason
from trio_chat.storage.client_store import open_client_store
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.transport.ids import new_id

SERVERS_TIME = 1.7e9
"""The server's clock, far from those of the clients."""


@pytest.fixture
async def server(network, nursery):
    server = RawServer(network, rows=("bob", "mallory"))
    nursery.start_soon(server.listen)
    return server


@pytest.fixture
async def alice(network, server):
    async with open_client(network, "alice") as alice:
        yield alice


def signed(save, text="hi", reader="bob") -> bytes:
    """The receipt of the reader of a letter; with None for a text, that it could not be opened."""
    text_hash = NO_HASH if text is None else hash_text(text)
    return sign_receipt(identity_of(reader), id=save.id, sender="alice", text_hash=text_hash)


def about(save, kind=EntryKind.RECEIPT, body=b"", reader="bob") -> Entry:
    return Entry(1, kind, save.id, reader, identity_of(reader).public.signing, "alice", SERVERS_TIME, body)


class Sending:
    """One call of `send`, and what became of it: a Delivery or an exception."""

    outcome = None

    async def run(self, client, text="hi"):
        self.at = client.chat._context.clock()
        try:
            self.outcome = await client.chat.send("bob", text)
        except Exception as error:
            self.outcome = error


@pytest.fixture
async def sending(server, alice, nursery):
    """Alice sends "hi" to Bob, and waits for the answer of the server."""
    sending = Sending()
    nursery.start_soon(sending.run, alice)
    await trio.sleep(0.01)
    return sending


def the_save(server) -> Save:
    return server.of(Save)[0]


async def do(server, step) -> None:
    """One thing that the server does about the letter."""
    save = the_save(server)
    match step:
        case "saved":
            server.send(server.client, save.saved())
        case "delivered":
            server.send(server.client, save.delivered(signed(save)))
        case "entry":
            assert (await server.hand_over(about(save, body=signed(save)))).count == 1
        case "failed":
            assert (await server.hand_over(about(save, EntryKind.FAILED))).count == 1
    await trio.sleep(0.01)


# --- in any order, the user is told once ---


@pytest.mark.parametrize(
    "steps",
    [
        ("delivered", "entry"),
        ("entry", "delivered"),
        ("entry", "saved"),
        ("entry",),
        ("entry", "entry", "delivered"),
        ("delivered", "entry", "entry"),
    ],
    ids="-".join,
)
async def test_a_receipt_that_comes_during_send_is_its_result_and_no_event(
    server, alice, sending, steps, autojump_clock
):
    for step in steps:
        await do(server, step)
        assert sending.outcome == Delivery("relayed"), "at once"
    await trio.sleep(10)
    assert alice.shown == []
    assert alice.store.unshown() == []
    assert alice.store.sent(the_save(server).id) is None


async def test_what_is_saved_while_an_earlier_one_has_no_answer_is_not_overtaken(
    server, alice, sending, nursery, autojump_clock
):
    """That the earlier one was delivered says nothing about it. A crash test found that."""
    later = Sending()
    nursery.start_soon(later.run, alice, "later")
    await trio.sleep(0.01)
    _, save = server.of(Save)
    server.send(server.client, save.saved())
    await trio.sleep(0.01)
    await do(server, "delivered")
    assert (sending.outcome.how, later.outcome.how) == ("relayed", "saved")
    assert alice.store.is_at_server("bob", since=0.0)
    # The next one that is delivered has all of them before it.
    last = Sending()
    nursery.start_soon(last.run, alice, "last")
    await trio.sleep(0.01)
    save = server.of(Save)[-1]
    server.send(server.client, save.delivered(signed(save, "last")))
    await trio.sleep(0.01)
    assert last.outcome.how == "relayed"
    assert not alice.store.is_at_server("bob", since=0.0)


async def test_a_receipt_that_comes_later_is_an_event_with_the_time_of_our_clock(
    server, alice, sending, autojump_clock
):
    await do(server, "saved")
    assert sending.outcome == Delivery("saved", sending.at)
    assert alice.store.sent(the_save(server).id)
    await do(server, "entry")
    await do(server, "entry")
    assert alice.shown == [ReceiptReceived("bob", sending.at)]
    assert alice.store.sent(the_save(server).id) is None


async def test_a_receipt_that_was_shown_and_comes_again_while_a_copy_is_being_sent(
    network, server, nursery, autojump_clock
):
    """Seed 500968: it ended the program. The receipt was shown after the copy had been begun."""
    async with open_client(network, "alice", listening=False) as alice:
        sending = Sending()
        nursery.start_soon(sending.run, alice)
        await trio.sleep(0.01)
        await do(server, "saved")
        await do(server, "entry")
        copied = []

        async def send_copy():
            message = DirectMessage(the_save(server).id, "alice", "bob", "hi")
            copied.append(await alice.chat._letters.send(message, identity_of("bob").public, is_copy=True))

        nursery.start_soon(send_copy)
        await trio.sleep(0.01)
        nursery.start_soon(alice.show_events)
        await trio.sleep(0.01)
        assert alice.shown == [ReceiptReceived("bob", sending.at)]
        await do(server, "entry")
        assert copied == []
        server.send(server.client, server.of(Save)[-1].saved())
        await trio.sleep(1)
        assert copied == [Delivery("relayed")]
        assert alice.shown == [ReceiptReceived("bob", sending.at)]


async def test_a_send_that_got_no_answer_is_shown_as_received_when_the_receipt_comes(
    server, alice, sending, autojump_clock
):
    await trio.sleep(3)
    assert isinstance(sending.outcome, ServerNotResponding)
    await do(server, "entry")
    assert alice.shown == [ReceiptReceived("bob", sending.at)]


async def test_a_send_that_was_cancelled_is_shown_as_received_when_the_receipt_comes(server, alice, autojump_clock):
    with trio.move_on_after(0.1):
        await alice.chat.send("bob", "hi")
    await do(server, "entry")
    assert [type(event) for event in alice.shown] == [ReceiptReceived]


async def test_a_receipt_that_is_being_stored_when_the_answer_comes_is_told_once(
    network, server, nursery, autojump_clock
):
    class SlowStore(MemoryClientStore):
        async def keep(self, entries):
            entries = list(entries)
            for one in entries:
                self.saw(one.key, one.hash)
            await trio.sleep(5)
            self._unshown |= {one.key: one for one in entries}

    async with open_client(network, "alice", store=SlowStore()) as alice:
        sending = Sending()
        nursery.start_soon(sending.run, alice)
        await trio.sleep(0.01)
        save = the_save(server)
        assert await server.hand_over(about(save, body=signed(save))) is None
        await do(server, "delivered")
        assert sending.outcome == Delivery("relayed")
        await trio.sleep(10)
        assert alice.shown == []
        assert alice.store.unshown() == []


async def test_what_comes_about_other_letters_does_not_wait(server, alice, sending, nursery, autojump_clock):
    await do(server, "saved")
    nursery.start_soon(Sending().run, alice, "another")
    await trio.sleep(0.01)
    await do(server, "entry")
    assert alice.shown == [ReceiptReceived("bob", sending.at)]


# --- crashes ---


async def test_after_a_crash_before_any_answer_the_receipt_is_shown_with_the_right_time(
    network, server, tmp_path, autojump_clock
):
    async def inline(work):
        await trio.lowlevel.checkpoint()
        return work()

    for attempt in range(2):
        async with open_client_store(tmp_path / "store.db", inline, trio.current_time) as store:
            async with open_client(network, "alice", store=store) as alice:
                if attempt == 0:
                    at = trio.current_time()
                    with trio.move_on_after(0.1):
                        await alice.chat.send("bob", "hi")
                else:
                    await do(server, "entry")
                    assert alice.shown == [ReceiptReceived("bob", at)]
        await trio.sleep(29 * 24 * 3600)  # the server gives it up after 30 days


async def test_after_a_crash_between_the_receipt_and_the_result_the_receipt_is_shown(
    network, server, nursery, autojump_clock
):
    class Crash(MemoryClientStore):
        """A store whose program is killed as soon as it has stored a receipt."""

        scope = None

        async def keep(self, entries):
            await super().keep(entries)
            if self.scope:
                self.scope.cancel()
                await trio.lowlevel.checkpoint()

    store, sending = Crash(), Sending()
    with trio.CancelScope() as store.scope:
        async with open_client(network, "alice", store=store) as alice:
            nursery.start_soon(sending.run, alice)
            await trio.sleep(0.01)
            await do(server, "entry")
    store.scope = None
    assert len(store.unshown()) == 1
    await trio.sleep(1000)
    async with open_client(network, "alice", store=store) as alice:
        await trio.sleep(0.1)
        assert store.sent(the_save(server).id) is None, "the letter no longer waits for a receipt"
        await do(server, "entry")
        assert alice.shown == [ReceiptReceived("bob", sending.at)]


async def test_what_the_answer_has_told_is_on_the_disk_before_its_receipt_is_acknowledged(
    network, server, nursery, tmp_path, autojump_clock
):
    async def inline(work):
        await trio.lowlevel.checkpoint()
        return work()

    path, sending = tmp_path / "store.db", Sending()
    async with (
        open_client_store(path, inline, trio.current_time) as store,
        open_client(network, "alice", store=store) as alice,
    ):
        nursery.start_soon(sending.run, alice)
        await trio.sleep(0.01)
        await do(server, "delivered")
        assert sending.outcome == Delivery("relayed")
        save = the_save(server)
        server.send(server.client, Batch(new_id(), "alice", (about(save, body=signed(save)),)))
        await trio.sleep(0.01)
        assert server.of(Taken), "after which the server does not send it again"
        # As somebody finds it who kills the program now, before the store writes what it has gathered.
        for file in tmp_path.glob("store.db*"):
            shutil.copy(file, tmp_path / file.name.replace("store", "copy"))
        with closing(sqlite3.connect(tmp_path / "copy.db")) as disk:
            assert disk.execute("SELECT kind, id FROM received").fetchall() == [(EntryKind.RECEIPT, save.id)]


# --- whose fault it is ---


async def test_a_recipient_who_could_not_open_it(server, alice, sending, autojump_clock):
    save = the_save(server)
    server.send(server.client, save.delivered(signed(save, None)))
    await trio.sleep(0.01)
    assert isinstance(sending.outcome, NotOpened)
    await server.hand_over(about(save, body=signed(save, None)))
    assert alice.shown == []


async def test_a_recipient_who_signed_for_another_text_is_to_blame(server, alice, sending, autojump_clock):
    save = the_save(server)
    await server.hand_over(about(save, body=signed(save, "I owe you 1000")))
    assert isinstance(sending.outcome, WrongReceipt)
    assert sending.outcome.name == "bob"
    assert alice.shown == []


async def test_the_same_later(server, alice, sending, autojump_clock):
    await do(server, "saved")
    save = the_save(server)
    await server.hand_over(about(save, body=signed(save, "I owe you 1000")))
    assert alice.shown == [WrongReceiptReceived("bob")]


async def test_a_letter_that_could_not_be_opened_later(server, alice, sending, autojump_clock):
    await do(server, "saved")
    save = the_save(server)
    await server.hand_over(about(save, body=signed(save, None)))
    assert alice.shown == [MessageNotOpened("bob", sending.at)]


@pytest.mark.parametrize("body", [b"", bytes(96), "mallory's"])
async def test_what_the_recipient_has_not_signed_is_the_servers_fault_and_the_true_receipt_counts(
    server, alice, sending, body, autojump_clock
):
    save = the_save(server)
    forged = signed(save, reader="mallory") if body == "mallory's" else body
    server.send(server.client, save.delivered(forged))
    await trio.sleep(0.01)
    assert isinstance(sending.outcome, ForgedReceipt)
    await server.hand_over(about(save, body=forged))
    await do(server, "entry")
    assert alice.shown == [ForgedReceiptReceived("bob"), ReceiptReceived("bob", sending.at)]


async def test_a_forged_receipt_does_not_end_the_send(server, alice, sending, autojump_clock):
    save = the_save(server)
    await server.hand_over(about(save, body=bytes(96)))
    assert sending.outcome is None
    await do(server, "delivered")
    assert sending.outcome == Delivery("relayed")
    assert alice.shown == [ForgedReceiptReceived("bob")]


async def test_somebody_elses_receipt_for_our_letter_does_not_count(server, alice, sending, autojump_clock):
    save = the_save(server)
    await server.hand_over(
        about(save, body=signed(save, reader="mallory"), reader="mallory"),
        about(save, body=signed(save), reader="mallory"),
    )
    await server.hand_over(about(save, EntryKind.FAILED, reader="mallory"))
    assert sending.outcome is None
    await do(server, "saved")
    assert sending.outcome == Delivery("saved", sending.at)
    assert alice.shown == [ForgedReceiptReceived("mallory")] * 2


async def test_a_receipt_counts_with_the_key_for_which_the_letter_was_sealed(server, alice, sending, autojump_clock):
    await do(server, "saved")
    alice.chat._context.pins.pin("bob", credentials_of("bob", identity_of("mallory")))
    save = the_save(server)
    await server.hand_over(about(save, body=signed(save, reader="mallory")))
    await do(server, "entry")
    assert alice.shown == [ForgedReceiptReceived("bob"), ReceiptReceived("bob", sending.at)]


# --- letters that fail ---


async def test_a_letter_that_nobody_read(server, alice, sending, autojump_clock):
    await do(server, "saved")
    await do(server, "failed")
    await do(server, "failed")
    assert alice.shown == [MessageNotDelivered("bob", sending.at)]


async def test_a_failure_that_comes_during_send_is_told_after_it(server, alice, sending, autojump_clock):
    await do(server, "failed")
    assert sending.outcome is None
    assert alice.shown == []
    await do(server, "saved")
    assert sending.outcome == Delivery("saved", sending.at)
    assert alice.shown == [MessageNotDelivered("bob", sending.at)]


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (Reason.UNKNOWN, UnknownRecipient),
        (Reason.FULL, MailboxFull),
        (Reason.TOO_FAST, TooFast),
        (Reason.CONFLICT, IdInUse),
    ],
)
async def test_a_letter_that_the_server_refused_waits_for_nothing(
    server, alice, sending, reason, error, autojump_clock
):
    save = the_save(server)
    server.send(server.client, save.refused(reason))
    await trio.sleep(0.01)
    assert isinstance(sending.outcome, error)
    assert alice.store.sent(save.id) is None


# --- letters that we do not remember ---


async def test_what_comes_about_a_letter_that_we_did_not_send_is_not_shown(server, alice, autojump_clock):
    save = Save(bytes(16), "bob", b"")
    for entry in (about(save, body=signed(save)), about(save, body=bytes(96)), about(save, EntryKind.FAILED)):
        assert (await server.hand_over(entry)).count == 1
    assert alice.shown == []
    assert alice.store.unshown() == []


async def test_after_an_older_version_receipts_are_believed_by_their_signature_alone(
    network, server, nursery, autojump_clock
):
    class MigratedStore(MemoryClientStore):
        def knows_all_sent(self):
            return False

    one, two, three, four = (Save(bytes(15) + bytes((n,)), "bob", b"") for n in range(4))
    async with open_client(network, "alice", store=MigratedStore()) as alice:
        await server.hand_over(about(one, body=signed(one, "whatever")), about(two, body=signed(two, None)))
        await server.hand_over(about(three, body=bytes(96)), about(four, EntryKind.FAILED))
        assert alice.shown == [
            ReceiptReceived("bob", SERVERS_TIME),
            MessageNotOpened("bob", SERVERS_TIME),
            ForgedReceiptReceived("bob"),
            MessageNotDelivered("bob", SERVERS_TIME),
        ]
        # What was sent since is checked as always, and told once.
        sending = Sending()
        nursery.start_soon(sending.run, alice)
        await trio.sleep(0.01)
        await do(server, "delivered")
        await do(server, "entry")
        assert sending.outcome == Delivery("relayed")
        assert len(alice.shown) == 4
