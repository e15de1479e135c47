"""The search for servers on the local network: real servers in memory, and some that a test plays.

Time is virtual.
"""

import pytest
import trio

from tests.stage import identity_of
from trio_chat.client.search import MAX_ADDRESSES, MAX_FOUND, SEARCH_FOR, FoundServer, find_servers
from trio_chat.crypto.identities import Identity, sign_link_key
from trio_chat.errors import AddressError
from trio_chat.link import packets
from trio_chat.server.searches import IN_ALL, PER_HOST
from trio_chat.server.server import serve_chat

FIRST, SECOND = identity_of("the first server"), identity_of("the second server")


@pytest.fixture
def start(network, nursery):
    """Start a server with this identity at this host; return its address."""

    async def start(identity, host, **options):
        serve = {"host": host, "identity": identity, "network": network, "discovery": True} | options
        address = await nursery.start(lambda task_status: serve_chat(5000, **serve, task_status=task_status))
        await trio.testing.wait_all_tasks_blocked()
        return address

    return start


@pytest.fixture
def answering(network, nursery):
    """Play a server: `answers(index)` gives its answers to each question, sent from these sockets in turn."""

    async def run(answers, sockets):
        search = network.open_search(listens=True)
        while True:
            question, source = await search.receive()
            for number, answer in enumerate(answers(question[4:8])):
                sockets[number % len(sockets)].send(answer, source)

    def start(answers, hosts=("10.6.6.6",)):
        nursery.start_soon(run, answers, [network.bind(host, 5000) for host in hosts])

    return start


def keys_of(identity, index, **changes):
    own = identity.public
    fields = {"link_key": own.link, "signing_key": own.signing, "signature": sign_link_key(identity)} | changes
    return packets.Keys(index, **fields).encode()


def servers(network):
    return find_servers(network=network)


async def test_all_servers_are_found_within_a_second(network, start, autojump_clock):
    await start(FIRST, "10.0.0.1")
    await start(SECOND, "10.0.0.2")
    begun = trio.current_time()
    assert set(await servers(network)) == {
        FoundServer(FIRST.public.signing, (("10.0.0.1", 5000),)),
        FoundServer(SECOND.public.signing, (("10.0.0.2", 5000),)),
    }
    assert trio.current_time() - begun == SEARCH_FOR


async def test_without_servers_none_is_found(network, autojump_clock):
    assert await servers(network) == []


async def test_a_server_that_is_not_to_be_found_is_not(network, start, autojump_clock):
    await start(FIRST, "10.0.0.1", discovery=False)
    assert await servers(network) == []


async def test_the_question_is_repeated_as_it_may_be_lost(network, start, autojump_clock):
    await start(FIRST, "10.0.0.1")
    lost = []

    def lose(data, source, destination):
        if len(lost) < 2:
            lost.append(data)
            return False
        return True

    network.filters.append(lose)
    assert [one.key for one in await servers(network)] == [FIRST.public.signing]


async def test_a_server_on_this_machine_is_shown_with_the_address_that_others_can_use(
    network, answering, autojump_clock
):
    answering(lambda index: [keys_of(FIRST, index)] * 3, ("127.0.0.1", "10.0.0.1", "10.0.1.1"))
    assert [one.addresses for one in await servers(network)] == [(("10.0.0.1", 5000), ("10.0.1.1", 5000))]


async def test_without_a_network_the_one_on_this_machine_is_found(network, answering, autojump_clock):
    answering(lambda index: [keys_of(FIRST, index)], ("127.0.0.1",))
    assert [one.addresses for one in await servers(network)] == [(("127.0.0.1", 5000),)]


# --- strangers on the network ---


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(lambda index: [b"", b"x" * 136, packets.Hello(index).encode()], id="no keys"),
        pytest.param(lambda index: [keys_of(FIRST, bytes(4))], id="to another question"),
        pytest.param(lambda index: [keys_of(FIRST, index, signature=bytes(64))], id="not signed"),
        pytest.param(lambda index: [keys_of(FIRST, index, link_key=SECOND.public.link)], id="another link key"),
    ],
)
async def test_what_is_no_answer_of_a_server_is_left_out(network, answering, answers, autojump_clock):
    answering(answers)
    assert await servers(network) == []


async def test_who_invents_servers_fills_the_list_and_no_more(network, answering, autojump_clock):
    invented = [Identity(bytes([number]) * 32, bytes([number]) * 32) for number in range(1, MAX_FOUND + 20)]
    answering(lambda index: [keys_of(one, index) for one in invented])
    assert len(await servers(network)) == MAX_FOUND


async def test_who_shows_the_keys_of_a_server_at_many_addresses(network, answering, autojump_clock):
    hosts = [f"10.7.0.{number}" for number in range(1, MAX_ADDRESSES + 5)]
    answering(lambda index: [keys_of(FIRST, index)] * len(hosts), hosts)
    (found,) = await servers(network)
    assert len(found.addresses) == MAX_ADDRESSES


async def test_who_asks_in_a_loop_is_answered_a_few_times_and_others_are_answered(network, start, autojump_clock):
    await start(FIRST, "10.0.0.1")
    asking = network.open_search(listens=False)
    for _ in range(1000):
        await asking.send(packets.Hello(b"abcd").encode())
        await asking.send(b"x" * 136)
    await trio.testing.wait_all_tasks_blocked()
    answers = [sent for sent in network.log if sent.destination == asking.address]
    assert len(answers) == PER_HOST.at_once
    assert all(len(sent.data) == len(packets.Hello(b"abcd").encode()) for sent in answers)
    assert len(await servers(network)) == 1


async def test_who_forges_many_sources_gets_few_answers(network, start, autojump_clock):
    """They go to whoever has these addresses."""
    await start(FIRST, "10.0.0.1")
    searches = network.listeners[0]
    for number in range(3000):
        network.inject(packets.Hello(b"abcd").encode(), (f"10.8.{number // 250}.{number % 250}", 7), searches.address)
    await trio.testing.wait_all_tasks_blocked()
    answers = [sent for sent in network.log if sent.destination[0].startswith("10.8.")]
    assert len(answers) == IN_ALL.at_once


async def test_a_machine_that_cannot_listen_serves_nevertheless_and_says_so(
    network, start, monkeypatch, caplog, autojump_clock
):
    def fail(*, listens):
        raise AddressError("no interface of this machine takes part in multicast")

    monkeypatch.setattr(network, "open_search", fail)
    assert await start(FIRST, "10.0.0.1") == ("10.0.0.1", 5000)
    assert "no interface of this machine takes part in multicast" in caplog.text
    with pytest.raises(AddressError):
        await servers(network)
