"""The database file: who may open it, which files are refused, damaged pages, and what is left after a power cut."""

import hashlib
import os
import shutil
import sqlite3
import stat
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path

import attrs
import pytest
import trio

from tests.forkserver import open_program
from tests.storage.backends import inline, put_file
from tests.storage.log_entries import direct, read_all, record, register
from trio_chat.errors import StoreError
from trio_chat.storage import database as database_module
from trio_chat.storage.client_schema import CLIENT_SCHEMA
from trio_chat.storage.database import Schema, open_database
from trio_chat.storage.interface import Acknowledged
from trio_chat.storage.server_schema import SERVER_SCHEMA
from trio_chat.storage.server_store import open_server_store

ONE = Schema(0x12345678, ("CREATE TABLE a (x)",))
TWO = Schema(0x12345678, ("CREATE TABLE a (x)", "ALTER TABLE a ADD COLUMN y; INSERT INTO a VALUES (1, 2)"))


def refused(path, schema=ONE):
    with pytest.raises(StoreError) as caught:
        open_database(path, schema)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_a_new_file_is_private_and_durable(tmp_path):
    path = tmp_path / "deep" / "down" / "store.db"
    with closing(open_database(path, ONE)) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)
        database.execute("INSERT INTO a VALUES (1)")
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_schema_is_brought_up_to_date(tmp_path):
    path = tmp_path / "store.db"
    open_database(path, ONE).close()
    with closing(open_database(path, TWO)) as database:
        assert database.execute("SELECT * FROM a").fetchall() == [(1, 2)]
    with closing(open_database(path, TWO)) as database:
        assert database.execute("SELECT * FROM a").fetchall() == [(1, 2)], "once"


@pytest.mark.parametrize(
    ("schema", "digest"),
    [
        (SERVER_SCHEMA, "b59775926a3e6f5c"),
        (CLIENT_SCHEMA, "25800fada3ec0d59"),
    ],
)
def test_the_first_schema_is_never_changed(schema, digest):
    """Existing files would not get the change: write another migration."""
    first = " ".join(schema.migrations[0].split())
    assert hashlib.sha256(first.encode()).hexdigest()[:16] == digest


def test_a_newer_schema_is_refused_and_not_changed(tmp_path):
    path = tmp_path / "store.db"
    open_database(path, TWO).close()
    before = path.read_bytes()
    assert "newer" in refused(path, ONE)
    assert path.read_bytes() == before


def test_another_programs_database_is_refused_and_not_changed(tmp_path):
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as foreign:
        foreign.execute("CREATE TABLE precious (x)")
    path.chmod(0o600)
    before = path.read_bytes()
    assert "another program" in refused(path)
    assert path.read_bytes() == before


def test_a_store_of_a_client_is_refused_by_a_server(tmp_path):
    path = tmp_path / "store.db"
    open_database(path, ONE).close()
    assert "another program" in refused(path, SERVER_SCHEMA)


@pytest.mark.parametrize("content", [b"Dear diary, ...", b"SQLite format 3\0" + b"\xff" * 2000])
def test_a_file_that_is_not_a_database_is_refused_and_not_changed(tmp_path, content):
    path = tmp_path / "store.db"
    put_file(path, content)
    assert refused(path).endswith("; name another file")
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


async def test_a_file_that_another_program_has_locked(tmp_path):
    path = tmp_path / "store.db"
    (tmp_path / "hold.py").write_text(
        "import os, sys; from pathlib import Path; from trio_chat.storage.database import Schema, open_database;"
        f"held = open_database(Path(sys.argv[1]), {ONE}); os.write(1, b'held'); sys.stdin.read()"
    )
    with trio.fail_after(60):
        other = await open_program("hold", [path], cwd=tmp_path)
        assert await other.stdout.receive_some() == b"held"
        assert "another program holds it" in refused(path)
        other.kill()
        await other.wait()
    open_database(path, ONE).close()


def test_a_new_file_that_another_program_locked_first_is_not_removed(tmp_path, monkeypatch):
    path, make, others = tmp_path / "store.db", database_module._create, []

    def create_and_lose(path):
        is_new = make(path)
        others.append(sqlite3.connect(path, isolation_level=None))
        others[0].execute("BEGIN EXCLUSIVE")
        return is_new

    monkeypatch.setattr(database_module, "_create", create_and_lose)
    assert "another program holds it" in refused(path)
    others[0].close()
    assert path.exists()


def test_a_folder_in_place_of_the_file(tmp_path):
    refused(tmp_path)


def test_a_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file" / "store.db")


@contextmanager
def as_nobody():
    """Give up root's rights for a while: no file is read-only for root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder():
    """A folder that the user `nobody` can enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_folder_that_cannot_be_written(open_folder):
    open_folder.chmod(0o555)
    with as_nobody():
        assert "Permission denied" in refused(open_folder / "store.db")


def test_a_file_that_can_still_be_usedly(open_folder):
    path = open_folder / "store.db"
    open_database(path, ONE).close()
    path.chmod(0o444)
    before = path.read_bytes()
    with as_nobody():
        refused(path)
    assert path.read_bytes() == before


# --- damaged files ---


def filled(path, rows=2000):
    """A file of many pages."""
    with closing(open_database(path, ONE)) as database:
        with database:
            database.execute("BEGIN")
            database.executemany("INSERT INTO a VALUES (?)", [(f"{n:0100}",) for n in range(rows)])
        database.execute("CREATE INDEX b ON a (x)")


@pytest.mark.parametrize("page", [2, 3, 20, 50])
@pytest.mark.parametrize("content", [b"\xff" * 4096, b"\0" * 4096, b"a noise!" * 512])
def test_a_damaged_page_is_found_at_the_start(tmp_path, page, content):
    path = tmp_path / "store.db"
    filled(path)
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(content)
    before = path.read_bytes()
    message = refused(path)
    assert "is damaged" in message
    assert "move it away, with store.db-wal if there is one; then put back a copy, or begin with an empty" in message
    assert path.read_bytes() == before
    assert "is damaged" in refused(path, TWO), "it is not brought up to date, either"


def test_a_file_that_was_cut_off_is_damaged(tmp_path):
    path = tmp_path / "store.db"
    filled(path)
    os.truncate(path, path.stat().st_size // 2)
    assert "is damaged" in refused(path)


def test_a_damaged_file_can_be_moved_away(tmp_path):
    path = tmp_path / "store.db"
    filled(path)
    os.truncate(path, 4096)
    refused(path)
    path.rename(tmp_path / "damaged.db")
    with closing(open_database(path, ONE)) as database:
        assert database.execute("SELECT * FROM a").fetchall() == []


# --- power cuts ---


async def test_a_power_cut_loses_nothing_that_was_acknowledged(tmp_path, autojump_clock):
    """The disk as it is after each commit is kept; a cut falls back to the last one that had completed."""
    completed = []

    async def run(work):
        await trio.lowlevel.checkpoint()
        outcomes = work()
        completed.append({file.name: file.read_bytes() for file in tmp_path.glob("store.db*")})
        return outcomes

    appended = []
    async with open_server_store(tmp_path / "store.db", run) as store:
        await register(store, "bob")

        async def append(n):
            # Of fifty people: one of them alone may not fill a mailbox.
            (result,) = await store.append([attrs.evolve(direct(n), key=bytes([n % 50]) * 32)])
            appended.append((len(completed), result.seq, direct(n).id))

        async with trio.open_nursery() as nursery:
            for n in range(300):
                nursery.start_soon(append, n)
                if n % 40 == 0:
                    await trio.sleep(0.1)

    assert len(appended) == 300
    for cut, disk in enumerate(completed, start=1):
        folder = tmp_path / f"after-{cut}"
        folder.mkdir()
        for name, content in disk.items():
            put_file(folder / name, content)
        async with open_server_store(folder / "store.db", inline) as survivor:
            _, head = await survivor.load(lambda entries: None)
            found = [(entry.seq, entry.id) for entry in await read_all(survivor, "bob", 0)]
        expected = {(seq, id_) for commits, seq, id_ in appended if commits <= cut}
        assert expected <= set(found)
        assert [seq for seq, _ in found] == list(range(1, head + 1)), "numbers without gaps"


async def test_a_power_cut_leaves_a_letter_or_its_receipt(tmp_path, autojump_clock):
    """And the position between them: all three are written at once."""
    completed = []

    async def run(work):
        await trio.lowlevel.checkpoint()
        outcomes = work()
        completed.append({file.name: file.read_bytes() for file in tmp_path.glob("store.db*")})
        return outcomes

    async with open_server_store(tmp_path / "store.db", run) as store:
        await register(store, "alice", "bob")
        await store.append([direct(n) for n in range(1, 6)])
        for seq in range(1, 6):
            await store.acknowledge([Acknowledged("bob", seq, {seq: b"receipt"})], 5.0)

    for cut, disk in enumerate(completed[-6:]):
        folder = tmp_path / f"after-{cut}"
        folder.mkdir()
        for name, content in disk.items():
            put_file(folder / name, content)
        async with open_server_store(folder / "store.db", inline) as survivor:
            position = await survivor.save_name(record("bob"))
            assert (position.seq, position.waiting, position.head) == (cut, 5 - cut, 5 + cut)
            assert [entry.id for entry in await read_all(survivor, "alice", 0)] == [
                direct(n).id for n in range(1, cut + 1)
            ]
            results = await survivor.append([direct(n) for n in range(1, 6)])
            assert [result.receipt for result in results] == [b"receipt"] * cut + [b""] * (5 - cut)
