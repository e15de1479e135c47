"""Who is removed from a private room reads what was posted while they were in it, and nothing later.

A real server and real clients in virtual time (tests/stage.py); which datagrams are lost is decided by the test.
"""

from trio_chat.client.events import GroupMessageReceived, RemovedFromRoom, RoomMembersChanged
from trio_chat.protocol.messages import Batch
from trio_chat.protocol.room_messages import GetEpoch


async def test_who_is_removed_while_they_ask_for_the_key_of_a_post_reads_it(stage, autojump_clock):
    """Their data folder is a new one, and the answer takes its time (seed 7014)."""
    alice, carol = await stage.enter("alice"), await stage.enter("carol")
    await alice.chat.create_room("loft", private=True)
    await alice.chat.invite("loft", "carol")
    await stage.pass_time(1)
    await carol.kill()
    carol = await stage.enter("carol", host=carol.host)
    stage.lose(lambda message, source, destination: isinstance(message, GetEpoch))
    await alice.chat.post("loft", "while carol is in it")
    await stage.pass_time(0.1)
    await alice.chat.remove("loft", "carol")
    await alice.chat.post("loft", "without carol")
    assert carol.received == []
    stage.network.filters.clear()
    await stage.pass_time(30)
    assert carol.received == [
        RoomMembersChanged("loft", "alice", joined=True),
        GroupMessageReceived("alice", "while carol is in it", room="loft"),
        RemovedFromRoom("loft", "alice"),
    ]
    handed = [entry for batch in stage.sent(Batch, destination=carol.host) for entry in batch.entries]
    assert {entry.kind for entry in handed} == {"epoch", "group", "removed"}
    assert await carol.chat.joined_rooms() == []
