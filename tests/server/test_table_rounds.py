"""The client table at the clients: deltas, bursts, pages, and changes that come late, twice or in the wrong order.

In virtual time, over the network in memory (tests/stage.py).
"""

import trio

from tests.network import Conditions
from tests.stage import SERVER
from trio_chat.client.own_address import HEARTBEAT_EVERY
from trio_chat.protocol.messages import Part, Registered, TableChange, TableHeld


def rows(person):
    return {name: (record.host, record.online) for name, record in person.chat.table.items()}


async def test_each_change_reaches_only_those_who_are_online(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(1)
    before = len(stage.sent(TableChange, destination=bob.host))
    await stage.enter("carol")
    await stage.pass_time(1)
    assert rows(alice) == {"alice": (alice.host, True), "bob": (bob.host, False), "carol": ("10.0.1.3", True)}
    assert len(stage.sent(TableChange, destination=bob.host)) == before
    assert "carol" not in bob.chat.table
    await bob.chat.register()
    assert "carol" in bob.chat.table, "a registration is complete when the table is here"


async def test_a_change_is_a_delta(stage, autojump_clock):
    for name in ("alice", "bob", "carol"):
        await stage.enter(name)
    await stage.pass_time(1)
    stage.network.log.clear()
    await stage.enter("dan")
    await stage.pass_time(1)
    deltas = [change for change in stage.sent(TableChange) if change.before.n > 0]
    assert len(deltas) == 3
    assert all([record.name for record in change.records] == ["dan"] for change in deltas)


async def test_a_table_change_that_overtakes_another(stage, autojump_clock):
    alice = await stage.enter("alice")
    stage.network.set(Conditions(delay=(0.3, 0.3)), SERVER[0], alice.host)
    bob = await stage.enter("bob")
    stage.network.set(Conditions(delay=(0.01, 0.01)), SERVER[0], alice.host)
    await stage.enter("carol")
    await bob.chat.deregister()
    await stage.pass_time(5)
    assert rows(alice) == {"alice": (alice.host, True), "bob": (bob.host, False), "carol": ("10.0.1.3", True)}


async def test_old_changes_replayed_in_any_order_change_nothing(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    for _ in range(3):
        await bob.chat.deregister()
        await bob.chat.register()
    await stage.pass_time(1)
    expected, changes = rows(alice), alice.table_changes
    old = [line for line in stage.network.log if line.destination[0] == alice.host]
    for line in reversed(old):
        stage.network.inject(line.data, line.source, line.destination)
    await stage.pass_time(5)
    assert rows(alice) == expected
    assert alice.table_changes == changes


async def test_a_late_page_of_a_former_server_does_not_undo_the_table(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    first_pages = [line for line in stage.network.log if stage.tap.carries(line.data, TableChange)]
    await bob.kill()
    await stage.kill_server()
    await stage.start_server()
    await stage.pass_time(25)
    assert rows(alice) == {"alice": (alice.host, True)}
    for line in first_pages:
        stage.network.inject(line.data, line.source, line.destination)
    await stage.pass_time(1)
    assert rows(alice) == {"alice": (alice.host, True)}


async def test_a_late_answer_of_the_former_server_does_not_block_the_table_of_the_current_one(
    stage, autojump_clock, nursery
):
    alice = await stage.enter("alice")
    await alice.chat.deregister()
    held = []

    def is_held(data, source, destination):
        if stage.tap.carries(data, Registered):
            held.append((data, source, destination))
            return False
        return True

    stage.network.filters.append(is_held)
    nursery.start_soon(alice.chat.register)
    await stage.pass_time(0.1)
    await stage.kill_server()
    await stage.start_server()
    await stage.pass_time(2)
    assert len(held) >= 2, "both servers have registered her"
    stage.network.inject(*held[0])
    stage.network.filters.clear()
    bob = await stage.enter("bob")
    await stage.pass_time(HEARTBEAT_EVERY)
    assert alice.chat.online
    assert "bob" in alice.chat.table
    assert alice.chat.table.version == bob.chat.table.version


async def test_a_lost_acknowledgement_of_a_change_is_repaired(stage, autojump_clock):
    alice = await stage.enter("alice")
    stage.lose(lambda message, source, _: isinstance(message, TableHeld) and source[0] == alice.host, times=5)
    bob = await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(5)
    assert rows(alice)["bob"] == (bob.host, False)
    await stage.enter("carol")
    await stage.pass_time(1)
    assert "carol" in alice.chat.table


async def test_a_table_of_hundreds_comes_in_pages(stage, autojump_clock):
    people = [await stage.enter(f"resident{number}") for number in range(150)]
    alice = await stage.enter("alice")
    assert len(alice.chat.table) == 151
    parts = [part for part in stage.sent(Part, destination=alice.host) if part.of == TableChange.kind]
    assert len({part.id for part in parts}) == 3
    await people[7].chat.deregister()
    await stage.pass_time(1)
    assert not alice.chat.table["resident7"].online
    assert alice.chat.table["ALICE"].online


async def test_a_newcomer_is_shown_at_once_and_a_flood_of_them_in_rounds(stage, autojump_clock, nursery):
    alice = await stage.enter("alice")
    await stage.pass_time(1)
    began = trio.current_time()
    await stage.enter("bob")
    await stage.pass_time(0)
    assert "bob" in alice.chat.table
    assert trio.current_time() == began, "nothing waits for a round"
    await stage.pass_time(1)
    before = len({change.id for change in stage.sent(TableChange, destination=alice.host)})
    for number in range(100):
        nursery.start_soon(stage.enter, f"user{number}")
        await stage.pass_time(0.01)
    await stage.pass_time(1)
    assert len(alice.chat.table) == 102
    rounds = len({change.id for change in stage.sent(TableChange, destination=alice.host)}) - before
    assert rounds <= 11, "one at once, and one in each 100 ms of the second that they take"


async def test_a_burst_of_changes_is_sent_together(stage, autojump_clock):
    alice = await stage.enter("alice")
    people = [await stage.enter(f"user{n}") for n in range(40)]
    await stage.pass_time(1)
    stage.network.log.clear()
    stage.network.set(Conditions(delay=(0.02, 0.02)), SERVER[0], alice.host)
    async with trio.open_nursery() as nursery:
        for person in people:
            nursery.start_soon(person.chat.deregister)
    await stage.pass_time(3)
    assert [record.online for record in alice.chat.table.values()].count(False) == 40
    assert len(stage.sent(TableChange, destination=alice.host)) <= 5
    assert sum(not record.online for record in stage.changes) == 40, "the server's own print-out sees each one"


async def test_a_silent_client_does_not_keep_the_table_from_the_others(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.kill()
    await stage.enter("carol")
    await stage.pass_time(0.6)
    await stage.enter("dan")
    await stage.pass_time(0.1)
    assert "dan" in alice.chat.table
