"""Private rooms: who can open a post, which epochs are believed, and what members, owners and servers cannot do."""

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_chat.crypto.identities import Identity
from trio_chat.crypto.letters import OpenedText, Unreadable
from trio_chat.crypto.room_keys import (
    NONCE,
    RoomKey,
    Sequel,
    SignedEpoch,
    compare,
    open_sealed_post_untrusted,
    read_epoch_untrusted,
    room_key_untrusted,
    seal_post,
    sign_epoch,
)
from trio_chat.protocol.epochs import (
    MAX_OWNERS,
    MAX_PRIVATE_MEMBERS,
    NO_EPOCH,
    Epoch,
    RoomMember,
    decode_epoch_untrusted,
    encode_epoch,
)
from trio_chat.protocol.records import MAX_BODY, MAX_EPOCH, MAX_TEXT, PublicKeys

ALICE, BOB, CAROL, EVE = (Identity(bytes((n,)) * 32, bytes((n + 100,)) * 32) for n in (1, 2, 3, 4))
PEOPLE = {"alice": ALICE, "Bob": BOB, "carol": CAROL, "eve": EVE}
ROOM, ID = "!" + "1" * 32, bytes(range(16))
KEYS = [bytes((n,)) * 32 for n in range(50, 60)]


def epoch(
    *names: str, own: Identity = ALICE, before: SignedEpoch | None = None, owners: tuple[Identity, ...] = (), **changes
) -> SignedEpoch:
    """The epoch in which these people are in the room; its key is made of its number."""
    fields = {"room": ROOM, "name": "Lunch", "members": [(name, PEOPLE[name].public) for name in names]} | changes
    owners = [one.public.signing for one in owners or (ALICE,)]
    return sign_epoch(own, KEYS[before.epoch.n if before else 0], owners=owners, before=before, **fields)


def key_of(signed: SignedEpoch, own: Identity = ALICE) -> RoomKey:
    one = signed.epoch
    return RoomKey(one.room, one.name, one.n, signed.hash, room_key_untrusted(one, own))


def post(room: RoomKey, own: Identity = BOB, sender: str = "Bob", text: str = "soup") -> bytes:
    return seal_post(own, room, bytes(NONCE), id=ID, sender=sender, sent_at=12.5, text=text)


def is_unreadable(body: bytes, room: RoomKey, own: Identity = BOB, id: bytes = ID, sender: str = "bob") -> bool:
    try:
        open_sealed_post_untrusted(body, room, own.public.signing, id=id, sender=sender)
    except Unreadable:
        return True
    return False


FIRST_EPOCH = epoch("alice", "Bob")


# --- keys and posts ---


def test_the_members_and_nobody_else_get_the_key_and_read_posts():
    keys = [key_of(FIRST_EPOCH, one) for one in (ALICE, BOB)]
    assert keys[0] == keys[1]
    body = post(keys[1])
    opened = open_sealed_post_untrusted(body, keys[0], BOB.public.signing, id=ID, sender="BOB")
    assert opened == OpenedText(12.5, "soup")
    with pytest.raises(Unreadable, match="not in this room"):
        key_of(FIRST_EPOCH, EVE)
    assert b"soup" not in body
    assert KEYS[0] not in FIRST_EPOCH.body


def test_the_longest_post_fits():
    assert len(post(key_of(FIRST_EPOCH), text="x" * MAX_TEXT)) <= MAX_BODY


def test_a_post_is_readable_in_its_epoch_and_room_only_with_its_id_and_sender():
    room = key_of(FIRST_EPOCH)
    body = post(room)
    assert not is_unreadable(body, room)
    assert is_unreadable(body, room, id=bytes(16))
    assert is_unreadable(body, room, sender="alice")
    assert is_unreadable(body, key_of(epoch("alice", "Bob", before=FIRST_EPOCH)))
    for changed in ({"room": "!" + "2" * 32}, {"n": 2}, {"hash": bytes(32)}, {"key": bytes(31) + b"1"}):
        assert is_unreadable(body, attrs.evolve(room, **changed)), changed
    for place in range(len(body)):
        assert is_unreadable(body[:place] + bytes((body[place] ^ 1,)) + body[place + 1 :], room)
        assert is_unreadable(body[:place], room)


def test_a_member_cannot_post_in_the_name_of_another_one():
    room = key_of(FIRST_EPOCH)
    assert is_unreadable(post(room, own=ALICE, sender="bob"), room)


def test_the_key_for_one_member_is_of_no_use_to_another_one():
    """The server hands one member's part of an epoch to another, or a member shows theirs to somebody else."""
    alice, bob = FIRST_EPOCH.epoch.members
    moved = attrs.evolve(FIRST_EPOCH.epoch, members=(alice, attrs.evolve(bob, sealed=alice.sealed)))
    with pytest.raises(Unreadable, match="cannot be opened"):
        room_key_untrusted(moved, BOB)


def test_an_owner_who_gives_one_member_another_key_is_found_out():
    other = epoch("alice", "Bob", before=FIRST_EPOCH)
    alice, _ = FIRST_EPOCH.epoch.members
    again = sign_epoch(ALICE, KEYS[5], room=ROOM, name="Lunch", members=[("Bob", BOB.public), ("alice", ALICE.public)],
                       owners=[ALICE.public.signing])  # fmt: skip
    mixed = attrs.evolve(FIRST_EPOCH.epoch, members=(alice, again.epoch.members[0]))
    assert room_key_untrusted(mixed, ALICE) == KEYS[0]
    with pytest.raises(Unreadable, match="another key"):
        room_key_untrusted(mixed, BOB)
    assert key_of(other, BOB).key == KEYS[1]


def test_a_member_whose_link_key_is_no_key_is_said():
    with pytest.raises(Unreadable, match="cannot be used"):
        epoch("alice", members=[("alice", ALICE.public), ("bob", PublicKeys(BOB.public.signing, bytes(32)))])


# --- which epochs are believed ---


def test_epochs_follow_one_another():
    second = epoch("alice", "Bob", "carol", before=FIRST_EPOCH)
    third = epoch("alice", "carol", before=second)
    assert FIRST_EPOCH.epoch.before == NO_EPOCH
    assert [one.epoch.n for one in (FIRST_EPOCH, second, third)] == [1, 2, 3]
    assert compare(None, second) is Sequel.NEXT, "for somebody who has been invited"
    assert compare(FIRST_EPOCH, second) is compare(second, third) is Sequel.NEXT
    assert compare(FIRST_EPOCH, third) is Sequel.LATER
    assert compare(second, second) is Sequel.KNOWN
    assert compare(second, FIRST_EPOCH) is Sequel.OLD
    with pytest.raises(Unreadable):
        room_key_untrusted(third.epoch, BOB)


def test_only_an_owner_begins_an_epoch():
    by_bob = epoch("alice", "Bob", "eve", own=BOB, before=FIRST_EPOCH)
    assert compare(FIRST_EPOCH, by_bob) is Sequel.NOT_AN_OWNER
    assert compare(None, by_bob) is Sequel.NOT_AN_OWNER
    # Who makes themselves an owner is none.
    claimed = epoch("alice", "Bob", "eve", own=BOB, owners=(ALICE, BOB), before=FIRST_EPOCH)
    assert compare(FIRST_EPOCH, claimed) is Sequel.NOT_AN_OWNER
    with_bob = epoch("alice", "Bob", owners=(ALICE, BOB), before=FIRST_EPOCH)
    assert compare(with_bob, epoch("alice", "Bob", own=BOB, owners=(BOB,), before=with_bob)) is Sequel.NEXT


def test_two_epochs_with_one_number_are_a_fork_and_so_is_another_name_or_another_past():
    second = epoch("alice", "Bob", before=FIRST_EPOCH)
    assert compare(second, epoch("alice", "carol", before=FIRST_EPOCH)) is Sequel.FORK
    other_past = epoch("alice", "Bob", before=epoch("alice", "carol"))
    assert compare(FIRST_EPOCH, other_past) is Sequel.FORK
    renamed = epoch("alice", "Bob", before=FIRST_EPOCH, name="Work")
    assert compare(FIRST_EPOCH, renamed) is Sequel.FORK


def test_what_was_changed_on_the_way_is_no_epoch():
    body = FIRST_EPOCH.body
    assert read_epoch_untrusted(body) == FIRST_EPOCH
    for place in range(0, len(body), 3):
        with pytest.raises(Unreadable):
            read_epoch_untrusted(body[:place] + bytes((body[place] ^ 1,)) + body[place + 1 :])
        with pytest.raises(Unreadable):
            read_epoch_untrusted(body[:place])


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_no_bytes_raise_anything_else(body):
    for data in (body, FIRST_EPOCH.body[:64] + body):
        with pytest.raises(Unreadable):
            read_epoch_untrusted(data)


@pytest.mark.parametrize(
    "wrong",
    [
        {"members": FIRST_EPOCH.epoch.members * 2},
        {"owners": (EVE.public.signing,)},
        {"owners": (ALICE.public.signing,) * 2},
        {"owner": EVE.public.signing},
    ],
)
def test_an_epoch_lists_each_member_once_and_owners_are_members(wrong):
    alice, bob = FIRST_EPOCH.epoch.members
    if len(wrong.get("members", ())) == 4:
        wrong = {"members": (alice, attrs.evolve(bob, name="ALICE"))}
    with pytest.raises(ValueError, match=r"member|listed"):
        attrs.evolve(FIRST_EPOCH.epoch, **wrong)


def test_the_largest_epoch_fits_into_a_request():
    member = RoomMember("x" * 32, PublicKeys(bytes(32), bytes(32)), bytes(80))
    members = tuple(
        attrs.evolve(member, name=f"{n:032}", keys=PublicKeys(n.to_bytes(32, "big"), bytes(32)))
        for n in range(MAX_PRIVATE_MEMBERS)
    )
    owners = tuple(one.keys.signing for one in members[:MAX_OWNERS])
    largest = Epoch(ROOM, "x" * 32, 2**53, bytes(32), owners[0], bytes(32), owners, members)
    raw = encode_epoch(largest)
    assert decode_epoch_untrusted(raw) == largest
    assert MAX_EPOCH - 2000 < 64 + len(raw) <= MAX_EPOCH
