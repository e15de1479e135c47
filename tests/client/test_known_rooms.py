"""Which names of rooms a client has heard of, so that they can be completed at the prompt.

A server and clients in memory (tests/stage.py); time is virtual.
"""

from trio_chat.client.memberships import MAX_HEARD, MAX_LEFT, Memberships


async def test_a_client_knows_the_rooms_of_lists_of_messages_and_its_own(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await alice.chat.create_room("Lunch")
    assert alice.chat.known_rooms == ["Lunch"]
    assert bob.chat.known_rooms == []
    await bob.chat.join("lunch")
    await bob.chat.create_room("build")
    assert bob.chat.known_rooms == ["build", "Lunch"]
    assert alice.chat.known_rooms == ["Lunch"]
    await alice.chat.rooms()
    assert alice.chat.known_rooms == ["build", "Lunch"]

    await bob.kill()
    bob = await stage.enter("bob", host=bob.host, store=bob.store)
    assert bob.chat.known_rooms == []
    await alice.chat.post("Lunch", "hi")
    await stage.pass_time(1)
    assert bob.texts() == ["hi"]
    assert bob.chat.known_rooms == ["Lunch"]


def test_a_server_cannot_fill_the_memory_with_names():
    memberships = Memberships()
    memberships.hear(*(f"n{number}" for number in range(MAX_HEARD)), "everyone")
    memberships.hear("N1", "another")
    assert len(memberships.heard()) == MAX_HEARD
    assert "another" in memberships.heard()
    assert "everyone" not in memberships.heard()


def test_a_server_that_removes_us_from_one_room_after_the_other_does_not_fill_it_either():
    memberships = Memberships()
    for number in range(2 * MAX_LEFT):
        memberships.leave(f"#{number}", f"n{number}")
    assert len(memberships._left) == MAX_LEFT
    latest, forgotten = f"#{2 * MAX_LEFT - 1}", "#0"
    assert not memberships.is_for_us(latest, 1)
    assert memberships.is_for_us(forgotten, 1), "as with a room that we have not heard of"
