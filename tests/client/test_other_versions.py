"""A client whose server has another version of the protocol says which of the two must be upgraded.

The server of version 1 is one that answers with its recorded datagrams. Time is virtual: nothing waits.
"""

import logging

import pytest
import trio

from tests.link.test_versions import NEXT, RECORDED, recorded
from tests.stage import SERVER, identity_of
from trio_chat.client.events import ServerSilent, SignedOff
from trio_chat.client.opening import open_chat
from trio_chat.errors import ServerKeyChanged, ServerTooNew, ServerTooOld
from trio_chat.link.packets import VERSION, Hello, Keys
from trio_chat.storage.client_interface import SERVER as STORED_SERVER
from trio_chat.storage.memory import MemoryClientStore

HELLO_OF_1 = recorded("HELLO", "client")[0]


def answer_of_version_1(data: bytes) -> bytes:
    """What a server of version 1 answers: it drops a HELLO that is not exactly as its own, and knows no other start."""
    is_hello = data[:4] == HELLO_OF_1[:4] and data[8:] == HELLO_OF_1[8:]
    keys = recorded("KEYS", "server")[0]
    return keys[:4] + data[4:8] + keys[8:] if is_hello else b""


def answer_of_next_version(data: bytes) -> bytes:
    """What a server of the next version answers to a HELLO that is not of version 1."""
    is_hello = data[:1] == bytes((Hello.kind,)) and any(data[1:4])
    return bytes((Keys.kind,)) + NEXT + data[4:8] + b"and more" * 20 if is_hello else b""


async def serve(network, answer, task_status):
    socket = network.bind(*SERVER)
    task_status.started()
    try:
        while True:
            for data, source in await socket.receive_batch():
                if answered := answer(data):
                    socket.send(answered, source)
    finally:
        socket.close()


SERVERS = [(answer_of_version_1, ServerTooOld), (answer_of_next_version, ServerTooNew)]


def options(network) -> dict:
    return {"host": "10.0.1.1", "port": 6000, "network": network, "clock": trio.current_time}


@pytest.mark.parametrize(("answer", "error"), SERVERS)
@pytest.mark.parametrize("reconnect", [False, True])
async def test_a_client_says_which_program_must_be_upgraded(network, nursery, autojump_clock, answer, error, reconnect):
    await nursery.start(serve, network, answer)
    with pytest.raises(error):
        async with open_chat("alice", SERVER, reconnect=reconnect, **options(network)):
            pass  # pragma: no cover


@pytest.mark.parametrize(("answer", "error"), SERVERS)
async def test_a_client_that_is_online_says_so_too(stage, nursery, autojump_clock, answer, error):
    alice = await stage.enter("alice", reconnect=True)
    await stage.pass_time(1)
    await stage.kill_server()
    await nursery.start(serve, stage.network, answer)
    with pytest.raises(error):
        await alice.chat.send_all("hi")
    await stage.pass_time(60)
    told = [one for one in alice.received if isinstance(one, ServerSilent | SignedOff)]
    assert isinstance(told[0], ServerSilent)
    assert isinstance(told[1].error, error)


@pytest.mark.parametrize("answer", [answer_of_version_1, answer_of_next_version])
async def test_who_forges_another_version_does_not_end_a_client_that_the_server_answers(stage, autojump_clock, answer):
    """The version is not authenticated: the answer of the server counts more, also if it comes later."""
    forged = []

    def forge(data, source, destination):
        # Faster than the server, in whose place nobody answers in the first two windows.
        if destination == SERVER and (answered := answer(data)):
            forged.append(answered)
            stage.network.inject(answered, SERVER, source)
        return data[0] != Keys.kind or trio.current_time() > began + 1

    began = trio.current_time()
    stage.network.filters.append(forge)
    async with open_chat("alice", SERVER, **options(stage.network)) as chat:
        assert chat.online
    assert forged


async def test_another_key_counts_more_than_another_version(stage, autojump_clock):
    """It is a warning, which nobody may hide by saying something else as well."""
    store = MemoryClientStore()
    store.pin(STORED_SERVER, identity_of("mallory").public.signing)

    def forge(data, source, destination):
        if destination == SERVER and (answered := answer_of_next_version(data)):
            stage.network.inject(answered, SERVER, source)
        return True

    stage.network.filters.append(forge)
    with pytest.raises(ServerKeyChanged):
        async with open_chat("alice", SERVER, store=store, **options(stage.network)):
            pass  # pragma: no cover


async def test_the_operator_is_told_of_old_clients_once_for_each_address(stage, autojump_clock, caplog):
    for host in ("10.0.9.1", "10.0.9.2"):
        for _ in range(3):
            for one in RECORDED:
                if one["from"] == "client":
                    stage.network.inject(bytes.fromhex(one["datagram"]), (host, 6000), SERVER)
            await stage.pass_time(1)
    assert [one.message for one in caplog.records if one.levelno == logging.WARNING] == [
        f"a program at 10.0.9.{n}, port 6000, is too old for this server: it must be upgraded" for n in (1, 2)
    ]
    assert not [line for line in stage.network.log if line.destination[0].startswith("10.0.9") and len(line.data) > 8]


async def test_the_operator_is_not_told_of_clients_that_also_ask_older_servers(stage, autojump_clock, caplog):
    stage.network.filters.append(lambda data, source, to: data[0] != Keys.kind or trio.current_time() > began + 3)
    began = trio.current_time()
    await stage.enter("alice", reconnect=True)
    sent = [line.data for line in stage.network.log if line.data[:1] == bytes((Hello.kind,))]
    assert {data[1] for data in sent} == {0, VERSION}
    assert caplog.records == []
