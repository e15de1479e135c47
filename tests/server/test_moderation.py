"""Whom the server lets in: bans, invitations, names that were freed for one key; who is told and stays away.

No sockets and no clock (tests/bare_server.py). What is done on a running server is in test_operations.py.
"""

import attrs
import pytest

from tests.bare_server import A, B, BareServer, C, credentials_of, elsewhere, identity_of, program_at
from trio_chat.link.session import Peer
from trio_chat.protocol.duplicates import Reaction
from trio_chat.protocol.messages import Ack, Heartbeat, Refused, Register
from trio_chat.protocol.records import Reason, Record, Version, fingerprint
from trio_chat.server.moderation import (
    CODE_BYTES,
    NotBannable,
    RegistrationMode,
    hash_code,
    read_ban,
    read_network,
    show_code,
)
from trio_chat.server.service import Admission
from trio_chat.storage.rules import Ban, BanKind, Invitation

CODE = show_code(bytes(range(CODE_BYTES)))
OTHER_CODE = show_code(bytes(CODE_BYTES))


@pytest.fixture
def server() -> BareServer:
    return BareServer()


def reason_of(outcome) -> Reason | None:
    return outcome.reason if isinstance(outcome, Refused) else None


def key_of(peer: Peer) -> str:
    return fingerprint(identity_of(peer).public.signing)


def ask(server, name, peer, *, code="", program=None):
    """Register with an invitation. Returns the reason of a refusal, or the admission."""
    request = Register(server.id(), name, credentials_of(peer, name), program or program_at(peer), invitation=code)
    outcome = server.ask(peer, request)
    return reason_of(outcome) or outcome


def invite(server, code=CODE, name="", until=1e12):
    server.service.moderation.invite(Invitation(hash_code(code), until, name), server.at)


# --- what an operator types ---


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.1.2.3", "10.1.2.3/32"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::1/128", "2001:db8::/64"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("10.1.2", None),
        ("10.1.2.3/33", None),
        ("bob", None),
        ("", None),
    ],
)
def test_addresses_and_networks(text, network):
    assert read_network(text) == network
    assert read_network(network or "bob") == network, "as it is kept"


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/4", "0.0.0.0/4"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("2001:db8::1/32", "2001:db8::/32"),
        ("2001:db8::1/96", "2001:db8::/96"),
        ("fe80::1/64%eth0", "fe80::/64"),
    ],
)
def test_a_network_that_would_be_larger_than_it_looks_is_refused(text, network):
    with pytest.raises(NotBannable, match=f"type {network} for the network, {text.partition('/')[0]} for the address"):
        read_network(text)


@pytest.mark.parametrize(
    ("text", "is_name", "ban"),
    [
        ("Bob", False, Ban(BanKind.NAME, "bob", "bob")),
        ("AAAA-bbbb-2345-zzzz", False, Ban(BanKind.KEY, "aaaa-bbbb-2345-zzzz")),
        ("aaaa-bbbb-2345-zzzz", True, Ban(BanKind.NAME, "aaaa-bbbb-2345-zzzz", "aaaa-bbbb-2345-zzzz")),
        ("aaaa-bbbb-2345-zzz1", False, Ban(BanKind.NAME, "aaaa-bbbb-2345-zzz1", "aaaa-bbbb-2345-zzz1")),
        ("10.0.0.1", False, Ban(BanKind.ADDRESS, "10.0.0.1/32")),
        ("10.0.0.1", True, Ban(BanKind.NAME, "10.0.0.1", "10.0.0.1")),
        ("300.1.1.1", True, Ban(BanKind.NAME, "300.1.1.1", "300.1.1.1")),
        ("10.x", False, Ban(BanKind.NAME, "10.x", "10.x")),
        ("10", False, Ban(BanKind.NAME, "10", "10")),
    ],
)
def test_what_is_meant_by_a_ban(text, is_name, ban):
    assert read_ban(text, is_name=is_name) == ban


@pytest.mark.parametrize(
    ("text", "is_name", "reason"),
    [
        ("../x", False, "neither a name nor a fingerprint nor an address: '../x'"),
        ("", True, "neither a name nor a fingerprint nor an address: ''"),
        ("10.0.0.0/8", True, "neither a name nor"),
        ("10.0.0.0/33", False, "neither a name nor"),
        ("300.1.1.1", False, "300.1.1.1 is not a valid address; if it is a name, add --name"),
        ("10.1.2", False, "10.1.2 is not a valid address"),
        ("10.0.0.0/4", False, "10.0.0.0/4 is an address in a network"),
    ],
)
def test_what_is_no_ban(text, is_name, reason):
    with pytest.raises(NotBannable) as refused:
        read_ban(text, is_name=is_name)
    assert str(refused.value).startswith(reason)


def test_a_code_is_readable_and_has_120_bits():
    assert CODE == "aaaq-eaye-auda-ocaj-bifq-ydio"
    assert CODE_BYTES * 8 == 120
    for typed in (CODE.upper(), CODE.replace("-", ""), f" {CODE}\n"):
        assert hash_code(typed) == hash_code(CODE)
    assert hash_code(OTHER_CODE) != hash_code(CODE)


# --- bans ---


@pytest.mark.parametrize(
    "banned", [Ban(BanKind.NAME, "alice"), Ban(BanKind.KEY, key_of(A)), Ban(BanKind.ADDRESS, "10.0.0.1/32")]
)
def test_who_is_banned_cannot_register(server, banned):
    server.enter("alice", A)
    server.leave(A)
    server.service.moderation.ban([banned])
    assert ask(server, "Alice", A) is Reason.BANNED
    server.service.moderation.unban([banned])
    assert isinstance(ask(server, "Alice", A), Admission)


def test_what_a_ban_does_not_mean(server):
    moderation = server.service.moderation
    moderation.ban([Ban(BanKind.NAME, "alice"), Ban(BanKind.KEY, key_of(B)), Ban(BanKind.ADDRESS, "10.0.0.3/32")])
    assert isinstance(ask(server, "alicia", A), Admission), "another name"
    assert isinstance(ask(server, "carol", elsewhere(C)), Admission), "another address"
    assert ask(server, "bob", elsewhere(B)) is Reason.BANNED, "the key everywhere"


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
        ("10.0.0.1/32", "10.0.0.1", "10.0.0.2"),
        ("2001:db8::/64", "2001:db8::ffff:ffff:ffff:ffff", "2001:db8:0:1::"),
        ("0.0.0.0/0", "255.0.0.1", "::1"),
        ("fe80::/64", "fe80::1%eth0", "fe80:0:0:1::1%eth0"),
    ],
)
def test_networks(server, network, inside, outside):
    moderation = server.service.moderation
    moderation.ban([Ban(BanKind.ADDRESS, network), Ban(BanKind.ADDRESS, "192.0.2.0/24")])
    assert moderation.is_banned_address((inside, 1))
    assert not moderation.is_banned_address((outside, 1))
    assert moderation.is_banned_address(("192.0.2.77", 1))
    moderation.unban([Ban(BanKind.ADDRESS, network)])
    assert not moderation.is_banned_address((inside, 1))


def test_a_key_that_was_banned_with_a_name_is_freed_with_it(server):
    moderation = server.service.moderation
    name, key, other = Ban(BanKind.NAME, "bob", "bob"), Ban(BanKind.KEY, key_of(B), "bob"), Ban(BanKind.KEY, key_of(A))
    moderation.ban([name, key, other])
    assert moderation.bans_like(Ban(BanKind.NAME, "bob", "bob")) == [name, key]
    assert moderation.bans_like(Ban(BanKind.KEY, key_of(B))) == [key]
    assert moderation.bans_like(Ban(BanKind.NAME, "carol", "carol")) == []


def test_nobody_moves_to_a_banned_address(server):
    session, away = server.enter("alice", A), elsewhere(A)
    server.service.moderation.ban([Ban(BanKind.ADDRESS, "10.0.0.9/32")])
    server.service.moved(A, away, server.now)
    assert session.peer == A
    assert reason_of(server.ask(away, Heartbeat(server.id(), session.since))) is Reason.NOT_REGISTERED
    assert ask(server, "alice", away) is Reason.BANNED


# --- who has been signed off ---


def test_a_program_is_not_answered_until_it_has_been_told(server):
    session = server.enter("alice", A)
    server.service.end_session(session, server.at)
    assert not server.service.table["alice"].online
    for request in (
        Heartbeat(server.id(), session.since),
        Register(server.id(), "alice", credentials_of(A, "alice"), session.program),
    ):
        assert server.ask(A, request) is Reaction.SILENCE, "else it would register again by itself"
    server.service.moderation.told(session.peer)
    again = ask(server, "alice", A)
    assert isinstance(again, Admission)
    assert isinstance(server.ask(A, Heartbeat(server.id(), again.session.since)), Ack)


def test_another_program_at_the_same_address_does_not_wait_for_that(server):
    session = server.enter("alice", A)
    server.service.end_session(session, server.at)
    assert isinstance(ask(server, "alice", A, program=bytes(16)), Admission)


# --- new names ---


@pytest.mark.parametrize("mode", [RegistrationMode.INVITATION, RegistrationMode.CLOSED])
def test_owners_come_back_and_new_names_are_refused(server, mode):
    server.enter("alice", A)
    server.leave(A)
    server.service.moderation.mode = mode
    refused = Reason.CLOSED if mode is RegistrationMode.CLOSED else Reason.NOT_INVITED
    assert ask(server, "bob", B) is refused
    assert ask(server, "alicia", A) is refused, "a second name is a new name"
    assert isinstance(ask(server, "Alice", A), Admission)


def test_a_closed_server_takes_no_invitation(server):
    server.service.moderation.mode = RegistrationMode.CLOSED
    invite(server)
    assert ask(server, "bob", B, code=CODE) is Reason.CLOSED


def test_an_open_server_does_not_use_up_invitations(server):
    invite(server)
    assert ask(server, "bob", B, code=CODE).invitation == b""
    assert len(server.service.moderation.invitations) == 1


def test_an_invitation_admits_one_new_name(server):
    server.service.moderation.mode = RegistrationMode.INVITATION
    invite(server)
    assert ask(server, "bob", B, code=OTHER_CODE) is Reason.NOT_INVITED
    assert ask(server, "bob", B, code=CODE.upper()).invitation == hash_code(CODE)
    assert ask(server, "carol", C, code=CODE) is Reason.NOT_INVITED, "it is used"
    again = ask(server, "bob", B, code=CODE)
    assert isinstance(again, Admission), "the answer may have been lost"
    assert again.invitation == b""


def test_an_invitation_may_be_for_one_name(server):
    server.service.moderation.mode = RegistrationMode.INVITATION
    invite(server, name="bob")
    assert ask(server, "carol", C, code=CODE) is Reason.NOT_INVITED
    assert isinstance(ask(server, "Bob", B, code=CODE), Admission)


def test_an_invitation_is_good_until_its_time(server):
    server.service.moderation.mode = RegistrationMode.INVITATION
    invite(server, until=server.at + 1)
    server.pace = 1.0
    invite(server, OTHER_CODE, until=server.at + 1.5)
    assert isinstance(ask(server, "bob", B, code=CODE), Admission)
    assert ask(server, "carol", C, code=OTHER_CODE) is Reason.NOT_INVITED


def test_a_registration_that_is_refused_uses_up_no_invitation(server):
    server.service.moderation.mode = RegistrationMode.INVITATION
    invite(server)
    forged = attrs.evolve(credentials_of(B, "bob"), certificate=bytes(64))
    request = Register(server.id(), "bob", forged, program_at(B), invitation=CODE)
    assert server.ask(B, request) is Reaction.SILENCE
    assert isinstance(ask(server, "bob", B, code=CODE), Admission)


@pytest.mark.parametrize("mode", RegistrationMode)
def test_a_freed_name_goes_to_the_key_that_it_is_freed_for(server, mode):
    server.enter("alice", A)
    server.leave(A)
    server.service.free("alice", key_of(B))
    server.service.moderation.mode = mode
    invite(server)
    for _ in range(20):
        assert ask(server, "alice", C, code=CODE) is Reason.TAKEN, "however often somebody tries"
        assert ask(server, "alice", A, code=CODE) is Reason.TAKEN, "nor the last owner"
    assert ask(server, "alice", B).invitation == b"", "it needs none"
    server.leave(B)
    server.service.free("alice")
    server.service.moderation.mode = RegistrationMode.OPEN
    assert isinstance(ask(server, "alice", C), Admission), "the reservation has ended"


def test_a_freed_name_is_a_new_name(server):
    server.enter("alice", A)
    server.leave(A)
    server.service.free("alice")
    server.service.moderation.mode = RegistrationMode.INVITATION
    assert ask(server, "alice", A) is Reason.NOT_INVITED


# --- deleted names ---


def test_a_deleted_name_is_gone_and_can_be_registered(server):
    server.enter("alice", A)
    server.enter("bob", B)
    server.leave(A)
    server.service.delete("Alice")
    assert server.published[-1] == Record("alice", "10.0.0.1", 1, False, server.at, None, deleted=True)
    assert reason_of(server.save(B, "alice")) is Reason.UNKNOWN
    assert reason_of(server.find(B, "alice")) is Reason.UNKNOWN
    assert isinstance(ask(server, "alice", C), Admission)


def test_a_deleted_name_does_not_count_for_its_key(server):
    server.enter("alice", A)
    key = identity_of(A).public.signing
    assert server.service.table.names_of(key) == 1
    server.leave(A)
    server.service.delete("alice")
    assert server.service.table.names_of(key) == 0
    assert len(server.service.table) == 0


def test_a_reservation_ends_with_the_name(server):
    server.enter("alice", A)
    server.leave(A)
    server.service.free("alice", key_of(B))
    server.service.delete("alice")
    assert isinstance(ask(server, "alice", C), Admission)


def test_no_keys_are_shown_for_the_entries_of_a_deleted_name_that_a_client_held(server):
    session = server.enter("alice", A)
    bob = server.enter("bob", B)
    bob.held = server.service.table.version
    entry = server.post(A).entry
    assert server.service.views.senders(bob, [entry]) == ()
    server.service.end_session(session, server.at)
    server.service.delete("alice")
    bob.held = server.service.table.version
    (sender,) = server.service.views.senders(bob, [entry])
    assert sender == ("alice", credentials_of(A, "alice")), "its row is gone, so the batch brings them"
    bob.held = Version(b"epoch..0", 9)
    assert server.service.views.senders(bob, [entry]) == (sender,)
