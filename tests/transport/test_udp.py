"""The real UdpSocket, on the loopback interface: errors are counted or reported, and no other task is blocked.

Real sockets and real time; each wait has a deadline. The endpoint is tested in virtual time, with tests/network.py.
"""

import errno
import socket
import sys

import pytest
import trio
import trio.testing

from trio_chat.errors import AddressError
from trio_chat.protocol.records import Address
from trio_chat.transport import udp
from trio_chat.transport.udp import UDP, UdpSocket


def has_loopback_6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return socket.has_dualstack_ipv6()


needs_ipv6 = pytest.mark.skipif(not has_loopback_6(), reason="this machine has no IPv6")


@pytest.fixture
async def bind():
    """UDP.bind; all sockets are closed at the end."""
    bound: list[UdpSocket] = []

    def bind_one(host: str | None = "127.0.0.1", port: int = 0) -> UdpSocket:
        bound.append(UDP.bind(host, port))
        return bound[-1]

    yield bind_one
    for one in bound:
        one.close()


@pytest.fixture
def ipv4_only(monkeypatch):
    """A machine without IPv6, or without dual-stack sockets."""
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)


async def receive(receiver: UdpSocket, count: int = 1) -> list[tuple[bytes, Address]]:
    got: list[tuple[bytes, Address]] = []
    with trio.fail_after(60):
        while len(got) < count:
            got += await receiver.receive_batch()
    return got


# --- sending and receiving ---


async def test_a_datagram_goes_there_and_its_answer_back(bind):
    a, b = bind(), bind()
    a.send(b"hi", b.address)
    [(data, source)] = await receive(b)
    assert (data, source) == (b"hi", a.address)
    b.send(b"hello", source)
    assert await receive(a) == [(b"hello", b.address)]


@needs_ipv6
async def test_one_socket_serves_both_families_and_shows_ipv4_as_ipv4(bind):
    everywhere = bind(None)
    four, six = bind("127.0.0.1"), bind("::1")
    port = everywhere.address[1]
    for party, host in ((four, "127.0.0.1"), (six, "::1")):
        party.send(b"ping", (host, port))
        assert await receive(everywhere) == [(b"ping", party.address)]
        everywhere.send(b"pong", party.address)
        assert await receive(party) == [(b"pong", (host, port))]
    assert everywhere.lost == 0


@needs_ipv6
async def test_an_address_in_mapped_form_is_the_ipv4_address(bind):
    party = bind("::ffff:127.0.0.1")
    assert party.address[0] == "127.0.0.1"
    peer = bind()
    party.send(b"hi", ("::ffff:127.0.0.1", peer.address[1]))
    assert await receive(peer) == [(b"hi", party.address)]


async def test_an_empty_datagram_arrives(bind):
    a, b = bind(), bind()
    a.send(b"", b.address)
    assert await receive(b) == [(b"", a.address)]


async def test_the_largest_datagram_arrives_whole(bind):
    a, b = bind(), bind()
    data = bytes(range(240)) * 5
    a.send(data, b.address)
    assert await receive(b) == [(data, a.address)]


async def test_a_batch_is_bounded_and_the_next_one_has_the_rest(bind):
    a, b = bind(), bind()
    for n in range(300):
        a.send(n.to_bytes(2, "big"), b.address)
    first = await receive(b)
    assert len(first) <= udp.BATCH == 256
    rest = await receive(b, 300 - len(first))
    assert [int.from_bytes(data, "big") for data, _ in first + rest] == list(range(300))


async def test_a_stream_of_datagrams_does_not_starve_other_tasks(bind, nursery):
    a, b = bind(), bind()
    turns = []

    async def bystander():
        while True:
            turns.append(1)
            await trio.lowlevel.checkpoint()

    nursery.start_soon(bystander)
    for _ in range(3):
        a.send(b"more", b.address)
        await receive(b)
    assert len(turns) >= 2
    nursery.cancel_scope.cancel()


# --- addresses that cannot be used ---


async def test_a_port_in_use_is_reported_in_one_line(bind):
    taken = bind()
    port = taken.address[1]
    with pytest.raises(AddressError) as caught:
        bind("127.0.0.1", port)
    assert str(caught.value) == f"cannot listen on 127.0.0.1:{port}: the port is in use"


async def test_a_port_in_use_anywhere_is_in_use_everywhere(bind):
    port = bind(None).address[1]
    with pytest.raises(AddressError, match=rf"^cannot listen on \*:{port}: the port is in use$"):
        bind(None, port)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "localhost", "127.1", "1.2.3.4.5", "::g", "a\0b", "\udc80"])
async def test_only_a_numeric_host_can_be_bound(bind, host):
    with pytest.raises(AddressError, match="not a numeric address"):
        bind(host)


async def test_an_address_of_another_machine_cannot_be_bound(bind):
    with pytest.raises(AddressError, match=r"^cannot listen on 192\.0\.2\.77:0: .+"):
        bind("192.0.2.77")


@pytest.mark.parametrize("port", [-1, 65536, 2**40])
async def test_an_invalid_port_is_refused(bind, port):
    with pytest.raises(AddressError, match=f"not a port: {port}"):
        bind("127.0.0.1", port)
    with pytest.raises(AddressError, match=f"not a port: {port}"):
        await UDP.resolve("127.0.0.1", port)


async def test_a_socket_that_cannot_be_created_is_an_address_error(bind, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(AddressError, match="Too many open files"):
        bind()


async def test_a_socket_works_without_large_buffers(bind, monkeypatch):
    class Stingy(socket.socket):
        def setsockopt(self, level, option, value):
            if option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                raise OSError(errno.ENOBUFS, "No buffer space available")
            super().setsockopt(level, option, value)

    monkeypatch.setattr(socket, "socket", Stingy)
    a, b = bind(), bind()
    a.send(b"hi", b.address)
    assert await receive(b) == [(b"hi", a.address)]


@pytest.mark.parametrize(
    "address",
    [
        ("127.0.0.1", 0),
        ("127.0.0.1", 65536),
        ("127.0.0.1", -1),
        ("256.0.0.1", 5000),
        ("dead.beef", 5000),
        ("::1::", 5000),
        ("", 5000),
        ("a\0b", 5000),
    ],
)
@pytest.mark.parametrize("host", [None, "127.0.0.1"])
async def test_a_send_to_an_impossible_address_is_counted(bind, host, address):
    party = bind(host)
    party.send(b"hello?", address)
    assert party.lost == 1
    party.send(b"hello?", address)
    assert party.lost == 2


async def test_the_own_address_is_the_one_that_others_see(bind):
    receiver = bind()
    for host in ("127.0.0.1", None):
        sender = bind(host)
        sender.send(b"hi", receiver.address)
        with trio.fail_after(5):
            ((_, source),) = await receiver.receive_batch()
        assert sender.own_address(receiver.address) == source
    assert bind(None).own_address(("not an address", 1)) is None


@pytest.mark.skipif(sys.platform != "linux", reason="other systems let routers cut datagrams by default")
@pytest.mark.parametrize("host", ["127.0.0.1", None])
async def test_routers_may_cut_datagrams_in_pieces(bind, host):
    """Before: they dropped those that were too long for them, and where they could not say so nothing long arrived."""
    ip_mtu_discover = 10
    assert bind(host)._socket.getsockopt(socket.IPPROTO_IP, ip_mtu_discover) == 0


async def test_a_send_never_looks_a_name_up(bind):
    party = bind()
    party.send(b"by name", ("localhost", party.address[1]))
    party.send(b"by number", party.address)
    assert await receive(party) == [(b"by number", party.address)]
    assert party.lost == 1


async def test_a_datagram_that_is_too_large_for_any_network_is_counted(bind):
    a, b = bind(), bind()
    a.send(bytes(70_000), b.address)
    a.send(b"after", b.address)
    assert await receive(b) == [(b"after", a.address)]
    assert a.lost == 1


async def test_a_peer_that_is_gone_disturbs_nobody(bind):
    a, b = bind(), bind()
    gone = bind()
    gone.close()
    for _ in range(3):
        a.send(b"are you there?", gone.address)
        a.send(b"hi", b.address)
        assert await receive(b) == [(b"hi", a.address)]
    b.send(b"still here", a.address)
    assert await receive(a) == [(b"still here", b.address)]


@pytest.mark.parametrize("number", [errno.ECONNRESET, errno.ENETRESET, errno.ENETDOWN])
async def test_an_error_instead_of_a_datagram_is_counted_and_the_next_one_arrives(bind, monkeypatch, number):
    class Resetting(socket.socket):
        troubles = 1

        def recvfrom(self, size):
            if self.troubles:
                self.troubles -= 1
                raise OSError(number, "some systems report an unreachable peer like this")
            return super().recvfrom(size)

    monkeypatch.setattr(socket, "socket", Resetting)
    a = bind()
    a.send(b"hi", a.address)
    assert await receive(a) == [(b"hi", a.address)]
    assert a.lost == 1


# --- closing ---


@pytest.mark.parametrize("something_arrives", [False, True])
async def test_closing_wakes_the_receiver(bind, nursery, something_arrives):
    party, peer = bind(), bind()
    woken = trio.Event()

    async def listen():
        with pytest.raises(trio.ClosedResourceError):
            await party.receive_batch()
        woken.set()

    nursery.start_soon(listen)
    await trio.testing.wait_all_tasks_blocked()
    if something_arrives:
        peer.send(b"at the last moment", party.address)
    party.close()
    with trio.fail_after(60):
        await woken.wait()


async def test_after_closing_nothing_is_received_or_sent_and_the_port_is_free(bind):
    party = bind()
    address = party.address
    party.close()
    party.close()
    with pytest.raises(trio.ClosedResourceError):
        await party.receive_batch()
    party.send(b"after closing", address)
    assert party.lost == 1
    assert bind(*address).address == address


# --- host names ---


async def test_localhost_is_this_machine():
    found = await UDP.resolve("localhost", 5000)
    assert found
    assert set(found) <= {("127.0.0.1", 5000), ("::1", 5000)}


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.7"])
async def test_a_numeric_host_is_itself(host):
    assert await UDP.resolve(host, 5000) == [(host, 5000)]


@needs_ipv6
async def test_a_numeric_ipv6_host_is_itself_and_a_mapped_one_is_ipv4():
    assert await UDP.resolve("::1", 5000) == [("::1", 5000)]
    assert await UDP.resolve("::ffff:192.0.2.7", 5000) == [("192.0.2.7", 5000)]


@needs_ipv6
async def test_an_ipv6_host_may_be_in_brackets():
    assert await UDP.resolve("[::1]", 5000) == [("::1", 5000)]


@pytest.mark.parametrize("host", ["[[::1]]", "[::1", "::1]", "[localhost]", "[127.0.0.1]", "[]"])
async def test_brackets_around_anything_else_are_an_address_error(host):
    with pytest.raises(AddressError, match=r"^cannot find the host '\[|^cannot find the host '::1\]'"):
        await UDP.resolve(host, 5000)


@pytest.mark.parametrize("host", ["nobody.invalid", "x" * 64, "two words", "", "a\0b"])
async def test_a_host_that_does_not_resolve_is_an_address_error(host):
    with pytest.raises(AddressError, match=r"^cannot find the host ") as caught:
        await UDP.resolve(host, 5000)
    assert "\n" not in str(caught.value)
    assert "codec" not in str(caught.value)


class Names(trio.abc.HostnameResolver):
    """A resolver that knows one host with four addresses. If asked for IPv4, it returns only those."""

    known = ("fe80::1", "2001:db8::1", "192.0.2.1", "192.0.2.1")

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):
        six = socket.AF_INET6
        return [
            (
                six if ":" in one else socket.AF_INET,
                type,
                proto,
                "",
                (one, 0, 0, 2) if ":" in one else (one, 0),
            )
            for one in self.known
            if family != socket.AF_INET or ":" not in one
        ]

    async def getnameinfo(self, sockaddr, flags):
        raise NotImplementedError


@pytest.fixture
async def names():
    """Names is used instead of this machine's resolver, for this run of trio."""
    resolver = Names()
    trio.socket.set_custom_hostname_resolver(resolver)
    return resolver


@needs_ipv6
async def test_each_address_is_returned_once_in_order_of_preference_and_none_is_link_local(names):
    assert await UDP.resolve("many.example", 5) == [("2001:db8::1", 5), ("192.0.2.1", 5)]


@needs_ipv6
async def test_a_host_with_nothing_but_link_local_addresses_cannot_be_used(names):
    names.known = ("fe80::1", "FEBF::2")
    with pytest.raises(AddressError, match="link-local addresses only"):
        await UDP.resolve("near.example", 5)


# --- machines without IPv6 ---


async def test_without_ipv6_every_interface_is_every_ipv4_interface(ipv4_only, bind):
    everywhere, peer = bind(None), bind()
    assert everywhere.address[0] == "0.0.0.0"  # noqa: S104
    peer.send(b"ping", ("127.0.0.1", everywhere.address[1]))
    assert await receive(everywhere) == [(b"ping", peer.address)]
    everywhere.send(b"pong", peer.address)
    assert await receive(peer) == [(b"pong", ("127.0.0.1", everywhere.address[1]))]


async def test_without_ipv6_a_send_to_an_ipv6_address_is_counted(ipv4_only, bind):
    party = bind(None)
    party.send(b"hello?", ("::1", 5000))
    assert party.lost == 1


async def test_without_ipv6_no_ipv6_address_is_found(ipv4_only, names):
    assert await UDP.resolve("many.example", 5) == [("192.0.2.1", 5)]


async def test_without_ipv6_an_ipv6_host_is_an_address_error(ipv4_only):
    with pytest.raises(AddressError, match=r"^cannot find the host '::1': "):
        await UDP.resolve("::1", 5)
