"""Which keys a client believes: the first key of a name is pinned, and looking a key up pins nothing.

The last two tests run in virtual time over the network in memory (tests/stage.py); the others take no time.
"""

import pytest

from tests.stage import SERVER_IDENTITY, SERVER_KEY, identity_of
from trio_chat.client import key_pins
from trio_chat.client.events import KeyWarning
from trio_chat.client.key_pins import KeyPins
from trio_chat.crypto.identities import credentials
from trio_chat.errors import KeyChanged, ServerKeyChanged
from trio_chat.protocol.messages import Find, TableChange
from trio_chat.protocol.records import Record, fingerprint
from trio_chat.storage.memory import MemoryClientStore


def row_of(name, identity):
    shown = credentials(identity, name=name, server_key=SERVER_KEY)
    return Record(name, "10.0.0.9", 6000, online=True, since=1.0, credentials=shown)


@pytest.fixture
def pins():
    pins = KeyPins(MemoryClientStore())
    pins.check_server(SERVER_IDENTITY.public)
    return pins


def test_looking_a_key_up_pins_nothing(pins):
    bob = identity_of("bob")
    assert pins.keys(row_of("bob", bob)) == bob.public
    assert pins.signing_key("bob") is None
    pins.pin_new([row_of("bob", bob)])
    assert pins.signing_key("BOB") == bob.public.signing


def test_another_key_is_warned_of_once_and_refused_until_it_is_pinned(pins):
    bob, other = row_of("bob", identity_of("bob")), row_of("bob", identity_of("mallory"))
    pins.pin_new([bob])
    pins.pin_new([other])
    with pytest.raises(KeyChanged):
        pins.keys(other)
    assert pins.new_warnings([bob, other]) == [
        KeyWarning("bob", bob.fingerprint, fingerprint(identity_of("mallory").public.signing))
    ], "although the key has been looked up before"
    assert pins.new_warnings([other]) == []
    assert pins.changed({"bob": other}) == {"bob"}
    pins.pin("bob", other.credentials)
    assert pins.keys(other) == identity_of("mallory").public
    assert pins.changed({"bob": other}) == set()


def test_a_server_key_with_the_fingerprint_of_the_pinned_one_is_another_key(pins, monkeypatch):
    pins.pin_server()
    monkeypatch.setattr(key_pins, "fingerprint", lambda key: "aaaa-bbbb-cccc-dddd")
    assert pins.is_server(SERVER_IDENTITY.public)
    assert not pins.is_server(identity_of("mallory").public)
    with pytest.raises(ServerKeyChanged):
        pins.check_server(identity_of("mallory").public)


async def test_a_recipient_who_is_not_in_the_table_yet_is_pinned_when_the_server_names_them(stage, autojump_clock):
    alice = await stage.enter("alice")
    stage.lose(lambda message, _, to: isinstance(message, TableChange) and to[0] == alice.host)
    await stage.enter("bob")
    assert "bob" not in alice.chat.table
    await alice.chat.send("bob", "hi")
    assert stage.sent(Find)
    assert alice.store.pinned("bob") == identity_of("bob").public.signing


async def test_who_has_lost_the_key_file_is_not_warned_of_their_own_new_key(stage, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await alice.kill()
    await stage.kill_server()
    await stage.server_store.forget("alice")
    await stage.start_server()

    new = identity_of("alice with a new key file")
    alice = await stage.enter("Alice", store=alice.store, identity=new)
    await stage.pass_time(60)
    assert alice.received == []
    assert alice.chat.untrusted == set()
    assert await alice.chat.trust("alice") == fingerprint(new.public.signing)
    assert alice.chat.untrusted == set()
    assert bob.chat.untrusted == {"alice"}, "the others are warned"
