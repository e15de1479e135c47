"""Private rooms at the client, whatever a server answers: members, owners, messages, and epochs that are missing.

The server is played by the test (raw_server.py). It keeps rooms as a server does, but checks nothing, and the test can
have it answer something else. In virtual time; what takes how long is not looked at.
"""

import attrs
import pytest
import trio

from tests.client.raw_server import EPOCH, RawServer, credentials_of, open_client
from tests.stage import identity_of
from trio_chat import errors
from trio_chat.client import epochs as epochs_module
from trio_chat.client.events import (
    GroupMessageReceived,
    LetterUnreadable,
    MemberLeft,
    RemovedFromRoom,
    RoomMembersChanged,
    RoomNotTrusted,
)
from trio_chat.client.private_rooms import LOOK_AGAIN
from trio_chat.client.room_requests import MAX_PARTS_ASKED
from trio_chat.crypto.room_keys import (
    NONCE,
    RoomKey,
    SignedEpoch,
    epoch_of_post,
    open_sealed_post_untrusted,
    read_epoch_untrusted,
    room_key_untrusted,
    seal_post,
    sign_epoch,
)
from trio_chat.crypto.signatures import statement
from trio_chat.protocol.epochs import MAX_OWNERS, MAX_PRIVATE_MEMBERS, encode_epoch
from trio_chat.protocol.messages import Busy, Find, GroupPost, Part, Taken
from trio_chat.protocol.parts import Assembly, OutgoingRequest
from trio_chat.protocol.records import Entry, EntryKind, PublicKeys, Reason, Record, Room, Version
from trio_chat.protocol.room_messages import (
    EPOCH_PART,
    MAX_MEMBERS_LISTED,
    BeginEpoch,
    CreateRoom,
    EpochPart,
    GetEpoch,
    JoinRoom,
    LeaveRoom,
    ListMembers,
    ListRooms,
)
from trio_chat.protocol.wire import decode_untrusted, encode
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.transport.ids import new_id
from trio_chat.transport.windows import SERVER_ATTEMPTS

OX, OPEN = "!" + 32 * "1", "#" + 32 * "1"
PEOPLE = ("alice", "carol", "dave", "eve")


def signing(name):
    return identity_of(name).public.signing


def epoch(*names, by="bob", owners=("bob",), before=None, room=OX, name="Ox", members=None) -> SignedEpoch:
    members = members or [(one, identity_of(one).public) for one in names]
    key, owner_keys = new_id() + new_id(), [signing(one) for one in owners]
    return sign_epoch(identity_of(by), key, room=room, name=name, members=members, owners=owner_keys, before=before)


def names(signed: SignedEpoch) -> list[str]:
    return sorted(signed.epoch.names)


def key_of(signed: SignedEpoch, member: str) -> RoomKey:
    one = signed.epoch
    return RoomKey(one.room, one.name, one.n, signed.hash, room_key_untrusted(one, identity_of(member)))


def post(signed, seq, text="hi", *, by="alice") -> Entry:
    body = seal_post(
        identity_of(by), key_of(signed, by), bytes(NONCE), id=(id_ := new_id()), sender=by, sent_at=0.0, text=text
    )
    return Entry(seq, EntryKind.GROUP, id_, by, signing(by), signed.epoch.room, 0.0, body)


def begins(signed, seq) -> Entry:
    """The entry that brings an epoch."""
    owner = signed.epoch.member(signed.epoch.owner).name
    return Entry(seq, EntryKind.EPOCH, new_id(), owner, signed.epoch.owner, signed.epoch.room, 0.0, signed.body)


class RoomServer(RawServer):
    """A server with one private room, called Ox. `answers[kind]` answers in its place.

    `epochs`: those that have begun, with their entries. `at_server`: who is in the room, if not those in the last one.
    """

    def __init__(self, network):
        super().__init__(network, rows=(*PEOPLE, "bob"))
        self.epochs, self.at_server, self.answers, self.room = [], None, {}, OX
        self.answer = self._answer_about_rooms
        self.hand_over_later = True
        self._parts = Assembly()

    @property
    def present(self) -> SignedEpoch:
        return self.epochs[-1][0]

    @property
    def seq(self) -> int:
        return 10 * len(self.epochs) + 10

    def begin(self, signed) -> Entry:
        """An epoch of somebody else begins; returns the entry, which is not handed over."""
        entry = begins(signed, self.seq)
        self.epochs.append((signed, self.seq))
        return entry

    def ox(self, **changes) -> Room:
        return attrs.evolve(Room(self.room, "Ox", signing("bob"), 2, 1), **changes)

    def send(self, peer, message):
        """Send a message, in parts if it is long."""
        for data in OutgoingRequest(message.kind, message.id, encode(message)).datagrams:
            super().send(peer, data)

    def _answer_about_rooms(self, request):
        if isinstance(request, Part):
            acknowledgement, whole = self._parts.add(request.id, request)
            if whole is None:
                return acknowledgement
            request = decode_untrusted(whole)
            self.received.append((self.client, request))
        if type(request) in self.answers:
            return self.answers[type(request)](request)
        return self.answer_as_a_server(request)

    def answer_as_a_server(self, request):
        """What a server answers that believes everything."""
        match request:
            case BeginEpoch():
                signed = read_epoch_untrusted(request.epoch)
                self.room = request.room
                entry = self.begin(signed)
                self.at_server = None
                if self.hand_over_later:
                    self.nursery.start_soon(self.hand_over, entry)
                return request.changed(self.ox(joined=entry.seq - 1))
            case GetEpoch(n=n):
                kept = [(one, seq) for one, seq in self.epochs if n in (0, one.epoch.n)]
                if not kept:
                    return request.refused(Reason.NO_SUCH_ROOM)
                one, seq = kept[-1]
                return request.part(seq, one.epoch.n, one.body)
            case Find(name=name):
                row = Record(name, "10.0.0.9", 6000, False, 1.0, credentials_of(name))
                return request.found(row, Version(EPOCH, 1))
            case ListMembers(after=after):
                present = names(self.present) if self.at_server is None else self.at_server
                following = sorted((name for name in present if name.lower() > after.lower()), key=str.lower)
                return request.listed(tuple(following[:MAX_MEMBERS_LISTED]))
            case ListRooms(own=True) | ListRooms(after="ow\x7f"):
                return request.listed((self.ox(),) if self.epochs else ())
            case JoinRoom() | LeaveRoom():
                return request.changed(self.ox(joined=int(isinstance(request, JoinRoom))))
            case GroupPost(body=body) if request.room == self.room and epoch_of_post(body) != self.present.epoch.n:
                return request.refused(Reason.WRONG_EPOCH)
        return self._answer(request)


@pytest.fixture
async def server(network, nursery):
    server = RoomServer(network)
    server.nursery = nursery
    nursery.start_soon(server.listen)
    return server


@pytest.fixture
async def bob(network, server):
    async with open_client(network, "bob") as bob:
        yield bob


async def bob_is_in(server, signed):
    """Somebody begins an epoch, and bob's client is told."""
    entry = server.begin(signed)
    assert (await server.hand_over(entry)).count == 1
    return signed


def texts_of_posts(server, reader) -> list[tuple[int, str]]:
    """What somebody can read of what the server was given: the number of the epoch, and the text."""
    read = []
    for sent in server.of(GroupPost):
        n = epoch_of_post(sent.body)
        for signed, _ in server.epochs:
            if signed.epoch.n == n and signed.epoch.member(signing(reader)):
                opened = open_sealed_post_untrusted(
                    sent.body, key_of(signed, reader), signing("bob"), id=sent.id, sender="bob"
                )
                read.append((n, opened.text))
    return read


async def test_a_room_is_created_people_come_and_go_and_only_they_read_it(server, bob, autojump_clock):
    assert await bob.chat.create_room("Ox", private=True) == "Ox"
    await bob.chat.post("ox", "alone")
    assert await bob.chat.invite("ox", "ALICE") == "alice"
    await bob.chat.post("ox", "with alice")
    assert await bob.chat.invite("ox", "carol") == "carol"
    await bob.chat.add_owner("ox", "Carol")
    assert await bob.chat.members("ox") == ["alice", "bob", "carol"]
    assert await bob.chat.owners("ox") == ["bob", "carol"]
    await bob.chat.remove("ox", "alice")
    await bob.chat.post("ox", "without alice")
    assert [names(one) for one, _ in server.epochs] == [
        ["bob"],
        ["alice", "bob"],
        ["alice", "bob", "carol"],
        ["alice", "bob", "carol"],
        ["bob", "carol"],
    ]
    assert texts_of_posts(server, "alice") == [(2, "with alice")]
    assert texts_of_posts(server, "carol") == [(5, "without alice")]
    assert bob.shown == [], "what we do ourselves is no event"
    assert [one.room for one in await bob.store.history("#ox", 9)] == ["Ox"] * 3


async def test_what_changes_nothing_is_not_asked_of_the_server(server, bob, autojump_clock):
    await bob.chat.create_room("Ox", private=True)
    await bob.chat.invite("ox", "alice")
    await bob.chat.invite("ox", "alice")
    await bob.chat.invite("ox", "bob")
    await bob.chat.add_owner("ox", "bob")
    assert len(server.of(BeginEpoch)) == 2


# --- messages, and a new epoch at the same time ---


async def test_a_message_is_sealed_again_under_the_same_id_for_those_who_are_in_the_room_now(
    server, bob, autojump_clock
):
    first = await bob_is_in(server, epoch("alice", "bob", by="alice", owners=("alice",)))
    without = epoch("alice", "bob", "carol", by="alice", owners=("alice",), before=first)
    # The entry is on its way when bob writes.
    server.nursery.start_soon(server.hand_over, server.begin(without))
    await bob.chat.post("ox", "hi")
    ids = {sent.id for sent in server.of(GroupPost)}
    assert len(ids) == 1
    assert texts_of_posts(server, "carol") == [(2, "hi")]
    assert [one.text for one in await bob.store.history("#ox", 9)] == ["hi"]


async def test_an_epoch_that_does_not_come_by_itself_is_asked_for_and_its_changes_are_shown_once(
    server, bob, autojump_clock
):
    """A server could otherwise have us write to somebody of whom we were never told."""
    first = await bob_is_in(server, epoch("alice", "bob", by="alice", owners=("alice",)))
    entry = server.begin(epoch("alice", "bob", "eve", by="alice", owners=("alice",), before=first))
    await bob.chat.post("ox", "hi")
    assert texts_of_posts(server, "eve") == [(2, "hi")]
    await server.hand_over(entry)
    assert bob.shown == [
        RoomMembersChanged("Ox", "alice", joined=True),
        RoomMembersChanged("Ox", "alice", ("eve",)),
    ]


async def test_a_late_copy_of_a_refusal_does_not_make_a_message_that_was_taken_fail(server, bob, autojump_clock):
    await bob_is_in(server, epoch("alice", "bob", by="alice", owners=("alice",)))
    reasons = iter((Reason.WRONG_EPOCH, Reason.CONFLICT))
    server.answers[GroupPost] = lambda request: request.refused(next(reasons))
    await bob.chat.post("ox", "hi")
    assert next(reasons, None) is None
    assert [one.text for one in await bob.store.history("#ox", 9)] == ["hi"]
    # Before the first answer nothing of ours can have been taken.
    server.answers[GroupPost] = lambda request: request.refused(Reason.CONFLICT)
    with pytest.raises(errors.IdInUse):
        await bob.chat.post("ox", "hi")


async def test_a_server_that_always_says_that_there_is_another_epoch_ends_nothing_but_this_message(
    server, bob, autojump_clock
):
    await bob_is_in(server, epoch("alice", "bob", by="alice", owners=("alice",)))
    server.answers[GroupPost] = lambda request: request.refused(Reason.WRONG_EPOCH)
    with pytest.raises(errors.ServerNotResponding):
        await bob.chat.post("ox", "hi")
    assert len(server.of(GroupPost)) == SERVER_ATTEMPTS
    assert {epoch_of_post(sent.body) for sent in server.of(GroupPost)} == {1}
    del server.answers[GroupPost]
    await bob.chat.post("ox", "hi")


# --- a server that gives a private room's name to another room ---


async def test_a_message_to_a_private_room_is_sealed_for_it_whatever_the_server_calls_so(server, bob, autojump_clock):
    await bob_is_in(server, epoch("alice", "bob"))
    fake = Room(OPEN, "Ox", signing("eve"), 2, 1)
    server.answers[ListRooms] = lambda request: request.listed((fake,))
    server.answers[JoinRoom] = lambda request: request.changed(fake)
    with pytest.raises(errors.MembersNotTrusted):
        await bob.chat.join("ox")
    await bob.chat.joined_rooms()
    await bob.chat.post("ox", "secret")
    (sent,) = server.of(GroupPost)
    assert sent.room == OX
    assert texts_of_posts(server, "alice") == [(1, "secret")]
    with pytest.raises(errors.RoomExists):
        await bob.chat.create_room("ox")
    with pytest.raises(errors.RoomExists):
        await bob.chat.create_room("ox", private=True)
    assert server.of(CreateRoom) == server.of(BeginEpoch) == []


async def test_another_private_room_of_ours_is_not_taken_for_the_one_that_we_have_named(server, bob, autojump_clock):
    await bob_is_in(server, epoch("alice", "bob"))
    server.answers[ListRooms] = lambda request: request.listed((server.ox(name="elk"),))
    with pytest.raises(errors.MembersNotTrusted):
        await bob.chat.post("elk", "for elk")
    with pytest.raises(errors.MembersNotTrusted):
        await bob.chat.members("elk")
    assert server.of(GroupPost) == []


async def test_a_room_that_the_server_knows_no_longer_can_be_left_and_its_name_used_again(server, bob, autojump_clock):
    await bob_is_in(server, epoch("alice", "bob"))
    server.answers[LeaveRoom] = lambda request: request.refused(Reason.NO_SUCH_ROOM)
    server.answers[ListMembers] = lambda request: request.refused(Reason.NOT_A_MEMBER)
    with pytest.raises(errors.NoSuchRoom):
        await bob.chat.leave("ox")
    await bob.chat.create_room("ox", private=True)
    assert bob.chat._context.epochs.named("ox").room != OX


async def test_who_has_left_a_room_is_not_in_it_after_a_restart_and_sees_nothing_of_it(
    network, server, bob, autojump_clock
):
    first = await bob_is_in(server, epoch("alice", "bob"))
    bob.shown.clear()
    await bob.chat.leave("ox", anyway=True)
    await server.hand_over(post(first, 25))
    assert bob.shown == []
    assert [one.body for one in bob.store.epochs()] == [b""]


async def test_an_owner_who_has_lost_their_store_begins_an_epoch_without_those_who_have_left_meanwhile(
    server, bob, autojump_clock
):
    server.begin(epoch("alice", "bob", "carol"))
    server.at_server = ["alice", "bob"]
    await bob.chat.post("ox", "hi")
    await trio.sleep(5)
    assert names(server.present) == ["alice", "bob"]


# --- the last owner ---


@pytest.mark.parametrize(
    ("owners", "at_server", "is_last"),
    [
        (("bob",), ["alice", "bob", "carol"], True),
        (("bob", "alice"), ["bob", "carol"], True),  # alice has left, and no epoch has begun without her
        (("bob",), ["bob", "dave"], False),  # alone: nobody has signed that dave is in it
        (("bob", "alice"), ["Alice", "bob"], False),
        (("alice",), ["alice", "bob"], False),
    ],
)
async def test_the_only_owner_leaves_others_behind_only_if_they_say_so(
    server, bob, owners, at_server, is_last, autojump_clock
):
    await bob_is_in(server, epoch("alice", "bob", "carol", by=owners[-1], owners=owners))
    server.at_server = at_server
    if is_last:
        with pytest.raises(errors.LastOwner) as raised:
            await bob.chat.leave("ox")
        assert raised.value.room == "ox"
        assert server.of(LeaveRoom) == []
        assert "bob" in await bob.chat.owners("ox"), "still in it"
    await bob.chat.leave("ox", anyway=is_last)
    assert len(server.of(LeaveRoom)) == 1


def endless_members(request):
    start = int(request.after[1:] or 0) + 1
    return request.listed(tuple(f"m{n:09}" for n in range(start, start + MAX_MEMBERS_LISTED)))


def no_such_room(request):
    return request.refused(Reason.NO_SUCH_ROOM)


@pytest.mark.parametrize(
    ("kind", "answer"), [(GetEpoch, no_such_room), (ListMembers, no_such_room), (ListMembers, endless_members)]
)
async def test_a_server_that_does_not_say_who_is_in_a_room_keeps_nobody_in_it(
    server, bob, kind, answer, autojump_clock
):
    server.begin(epoch("alice", "bob"))
    server.answers[kind] = answer
    await bob.chat.leave("ox")
    assert len(server.of(LeaveRoom)) == 1


# --- answers about something else ---


async def test_an_answer_about_another_room_creates_none(server, bob, autojump_clock):
    server.answers[BeginEpoch] = lambda request: request.changed(server.ox())
    with pytest.raises(errors.ServerNotResponding):
        await bob.chat.create_room("Ox", private=True)
    server.answers[BeginEpoch] = lambda request: request.changed(Room(OPEN, "Ox", signing("bob"), 1, 1))
    with pytest.raises(errors.ServerNotResponding):
        await bob.chat.create_room("Ox", private=True)
    assert bob.chat._context.epochs.named("ox") is None


@pytest.mark.parametrize("is_about_another", [True, False])
async def test_who_was_removed_is_told_so_only_when_they_cannot_read_on(server, bob, autojump_clock, is_about_another):
    """The server says that the new epoch has begun, and goes on with the old one."""
    await bob_is_in(server, epoch("alice", "bob"))
    room = Room(OPEN, "elk", signing("eve"), 1, 1) if is_about_another else server.ox()
    server.answers[BeginEpoch] = lambda request: request.changed(room)
    with pytest.raises(errors.ServerNotResponding):
        await bob.chat.remove("ox", "alice")
    assert await bob.chat.members("ox") == ["alice", "bob"]
    del server.answers[BeginEpoch]
    await bob.chat.remove("ox", "alice")
    await bob.chat.post("ox", "hi")
    assert texts_of_posts(server, "alice") == []


async def test_a_change_that_another_owner_was_faster_with_follows_from_theirs(server, bob, autojump_clock):
    first = await bob_is_in(server, epoch("alice", "bob", owners=("alice", "bob")))
    other = epoch("alice", "bob", "dave", by="alice", owners=("alice", "bob"), before=first)
    server.begin(other)

    def refuse_once(request):
        del server.answers[BeginEpoch]
        return request.refused(Reason.WRONG_EPOCH)

    server.answers[BeginEpoch] = refuse_once
    await bob.chat.invite("ox", "carol")
    assert names(server.present) == ["alice", "bob", "carol", "dave"]
    assert server.present.epoch.before == other.hash
    assert bob.shown == [RoomMembersChanged("Ox", "alice", ("dave",))]


async def test_what_we_have_changed_ourselves_is_known_and_no_event_also_if_the_server_hands_over_nothing(
    server, bob, autojump_clock
):
    await bob_is_in(server, epoch("alice", "bob", "carol", owners=("alice", "bob")))
    server.hand_over_later = False
    await bob.chat.remove("ox", "carol")
    assert [request.n for request in server.of(GetEpoch)] == [0]
    await trio.sleep(5)
    assert bob.shown == []


async def test_a_change_is_made_also_if_another_one_follows_before_we_see_it(server, bob, autojump_clock):
    await bob_is_in(server, epoch("alice", "bob", "carol", owners=("alice", "bob")))

    def begin_two(request):
        answer = server.answer_as_a_server(request)
        people = ("alice", "bob", "dave")
        server.begin(epoch(*people, by="alice", owners=("alice", "bob"), before=server.present))
        return answer

    server.hand_over_later = False
    server.answers[BeginEpoch] = begin_two
    await bob.chat.remove("ox", "carol")
    assert len(server.of(BeginEpoch)) == 1
    await trio.sleep(5)
    assert bob.shown == [RoomMembersChanged("Ox", "alice", ("dave",))], "their own change is the result of the call"


# --- asking for an epoch ---


async def a_room_of_many(server) -> SignedEpoch:
    """A room, the epoch of which needs several parts."""
    others = [(f"m{n}", PublicKeys(bytes((n,)) * 32, identity_of("eve").public.link)) for n in range(1, 30)]
    people = [(name, identity_of(name).public) for name in ("alice", "bob")]
    signed = epoch(by="alice", owners=("alice",), members=[*people, *others])
    server.begin(signed)
    assert len(signed.body) > 5 * EPOCH_PART
    return signed


async def test_an_epoch_that_is_not_in_the_store_is_asked_for_in_parts(server, bob, autojump_clock):
    signed = await a_room_of_many(server)
    assert len(await bob.chat.members("Ox")) == 31
    parts = -(-len(signed.body) // EPOCH_PART)
    assert [request.start for request in server.of(GetEpoch)] == [EPOCH_PART * n for n in range(parts)]
    assert [request.n for request in server.of(GetEpoch)] == [0] + [1] * (parts - 1)
    await bob.chat.post("ox", "hi")
    assert len(server.of(GetEpoch)) == parts, "it is known now"
    assert texts_of_posts(server, "alice") == [(1, "hi")]
    assert bob.store.epochs()[0].body == signed.body
    assert bob.shown == [RoomMembersChanged("Ox", "alice", joined=True)], "whose room it is that has this name"


def one_byte(request, server):
    return EpochPart(request.kind, request.id, 10, 1, 23_000, b"x")


def nothing(request, server):
    return EpochPart(request.kind, request.id, 10, 1, 23_000, b"")


def another_number(request, server):
    return EpochPart(request.kind, request.id, 10, 1 + request.start, 23_000, b"x")


@pytest.mark.parametrize(("part", "asked"), [(one_byte, MAX_PARTS_ASKED), (nothing, 1), (another_number, 2)])
async def test_a_server_whose_parts_go_on_and_on_or_change_is_asked_no_more(server, bob, autojump_clock, part, asked):
    server.begin(epoch("alice", "bob"))
    server.answers[GetEpoch] = lambda request: part(request, server)
    with pytest.raises(errors.ServerNotResponding):
        await bob.chat.members("Ox")
    assert len(server.of(GetEpoch)) == asked


async def test_members_that_no_owner_has_signed_are_not_shown(server, bob, autojump_clock):
    forged = epoch("alice", "bob")
    server.epochs.append((attrs.evolve(forged, body=bytes(64) + forged.body[64:]), 10))
    for request in (bob.chat.members("Ox"), bob.chat.post("Ox", "hi"), bob.chat.invite("Ox", "carol")):
        with pytest.raises(errors.MembersNotTrusted):
            await request
    assert server.of(GroupPost) == server.of(BeginEpoch) == []


# --- epochs without which entries cannot be opened ---


async def test_after_the_store_was_lost_epochs_are_asked_for_before_their_posts_are_opened(server, bob, autojump_clock):
    first = epoch("alice", "bob", by="alice", owners=("alice",))
    second = epoch("alice", "bob", "carol", by="alice", owners=("alice",), before=first)
    server.begin(first)
    server.begin(second)
    assert (await server.hand_over(post(first, 15, "one"), post(second, 25, "two", by="carol"))).count == 2
    assert bob.shown == [
        RoomMembersChanged("Ox", "alice", joined=True),
        RoomMembersChanged("Ox", "alice", ("carol",)),
        GroupMessageReceived("alice", "one", room="Ox"),
        GroupMessageReceived("carol", "two", room="Ox"),
    ]
    assert [request.n for request in server.of(GetEpoch)] == [1, 2]


async def test_posts_whose_epoch_cannot_be_asked_for_now_come_again(server, bob, autojump_clock):
    first = epoch("alice", "bob")
    server.begin(first)
    server.answers[GetEpoch] = lambda request: None
    entry = post(first, 25)
    batch = server.hand_over
    assert await batch(entry) is None
    await trio.sleep(60)
    assert len(server.of(Busy)) == 1
    assert server.of(Taken) == bob.shown == []
    server.answers[GetEpoch] = lambda request: request.refused(Reason.TOO_FAST, 60.0)
    assert isinstance(await batch(entry), Busy)
    del server.answers[GetEpoch]
    assert (await batch(entry)).count == 1
    assert bob.shown == [GroupMessageReceived("alice", "hi", room="Ox")]


async def test_posts_of_an_epoch_that_there_is_not_for_us_hold_up_nothing(server, bob, autojump_clock):
    first = epoch("alice", "bob")
    assert (await server.hand_over(post(first, 25))).count == 1
    assert bob.shown == [LetterUnreadable("alice")]


async def test_what_another_program_of_ours_has_taken_is_asked_for_and_shown(server, bob, autojump_clock):
    """Two computers with the same key: one of them was handed the epochs, the other one gets what comes after them."""
    first = await bob_is_in(server, epoch("alice", "bob", by="alice", owners=("alice",)))
    second = epoch("alice", "bob", "carol", by="alice", owners=("alice", "carol"), before=first)
    third = epoch("alice", "bob", "carol", "dave", by="carol", owners=("carol",), before=second)
    fourth = epoch("bob", "carol", "dave", by="carol", owners=("carol",), before=third)
    for signed in (second, third):
        server.begin(signed)
    assert (await server.hand_over(post(third, 35, "hi", by="dave"), server.begin(fourth))).count == 2
    assert bob.shown[1:] == [
        RoomMembersChanged("Ox", "alice", ("carol",), owners=("carol",)),
        RoomMembersChanged("Ox", "carol", ("dave",)),
        GroupMessageReceived("dave", "hi", room="Ox"),
        RoomMembersChanged("Ox", "carol", removed=("alice",)),
    ]


# --- what is handed over ---


async def test_who_is_added_and_removed_is_told_and_keeps_what_the_next_epoch_has_to_follow(
    server, bob, autojump_clock
):
    first = await bob_is_in(server, epoch("alice", "bob", by="alice", owners=("alice",)))
    body = OX.encode()
    removed = Entry(25, EntryKind.REMOVED, new_id(), "alice", signing("alice"), "bob", 0.0, body)
    assert (await server.hand_over(removed)).count == 1
    assert (await server.hand_over(attrs.evolve(removed, seq=26, id=new_id()))).count == 1
    assert (await server.hand_over(begins(first, 30), post(first, 31))).count == 2
    assert bob.shown == [
        RoomMembersChanged("Ox", "alice", joined=True),
        RemovedFromRoom("Ox", "alice"),
        RoomNotTrusted("Ox"),
    ]
    assert [(one.body, one.is_ended) for one in bob.store.epochs()] == [(first.body, True)]
    await bob.chat.leave("ox")
    assert [one.body for one in bob.store.epochs()] == [b""], "now anybody may invite us"


async def test_the_keys_that_a_store_has_open_posts_after_a_restart_without_asking(network, server, autojump_clock):
    store = MemoryClientStore()
    async with open_client(network, "bob", store=store):
        first = await bob_is_in(server, epoch("alice", "bob", by="alice", owners=("alice",)))
        second = await bob_is_in(server, epoch("alice", "bob", "carol", by="alice", owners=("alice",), before=first))
    async with open_client(network, "bob", store=store) as bob:
        await server.hand_over(post(second, 25, "two"))
        assert bob.shown == [GroupMessageReceived("alice", "two", room="Ox")]
        await bob.chat.post("ox", "hi")
    assert texts_of_posts(server, "carol") == [(2, "hi")]
    assert server.of(GetEpoch) == []


async def test_who_was_removed_and_added_again_is_in_the_room_also_if_that_comes_twice(server, bob, autojump_clock):
    """Our acknowledgement was lost, and the program registered again."""
    first = await bob_is_in(server, epoch("alice", "bob", by="alice", owners=("alice",)))
    removed = Entry(15, EntryKind.REMOVED, new_id(), "alice", signing("alice"), "bob", 0.0, OX.encode())
    server.begin(without := epoch("alice", by="alice", owners=("alice",), before=first))
    back = server.begin(epoch("alice", "bob", by="alice", owners=("alice",), before=without))
    for _ in range(2):
        assert (await server.hand_over(removed, back)).count == 2
    await bob.chat.post("ox", "back again")
    assert texts_of_posts(server, "alice") == [(3, "back again")]
    joined = RoomMembersChanged("Ox", "alice", joined=True)
    assert bob.shown == [joined, RemovedFromRoom("Ox", "alice"), joined]


class SlowStore(MemoryClientStore):
    """A store that keeps epochs when it may."""

    def __init__(self):
        super().__init__()
        self.may_keep = trio.Event()

    async def keep_epochs(self, epochs):
        await self.may_keep.wait()
        await super().keep_epochs(epochs)


async def test_an_epoch_is_stored_before_it_is_acknowledged(network, server, autojump_clock):
    """The server forgets what it has handed over: without the key what follows could not be read."""
    store = SlowStore()
    async with open_client(network, "bob", store=store):
        assert await server.hand_over(server.begin(epoch("alice", "bob"))) is None
        await trio.sleep(60)
        assert server.of(Taken) == []
        store.may_keep.set()
        await trio.sleep(1)
        assert [taken.count for taken in server.of(Taken)] == [1]


async def test_nothing_is_shown_or_asked_of_a_room_into_which_somebody_puts_us_whom_we_block(
    server, bob, autojump_clock
):
    await bob.chat.block("alice")
    first = epoch("alice", "bob", "carol", by="alice", owners=("alice",))
    second = epoch("alice", "bob", by="alice", owners=("alice",), before=first)
    entries = [server.begin(first), post(first, 15), post(first, 16, by="carol"), server.begin(second)]
    assert (await server.hand_over(*entries)).count == 4
    assert (await server.hand_over(post(second, 35), begins(first, 40))).count == 2
    assert bob.shown == []
    assert server.of(GetEpoch) == []
    assert bob.store.epochs() == []


async def test_an_epoch_that_no_owner_has_signed_is_warned_of_and_holds_up_nothing(server, bob, autojump_clock):
    first = await bob_is_in(server, epoch("alice", "bob", "eve", by="alice", owners=("alice",)))
    forged = epoch("alice", "bob", "dave", "eve", by="eve", owners=("eve",), before=first)
    assert (await server.hand_over(begins(forged, 25), post(first, 26))).count == 2
    assert bob.shown[1:] == [RoomNotTrusted("Ox"), GroupMessageReceived("alice", "hi", room="Ox")]
    unknown = epoch("mallory", "bob", by="mallory", owners=("mallory",), room="!" + 32 * "7", name="elk")
    assert (await server.hand_over(begins(unknown, 27))).count == 1
    assert len(bob.shown) == 3, "of a room that we were never in, nothing"


# --- who has left ---


async def test_an_owner_who_comes_online_begins_an_epoch_without_those_who_have_left(network, server, autojump_clock):
    store = MemoryClientStore()
    async with open_client(network, "bob", store=store):
        await bob_is_in(server, epoch("alice", "bob", "carol"))
    assert server.of(BeginEpoch) == []
    server.at_server = ["bob", "CAROL"]
    async with open_client(network, "bob", store=store) as bob:
        await trio.sleep(5)
        assert [names(one) for one, _ in server.epochs] == [["alice", "bob", "carol"], ["bob", "carol"]]
        assert bob.shown == [RoomMembersChanged("Ox", "bob", removed=("alice",))], "the server alone says that"


async def test_when_somebody_leaves_an_owner_begins_an_epoch_without_them(server, bob, autojump_clock):
    await bob_is_in(server, epoch("alice", "bob", "carol", owners=("bob", "carol")))
    server.at_server = ["alice", "bob"]
    left = Entry(25, EntryKind.LEFT, new_id(), "carol", signing("carol"), OX, 0.0)
    await server.hand_over(left)
    await trio.sleep(5)
    assert names(server.present) == ["alice", "bob"]
    assert server.present.epoch.owners == (signing("bob"),)
    assert bob.shown == [MemberLeft("Ox", "carol", private=True), RoomMembersChanged("Ox", "bob", removed=("carol",))]
    assert len(server.of(BeginEpoch)) == 1


@pytest.mark.parametrize("is_told", [True, False])
async def test_an_owner_whose_store_was_lost_does_the_same(network, server, is_told, autojump_clock):
    async with open_client(network, "bob"):
        await bob_is_in(server, epoch("alice", "bob", "carol"))
    server.at_server = ["alice", "bob"]
    server.private_rooms = int(not is_told)
    async with open_client(network, "bob"):
        if is_told:
            left = Entry(25, EntryKind.LEFT, new_id(), "carol", signing("carol"), OX, 0.0)
            await server.hand_over(left, rooms=[(OX, "Ox")])
        await trio.sleep(5)
        assert names(server.present) == ["alice", "bob"]


async def test_who_does_not_own_the_room_begins_nothing(server, bob, autojump_clock):
    await bob_is_in(server, epoch("alice", "bob", "carol", by="alice", owners=("alice",)))
    server.at_server = ["alice", "bob"]
    await server.hand_over(Entry(25, EntryKind.LEFT, new_id(), "carol", signing("carol"), OX, 0.0))
    await trio.sleep(60)
    assert server.of(BeginEpoch) == server.of(ListMembers) == []


async def test_an_epoch_that_could_not_be_begun_is_tried_again_later(server, bob, autojump_clock):
    await bob_is_in(server, epoch("alice", "bob", "carol"))
    server.at_server = ["alice", "bob"]
    server.answers[BeginEpoch] = lambda request: request.refused(Reason.TOO_FAST, 60.0)
    await server.hand_over(Entry(25, EntryKind.LEFT, new_id(), "carol", signing("carol"), OX, 0.0))
    await trio.sleep(2 * LOOK_AGAIN - 5)
    assert len(server.of(BeginEpoch)) == 2
    del server.answers[BeginEpoch]
    await trio.sleep(LOOK_AGAIN)
    assert names(server.present) == ["alice", "bob"]
    await trio.sleep(10 * LOOK_AGAIN)
    assert len(server.of(BeginEpoch)) == 3


async def test_who_has_left_may_be_invited_again_and_has_been_away_from_the_room(server, bob, autojump_clock):
    await bob_is_in(server, epoch("alice", "bob", "carol"))
    server.at_server = ["alice", "bob"]
    await bob.chat.invite("ox", "carol")
    assert [names(one) for one, _ in server.epochs][1:] == [["alice", "bob"], ["alice", "bob", "carol"]]


async def test_a_server_that_says_that_nobody_is_in_the_room_ends_no_program(server, bob, autojump_clock):
    """Without its owner an epoch would be none."""
    await bob_is_in(server, epoch("alice", "bob"))
    server.at_server = []
    await server.hand_over(Entry(25, EntryKind.LEFT, new_id(), "alice", signing("alice"), OX, 0.0))
    await trio.sleep(5)
    assert names(server.present) == ["bob"]
    await bob.chat.post("ox", "still here")


async def test_a_member_with_a_key_that_nothing_can_be_sealed_for_ends_no_program(server, bob, autojump_clock):
    """Another owner, who makes it themselves, can put such a member into the room."""
    people = [(name, identity_of(name).public) for name in ("alice", "bob", "carol")]
    signed = epoch(by="alice", owners=("alice", "bob"), members=people)
    bad = attrs.evolve(signed.epoch.members[2], keys=PublicKeys(signing("zed"), bytes(32)), name="zed")
    odd = resigned(attrs.evolve(signed.epoch, members=(*signed.epoch.members[:2], bad)), "alice")
    await bob_is_in(server, read_epoch_untrusted(odd))
    # Nobody else says which key is zed's.
    server.answers[Find] = lambda request: request.refused(Reason.UNKNOWN)
    server.at_server = ["bob", "zed"]
    await server.hand_over(Entry(25, EntryKind.LEFT, new_id(), "alice", signing("alice"), OX, 0.0))
    await trio.sleep(5)
    server.at_server = None
    with pytest.raises(errors.MembersNotTrusted):
        await bob.chat.invite("ox", "carol")
    await bob.chat.remove("ox", "zed")
    assert names(server.present) == ["alice", "bob"]


async def test_the_next_key_is_sealed_for_the_keys_that_members_have_shown_to_be_theirs(server, bob, autojump_clock):
    """An owner who is removed later may have listed a key of their own for somebody else."""
    people = [(name, identity_of(name).public) for name in ("alice", "bob", "carol")]
    signed = epoch(by="alice", owners=("alice", "bob"), members=people)
    false = attrs.evolve(signed.epoch.members[2], keys=PublicKeys(signing("carol"), identity_of("alice").public.link))
    odd = resigned(attrs.evolve(signed.epoch, members=(*signed.epoch.members[:2], false)), "alice")
    await bob_is_in(server, read_epoch_untrusted(odd))
    await bob.chat.remove("ox", "alice")
    assert names(server.present) == ["bob", "carol"]
    assert server.present.epoch.member(signing("carol")).keys == identity_of("carol").public


def resigned(changed, by) -> bytes:
    """The bytes of an epoch that its owner has signed with these changes."""
    raw = encode_epoch(changed)
    return identity_of(by).signing.sign(statement("trio_chat/1 epoch", raw)) + raw


# --- what cannot be done ---


async def test_who_is_in_as_many_private_rooms_as_they_can_creates_none(server, bob, autojump_clock, monkeypatch):
    monkeypatch.setattr(epochs_module, "MAX_PRIVATE_ROOMS", 1)
    await bob_is_in(server, epoch("alice", "bob"))
    with pytest.raises(errors.TooManyRooms):
        await bob.chat.create_room("elk", private=True)
    assert server.of(BeginEpoch) == []


async def test_an_open_room_has_no_owners_and_nobody_is_invited_or_removed(server, bob, autojump_clock):
    is_open = Room(OPEN, "elk", signing("eve"), 2, 1)
    server.answers[ListRooms] = lambda request: request.listed((is_open,))
    chat = bob.chat
    for room in ("elk", "everyone"):
        for request in (
            chat.invite(room, "alice"),
            chat.remove(room, "alice"),
            chat.owners(room),
            chat.add_owner(room, "alice"),
        ):
            with pytest.raises(errors.RoomIsOpen):
                await request
    assert server.of(BeginEpoch) == []


async def test_who_does_not_own_a_room_changes_nobody(server, bob, autojump_clock):
    await bob_is_in(server, epoch("alice", "bob", by="alice", owners=("alice",)))
    for request in (bob.chat.invite("ox", "carol"), bob.chat.remove("ox", "alice"), bob.chat.add_owner("ox", "bob")):
        with pytest.raises(errors.NotAnOwner):
            await request
    assert await bob.chat.owners("ox") == ["alice"]
    server.at_server = ["bob"]
    assert await bob.chat.owners("ox") == [], "she has left"
    assert server.of(BeginEpoch) == []


async def test_who_is_not_in_the_room_is_not_removed_or_made_an_owner_and_nobody_removes_themselves(
    server, bob, autojump_clock
):
    await bob_is_in(server, epoch("alice", "bob"))
    for request in (bob.chat.remove("ox", "carol"), bob.chat.add_owner("ox", "carol")):
        with pytest.raises(errors.NotInRoom) as raised:
            await request
        assert (raised.value.name, raised.value.room) == ("carol", "ox")
    with pytest.raises(errors.RemovedYourself):
        await bob.chat.remove("ox", "BOB")
    for request in (bob.chat.remove("ox", "b@d"), bob.chat.invite("ox", "b@d"), bob.chat.add_owner("ox", "b@d")):
        with pytest.raises(errors.InvalidName):
            await request
    assert server.of(BeginEpoch) == []


async def test_a_room_has_a_hundred_members_and_ten_owners_at_most(server, bob, autojump_clock):
    others = [(f"m{n}", identity_of(f"m{n}").public) for n in range(1, MAX_PRIVATE_MEMBERS)]
    signed = sign_epoch(
        identity_of("bob"),
        new_id() + new_id(),
        room=OX,
        name="Ox",
        members=[("bob", identity_of("bob").public), *others],
        owners=[signing("bob"), *(keys.signing for _, keys in others[: MAX_OWNERS - 1])],
    )
    await bob_is_in(server, signed)
    with pytest.raises(errors.RoomFull):
        await bob.chat.invite("ox", "carol")
    with pytest.raises(errors.TooManyOwners):
        await bob.chat.add_owner("ox", "m50")
    await bob.chat.remove("ox", "m1")
    await bob.chat.add_owner("ox", "m50")
    await bob.chat.invite("ox", "carol")
    assert len(server.present.epoch.members) == MAX_PRIVATE_MEMBERS


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (Reason.UNKNOWN, errors.UnknownRecipient),
        (Reason.THEY_ARE_IN_TOO_MANY, errors.TheyAreInTooManyRooms),
        (Reason.NOT_AN_OWNER, errors.NotAnOwner),
        (Reason.NO_SUCH_ROOM, errors.NoSuchRoom),
        (Reason.TOO_FAST, errors.TooFast),
    ],
)
async def test_refusals_of_the_server_are_errors(server, bob, autojump_clock, reason, error):
    await bob_is_in(server, epoch("alice", "bob"))
    server.answers[BeginEpoch] = lambda request: request.refused(reason)
    with pytest.raises(error):
        await bob.chat.invite("ox", "carol")
    assert await bob.chat.members("ox") == ["alice", "bob"]


async def test_who_is_not_known_or_has_another_key_is_not_invited(server, bob, autojump_clock):
    await bob_is_in(server, epoch("alice", "bob"))
    bob.store.pin("carol", signing("eve"))
    with pytest.raises(errors.KeyChanged):
        await bob.chat.invite("ox", "carol")
    server.answers[Find] = lambda request: request.refused(Reason.UNKNOWN)
    with pytest.raises(errors.UnknownRecipient):
        await bob.chat.invite("ox", "nobody")
    assert server.of(BeginEpoch) == []


async def test_a_key_is_in_a_room_under_one_name(server, bob, autojump_clock):
    await bob_is_in(server, epoch("alice", "bob"))
    record = Record("alicia", "10.0.0.9", 6000, False, 1.0, credentials_of("alicia", identity_of("alice")))
    server.answers[Find] = lambda request: request.found(record, Version(EPOCH, 1))
    with pytest.raises(errors.InRoomAlready) as raised:
        await bob.chat.invite("ox", "alicia")
    assert str(raised.value) == "the key of alicia is in the room ox already, as alice"


async def test_a_private_room_that_we_are_not_in_is_not_joined(server, bob, autojump_clock):
    server.answers[JoinRoom] = lambda request: request.refused(Reason.PRIVATE)
    with pytest.raises(errors.RoomIsPrivate):
        await bob.chat.join("ox")
