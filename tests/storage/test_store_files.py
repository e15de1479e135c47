"""The files of a store: their modes, which ones are refused with what advice, and what stays in them.

Each test has a folder of its own. The advice is a command where there is one; it is run as it stands.
"""

import os
import sqlite3
import stat
import subprocess
from contextlib import closing, contextmanager

import pytest
import trio

from tests.forkserver import open_program
from tests.storage.backends import put_file
from tests.storage.test_database import ONE, TWO, filled, refused
from trio_chat.errors import StoreFailed, StoreHeld
from trio_chat.storage.database import Schema, open_database
from trio_chat.storage.group_commit import GroupCommit, in_thread
from trio_chat.tasks import open_background

FILES = ("", "-wal", "-shm", "-journal")
WORDS = b"Zwetschgendatschi"


@contextmanager
def umask(bits):
    before = os.umask(bits)
    try:
        yield
    finally:
        os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def follow(message):
    """Do what the last part of a refusal says."""
    subprocess.run(message.rpartition("; ")[2], shell=True, check=True)  # noqa: S602 - that is the point


@pytest.fixture
def path(tmp_path):
    """A closed store with a table that has a column."""
    path = tmp_path / "my store.db"
    open_database(path, ONE).close()
    return path


# --- modes ---


@pytest.mark.parametrize("bits", [0, 0o022, 0o077, 0o277, 0o777])
def test_new_files_and_folders_are_private_whatever_the_umask(tmp_path, bits):
    path = tmp_path / "deep" / "down" / "store.db"
    with umask(bits), closing(open_database(path, ONE)) as database:
        database.execute("INSERT INTO a VALUES (1)")
        assert {file.name: mode(file) for file in path.parent.iterdir()} == {"store.db": 0o600, "store.db-wal": 0o600}
    assert mode(path.parent) == mode(path.parent.parent) == 0o700


def test_a_new_file_is_private_from_the_first_moment(tmp_path, monkeypatch):
    """Else somebody could open it before its mode is changed, and read what is written to it later."""
    change, modes = os.fchmod, []

    def look(fd, bits):
        modes.append(stat.S_IMODE(os.fstat(fd).st_mode))
        change(fd, bits)

    monkeypatch.setattr(os, "fchmod", look)
    with umask(0):
        open_database(tmp_path / "store.db", ONE).close()
    assert modes == [0o600]


def test_a_folder_that_was_there_is_left_as_it_is(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine").chmod(0o755)
    open_database(tmp_path / "mine" / "store.db", ONE).close()
    assert mode(tmp_path / "mine") == 0o755


@pytest.mark.parametrize("bits", [0o644, 0o640, 0o604, 0o660, 0o610, 0o622])
@pytest.mark.parametrize("end", FILES)
def test_what_others_can_read_is_refused_with_the_command_that_helps(path, end, bits):
    file = path.with_name(path.name + end)
    file.touch()
    file.chmod(bits)
    message = refused(path)
    assert message == f"cannot use the store {file}: others can read it; chmod 600 '{file}'"
    assert mode(file) == bits
    follow(message)
    open_database(path, ONE).close()


def test_one_command_for_all_files_that_others_can_read(path):
    for end in FILES:
        path.with_name(path.name + end).touch()
        path.with_name(path.name + end).chmod(0o644)
    follow(refused(path))
    open_database(path, ONE).close()


@pytest.mark.parametrize("bits", [0o400, 0o200, 0])
def test_what_we_cannot_write_ourselves_is_refused_with_the_command_that_helps(path, bits):
    path.chmod(bits)
    message = refused(path)
    assert message == f"cannot use the store {path}: it is read-only; chmod 600 '{path}'"
    follow(message)
    open_database(path, ONE).close()


@pytest.mark.parametrize("end", ["", "-wal"])
def test_a_file_of_another_user(path, end, monkeypatch):
    put_file(path.with_name(f"{path.name}-wal"), b"")
    owners = os.lstat

    def lstat(file):
        found = list(owners(file))
        found[stat.ST_UID] += str(file) == f"{path}{end}"
        return os.stat_result(found)

    monkeypatch.setattr(os, "lstat", lstat)
    advice = "it belongs to another user; start as that user, or name a file of your own"
    assert refused(path) == f"cannot use the store {path}{end}: {advice}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_does_not_use_the_file_of_a_user_either(path):
    """What root writes beside it, its owner could not use afterwards."""
    os.chown(path, 65534, 65534)
    assert "another user" in refused(path)


def test_a_link(path):
    link = path.with_name("link.db")
    link.symlink_to(path)
    assert refused(link) == f"cannot use the store {link}: it is a link; name the file itself: '{path}'"
    link.unlink()
    link.symlink_to(path.with_name("nowhere"))
    assert "it is a link" in refused(link)
    assert not path.with_name("nowhere").exists()


@pytest.mark.parametrize("end", ["", "-wal"])
def test_a_folder_and_a_pipe(path, end):
    file = path.with_name(path.name + end)
    file.unlink(missing_ok=True)
    file.mkdir()
    assert refused(path) == f"cannot use the store {file}: it is a folder; name another file"
    file.rmdir()
    os.mkfifo(file, 0o600)
    assert refused(path) == f"cannot use the store {file}: it is not a file; name another file"


def test_a_full_disk_at_the_first_start_leaves_no_file(tmp_path):
    path = tmp_path / "store.db"
    full = Schema(1, ["PRAGMA max_page_count = 2; CREATE TABLE a (x); CREATE TABLE b (x)"])
    assert refused(path, full).endswith(": database or disk is full; make room on the disk")
    assert list(tmp_path.iterdir()) == []


def test_a_newer_schema_says_what_to_do(path):
    open_database(path, TWO).close()
    assert refused(path).endswith("it was written by a newer trio_chat; install that version")


# --- nothing is lost ---


@contextmanager
def killed(path):
    """The files as a killed program leaves them: what it wrote last is in the -wal file."""
    with closing(open_database(path, ONE)) as database:
        database.execute("INSERT INTO a VALUES ('kept')")
        files = {file: file.read_bytes() for file in path.parent.iterdir()}
    for file, content in files.items():
        put_file(file, content)
    assert b"kept" not in path.read_bytes()
    yield


@pytest.mark.parametrize("left", [None, b""])
def test_a_wal_file_without_its_database_is_not_deleted(path, left):
    """SQLite would do so, and all that is not in the database yet would be gone."""
    with killed(path):
        aside = path.rename(path.with_name("aside.db"))
        if left is not None:
            put_file(path, left)
        advice = f"put the database back that belongs to {path}-wal, or move that away"
        assert refused(path) == f"cannot use the store {path}: it is missing; {advice}"
        aside.rename(path)
        with closing(open_database(path, ONE)) as database:
            assert database.execute("SELECT * FROM a").fetchall() == [("kept",)]


def test_an_empty_file_is_a_new_store(tmp_path):
    path = put_file(tmp_path / "store.db", b"")
    put_file(tmp_path / "store.db-wal", b"")
    open_database(path, ONE).close()


async def test_a_second_opening_by_the_same_program_does_not_end_its_lock(path, tmp_path):
    """It would, if the file were opened and closed to look at it."""
    (tmp_path / "open.py").write_text(
        "import sys; from pathlib import Path; from trio_chat.storage.database import Schema, open_database;"
        f"open_database(Path(sys.argv[1]), {ONE})"
    )
    with closing(open_database(path, ONE)):
        with pytest.raises(StoreHeld, match=r"another program holds it; end that program first$"):
            open_database(path, ONE)
        with trio.fail_after(60):
            assert await (await open_program("open", [path], cwd=tmp_path)).wait() != 0


async def insert_until_it_fails(path, harm):
    """Insert one row, do the harm, insert another; return why the store failed."""
    with closing(open_database(path, ONE)) as database, pytest.raises(StoreFailed) as caught:
        async with open_background() as nursery:
            commits = GroupCommit(database, in_thread(), "the store")
            nursery.start_soon(commits.write)
            await commits.submit(lambda database: database.execute("INSERT INTO a VALUES ('acknowledged')"))
            harm()
            await commits.submit(lambda database: database.execute("INSERT INTO a VALUES ('not acknowledged')"))
            raise AssertionError("it must not be acknowledged")
    return str(caught.value)


def acknowledged(path):
    with closing(open_database(path, ONE)) as database:
        return database.execute("SELECT count(*) FROM a WHERE x = 'acknowledged'").fetchone() == (1,)


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_wal_file_that_is_removed_ends_the_store_and_nothing_is_lost(path, replaced):
    wal = path.with_name(f"{path.name}-wal")

    def remove():
        wal.unlink()
        if replaced:
            put_file(wal, b"")

    message = await insert_until_it_fails(path, remove)
    advice = "start again, and leave it where it is"
    assert message == f"the store failed: {wal} was moved or deleted meanwhile; {advice}"
    assert acknowledged(path)


async def test_a_store_that_is_moved_away_ends_and_has_everything_when_it_is_put_back(path):
    aside = path.with_name("aside.db")
    message = await insert_until_it_fails(path, lambda: path.rename(aside))
    assert message == "the store failed: it was moved, deleted or replaced meanwhile; put it back, then start again"
    aside.rename(path)
    assert acknowledged(path)


async def test_a_store_that_is_replaced_ends_and_the_other_file_is_left_as_it_is(path):
    other = path.with_name("other.db")
    open_database(other, TWO).close()
    content = other.read_bytes()
    message = await insert_until_it_fails(path, lambda: other.replace(path))
    assert "moved, deleted or replaced" in message
    assert path.read_bytes() == content


# --- what is deleted is gone ---


def test_what_is_deleted_is_overwritten(path):
    with closing(open_database(path, ONE)) as database:
        database.executemany("INSERT INTO a VALUES (?)", [(WORDS * 9,), (WORDS * 900,), (b"kept",)])
    assert WORDS in path.read_bytes()
    with closing(open_database(path, ONE)) as database:
        database.execute("DELETE FROM a WHERE x <> CAST('kept' AS BLOB)")
    for file in path.parent.iterdir():
        assert WORDS not in file.read_bytes(), file


def test_damaged_pages_are_still_found(path):
    filled(path)
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096)
    assert "is damaged" in refused(path)
    with closing(sqlite3.connect(path)) as database, pytest.raises(sqlite3.DatabaseError):
        database.execute("SELECT count(x) FROM a").fetchone()
