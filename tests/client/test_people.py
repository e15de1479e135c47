"""Whom the table of a client does not have: those who are away. They are asked for, and their keys come when needed.

In virtual time, over the network in memory (tests/stage.py). Lists are counted.
"""

import attrs
import pytest

from tests.stage import SERVER_KEY, identity_of
from trio_chat import KeyChanged, LastOwner, TooFast, UnknownRecipient
from trio_chat.crypto.identities import Identity, credentials
from trio_chat.protocol.limits import Limits, Rate
from trio_chat.protocol.messages import Find, Found, ListNames, TableChange
from trio_chat.protocol.records import Record, fingerprint
from trio_chat.storage.memory import MemoryClientStore
from trio_chat.storage.server_memory import MemoryServerStore

OTHER = Identity(b"o" * 32, b"O" * 32)


async def store_of(count: int) -> MemoryServerStore:
    """The store of a server that knows so many names, all of one key."""
    store = MemoryServerStore()
    for number in range(count):
        shown = credentials(OTHER, name=f"n{number:04}", server_key=SERVER_KEY)
        await store.save_name(Record(f"n{number:04}", "10.1.2.3", 4000, online=False, since=5.0, credentials=shown))
    return store


async def serve(stage, store, limits=Limits()) -> None:  # noqa: B008 - it is frozen
    await stage.kill_server()
    stage.limits = limits
    await stage.start_server(store)


async def test_the_first_table_does_not_grow_with_those_who_are_away(stage, autojump_clock):
    await serve(stage, await store_of(3000))
    alice = await stage.enter("alice")
    assert list(alice.chat.table) == ["alice"]
    (change,) = stage.sent(TableChange)
    assert [row.name for row in change.records] == ["alice"]
    assert len(stage.sent(Find)) == 0


async def test_everybody_comes_in_pages_and_is_not_kept(stage, autojump_clock):
    await serve(stage, await store_of(30))
    alice, bob = await stage.enter("alice"), await stage.enter("Bob")
    await stage.pass_time(1)
    await bob.chat.deregister()
    people = await alice.chat.everybody()
    assert [one.name for one in people] == ["alice", "Bob", *(f"n{number:04}" for number in range(30))]
    assert [one.online for one in people] == [True] + [False] * 31
    assert (people[2].since, people[2].fingerprint) == (5.0, fingerprint(OTHER.public.signing))
    assert len(stage.sent(ListNames)) == 3
    assert sorted(alice.chat.table) == ["Bob", "alice"]


async def test_a_key_that_was_listed_is_the_only_one_from_then_on(stage, autojump_clock):
    await serve(stage, await store_of(1))
    alice = await stage.enter("alice")
    (_, shown) = await alice.chat.everybody()
    assert not shown.key_changed
    await stage.server_store.forget("n0000")
    await stage.kill_server()
    await stage.start_server()
    await stage.pass_time(60)
    assert [one.fingerprint for one in await alice.chat.everybody()][1:] == [""]
    await stage.enter("n0000")
    await stage.pass_time(1)
    assert [one.key_changed for one in await alice.chat.everybody()] == [False, True]
    with pytest.raises(KeyChanged):
        await alice.chat.send("n0000", "hi")


async def test_who_asks_for_everybody_all_the_time_is_refused(stage, autojump_clock):
    await serve(stage, await store_of(40), Limits(name_lists_per_key=Rate(8, 1)))
    alice = await stage.enter("alice")
    await alice.chat.everybody()
    await alice.chat.everybody()
    for _ in range(20):
        with pytest.raises(TooFast) as refused:
            await alice.chat.everybody()
    assert 0 < refused.value.after <= 1
    assert len(stage.sent(ListNames)) == 8 + 20
    bob = await stage.enter("bob")
    assert len(await bob.chat.everybody()) == 42, "the limit is one of each key"
    await stage.pass_time(8)
    assert len(await alice.chat.everybody()) == 42


async def test_somebody_who_is_away_is_asked_for_once(stage, autojump_clock):
    await serve(stage, await store_of(2))
    alice = await stage.enter("alice")
    for _ in range(2):
        assert (await alice.chat.send("N0001", "hi")).how == "saved"
    assert len(stage.sent(Find)) == 1
    assert not alice.chat.table["n0001"].online
    await stage.enter("n0001", identity=OTHER)
    await stage.pass_time(1)
    assert alice.chat.table["n0001"].online
    with pytest.raises(UnknownRecipient):
        await alice.chat.send("nobody", "hi")


async def test_a_row_that_is_older_than_the_table_is_not_added_to_it(stage, autojump_clock):
    """Else a deleted name would come back, and stay: its deletion has come before."""
    await serve(stage, await store_of(1))
    alice = await stage.enter("alice")
    await alice.chat.send("n0000", "hi")
    (found,) = stage.sent(Found)
    table = alice.chat.table
    await stage.enter("bob")
    await stage.pass_time(1)
    table.add(attrs.evolve(found.record, name="n0001"), found.version)
    assert "n0001" not in table
    table.add(attrs.evolve(found.record, name="n0001"), table.version)
    assert "n0001" in table
    table.add(attrs.evolve(found.record, name="n0002"), attrs.evolve(table.version, epoch=bytes(8)))
    assert "n0002" not in table


async def test_who_is_away_can_be_trusted_and_blocked(stage, autojump_clock):
    await serve(stage, await store_of(3))
    store = MemoryClientStore()
    store.pin("n0000", identity_of("somebody else").public.signing)
    alice = await stage.enter("alice", store=store)
    assert await alice.chat.trust("n0000") == fingerprint(OTHER.public.signing)
    assert await alice.chat.block("n0001") == fingerprint(OTHER.public.signing)
    with pytest.raises(UnknownRecipient):
        await alice.chat.block("nobody")
    with pytest.raises(UnknownRecipient):
        await alice.chat.trust("nobody")


async def test_what_somebody_wrote_who_is_away_can_be_read(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    await alice.chat.send_all("hello")
    await alice.chat.send("bob", "hi")
    await alice.chat.deregister()
    bob = await stage.enter("bob", host="10.9.9.9")
    await stage.pass_time(1)
    assert bob.texts() == ["hello", "hi"]
    assert "alice" not in bob.chat.table


async def test_a_private_room_is_found_again_while_its_owner_is_away(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await alice.chat.create_room("ox", private=True)
    await alice.chat.invite("ox", "bob")
    await stage.pass_time(1)
    with pytest.raises(LastOwner):
        await alice.chat.leave("ox")
    for person in (alice, bob):
        await person.chat.deregister()
        await person.kill()
    bob = await stage.enter("bob", store=MemoryClientStore())
    assert await bob.chat.members("ox") == ["alice", "bob"]


async def test_a_copy_that_is_not_the_first_one_goes_on_where_it_was(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)
    await alice.chat.deregister()
    await bob.chat.deregister()
    before = len(stage.sent(TableChange, destination=alice.host))
    await alice.chat.register()
    assert not alice.chat.table["bob"].online, "their row came with what had changed"
    await stage.pass_time(1)
    changes = stage.sent(TableChange, destination=alice.host)[before:]
    assert [change.before.n > 0 for change in changes] == [True]
