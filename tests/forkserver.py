"""Starts test programs from `multiprocessing`'s fork server, which has imported the package: 10 times faster.

Arguments, environment, folder, streams, signals and exit codes are those of `python -m MODULE` or `python FILE.py`.
Three differences: all programs share the interpreter's hash seed and trio's random seed, exit handlers do not run, and
no thread outlives the main one. What the programs do is not known here.
"""

import ctypes
import gc
import os
import runpy
import signal
import subprocess
import sys
import traceback
from contextlib import suppress
from multiprocessing import connection, forkserver, get_context
from pathlib import Path
from threading import Lock
from unittest.mock import patch

import trio

ROOT = Path(__file__).parents[1]
PR_SET_PDEATHSIG = 1
MOST_FDS = 256
"""More file descriptors than the fork server can have handed to a new process."""

# Coverage is measured in the process of the tests: in programs it would double their start, and be lost in a SIGKILL.
# And whether a program flushes what it prints must not depend on who runs the tests.
_LEFT_OUT = ("COVERAGE_", "PYTHONUNBUFFERED")
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(_LEFT_OUT)} | {"LC_ALL": "C.UTF-8"}

_context = get_context("forkserver")
# A module of the command line imports its program only when it runs: so they are named here.
_PROGRAMS = ("client", "send_queue", "server", "asking", "presence", "demo")
_context.set_forkserver_preload(
    [
        __name__,
        "trio_chat.cli.main",
        *(f"trio_chat.cli.{program}" for program in _PROGRAMS),
        "trio_chat.terminal.prompt",
    ]
)
# Tests start programs in several threads. Each start makes `multiprocessing` look for the exit codes of all programs,
# and an exit code can be read only once.
_lock = Lock()


class Process:
    """A process, with the methods of a `trio.Process` that tests use."""

    def __init__(self, process, streams):
        self.stdin, self.stdout, self.stderr = streams
        self.pid = process.pid
        self._process = process

    @property
    def returncode(self):
        """The exit code, or minus the signal that ended it; None while it runs."""
        with _lock:
            return self._process.exitcode

    async def wait(self):
        while self.returncode is None:
            await trio.lowlevel.wait_readable(self._process.sentinel)
        return self.returncode

    def send_signal(self, number):
        if self.returncode is None:
            with suppress(ProcessLookupError):  # it has ended, and the fork server is about to tell
                os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


async def open_program(
    module, arguments, *, stdout=subprocess.PIPE, stderr=subprocess.PIPE, terminal=None, cwd=ROOT, env=ENVIRONMENT
):
    """Starts a module or file with a pipe as standard input. `stdout` and `stderr` are as for `subprocess.Popen`.

    `terminal`, a file descriptor, is used for all three instead; the program then has a session of its own.
    """
    theirs, ours = _streams(stdout, stderr) if terminal is None else ([os.dup(terminal) for _ in range(3)], [None] * 3)
    streams = [connection.Connection(fd) for fd in theirs]  # which `multiprocessing` can hand over
    request = (streams, module, list(map(str, arguments)), str(cwd), env, terminal is not None)
    process = _context.Process(target=_become, args=request, daemon=True)
    with _lock:
        with patch.dict(os.environ, ENVIRONMENT, clear=True):
            forkserver.ensure_running()
        process.start()
    for stream in streams:
        stream.close()
    return Process(process, ours)


async def open_from_scratch(
    module,
    arguments,
    *,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    terminal=None,
    cwd=ROOT,
    env=ENVIRONMENT,
    on=(),
):
    """The same with a new interpreter. `on`: a command that runs the one that follows it."""
    streams = {"stdin": subprocess.PIPE, "stdout": stdout, "stderr": stderr}
    if terminal is not None:
        streams = dict.fromkeys(streams, terminal) | {"start_new_session": True}
    command = [*on, sys.executable, "-m", module, *map(str, arguments)]
    return await trio.lowlevel.open_process(command, **streams, cwd=cwd, env=env)


def _streams(stdout, stderr):
    """The program's ends of its three streams, and ours."""
    stdin, keyboard = os.pipe()
    theirs, ours = [stdin], [trio.lowlevel.FdStream(keyboard)]
    for wanted in (stdout, stderr):
        our = None
        match wanted:
            case subprocess.PIPE:
                screen, their = os.pipe()
                our = trio.lowlevel.FdStream(screen)
            case subprocess.STDOUT:
                their = os.dup(theirs[1])
            case subprocess.DEVNULL:
                their = os.open(os.devnull, os.O_WRONLY)
            case file:
                their = os.dup(file.fileno())
        theirs.append(their)
        ours.append(our)
    return theirs, ours


def _become(streams, module, arguments, cwd, env, at_a_terminal):
    """In the new process: runs the module or file as if it had been started. Does not return."""
    gc.freeze()  # each collection would go through all that is imported, and so copy its memory
    if sys.platform == "linux":
        # The fork server ends when the process of the tests does, even if that is killed. So no program outlives it.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    os.closerange(3, MOST_FDS)  # what holds the fork server alive as long as a program runs, among them
    is_line_buffered = at_a_terminal or "PYTHONUNBUFFERED" in env
    sys.stdin = os.fdopen(0, encoding="utf-8")
    sys.stdout = os.fdopen(1, "w", 1 if is_line_buffered else -1, encoding="utf-8")
    sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace")
    if at_a_terminal:
        os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = [module, *arguments]
    code = 0
    try:
        if module.endswith(".py"):
            sys.path[0] = os.path.dirname(os.path.abspath(module))
            runpy.run_path(module, run_name="__main__")
        else:
            sys.path[0] = cwd
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException as error:
        traceback.print_exc()
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
    with suppress(OSError, ValueError):  # closed, or nobody reads
        sys.stdout.flush()
    os._exit(code)  # to free everything at the interpreter's end takes most of the time of a short program
