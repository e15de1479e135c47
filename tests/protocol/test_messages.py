"""Messages: the answers that a request builds, which of them are final, and what makes two names the same.

Pure functions; hypothesis generates the messages.
"""

import attrs
import pytest
from hypothesis import given, settings

from tests.strategies import answers, requests
from trio_chat.errors import InvalidName
from trio_chat.protocol.messages import (
    Accepted,
    Batch,
    Busy,
    Delivered,
    Deregister,
    Deregistered,
    DirectMessage,
    Elsewhere,
    Find,
    Found,
    GroupPost,
    ListNames,
    NamesListed,
    Register,
    Registered,
    Save,
    Saved,
    TableChange,
    TableHeld,
    Taken,
    is_repeatable,
)
from trio_chat.protocol.records import (
    Credentials,
    Entry,
    EntryKind,
    PublicKeys,
    Reason,
    Record,
    Room,
    Version,
    check_name,
    fingerprint,
    fold,
)
from trio_chat.protocol.room_messages import (
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

ID = bytes(range(16))
VERSION = Version(b"8 bytes.", 3)
CREDENTIALS = Credentials(PublicKeys(bytes(range(32)), bytes(32)), bytes(64))


@given(requests())
@settings(max_examples=50)
def test_answers_carry_the_kind_and_id_of_the_request(request):
    for answer in (request.ack(), request.busy(), request.refused(Reason.UNKNOWN)):
        assert (answer.of, answer.id) == (request.kind, request.id)


def test_each_request_builds_its_own_answers():
    register = Register(ID, "bob", CREDENTIALS, ID)
    assert register.registered(VERSION, 7.0, 2, 9, 1) == Registered(Register.kind, ID, VERSION, 7.0, 2, 9, 1)
    assert register.elsewhere(7.0) == Elsewhere(Register.kind, ID, 7.0)
    assert Deregister(ID).deregistered() == Deregistered(Deregister.kind, ID)
    save = Save(ID, "bob", b"hi")
    assert save.delivered(b"signed") == Delivered(Save.kind, ID, b"signed")
    assert save.saved() == Saved(Save.kind, ID)
    assert GroupPost(ID, b"hi").accepted() == Accepted(GroupPost.kind, ID)
    batch = Batch(ID, "bob", (Entry(1, EntryKind.DIRECT, ID, "alice", bytes(32), "bob", 1.0),))
    assert batch.taken(1, (b"signed",)) == Taken(Batch.kind, ID, 1, (b"signed",))
    row = Record("bob", "10.0.0.2", 2, True, 1.0, CREDENTIALS)
    assert Find(ID, "BOB").found(row, VERSION) == Found(Find.kind, ID, row, VERSION)
    people = (("bob", True, 1.0, bytes(32)),)
    assert ListNames(ID, "alice").listed(people) == NamesListed(ListNames.kind, ID, people)
    room = Room("#" + "0f" * 16, "lunch", bytes(32), 3, 8)
    assert CreateRoom(ID, "lunch").changed(room) == RoomChanged(CreateRoom.kind, ID, room)
    assert JoinRoom(ID, "lunch").changed(room) == RoomChanged(JoinRoom.kind, ID, room)
    assert LeaveRoom(ID, room.id).changed(room) == RoomChanged(LeaveRoom.kind, ID, room)
    assert ListRooms(ID).listed((room,)) == RoomList(ListRooms.kind, ID, (room,))
    assert BeginEpoch(ID, room.id, 1, b"").changed(room) == RoomChanged(BeginEpoch.kind, ID, room)
    part = GetEpoch(ID, room.id, 0, 1000).part(7, 3, bytes(1000) + b"end")
    assert part == EpochPart(GetEpoch.kind, ID, 7, 3, 1003, b"end")
    assert ListMembers(ID, room.id).listed(("bob",)) == MemberList(ListMembers.kind, ID, ("bob",))
    change = TableChange(ID, VERSION, VERSION, ())
    assert change.held(VERSION) == TableHeld(TableChange.kind, ID, VERSION)
    assert change.held(None) == TableHeld(TableChange.kind, ID, None)


FINAL = {Reason.TAKEN, Reason.UNKNOWN, Reason.CONFLICT}
MAY_BE_ACCEPTED_LATER = set(Reason) - FINAL


@given(answers())
def test_an_answer_is_repeatable_unless_the_request_may_be_accepted_later(answer):
    asks_to_try_again = isinstance(answer, Busy) or getattr(answer, "reason", None) in MAY_BE_ACCEPTED_LATER
    assert is_repeatable(Save(ID, "bob", b"hi"), answer) is not asks_to_try_again


def test_which_answers_are_repeatable():
    save = Save(ID, "bob", b"hi")
    assert is_repeatable(save, save.ack())
    assert not is_repeatable(save, save.busy())
    for reason in Reason:
        assert is_repeatable(save, save.refused(reason)) is (reason in FINAL), reason
    for sender_keeps in (False, True):
        message = DirectMessage(ID, "alice", "bob", "hi", sender_keeps)
        assert is_repeatable(message, message.ack()) is not sender_keeps, "a copy asks for MessagesKept"


def test_names_are_compared_ignoring_case():
    assert fold("Bob") == fold("bOB") != fold("bob2")


@pytest.mark.parametrize("text", ["", "x" * (16 * 1024 + 1), "ä" * 8193])
def test_a_message_with_an_invalid_text_cannot_be_created(text):
    with pytest.raises(ValueError, match=r"empty|longer"):
        DirectMessage(ID, "alice", "bob", text)


def test_a_fingerprint_has_16_characters_and_depends_on_the_signing_key_only():
    row = Record("bob", "10.0.0.2", 2, True, 1.0, CREDENTIALS)
    assert row.fingerprint == fingerprint(bytes(range(32))) == "mmg4-2klg-yqzw-neis"
    assert attrs.evolve(row, credentials=None).fingerprint == ""
    other_link_key = attrs.evolve(CREDENTIALS, keys=PublicKeys(bytes(range(32)), bytes(range(32))))
    assert attrs.evolve(row, credentials=other_link_key).fingerprint == row.fingerprint
    assert fingerprint(bytes(32)) != row.fingerprint


@pytest.mark.parametrize("name", ["", "_x", "x" * 33, "a b\n"])
def test_an_invalid_name_is_refused_with_the_rule_in_one_line(name):
    with pytest.raises(InvalidName) as caught:
        check_name(name)
    assert str(caught.value).startswith(f"not a valid name: {name!r} (a name has 1 to 32 letters A-Z")
    assert str(caught.value).isprintable()
