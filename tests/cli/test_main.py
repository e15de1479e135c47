"""The command line: arguments, exit codes, how errors are reported, the server's print-outs, keys, the demo.

Most tests call `main` in this process, with a fake chat or server that does at once what the test needs.
"""

import errno
import io
import ipaddress
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import attrs
import pytest
import trio

import trio_chat.cli.client
import trio_chat.cli.running
import trio_chat.cli.server
from tests.fake_outbox import FakeOutbox
from tests.forkserver import open_program
from trio_chat import (
    AddressError,
    InvalidName,
    NameTaken,
    NotInvited,
    ServerKeyChanged,
    ServerNotResponding,
    ServerTooNew,
    ServerTooOld,
    SignedInElsewhere,
    SignedOff,
    StoreFailed,
    WrongServerKey,
    open_chat,
    open_client_store,
    open_identity,
    open_server_store,
    serve_chat,
)
from trio_chat.cli.demo import CONVERSATION, run_demo
from trio_chat.cli.main import main
from trio_chat.cli.server import serve_and_print
from trio_chat.cli.table_printer import TableView
from trio_chat.protocol.records import Record, fingerprint
from trio_chat.storage.rules import Invitation
from trio_chat.storage.server_memory import MemoryServerStore
from trio_chat.terminal.editor import MAX_KEPT_LINES
from trio_chat.terminal.phrases import Phrase
from trio_chat.transport.udp import own_addresses

pytestmark = pytest.mark.usefixtures("data_folder")

OLD, NEW = "aaaa-bbbb-cccc-dddd", "2222-3333-4444-5555"
KEY = r"[a-z2-7]{4}(-[a-z2-7]{4}){3}"


class FakeChat:
    """Registered and silent until it deregisters. Its user may sign in elsewhere."""

    name = "x"
    online = True
    waiting = 0

    def __init__(self):
        self.outbox = FakeOutbox()
        self._happens, self.events = trio.open_memory_channel(1)

    def sign_off(self):
        self.online = False
        self._happens.send_nowait(SignedOff(SignedInElsewhere()))

    async def deregister(self):
        self.online = False
        self._happens.close()


@pytest.fixture
def opened(monkeypatch):
    """Replaces `open_chat` by a fake. Holds what it was called with, and what it shall raise."""

    @attrs.define
    class Opened:
        calls: list = attrs.Factory(list)
        identities: list = attrs.Factory(list)
        server_keys: list = attrs.Factory(list)
        error: BaseException | None = None
        is_elsewhere: bool = False

    opened = Opened()

    @asynccontextmanager
    async def open_fake(name, server, *, identity, server_key, port, store, reconnect, invitation, backlog):
        opened.calls.append((name, server, port))
        opened.identities.append(identity)
        opened.server_keys.append(server_key)
        if opened.error:
            raise opened.error
        chat = FakeChat()
        if opened.is_elsewhere:
            chat.sign_off()
        yield chat

    monkeypatch.setattr(trio_chat.cli.client, "open_chat", open_fake)
    return opened


@pytest.fixture
def type_in(monkeypatch, tmp_path):
    """Sets the text of standard input; it is empty at first."""
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


@pytest.fixture
async def terminal():
    """A terminal: what it shows, as a stream, and the file that a program writes to."""
    here, there = os.openpty()
    async with trio.lowlevel.FdStream(here) as screen:
        with os.fdopen(there, "wb", buffering=0) as keyboard:
            yield screen, keyboard


@pytest.fixture
def served(monkeypatch):
    """Replaces `serve_chat` by a server that ends at once. Holds the identities that it was given, and its error."""

    class Served(list):
        error = None

    served = Served()

    async def serve_nobody(port, *, host, store, events, roster, identity, task_status, **options):
        served.append(identity)
        task_status.started((host or "::", port))
        events.close()
        if served.error:
            raise served.error

    monkeypatch.setattr(trio_chat.cli.server, "serve_chat", serve_nobody)
    return served


def shown_of(identity):
    return fingerprint(identity.public.signing)


async def rest_of(screen):
    """What a terminal shows until no program has it open."""
    shown = b""
    async with screen:
        with suppress(trio.BrokenResourceError):  # how Linux reports it
            async for data in screen:
                shown += data
    return shown


# --- the arguments ---


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["server", "99999"], "99999 is not in the range"),
        (["server", "five"], "'five' is not a valid port"),
        (["server", "--port", "5001"], " server: the port is an argument: "),
        (["server", "--port", "5001"], " server 5001\n"),
        (["presence", "--port=8082"], " presence: the port is an argument: "),
        (["client", "x", "127.0.0.1:70000"], "70000 is not in the range"),
        (["client", "x", "127.0.0.1:5000", "1", "2"], "unexpected extra argument"),
        (["client", "x", "127.0.0.1", "--store", "x:1"], "Missing argument 'SERVER-PORT'"),
        (["server", "-1"], "No such option"),
        (["sever"], "Did you mean one of: 'server', 'servers'?"),
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
        (["server", "0", "--identity", "/dev/null"], "cannot use the identity file /dev/null: it is not a file"),
        (["client", "x", "::1", "5000", "--identity", "/dev/null/x"], "cannot read the identity file /dev/null/x"),
        (["client", "x", "::1", "5000", "--server-key", "abc\n"], "'abc\\n' is not a fingerprint"),
        (["client", "x", "::1", "5000", "--server-key", f"{OLD}-"], "is not a fingerprint, xxxx-xxxx-xxxx-xxxx"),
        (["server", "forget"], "server forget: Missing argument 'NAME'"),
        (["server", "forget", "x", "--port", "65536"], "65536 is not in the range"),
        (
            ["server", "forget", "x", "--store", "/dev/null"],
            "/dev/null: it is not a file; name another file",
        ),
        (["server", "forget", "x", "y"], "unexpected extra argument"),
        (["server", "forgo", "x"], "'forgo' is not a valid port"),
        (["fingerprint", "x", "127.0.0.1"], "NAME needs SERVER-IP and SERVER-PORT"),
        (["fingerprint", "x", "127.0.0.1", "0"], "0 is not in the range"),
        (["fingerprint", "../../x", "127.0.0.1", "5000"], "not a valid name: '../../x'"),
        (["fingerprint", "x", "127.0.0.1", "5000"], "there is no identity file"),
        (["fingerprint", "--identity", "/dev/null"], "it is not a file"),
    ],
)
def test_invalid_arguments_are_refused_in_one_line(args, complaint, capsys, type_in):
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


def test_a_group_with_a_port_shows_its_commands(capsys):
    assert main(["server", "--help"]) == 0
    assert "forget  Free a name whose owner has lost the key file." in capsys.readouterr().out
    assert main(["server", "forget", "--help"]) == 0
    assert " server forget [OPTIONS] NAME" in capsys.readouterr().out


def test_the_help_of_no_history_and_the_readme_name_the_typed_lines(capsys):
    assert main(["client", "--help"]) == 0
    assert "nor of the lines that you type" in " ".join(capsys.readouterr().out.split())
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert "the file `typed` in your state folder (`~/.local/state/trio_chat` on Linux)" in " ".join(readme.split())
    assert f"the latest {MAX_KEPT_LINES:,} to {2 * MAX_KEPT_LINES:,} lines" in readme


def test_no_option_has_an_empty_default(capsys):
    assert main(["client", "--help"]) == 0
    assert 'default: ""' not in capsys.readouterr().out


def test_the_version_is_shown(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"trio-chat, version {trio_chat.__version__}\n"


async def test_a_port_in_use_is_reported_in_one_line(capsys, nursery):
    _, port = await nursery.start(lambda **kwargs: serve_chat(0, **kwargs))
    assert await trio.to_thread.run_sync(main, ["-s", str(port)]) == 2
    assert capsys.readouterr().err.endswith(f"cannot listen on *:{port}: the port is in use\n")
    nursery.cancel_scope.cancel()


def test_a_usage_error_names_the_program_as_it_was_started():
    done = subprocess.run([sys.executable, "-m", "trio_chat", "client"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "python -m trio_chat client: Missing argument 'NAME'. "
        "Usage: python -m trio_chat client [OPTIONS] NAME SERVER-IP SERVER-PORT [CLIENT-PORT]\n"
    )


# --- the client ---


@pytest.mark.parametrize(
    ("args", "call"),
    [
        (["client", "x", "::1", "5000"], ("x", ("::1", 5000), 0)),
        (["client", "x", "[::1]", "5000"], ("x", ("::1", 5000), 0)),
        (["client", "x", "[::1]:5000"], ("x", ("::1", 5000), 0)),
        (
            ["client", "--wording", "group", "x", "localhost:5000", "3333", "--no-bell"],
            ("x", ("localhost", 5000), 3333),
        ),
        (["-c", "x", "127.0.0.1:5000", "0"], ("x", ("127.0.0.1", 5000), 0)),
        (["client", "x", "localhost", "5000", "3333"], ("x", ("localhost", 5000), 3333)),
        (["-c", "x", "127.0.0.1", "5000", "3333"], ("x", ("127.0.0.1", 5000), 3333)),
    ],
)
def test_a_client_runs_until_the_end_of_input(args, call, opened, type_in, capsys):
    type_in("\nwhat")
    assert main(args) == 0
    assert opened.calls == [call]
    assert capsys.readouterr().out.splitlines() == [
        ">>> [Welcome, You are registered.]",
        ">>> [Unknown command: what. Type help, or send_all TEXT to write to all.]",
        ">>> [You are Offline. Bye.]",
    ]


@pytest.mark.parametrize(
    "args",
    [
        ["client", "x", "::1", "5000", "--wording", "channel"],
        ["-c", "x", "::1", "5000", "0", "--wording", "channel"],
    ],
)
def test_a_client_prints_the_requested_wording(args, opened, type_in, capsys):
    assert main(args) == 0
    assert capsys.readouterr().out == ">>> [You are now offline. Bye.]\n"


def test_a_client_prints_json(opened, type_in, capsys):
    type_in("what\n")
    assert main(["client", "x", "::1", "5000", "--json", "--wording", "channel"]) == 0
    opened.error = ServerKeyChanged(OLD, NEW)
    assert main(["-c", "x", "::1", "5000", "--json"]) == 2
    opened.error = KeyboardInterrupt()
    assert main(["client", "x", "::1", "5000", "--json"]) == 130
    assert capsys.readouterr().out.splitlines() == [
        '{"event": "registered", "waiting": 0}',
        '{"event": "error", "error": "UnknownCommand", "text": "no such command: what"}',
        '{"event": "deregistered"}',
        f'{{"event": "error", "error": "ServerKeyChanged", "text": "{ServerKeyChanged(OLD, NEW)}"}}',
    ]


TOO_OLD, TOO_NEW = Phrase.SERVER_TOO_OLD.group.split(" / "), Phrase.SERVER_TOO_NEW.group.split(" / ")
SERVER_KEY_CHANGED = [
    "[WARNING: the key of the server has changed!]",
    f"[It was {OLD}, now it is {NEW}.]",
    f"[Someone may be posing as the server. If you know that the new key is right, start with --server-key {NEW}]",
    "[Exiting]",
]
ELSEWHERE = ["[Signed in from another place: go on there, or start again here.]", "[Exiting]"]


@pytest.mark.parametrize(
    ("error", "code", "group", "channel"),
    [
        (
            ServerNotResponding(),
            1,
            ["[Server not responding]", "[Exiting]"],
            ["[Message sent failed]", "[Server is shut down]", "[Exiting]"],
        ),
        (ServerKeyChanged(OLD, NEW), 2, SERVER_KEY_CHANGED, SERVER_KEY_CHANGED),
        (ServerTooOld(), 2, TOO_OLD, TOO_OLD),
        (ServerTooNew(), 2, TOO_NEW, TOO_NEW),
        (SignedInElsewhere(), 0, ELSEWHERE, ELSEWHERE),
        (KeyboardInterrupt(), 130, [], ["Caught keyboard interrupt. Exiting"]),
    ],
)
def test_a_client_reports_why_it_ends(error, code, group, channel, opened, type_in, capsys):
    opened.error = error
    for wording, lines in (("group", group), ("channel", channel)):
        assert main(["client", "x", "127.0.0.1", "5000", "--wording", wording]) == code
        assert capsys.readouterr() == ("".join(f">>> {line}\n" for line in lines), "")


@pytest.mark.parametrize("typing", ["going on", "closed", "ended, with --stay"])
def test_a_client_whose_user_signs_in_at_another_place_ends_normally(typing, opened, type_in, monkeypatch, capsys):
    opened.is_elsewhere = True
    reading, writing = os.pipe()
    with open(reading) as stdin, open(writing, "w"):
        if typing == "going on":
            monkeypatch.setattr(sys, "stdin", stdin)
        elif typing == "closed":
            monkeypatch.setattr(sys, "stdin", None)
        stay = ["--stay"] if typing.endswith("--stay") else []
        assert main(["client", "x", "127.0.0.1", "5000", *stay]) == 0
    assert capsys.readouterr() == (
        ">>> [Welcome, You are registered.]\n"
        ">>> [Signed in from another place: go on there, or start again here.]\n"
        ">>> [Exiting]\n",
        "",
    )


@pytest.mark.parametrize("error", [InvalidName("b@d"), AddressError("the port is in use")])
def test_an_error_before_the_start_of_a_client_is_reported_on_stderr(error, opened, type_in, capsys):
    opened.error = error
    assert main(["client", "x", "127.0.0.1", "5000"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(f"client: {error}\n")


def test_a_bug_is_not_hidden(opened, type_in):
    opened.error = ZeroDivisionError()
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        main(["client", "x", "127.0.0.1", "5000"])
    opened.error = OSError(errno.EBADF, "not the output's fault")
    with pytest.raises(OSError, match="not the output's fault"):
        main(["client", "x", "127.0.0.1", "5000"])
    opened.error = ExceptionGroup("at once", [ZeroDivisionError(), ServerNotResponding()])
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        main(["client", "x", "127.0.0.1", "5000"])


@pytest.mark.parametrize(
    ("errors", "code", "out", "err"),
    [
        ([ServerNotResponding(), NameTaken("x")], 2, "[Name x is taken.]", "ask the operator"),
        ([KeyboardInterrupt(), ServerNotResponding()], 1, "[Server not responding]", ""),
        ([InvalidName("b@d"), KeyboardInterrupt()], 2, "", "not a valid name"),
        ([SignedInElsewhere(), StoreFailed("the disk is full")], 1, "", " client: the disk is full\n"),
        (
            [SignedInElsewhere(), AddressError("in use")],
            0,
            "[Signed in from another place: go on there, or start again here.]",
            "",
        ),
        ([WrongServerKey(OLD, NEW)], 2, "", f"--server-key is wrong: {WrongServerKey(OLD, NEW)}"),
    ],
)
def test_of_several_errors_the_most_important_one_is_reported(errors, code, out, err, opened, type_in, capsys):
    for order in (errors, errors[::-1]):
        opened.error = BaseExceptionGroup("at once", order)
        assert main(["client", "x", "127.0.0.1", "5000"]) == code
        shown = capsys.readouterr()
        assert (out in shown.out, err in shown.err) == (True, True)
        assert (bool(shown.out), bool(shown.err)) == (bool(out), bool(err))


def test_ctrl_c_before_the_program_has_started(monkeypatch, capsys):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(trio, "run", interrupted)
    assert main(["server"]) == 130
    monkeypatch.setattr(trio_chat.cli.running, "Screen", interrupted)
    assert main(["server"]) == 130


def test_a_closed_standard_input_is_the_end_of_input(opened, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["client", "x", "127.0.0.1", "5000"]) == 0
    assert capsys.readouterr().out.endswith(">>> [You are Offline. Bye.]\n")


def test_a_plain_terminal_gets_a_plain_prompt(opened, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    master, slave = os.openpty()
    with open(master, "r+b", buffering=0) as screen:
        with open(slave) as stdin, open(slave, "w", closefd=False) as stdout:
            monkeypatch.setattr(sys, "stdin", stdin)
            monkeypatch.setattr(sys, "stdout", stdout)
            screen.write(b"\n\x04")
            assert main(["client", "x", "127.0.0.1", "5000"]) == 0
            monkeypatch.undo()
        shown = trio.run(rest_of, trio.lowlevel.FdStream(os.dup(master))).decode()
    assert "\r\x1b[K>>> [You are Offline. Bye.]\r\n>>> " in shown
    assert shown.endswith("\r\x1b[K"), "the prompt is removed at the end"


def test_text_that_the_screen_cannot_encode_is_escaped(opened, type_in, monkeypatch):
    type_in("grüße\n")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    assert main(["client", "x", "127.0.0.1", "5000"]) == 0
    assert b">>> [Unknown command: gr\\xfc\\xdfe. Type help, or send_all TEXT to write to all.]\n" in written.getvalue()


@pytest.mark.parametrize("named", [False, True])
async def test_a_client_that_is_already_running_is_not_started_twice(named, type_in, data_folder, capsys):
    path = data_folder / "clients" / "x@%3A%3A1_5000.db"
    async with open_client_store(path):
        args = ["client", "x", "::1", "5000", *(["--store", str(path)] if named else [])]
        assert await trio.to_thread.run_sync(main, args) == 2
    who = f"another program with the store {path}" if named else "x"
    assert capsys.readouterr().err.endswith(
        f" client: {who} is already running here: go on there, or end that program first\n"
    )


# --- the server ---


def row(name, port, online=True):
    return Record(name, "127.0.0.1", port, online, 0.0)


def test_each_change_prints_the_table_in_the_order_of_arrival():
    view = TableView()
    heading = ">>> [Client table updated.]\n"
    assert view.update(row("x", 3333)) == heading + "{'x': ('x', '127.0.0.1', 3333, True)}\n"
    view.update(row("y", 1111))
    assert view.update(row("x", 3333, online=False)) == (
        heading + "{'x': ('x', '127.0.0.1', 3333, False), 'y': ('y', '127.0.0.1', 1111, True)}\n"
    )


def test_a_name_in_another_case_is_the_same_row():
    view = TableView([row("Bob", 1)])
    assert view.update(row("bob", 2)).endswith("\n{'bob': ('bob', '127.0.0.1', 2, True)}\n")


def test_above_fifty_names_only_the_changed_rows_are_printed():
    view = TableView()
    printed = [view.update(row(f"n{number}", number + 1)) for number in range(51)]
    assert printed[49].count("127.0.0.1") == 50
    assert printed[50].endswith("\n{'n50': ('n50', '127.0.0.1', 51, True)}\n")
    assert view.update(row("n7", 8, online=False), row("n9", 9)).endswith(
        "\n{'n7': ('n7', '127.0.0.1', 8, False), 'n9': ('n9', '127.0.0.1', 9, True)}\n"
    )


async def test_the_server_prints_each_coming_and_going(nursery):
    printed, changes = trio.open_memory_channel(100)
    store = MemoryServerStore()
    await store.save_name(row("y", 7))
    server = await nursery.start(serve_and_print, 0, "127.0.0.1", store, printed.send)
    with trio.fail_after(60):
        async with open_chat("x", server, host="127.0.0.1") as chat:
            port = chat.table["x"].port
        lines = "".join([await changes.receive() for _ in range(2)]).splitlines()
    assert lines == [
        ">>> [Client table updated.]",
        f"{{'y': ('y', '127.0.0.1', 7, False), 'x': ('x', '127.0.0.1', {port}, True)}}",
        ">>> [Client table updated.]",
        f"{{'y': ('y', '127.0.0.1', 7, False), 'x': ('x', '127.0.0.1', {port}, False)}}",
    ]
    nursery.cancel_scope.cancel()


def test_a_server_whose_disk_is_full_says_what_to_do(served, capsys):
    served.error = StoreFailed("the store x failed: database or disk is full; make room on the disk, then start again")
    assert main(["server", "5678", "--store", ":memory:"]) == 1
    assert capsys.readouterr().err.endswith(f" server: {served.error}\n")


def test_the_server_prints_its_address_and_its_key(served, capsys):
    assert main(["server", "5678", "--host", "127.0.0.1", "--store", ":memory:"]) == 0
    assert capsys.readouterr() == ("", f"Listening on 127.0.0.1:5678\nKey: {shown_of(served[0])}\n")


def test_a_server_at_all_addresses_prints_what_others_type(served, monkeypatch, capsys):
    monkeypatch.setattr(trio_chat.cli.server, "own_addresses", lambda: ["192.0.2.2", "2001:db8::2"])
    assert main(["server", "5678", "--store", ":memory:"]) == 0
    assert capsys.readouterr().err.splitlines()[2:] == [
        "Others join with: trio-chat client NAME 192.0.2.2 5678",
        "Others join with: trio-chat client NAME 2001:db8::2 5678",
    ]


def test_who_has_to_be_invited_is_told_to_type_the_code(served, monkeypatch, capsys):
    monkeypatch.setattr(trio_chat.cli.server, "own_addresses", lambda: ["192.0.2.2"])
    assert main(["server", "5678", "--store", ":memory:", "--registration", "invitation"]) == 0
    (line,) = capsys.readouterr().err.splitlines()[2:]
    assert line == "Others join with: trio-chat client NAME 192.0.2.2 5678 --invitation CODE"


def test_a_server_that_requires_no_invitations_any_more_says_so(served, tmp_path, capsys):
    path = tmp_path / "server.db"

    async def invite(until):
        async with open_server_store(path) as store:
            await store.invite(Invitation(bytes(32), until), now=0.0)

    trio.run(invite, time.time() - 1)
    command = ["server", "5678", "--host", "127.0.0.1", "--store", str(path)]
    assert main(command) == 0
    assert "invitation" not in capsys.readouterr().err, "it is too old"
    trio.run(invite, time.time() + 1000)
    assert main([*command, "--registration", "invitation"]) == 0
    assert "anybody" not in capsys.readouterr().err
    assert main(command) == 0
    assert capsys.readouterr().err.splitlines()[2:] == [
        "There are invitations that were not used, but anybody may register a new name. To require invitations, use"
        " --registration invitation"
    ]


def test_its_own_addresses_are_of_use_to_others():
    addresses = [ipaddress.ip_address(one) for one in own_addresses()]
    assert len(addresses) <= 3
    assert not any(one.is_loopback or one.is_unspecified or one.is_link_local for one in addresses)


@pytest.mark.parametrize(("where", "shown"), [(["--host", "127.0.0.1"], r"127\.0\.0\.1"), ([], r"\[::\]|0\.0\.0\.0")])
async def test_ctrl_c_ends_the_server_quietly(where, shown, terminal):
    screen, keyboard = terminal
    server = await open_program("trio_chat", ["server", 0, *where], stderr=keyboard, env=dict(os.environ))
    keyboard.close()
    output = b""
    with trio.fail_after(60):
        while output.count(b"\n") < 2:
            output += await screen.receive_some()
        others = r"(Others join with: trio-chat client NAME \S+ \d+\r\n)*" if not where else ""
        server.send_signal(signal.SIGINT)
        assert [data async for data in server.stdout] == []
        assert await server.wait() == 130
        output += await rest_of(screen)
    assert re.fullmatch(rf"Listening on ({shown}):\d+\r\nKey: {KEY}\r\n{others}\r\n", output.decode()), output


# --- keys ---


@pytest.mark.parametrize("store", [[], ["--store", ":memory:"]])
def test_a_client_has_the_same_key_at_each_start_and_another_one_at_each_server(store, opened, type_in, data_folder):
    for name, server in [("Bob", "::1"), ("bOB", "::1"), ("carol", "::1"), ("bob", "127.0.0.1")]:
        assert main(["client", name, server, "5000", *store]) == 0
    bob, again, carol, elsewhere = opened.identities
    assert bob == again == open_identity(data_folder / "clients" / "bob@%3A%3A1_5000.key")
    assert elsewhere == open_identity(data_folder / "clients" / "bob@127.0.0.1_5000.key")
    assert len({bob.signing_secret, carol.signing_secret, elsewhere.signing_secret}) == 3


@pytest.mark.parametrize(
    "command",
    [
        ["client", "Bob", "127.0.0.1", "5000"],
        ["send", "x", "hi", "--as", "Bob", "--server", "127.0.0.1:5000"],
    ],
)
def test_a_name_that_is_taken_may_be_our_own_under_another_address_of_the_server(
    command, opened, type_in, tmp_path, capsys
):
    for name, server, port in [("bob", "localhost", 5000), ("bob", "localhost", 5001), ("alice", "::1", 5000)]:
        assert main(["client", name, server, str(port), "--store", ":memory:"]) == 0
    opened.error = NameTaken("Bob")
    capsys.readouterr()
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert out == ">>> [Name Bob is taken.]\n"
    assert err.endswith(
        f" {command[0]}: you have a key of Bob for localhost:5000: if that is the same server, type it like that\n"
    )
    assert main([*command, "--identity", str(tmp_path / "own.key")]) == 2
    assert capsys.readouterr().err == "", "whoever gives a key file knows which one it is"


@pytest.mark.parametrize(
    ("error", "is_kept"),
    [(NameTaken("Bob"), False), (NotInvited(), False), (AddressError("no such host"), False), (StoreFailed("x"), True)],
)
def test_a_key_that_was_made_for_a_name_that_it_cannot_get_is_removed(opened, type_in, error, is_kept, capsys):
    """It would be listed as that of Bob, and be named in advice. After an error like the last one nobody knows."""
    opened.error = error
    assert main(["client", "Bob", "127.0.0.1", "5000"]) != 0
    capsys.readouterr()
    assert main(["fingerprint"]) == 0
    assert ("bob@" in capsys.readouterr().out) == is_kept
    opened.error = None
    assert main(["client", "Bob", "127.0.0.1", "5000"]) == 0
    opened.error = error
    assert main(["client", "Bob", "127.0.0.1", "5000"]) != 0
    capsys.readouterr()
    assert main(["fingerprint"]) == 0
    assert "bob@" in capsys.readouterr().out, "it was made earlier"


def test_the_owner_of_a_name_who_has_lost_the_key_is_told_whom_to_ask(opened, type_in, capsys):
    opened.error = NameTaken("Bob")
    for wording in ("group", "channel"):
        assert main(["client", "Bob", "127.0.0.1", "5000", "--wording", wording]) == 2
        out, err = capsys.readouterr()
        assert out == ">>> [Name Bob is taken.]\n"
        hint = "if Bob is yours and its key file is lost, ask the operator of the server to free it"
        assert err.endswith(f" client: {hint}\n")


@pytest.mark.parametrize("store", [[], ["--store", ":memory:"]])
def test_a_server_has_the_same_key_at_each_start_and_another_one_at_each_port(store, served, data_folder):
    for port in ("5678", "5678", "5679"):
        assert main(["server", port, *store]) == 0
    first, again, other = served
    assert first == again == open_identity(data_folder / "server-5678.key")
    assert other == open_identity(data_folder / "server-5679.key") != first


@pytest.mark.parametrize("args", [["client", "x", "::1", "5000"], ["server", "5678"]])
def test_the_key_file_may_be_elsewhere(args, opened, served, type_in, tmp_path, data_folder):
    assert main([*args, "--identity", str(tmp_path / "own.key")]) == 0
    assert opened.identities + served == [open_identity(tmp_path / "own.key")]
    assert list(data_folder.rglob("*.key")) == []


@pytest.mark.parametrize("args", [["client", "x", "::1", "5000"], ["server", "5678"]])
def test_damaged_keys_are_refused_and_not_replaced(args, opened, served, type_in, tmp_path, capsys):
    keys = tmp_path / "own.key"
    open_identity(keys)
    os.truncate(keys, 100)
    half = keys.read_text()
    assert main([*args, "--identity", str(keys)]) == 2
    assert capsys.readouterr().err.endswith("it is damaged, or not an identity file\n")
    assert keys.read_text() == half
    assert opened.calls + served == []


def test_the_servers_key_may_be_given(opened, type_in):
    assert main(["client", "x", "::1", "5000"]) == 0
    assert main(["client", "x", "::1", "5000", "--server-key", OLD.upper()]) == 0
    assert opened.server_keys == [None, OLD]


def test_the_fingerprint_of_one_identity_or_of_all_is_printed(opened, served, type_in, data_folder, capsys):
    assert main(["fingerprint"]) == 0
    assert capsys.readouterr() == (
        "",
        "There are no identities yet: clients and servers make theirs when they first start.\n",
    )
    main(["client", "Bob", "::1", "5000", "--store", ":memory:"])
    main(["client", "alice", "localhost", "5678", "--store", ":memory:"])
    main(["server", "5678", "--store", ":memory:"])
    (data_folder / "clients" / "notes.key").write_text("of somebody else")
    capsys.readouterr()

    bob, alice, server = map(shown_of, opened.identities + served)
    assert main(["fingerprint"]) == 0
    lines = f"{alice}  alice@localhost:5678\n{bob}  bob@[::1]:5000\n{server}  server on port 5678\n"
    assert capsys.readouterr() == (lines, "")
    for args in (
        ["BOB", "::1", "5000"],
        ["bob", "[::1]", "5000"],
        ["bob", "[::1]:5000"],
        ["--identity", str(data_folder / "clients" / "bob@%3A%3A1_5000.key")],
    ):
        assert main(["fingerprint", *args]) == 0
        assert capsys.readouterr() == (f"{bob}\n", "")


def test_no_fingerprint_of_keys_that_others_can_read(data_folder, capsys):
    good = open_identity(data_folder / "clients" / "x@%0A_5000.key")
    open_identity(data_folder / "clients" / "w@::1_5000.key")
    (data_folder / "clients" / "w@::1_5000.key").chmod(0o644)
    assert main(["fingerprint"]) == 2
    out, err = capsys.readouterr()
    assert out == f"{shown_of(good)}  x@\\n:5000\n"
    assert err.startswith("w@[::1]:5000: cannot use the identity file ")
    assert err.count("\n") == 1


async def forget(*args):
    return await trio.to_thread.run_sync(main, ["server", "forget", *args])


@pytest.mark.parametrize(
    ("args", "file"),
    [
        ([], "server-5000.db"),
        (["--port", "5678"], "server-5678.db"),
        (["--store", "own.db"], "../../own.db"),
    ],
)
async def test_a_name_is_freed_while_the_server_is_stopped(args, file, data_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    async with open_server_store(data_folder / file) as store:
        await store.save_name(row("Bob", 7))
        assert await forget("bob", *args) == 2
        assert await trio.to_thread.run_sync(main, ["server", "0", "--store", str(data_folder / file)]) == 2
    for line in capsys.readouterr().err.splitlines():
        assert re.search(rf"a server is running with the store \S*{Path(file).name}: stop it first$", line)
    assert await forget("bob", *args) == 0
    assert capsys.readouterr() == ("The name bob is free.\n", "")
    assert await forget("nobody", *args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(" server forget: no such user: nobody\n")


async def test_forget_without_a_server_store_is_an_error(data_folder, capsys):
    assert await forget("bob") == 2
    assert capsys.readouterr().err.endswith(f"there is no store {data_folder}/server-5000.db\n")
    assert not data_folder.exists()


# --- the demo ---


def test_the_demo_shows_its_conversation(capsys):
    assert main(["demo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for step in CONVERSATION.splitlines():
        if step.startswith("#"):
            assert step in lines
    assert "alice  < send bob Hello, Bob!" in lines
    assert "bob    | >>> alice: Hello, Bob!" in lines
    assert "server | >>> [Client table updated.]" in lines
    assert not any("No ACK" in line for line in lines), "everybody answers, or is known to be away"
    assert any(line.endswith(" | >>> [You are Offline. Bye.]") for line in lines[-3:]), "or the server's last table"


async def test_the_demo_reports_what_is_missing():
    printed = []
    conversation = "# Alice joins, and Bob says nothing.\nalice joins\nbob | hm\n# Bob joins.\nbob joins\n"
    assert await run_demo(printed.append, conversation, step_timeout=0.1) == 1
    assert printed[-1] == "\nThis did not appear: bob | hm"
    assert "\n# Bob joins." not in printed


async def test_output_that_nobody_reads_ends_it_quietly():
    demo = await open_program("trio_chat", ["demo"])
    await demo.stdout.aclose()
    with trio.fail_after(60):
        assert [data async for data in demo.stderr] == []
        assert await demo.wait() == 1
