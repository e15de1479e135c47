"""Stores that cannot be used, or break while they are used: one line that says what to do, and nothing is lost.

Real programs, and real files. Nothing waits for time to pass: each step waits for the line of a program.
"""

import os
import re
import shutil
import sqlite3
import stat
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from tests.end_to_end.processes import free_port, open_programs
from tests.forkserver import ROOT
from trio_chat.storage.client_schema import CLIENT_SCHEMA
from trio_chat.storage.database import open_database
from trio_chat.storage.server_schema import SERVER_SCHEMA

pytestmark = pytest.mark.xdist_group("programs")  # one after the other, beside the conversations

NOBODY = 65534
SCHEMAS = {"server": SERVER_SCHEMA, "forget": SERVER_SCHEMA, "client": CLIENT_SCHEMA, "send": CLIENT_SCHEMA}
WORDS = "Zwetschgendatschi"
SAVED = "[Offline Message sent at 00:00:00 received by the server and saved.]"


def command(kind, path, folder):
    """The arguments of a program that uses this store."""
    files = ["--store", path, "--identity", folder / "x.key"]
    match kind:
        case "server":
            return ["server", 0, *files]
        case "forget":
            return ["server", "forget", "bob", "--store", path]
        case "client":
            return ["client", "x", "127.0.0.1", free_port(), *files]
        case _:
            return ["send", "bob", "hi", "--as", "x", "--server", f"127.0.0.1:{free_port()}", *files]


async def complaint(program, code=2):
    """The only line that it prints before it ends."""
    output, complaints = await program.rest()
    assert output == []
    (line,) = complaints
    await program.exits(code)
    return line


# --- at the start ---


def open_to_others(path):
    path.chmod(0o644)


def read_only(path):
    path.chmod(0o400)


def link(path):
    path.symlink_to(path.rename(path.with_name("target.db")))


def folder(path):
    path.unlink()
    path.mkdir()


def pipe(path):
    path.unlink()
    os.mkfifo(path, 0o600)


def no_database(path):
    path.write_text("Dear diary, ... " * 1000)


def damaged(path):
    os.truncate(path, path.stat().st_size // 2)


def foreign(path):
    path.write_bytes(b"")
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE precious (x)")


def newer(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA user_version = 1000")


ADVICE = {
    open_to_others: "cannot use the store {path}: others can read it; chmod 600 {path}",
    read_only: "cannot use the store {path}: it is read-only; chmod 600 {path}",
    link: "cannot use the store {path}: it is a link; name the file itself: {folder}/target.db",
    folder: "cannot use the store {path}: it is a folder; name another file",
    pipe: "cannot use the store {path}: it is not a file; name another file",
    no_database: "cannot use the store {path}: file is not a database; name another file",
    damaged: "the store {path} is damaged (database disk image is malformed): move it away,"
    " with store.db-wal if there is one; then put back a copy, or begin with an empty store",
    foreign: "cannot use the store {path}: it is another program's database; name another file",
    newer: "cannot use the store {path}: it was written by a newer trio_chat; install that version",
}


@pytest.mark.parametrize("kind", SCHEMAS)
async def test_a_store_that_cannot_be_used_is_one_line_that_says_what_to_do(tmp_path, kind):
    async with open_programs() as programs:
        started = []
        for spoil, advice in ADVICE.items():
            path = tmp_path / spoil.__name__ / "store.db"
            open_database(path, SCHEMAS[kind]).close()
            spoil(path)
            program = await programs.start(kind, *command(kind, path, tmp_path))
            started.append((program, advice.format(path=path, folder=path.parent)))
        for program, advice in started:
            line = await complaint(program)
            assert line.split(f"{kind}: ", maxsplit=1)[1] == advice


async def test_a_store_that_another_program_uses(tmp_path):
    async with open_programs() as programs:
        server = await programs.server("server", 0, "--store", tmp_path / "server.db")
        await programs.client("x", server)
        second = await programs.start("second", "client", "x", "127.0.0.1", server.port)
        assert (await complaint(second)).endswith("x is already running here: go on there, or end that program first")
        script = await programs.start("script", "send", "x", "hi", "--as", "x", "--server", f"127.0.0.1:{server.port}")
        assert (await complaint(script)).endswith("x is in use by another program here: write there, or end it first")
        other = await programs.start("other", *command("server", tmp_path / "server.db", tmp_path))
        assert (await complaint(other)).endswith(
            f"a server is running with the store {tmp_path}/server.db: stop it first"
        )


@pytest.fixture
def own_folder():
    """A folder that belongs to `nobody`, where the folders above can be entered by everybody."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def can_be_entered_by_all(folder):
    return all(one.stat().st_mode & stat.S_IXOTH for one in (folder, *folder.parents))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.skipif(
    not (can_be_entered_by_all(ROOT) and can_be_entered_by_all(Path(sys.prefix))),
    reason="somebody else cannot read this program",
)
@pytest.mark.parametrize("kind", ["server", "client", "send"])
@pytest.mark.parametrize("is_there", [False, True])
async def test_a_folder_that_cannot_be_written(own_folder, tmp_path, kind, is_there):
    store = own_folder / "closed" / "store.db"
    store.parent.mkdir()
    if is_there:
        open_database(store, SCHEMAS[kind]).close()
        os.chown(store, NOBODY, NOBODY)
    os.chown(own_folder, NOBODY, NOBODY)
    store.parent.chmod(0o555)
    (tmp_path / "as_nobody.py").write_text(
        f"import os, sys; os.setgid({NOBODY}); os.setuid({NOBODY}); sys.path.pop(0)\n"
        "from trio_chat.cli.main import main; sys.exit(main())"
    )
    async with open_programs() as programs:
        arguments = command(kind, store, own_folder)
        line = await complaint(await programs.start(kind, *arguments, file=tmp_path / "as_nobody.py"))
    problem = "attempt to write a readonly database" if is_there else "Permission denied"
    assert line.endswith(
        f"the store {store}: {problem}; make it and its folder yours and writable, or name another file"
    )
    assert os.listdir(store.parent) == ["store.db"] * is_there


@pytest.mark.parametrize("kind", ["server", "client", "send"])
async def test_a_disk_that_is_full_at_the_start(tmp_path, kind):
    store = tmp_path / "store.db"
    (tmp_path / "full.py").write_text(
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"
        "from trio_chat.cli.main import main; sys.exit(main())"
    )
    async with open_programs() as programs:
        line = await complaint(await programs.start(kind, *command(kind, store, tmp_path), file=tmp_path / "full.py"))
    assert line.endswith(f"cannot use the store {store}: disk I/O error; check the disk, and the quota if it has one")
    assert not store.exists()


async def test_a_client_that_was_killed_and_whose_wal_file_was_deleted_says_so_and_goes_on(tmp_path):
    store = tmp_path / "client" / "store.db"
    async with open_programs() as programs:
        server = await programs.server()
        y = await programs.client("y", server)
        for number, loses in enumerate((False, True, False)):
            x = await programs.client("x", server, "--store", store)
            await x.types(f"send y word{number}")
            await x.sees("[Message received by y.]")
            await y.sees(f"x: word{number}")
            await x.types(f"search word{number}")
            await x.next_line()  # it is on the disk
            await x.is_killed()
            if loses:
                remove_wal(x.process, store)
            address = f"127.0.0.1:{server.port}"
            arguments = ("y", "hi", "--as", "x", "--server", address, "--store", store)
            script = await programs.start("script", "send", *arguments)
            output, complaints = await script.rest()
            await script.exits(0)
            await y.sees("x: hi")
            assert output == [">>> [Message received by y.]"]
            lines = [re.sub(r"since [-0-9]{10} [:0-9]{5} may", "since then may", line) for line in complaints]
            assert lines == loses * [
                f"python -m trio_chat send: WARNING: {store}-wal is missing. What came or was sent since then may be"
                " lost: if you have a copy of both files, end this program and put them back"
            ]


# --- while it runs ---


async def save(client, count):
    """Send that many messages to y, who is away."""
    for number in range(count):
        await client.types(f"send y {number} {WORDS * 20}")
        await client.sees(SAVED)


async def leaves(client):
    await client.types("exit")
    await client.sees("[You are Offline. Bye.]")
    await client.exits(0)


def fill_disk(process, store):
    """From now on the process can write only what is in its -wal file already."""
    import resource

    size = store.with_name(f"{store.name}-wal").stat().st_size
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))


def remove_wal(process, store):
    store.with_name(f"{store.name}-wal").unlink()


def move_away(process, store):
    store.rename(store.with_name("aside.db"))


def put_back(store):
    aside = store.with_name("aside.db")
    if aside.exists():
        aside.rename(store)


HARM = {
    fill_disk: "disk I/O error; check the disk, and the quota if it has one, then start again",
    remove_wal: "{store}-wal was moved or deleted meanwhile; start again, and leave it where it is",
    move_away: "it was moved, deleted or replaced meanwhile; put it back, then start again",
}


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of another process can be set on Linux only")
@pytest.mark.parametrize("harm", HARM)
async def test_the_store_of_a_running_server_breaks(tmp_path, harm):
    store, port = tmp_path / "server" / "store.db", free_port()
    async with open_programs() as programs:
        server = await programs.server("server", port, "--store", store)
        await leaves(await programs.client("y", server))
        x = await programs.client("x", server)
        await save(x, 5)
        harm(server.process, store)
        await x.types(f"send y 5 {WORDS * 20}")
        _, complaints = await server.rest()
        await server.exits(1)
        assert complaints == [f"python -m trio_chat server: the store {store} failed: {HARM[harm].format(store=store)}"]
        await x.sees("[Server not responding]")
        await x.rest()

        put_back(store)
        server = await programs.server("server", port, "--store", store)
        y = await programs.client("y", server)
        await y.sees("[You have offline messages:]", *(f"x: 00:00:00 {n} {WORDS * 20}" for n in range(5)))


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of another process can be set on Linux only")
@pytest.mark.parametrize("harm", HARM)
async def test_the_store_of_a_running_client_breaks(tmp_path, harm):
    store = tmp_path / "client" / "store.db"
    async with open_programs() as programs:
        server = await programs.server()
        y = await programs.client("y", server, "--store", store)
        x = await programs.client("x", server)
        await x.types("send y first")
        await x.sees("[Message received by y.]")
        await y.sees("x: first")
        await y.types("history")
        await y.next_line()  # it is on the disk
        harm(y.process, store)
        await x.types(f"send y {WORDS * 100}")
        output, complaints = await y.rest()
        await y.exits(1)
        assert complaints == [f"python -m trio_chat client: the store {store} failed: {HARM[harm].format(store=store)}"]
        assert "Traceback" not in "".join(output)

        put_back(store)
        y = await programs.client("y", server, "--store", store)
        await y.types("search first")
        # What x has sent may come before it: after half a second without an answer it goes by the server.
        while not (await y.next_line()).endswith("x: first]"):
            pass


# --- what stays in the files ---


async def test_without_a_history_no_text_stays_in_a_file(tmp_path):
    """Neither of what came directly, nor of what waited at the server, which forgets it, too."""
    async with open_programs() as programs:
        port = free_port()
        server = await programs.server("server", port, "--store", tmp_path / "server" / "store.db")
        x = await programs.client("x", server, "--no-history", "--store", tmp_path / "x" / "store.db")
        own = ("--no-history", "--store", tmp_path / "y" / "store.db")
        for _ in range(2):
            y = await programs.client("y", server, *own)
            await leaves(y)
            await save(x, 30)
            y = await programs.client("y", server, *own)
            await y.sees("[You have offline messages:]", *(f"x: 00:00:00 {n} {WORDS * 20}" for n in range(30)))
            for _ in range(30):
                await x.sees("[Offline Message sent at 00:00:00 received by y.]")
            await x.types(f"send y {WORDS}")
            await x.sees("[Message received by y.]")
            await y.sees(f"x: {WORDS}")
            await leaves(y)
        await leaves(x)
        for file in [*(tmp_path / "x").iterdir(), *(tmp_path / "y").iterdir()]:
            assert WORDS.encode() not in file.read_bytes(), file
