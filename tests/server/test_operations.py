"""What an operator does on a running server, and what its clients see of it.

In virtual time (tests/stage.py). Commands come without a socket: the control socket is in test_control.py.
"""

from functools import partial
from pathlib import Path

import pytest
import trio

from tests.raw_peer import RawPeer
from tests.stage import SERVER, SERVER_KEY, SERVER_PEER, identity_of
from trio_chat import errors
from trio_chat.client.events import LetterReceived, MessageNotDelivered, SignedOff
from trio_chat.protocol.messages import Heartbeat, Refused, Register, Registered, SessionEnded
from trio_chat.protocol.records import NAME_RETENTION, EndReason, Reason, fingerprint
from trio_chat.server import operations, retention
from trio_chat.server import server as server_module
from trio_chat.server.moderation import NotBannable, RegistrationMode
from trio_chat.server.operations import (
    BanCommand,
    BansCommand,
    DeleteCommand,
    ForgetCommand,
    InviteCommand,
    KickCommand,
    StatsCommand,
    UnbanCommand,
    WhoCommand,
)
from trio_chat.storage.server_memory import MemoryServerStore


@pytest.fixture
async def ask(stage, monkeypatch):
    """`await ask(command)`, as if it had come by the control socket of the running server."""
    replies = []

    class DirectControl:
        def __init__(self, reply):
            replies.append(reply)

        async def serve(self, path, *, task_status):
            task_status.started()

    async def ask(command):
        return await replies[-1](command)

    monkeypatch.setattr(server_module, "Control", DirectControl)
    stage.control = lambda port: Path(f"server-{port}.sock")
    await stage.kill_server()
    await stage.start_server()
    return ask


async def restart(stage):
    await stage.kill_server()
    await stage.start_server()


def endings(person) -> list[type]:
    return [type(event.error) for event in person.received if isinstance(event, SignedOff)]


def key_of(name: str) -> str:
    return fingerprint(identity_of(name).public.signing)


# --- kick ---


async def test_who_is_kicked_is_told_and_stays_away_until_they_come_back_themselves(stage, ask, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    assert await ask(KickCommand("BOB")) == {"kicked": "bob"}
    await stage.pass_time(100)
    assert endings(bob) == [errors.Kicked]
    assert not bob.chat.online
    assert not alice.chat.table["bob"].online
    with pytest.raises(errors.NotRegistered):
        await bob.chat.send_all("hello")
    await bob.chat.register()
    await bob.chat.send_all("hello")
    await stage.pass_time(1)
    assert alice.texts() == ["hello"]


async def test_what_cannot_be_kicked(stage, ask, autojump_clock):
    alice = await stage.enter("alice")
    with pytest.raises(errors.UnknownRecipient):
        await ask(KickCommand("bob"))
    await alice.chat.deregister()
    with pytest.raises(operations.NotOnline, match="alice is not online"):
        await ask(KickCommand("alice"))


async def test_a_kick_whose_news_are_lost_at_first_still_arrives(stage, ask, autojump_clock):
    bob = await stage.enter("bob")
    stage.lose(lambda message, *_: isinstance(message, SessionEnded), times=3)
    await ask(KickCommand("bob"))
    # It is refused as not registered by nobody: it would come back by itself.
    with pytest.raises((errors.NotRegistered, errors.ServerNotResponding)):
        await bob.chat.send_all("hello")
    await stage.pass_time(60)
    assert endings(bob) == [errors.Kicked]
    assert not bob.chat.online


async def test_a_kicked_client_that_comes_back_in_a_loop_is_limited_and_harms_nobody(
    stage, ask, autojump_clock, nursery
):
    mallory = RawPeer(stage.network, ("10.0.3.3", 6000), identity_of("mallory"))
    mallory.answer = lambda message: message.ack() if isinstance(message, SessionEnded) else None
    nursery.start_soon(mallory.listen)
    alice = await stage.enter("alice")
    kicked = 0
    for _ in range(200):
        mallory.send(SERVER_PEER, mallory.register("mallory", SERVER_KEY, program=bytes(16)))
        await stage.pass_time(0.05)
        try:
            await ask(KickCommand("mallory"))
            kicked += 1
        except (operations.NotOnline, errors.UnknownRecipient):
            pass
        await stage.pass_time(0.01)
    assert kicked >= 50, "the burst"
    assert any(refused.reason is Reason.TOO_FAST for refused in mallory.of(Refused)), "then its rate is limited"
    assert {ended.reason for ended in mallory.of(SessionEnded)} == {EndReason.KICKED}
    await alice.chat.send_all("still here")
    nursery.cancel_scope.cancel()


# --- ban ---


async def test_a_banned_name_is_banned_with_its_key_and_stays_so_after_a_restart(stage, ask, autojump_clock):
    bob = await stage.enter("bob")
    banned = [
        {"kind": "name", "value": "bob", "name": "bob"},
        {"kind": "key", "value": key_of("bob"), "name": "bob"},
    ]
    assert await ask(BanCommand("Bob")) == {"banned": banned, "ended": ["bob"], "known": True}
    await stage.pass_time(60)
    assert endings(bob) == [errors.Banned]
    for _ in range(2):
        assert await ask(BansCommand()) == {"bans": banned}
        with pytest.raises(errors.Banned):
            await bob.chat.register()
        with pytest.RaisesGroup(errors.Banned, flatten_subgroups=True):
            async with trio.open_nursery() as nursery:
                await nursery.start(
                    partial(stage._run_client, "rob", "10.0.9.9", 1, identity_of("bob"), bob.store, "", True)
                )
        await restart(stage)
    assert await ask(UnbanCommand("BOB")) == {"unbanned": banned}
    await restart(stage)
    await bob.chat.register()


async def test_sessions_of_a_banned_address_or_key_end_at_once(stage, ask, autojump_clock):
    alice = await stage.enter("alice", host="10.0.7.1")
    bob = await stage.enter("bob", host="10.0.7.2")
    carol = await stage.enter("carol")
    assert (await ask(BanCommand("10.0.7.0/24")))["ended"] == ["alice", "bob"]
    assert (await ask(BanCommand(key_of("carol").upper())))["ended"] == ["carol"]
    await stage.pass_time(1)
    assert [endings(one) for one in (alice, bob, carol)] == [[errors.Banned]] * 3
    await stage.enter("dave")


async def test_a_name_that_looks_like_an_address_can_be_banned_as_a_name(stage, ask, autojump_clock):
    odd = await stage.enter("10.0.0.1")
    assert (await ask(BanCommand("10.0.0.1")))["ended"] == []
    assert (await ask(BanCommand("10.0.0.1", is_name=True)))["ended"] == ["10.0.0.1"]
    await ask(UnbanCommand("10.0.0.1"))
    assert [one["kind"] for one in (await ask(BansCommand()))["bans"]] == ["name", "key"]
    await stage.pass_time(1)
    assert endings(odd) == [errors.Banned]


async def test_what_cannot_be_banned_or_unbanned(ask, autojump_clock):
    for command in (BanCommand, UnbanCommand):
        with pytest.raises(NotBannable, match="neither a name nor a fingerprint nor an address"):
            await ask(command("../x"))
    for what in ("bob", "10.0.0.1"):
        with pytest.raises(operations.NotBanned):
            await ask(UnbanCommand(what))


async def test_a_banned_name_is_spelt_as_its_owner_has_registered_it(stage, ask, autojump_clock):
    await stage.enter("daveB")
    banned = [
        {"kind": "name", "value": "daveB", "name": "daveB"},
        {"kind": "key", "value": key_of("daveB"), "name": "daveB"},
    ]
    assert (await ask(BanCommand("DAVEb")))["banned"] == banned
    assert await ask(BansCommand()) == {"bans": banned}
    assert await ask(UnbanCommand("daveb")) == {"unbanned": banned}


async def test_a_name_that_nobody_has_is_banned_and_the_operator_is_told(stage, ask, autojump_clock):
    banned = [{"kind": "name", "value": "nobody", "name": "nobody"}]
    assert await ask(BanCommand("nobody")) == {"banned": banned, "ended": [], "known": False}
    assert (await ask(BanCommand("10.0.0.1")))["known"]
    with pytest.raises(errors.Banned):
        await stage.enter("nobody")


# --- delete and forget ---


async def test_a_deleted_name_disappears_and_what_waits_for_it_fails(stage, ask, autojump_clock):
    alice, bob, carol = [await stage.enter(name) for name in ("alice", "bob", "carol")]
    await bob.chat.deregister()
    await stage.pass_time(1)
    assert (await alice.chat.send("bob", "are you there?")).how == "saved"
    await carol.chat.deregister()
    assert await ask(DeleteCommand("BOB")) == {"deleted": "BOB"}
    await stage.pass_time(1)
    assert list(alice.chat.table) == ["alice", "carol"]
    assert [event.recipient for event in alice.received if isinstance(event, MessageNotDelivered)] == ["bob"]
    with pytest.raises(errors.UnknownRecipient):
        await alice.chat.send("bob", "hello?")
    await carol.chat.register()
    assert sorted(carol.chat.table) == ["alice", "carol"], "it was away"
    with pytest.raises(errors.UnknownRecipient):
        await ask(DeleteCommand("bob"))
    await restart(stage)
    await stage.pass_time(30)
    assert sorted(alice.chat.table) == ["alice", "carol"]


async def test_the_owner_of_a_deleted_name_is_told_and_somebody_else_may_have_it(stage, ask, autojump_clock):
    bob = await stage.enter("bob")
    await ask(DeleteCommand("bob"))
    await stage.pass_time(30)
    assert endings(bob) == [errors.NameDeleted]
    await stage.enter("bob", host="10.0.8.8", identity=identity_of("somebody else"))
    with pytest.raises(errors.NameTaken):
        await bob.chat.register()


async def test_a_letter_that_somebody_has_taken_does_not_fail_when_their_name_is_deleted(stage, ask, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    stage.network.filters.append(
        lambda data, source, destination: {source[0], destination[0]} != {alice.host, bob.host}
    )
    assert (await alice.chat.send("bob", "by the server")).how == "relayed"
    await ask(DeleteCommand("bob"))
    await stage.pass_time(5)
    assert bob.texts() == ["by the server"]
    assert not [event for event in alice.received if isinstance(event, MessageNotDelivered)]


class BusyStore(MemoryServerStore):
    """What has been taken is durable after a second."""

    def __init__(self):
        super().__init__()
        self.acknowledged = []

    async def acknowledge(self, acknowledged, at):
        self.acknowledged += [one.name for one in acknowledged]
        await super().acknowledge(acknowledged, at)
        await trio.sleep(1)

    async def advance(self, positions):
        await super().advance(positions)
        await trio.sleep(1)


@pytest.mark.parametrize("first", ["a letter", "a post"])
async def test_a_letter_that_was_taken_while_the_disk_was_busy_does_not_fail_either(
    stage, ask, autojump_clock, nursery, first
):
    store = BusyStore()
    await stage.kill_server()
    await stage.start_server(store)
    alice, bob, carol = [await stage.enter(name) for name in ("alice", "bob", "carol")]
    stage.network.filters.append(lambda data, source, destination: SERVER[0] in (source[0], destination[0]))
    await stage.pass_time(1.1)  # positions are written once a second
    if first == "a post":
        await alice.chat.send_all("first")
    else:
        nursery.start_soon(alice.chat.send, "carol", "first")
        await stage.pass_time(0.1)
    nursery.start_soon(alice.chat.send, "bob", "second")
    await stage.pass_time(0.6)
    assert (carol.texts(), bob.texts()[-1:]) == (["first"], ["second"])
    before = [] if first == "a post" else ["carol"]
    assert store.acknowledged == before, "what bob has taken waits for that"
    await ask(DeleteCommand("bob"))
    assert store.acknowledged == [*before, "bob"]
    await stage.pass_time(5)
    assert not [event for event in alice.received if isinstance(event, MessageNotDelivered)]


async def test_what_somebody_sent_whose_name_was_deleted_is_read_after_a_restart_too(stage, ask, autojump_clock):
    alice = await stage.enter("alice")
    await alice.chat.deregister()
    await alice.kill()
    bob = await stage.enter("bob")
    assert (await bob.chat.send("alice", "a letter")).how == "saved"
    await bob.chat.send_all("a post")
    await ask(DeleteCommand("bob"))
    await stage.pass_time(30)
    await bob.kill()
    for _ in range(2):
        await restart(stage)
    # A client that has never seen bob: there is no row of theirs, but their keys come with what they wrote.
    alice = await stage.enter("alice", host=alice.host)
    await stage.pass_time(1)
    assert "bob" not in alice.chat.table
    assert [type(event) for event in alice.received] == [LetterReceived, LetterReceived]
    assert alice.texts() == ["a letter", "a post"]


@pytest.mark.parametrize("command", [DeleteCommand("bob"), ForgetCommand("bob")], ids=["delete", "forget"])
async def test_a_registration_that_waits_for_the_store_does_not_bring_a_name_back(
    stage, ask, autojump_clock, nursery, command
):
    class SlowStore(MemoryServerStore):
        async def save_name(self, record, invitation=b""):
            saved.append(record.name)
            return await super().save_name(record, invitation)

        async def advance(self, positions):
            await super().advance(positions)
            await trio.sleep(1)

    saved = []
    await stage.kill_server()
    await stage.start_server(SlowStore())
    alice, carol = await stage.enter("alice"), await stage.enter("carol")
    await stage.pass_time(5)
    await alice.chat.send_all("hello")
    await stage.pass_time(0.1)
    bob = RawPeer(stage.network, ("10.0.3.3", 6000), identity_of("bob"))
    nursery.start_soon(bob.listen)
    bob.send(SERVER_PEER, bob.register("bob", SERVER_KEY))
    await stage.pass_time(0.5)
    assert alice.chat.table["bob"].online, "admitted; the positions are being written first"
    await ask(command)
    await stage.pass_time(2)
    assert saved == ["alice", "carol"]
    assert not bob.of(Registered)
    assert carol.texts() == ["hello"]
    await stage.kill_server()
    await stage.start_server()
    await stage.enter("bob", host="10.0.8.8", identity=identity_of("somebody else"))
    nursery.cancel_scope.cancel()


async def test_a_freed_name_cannot_be_taken_by_whoever_asks_most_often(stage, ask, autojump_clock, nursery):
    alice = await stage.enter("alice")
    await alice.kill()
    new = identity_of("alice with a new key")
    poller = RawPeer(stage.network, ("10.0.3.3", 6000), identity_of("mallory"))
    nursery.start_soon(poller.listen)

    async def poll():
        while True:
            poller.send(SERVER_PEER, poller.register("alice", SERVER_KEY))
            await trio.sleep(0.05)

    nursery.start_soon(poll)
    await stage.pass_time(1)
    only_for = fingerprint(new.public.signing)
    assert await ask(ForgetCommand("ALICE", only_for)) == {"freed": "alice", "for": only_for}
    await stage.pass_time(5)
    await restart(stage)
    await stage.pass_time(5)
    back = await stage.enter("alice", host="10.0.8.8", identity=new)
    assert back.chat.online
    assert not poller.of(Registered)
    assert {refused.reason for refused in poller.of(Refused)} <= {Reason.TAKEN, Reason.TOO_FAST}
    nursery.cancel_scope.cancel()


async def test_a_freed_name_ends_the_session_of_its_owner(stage, ask, autojump_clock):
    bob = await stage.enter("bob")
    assert await ask(ForgetCommand("bob")) == {"freed": "bob", "for": ""}
    await stage.pass_time(1)
    assert endings(bob) == [errors.NameDeleted]
    with pytest.raises(errors.UnknownRecipient):
        await ask(ForgetCommand("nobody"))


# --- names that nobody uses ---


async def test_a_name_that_nobody_uses_is_deleted(stage, ask, autojump_clock, monkeypatch):
    minute = 60.0
    assert 90 * 24 * 60 * minute == NAME_RETENTION
    monkeypatch.setattr(operations, "NAME_RETENTION", 5 * minute)
    monkeypatch.setattr(server_module, "NAMES_CHECK_EVERY", minute)
    monkeypatch.setattr(retention, "AGREEMENT", minute)
    alice, bob, carol, dave = [await stage.enter(name) for name in ("alice", "bob", "carol", "dave")]
    for one in (bob, carol, dave):
        await one.chat.deregister()
    await stage.pass_time(5.5 * minute)  # the clocks have agreed for a minute when the time begins
    assert sorted(alice.chat.table) == ["alice", "bob", "carol", "dave"]
    await dave.chat.register()
    await dave.chat.deregister()
    await alice.chat.send("carol", "a letter")
    await stage.pass_time(2 * minute)
    assert sorted(alice.chat.table) == ["alice", "carol", "dave"]


# --- invitations ---


async def test_an_invitation_admits_one_even_if_two_use_it_at_once(stage, ask, autojump_clock, nursery):
    stage.registration = RegistrationMode.INVITATION
    await restart(stage)
    answer = await ask(InviteCommand(days=2))
    assert answer["registration"] == "invitation"
    assert answer["until"] == trio.current_time() + 2 * 24 * 3600
    await restart(stage)
    raw = []
    for number, name in enumerate(("bob", "carol")):
        peer = RawPeer(stage.network, (f"10.0.3.{number}", 6000), identity_of(name))
        nursery.start_soon(peer.listen)
        peer.send(SERVER_PEER, Heartbeat(bytes(16), 1.0))
        raw.append((peer, peer.register(name, SERVER_KEY, invitation=answer["code"])))
    await stage.pass_time(1)
    for peer, request in raw:
        peer.send(SERVER_PEER, request)
    await stage.pass_time(1)
    answers = [[one.reason for one in peer.of(Refused) if one.of == Register.kind] for peer, _ in raw]
    assert sorted(map(len, answers)) == [0, 1]
    assert Reason.NOT_INVITED in answers[0] + answers[1]
    assert sum(len(peer.of(Registered)) for peer, _ in raw) == 1
    names, _ = await stage.server_store.load(lambda entries: None)
    assert len(names) == 1
    assert await stage.server_store.rules() == ([], [])
    nursery.cancel_scope.cancel()


async def test_an_invitation_is_used_once_although_the_answer_is_lost(stage, ask, autojump_clock):
    stage.registration = RegistrationMode.INVITATION
    await restart(stage)
    code = (await ask(InviteCommand()))["code"]
    stage.lose(lambda message, *_: isinstance(message, Registered), times=4)
    bob = await stage.enter("bob", invitation=code)
    assert bob.chat.online
    await restart(stage)
    await bob.chat.send_all("still here")


# --- lists ---


async def test_who_and_stats(stage, ask, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("Bob")
    await bob.chat.deregister()
    await alice.chat.create_room("lunch")
    names = (await ask(WhoCommand()))["names"]
    assert [(one["name"], one["online"], one["host"], one["fingerprint"]) for one in names] == [
        ("alice", True, alice.host, key_of("alice")),
        ("Bob", False, bob.host, key_of("bob")),
    ]
    await ask(BanCommand("192.0.2.1"))
    await ask(InviteCommand())
    stats = await ask(StatsCommand())
    expected = {
        "names": 2,
        "online": 1,
        "registration": "open",
        "invitations": 1,
        "entries": 1,
        "refused": {},
        "rooms": 2,
    }
    assert {name: stats[name] for name in expected} == expected
    assert [one["value"] for one in stats["bans"]] == ["192.0.2.1/32"]
