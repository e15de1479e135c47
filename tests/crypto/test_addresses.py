"""Addresses that one person can read: nobody else can, and whatever was sealed, nothing but Unreadable comes out.

Pure functions with fixed keys.
"""

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import hosts
from trio_chat.crypto.addresses import _envelope, open_address_untrusted, seal_address
from trio_chat.crypto.identities import Identity
from trio_chat.crypto.letters import HPKE, Unreadable
from trio_chat.protocol.records import PublicKeys, is_of_private_network

BOB, EVE = (Identity(bytes((n,)) * 32, bytes((n + 100,)) * 32) for n in (1, 2))
NAMES = {"sender": "Alice", "recipient": "bob"}
AT = ("192.168.0.7", 6000)


def opens(sealed, own=BOB, **names):
    return open_address_untrusted(sealed, own, **NAMES | names)


@given(st.tuples(hosts(), st.integers(1, 65535)))
def test_the_reader_opens_it(at):
    sealed = seal_address(at, BOB.public, **NAMES)
    assert len(sealed) <= 128
    assert opens(sealed) == opens(sealed, sender="ALICE") == at


def test_nobody_else_does_and_not_under_another_name():
    sealed = seal_address(AT, BOB.public, **NAMES)
    assert AT[0].encode() not in sealed
    for other in ({"own": EVE}, {"sender": "eve"}, {"recipient": "eve"}):
        with pytest.raises(Unreadable):
            opens(sealed, **other)


@given(st.binary(max_size=128))
def test_what_nobody_has_sealed_is_unreadable(data):
    with pytest.raises(Unreadable):
        opens(data)


@given(st.binary(max_size=60) | st.text(max_size=20).map(str.encode))
def test_whatever_is_in_it_is_an_address_or_unreadable(inside):
    sealed = HPKE.encrypt(inside, X25519PublicKey.from_public_bytes(BOB.public.link), _envelope("alice", "bob"))
    try:
        host, port = opens(sealed)
    except Unreadable:
        return
    assert 0 < port < 65536
    is_of_private_network(host)  # does not raise


def test_a_key_that_cannot_be_used_is_unreadable():
    with pytest.raises(Unreadable):
        seal_address(AT, PublicKeys(BOB.public.signing, bytes(32)), **NAMES)


@pytest.mark.parametrize("host", ["10.0.0.1", "192.168.1.1", "172.16.0.1", "fd00::1"])
def test_hosts_of_a_home_are_of_a_private_network(host):
    assert is_of_private_network(host)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "::1", "8.8.8.8", "169.254.1.1", "fe80::1", "224.0.0.1", "::", "2606:4700::1", "home"],
)
def test_others_are_not(host):
    assert not is_of_private_network(host)
