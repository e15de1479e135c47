"""Which epochs of private rooms a client believes, whatever a server hands over, and which posts it opens.

Nothing is sent: each epoch and each post is made by the test, and handed to the client of bob. No time passes.
"""

from functools import partial

import attrs
import pytest
import trio

from tests.stage import identity_of
from trio_chat.client import epochs as epochs_module
from trio_chat.client.epochs import Epochs
from trio_chat.client.events import RoomMembersChanged
from trio_chat.client.key_pins import KeyPins
from trio_chat.client.members_changes import members_changed
from trio_chat.client.memberships import Memberships
from trio_chat.crypto.letters import Unreadable
from trio_chat.crypto.room_keys import (
    NONCE,
    RoomKey,
    SignedEpoch,
    open_sealed_post_untrusted,
    room_key_untrusted,
    seal_post,
    sign_epoch,
)
from trio_chat.crypto.signatures import statement
from trio_chat.protocol.epochs import encode_epoch
from trio_chat.protocol.records import Entry, EntryKind
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.transport.ids import new_id

OX, ELK = "!" + 32 * "1", "!" + 32 * "2"
PEOPLE = ("alice", "bob", "carol", "dave", "eve")


def signing(name: str) -> bytes:
    return identity_of(name).public.signing


def epoch(*names, by="alice", owners=("alice",), before=None, room=OX, name="Ox", members=None) -> SignedEpoch:
    """An epoch that `by` has signed, with these people in it. Each has another key of the room."""
    members = members or [(one, identity_of(one).public) for one in names]
    key = new_id() + new_id()
    return sign_epoch(
        identity_of(by), key, room=room, name=name, members=members, owners=map(signing, owners), before=before
    )


def key_of(signed: SignedEpoch, member="alice") -> RoomKey:
    one = signed.epoch
    return RoomKey(one.room, one.name, one.n, signed.hash, room_key_untrusted(one, identity_of(member)))


class Bob:
    """What bob's client knows. Each epoch comes as the next entry of the log, the numbers of which are tens."""

    def __init__(self, store=None) -> None:
        self.store = store or MemoryClientStore()
        self.memberships = Memberships()
        self.seq = 0
        for name in PEOPLE:
            self.store.pin(name, signing(name))
        self.epochs = self._open()

    def _open(self) -> Epochs:
        return Epochs("bob", identity_of("bob"), self.store, KeyPins(self.store), self.memberships)

    def takes(self, signed, room=OX) -> str | None:
        """What it changes, in words; None if it says nothing new."""
        self.seq += 10
        body = signed if isinstance(signed, bytes) else signed.body
        change = self.epochs.take_untrusted(body, room, self.seq)
        return None if change is None else str(change)

    def refuses(self, signed, why, room=OX) -> None:
        """It is not believed, and nothing changes."""
        known = self.epochs.present(room), self.epochs.name(room), self.memberships.names()
        with pytest.raises(Unreadable, match=why):
            self.takes(signed, room)
        assert known == (self.epochs.present(room), self.epochs.name(room), self.memberships.names())

    async def restarts(self) -> None:
        """The program ends, and another one begins with what the store has."""
        await self.epochs.keep()
        self.memberships = Memberships()
        self.epochs = self._open()

    def reads(self, entry: Entry, *, again: bool = True) -> str:
        """Its text. `again`: it was handed over before, as after a crash."""
        if again:
            self.store.saw((entry.kind, entry.sender, entry.id), bytes(32))
        key = KeyPins(self.store).signing_key(entry.sender)
        room_key = self.epochs.key_of_post(entry, key)
        return open_sealed_post_untrusted(entry.body, room_key, key, id=entry.id, sender=entry.sender).text

    def cannot_read(self, entry: Entry, why: str, *, again: bool = True) -> None:
        with pytest.raises(Unreadable, match=why):
            self.reads(entry, again=again)


def post(signed: SignedEpoch, seq, text="hi", *, by="alice", sender=None, room=OX, key_from="alice") -> Entry:
    """A post in this epoch that `by` has signed, as one of `sender`."""
    sender, id_ = sender or by, new_id()
    body = seal_post(
        identity_of(by), key_of(signed, key_from), bytes(NONCE), id=id_, sender=sender, sent_at=0.0, text=text
    )
    return Entry(seq, EntryKind.GROUP, id_, sender, signing(by), room, 0.0, body)


@pytest.fixture
def bob():
    return Bob()


FIRST = epoch("alice", "bob")
SECOND = epoch("alice", "bob", "carol", before=FIRST)


# --- what is believed ---


async def test_epochs_say_who_comes_and_goes_and_who_owns_the_room(bob):
    assert bob.takes(FIRST) == "joined"
    assert bob.memberships.names() == ["Ox"]
    assert not bob.memberships.is_for_us(OX, 9)
    assert bob.memberships.is_for_us(OX, 10)
    assert bob.takes(SECOND) == "+carol"
    third = epoch("alice", "bob", "carol", "dave", before=SECOND, owners=("alice", "bob"))
    assert bob.takes(third) == "+dave *bob"
    fourth = epoch("bob", "carol", before=third, by="bob", owners=("bob",))
    assert bob.takes(fourth) == "-alice -dave"
    assert bob.epochs.named("OX") == bob.epochs.present(OX).epoch == fourth.epoch
    assert bob.epochs.key(OX) == key_of(fourth, "bob")


def test_a_change_that_was_kept_as_text_becomes_an_event():
    assert members_changed("ox", "y", "+a +b -c *d gap") == RoomMembersChanged(
        "ox", "y", ("a", "b"), ("c",), ("d",), joined=False, gap=True
    )
    assert members_changed("ox", "y", "joined") == RoomMembersChanged("ox", "y", joined=True)
    assert members_changed("ox", "y", "") == RoomMembersChanged("ox", "y")


async def test_somebody_whose_name_has_another_key_now_has_gone_and_come(bob):
    bob.takes(SECOND)
    new = [*((name, identity_of(name).public) for name in ("alice", "bob")), ("carol", identity_of("eve").public)]
    assert bob.takes(epoch(before=SECOND, members=new)) == "+carol -carol"


async def test_who_waits_for_an_epoch_is_woken_by_it_and_not_by_an_earlier_one(bob, nursery, autojump_clock):
    has_come = []

    async def wait():
        await bob.epochs.wait_for(OX, 2)
        has_come.append(bob.epochs.present(OX).epoch.n)

    nursery.start_soon(wait)
    await trio.sleep(1)
    bob.takes(FIRST)
    await trio.sleep(1)
    assert has_come == []
    bob.takes(SECOND)
    await trio.sleep(1)
    await wait()
    assert has_come == [2, 2]


async def test_only_who_owns_a_room_looks_whether_somebody_has_left(bob):
    bob.takes(FIRST)
    bob.epochs.look_at(OX)
    bob.epochs.look_at_all(1)
    assert bob.epochs.to_look_at == set()
    bob.epochs.look_at_all(2)
    assert bob.epochs.to_look_at == {None}, "the server has them in another one"
    bob.epochs.to_look_at.clear()
    bob.epochs.look_at(ELK, f"#{ELK[1:]}")
    assert bob.epochs.to_look_at == {ELK}, "one that they do not know, if it is private: their store may have been lost"
    bob.epochs.to_look_at.clear()
    second = epoch("alice", "bob", before=FIRST, owners=("alice", "bob"))
    bob.takes(second)
    assert bob.epochs.to_look_at == {OX}
    bob.epochs.to_look_at.clear()
    bob.takes(epoch("alice", "bob", "carol", by="bob", before=second, owners=("alice", "bob")))
    assert bob.epochs.to_look_at == set(), "they look before they begin one"
    with trio.fail_after(1):
        await bob.epochs.due.wait()


# --- a server that adds a member ---


async def test_a_server_cannot_add_a_member(bob):
    bob.takes(FIRST)
    with_eve = epoch("alice", "bob", "eve", before=FIRST)
    bob.refuses(with_eve.body[:64] + SECOND.body[64:], "signature")
    bob.refuses(bytes(64) + with_eve.body[64:], "signature")
    for place in range(0, len(with_eve.body), 7):
        changed = with_eve.body[:place] + bytes((with_eve.body[place] ^ 1,)) + with_eve.body[place + 1 :]
        bob.refuses(changed, "signature|not an epoch")
    bob.refuses(b"", "not an epoch")


async def test_neither_a_member_nor_the_one_who_is_added_can_add_somebody(bob):
    bob.takes(SECOND)
    bob.refuses(epoch("alice", "bob", "carol", "eve", by="carol", before=SECOND), "does not own")
    bob.refuses(epoch("alice", "bob", "carol", "eve", by="carol", owners=("carol",), before=SECOND), "does not own")
    bob.refuses(epoch("alice", "bob", "carol", "eve", by="eve", owners=("eve",), before=SECOND), "does not own")


async def test_who_owns_a_room_no_longer_changes_nothing(bob):
    both = epoch("alice", "bob", "carol", owners=("alice", "carol"))
    bob.takes(both)
    bob.takes(epoch("alice", "bob", "carol", owners=("alice",), before=both))
    bob.refuses(epoch("alice", "bob", "carol", "eve", by="carol", before=SECOND), "does not own")


# --- a server that leaves an epoch out, or repeats one ---


async def test_changes_that_were_left_out_are_in_the_next_epoch_and_the_gap_is_told(bob):
    bob.takes(FIRST)
    without_bob = epoch("alice", "bob", "dave", before=SECOND)
    assert bob.takes(without_bob) == "+dave gap"


async def test_who_is_an_owner_by_an_epoch_that_was_left_out_is_not_believed(bob):
    bob.takes(FIRST)
    second = epoch("alice", "bob", "eve", owners=("alice", "eve"), before=FIRST)
    bob.refuses(epoch("alice", "bob", "eve", "dave", by="eve", owners=("eve",), before=second), "does not own")
    assert bob.takes(second) == "+eve *eve", "it can still come"


async def test_epochs_that_come_again_say_nothing_new_and_bring_nobody_back(bob):
    without_carol = epoch("alice", "bob", before=SECOND)
    for signed in (FIRST, SECOND, without_carol):
        bob.takes(signed)
    for signed in (without_carol, FIRST, SECOND):
        assert bob.takes(signed) is None
    assert bob.epochs.present(OX) == without_carol
    await bob.restarts()
    for signed in (SECOND, without_carol):
        assert bob.takes(signed) is None
    assert bob.epochs.present(OX) == without_carol


async def test_of_two_epochs_in_one_place_the_first_one_counts_and_nothing_follows_from_the_other(bob):
    """Two owners at once; the server takes one. Or it shows different ones to different members."""
    other = epoch("alice", "bob", "eve", before=FIRST)
    bob.takes(FIRST)
    bob.takes(SECOND)
    bob.refuses(other, "in its place")
    bob.refuses(epoch("alice", "bob", "eve", before=other), "does not follow")
    await bob.restarts()
    bob.refuses(other, "in its place")
    assert bob.takes(epoch("alice", "bob", before=SECOND)) == "-carol"


# --- after a removal ---


@pytest.mark.parametrize("restarts", [True, False])
async def test_who_was_removed_is_not_put_back_with_an_old_epoch(bob, restarts):
    bob.takes(FIRST)
    bob.takes(SECOND)
    assert bob.epochs.removed(OX, bob.seq + 5) == "Ox"
    assert bob.epochs.removed(OX, bob.seq + 5) is None
    assert bob.memberships.names() == []
    assert bob.epochs.named("ox") is None
    if restarts:
        await bob.restarts()
    bob.refuses(FIRST, "it was before it")
    bob.refuses(SECOND, "they know it")
    without_bob = epoch("alice", "carol", before=SECOND)
    bob.refuses(without_bob, "not in it under this name")
    back = epoch("alice", "bob", "carol", before=without_bob)
    assert bob.takes(back) == "joined"
    await bob.restarts()
    assert bob.epochs.present(OX) == back


async def test_a_removal_that_comes_again_does_not_end_what_came_after_it(bob):
    """As after a crash, or if our acknowledgement was lost."""
    bob.takes(FIRST)  # entry 10
    assert bob.epochs.removed(OX, 15) == "Ox"
    without_bob = epoch("alice", "carol", before=FIRST)
    back = epoch("alice", "bob", before=without_bob)
    bob.takes(back)  # entry 20
    for _ in range(2):
        assert bob.epochs.removed(OX, 15) is None
        assert bob.takes(back) is None
        assert bob.epochs.present(OX) == back
        await bob.restarts()
    assert bob.epochs.removed(OX, 45) == "Ox"


async def test_an_epoch_that_was_asked_for_before_a_removal_and_comes_after_it_does_not_bring_back(bob):
    """The server gives it to those whom it lists, also if they were removed meanwhile."""
    without_bob = epoch("alice", "carol", before=SECOND)
    assert bob.epochs.removed(OX, 25) is None, "our store is a new one: we know nothing of the room"
    for signed, seq in ((SECOND, 20), (FIRST, 10)):
        assert bob.epochs.take_untrusted(signed.body, OX, seq, is_handed=False) is None
    assert bob.epochs.present(OX) is None
    assert bob.memberships.names() == []
    bob.seq = 30
    assert bob.takes(epoch("alice", "bob", before=without_bob)) == "joined"


async def test_a_later_epoch_than_ours_that_comes_after_our_removal_does_not_bring_back(bob):
    bob.takes(FIRST)
    assert bob.epochs.removed(OX, 25) == "Ox"
    assert bob.epochs.take_untrusted(SECOND.body, OX, 20, is_handed=False) is None
    assert bob.epochs.present(OX) is None


# --- rooms that look like others ---


async def test_the_epoch_of_another_room_or_of_an_open_one_is_none(bob):
    bob.refuses(FIRST, "another room", room=ELK)
    bob.takes(FIRST)
    bob.refuses(epoch("alice", "bob", room=ELK), "another room")
    is_open = "#" + 32 * "1"
    bob.refuses(epoch("alice", "bob", room=is_open, name="elk"), "another room", room=is_open)


async def test_no_room_gets_the_name_of_another_one_that_we_are_in(bob):
    bob.takes(FIRST)
    bob.refuses(epoch("eve", "bob", by="eve", owners=("eve",), room=ELK, name="oX"), "has this name", room=ELK)
    elk = epoch("eve", "bob", by="eve", owners=("eve",), room=ELK, name="elk")
    bob.takes(elk, room=ELK)
    renamed = epoch("eve", "bob", by="eve", owners=("eve",), room=ELK, name="ox", before=elk)
    bob.refuses(renamed, "does not follow", room=ELK)
    assert bob.epochs.named("OX").room == OX


async def test_when_we_have_left_a_room_another_one_can_have_its_name(bob):
    bob.takes(FIRST)
    bob.epochs.removed(OX, bob.seq + 5)
    assert bob.takes(epoch("alice", "bob", room=ELK), room=ELK) == "joined"


async def test_no_private_room_is_called_everyone(bob):
    bob.refuses(epoch("alice", "bob", name="Everyone"), "has this name")


async def test_a_server_cannot_fill_the_memory_with_rooms(bob, monkeypatch):
    monkeypatch.setattr(epochs_module, "MAX_PRIVATE_ROOMS", 1)
    bob.takes(FIRST)
    elk = epoch("alice", "bob", room=ELK, name="elk")
    bob.refuses(elk, "too many", room=ELK)
    assert bob.takes(SECOND) == "+carol", "the ones that we are in go on"
    bob.epochs.removed(OX, bob.seq + 5)
    assert bob.takes(elk, room=ELK) == "joined"


async def test_who_has_left_without_an_answer_can_be_invited_again_by_a_later_owner(bob):
    """The server has done it, and our program was killed before it knew. Epochs without us are not given to us."""
    bob.takes(FIRST)
    third = epoch("alice", "carol", before=epoch("alice", before=FIRST), owners=("alice", "carol"))
    again = epoch("alice", "bob", "carol", by="carol", before=third, owners=("alice", "carol"))
    bob.refuses(again, "does not own the room")
    bob.epochs.not_given(OX, again.epoch.n)
    bob.refuses(again, "does not own the room")
    bob.epochs.not_given(OX, third.epoch.n)
    bob.seq += 10
    change = bob.epochs.take_untrusted(again.body, OX, bob.seq)
    assert change.is_unknown_owner, "which the user is told: only the server says that we were not in it"
    assert bob.epochs.present(OX) == again


# --- who puts us into a room ---


async def test_the_owner_of_the_first_epoch_has_the_key_that_we_know(bob):
    bob.store.pin("alice", signing("mallory"))
    bob.refuses(FIRST, "another key")
    bob.store.pin("alice", signing("alice"))
    assert bob.takes(FIRST) == "joined"


async def test_nobody_is_put_into_a_room_by_somebody_whom_they_do_not_know_or_who_does_not_own_it(bob):
    stranger = epoch("mallory", "bob", by="mallory", owners=("mallory",))
    bob.refuses(stranger, "another key")
    bob.refuses(epoch("alice", "eve", "bob", by="eve", owners=("alice",)), "does not own")


async def test_nobody_is_put_into_a_room_under_another_name_or_with_another_key(bob):
    alice, bob_keys = (identity_of(name).public for name in ("alice", "bob"))
    bob.refuses(epoch(members=[("alice", alice), ("robert", bob_keys)]), "under this name")
    bob.refuses(epoch(members=[("alice", alice), ("bob", identity_of("eve").public)]), "under this name")
    assert bob.takes(epoch(members=[("alice", alice), ("BOB", bob_keys)])) == "joined"


async def test_who_is_given_another_key_than_the_others_is_not_in_the_room(bob):
    other = epoch("alice", "bob")
    alice, ours = FIRST.epoch.members
    mixed = attrs.evolve(FIRST.epoch, members=(alice, attrs.evolve(ours, sealed=other.epoch.members[1].sealed)))
    own = identity_of("alice")
    bob.refuses(resigned(mixed, own), "the others have another key")


def resigned(changed, own):
    """The bytes of an epoch that its owner has signed with these changes."""
    raw = encode_epoch(changed)
    return own.signing.sign(statement("trio_chat/1 epoch", raw)) + raw


async def test_a_room_into_which_somebody_puts_us_whom_we_block_is_ignored(bob):
    await bob.store.block(signing("alice"), "alice")
    for signed in (FIRST, SECOND):
        assert bob.takes(signed) is None
    assert bob.epochs.is_ignored(OX)
    assert bob.epochs.present(OX) is None
    assert bob.memberships.names() == []
    assert bob.epochs.missing([post(SECOND, 30)]) == [], "nothing is asked for either"
    await bob.store.unblock(signing("alice"))
    assert bob.takes(epoch("alice", "bob", before=SECOND)) == "joined"
    assert not bob.epochs.is_ignored(OX)


async def test_a_room_that_we_are_in_goes_on_if_we_block_its_owner(bob):
    bob.takes(FIRST)
    await bob.store.block(signing("alice"), "alice")
    assert bob.takes(SECOND) == "+carol"
    assert not bob.epochs.is_ignored(OX)


# --- posts ---


@pytest.fixture
def bob_in_second(bob):
    """Bob has the first epoch since entry 10 and the second one since entry 20."""
    bob.takes(FIRST)
    bob.takes(SECOND)
    return bob


async def test_posts_of_each_epoch_are_opened_also_after_a_restart(bob_in_second):
    for _ in range(2):
        assert bob_in_second.reads(post(FIRST, 15, "one")) == "one"
        assert bob_in_second.reads(post(SECOND, 21, "two", by="carol")) == "two"
        await bob_in_second.restarts()


async def test_nobody_posts_in_the_name_of_another_one(bob_in_second):
    bob_in_second.cannot_read(post(SECOND, 21, by="carol", sender="alice"), "signature")


async def test_nobody_posts_who_is_not_in_the_room_also_with_its_key(bob_in_second):
    """A member has given it to them, and the server helps."""
    for _ in range(2):
        bob_in_second.cannot_read(post(SECOND, 21, by="eve"), "no member")
        await bob_in_second.restarts()


async def test_who_came_later_cannot_post_in_an_earlier_epoch(bob_in_second):
    bob_in_second.cannot_read(post(FIRST, 15, by="carol"), "no member")


@pytest.mark.parametrize("restarts", [True, False])
async def test_who_was_removed_cannot_go_on_with_the_old_key(bob_in_second, restarts):
    bob_in_second.takes(epoch("alice", "bob", before=SECOND))  # entry 30, without carol
    if restarts:
        await bob_in_second.restarts()
    assert bob_in_second.reads(post(SECOND, 29, by="carol")) == "hi"
    for seq in (30, 31, 1000):
        bob_in_second.cannot_read(post(SECOND, seq, by="carol"), "during its epoch")
    bob_in_second.cannot_read(post(SECOND, 20, by="carol"), "during its epoch")
    bob_in_second.cannot_read(post(FIRST, 31), "during its epoch")


async def test_nothing_is_posted_in_an_epoch_after_its_end_as_if_it_was_before(bob):
    """The server chooses the places of entries. It helps somebody who was removed."""
    bob.takes(FIRST)
    assert bob.reads(post(FIRST, 15, by="alice"), again=False) == "hi"
    bob.takes(SECOND)
    bob.cannot_read(post(FIRST, 16), "after the end of its epoch", again=False)
    await bob.restarts()
    bob.cannot_read(post(FIRST, 16), "after the end of its epoch", again=False)


async def test_what_was_posted_before_an_epoch_that_we_have_asked_for_is_opened(bob):
    bob.takes(FIRST)
    bob.epochs.take_untrusted(SECOND.body, OX, 20, is_handed=False)
    for _ in range(2):
        assert bob.reads(post(FIRST, 15), again=False) == "hi"
        await bob.restarts()
    bob.takes(SECOND)
    bob.cannot_read(post(FIRST, 16), "after the end of its epoch", again=False)


async def test_what_was_posted_in_epochs_that_we_have_jumped_over_is_opened_when_they_come(bob):
    bob.takes(FIRST)
    third = epoch("alice", "bob", before=SECOND)
    bob.epochs.take_untrusted(third.body, OX, 40, is_handed=False)
    forged = epoch("alice", "bob", "eve", by="eve", owners=("eve",), before=FIRST)
    assert bob.epochs.take_untrusted(forged.body, OX, 19) is None
    bob.cannot_read(post(forged, 19, by="eve"), "do not have", again=False)
    assert bob.epochs.take_untrusted(SECOND.body, OX, 20) is None, "its changes were told with the third one"
    for _ in range(2):
        assert bob.reads(post(SECOND, 25, by="carol"), again=False) == "hi"
        await bob.restarts()
    assert bob.epochs.present(OX).hash == third.hash


async def test_an_old_key_is_of_no_use_also_if_the_epoch_after_it_is_missing(bob):
    bob.takes(FIRST)
    bob.takes(epoch("alice", "bob", before=SECOND))  # entry 20, the third epoch
    assert bob.reads(post(FIRST, 15)) == "hi"
    bob.cannot_read(post(FIRST, 21), "during its epoch")


async def test_a_post_of_an_epoch_that_we_do_not_have_is_not_opened(bob_in_second):
    third = epoch("alice", "bob", before=SECOND)
    bob_in_second.cannot_read(post(third, 31), "do not have")
    bob_in_second.cannot_read(attrs.evolve(post(SECOND, 21), body=b""), "do not have")


async def test_a_post_is_not_shown_in_another_room(bob_in_second):
    elk = epoch("alice", "bob", "carol", room=ELK, name="elk")
    bob_in_second.takes(elk, room=ELK)
    moved = attrs.evolve(post(FIRST, 31), recipient=ELK)
    bob_in_second.cannot_read(moved, "cannot be opened")
    bob_in_second.cannot_read(attrs.evolve(post(SECOND, 31), recipient="!" + 32 * "3"), "do not have")


# --- which epochs are asked for ---


async def test_an_epoch_without_which_a_post_cannot_be_opened_is_asked_for_once(bob):
    """As after our store was lost."""
    third = epoch("alice", "bob", before=SECOND)
    to_everyone = attrs.evolve(post(FIRST, 40), recipient="")
    entries = [post(FIRST, 15), post(SECOND, 25), post(FIRST, 26), post(third, 35), to_everyone]
    assert bob.epochs.missing(entries) == [(OX, 1), (OX, 2), (OX, 3)]
    brings = Entry(20, EntryKind.EPOCH, new_id(), "alice", signing("alice"), OX, 0.0, SECOND.body)
    assert bob.epochs.missing([post(FIRST, 15), brings, post(SECOND, 25)]) == [(OX, 1)]
    bob.takes(FIRST)
    assert bob.epochs.missing([post(FIRST, 15)]) == []
    assert bob.epochs.missing([post(third, 35), brings, post(third, 36)]) == [(OX, 2), (OX, 3)]


async def test_whose_store_was_lost_asks_back_from_the_present_epoch_and_believes_only_what_it_follows_from(bob):
    """Posts from the time away may be sealed in epochs before the one that they know again."""
    third = epoch("alice", "bob", before=SECOND)
    asked = partial(bob.epochs.take_untrusted, room=OX, is_handed=False)
    assert str(asked(third.body, seq=30)) == "joined"
    assert bob.memberships.is_for_us(OX, 15), "they may have been in it before"
    in_first, in_second = post(FIRST, 15, "one"), post(SECOND, 25, "two")
    assert bob.epochs.missing([in_first, in_second, in_first]) == [(OX, 2), (OX, 1)]
    assert asked(FIRST.body, seq=10) is None
    bob.cannot_read(in_first, "do not have")
    asked(epoch("alice", "bob", "mallory", before=FIRST).body, seq=20)
    bob.cannot_read(in_second, "do not have")
    asked(SECOND.body, seq=20)
    asked(epoch("alice", "bob").body, seq=10)
    bob.cannot_read(in_first, "do not have")
    asked(FIRST.body, seq=10)
    assert bob.epochs.missing([in_first, in_second]) == []
    await bob.restarts()
    assert [bob.reads(one, again=False) for one in (in_first, in_second)] == ["one", "two"]
    # Whoever was in the first epoch alone cannot go on using its key when the entry of the second has come.
    bob.epochs.take_untrusted(SECOND.body, OX, 20)
    bob.cannot_read(post(FIRST, 16), "after the end of its epoch", again=False)


async def test_epochs_between_the_known_one_and_a_later_one_are_asked_for_and_not_those_before_an_invitation(bob):
    """One between may have made its owner. Who is put into a room has nothing to do with what was before."""
    third = epoch("alice", "bob", before=SECOND)
    entry = Entry(30, EntryKind.EPOCH, new_id(), "alice", signing("alice"), OX, 0.0, third.body)
    assert bob.epochs.missing([entry]) == []
    bob.takes(FIRST)
    assert bob.epochs.missing([entry, post(third, 35)]) == [(OX, 2)]
    bob.takes(third)
    assert bob.epochs.missing([entry, post(third, 35)]) == []


async def test_a_number_that_says_that_very_many_are_missing_makes_few_requests(bob, monkeypatch):
    monkeypatch.setattr(epochs_module, "MAX_ASKED_FOR", 3)
    bob.takes(FIRST)
    far, too_far = (attrs.evolve(post(FIRST, 15), body=n.to_bytes(8, "big")) for n in (2**53, 2**53 + 1))
    assert bob.epochs.missing([far]) == [(OX, 2**53 - 2), (OX, 2**53 - 1), (OX, 2**53)]
    odd = Entry(30, EntryKind.EPOCH, new_id(), "alice", signing("alice"), OX, 0.0, b"no epoch")
    assert bob.epochs.missing([too_far, odd, attrs.evolve(far, body=b"")]) == []


# --- a damaged file ---


async def test_an_epoch_that_is_damaged_on_the_disk_comes_again_and_no_older_one_in_its_place(bob_in_second):
    bob = bob_in_second
    await bob.epochs.keep()
    *_, last = bob.store.epochs()
    await bob.store.keep_epochs([attrs.evolve(last, body=last.body[:-1])])
    await bob.restarts()
    assert bob.epochs.present(OX) is None
    bob.refuses(FIRST, "an old epoch")
    assert bob.epochs.missing([post(SECOND, 25)]) == [(OX, 2)]
    assert bob.takes(SECOND) == "joined"
