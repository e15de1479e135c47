"""What a registered user, a lying server or a wrong clock could do to the log, and cannot."""

import os

import trio

from tests.bare_server import SERVER_KEY, A, B, BareServer, C, D, elsewhere, identity_of
from tests.client.raw_server import RawServer, credentials_of, open_client
from tests.delivering_server import DeliveringServer, taken_by
from tests.network import Conditions
from tests.raw_peer import RawPeer
from tests.stage import SERVER_KEY as SERVER_KEY_OF_STAGE
from tests.stage import SERVER_PEER
from tests.stage import identity_of as identity_of_name
from trio_chat.crypto.identities import Identity, credentials
from trio_chat.crypto.letters import sign_post
from trio_chat.link.session import Peer
from trio_chat.protocol.log import Log
from trio_chat.protocol.messages import MAX_BATCH, Ack, Batch, Heartbeat, Refused, Save, TableChange
from trio_chat.protocol.records import EVERYONE, NO_KEY, RETENTION, Entry, EntryKind, Record
from trio_chat.server.retention import AGREEMENT, RetentionClock
from trio_chat.storage.interface import Acknowledged
from trio_chat.storage.server_memory import MemoryServerStore
from trio_chat.transport.windows import ACK_WINDOW


async def started(nursery, *people) -> DeliveringServer:
    server = DeliveringServer()
    await server.start(nursery)
    for name, peer in people:
        await server.come(name, peer)
    for session in server.service.online():
        server.hold_table(session)
    await trio.testing.wait_all_tasks_blocked()
    return server


async def test_a_letter_that_has_failed_is_not_delivered_from_memory(nursery, autojump_clock):
    """Retention removes it from the store and tells the sender, but the newest part of the log in memory keeps it."""
    server = await started(nursery, ("alice", A), ("bob", B))
    server.leave(B)
    await server.send(A, "bob")
    now = trio.current_time()
    server.deliveries.forget(now + 1, now + RETENTION)
    await server.store.retain(now + 1, now + RETENTION)
    assert [entry.kind for entry in server.store.log] == ["direct", "failed"]
    await server.come("bob", elsewhere(B))
    assert 1 not in await server.seqs_to(elsewhere(B)), "alice has been told that nobody will read it"


async def test_an_old_post_is_not_delivered_from_memory(nursery, autojump_clock):
    server = await started(nursery, ("alice", A), ("bob", B))
    server.leave(B)
    await server.post_to_all(A)
    now = trio.current_time()
    server.deliveries.forget(now + 1, now + RETENTION)
    await server.store.retain(now + 1, now + RETENTION)
    await server.come("bob", elsewhere(B))
    assert await server.seqs_to(elsewhere(B)) == []


async def test_a_table_that_changes_all_the_time_does_not_keep_entries_back(nursery, autojump_clock):
    """Registering again costs one datagram and changes the table. Here it is done once in each round trip."""
    server = await started(nursery, ("alice", A), ("bob", B), ("carol", C))
    await server.send(A, "carol")
    await server.take_all(C)
    await server.send(A, "carol")
    first = await server.sent_to(C)
    assert isinstance(first.request, Batch)
    await server.take_all(C)
    server.register("mallory", D)
    server.change_table()
    await server.append(server.save(A, "carol"))
    got_batch = False
    for _ in range(50):
        sent = await server.sent_to(C)
        if isinstance(sent.request, Batch):
            got_batch = True
            break
        assert isinstance(sent.request, TableChange)
        await trio.sleep(0.02)  # the round trip; meanwhile mallory registers once more
        server.register("mallory", D)
        await server.respond(C, sent.request.held(sent.request.after))
    assert got_batch, "50 changes of the table, and no entry"


async def test_a_new_link_key_is_no_new_sender():
    """The limit of letters to one mailbox belongs to the person's key; a link key is made in a moment."""
    server = BareServer()
    server.enter("bob", B)
    refused = 0
    for n in range(4):
        own = Identity(identity_of(A).signing_secret, bytes((n + 200,)) * 32)
        peer = Peer((f"10.0.1.{n + 1}", 7), own.public.link)
        server.register("alice", peer, shown=credentials(own, name="alice", server_key=SERVER_KEY))
        server.pace = 0.0
        for _ in range(300):
            refused += isinstance(server.save(peer, "bob"), Refused)
        server.pace = 1.0
    assert refused, "1200 letters in a few seconds, where 300 are allowed"


async def test_a_client_that_takes_one_entry_at_a_time_is_sent_no_full_batch_for_each(nursery, autojump_clock):
    """Each small answer makes the server send a full batch at once: nothing passes between them."""
    server = await started(nursery, ("alice", A), ("bob", B))
    server.leave(B)
    await server.append(*(server.post(A) for _ in range(200)))
    server.deliveries.on_appended([])
    await server.come("bob", elsewhere(B))
    began = trio.current_time()
    sent = 0
    for _ in range(100):
        if not await server.sent_to(elsewhere(B)):
            break
        sent += len((await server.batch_to(elsewhere(B))).entries)
        await server.take(elsewhere(B), 1)
    assert sent <= 200 + MAX_BATCH or trio.current_time() - began > 10 * ACK_WINDOW, f"{sent} entries for 100 taken"


async def test_two_saves_that_were_known_before_there_was_one_log_are_both_answered(nursery, autojump_clock):
    """Both have the number 0: SqliteServerStore says so for requests that were taken before the migration."""
    server = await started(nursery, ("alice", A), ("bob", B), ("carol", C))
    one, two = Save(server.id(), "carol", b"x"), Save(server.id(), "carol", b"y")
    waits = [server.deliveries.await_receipt(0, A, one), server.deliveries.await_receipt(0, B, two)]
    await server.deliveries.answer_saved([0, 0])
    answered = {answer.id for _, answer in server.endpoint.answers}
    not_waiting = {request.id for request, waits_ in zip((one, two), waits, strict=True) if not waits_}
    assert answered | not_waiting == {one.id, two.id}


async def test_a_position_that_was_moved_is_not_moved_back_before_it_is_written(nursery, autojump_clock):
    """A replaced session's late answer."""
    server = await started(nursery, ("alice", A), ("bob", B))
    await server.post_to_all(A)
    old = await server.sent_to(B)
    admission = server.register("bob", elsewhere(B))
    position = await server.store.save_name(admission.record)
    server.hold_table(admission.session)
    admission.session.table_due = False
    server.deliveries.admit(admission.session, position.seq)  # `abandon` has not run, or the answer came before it
    await server.post_to_all(A)
    await server.take_all(elsewhere(B))
    assert server.deliveries._moved["bob"] == 2
    server.endpoint.respond(old, old.request.taken(1, ()))
    assert server.deliveries._moved["bob"] == 2


async def test_a_registration_begins_after_what_was_acknowledged_before_it(nursery, autojump_clock):
    """Answers with receipts wait in memory while the ones before are written: a registration writes them first."""
    server = await started(nursery, ("alice", A), ("bob", B), ("carol", C))
    await server.send(A, "bob", "carol")
    with server.store.held():
        await server.take(C)  # its write does not return
        batch = await server.batch_to(B)
        await server.respond(B, taken_by(B, batch, 1))
    await server.come("bob", elsewhere(B))
    assert server.service.session("bob").position == 1
    server.store.release()


async def test_a_receipt_for_the_last_owner_of_a_name_is_not_for_the_next(autojump_clock):
    """Whom the last owner has written to is none of the next one's business."""
    store = MemoryServerStore()
    await store.load(lambda entries: None)
    for name, peer in (("alice", A), ("bob", B)):
        await store.save_name(record(name, peer))
    key = identity_of(A).public.signing
    await store.append([Entry(0, EntryKind.DIRECT, b"i" * 16, "alice", key, "bob", 1.0, b"letter")])
    await store.forget("alice")
    position = await store.save_name(record("alice", C))
    await store.acknowledge([Acknowledged("bob", 1, {1: b"r" * 96})], 2.0)
    assert (await store.read("alice", position.seq)).entries == ()


def record(name, peer) -> Record:
    return Record(name, "10.0.0.1", 1, True, 1.0, credentials(identity_of(peer), name=name, server_key=SERVER_KEY))


async def test_a_batch_pins_only_those_who_have_sent_its_entries(network, nursery, autojump_clock):
    """Each batch may pin 64 names for good, whoever has sent it; they need no entry and no row."""
    server = RawServer(network)
    nursery.start_soon(server.listen)
    async with open_client(network, "bob") as client:
        own = identity_of_name("alice")
        id_ = os.urandom(16)
        body = sign_post(own, id=id_, sender="alice", sent_at=1.0, text="hi")
        entry = Entry(1, EntryKind.GROUP, id_, "alice", own.public.signing, EVERYONE, 1.0, body)
        others = [(f"n{n}", credentials_of(f"n{n}")) for n in range(3)]
        await server.hand_over(entry, senders=[("alice", credentials_of("alice")), *others])
        pinned = [name for name, _ in others if client.store.pinned(name)]
        assert not pinned, f"{len(pinned)} names are pinned that have sent nothing"


async def test_the_credentials_of_a_sender_are_for_the_key_of_the_entry(network, nursery, autojump_clock):
    """An entry says which key has signed it. Credentials with another key are not this sender's."""
    server = RawServer(network)
    nursery.start_soon(server.listen)
    async with open_client(network, "bob") as client:
        own, false = identity_of_name("alice"), identity_of_name("mallory")
        id_ = os.urandom(16)
        body = sign_post(own, id=id_, sender="alice", sent_at=1.0, text="hi")
        entry = Entry(1, EntryKind.GROUP, id_, "alice", own.public.signing, EVERYONE, 1.0, body)
        await server.hand_over(entry, senders=[("alice", credentials_of("alice", false))])
        assert client.store.pinned("alice") != false.public.signing


async def test_what_was_taken_with_a_clock_of_1970_is_kept_for_30_days(autojump_clock):
    """A small computer without a battery starts in 1970, takes a letter, and then gets the time."""
    store = MemoryServerStore()
    await store.load(lambda entries: None)
    for name, peer in (("alice", A), ("bob", B)):
        await store.save_name(record(name, peer))
    clock = RetentionClock(50.0, 50.0)
    await store.append([Entry(0, EntryKind.DIRECT, b"i" * 16, "alice", NO_KEY, "bob", 55.0, b"letter")])
    wall = 1_700_000_000.0
    for minute in range(1, 100):
        now = 50.0 + minute * 60
        before = clock.oldest_kept(wall + now, now)
        if clock.was_set_forward:
            await store.date_forward(wall + now - RETENTION, wall + now)
        if before is not None:
            await store.retain(before, wall + now)
    page = await store.read("bob", 0)
    assert [entry.kind for entry in page.entries] == ["direct"], f"gone after {AGREEMENT} s"


def test_what_comes_next_costs_as_much_as_it_is_and_not_as_much_as_is_there(monkeypatch):
    looked_at = []
    monkeypatch.setattr("trio_chat.protocol.log.fold", lambda name: looked_at.append(name) or name.lower())
    log = Log()
    for seq in range(1, 8193):
        log.append(Entry(seq, EntryKind.GROUP, seq.to_bytes(16, "big"), f"u{seq % 50}", NO_KEY, EVERYONE, 1.0, b"x"))
    assert len(log.read("bob", 0).entries) > 50
    assert len(looked_at) < 3 * MAX_BATCH


async def test_a_client_with_a_slow_disk_gets_on(nursery, autojump_clock):
    """It answers each batch after 600 ms, and probes at once: the batch comes again under its id, when it is ready."""
    server = await started(nursery, ("alice", A), ("bob", B))
    session = server.service.session("bob")
    server.endpoint.reply = lambda peer, one: Ack(one.kind, one.id) if isinstance(one, Heartbeat) else None
    await server.append(server.save(A, "bob"))
    answered = set()

    async def answer_late(sent) -> None:
        await trio.sleep(0.6)
        for one in server.endpoint.pending(B):
            if one.request.id == sent.request.id:  # as the endpoint does: by the id, whichever try it was
                server.endpoint.respond(one, taken_by(B, sent.request, 1))

    for _ in range(200):
        await trio.sleep(0.05)
        for one in list(server.endpoint.sent):
            if one.peer == B and isinstance(one.request, Batch) and id(one) not in answered:
                answered.add(id(one))
                nursery.start_soon(answer_late, one)
    assert session.position >= 1, f"{len(answered)} batches in 10 s, and none is taken"


async def test_one_who_registers_again_and_again_does_not_stop_all_messages(network, stage, nursery, autojump_clock):
    """The same with the real server and real clients: 50 Registers a second of one person, 40 ms there and back."""
    network.set(Conditions(delay=(0.02, 0.02)))
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    mallory = RawPeer(network, ("10.9.9.9", 6000))
    nursery.start_soon(mallory.listen)
    program = os.urandom(16)

    async def register_again() -> None:
        while True:
            mallory.send(SERVER_PEER, mallory.register("mallory", SERVER_KEY_OF_STAGE, program=program))
            await trio.sleep(0.02)

    nursery.start_soon(register_again)
    await stage.pass_time(2)
    await alice.chat.send_all("hi")
    for _ in range(20):
        if not bob.texts():
            await stage.pass_time(1)
    assert bob.texts() == ["hi"]
