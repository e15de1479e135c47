"""The identity file: its mode, who creates it, which files are refused, and what is left after a failure."""

import errno
import os
import shutil
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import pytest
import trio

from tests.forkserver import open_program
from trio_chat.errors import IdentityError
from trio_chat.storage.identity_file import open_identity, read_identity

NOBODY = 65534
TEXT = f"trio_chat identity 1\nsigning {'0a' * 32}\nlink {'b1' * 32}\n"
TOO_LONG = f"{TEXT}{'x' * 100_000}"


@pytest.fixture
def path(tmp_path):
    """The path of an identity file, in a folder that does not exist yet."""
    return tmp_path / "trio_chat" / "clients" / "x.key"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def write(path, text=TEXT, mode=0o600):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


@contextmanager
def as_somebody():
    """Without the rights of root, who can read and write everything."""
    am_root = os.geteuid() == 0
    if am_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if am_root:
            os.seteuid(0)


@pytest.fixture
def closed_folder():
    """A read-only folder that everybody can enter."""
    folder = Path(mkdtemp())
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder)


# --- created and read ---


def test_keys_are_created_at_first_use_and_found_afterwards(path):
    assert read_identity(path) is None
    made = open_identity(path)
    assert open_identity(path) == made
    assert read_identity(path).public == made.public
    assert open_identity(path.with_name("y.key")) != made


def test_the_keys_are_the_random_bytes_that_were_drawn(path):
    drawn = [b"\x0a" * 32, b"\xb1" * 32]
    made = open_identity(path, lambda size: drawn.pop(0)[:size])
    assert (made.signing_secret, made.link_secret) == (b"\x0a" * 32, b"\xb1" * 32)
    assert path.read_text() == TEXT


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_only_the_owner_can_read_it_from_the_first_moment(path, umask, monkeypatch):
    modes = []
    fsync = os.fsync

    def look(fd):
        modes.append(stat.S_IMODE(os.fstat(fd).st_mode))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", look)
    before = os.umask(umask)
    try:
        open_identity(path)
    finally:
        os.umask(before)
    assert mode(path) == modes[0] == 0o600
    assert mode(path.parent) == mode(path.parent.parent) == 0o700, "all folders that were made"
    assert os.listdir(path.parent) == ["x.key"]


def test_a_new_file_survives_a_power_cut(path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(stat.S_IFMT(os.fstat(fd).st_mode)))
    open_identity(path)
    assert synced == [stat.S_IFREG, stat.S_IFDIR]


def test_the_secrets_are_not_shown_by_accident(path):
    write(path)
    assert "0a0a" not in repr(open_identity(path))
    assert repr(b"\x0a" * 4)[2:-1] not in repr(open_identity(path))


# --- refused ---


@pytest.mark.parametrize("others", [0o640, 0o604, 0o660, 0o610, 0o601, 0o622])
def test_a_file_that_is_open_to_others_is_refused(path, others):
    write(path, mode=others)
    with pytest.raises(IdentityError, match=f"others can read it; chmod 600 {path}$"):
        open_identity(path)
    assert (path.read_text(), mode(path)) == (TEXT, others)
    path.chmod(0o400)
    open_identity(path)


def test_the_suggested_command_can_be_copied(tmp_path):
    path = tmp_path / "my key; rm x"
    write(path, mode=0o644)
    with pytest.raises(IdentityError) as refusal:
        open_identity(path)
    subprocess.run(str(refusal.value).partition("; ")[2], shell=True, check=True)  # noqa: S602 - that is the point
    open_identity(path)


def test_a_half_written_file_is_refused_and_left_as_it_is(path):
    for length in range(len(TEXT)):
        write(path, TEXT[:length])
        with pytest.raises(IdentityError, match="it is damaged"):
            open_identity(path)
        assert path.read_text() == TEXT[:length]


@pytest.mark.parametrize(
    "text",
    [
        *(TEXT + "\n", "\n" + TEXT, TEXT * 2, TOO_LONG, TEXT + "é"),
        TEXT.replace("\n", "\r\n"),
        TEXT.replace("identity 1", "identity 2"),
        TEXT.replace("0a", "0g", 1),
        TEXT.replace("0a", "0A"),
        TEXT.replace("0a", "a", 1),
        TEXT.replace("signing", "link"),
        TEXT.replace("link", "link "),
        "SQLite format 3\0",
    ],
)
def test_a_file_of_another_form_is_refused_and_left_as_it_is(path, text):
    write(path, text)
    with pytest.raises(IdentityError, match=r"it is damaged, or not an identity file$"):
        open_identity(path)
    assert path.read_text() == text.replace("\r\n", "\n")


def test_only_the_beginning_of_an_endless_file_is_read(tmp_path):
    path = tmp_path / "x.key"
    write(path)
    os.truncate(path, 2**40)  # a sparse file: it takes no space on the disk
    with pytest.raises(IdentityError, match="it is damaged"):
        open_identity(path)


def test_something_that_is_not_a_file_is_refused(tmp_path):
    with pytest.raises(IdentityError, match=r"it is a folder$"):
        open_identity(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(IdentityError, match=r"it is not a file$"):
        open_identity(tmp_path / "pipe")
    with pytest.raises(IdentityError, match=r"it is not a file$"):
        open_identity(Path(os.devnull))


@pytest.mark.parametrize("use", [open_identity, read_identity])
def test_a_path_where_no_file_can_be(use, tmp_path):
    with pytest.raises(IdentityError, match=r"cannot read .*/dev/null/x.key: Not a directory$"):
        use(Path("/dev/null/x.key"))
    with pytest.raises(IdentityError, match=r"File name too long$"):
        use(tmp_path / ("x" * 300))
    with pytest.raises(IdentityError, match=r"null"):
        use(tmp_path / "x\0y")


def test_a_dangling_link_is_an_error(tmp_path):
    path = tmp_path / "x.key"
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(IdentityError, match=r"it is gone again$"):
        open_identity(path)
    assert os.listdir(tmp_path) == ["x.key"]


def test_a_link_to_an_identity_is_followed(tmp_path):
    made = open_identity(tmp_path / "x.key")
    (tmp_path / "y.key").symlink_to(tmp_path / "x.key")
    assert open_identity(tmp_path / "y.key") == made


def test_a_folder_without_write_permission(closed_folder):
    with (
        as_somebody(),
        pytest.raises(IdentityError, match=r"cannot make .*: Permission denied; make it and its folder yours and"),
    ):
        open_identity(closed_folder / "x.key")
    with (
        as_somebody(),
        pytest.raises(IdentityError, match=r"cannot make .*: Permission denied; make it and its folder yours and"),
    ):
        open_identity(closed_folder / "clients" / "x.key")
    assert os.listdir(closed_folder) == []


def test_a_file_without_read_permission(closed_folder):
    write(closed_folder / "x.key", mode=0o000)
    with (
        as_somebody(),
        pytest.raises(IdentityError, match=r"cannot read .*: Permission denied; make it and its folder yours and"),
    ):
        open_identity(closed_folder / "x.key")


# --- concurrent creation, and failures ---


def test_two_that_create_it_at_once_both_get_the_keys_of_the_first(path):
    quicker = []

    def drawn_slowly(size):
        if not quicker:
            quicker.append(open_identity(path))
        return os.urandom(size)

    assert open_identity(path, drawn_slowly) == quicker[0]
    assert os.listdir(path.parent) == ["x.key"]


def test_many_threads_end_with_the_same_keys(tmp_path):
    for turn in range(20):
        with ThreadPoolExecutor(8) as threads:
            opened = list(threads.map(open_identity, [tmp_path / f"{turn}.key"] * 8))
        assert all(one == opened[0] for one in opened)
    assert len(os.listdir(tmp_path)) == 20


async def test_programs_that_start_at_once_end_with_the_same_keys(path, tmp_path):
    (tmp_path / "show.py").write_text(
        "import sys; from pathlib import Path; from trio_chat.storage.identity_file import open_identity;"
        "print(open_identity(Path(sys.argv[1])).public)"
    )
    shown = set()

    async def show():
        program = await open_program("show", [path], cwd=tmp_path)
        shown.add(b"".join([data async for data in program.stdout]))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(show)
    assert shown == {f"{open_identity(path).public}\n".encode()}


def test_where_files_cannot_be_linked_the_file_is_renamed(path, monkeypatch):
    def refuse(*args):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    made = open_identity(path)
    assert open_identity(path) == made
    assert os.listdir(path.parent) == ["x.key"]
    assert mode(path) == 0o600


@pytest.mark.parametrize("step", ["fsync", "link"])
def test_a_creation_that_fails_leaves_nothing(path, step, monkeypatch):
    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, step, fail)
        with pytest.raises(
            IdentityError, match=r"cannot make .*x.key: No space left on device; make room on the disk$"
        ):
            open_identity(path)
    assert os.listdir(path.parent) == []
    open_identity(path)


async def test_the_temporary_file_of_a_killed_program_does_no_harm(path, tmp_path):
    (tmp_path / "kill_itself.py").write_text(
        "import os, signal, sys; from pathlib import Path; from trio_chat.storage import identity_file;"
        "identity_file.os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL);"
        "identity_file.open_identity(Path(sys.argv[1]))"
    )
    with trio.fail_after(60):
        await (await open_program("kill_itself", [path], cwd=tmp_path)).wait()
    (left,) = path.parent.iterdir()
    assert left.name != path.name
    assert mode(left) == 0o600
    assert open_identity(path) == open_identity(path)
