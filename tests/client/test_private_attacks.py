"""Attacks on private rooms, each found by somebody who tried them: hostile servers, owners, members and strangers."""

import contextlib
import hashlib
import secrets
from functools import partial

import pytest
import trio
import trio.lowlevel

from tests.client.raw_server import RawServer, open_client
from tests.stage import identity_of
from trio_chat import errors
from trio_chat.client.events import (
    GroupMessageReceived,
    MemberLeft,
    RemovedFromRoom,
    RoomMembersChanged,
    RoomNotTrusted,
)
from trio_chat.crypto.letters import HPKE, Unreadable
from trio_chat.crypto.room_keys import (
    _EPOCH,
    RoomKey,
    SignedEpoch,
    _commitment,
    _key_info,
    open_sealed_post_untrusted,
    room_key_untrusted,
    seal_post,
    sign_epoch,
)
from trio_chat.crypto.signatures import statement
from trio_chat.protocol.epochs import NO_EPOCH, Epoch, RoomMember, encode_epoch
from trio_chat.protocol.messages import GroupPost
from trio_chat.protocol.records import Entry, EntryKind, PublicKeys, Reason, Room, room_id
from trio_chat.protocol.room_messages import (
    BeginEpoch,
    GetEpoch,
    ListMembers,
    ListRooms,
    RoomChanged,
)
from trio_chat.storage import kept_epochs
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.storage.server_memory import MemoryServerStore
from trio_chat.transport.ids import new_id


def craft(own, key, *, room, name, listed, owners, before=None, n=None):
    """An epoch as a hostile owner can make it. `listed`: name -> (keys that it lists, X25519 public object or None)."""
    n = n or (before.epoch.n + 1 if before else 1)
    members = []
    for one, (keys, real) in listed.items():
        info = _key_info(room, n, own.public.signing, keys)
        sealed = HPKE.encrypt(key, real, info) if real is not None else secrets.token_bytes(80)
        members.append(RoomMember(one, keys, sealed))
    epoch = Epoch(room, name, n, before.hash if before else NO_EPOCH, own.public.signing, _commitment(key),
                  tuple(owners), tuple(members))  # fmt: skip
    raw = encode_epoch(epoch)
    return SignedEpoch(epoch, own.signing.sign(statement(_EPOCH, raw)) + raw)


def listing(*names):
    return {one: (identity_of(one).public, identity_of(one).link.public_key()) for one in names}


def signing(*names):
    return [identity_of(one).public.signing for one in names]


async def begin(person, signed, id_=None):
    """A hostile program gives this epoch to the server."""
    request = BeginEpoch(id_ or new_id(), signed.epoch.room, signed.epoch.n, signed.body)
    return await person.chat._registration.ask(request)


# --- any stranger ends the program of a victim, and again at each start ---


async def test_a_stranger_cannot_end_the_program_of_somebody_whom_they_make_an_owner(stage, autojump_clock):
    mallory, _puppet = await stage.enter("mallory"), await stage.enter("puppet")
    bob = await stage.enter("bob")
    id_ = new_id()
    room = room_id(identity_of("mallory").public.signing, id_, private=True)
    no_key = PublicKeys(identity_of("zed").public.signing, bytes(32))
    await stage.enter("zed")
    alone = craft(
        identity_of("mallory"), secrets.token_bytes(32), room=room, name="trap", listed=listing("mallory"),
        owners=signing("mallory"),
    )  # fmt: skip
    assert isinstance(await begin(mallory, alone, id_), RoomChanged)
    first = craft(
        identity_of("mallory"), secrets.token_bytes(32), room=room, name="trap",
        listed=listing("mallory", "bob", "puppet") | {"zed": (no_key, None)}, owners=signing("mallory", "bob"),
        before=alone,
    )  # fmt: skip
    # The server knows the keys of zed. What a client does with such an epoch is in the test at the end of this file.
    answer = await begin(mallory, first)
    assert answer.reason is Reason.UNKNOWN
    await stage.pass_time(1)
    assert bob.received == []


# --- a removed owner gets the next key ---


async def test_who_is_removed_gets_no_later_key_by_listing_a_false_link_key(stage, autojump_clock):
    alice, mallory, carol = [await stage.enter(one) for one in ("alice", "mallory", "carol")]
    await alice.chat.create_room("plans", private=True)
    await alice.chat.invite("plans", "mallory")
    await alice.chat.invite("plans", "carol")
    await alice.chat.add_owner("plans", "mallory")
    await stage.pass_time(1)
    evil = identity_of("evil")
    present = mallory.chat._context.epochs
    (room,) = present._present
    before = present.present(room)
    # Carol is listed with a link key of mallory's, but her key is sealed for her real one: she notices nothing.
    false = PublicKeys(identity_of("carol").public.signing, evil.public.link)
    forged = craft(
        identity_of("mallory"), secrets.token_bytes(32), room=room, name="plans",
        listed=listing("alice", "mallory") | {"carol": (false, identity_of("carol").link.public_key())},
        owners=signing("alice", "mallory"), before=before,
    )  # fmt: skip
    await begin(mallory, forged)
    await stage.pass_time(1)
    for one in (alice, carol):
        assert not any(isinstance(event, RoomNotTrusted) for event in one.received), "nobody notices"
    await alice.chat.remove("plans", "mallory")
    await stage.pass_time(1)
    after = alice.chat._context.epochs.present(room)
    assert after.epoch.n > before.epoch.n
    # The server gives mallory the epoch in which he is no member.
    member = after.epoch.member(identity_of("carol").public.signing)
    try:
        key = HPKE.decrypt(member.sealed, evil.link, _key_info(room, after.epoch.n, after.epoch.owner, member.keys))
    except Exception:
        key = None
    assert key is None or _commitment(key) != after.epoch.commitment, "mallory has the key of the epoch without him"


# --- honest use ---


async def test_inviting_another_name_of_a_member_is_an_error_for_the_user(stage, autojump_clock):
    alice, _ = await stage.enter("alice"), await stage.enter("bobby", identity=identity_of("bob"))
    await stage.enter("bob")
    await alice.chat.create_room("plans", private=True)
    await alice.chat.invite("plans", "bob")
    with pytest.raises(errors.ChatError):
        await alice.chat.invite("plans", "bobby")


# --- members without ourselves ---


async def test_leaving_at_the_moment_somebody_else_leaves_does_not_end_the_program(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await alice.chat.create_room("plans", private=True)
    await alice.chat.invite("plans", "bob")
    await stage.pass_time(1)
    # Requests are done in the order in which they came: the leave, then the list that the owner's program asks for.
    store = stage.server_store
    real = store.list_members
    trio.Event()

    async def slow_list(room, after, count):
        # Only the order matters: the list is made after alice's own leave, which came at the same moment.
        store.list_members = real
        await store.change_room(
            Entry(0, EntryKind.LEFT, new_id(), "alice", identity_of("alice").public.signing, room, 1.0),
            stage.limits,
        )
        return await real(room, after, count)

    store.list_members = slow_list
    await bob.chat.leave("plans")
    await stage.pass_time(5)
    assert not alice.dead.is_set()


async def test_the_same_race_without_a_helping_hand(stage, autojump_clock):
    alice, _bob = await stage.enter("alice"), await stage.enter("bob")
    await alice.chat.create_room("plans", private=True)
    await alice.chat.invite("plans", "bob")
    await stage.pass_time(1)
    epochs = alice.chat._context.epochs
    (room,) = epochs._present
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(alice.chat.leave, "plans", anyway=True))
        await trio.lowlevel.checkpoint()
        epochs.look_at(room)  # as a LEFT of bob does that arrives now
    await stage.pass_time(5)
    assert not alice.dead.is_set()


# --- the first epoch is handed to all who are in it ---


async def test_a_first_epoch_with_several_members_is_handed_to_all_of_them(stage, autojump_clock):
    mallory, bob = await stage.enter("mallory"), await stage.enter("bob")
    id_ = new_id()
    room = room_id(identity_of("mallory").public.signing, id_, private=True)
    first = craft(
        identity_of("mallory"), secrets.token_bytes(32), room=room, name="fun", listed=listing("mallory", "bob"),
        owners=signing("mallory"),
    )  # fmt: skip
    assert isinstance(await begin(mallory, first, id_), RoomChanged)
    await mallory.chat.send_all("wake up")
    await stage.pass_time(5)
    assert bob.received[0] == RoomMembersChanged("fun", "mallory", joined=True), bob.received


# --- a server played by hand ---

ROOM = room_id(identity_of("alice").public.signing, b"r" * 16, private=True)


def chain(*steps, name="plans", owner="alice"):
    """Epochs: each step is (members, owners)."""
    made = []
    for members, owners in steps:
        made.append(
            sign_epoch(
                identity_of(owner),
                hashlib.sha256(b"%d" % len(made)).digest(),
                room=ROOM,
                name=name,
                members=[(one, identity_of(one).public) for one in members],
                owners=signing(*owners),
                before=made[-1] if made else None,
            )
        )
    return made


def key_of(signed, who):
    epoch = signed.epoch
    return RoomKey(epoch.room, epoch.name, epoch.n, signed.hash, room_key_untrusted(epoch, identity_of(who)))


def epoch_entry(seq, signed, *, sender="alice", id_=None):
    return Entry(seq, EntryKind.EPOCH, id_ or new_id(), sender, identity_of(sender).public.signing, signed.epoch.room,
                 0.0, signed.body)  # fmt: skip


def removed_entry(seq, *, sender="alice", to="bob", id_=None, room=ROOM):
    return Entry(seq, EntryKind.REMOVED, id_ or new_id(), sender, identity_of(sender).public.signing, to, 0.0,
                 room.encode())  # fmt: skip


def post_entry(seq, signed, sender, text):
    id_ = new_id()
    body = seal_post(identity_of(sender), key_of(signed, sender), bytes(12), id=id_, sender=sender, sent_at=0.0,
                     text=text)  # fmt: skip
    return Entry(seq, EntryKind.GROUP, id_, sender, identity_of(sender).public.signing, ROOM, 0.0, body)


class PrivateServer(RawServer):
    def __init__(self, network):
        super().__init__(network, rows=("alice", "mallory", "carol"))
        self.answers = {}
        self.answer = self._answer_here

    def _answer_here(self, request):
        if answer := self.answers.get(type(request)):
            return answer(request)
        return self._answer(request)


@pytest.fixture
async def server(network, nursery):
    server = PrivateServer(network)
    nursery.start_soon(server.listen)
    return server


@pytest.fixture
async def bob(network, server):
    async with open_client(network, "bob") as bob:
        yield bob


async def test_remove_does_not_say_that_it_is_done_while_we_go_on_with_the_old_key(network, server, autojump_clock):
    server._rows = tuple(one for one in server._rows if one.name != "alice")
    first, second = chain((["alice"], ["alice"]), (["alice", "mallory"], ["alice"]))
    room = Room(ROOM, "plans", signing("alice")[0], 2, 1)
    async with open_client(network, "alice") as alice:
        assert await server.hand_over(epoch_entry(2, first))
        assert await server.hand_over(epoch_entry(3, second))
        server.answers[ListMembers] = lambda request: request.listed(("alice", "mallory"))
        server.answers[BeginEpoch] = lambda request: request.changed(room)  # and throws it away
        server.answers[GetEpoch] = lambda request: request.part(3, 2, second.body)
        try:
            await alice.chat.remove("plans", "mallory")
        except errors.ChatError:
            return  # told: not done
        posted = []
        server.answers[GroupPost] = lambda request: posted.append(request) or request.accepted()
        await alice.chat.post("plans", "mallory is a spy")
        (request,) = posted
        with pytest.raises(Unreadable):
            open_sealed_post_untrusted(
                request.body, key_of(second, "mallory"), signing("alice")[0], id=request.id, sender="alice"
            )


async def test_a_removal_that_comes_again_does_not_end_a_later_membership(network, server, bob, autojump_clock):
    """The server was killed before it wrote that bob has these: it hands them over again."""
    one, _two, three = chain((["alice", "bob"], ["alice"]), (["alice"], ["alice"]), (["alice", "bob"], ["alice"]))
    await server.hand_over(epoch_entry(2, one))
    batch = [removed_entry(4), epoch_entry(6, three)]
    assert (await server.hand_over(*batch)).count == 2
    shown = list(bob.shown)
    assert (await server.hand_over(*batch)).count == 2
    assert bob.shown == shown
    assert bob.chat._context.epochs.present(ROOM) is not None


async def test_the_same_with_a_real_server_that_is_killed(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await alice.chat.create_room("plans", private=True)
    await alice.chat.invite("plans", "bob")
    await stage.pass_time(2)
    store = bob.store
    await bob.kill()
    await stage.pass_time(80)
    await alice.chat.remove("plans", "bob")
    await alice.chat.invite("plans", "bob")
    await stage.pass_time(2)
    bob = await stage.enter("bob", store=store)
    await stage.pass_time(0.3)
    assert [type(one) for one in bob.received] == [RemovedFromRoom, RoomMembersChanged], bob.received
    await stage.kill_server()
    await stage.start_server()
    await stage.pass_time(60)
    assert not any(isinstance(one, RoomNotTrusted) for one in bob.received), bob.received
    await alice.chat.post("plans", "hello")
    await stage.pass_time(2)
    assert bob.texts() == ["hello"]


async def test_a_message_under_an_old_key_is_not_accepted_after_a_new_epoch(server, bob, autojump_clock):
    one, two = chain((["alice", "bob", "mallory"], ["alice"]), (["alice", "bob"], ["alice"]))
    await server.hand_over(epoch_entry(10, one))
    await server.hand_over(epoch_entry(20, two))
    bob.shown.clear()
    await server.hand_over(post_entry(30, two, "alice", "mallory is gone"))
    # The removed member and the server together, days later.
    await server.hand_over(post_entry(15, one, "mallory", "no, I am here"))
    assert GroupMessageReceived("mallory", "no, I am here", room="plans") not in bob.shown, bob.shown


async def test_a_gap_is_told_whatever_id_the_server_gives_the_entry(server, bob, autojump_clock):
    one, _two, _three, four = chain(
        (["alice", "bob"], ["alice"]), (["alice", "bob", "carol"], ["alice"]),
        (["alice", "bob"], ["alice"]), (["alice", "bob", "mallory"], ["alice"]),
    )  # fmt: skip
    await server.hand_over(epoch_entry(2, one, id_=b"a" * 16))
    bob.shown.clear()
    server.answers[GetEpoch] = lambda request: request.refused(Reason.NO_SUCH_ROOM)
    await server.hand_over(epoch_entry(5, four, id_=b"a" * 16))
    assert bob.chat._context.epochs.present(ROOM).epoch.n == 4
    assert bob.shown == [RoomMembersChanged("plans", "alice", added=("mallory",), gap=True)]


async def test_a_change_that_was_asked_for_is_told(server, bob, autojump_clock):
    one, _two, three = chain(
        (["alice", "bob"], ["alice"]), (["alice", "bob", "carol"], ["alice"]), (["alice", "bob", "mallory"], ["alice"])
    )
    await server.hand_over(epoch_entry(2, one))
    bob.shown.clear()
    server.answers[GroupPost] = lambda request: (
        request.refused(Reason.WRONG_EPOCH) if request.body[7] == 1 else request.accepted()
    )
    server.answers[GetEpoch] = lambda request: request.part(5, 3, three.body)
    await bob.chat.post("plans", "hi")
    await server.hand_over(epoch_entry(5, three))
    assert bob.shown == [RoomMembersChanged("plans", "alice", added=("mallory",), gap=True)]


async def test_the_server_and_a_member_do_not_take_the_room_over_unnoticed(server, bob, autojump_clock):
    (one,) = chain((["alice", "bob", "mallory"], ["alice"]))
    await server.hand_over(epoch_entry(2, one))
    bob.shown.clear()
    # mallory owns nothing.
    stolen = sign_epoch(
        identity_of("mallory"), bytes(32), room=ROOM, name="plans",
        members=[(who, identity_of(who).public) for who in ("alice", "bob", "mallory")],
        owners=signing("mallory"), before=one,
    )  # fmt: skip
    await server.hand_over(removed_entry(3))
    await server.hand_over(epoch_entry(4, stolen, sender="mallory"))
    assert bob.shown == [
        RemovedFromRoom("plans", "alice"),
        RoomMembersChanged("plans", "mallory", joined=True, unknown_owner=True),
    ]


async def test_the_server_takes_a_member_away_for_the_others_and_the_owner_is_told(network, server, autojump_clock):
    server._rows = tuple(one for one in server._rows if one.name != "alice")
    (one,) = chain((["alice", "mallory", "carol"], ["alice"]))
    begun = []
    async with open_client(network, "alice") as alice:
        server.answers[ListMembers] = lambda request: request.listed(("alice", "mallory"))

        def answer(request):
            begun.append(request)
            return request.changed(Room(ROOM, "plans", signing("alice")[0], 2, 1))

        server.answers[BeginEpoch] = answer
        await server.hand_over(epoch_entry(2, one))
        await server.hand_over(Entry(3, EntryKind.LEFT, new_id(), "carol", signing("carol")[0], ROOM, 0.0))
        server.answers[GetEpoch] = lambda request: request.part(4, 2, begun[0].epoch)
        await trio.sleep(5)
        assert alice.shown == [
            MemberLeft("plans", "carol", private=True),
            RoomMembersChanged("plans", "alice", removed=("carol",)),
        ]


async def test_a_server_that_leaves_the_owner_out_of_a_list_does_not_end_the_program(
    network, server, nursery, autojump_clock
):
    server._rows = tuple(one for one in server._rows if one.name != "alice")
    (one,) = chain((["alice", "carol"], ["alice"]))
    server.answers[ListMembers] = lambda request: request.listed(("carol",))
    async with open_client(network, "alice") as alice:
        await server.hand_over(epoch_entry(2, one))
        await trio.sleep(5)
        assert alice.chat.online


async def test_who_is_blocked_shows_nothing_by_epochs_that_cannot_be_opened(stage, autojump_clock):
    mallory, bob = await stage.enter("mallory"), await stage.enter("bob")
    await bob.chat.block("mallory")
    for number in range(3):
        id_ = new_id()
        room = room_id(identity_of("mallory").public.signing, id_, private=True)
        alone = craft(
            identity_of("mallory"), secrets.token_bytes(32), room=room, name=f"trap{number}",
            listed=listing("mallory"), owners=signing("mallory"),
        )  # fmt: skip
        assert isinstance(await begin(mallory, alone, id_), RoomChanged)
        bad = craft(
            identity_of("mallory"), secrets.token_bytes(32), room=room, name=f"trap{number}", before=alone,
            listed=listing("mallory") | {"bob": (identity_of("bob").public, None)}, owners=signing("mallory"),
        )  # fmt: skip
        assert isinstance(await begin(mallory, bad), RoomChanged)
    await stage.pass_time(2)
    assert bob.received == []


async def test_who_is_blocked_shows_nothing_by_changing_a_room(stage, autojump_clock):
    mallory, bob, _carol = [await stage.enter(one) for one in ("mallory", "bob", "carol")]
    await mallory.chat.create_room("fun", private=True)
    await mallory.chat.invite("fun", "bob")
    await stage.pass_time(1)
    await bob.chat.block("mallory")
    bob.received.clear()
    for _ in range(2):
        await mallory.chat.invite("fun", "carol")
        await mallory.chat.remove("fun", "carol")
    await mallory.chat.remove("fun", "bob")
    await stage.pass_time(2)
    assert bob.received == []


async def test_an_invitation_during_a_list_of_our_rooms_is_not_forgotten(server, bob, autojump_clock):
    (one,) = chain((["alice", "bob"], ["alice"]))
    open_rooms = [Room("#" + f"{n:032x}", f"open{n}", bytes(32), 1, 1) for n in range(8)]
    asked = []

    def answer(request):
        asked.append(request)
        if not request.after:
            return request.listed(tuple(open_rooms[:7]))
        return None  # this answer is late

    server.answers[ListRooms] = answer
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bob.chat.joined_rooms)
        await trio.sleep(0.1)
        await server.hand_over(epoch_entry(2, one))
        private = Room(ROOM, "plans", signing("alice")[0], 2, 1)
        server.answers[ListRooms] = lambda request: request.listed((open_rooms[7], private))
    bob.shown.clear()
    await server.hand_over(post_entry(3, one, "alice", "hello"))
    assert bob.shown == [GroupMessageReceived("alice", "hello", room="plans")]


async def test_a_room_more_than_we_may_have_is_an_error_for_the_user(stage, monkeypatch, autojump_clock):
    monkeypatch.setattr("trio_chat.client.epochs.MAX_PRIVATE_ROOMS", 1)
    alice = await stage.enter("alice")
    await alice.chat.create_room("one", private=True)
    with pytest.raises(errors.ChatError):
        await alice.chat.create_room("two", private=True)


async def test_leaving_right_after_an_invitation_does_not_end_the_program(stage, autojump_clock):
    alice, _bob = await stage.enter("alice"), await stage.enter("bob")
    await alice.chat.create_room("plans", private=True)
    await alice.chat.invite("plans", "bob")
    await alice.chat.leave("plans", anyway=True)
    await stage.pass_time(5)
    assert not alice.dead.is_set()


async def test_two_who_leave_at_once(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await alice.chat.create_room("plans", private=True)
    await alice.chat.invite("plans", "bob")
    await stage.pass_time(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bob.chat.leave, "plans")
        nursery.start_soon(partial(alice.chat.leave, "plans", anyway=True))
    await stage.pass_time(5)
    assert not alice.dead.is_set()


async def test_a_stranger_fills_the_rooms_of_somebody_with_one_key_for_each(stage, autojump_clock):
    """From one address, at once."""
    bob = await stage.enter("bob")
    limit = 100
    for number in range(limit):
        name = f"m{number}"
        one = await stage.enter(name, host="10.9.9.9", port=7000 + number)
        await one.chat.create_room(f"r{number}", private=True)
        with contextlib.suppress(errors.TheyAreInTooManyRooms):
            await one.chat.invite(f"r{number}", "bob")
        await one.kill()
    await stage.pass_time(2)
    try:
        await bob.chat.create_room("mine")
    except errors.TooManyRooms:
        pytest.fail("bob can be in no other room")


async def test_a_server_that_was_put_back_to_a_copy_does_not_end_a_room_for_ever(stage, autojump_clock):
    alice, _bob = await stage.enter("alice"), await stage.enter("bob")
    await alice.chat.create_room("plans", private=True)
    await alice.chat.invite("plans", "bob")
    await stage.pass_time(2)
    copy = MemoryServerStore()
    stage.server_store._database.backup(copy._database)
    await stage.enter("carol")
    await alice.chat.invite("plans", "carol")
    await stage.pass_time(2)
    await stage.kill_server()
    await stage.start_server(copy)
    await stage.pass_time(60)
    await alice.chat.post("plans", "hello")


async def test_what_is_known_of_past_epochs_is_bounded(server, bob, autojump_clock):
    names = ["alice", "bob", *(f"n{i:030d}" for i in range(98))]
    epochs, made = bob.chat._context.epochs, None
    for n in range(80):
        members = [(one, identity_of(one).public) for one in names]
        made = sign_epoch(
            identity_of("alice"), bytes([n] * 32), room=ROOM, name="plans", before=made, members=members,
            owners=signing("alice"),
        )  # fmt: skip
        epochs.take_untrusted(bytes(bytearray(made.body)), ROOM, 10 + n)
        await epochs.keep()
    assert len(epochs._known) <= kept_epochs.KEYS_OF_ROOM
    assert sum(one.members is not None for one in epochs._known.values()) <= 3


async def test_at_each_start_again(network, server, autojump_clock):
    """The store has an epoch in which a member has no usable key, and another member has left."""
    server._rows = tuple(one for one in server._rows if one.name not in ("bob",))
    no_key = PublicKeys(identity_of("zed").public.signing, bytes(32))
    trap = craft(identity_of("mallory"), bytes(32), room=ROOM, name="trap", owners=signing("mallory", "bob"),
                 listed=listing("mallory", "bob") | {"zed": (no_key, None)})  # fmt: skip
    server.answers[ListMembers] = lambda request: request.listed(("bob", "mallory", "zed"))
    store = MemoryClientStore()
    async with open_client(network, "bob", store=store):
        await server.hand_over(epoch_entry(2, trap, sender="mallory"))
        await trio.sleep(1)
    server.answers[ListMembers] = lambda request: request.listed(("bob", "zed"))
    ends = []
    for _ in range(3):
        try:
            async with open_client(network, "bob", store=store):
                await trio.sleep(1)
        except* Unreadable as group:
            ends.append(group)
    assert not ends, f"ended {len(ends)} times of 3"


async def test_an_epoch_is_durable_before_its_entry_is_acknowledged(network, server, autojump_clock):
    one, two = chain((["alice", "bob"], ["alice"]), (["alice", "bob"], ["alice"]))
    store = MemoryClientStore()
    written = []
    real_keep, real_epochs = store.keep, store.keep_epochs

    async def slow_keep(entries):
        await trio.sleep(0.1)
        await real_keep(entries)

    async def slow_epochs(epochs):
        await trio.sleep(5)
        await real_epochs(epochs)
        written.extend(epochs)

    async with open_client(network, "bob", store=store) as bob:
        await server.hand_over(epoch_entry(2, one))
        store.keep, store.keep_epochs = slow_keep, slow_epochs
        async with trio.open_nursery() as nursery:

            async def hand():
                taken = await server.hand_over(epoch_entry(3, two))
                assert taken is None or written, "acknowledged, and not on the disk"

            nursery.start_soon(hand)
            await trio.sleep(0.05)
            await bob.chat._context.epochs.keep()  # as `fetch` does in the task of a user


async def test_who_is_put_into_rooms_and_removed_all_the_time_remembers_a_limited_number(
    server, bob, monkeypatch, autojump_clock
):
    """Somebody invites bob into one room after the other, and removes him."""
    for name, most in (("ROOM_KEYS_KEPT", 20), ("ENDED_KEPT", 5), ("MAX_IGNORED", 5)):
        monkeypatch.setattr(f"trio_chat.client.epochs.{name}", most)
    epochs = bob.chat._context.epochs

    def take(n, who):
        room = "!" + f"{n:032x}"
        signed = sign_epoch(
            identity_of(who), bytes(32), room=room, name=f"r{n}", owners=signing(who),
            members=[(one, identity_of(one).public) for one in (who, "bob")],
        )  # fmt: skip
        epochs.take_untrusted(signed.body, room, 10 + n)
        epochs.removed(room, 10 + n)

    for n in range(100):
        take(n, "alice")
    await bob.chat.block("mallory")
    for n in range(100, 200):
        take(n, "mallory")
    assert len(epochs._known) <= 20
    assert len(epochs._latest) <= 20
    assert len(epochs._ended) == len(epochs._blocked) == len(epochs._left) == 5
