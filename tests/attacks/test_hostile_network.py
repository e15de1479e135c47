"""An attacker on the network: forged datagrams are not believed, and copies change nothing.

The attacker sees every datagram and can forge every source address, but has only their own keys. Virtual time
(tests/stage.py).
"""

import logging

import attrs
import pytest
import trio

from tests.network import Conditions
from tests.raw_peer import RawPeer
from tests.stage import SERVER, SERVER_KEY, SERVER_PEER, identity_of
from trio_chat.client.events import MessageReceived, ReceiptReceived
from trio_chat.client.opening import open_chat
from trio_chat.crypto.identities import sign_link_key
from trio_chat.crypto.letters import sign_post
from trio_chat.crypto.receipts import hash_text, sign_receipt
from trio_chat.errors import ServerKeyChanged, ServerNotResponding
from trio_chat.link.packets import CHALLENGE, DATA, VERSION, Hello, Init, Keys
from trio_chat.link.session import Peer
from trio_chat.protocol.messages import (
    Accepted,
    Ack,
    Batch,
    Delivered,
    DirectMessage,
    GroupPost,
    Register,
    Registered,
    Save,
    Saved,
    TableChange,
    Taken,
)
from trio_chat.protocol.records import EVERYONE, Entry, EntryKind, fingerprint
from trio_chat.protocol.wire import encode
from trio_chat.storage.client_interface import SERVER as STORED_SERVER
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.transport.ids import new_id
from trio_chat.transport.windows import RESEND_DELAYS, SERVER_ATTEMPTS

MALLORY = ("10.66.6.6", 666)


def peer_of(person) -> Peer:
    return Peer((person.host, 6000), identity_of(person.chat.name).public.link)


@pytest.fixture
async def mallory(stage, nursery):
    """Registered, and so with a session with the server."""
    mallory = RawPeer(stage.network, MALLORY, identity_of("mallory"))
    nursery.start_soon(mallory.listen)
    mallory.send(SERVER_PEER, mallory.register("mallory", SERVER_KEY))
    await stage.pass_time(0.1)
    return mallory


def say_everywhere(stage, mallory, to: Peer, message, source) -> None:
    """Send it sealed as Mallory, and unsealed from the address of the true sender."""
    mallory.send(to, message)
    stage.network.inject(encode(message), source, to.address)
    header = bytes((DATA, 0, 0, 0)) + bytes(12)
    stage.network.inject(header + encode(message) + bytes(16), source, to.address)


def rows(person):
    return {name: (record.address, record.online, record.since) for name, record in person.chat.table.items()}


# --- somebody who answers faster than the server ---


class OtherServer:
    """Somebody on the path who answers a client in the server's name, with their own keys.

    They do so when the client sends a datagram of this kind: a HELLO, so faster than the server does, or the INIT that
    follows the server's answer.
    """

    def __init__(self, stage, kind=Hello.kind) -> None:
        self.answered = 0
        self._stage = stage
        self._kind = kind
        self._hello = b""
        stage.network.default = Conditions(delay=(0.02, 0.02))
        stage.network.filters.append(self._answer)

    def _answer(self, data, source, destination):
        if data[:2] == bytes((Hello.kind, VERSION)):
            self._hello = data[4:8]
        if data[:2] == bytes((self._kind, VERSION)) and destination == SERVER:
            self.answered += 1
            own = identity_of("mallory")
            keys = Keys(self._hello, own.public.link, own.public.signing, sign_link_key(own))
            self._stage.network.inject(keys.encode(), SERVER, source)
        return True


@pytest.mark.parametrize("known", ["the pinned key", "the key that the user gave"])
async def test_who_answers_faster_with_other_keys_does_not_end_a_client_that_knows_the_servers(
    stage, autojump_clock, known
):
    store = MemoryClientStore()
    if known == "the pinned key":
        store.pin(STORED_SERVER, SERVER_KEY)
    other = OtherServer(stage)
    own = {"host": "10.0.1.1", "port": 6000, "store": store, "network": stage.network, "clock": trio.current_time}
    key = fingerprint(SERVER_KEY) if known != "the pinned key" else None
    async with open_chat("alice", SERVER, server_key=key, **own) as chat:
        assert chat.online
        assert other.answered == 1, "the server's own answer ended the search at once"
    assert store.pinned(STORED_SERVER) == SERVER_KEY


async def test_who_answers_faster_does_not_end_a_client_whose_server_was_silent_for_a_while(stage, autojump_clock):
    own = {"host": "10.0.1.1", "port": 6000, "network": stage.network, "clock": trio.current_time}
    async with open_chat("alice", SERVER, reconnect=True, **own) as chat:
        other = OtherServer(stage)
        silent_until = trio.current_time() + 5
        stage.network.filters.append(
            lambda data, source, to: trio.current_time() > silent_until or data[0] in (Hello.kind, Keys.kind)
        )
        await chat.outbox.put_in_room("everyone", "hi")
        await trio.sleep(60)
        assert chat.outbox.waiting() == []
        assert other.answered
        assert chat.online


async def test_if_the_server_itself_does_not_answer_the_other_key_is_reported_after_the_last_window(
    stage, autojump_clock
):
    store, other = MemoryClientStore(), OtherServer(stage)
    store.pin(STORED_SERVER, SERVER_KEY)
    await stage.kill_server()
    with pytest.raises(ServerKeyChanged) as caught:
        async with open_chat("alice", SERVER, host="10.0.1.1", port=6000, store=store, network=stage.network):
            pass  # pragma: no cover
    assert caught.value.offered == fingerprint(identity_of("mallory").public.signing)
    assert other.answered == SERVER_ATTEMPTS * (len(RESEND_DELAYS) + 1)


@pytest.mark.parametrize("first", ["the server", "somebody else"])
async def test_at_first_contact_the_first_answer_counts_and_its_key_is_pinned_only_when_it_is_proven(
    stage, autojump_clock, first
):
    store, other = MemoryClientStore(), OtherServer(stage, Init.kind if first == "the server" else Hello.kind)
    own = {"host": "10.0.1.1", "port": 6000, "store": store, "network": stage.network, "clock": trio.current_time}
    if first == "the server":
        async with open_chat("alice", SERVER, **own) as chat:
            assert chat.online
    else:
        with pytest.raises(ServerNotResponding):
            async with open_chat("alice", SERVER, **own):
                pass  # pragma: no cover
    assert other.answered
    assert store.pinned(STORED_SERVER) == (SERVER_KEY if first == "the server" else None)


# --- forged answers ---


async def test_forged_acknowledgements_of_a_direct_message(stage, mallory, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await alice.chat.send("bob", "a link is there")
    stage.network.cut(bob.host)

    def forge(data, source, destination):
        message = next(iter(stage.tap.messages(data)), None)
        if isinstance(message, DirectMessage) and source[0] == alice.host:
            say_everywhere(stage, mallory, peer_of(alice), message.ack(), (bob.host, 6000))
        return True

    stage.network.filters.append(forge)
    delivery = await alice.chat.send("bob", "hi")
    assert len(stage.sent(DirectMessage)) == 1 + 3, "the forger has seen all of them"
    assert delivery.how == "saved"


@pytest.mark.parametrize("request_kind", [Save, GroupPost, Register])
async def test_forged_answers_of_the_server(stage, mallory, autojump_clock, request_kind):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(1)
    stage.network.cut(alice.host, SERVER[0], both=False)
    forged = []

    def forge(data, source, destination):
        message = next(iter(stage.tap.messages(data)), None)
        if isinstance(message, request_kind) and source[0] == alice.host:
            of, id_ = message.kind, message.id
            version = alice.chat.table.version
            for answer in (
                Saved(of, id_),
                Delivered(of, id_, bytes(96)),
                Accepted(of, id_),
                Registered(of, id_, version, 1.0, 0, 0, 0),
                Ack(of, id_),
            ):
                forged.append(answer)
                say_everywhere(stage, mallory, peer_of(alice), answer, SERVER)
        return True

    stage.network.filters.append(forge)
    with pytest.raises(ServerNotResponding):
        if request_kind is Save:
            await alice.chat.send("bob", "hi")
        elif request_kind is GroupPost:
            await alice.chat.send_all("hi")
        else:
            await alice.chat.register()
    assert forged


async def test_a_forged_table_change(stage, mallory, autojump_clock):
    alice = await stage.enter("alice")
    await stage.enter("bob")
    await stage.pass_time(1)
    before, version = rows(alice), alice.chat.table.version
    moved = attrs.evolve(alice.chat.table["bob"], host=MALLORY[0], port=MALLORY[1])
    after = attrs.evolve(version, n=version.n + 1)
    for change in (
        TableChange(new_id(), version, after, (moved,)),
        TableChange(new_id(), attrs.evolve(version, n=0), after, (moved,)),
    ):
        say_everywhere(stage, mallory, peer_of(alice), change, SERVER)
    await stage.pass_time(1)
    assert rows(alice) == before
    assert alice.chat.table.version == version
    assert (await alice.chat.send("bob", "hi")).how == "direct"


async def test_a_message_in_the_name_of_somebody_else_is_not_shown(stage, mallory, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)
    for sender in ("alice", "ALICE", "carol"):
        say_everywhere(
            stage, mallory, peer_of(bob), DirectMessage(new_id(), sender, "bob", "I am alice"), (alice.host, 6000)
        )
    mallory.send(peer_of(bob), DirectMessage(new_id(), "Mallory", "bob", "I am mallory"))
    await stage.pass_time(1)
    assert bob.received == [MessageReceived("Mallory", "I am mallory")]


async def test_a_batch_that_is_not_from_the_server_is_not_taken(stage, mallory, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)
    id_, key = new_id(), mallory.identity.public.signing
    body = sign_post(mallory.identity, id=id_, sender="mallory", sent_at=trio.current_time(), text="spam")
    post = Entry(1, EntryKind.GROUP, id_, "mallory", key, EVERYONE, trio.current_time(), body)
    for sender in ("mallory", "alice"):
        batch = Batch(new_id(), "bob", (attrs.evolve(post, sender=sender),))
        say_everywhere(stage, mallory, peer_of(bob), batch, SERVER)
        say_everywhere(stage, mallory, peer_of(bob), batch, (alice.host, 6000))
    await stage.pass_time(1)
    assert bob.received == []
    assert stage.sent(Taken) == []


async def test_letters_that_somebody_else_claims_to_have_taken_stay_for_their_reader(stage, mallory, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    await alice.chat.send("bob", "for bob")
    stage.lose(lambda message, source, _: isinstance(message, Taken) and source[0] == bob.host, times=3)
    claimed = []

    def claim(data, source, destination):
        message = next(iter(stage.tap.messages(data)), None)
        if isinstance(message, Batch) and destination[0] == bob.host:
            (letter,) = message.entries
            signed = sign_receipt(mallory.identity, id=letter.id, sender="alice", text_hash=hash_text("for bob"))
            for receipt in (signed, bytes(96)):
                claimed.append(message.taken(1, (receipt,)))
                say_everywhere(stage, mallory, SERVER_PEER, claimed[-1], (bob.host, 6000))
        return True

    stage.network.filters.append(claim)
    await bob.chat.register()
    await stage.pass_time(0.4)
    assert len(claimed) >= 2
    assert alice.received == []
    await stage.pass_time(30)
    assert bob.texts() == ["for bob"]
    assert [type(event) for event in alice.received] == [ReceiptReceived]


# --- replayed datagrams ---


async def a_busy_day(stage):
    """All kinds of messages: registrations, direct messages, a letter, a receipt, a post, a deregistration."""
    alice, bob, carol = [await stage.enter(name) for name in ("alice", "bob", "carol")]
    await alice.chat.send("bob", "directly")
    await bob.chat.deregister()
    await stage.pass_time(1)
    await alice.chat.send("bob", "by letter")
    await carol.chat.send_all("to all")
    await bob.chat.register()
    await stage.pass_time(1)
    stage.network.cut(alice.host, bob.host)
    await bob.chat.send("alice", "relayed")
    stage.network.heal()
    await carol.chat.deregister()
    await stage.pass_time(1)
    return alice, bob, carol


async def what_is_known(stage, *people):
    """What people have seen, what they see of each other, and all that the server has for them."""
    store, names = stage.server_store, ("alice", "bob", "carol")
    return (
        [list(person.received) for person in people],
        [rows(person) for person in people],
        [person.chat.online for person in people],
        len(stage.changes),
        [await store.read(name, 0) for name in names],
        [store._database.execute(query).fetchall() for query in ("SELECT * FROM mailboxes", "SELECT * FROM entries")],
    )


@pytest.mark.parametrize("port", ["the same port", "another port"])
@pytest.mark.parametrize("when", ["at once", "after a restart of the server", "after a restart of all"])
async def test_every_recorded_datagram_replayed(stage, autojump_clock, port, when):
    people = await a_busy_day(stage)
    recorded = list(stage.network.log)
    if when != "at once":
        await stage.kill_server()
        await stage.start_server()
        if when == "after a restart of all":
            for person in people:
                await person.kill()
            people = [await stage.enter(person.chat.name, host=person.host, store=person.store) for person in people]
        await stage.pass_time(30)
    known = await what_is_known(stage, *people)
    stage.network.log.clear()
    for line in recorded:
        source = line.source if port == "the same port" else (line.source[0], 777)
        stage.network.inject(line.data, source, line.destination)
        await trio.testing.wait_all_tasks_blocked()
    await stage.pass_time(3)
    assert await what_is_known(stage, *people) == known
    assert stage.sent(Register) == [], "no client had to register again"
    asked = sum(len(line.data) for line in recorded)
    answered = sum(len(line.data) for line in stage.network.log if line.destination[1] == 777)
    assert answered <= asked


# --- clients that move ---


async def test_a_datagram_relayed_from_another_port_moves_no_client(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)
    before, elsewhere, held = rows(bob), ("10.66.6.6", 777), []
    stage.network.filters.append(
        lambda data, source, to: source[0] != alice.host or to != SERVER or bool(held.append(data))
    )
    await stage.pass_time(20)
    (heartbeat, *_) = held
    stage.network.filters.clear()
    stage.network.log.clear()
    stage.network.inject(heartbeat, elsewhere, SERVER)
    await stage.pass_time(0.05)
    asked = [line.data for line in stage.network.log if line.destination == elsewhere]
    assert [data[0] for data in asked] == [CHALLENGE]
    stage.network.inject(asked[0], SERVER, (alice.host, 6000))  # alice answers it, but from her true address
    await stage.pass_time(5)
    assert rows(bob) == before
    assert (await bob.chat.send("alice", "still there?")).how == "direct"


async def test_a_client_with_a_new_address_goes_on_without_registering_again(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    assert (await bob.chat.send("alice", "before")).how == "direct"
    since = bob.chat.table["alice"].since
    new = ("10.44.4.4", 4444)
    stage.network.translate((alice.host, 6000), new)
    await stage.pass_time(25)  # a heartbeat
    assert bob.chat.table["alice"].address == new
    assert bob.chat.table["alice"].since == since
    assert (await bob.chat.send("alice", "after")).how == "direct"
    assert (await alice.chat.send("bob", "I am here now")).how == "direct"
    await stage.pass_time(300)
    assert len(stage.sent(Register)) == 2
    assert [record.online for record in stage.changes] == [True] * 3
    assert alice.texts() == ["before", "after"]


async def test_a_request_that_waits_for_its_answer_follows_a_peer_that_moves(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)
    stage.network.translate((alice.host, 6000), ("10.44.4.4", 4444))
    await alice.chat.send_all("from my new address")
    await stage.pass_time(2)
    assert bob.texts() == ["from my new address"]
    await bob.chat.send_all("welcome there")
    await stage.pass_time(2)
    assert alice.texts() == ["welcome there"]
    assert len(stage.sent(Register)) == 2


# --- crossed handshakes ---


@pytest.mark.parametrize("loss", [0.0, 0.1])
async def test_two_clients_whose_first_messages_cross(stage, autojump_clock, loss):
    people = [await stage.enter(f"user{n}") for n in range(10)]
    await stage.pass_time(1)
    stage.network.default = Conditions(loss=loss, delay=(0.001, 0.02))
    ways = {}

    async def send(sender, recipient):
        ways[sender, recipient] = (await sender.chat.send(recipient.chat.name, sender.chat.name)).how

    async with trio.open_nursery() as nursery:
        for sender in people:
            for recipient in people:
                if sender is not recipient:
                    nursery.start_soon(send, sender, recipient)
    stage.network.default = Conditions()
    await stage.pass_time(5)
    if not loss:
        assert set(ways.values()) == {"direct"}
    for person in people:
        assert sorted(person.texts()) == sorted(other.chat.name for other in people if other is not person)


# --- names and logs ---


async def test_names_with_control_characters_are_not_registered_or_logged(stage, mallory, autojump_clock, caplog):
    caplog.set_level(logging.DEBUG)
    alice = await stage.enter("alice")
    for name in ("ev\x1b[2Jil", "evil\nadmin: hello", "evi\u202el", "evil ", ""):
        mallory.send(SERVER_PEER, mallory.register(name, SERVER_KEY))
        mallory.send(peer_of(alice), DirectMessage(new_id(), name, "alice", "hi"))
        mallory.send(SERVER_PEER, Save(new_id(), name, b"\n\x1b"))
    await stage.pass_time(3)
    assert set(alice.chat.table) == {"alice", "mallory"}
    assert alice.received == []
    assert not [record for record in caplog.records if not record.getMessage().isprintable()]
