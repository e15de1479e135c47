"""The command line: arguments, exit codes, last words, the server's print-outs, the demo."""

import io
import os
import re
import signal
import subprocess
import sys
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

import trio_chat.cli
from trio_chat import AddressError, InvalidName, NameTaken, ServerNotResponding, open_chat, serve_chat
from trio_chat.cli import TableLog, main, run_server
from trio_chat.demo import STORY, Scene, play
from trio_chat.protocol.records import Record
from trio_chat.storage.memory import MemoryServerStore

PROGRAM = [sys.executable, "-m", "trio_chat"]


class FakeChat:
    """Registered, silent, and gone when asked."""

    name = "x"
    online = True

    def __init__(self):
        self._happens, self.events = trio.open_memory_channel(1)

    async def deregister(self):
        self.online = False
        self._happens.close()


@pytest.fixture(autouse=True)
def data_folder(monkeypatch, tmp_path):
    """The user's data folder is one of the test's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "trio_chat"


@pytest.fixture
def opened(monkeypatch):
    """Puts a fake in the place of `open_chat`; holds what it was called with, and what to raise."""

    @attrs.define
    class Opened:
        calls: list = attrs.Factory(list)
        error: BaseException | None = None

    opened = Opened()

    @asynccontextmanager
    async def open_fake(name, server, *, port, store, reconnect):
        opened.calls.append((name, server, port))
        if opened.error:
            raise opened.error
        yield FakeChat()

    monkeypatch.setattr(trio_chat.cli, "open_chat", open_fake)
    return opened


@pytest.fixture
def type_in(monkeypatch, tmp_path):
    """Makes standard input of some text; it is empty if nothing is typed in."""
    files = []

    def type_in(text):
        script = tmp_path / "typed"
        script.write_text(text)
        files.append(script.open())
        monkeypatch.setattr(sys, "stdin", files[-1])

    type_in("")
    yield type_in
    for file in files:
        file.close()


def rest_of(screen):
    """What a terminal shows until nobody has it open any more."""
    while True:
        try:
            shown = screen.read(4096)
        except OSError:  # how Linux puts it
            return
        if not shown:
            return
        yield shown.decode()


# --- the arguments ---


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["server", "99999"], "99999 is not in the range"),
        (["server", "five"], "'five' is not a valid port"),
        (["server", "-1"], "No such option"),
        (["sever"], "Did you mean 'server'?"),
        (["client"], "Missing argument 'NAME'"),
        (["client", "x", "127.0.0.1"], "Missing argument 'SERVER-PORT'"),
        (["client", "x", "127.0.0.1", "0"], "0 is not in the range"),
        (["client", "x", "127.0.0.1", "1", "2", "3"], "unexpected extra argument"),
        (["client", "x", "127.0.0.1", "1", "--wording", "french"], "'french' is not one of 'group', 'channel'"),
        (["-s", "65536"], "65536 is not in the range"),
        (["-c", "x", "127.0.0.1", "5000", "port"], "'port' is not a valid port"),
        (["-c", "x", "127.0.0.1"], "Missing argument 'SERVER-PORT'"),
        (["-s", "5000", "demo"], "unexpected extra argument"),
        (["--stay", "demo"], "No such option"),
        (["client", "../../x", "127.0.0.1", "5000"], "not a valid name: '../../x'"),
        (["client", "x", "127.0.0.1", "5000", "--store", "/dev/null/x"], "cannot open the store /dev/null/x"),
        (["server", "--store", "/dev/null"], "cannot use the store /dev/null"),
        (["client", "b@d\x1b[2J", "127.0.0.1", "5000"], "not a valid name: 'b@d\\x1b[2J'"),
        (["client", "x", "no..host\n", "5000"], "cannot find the host 'no..host\\n'"),
        (["server", "0", "--host", "192.0.2.1"], "cannot listen on 192.0.2.1:0"),
    ],
)
def test_what_is_not_understood_is_refused_in_one_line(args, complaint, capsys, type_in):
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert complaint in err
    assert err.count("\n") == 1


def test_without_arguments_help_is_shown(capsys):
    assert main([]) == 2
    assert "Commands:" in capsys.readouterr().err
    assert main(["--help"]) == 0
    assert "-c NAME SERVER-IP SERVER-PORT CLIENT-PORT" in capsys.readouterr().out


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"trio-chat, version {trio_chat.__version__}\n"


async def test_a_port_in_use_is_told_in_one_line(capsys, nursery):
    _, port = await nursery.start(lambda **kwargs: serve_chat(0, **kwargs))
    assert await trio.to_thread.run_sync(main, ["-s", str(port)]) == 2
    assert capsys.readouterr().err.endswith(f"cannot listen on *:{port}: the port is in use\n")
    nursery.cancel_scope.cancel()


def test_a_usage_error_names_the_program_as_it_was_started():
    done = subprocess.run([*PROGRAM, "client"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "python -m trio_chat client: Missing argument 'NAME'.\n"


# --- the client ---


@pytest.mark.parametrize(
    ("args", "call"),
    [
        (["client", "x", "::1", "5000"], ("x", ("::1", 5000), 0)),
        (["client", "x", "localhost", "5000", "3333"], ("x", ("localhost", 5000), 3333)),
        (["-c", "x", "127.0.0.1", "5000", "3333"], ("x", ("127.0.0.1", 5000), 3333)),
    ],
)
def test_a_client_talks_until_the_end_of_input(args, call, opened, type_in, capsys):
    type_in("\nwhat")
    assert main(args) == 0
    assert opened.calls == [call]
    assert capsys.readouterr().out.splitlines() == [
        ">>> [Welcome, You are registered.]",
        ">>> [Unknown command: what. Type help.]",
        ">>> [You are Offline. Bye.]",
    ]


@pytest.mark.parametrize(
    "args",
    [
        ["client", "x", "::1", "5000", "--wording", "channel"],
        ["-c", "x", "::1", "5000", "0", "--wording", "channel"],
    ],
)
def test_a_client_speaks_in_the_wording_asked_for(args, opened, type_in, capsys):
    assert main(args) == 0
    assert capsys.readouterr().out == ">>> [You are now offline. Bye.]\n"


@pytest.mark.parametrize(
    ("error", "code", "group", "channel"),
    [
        (
            ServerNotResponding(),
            1,
            ["[Server not responding]", "[Exiting]"],
            ["[Message sent failed]", "[Server is shut down]", "[Exiting]"],
        ),
        (NameTaken("x"), 2, ["[Name x is taken.]"], ["[Name x is taken.]"]),
        (KeyboardInterrupt(), 130, [], ["Caught keyboard interrupt. Exiting"]),
    ],
)
def test_the_last_words_of_a_client(error, code, group, channel, opened, type_in, capsys):
    opened.error = error
    for wording, lines in (("group", group), ("channel", channel)):
        assert main(["client", "x", "127.0.0.1", "5000", "--wording", wording]) == code
        assert capsys.readouterr() == ("".join(f">>> {line}\n" for line in lines), "")


@pytest.mark.parametrize("error", [InvalidName("b@d"), AddressError("the port is in use")])
def test_what_keeps_a_client_from_starting_is_told_on_stderr(error, opened, type_in, capsys):
    opened.error = error
    assert main(["client", "x", "127.0.0.1", "5000"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(f"client: {error}\n")


def test_an_error_of_our_own_is_not_hidden(opened, type_in):
    opened.error = ZeroDivisionError()
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        main(["client", "x", "127.0.0.1", "5000"])


def test_ctrl_c_before_anything_has_begun(monkeypatch, capsys):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(trio, "run", interrupted)
    assert main(["server"]) == 130
    monkeypatch.setattr(trio_chat.cli, "Screen", interrupted)
    assert main(["server"]) == 130


def test_a_closed_standard_input_has_ended(opened, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["client", "x", "127.0.0.1", "5000"]) == 0
    assert capsys.readouterr().out.endswith(">>> [You are Offline. Bye.]\n")


def test_a_terminal_gets_a_prompt(opened, monkeypatch):
    master, slave = os.openpty()
    with open(master, "r+b", buffering=0) as screen:
        with open(slave) as stdin, open(slave, "w", closefd=False) as stdout:
            monkeypatch.setattr(sys, "stdin", stdin)
            monkeypatch.setattr(sys, "stdout", stdout)
            screen.write(b"\n\x04")
            assert main(["client", "x", "127.0.0.1", "5000"]) == 0
            monkeypatch.undo()
        shown = "".join(rest_of(screen))
    assert "\r\x1b[K>>> [You are Offline. Bye.]\r\n>>> " in shown
    assert shown.endswith("\r\x1b[K"), "the prompt is taken away at the end"


def test_what_the_screen_cannot_write_is_shown_escaped(opened, type_in, monkeypatch):
    type_in("grüße\n")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    assert main(["client", "x", "127.0.0.1", "5000"]) == 0
    assert b">>> [Unknown command: gr\\xfc\\xdfe. Type help.]\n" in written.getvalue()


# --- the server ---


def row(name, port, online=True):
    return Record(name, "127.0.0.1", port, online, 0.0)


def test_each_change_prints_the_table_in_the_order_of_arrival():
    log = TableLog()
    heading = ">>> [Client table updated.]"
    assert log.lines(row("x", 3333)) == (heading, "{'x': ('x', '127.0.0.1', 3333, True)}")
    log.lines(row("y", 1111))
    assert log.lines(row("x", 3333, online=False)) == (
        heading,
        "{'x': ('x', '127.0.0.1', 3333, False), 'y': ('y', '127.0.0.1', 1111, True)}",
    )


def test_a_name_in_other_letters_is_the_same_row():
    log = TableLog()
    log.lines(row("Bob", 1))
    assert log.lines(row("bob", 2))[1] == "{'bob': ('bob', '127.0.0.1', 2, True)}"


def test_above_fifty_names_only_the_changed_row_is_printed():
    log = TableLog()
    printed = [log.lines(row(f"n{number}", number + 1))[1] for number in range(51)]
    assert printed[49].count("127.0.0.1") == 50
    assert printed[50] == "{'n50': ('n50', '127.0.0.1', 51, True)}"
    assert log.lines(row("n7", 8, online=False))[1] == "{'n7': ('n7', '127.0.0.1', 8, False)}"


async def test_the_server_prints_each_coming_and_going(nursery):
    printed, changes = trio.open_memory_channel(100)
    store = MemoryServerStore()
    await store.enrol(row("y", 7))
    server = await nursery.start(run_server, 0, "127.0.0.1", store, printed.send_nowait)
    with trio.fail_after(5):
        async with open_chat("x", server, host="127.0.0.1") as chat:
            port = chat.table["x"].port
        lines = [await changes.receive() for _ in range(4)]
    assert lines == [
        ">>> [Client table updated.]",
        f"{{'y': ('y', '127.0.0.1', 7, False), 'x': ('x', '127.0.0.1', {port}, True)}}",
        ">>> [Client table updated.]",
        f"{{'y': ('y', '127.0.0.1', 7, False), 'x': ('x', '127.0.0.1', {port}, False)}}",
    ]
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("where", "shown"), [(["--host", "127.0.0.1"], r"127\.0\.0\.1"), ([], r"\[::\]|0\.0\.0\.0")])
def test_ctrl_c_ends_the_server_quietly(where, shown):
    master, slave = os.openpty()
    with open(master, "rb", buffering=0) as screen:
        with subprocess.Popen(
            [*PROGRAM, "server", "0", *where],
            stderr=slave,
            stdout=subprocess.PIPE,
            # A shell's background job ignores Ctrl-C, and so do its children; these tests may be run by one.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as server:
            os.close(slave)
            try:
                assert re.match(rf"Listening on ({shown}):\d+\r\n", screen.read(4096).decode())
                server.send_signal(signal.SIGINT)
                out, _ = server.communicate(timeout=10)
            finally:
                server.kill()
        assert (server.returncode, out) == (130, b"")
        assert list(rest_of(screen)) == ["\r\n"]


# --- the demo ---


def test_the_demo_plays_its_story(capsys):
    assert main(["demo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for scene in STORY:
        assert f"# {scene.title}" in lines
    assert "alice  < send bob Hello, Bob!" in lines
    assert "bob    | >>> alice: Hello, Bob!" in lines
    assert "server | >>> [Client table updated.]" in lines
    assert lines[-1].endswith(" | >>> [You are Offline. Bye.]")


async def test_the_demo_tells_what_is_missing():
    printed = []
    story = [Scene("Alice joins, and Bob says nothing.", "alice", None, (("bob", "hm"),)), *STORY[1:]]
    assert await play(printed.append, story, patience=0.1) == 1
    assert printed[-1] == "\nThis did not appear: bob | hm"
    assert "\n# Bob joins." not in printed


def test_output_that_nobody_reads_ends_it_quietly():
    with subprocess.Popen([*PROGRAM, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as demo:
        demo.stdout.close()
        assert demo.stderr.read() == b""
    assert demo.returncode == 1
