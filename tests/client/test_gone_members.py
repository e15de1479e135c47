"""Private rooms when somebody is gone: they have left, lost their key, or are killed in a change; or the owner is.

A real server and real clients in virtual time (tests/stage.py); which datagrams are lost is decided by the test.
"""

import pytest
import trio

from tests.stage import identity_of
from trio_chat import errors
from trio_chat.client.events import GroupMessageReceived, KeyWarning, MemberLeft, RoomMembersChanged
from trio_chat.protocol.messages import Batch
from trio_chat.protocol.room_messages import BeginEpoch, RoomChanged

LATER = 1e9
"""A time at which all that the tests write is too old."""


async def enter_den(stage, *names):
    """These people are online. The first one owns the private room den, the others are in it."""
    people = [await stage.enter(name) for name in names]
    await people[0].chat.create_room("den", private=True)
    for name in names[1:]:
        await people[0].chat.invite("den", name)
    await stage.pass_time(1)
    for person in people:
        person.received.clear()
    return people


async def comes_back(stage, person):
    """Their program is started again, with the same data folder."""
    return await stage.enter(person.chat.name, host=person.host, store=person.store)


def in_den(sender, text):
    return GroupMessageReceived(sender, text, room="den")


# --- an owner who never returns ---


async def test_without_its_owner_a_room_goes_on_also_after_all_that_was_posted_is_too_old(stage, autojump_clock):
    alice, bob, carol, dave = await enter_den(stage, "alice", "bob", "carol", "dave")
    await alice.kill()
    await dave.kill()
    await carol.chat.leave("den")
    await bob.chat.post("den", "still here")
    await stage.pass_time(1)
    assert bob.received == [MemberLeft("den", "carol", private=True)]
    dave = await comes_back(stage, dave)
    await stage.pass_time(1)
    assert dave.texts() == ["still here"]
    for person in (bob, dave):
        assert await person.chat.members("den") == ["alice", "bob", "carol", "dave"], "as alice has signed it"
        assert await person.chat.gone_members("den") == ["carol"], "dave was away when she left"
    await stage.kill_server()
    while await stage.server_store.retain(LATER, LATER):
        pass
    await stage.start_server()
    await dave.chat.post("den", "a month later")
    await bob.chat.post("den", "and another one")
    await stage.pass_time(1)
    assert bob.texts() == ["a month later"]
    assert dave.texts() == ["still here", "and another one"]
    assert carol.texts() == []
    await dave.kill()
    dave = await stage.enter("dave", host=dave.host)  # their data folder is a new one
    await bob.chat.post("den", "the key is kept")
    await stage.pass_time(1)
    assert dave.texts() == ["the key is kept"]
    with pytest.raises(errors.NotAnOwner):
        await bob.chat.remove("den", "carol")


# --- an owner who is killed ---


@pytest.mark.parametrize("has_begun", [True, False])
@pytest.mark.parametrize("keeps_store", [True, False])
async def test_an_owner_who_is_killed_in_the_middle_of_a_new_epoch(stage, has_begun, keeps_store, autojump_clock):
    """The server has their request, and they have no answer and not the entry; or it has not."""
    alice, bob = await enter_den(stage, "alice", "bob")
    carol = await stage.enter("carol")
    kinds = (RoomChanged, Batch) if has_begun else BeginEpoch
    stage.lose(lambda one, source, to: isinstance(one, kinds) and alice.host in (source[0], to[0]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alice.chat.invite, "den", "carol")
        await stage.pass_time(0.3)
        await alice.kill()
        nursery.cancel_scope.cancel()
    assert stage.sent(BeginEpoch, source=alice.host)
    stage.network.filters.clear()
    alice = await stage.enter("alice", host=alice.host, store=alice.store if keeps_store else None)
    await stage.pass_time(5)
    members = ["alice", "bob", "carol"] if has_begun else ["alice", "bob"]
    for person in (alice, bob):
        assert await person.chat.members("den") == members
        assert await person.chat.gone_members("den") == []
    await alice.chat.post("den", "one")
    await bob.chat.post("den", "two")
    await stage.pass_time(1)
    assert (alice.texts(), bob.texts()) == (["two"], ["one"])
    assert carol.texts() == (["one", "two"] if has_begun else [])
    await alice.chat.invite("den", "carol")
    await alice.chat.post("den", "three")
    await stage.pass_time(1)
    assert carol.texts()[-1:] == bob.texts()[-1:] == ["three"]
    assert carol.received.count(RoomMembersChanged("den", "alice", joined=True)) == 1


# --- somebody whose key is lost ---


@pytest.mark.parametrize("name", ["bob", "bob2"])
async def test_who_has_lost_all_their_files_comes_back_with_another_key(stage, name, autojump_clock):
    """Under another name; or under theirs, which the operator has freed."""
    alice, bob, carol = await enter_den(stage, "alice", "bob", "carol")
    await bob.kill()
    await alice.kill()
    if name == "bob":
        await stage.kill_server()
        await stage.server_store.forget("bob")
        await stage.start_server()
    heir = await stage.enter(name, host=bob.host, identity=identity_of("heir"))
    await carol.chat.post("den", "before alice knows of it")
    gone = ["bob"] if name == "bob" else []
    assert await carol.chat.gone_members("den") == gone
    with pytest.raises(errors.NoSuchRoom):
        await heir.chat.post("den", "I was in it")
    alice = await comes_back(stage, alice)
    await stage.pass_time(5)
    assert await alice.chat.members("den") == [one for one in ("alice", "bob", "carol") if one not in gone]
    if name == "bob":
        with pytest.raises(errors.KeyChanged):
            await alice.chat.invite("den", "bob")
        await alice.chat.trust("bob")
        assert any(isinstance(event, KeyWarning) for event in carol.received)
        await carol.chat.trust("bob")
    await alice.chat.invite("den", name)
    if name != "bob":
        await alice.chat.remove("den", "bob")
    assert await alice.chat.members("den") == sorted(["alice", "carol", name])
    assert await alice.chat.gone_members("den") == []
    await carol.chat.post("den", "welcome back")
    await heir.chat.post("den", "thanks")
    await stage.pass_time(1)
    assert heir.texts() == ["welcome back"], "nothing older"
    assert carol.received[-1] == in_den(name, "thanks")
    assert alice.received[-2:] == [in_den("carol", "welcome back"), in_den(name, "thanks")]


# --- who is not in it any more ---


@pytest.mark.parametrize("how", ["removed", "left"])
async def test_who_is_not_in_a_private_room_any_more_is_told_so_and_not_that_there_is_none(stage, how, autojump_clock):
    alice, bob, _ = await enter_den(stage, "alice", "bob", "carol")
    stranger = await stage.enter("stranger")
    await (alice.chat.remove("den", "bob") if how == "removed" else bob.chat.leave("den"))
    await stage.pass_time(1)
    for restarts in (False, True):
        if restarts:
            await bob.kill()
            bob = await comes_back(stage, bob)
        for ask in (bob.chat.members, bob.chat.owners, bob.chat.leave, bob.chat.gone_members):
            with pytest.raises(errors.RoomIsPrivate, match="you are not in it: ask one of its owners"):
                await ask("DEN")
        with pytest.raises(errors.RoomIsPrivate):
            await bob.chat.post("den", "hi")
    for ask in (stranger.chat.members, stranger.chat.leave):
        with pytest.raises(errors.NoSuchRoom):
            await ask("den")
    await alice.chat.leave("den", anyway=True)
    await stranger.chat.create_room("elk")
    assert await bob.chat.members("elk") == ["stranger"], "another room"
    assert await bob.chat.gone_members("elk") == await bob.chat.gone_members("everyone") == []
