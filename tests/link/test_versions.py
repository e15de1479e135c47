"""Programs of different versions of the protocol say which one must be upgraded, and never half understand each other.

Version 1 is in the recorded datagrams of fixtures/version-1.json. There are no sockets and there is no clock.
"""

import json
import random
from pathlib import Path

import pytest

from tests.link.test_links import is_refused
from tests.stage import SERVER, SERVER_IDENTITY, identity_of
from trio_chat.crypto.identities import sign_link_key
from trio_chat.link.events import KeysLearned, OtherVersion, Transmit
from trio_chat.link.hellos import ServerKeys
from trio_chat.link.links import Links
from trio_chat.link.packets import VERSION, Hello, Init, Keys, Reset, hello_of_version_1, marked, parse_untrusted
from trio_chat.link.session import Peer
from trio_chat.server.other_versions import ADDRESSES_KEPT, LINES, OtherVersions

NOW = 1000.0
CLIENT = ("10.0.0.2", 6000)
RECORDED = json.loads((Path(__file__).parent / "fixtures" / "version-1.json").read_text())
NEXT = bytes((VERSION + 1, 0, 0))


def recorded(kind: str, sender: str) -> list[bytes]:
    """The datagrams of this kind that the client or the server of version 1 has sent."""
    return [bytes.fromhex(one["datagram"]) for one in RECORDED if (one["kind"], one["from"]) == (kind, sender)]


@pytest.fixture
def server() -> Links:
    """The server of the recording, as it is now."""
    shown = ServerKeys(SERVER_IDENTITY.public, sign_link_key(SERVER_IDENTITY))
    return Links(SERVER_IDENTITY.link, random.Random(2).randbytes, shown)


@pytest.fixture
def client() -> Links:
    """The client of the recording, as it is now. It asks the server for its keys."""
    links = Links(identity_of("alice").link, random.Random(3).randbytes)
    links.hello(SERVER)
    return links


def index_of(client: Links) -> bytes:
    """The index of the HELLOs of our version."""
    return client.hello(SERVER)[0].data[4:8]


def of_next_version(datagram: bytes) -> bytes:
    """The beginning is the same in all versions. What follows may be anything, of any length."""
    return datagram[:1] + NEXT + datagram[4:8] + b"something that is not known yet" * 5


# --- the recording ---


def test_the_recording_is_an_exchange_of_version_1():
    kinds = [(one["from"], one["kind"]) for one in RECORDED]
    assert kinds == [
        *(("client", "HELLO"), ("server", "KEYS")) * 2,
        *(("client", "INIT"), ("server", "COOKIE"), ("client", "INIT"), ("server", "RESP")),
        *(("client", "DATA"), ("server", "DATA")),
    ]
    assert {one["datagram"][2:8] for one in RECORDED} == {"000000"}


# --- a server meets an older client ---


@pytest.mark.parametrize("kind", ["HELLO", "INIT"])
def test_a_server_reports_an_older_client_and_does_not_answer(server, kind):
    before = len(server)
    for datagram in recorded(kind, "client")[:1]:
        assert server.receive_untrusted(datagram, CLIENT, NOW) == [OtherVersion(CLIENT, 1)]
    assert len(server) == before


def test_a_client_whose_server_was_upgraded_meanwhile_begins_with_an_init_and_is_reported(server):
    (data,) = recorded("DATA", "client")
    assert server.receive_untrusted(data, CLIENT, NOW) == [Transmit(Reset(data[4:8]).encode(), CLIENT)]
    assert OtherVersion(CLIENT, 1) in server.receive_untrusted(recorded("INIT", "client")[-1], CLIENT, NOW)


def test_version_1_takes_nothing_of_ours_for_its_own(server, client):
    """Its datagrams have three zeros behind the type, and it refuses others."""
    (keys,) = server.receive_untrusted(Hello(b"indx").encode(), CLIENT, NOW)
    (init,) = client.send(Peer(SERVER, SERVER_IDENTITY.public.link), b"hi", NOW)
    for datagram in (keys.data, init.data, Hello(b"indx").encode()):
        assert datagram[1:4] != bytes(3)


# --- a client meets an older server ---


def test_a_client_asks_in_both_versions_but_not_at_once():
    client = Links(identity_of("alice").link, random.Random(3).randbytes)
    (first,) = client.hello(SERVER)
    again = client.hello(SERVER)
    index = first.data[4:8]
    assert first.data == Hello(index).encode()
    assert [one.data for one in again] == [first.data, hello_of_version_1(index)]
    # A server of version 1 has answered exactly this.
    asked, answered = recorded("HELLO", "client")[1], recorded("KEYS", "server")[1]
    assert hello_of_version_1(asked[4:7] + b"?") == asked
    assert answered[4:8] == asked[4:8]


def test_a_client_understands_that_the_server_is_older(client):
    keys = recorded("KEYS", "server")[0]
    answer = keys[:4] + marked(index_of(client)) + keys[8:]
    assert client.receive_untrusted(answer, SERVER, NOW) == [OtherVersion(SERVER, 1)]
    assert OtherVersion(SERVER, 1).is_older


def test_keys_of_another_version_that_nobody_asked_for_are_refused(client):
    keys, index = recorded("KEYS", "server")[0], index_of(client)
    older, newer = keys[:4] + marked(index) + keys[8:], of_next_version(keys[:4] + index)
    for answer in (older, newer):
        assert is_refused(client, answer, ("10.0.0.9", 5000))
        assert is_refused(client, answer[:4] + b"\0\0\0\0" + answer[8:], SERVER)
    # The HELLO of version 1 is not what a newer server answers, and ours not what an older one does.
    assert is_refused(client, keys[:4] + index + keys[8:], SERVER)
    assert is_refused(client, newer[:4] + marked(index) + newer[8:], SERVER)
    client.forget_hellos()
    assert is_refused(client, older, SERVER)
    assert is_refused(client, newer, SERVER)


def test_a_server_of_our_version_ignores_the_hello_that_is_for_older_ones(server, client):
    ours, beside = (one.data for one in client.hello(SERVER))
    assert is_refused(server, beside, CLIENT)
    (keys,) = server.receive_untrusted(ours, CLIENT, NOW)
    assert client.receive_untrusted(keys.data, SERVER, NOW) == [KeysLearned(SERVER, SERVER_IDENTITY.public)]


# --- the next version ---


def test_a_server_answers_a_newer_client_which_learns_its_version(server):
    hello = of_next_version(Hello(b"indx").encode())
    answer, met = server.receive_untrusted(hello, CLIENT, NOW)
    assert met == OtherVersion(CLIENT, VERSION + 1)
    assert not met.is_older
    assert answer.address == CLIENT
    assert len(answer.data) <= len(hello)
    assert isinstance(parse_untrusted(answer.data), Keys)


def test_a_server_never_answers_with_more_than_was_asked(server):
    for size in range(8, len(Hello(b"indx").encode())):
        short = of_next_version(Hello(b"indx").encode())[:size]
        assert server.receive_untrusted(short, CLIENT, NOW) == [OtherVersion(CLIENT, VERSION + 1)]


def test_every_index_may_be_that_of_a_newer_hello(server):
    index = marked(b"indx")
    answer, _ = server.receive_untrusted(of_next_version(Hello(index).encode()), CLIENT, NOW)
    assert answer.data[4:8] == index


def test_a_server_does_not_compute_for_an_init_of_another_version(server):
    init = of_next_version(Init(b"indx", bytes(112)).encode())
    assert server.receive_untrusted(init, CLIENT, NOW) == [OtherVersion(CLIENT, VERSION + 1)]


@pytest.mark.parametrize("size", [8, 136, 1200])
def test_a_client_understands_that_the_server_is_newer(client, size):
    answer = (of_next_version(b"\x02\0\0\0" + index_of(client)) + bytes(1200))[:size]
    assert client.receive_untrusted(answer, SERVER, NOW) == [OtherVersion(SERVER, VERSION + 1)]


def test_a_client_does_not_care_about_hellos_and_inits_of_other_versions(client):
    for datagram in (recorded("HELLO", "client")[0], recorded("INIT", "client")[0], of_next_version(b"\x03\0\0\0indx")):
        assert is_refused(client, datagram, ("10.0.0.9", 6000))


# --- what the operator is told ---


def test_the_operator_is_told_once_of_each_address_and_which_program_must_be_upgraded():
    told = OtherVersions()
    old, new = OtherVersion(CLIENT, 1), OtherVersion(("fe80::1%eth0", 6000), VERSION + 1)
    assert told.line(old, NOW) == "a program at 10.0.0.2, port 6000, is too old for this server: it must be upgraded"
    assert "fe80::1%eth0, port 6000, is newer than this server: the server must be upgraded" in told.line(new, NOW)
    assert told.line(old, NOW) is told.line(OtherVersion(("10.0.0.2", 6001), 1), NOW + 1e6) is None


def test_no_flood_of_forged_addresses_fills_the_log_or_the_memory():
    told = OtherVersions()
    seconds, lines = 0.0, 0
    for number in range(100_000):
        seconds += 0.03
        address = (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 5)
        lines += told.line(OtherVersion(address, 1), NOW + seconds) is not None
    assert lines <= LINES.at_once + seconds * LINES.a_second
    for number in range(3 * ADDRESSES_KEPT):
        told.line(OtherVersion((f"11.0.{number >> 8}.{number & 255}", 5), 1), NOW + 60.0 * (number + 1000))
    assert len(told._told) == ADDRESSES_KEPT
