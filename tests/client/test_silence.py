"""Whether the server responds: who only reads is told, too, when it does not, and when it does again."""

import trio

from trio_chat.client.events import ServerBack, ServerSilent, SignedOff
from trio_chat.client.own_address import HEARTBEAT_EVERY
from trio_chat.crypto.identities import Identity
from trio_chat.errors import ServerKeyChanged


def told(person):
    return [event for event in person.received if isinstance(event, ServerSilent | ServerBack | SignedOff)]


async def test_who_does_nothing_is_told_within_two_heartbeats_and_when_the_server_is_back(stage, autojump_clock):
    alice = await stage.enter("alice", reconnect=True)
    await stage.pass_time(1)
    await stage.kill_server()
    begun = trio.current_time()
    await stage.pass_time(2 * HEARTBEAT_EVERY)
    (silent,) = told(alice)
    assert begun < silent.since < begun + 2 * HEARTBEAT_EVERY
    await stage.pass_time(300)
    assert told(alice) == [silent], "once"
    await stage.start_server()
    await stage.pass_time(10)
    assert told(alice) == [silent, ServerBack()]


async def test_one_lost_heartbeat_is_no_silence(stage, autojump_clock):
    alice = await stage.enter("alice", reconnect=True)
    stage.lose(lambda message, source, destination: type(message).__name__ == "Heartbeat", times=3)
    await stage.pass_time(5 * HEARTBEAT_EVERY)
    assert told(alice) == []


async def test_without_reconnect_nothing_is_said(stage, autojump_clock):
    """The classic client keeps the words of its ancestors."""
    alice = await stage.enter("alice")
    await stage.kill_server()
    await stage.pass_time(5 * HEARTBEAT_EVERY)
    assert told(alice) == []


async def test_who_does_nothing_is_told_that_another_server_is_there(stage, autojump_clock):
    alice = await stage.enter("alice", reconnect=True)
    await stage.pass_time(1)
    await stage.kill_server()
    stage.identity = Identity(b"x" * 32, b"X" * 32)
    await stage.start_server()
    await stage.pass_time(3 * HEARTBEAT_EVERY)
    silent, signed_off = told(alice)
    assert isinstance(silent, ServerSilent)
    assert isinstance(signed_off.error, ServerKeyChanged)
