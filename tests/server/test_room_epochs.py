"""Private rooms at the server: members get epochs and posts, and nobody else anything, whoever tries.

The real delivery loop and room requests with a store in memory (tests/delivering_server.py), in virtual time, with
epochs that are really signed. What the store does with them: tests/storage/test_server_epochs.py.
"""

import attrs
import pytest
import trio

from tests.bare_server import A, B, BareServer, C, D, elsewhere, identity_of
from tests.delivering_server import DeliveringServer
from trio_chat.crypto.letters import sign_post
from trio_chat.crypto.room_keys import (
    NONCE,
    NUMBER,
    RoomKey,
    SignedEpoch,
    read_epoch_untrusted,
    room_key_untrusted,
    seal_post,
    sign_epoch,
)
from trio_chat.protocol.limits import LIMITS, Limits, Rate
from trio_chat.protocol.messages import GroupPost, Refused, is_repeatable
from trio_chat.protocol.records import MAX_EPOCH, EntryKind, Reason, room_id
from trio_chat.protocol.room_messages import (
    BeginEpoch,
    EpochPart,
    GetEpoch,
    JoinRoom,
    LeaveRoom,
    ListMembers,
    ListRooms,
    RoomChanged,
)
from trio_chat.server import delivery as delivery_module
from trio_chat.server.sessions import AskRoom, RoomEvent
from trio_chat.storage.interface import Status

PEERS = {"alice": A, "bob": B, "carol": C, "dave": D}
KEY = bytes(range(32))


def begin(
    server: BareServer, *names: str, by: str = "alice", after: SignedEpoch | None = None, owners=("alice",), **changes
) -> BeginEpoch:
    """The request to begin the epoch `after` another one, or the first one of the room lunch."""
    own, id_ = identity_of(PEERS[by]), server.id()
    room = after.epoch.room if after else room_id(own.public.signing, id_, private=True)
    fields = {
        "room": room,
        "name": "lunch",
        "members": [(name, identity_of(PEERS[name]).public) for name in names],
        "owners": [identity_of(PEERS[name]).public.signing for name in owners],
        "before": after,
    }
    signed = sign_epoch(own, KEY, **(fields | changes))
    return BeginEpoch(id_, room, signed.epoch.n, signed.body)


def signed_of(request: BeginEpoch) -> SignedEpoch:
    return read_epoch_untrusted(request.epoch)


@pytest.fixture
async def server(nursery) -> DeliveringServer:
    """Alice, bob and carol are online, and hold the table. Alice has created a private room, and bob is in it."""
    server = DeliveringServer()
    await server.start(nursery)
    for name in ("alice", "bob", "carol"):
        await server.come(name, PEERS[name])
    for session in server.service.online():
        server.hold_table(session)
    request = begin(server, "alice", "bob")
    assert isinstance(await server.ask_room(A, request), RoomChanged)
    server.first, server.room = signed_of(request), request.room
    for peer in (A, B):
        await server.take_all(peer)
    return server


async def next_epoch(server, *names: str, **options) -> SignedEpoch:
    """Begin one that is accepted."""
    request = begin(server, *names, after=options.pop("after", server.first), **options)
    answer = await server.ask_room(PEERS[options.get("by", "alice")], request)
    assert isinstance(answer, RoomChanged), answer
    return signed_of(request)


async def post(server, peer, n: int = 1) -> int:
    """Post to the room, sealed in epoch `n`. Returns the number of the post."""
    request = GroupPost(server.id(), n.to_bytes(NUMBER, "big") + b"sealed", server.room)
    (appended,) = await server.append(server.ask(peer, request))
    return appended.seq if appended.status is Status.NEW else appended.status


async def kinds_to(server, peer) -> list[tuple[str, int]]:
    """Kinds and numbers of everything that comes, which is taken."""
    found = []
    while await server.sent_to(peer):
        found += [(one.kind, one.seq) for one in (await server.batch_to(peer)).entries]
        await server.take(peer)
    return found


async def reason_of(server, peer, request) -> Reason:
    answer = await server.ask_room(peer, request)
    assert isinstance(answer, Refused), answer
    return answer.reason


# --- who gets what ---


async def test_members_get_the_epoch_and_so_does_who_has_begun_it(nursery, autojump_clock):
    server = DeliveringServer()
    await server.start(nursery)
    for name in ("alice", "bob", "carol"):
        await server.come(name, PEERS[name])
    for session in server.service.online():
        server.hold_table(session)
    request = begin(server, "alice", "bob")
    answer = await server.ask_room(A, request)
    assert (answer.room.id, answer.room.name, answer.room.members, answer.room.joined) == (request.room, "lunch", 2, 1)
    for peer in (A, B):
        batch = await server.batch_to(peer)
        (entry,) = batch.entries
        assert (entry.kind, entry.recipient, entry.body) == ("epoch", request.room, request.epoch)
        assert batch.rooms == ((request.room, "lunch"),)
    assert await server.sent_to(C) is None
    assert server.events == [RoomEvent(EntryKind.CREATED, "lunch", "alice")]


async def test_a_new_member_gets_the_epoch_and_what_comes_after_it(server, autojump_clock):
    before = await post(server, A)
    await next_epoch(server, "alice", "bob", "carol")
    after = await post(server, B, 2)
    assert await kinds_to(server, C) == [("epoch", before + 1), ("group", after)]
    assert await kinds_to(server, B) == [("group", before), ("epoch", before + 1)]
    assert await kinds_to(server, A) == [("epoch", before + 1), ("group", after)]
    assert server.events[1:] == [RoomEvent(EntryKind.EPOCH, "lunch", "alice")]


async def test_a_removed_member_gets_a_notice_and_nothing_more(server, autojump_clock):
    await next_epoch(server, "alice")
    await post(server, A, 2)
    batch = await server.batch_to(B)
    (notice,) = batch.entries
    assert (notice.kind, notice.sender, notice.body) == ("removed", "alice", server.room.encode())
    assert batch.rooms == ((server.room, "lunch"),), "they may want to know which it was"
    assert await kinds_to(server, B) == [("removed", notice.seq)]
    assert await post(server, B, 2) is Status.NOT_A_MEMBER
    assert server.service.session("bob").rooms == {}


async def test_a_removed_member_gets_no_post_that_had_not_come_to_them(server, autojump_clock):
    """It is in memory, and a batch before it is in flight."""
    await server.send(C, "bob")
    await post(server, A)
    await next_epoch(server, "alice")
    assert [kind for kind, _ in await kinds_to(server, B)] == ["direct", "removed"]


@pytest.mark.parametrize("tail", [2, 8192])
async def test_who_was_away_when_they_were_removed_gets_the_notice_only(server, autojump_clock, monkeypatch, tail):
    monkeypatch.setattr(delivery_module, "TAIL_ENTRIES", tail)
    server.leave(B)
    await post(server, A)
    await next_epoch(server, "alice")
    for _ in range(4):
        await post(server, A, 2)
    bob = await server.come("bob", B)
    assert bob.rooms == {}
    assert [kind for kind, _ in await kinds_to(server, B)] == ["removed"]
    server.leave(B)
    await server.deliveries.write(server.nursery)
    await server.come("bob", B)
    assert await kinds_to(server, B) == []


@pytest.mark.parametrize("tail", [2, 8192])
async def test_who_was_away_gets_epochs_and_posts_in_order(server, autojump_clock, monkeypatch, tail):
    monkeypatch.setattr(delivery_module, "TAIL_ENTRIES", tail)
    server.leave(B)
    posts = [await post(server, A)]
    second = await next_epoch(server, "alice", "bob")
    posts += [await post(server, A, 2), await post(server, A, 2)]
    await next_epoch(server, "alice", "bob", after=second)
    posts += [await post(server, A, 3)]
    await server.come("bob", B)
    assert [kind for kind, _ in await kinds_to(server, B)] == ["group", "epoch", "group", "group", "epoch", "group"]


async def test_a_server_that_starts_again_knows_who_is_in_it(server, nursery, autojump_clock):
    second = await next_epoch(server, "alice", "bob", "carol")
    await server.start(nursery)
    for name in ("alice", "bob", "carol"):
        await server.come(name, PEERS[name])
    for peer in (A, B, C):
        assert [kind for kind, _ in await kinds_to(server, peer)] == ["epoch"] * (1 if peer == C else 2), "not taken"
    seq = await post(server, A, 2)
    assert await kinds_to(server, C) == [("group", seq)]
    assert await post(server, B, 1) is Status.WRONG_EPOCH
    await next_epoch(server, "alice", "bob", after=second)
    assert [kind for kind, _ in await kinds_to(server, C)] == ["removed"]


# --- changes while a name is being registered ---


async def while_bob_registers(server, change) -> dict[str, int]:
    """The store is asked for the rooms of bob, and before its answer is there `change` happens. Returns their rooms."""
    admission = server.register("bob", elsewhere(B))
    server.hold_table(admission.session)
    admission.session.table_due = False
    await server.deliveries.write(server.nursery)
    with server.store.held():
        server.nursery.start_soon(server.admit, admission)
        await trio.testing.wait_all_tasks_blocked()
        await change()
    server.store.release()
    await trio.testing.wait_all_tasks_blocked()
    return admission.session.rooms


async def test_an_epoch_while_a_member_registers_takes_nothing_from_them(server, autojump_clock):
    """They are in the room from when they joined it, and not from this epoch on: a post before it is theirs."""
    server.leave(B)
    seq = await post(server, A)

    async def change():
        await next_epoch(server, "alice", "bob")

    assert await while_bob_registers(server, change) == {server.room: 1}
    assert await kinds_to(server, elsewhere(B)) == [("group", seq), ("epoch", seq + 1)]


async def test_who_is_removed_while_they_register_is_not_in_it(server, autojump_clock):
    async def change():
        await next_epoch(server, "alice")

    assert await while_bob_registers(server, change) == {}
    assert [one.name for one in server.service.members_online(server.room)] == ["alice"]


async def test_who_is_removed_and_added_while_they_register_begins_with_the_last_epoch(server, autojump_clock):
    async def change():
        second = await next_epoch(server, "alice")
        await next_epoch(server, "alice", "bob", after=second)

    rooms = await while_bob_registers(server, change)
    assert rooms == {server.room: server.store.log[-1].seq - 1}


async def test_who_is_added_while_they_register_is_in_it(server, autojump_clock):
    second = await next_epoch(server, "alice")

    async def change():
        await next_epoch(server, "alice", "bob", after=second)

    assert await while_bob_registers(server, change) == {server.room: server.store.log[-1].seq - 1}


async def test_a_new_owner_of_a_name_is_not_added_in_place_of_the_last_one(server, autojump_clock):
    server.leave(C)
    server.service.free("carol")
    await server.store.forget("carol")
    dave = await server.come("carol", D)
    await next_epoch_refused(server, begin(server, "alice", "bob", "carol", after=server.first), Reason.UNKNOWN)
    assert dave.rooms == {}


async def next_epoch_refused(server, request: BeginEpoch, reason: Reason, peer=A) -> None:
    assert await reason_of(server, peer, request) == reason
    assert server.store.log[-1].kind != EntryKind.REMOVED


# --- who tries what they may not ---


async def test_a_stranger_gets_nothing_of_a_private_room(server, autojump_clock):
    assert await reason_of(server, C, JoinRoom(server.id(), "lunch")) == Reason.PRIVATE
    assert await reason_of(server, C, LeaveRoom(server.id(), server.room)) == Reason.NOT_A_MEMBER
    assert await reason_of(server, C, ListMembers(server.id(), server.room)) == Reason.NOT_A_MEMBER
    assert await reason_of(server, C, GetEpoch(server.id(), server.room)) == Reason.NOT_A_MEMBER
    assert [one.name for one in (await server.ask_room(C, ListRooms(server.id()))).rooms] == ["everyone"]
    assert await post(server, C) is Status.NOT_A_MEMBER
    theirs = begin(server, "alice", "carol", by="carol", owners=("carol",), after=server.first)
    assert await reason_of(server, C, theirs) == Reason.NOT_AN_OWNER
    assert await reason_of(server, C, GetEpoch(server.id(), "!" + "0" * 32)) == Reason.NOT_A_MEMBER
    assert await kinds_to(server, C) == [("left", 3)], "a note for themselves"
    for peer in (A, B):
        assert await server.sent_to(peer) is None


async def test_a_member_who_is_no_owner_changes_nothing(server, autojump_clock):
    theirs = begin(server, "alice", "bob", "carol", by="bob", owners=("bob",), after=server.first)
    assert await reason_of(server, B, theirs) == Reason.NOT_AN_OWNER
    assert [one.names for one in [await server.ask_room(B, ListMembers(server.id(), server.room))]] == [
        ("alice", "bob")
    ]


async def test_nobody_begins_an_epoch_that_somebody_else_has_signed(server, autojump_clock):
    """Carol has seen a request of alice, or is the next owner, or changes a byte of it."""
    by_alice = begin(server, "alice", "bob", "carol", after=server.first)
    assert await reason_of(server, C, by_alice) == Reason.WRONG_EPOCH
    assert await reason_of(server, B, by_alice) == Reason.WRONG_EPOCH
    changed = bytearray(by_alice.epoch)
    changed[-1] ^= 1
    assert await reason_of(server, A, attrs.evolve(by_alice, epoch=bytes(changed))) == Reason.WRONG_EPOCH
    for epoch in (b"", b"x" * 64, b"\xc1" * MAX_EPOCH, by_alice.epoch[:64], by_alice.epoch[64:]):
        assert await reason_of(server, A, attrs.evolve(by_alice, epoch=epoch)) == Reason.WRONG_EPOCH
    assert await reason_of(server, A, attrs.evolve(by_alice, n=3)) == Reason.WRONG_EPOCH
    assert await reason_of(server, A, attrs.evolve(by_alice, room="!" + "0" * 32)) == Reason.WRONG_EPOCH
    assert isinstance(await server.ask_room(A, by_alice), RoomChanged), "no id was used up"


async def test_an_owner_is_in_their_epoch_under_their_own_name(server, autojump_clock):
    own = identity_of(A).public
    members = [("alice2", own), ("bob", identity_of(B).public)]
    request = begin(server, "alice", after=server.first, members=members)
    assert await reason_of(server, A, request) == Reason.WRONG_EPOCH


async def test_of_two_owners_at_once_the_second_one_tries_again(server, autojump_clock):
    second = await next_epoch(server, "alice", "bob", owners=("alice", "bob"))
    one = begin(server, "alice", "bob", "carol", owners=("alice", "bob"), after=second)
    other = begin(server, "alice", "bob", by="bob", owners=("alice", "bob"), after=second)
    assert isinstance(await server.ask_room(A, one), RoomChanged)
    answer = await server.ask_room(B, other)
    assert answer == other.refused(Reason.WRONG_EPOCH)
    assert not is_repeatable(other, answer), "the same request might be accepted later"
    again = begin(server, "alice", "bob", by="bob", owners=("alice", "bob"), after=signed_of(one))
    assert isinstance(await server.ask_room(B, again), RoomChanged)


async def test_copies_of_an_old_epoch_change_nothing(server, autojump_clock):
    request = begin(server, "alice", "bob", "carol", after=server.first)
    await server.ask_room(A, request)
    await next_epoch(server, "alice", "bob", after=signed_of(request))
    head = server.store.log[-1].seq
    answer = await server.ask_room(A, request)
    assert isinstance(answer, RoomChanged)
    assert answer.room.members == 2
    assert server.store.log[-1].seq == head
    assert C not in [one.peer for one in server.service.members_online(server.room)]
    # The same signed bytes under another id: somebody else's copy of them would be refused for its signature.
    again = attrs.evolve(request, id=server.id())
    assert await reason_of(server, A, again) == Reason.WRONG_EPOCH


async def test_who_has_left_is_not_brought_back(server, autojump_clock):
    late = begin(server, "alice", "bob", "carol", after=server.first)
    assert isinstance(await server.ask_room(B, LeaveRoom(server.id(), server.room)), RoomChanged)
    assert await reason_of(server, A, late) == Reason.WRONG_EPOCH
    assert server.service.session("bob").rooms == {}
    await next_epoch(server, "alice", "carol")
    assert await server.sent_to(B) is None


# --- getting an epoch ---


async def fetch(server, peer, n: int = 0) -> bytes:
    """The epoch, in as many parts as it takes."""
    body, size = b"", 1
    while len(body) < size:
        part = await server.ask_room(peer, GetEpoch(server.id(), server.room, n, len(body)))
        assert isinstance(part, EpochPart), part
        body, size = body + part.part, part.size
    return body


async def test_a_member_gets_an_epoch_in_parts(server, autojump_clock):
    await server.come("dave", D)
    second = await next_epoch(server, "alice", "bob", "carol", "dave")
    assert len(second.body) > 800
    for peer in (A, B, C, D):
        assert await fetch(server, peer) == second.body
    for peer in (A, B):
        assert await fetch(server, peer, 1) == server.first.body
    for peer in (C, D):
        assert await reason_of(server, peer, GetEpoch(server.id(), server.room, 1)) == Reason.NO_SUCH_ROOM
    assert await reason_of(server, A, GetEpoch(server.id(), server.room, 3)) == Reason.NO_SUCH_ROOM
    part = await server.ask_room(A, GetEpoch(server.id(), server.room, 0, MAX_EPOCH - 1))
    assert (part.part, part.size, part.n) == (b"", len(second.body), 2)


async def test_who_is_removed_gets_no_epoch_even_if_they_have_asked_before(server, autojump_clock):
    """The request was allowed, and waits while they are removed."""
    outcome = server.ask(B, GetEpoch(server.id(), server.room))
    assert isinstance(outcome, AskRoom)
    await next_epoch(server, "alice")
    server.room_requests.take(B, outcome)
    server.service.throttle.begin("messages_in_progress", B.key)
    await trio.testing.wait_all_tasks_blocked()
    assert server.endpoint.answers[-1][1].reason == Reason.NOT_A_MEMBER


async def test_who_is_removed_while_they_ask_for_an_epoch_of_theirs_gets_it(server, autojump_clock):
    """A post of that epoch is on its way to them. Without the key it would look forged."""
    assert await post(server, A)
    second = await next_epoch(server, "alice")
    third = await next_epoch(server, "alice", "carol", after=second)
    assert await fetch(server, B, 1) == server.first.body
    for n in (0, 2, 3, 4):
        assert await reason_of(server, B, GetEpoch(server.id(), server.room, n)) == Reason.NOT_A_MEMBER
    assert await fetch(server, C) == third.body
    for n in (1, 2, 4):
        assert await reason_of(server, C, GetEpoch(server.id(), server.room, n)) == Reason.NO_SUCH_ROOM


# --- limits ---


def test_epochs_have_a_limit_for_each_key():
    server = BareServer(Limits(epochs_per_key=Rate(3, 0.001)))
    server.enter("alice", A)
    server.enter("bob", B)
    request = begin(server, "alice")
    later = [attrs.evolve(request, id=server.id(), n=2) for _ in range(5)]
    outcomes = [server.ask(A, one) for one in later]
    assert [type(one) for one in outcomes] == [AskRoom] * 3 + [Refused] * 2
    assert (outcomes[-1].reason, outcomes[-1].after > 100) == (Reason.TOO_FAST, True)
    assert isinstance(server.ask(B, attrs.evolve(request, id=server.id())), AskRoom)
    assert server.service.refusals == {"epochs_per_key": 2}


def test_a_first_epoch_counts_as_a_new_room():
    server = BareServer(Limits(new_rooms_per_key=Rate(2, 0.001)))
    server.enter("alice", A)
    first = begin(server, "alice")
    outcomes = [server.ask(A, attrs.evolve(first, id=server.id())) for _ in range(3)]
    assert [type(one) for one in outcomes] == [AskRoom, AskRoom, Refused]
    assert isinstance(server.ask(A, attrs.evolve(first, id=server.id(), n=2)), AskRoom)


async def test_an_epoch_counts_by_those_who_are_told(server, autojump_clock):
    assert {one.name for one in server.service.rooms.told_of(begin(server, "alice", after=server.first))} == {
        "alice",
        "bob",
    }


async def test_what_a_stranger_has_filled_leaves_somebody_their_rooms(server, autojump_clock):
    assert LIMITS.rooms_per_key == 100
    for number in range(30):
        await trio.sleep(60)  # for the rates
        request = begin(server, "carol", "bob", by="carol", owners=("carol",), name=f"spam{number}")
        answer = await server.ask_room(C, request)
        for peer in (B, C):
            await server.take_all(peer)
        if number >= 12:
            assert answer == request.refused(Reason.THEY_ARE_IN_TOO_MANY)
        else:
            assert isinstance(answer, RoomChanged)
    mine = begin(server, "bob", by="bob", owners=("bob",), name="mine")
    assert isinstance(await server.ask_room(B, mine), RoomChanged)


# --- what the server has of it ---


async def test_the_store_has_no_word_of_a_post(server, autojump_clock):
    one, own = server.first.epoch, identity_of(A)
    room = RoomKey(one.room, one.name, one.n, server.first.hash, room_key_untrusted(one, own))
    id_ = server.id()
    body = seal_post(own, room, bytes(NONCE), id=id_, sender="alice", sent_at=1.0, text="the soup is cold")
    await server.append(server.ask(A, GroupPost(id_, body, server.room)))
    dump = "\n".join(server.store._database.iterdump())
    assert body.hex().upper() in dump.upper(), "it is there"
    for secret in (b"soup", b"cold", KEY, room.key):
        assert secret.hex().upper() not in dump.upper()
        assert secret.decode("latin-1") not in dump
    open_post = sign_post(own, id=id_, sender="alice", sent_at=1.0, text="the soup is cold")
    assert b"soup" in open_post, "as in an open room"
