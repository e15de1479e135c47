"""Hostile users of a real server try private rooms by hand, and owners are as hostile as others.

The server in virtual time (tests/stage.py), the users as raw peers with real links (tests/raw_peer.py): they say what
no client would. What the store and the delivery do: tests/storage/test_server_epochs.py, tests/server/.
"""

import attrs
import pytest
import trio

from tests.raw_peer import RawPeer
from tests.stage import SERVER_KEY, SERVER_PEER, identity_of
from trio_chat.crypto.room_keys import NUMBER, SignedEpoch, read_epoch_untrusted, sign_epoch
from trio_chat.protocol.limits import Limits, Rate
from trio_chat.protocol.message_base import OfRequest
from trio_chat.protocol.messages import (
    Accepted,
    Batch,
    GroupPost,
    Heartbeat,
    Part,
    Refused,
    Registered,
    TableChange,
)
from trio_chat.protocol.parts import Assembly
from trio_chat.protocol.records import EntryKind, Reason, room_id
from trio_chat.protocol.room_messages import BeginEpoch, EpochPart, GetEpoch, JoinRoom, ListMembers, RoomChanged
from trio_chat.protocol.wire import decode_untrusted
from trio_chat.storage import epoch_rows
from trio_chat.transport.ids import new_id

KEY = bytes(range(32))


class Person(RawPeer):
    """Somebody who is registered, takes whatever comes, and asks for anything. `entries`: what has come."""

    def __init__(self, network, name: str) -> None:
        super().__init__(network, (f"10.0.7.{ord(name[0])}", 7000), identity_of(name))
        self.name = name
        self.entries = []
        self.answer = self._answer
        self._parts = Assembly()

    def _answer(self, message):
        match message:
            case Part():
                held, whole = self._parts.add(message.id, message)
                if whole and (answer := self._answer(decode_untrusted(whole))):
                    self.send(SERVER_PEER, answer)
                return held
            case Heartbeat():
                return message.ack()
            case TableChange():
                return message.held(message.after)
            case Batch():
                self.entries += message.entries
                letters = [one for one in message.entries if one.kind == EntryKind.DIRECT]
                return message.taken(len(message.entries), (b"",) * len(letters))
        return None

    async def ask(self, request):
        """The answer of the server. Sent again if there is none: the server may have forgotten the session."""
        count = len(self.received)
        for _ in range(10):
            self.send(SERVER_PEER, request)
            await trio.sleep(0.1)
            if found := [one for _, one in self.received[count:] if self._is_answer(one, request)]:
                return found[0]
        raise AssertionError(request)

    def _is_answer(self, message, request) -> bool:
        return isinstance(message, OfRequest) and message.id == request.id

    async def reason(self, request) -> Reason:
        """Why the server has refused it."""
        answer = await self.ask(request)
        assert isinstance(answer, Refused), answer
        return answer.reason

    async def post(self, room: str, n: int, id: bytes | None = None):
        return await self.ask(GroupPost(id or new_id(), n.to_bytes(NUMBER, "big") + b"sealed", room))

    def kinds(self) -> list[str]:
        return [one.kind for one in self.entries]


def epoch_of(by: str, *names: str, after: SignedEpoch | None = None, owners=(), name="lunch") -> BeginEpoch:
    own, id_ = identity_of(by), new_id()
    room = after.epoch.room if after else room_id(own.public.signing, id_, private=True)
    members = [(one, identity_of(one).public) for one in names]
    keys = [identity_of(one).public.signing for one in owners or (by,)]
    signed = sign_epoch(own, KEY, room=room, name=name, members=members, owners=keys, before=after)
    return BeginEpoch(id_, room, signed.epoch.n, signed.body)


def signed_of(request: BeginEpoch) -> SignedEpoch:
    return read_epoch_untrusted(request.epoch)


@pytest.fixture
def enter(stage, network, nursery):
    """`await enter(name)`: a registered person."""

    async def enter(name: str) -> Person:
        person = Person(network, name)
        nursery.start_soon(person.listen)
        assert isinstance(await person.ask(person.register(name, SERVER_KEY)), Registered)
        return person

    return enter


async def lunch(enter) -> tuple[Person, Person, Person, SignedEpoch]:
    """Alice, bob and mallory are online; alice has a private room, and bob is in it."""
    alice, bob, mallory = [await enter(name) for name in ("alice", "bob", "mallory")]
    request = epoch_of("alice", "alice", "bob")
    assert isinstance(await alice.ask(request), RoomChanged)
    return alice, bob, mallory, signed_of(request)


async def test_a_stranger_gets_nothing_and_changes_nothing(enter, stage, autojump_clock):
    _, bob, mallory, first = await lunch(enter)
    room = first.epoch.room
    assert await mallory.reason(JoinRoom(new_id(), "lunch")) == Reason.PRIVATE
    assert await mallory.reason(ListMembers(new_id(), room)) == Reason.NOT_A_MEMBER
    for n in (0, 1, 2):
        assert await mallory.reason(GetEpoch(new_id(), room, n)) == Reason.NOT_A_MEMBER
    assert (await mallory.post(room, 1)).reason == Reason.NOT_A_MEMBER
    theirs = epoch_of("mallory", "alice", "mallory", after=first)
    assert await mallory.reason(theirs) == Reason.NOT_AN_OWNER
    seen = epoch_of("alice", "alice", "mallory", after=first)
    assert await mallory.reason(seen) == Reason.WRONG_EPOCH, "who can read along cannot say it in their place"
    await stage.pass_time(5)
    assert mallory.entries == []
    assert bob.kinds() == ["epoch"]


async def test_a_post_of_an_old_epoch_is_refused_until_it_is_sealed_again(enter, stage, autojump_clock):
    """The refusal is not remembered: the same request id is good for the post that is sealed again."""
    alice, bob, _, first = await lunch(enter)
    assert isinstance(await alice.ask(second := epoch_of("alice", "alice", "bob", after=first)), RoomChanged)
    id_, room = new_id(), first.epoch.room
    for _ in range(2):
        assert (await bob.post(room, 1, id_)).reason == Reason.WRONG_EPOCH
    assert isinstance(await bob.post(room, 2, id_), Accepted)
    assert (await bob.post(room, 3)).reason == Reason.WRONG_EPOCH
    await stage.pass_time(5)
    assert [one.id for one in alice.entries if one.kind == "group"] == [id_]
    assert signed_of(second).epoch.n == 2


async def test_a_refused_epoch_may_begin_later_under_its_id(enter, autojump_clock):
    """Another owner was faster."""
    alice, _, _, first = await lunch(enter)
    second = epoch_of("alice", "alice", "bob", after=first)
    other = epoch_of("alice", "alice", after=first)
    third = epoch_of("alice", "alice", after=signed_of(second))
    assert isinstance(await alice.ask(second), RoomChanged)
    assert await alice.reason(other) == Reason.WRONG_EPOCH
    assert isinstance(await alice.ask(attrs.evolve(third, id=other.id)), RoomChanged)


async def test_a_removed_member_gets_a_notice_and_then_nothing(enter, stage, autojump_clock):
    alice, bob, _, first = await lunch(enter)
    assert isinstance(await alice.ask(epoch_of("alice", "alice", after=first)), RoomChanged)
    room = first.epoch.room
    assert isinstance(await alice.post(room, 2), Accepted)
    await stage.pass_time(5)
    assert bob.kinds() == ["epoch", "removed"]
    assert isinstance(await bob.ask(GetEpoch(new_id(), room, 1)), EpochPart), "they had that one"
    for n in (0, 2, 3):
        assert await bob.reason(GetEpoch(new_id(), room, n)) == Reason.NOT_A_MEMBER
    assert (await bob.post(room, 2)).reason == Reason.NOT_A_MEMBER


async def test_a_server_that_is_killed_knows_the_present_epoch(enter, stage, autojump_clock):
    """Everything that was answered is there, and copies of it change nothing."""
    alice, bob, mallory, first = await lunch(enter)
    second = epoch_of("alice", "alice", "mallory", after=first)
    assert isinstance(await alice.ask(second), RoomChanged)
    await stage.kill_server()
    await stage.start_server()
    for person in (alice, bob, mallory):
        assert isinstance(await person.ask(person.register(person.name, SERVER_KEY)), Registered)
    answer = await alice.ask(second)
    assert isinstance(answer, RoomChanged)
    assert answer.room.members == 2
    room = first.epoch.room
    assert (await bob.post(room, 2)).reason == Reason.NOT_A_MEMBER
    assert (await mallory.post(room, 1)).reason == Reason.WRONG_EPOCH
    assert isinstance(await mallory.ask(GetEpoch(new_id(), room)), EpochPart)
    await stage.pass_time(10)
    assert set(bob.kinds()[1:]) == {"removed"}


async def test_an_owner_who_begins_epochs_in_a_loop_is_slowed_down_and_the_disk_stays_small(
    enter, stage, autojump_clock, monkeypatch
):
    monkeypatch.setattr(epoch_rows, "EPOCHS_BYTES", 4000)
    alice, bob, _, last = await lunch(enter)
    begun = 0
    while True:
        request = epoch_of("alice", "alice", "bob", after=last)
        answer = await alice.ask(request)
        if isinstance(answer, Refused):
            break
        last, begun = signed_of(request), begun + 1
    assert answer.reason == Reason.TOO_FAST
    assert 59 <= begun <= 62
    ((size, count),) = stage.server_store._database.execute("SELECT sum(length(body)), count(*) FROM epochs")
    assert size <= 4000
    assert count >= 3
    assert isinstance(await bob.post(last.epoch.room, last.epoch.n), Accepted), "and others go on"


async def test_somebody_who_is_put_into_rooms_leaves_them_and_has_all_their_own(enter, stage, autojump_clock):
    await stage.kill_server()
    stage.limits = Limits(rooms_per_key=20, new_rooms_per_key=Rate(100, 1))
    await stage.start_server()
    bob, mallory = await enter("bob"), await enter("mallory")
    answers = [await mallory.ask(epoch_of("mallory", "mallory", "bob", name=f"spam{n}")) for n in range(4)]
    assert [type(one) for one in answers] == [RoomChanged] * 2 + [Refused] * 2
    assert {one.reason for one in answers[2:]} == {Reason.THEY_ARE_IN_TOO_MANY}
    for n in range(18):
        assert isinstance(await bob.ask(epoch_of("bob", "bob", name=f"own{n}")), RoomChanged)
