"""A program from the wings is what `python -m` starts: each test asks one of either kind the same, and compares."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
import trio

from tests.forkserver import ENVIRONMENT, ROOT, open_from_scratch, open_program

PATIENCE = 15

SHOW_ALL = """
import json, os, resource, signal, sys, threading, warnings

def stream(file):
    return [file.name, file.mode, file.encoding, file.errors, file.line_buffering, file.write_through, file.newlines]

print(json.dumps({
    "main": [__name__, __package__ or None, __spec__ and __spec__.name, os.path.abspath(__file__)],
    "is_main": sys.modules["__main__"].__dict__ is globals(),
    "argv": sys.argv, "path": sys.path, "flags": list(sys.flags), "filters": [str(line) for line in warnings.filters],
    "environment": dict(os.environ), "folder": os.getcwd(), "umask": os.umask(0), "nice": os.nice(0),
    "limits": [resource.getrlimit(getattr(resource, kind)) for kind in dir(resource) if kind.startswith("RLIMIT")],
    "handlers": {number: str(signal.getsignal(number)).partition(" at ")[0] for number in signal.valid_signals()},
    "blocked": list(signal.pthread_sigmask(signal.SIG_BLOCK, ())), "woken": signal.set_wakeup_fd(-1),
    "open": os.listdir("/proc/self/fd"), "threads": threading.active_count(),
    "streams": [stream(file) for file in (sys.stdin, sys.stdout, sys.stderr)],
    "original": [sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__],
    "terminals": [os.isatty(number) for number in range(3)], "session": os.getsid(0) == os.getpid(),
    "read": sys.stdin.read(),
}))
"""

ENDS = {
    "end": "",
    "code": "sys.exit(3)",
    "word": "sys.exit('no')",
    "error": "1 / 0",
    "signal": "os.kill(os.getpid(), signal.SIGTERM)",
    "interrupt": "os.kill(os.getpid(), signal.SIGINT)",
    "abrupt": "os._exit(4)",
    "last_words": "atexit.register(print, 'at the end'); threading.Timer(0.1, print, ['later']).start()",
    "nobody_reads": "os.close(1); print('to nobody')",
}

WAITS = "import os, time\nos.write(1, b'hi\\n')\ntime.sleep(60)"


async def came_of(program, typed=b""):
    """Its exit code and what it said; of its complaints the last line, for a traceback shows from where it was run."""
    said = []

    async def listen(stream):
        said.append((stream, b"".join([data async for data in stream]).decode()))

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen, program.stdout)
            nursery.start_soon(listen, program.stderr)
            if typed:
                await program.stdin.send_all(typed)
            await program.stdin.aclose()
        code = await program.wait()
    heard = dict(said)
    return code, heard[program.stdout], heard[program.stderr].splitlines()[-1:]


@pytest.mark.parametrize("program", ["show_all", "show_all.py"])
async def test_it_finds_itself_where_any_program_does(tmp_path, program):
    (tmp_path / "show_all.py").write_text(SHOW_ALL)
    env = {key: value for key, value in ENVIRONMENT.items() if key != "PATH"} | {"GREETING": "Grüße"}
    how = {"cwd": tmp_path, "env": env}
    shown = []
    for opening in (open_program, open_from_scratch):
        code, said, complaints = await came_of(await opening(program, ["one", "-2"], **how), "ö\r\nb".encode())
        assert (code, complaints) == (0, [])
        shown.append(json.loads(said))
    assert shown[0] == shown[1]
    assert (shown[0]["read"], shown[0]["environment"]) == ("ö\r\nb", env)


async def test_so_it_does_at_a_terminal(tmp_path):
    (tmp_path / "show_all.py").write_text(SHOW_ALL)
    shown = []
    for opening in (open_program, open_from_scratch):
        here, there = os.openpty()
        program = await opening("show_all", [], terminal=there, cwd=tmp_path, env=ENVIRONMENT)
        os.close(there)
        async with trio.lowlevel.FdStream(here) as screen:
            await screen.send_all(b"typed\n\x04")
            said = b""
            with trio.fail_after(PATIENCE), suppress(trio.BrokenResourceError):  # so ends a terminal
                async for data in screen:
                    said += data
            assert await program.wait() == 0
        shown.append(json.loads(said[said.index(b"{") :]))
    assert shown[0] == shown[1]
    assert (shown[0]["read"], shown[0]["terminals"], shown[0]["session"]) == ("typed\n", [True] * 3, True)


@pytest.mark.parametrize("way", ENDS)
async def test_it_ends_as_any_program_does(tmp_path, way):
    (tmp_path / "ends.py").write_text(f"import atexit, os, signal, sys, threading\nprint('hi')\n{ENDS[way]}\n")
    warm, cold = [
        await came_of(await opening("ends", [], cwd=tmp_path, env=ENVIRONMENT))
        for opening in (open_program, open_from_scratch)
    ]
    assert warm == cold


async def test_its_outputs_may_be_one_or_a_file_or_nowhere(tmp_path):
    (tmp_path / "speaks.py").write_text("import sys\nprint('out', flush=True)\nprint('error', file=sys.stderr)")
    one = await open_program("speaks", [], stderr=subprocess.STDOUT, cwd=tmp_path)
    assert b"".join([data async for data in one.stdout]) == b"out\nerror\n"
    with (tmp_path / "complaints").open("wb") as complaints:
        other = await open_program("speaks", [], stdout=subprocess.DEVNULL, stderr=complaints, cwd=tmp_path)
    assert [await program.wait() for program in (one, other)] == [0, 0]
    assert (tmp_path / "complaints").read_text() == "error\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_it_can_be_signalled_and_stopped(tmp_path, number):
    (tmp_path / "waits.py").write_text(WAITS)
    program = await open_program("waits", [], cwd=tmp_path)
    assert await program.stdout.receive_some() == b"hi\n"
    program.send_signal(signal.SIGSTOP)
    program.send_signal(signal.SIGCONT)
    assert program.returncode is None
    program.send_signal(number)
    with trio.fail_after(PATIENCE):
        assert await program.wait() == program.returncode == -number
    program.send_signal(number)  # it has gone: nobody gets it
    assert "KeyboardInterrupt" in (await came_of(program))[2] or number != signal.SIGINT


async def test_it_is_killed_where_nobody_waits_for_it_any_more(tmp_path):
    (tmp_path / "waits.py").write_text(WAITS)
    program = await open_program("waits", [], cwd=tmp_path)
    screen = program.stdout
    with trio.fail_after(PATIENCE):
        assert await screen.receive_some() == b"hi\n"
        del program
        assert await screen.receive_some() == b""


def test_none_outlives_the_tests(tmp_path):
    (tmp_path / "waits.py").write_text(WAITS)
    test = """
import os, signal, sys, trio
from tests.forkserver import open_program
program = trio.run(lambda: open_program("waits", [], stdout=sys.stdout, cwd=sys.argv[1]))
os.kill(os.getpid(), signal.SIGKILL)
"""
    command = [sys.executable, "-c", test, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=PATIENCE, check=False)
    assert done.returncode == -signal.SIGKILL  # and nobody holds its output any more


async def test_nothing_is_left_open_in_any_process(tmp_path):
    (tmp_path / "counts.py").write_text("import os\nprint(len(os.listdir('/proc/self/fd')))")

    async def counted():
        code, said, _ = await came_of(await open_program("counts", [], cwd=tmp_path))
        assert code == 0
        return int(said), len(os.listdir("/proc/self/fd"))

    before = await counted()
    assert [await counted() for _ in range(3)] == [before] * 3
