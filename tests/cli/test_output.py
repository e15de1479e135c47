"""Standard output that takes nothing: a full disk ends each command with one line, a reader who stops ends none.

Real processes; some are started by a new interpreter, as it matters what Python does at its exit.
"""

import os
import signal
from contextlib import suppress

import pytest
import trio

from tests.forkserver import ENVIRONMENT, ROOT, open_from_scratch, open_program
from trio_chat import ServerNotResponding, open_chat, open_identity, open_server_store
from trio_chat.protocol.records import Record

FULL = "/dev/full"
COMPLAINT = b"trio-chat: cannot write the output: No space left on device\n"

needs_full_disk = pytest.mark.skipif(not os.path.exists(FULL), reason=f"there is no {FULL}")


@pytest.fixture
def full():
    """A file on a full disk."""
    with open(FULL, "wb") as file:
        yield file


@pytest.fixture
async def files(tmp_path):
    """A folder with a key in it, and a store with a name."""
    open_identity(tmp_path / "own.key")
    async with open_server_store(tmp_path / "own.db") as store:
        await store.save_name(Record("x", "127.0.0.1", 1, False, 0.0))
    return tmp_path


def environment(folder):
    return ENVIRONMENT | {"XDG_DATA_HOME": str(folder), "XDG_STATE_HOME": str(folder), "PYTHONPATH": str(ROOT)}


async def complaints_of(program):
    return b"".join([data async for data in program.stderr])


async def port_of(server):
    """The port of a server that has started."""
    output = b""
    while output.count(b"\n") < 2:
        output += await server.stderr.receive_some()
    return int(output.partition(b"\n")[0].rpartition(b":")[2])


@needs_full_disk
@pytest.mark.parametrize(
    "arguments",
    [
        "demo",
        "--help",
        "--version",
        "server --help",
        "server forget x --store own.db",
        "fingerprint --identity own.key",
        "client x 127.0.0.1 1",
        "client x 127.0.0.1 1 --json",
        "send y hi --as x --server 127.0.0.1:1",
    ],
)
async def test_a_full_disk_is_one_line_on_standard_error(arguments, files, full):
    with trio.fail_after(60):
        # One is enough to see what the interpreter does at its exit; the others start faster.
        opener = open_from_scratch if arguments == "--help" else open_program
        program = await opener("trio_chat", arguments.split(), stdout=full, cwd=files, env=environment(files))
        assert await complaints_of(program) == COMPLAINT
        assert await program.wait() == 1


@needs_full_disk
async def test_a_full_disk_ends_a_server_at_its_first_print_out(files, full):
    with trio.fail_after(60):
        server = await open_program(
            "trio_chat", ["server", 0, "--host", "127.0.0.1"], stdout=full, cwd=files, env=environment(files)
        )
        port = await port_of(server)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(register, "x", ("127.0.0.1", port))
            assert await complaints_of(server) == COMPLAINT
            assert await server.wait() == 1
            nursery.cancel_scope.cancel()


async def register(name, server):
    """Changes the table of a server, which may end before it answers."""
    with suppress(ServerNotResponding):
        async with open_chat(name, server):
            await trio.sleep_forever()


@needs_full_disk
async def test_if_standard_error_is_full_as_well_only_the_exit_code_remains(files, full):
    with trio.fail_after(60):
        for arguments in (["--help"], ["server", "no-port"], []):
            program = await open_from_scratch(
                "trio_chat", arguments, stdout=full, stderr=full, cwd=files, env=environment(files)
            )
            assert await program.wait() == 1


async def test_a_server_whose_output_nobody_reads_goes_on_and_ends_at_ctrl_c(files):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    with os.fdopen(reading), os.fdopen(writing, "wb") as stdout, trio.fail_after(60):
        for opener in (open_program, open_from_scratch):
            server = await opener(
                *("trio_chat", ["server", 0, "--host", "127.0.0.1", "--store", ":memory:"]),
                stdout=stdout,
                cwd=files,
                env=environment(files),
            )
            address = ("127.0.0.1", await port_of(server))
            async with open_chat("x", address) as x, open_chat("y", address) as y:
                await x.send_all("Still there?")
                assert [event.text async for event in first_message(y)] == ["Still there?"]
            server.send_signal(signal.SIGINT)
            assert await complaints_of(server) == b""
            assert await server.wait() == 130


async def first_message(chat):
    async for event in chat.events:
        if hasattr(event, "text"):
            yield event
            return
