"""Programs that need no start: forked, each one, from a process that waits in the wings with the package imported.

What comes of it is a process of its own, as `python -m MODULE` or `python FILE.py` would start it: with its arguments,
environment, folder and streams, its signals and exit codes; tests/test_wings.py compares. It costs a tenth. What a
program has not of its own are the seeds that the interpreter and trio take at a start, and it is not taken apart at
its end.

Tests use `open_program`; `python -m tests.forkserver` is who waits. What is run, and what for, is not known here.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Lock

import trio

ROOT = Path(__file__).parents[1]
IMPORTED = ("trio_chat.cli.main", "trio_chat.terminal.prompt")
LONGEST = 64 * 1024
"""How long a request may be: a module, its arguments, folder and environment, in bytes of JSON."""

# What programs run is measured where it is tested in the process of the tests; to measure them as well doubles their
# start, and would not survive a SIGKILL.
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")} | {
    "LC_ALL": "C.UTF-8"
}

# --- in the process of the tests ---


class Program:
    """A program in the manner of a `trio.Process`; it is killed where nobody waits for it any more."""

    def __init__(self, report, streams):
        self.pid = None
        self.stdin, self.stdout, self.stderr = streams
        self._report = report  # a number and no socket, for it may be forgotten
        self._code = None

    def __del__(self):
        if self._code is None:
            os.close(self._report)

    async def begin(self):
        await trio.lowlevel.wait_readable(self._report)
        self.pid = int(os.read(self._report, LONGEST))

    @property
    def returncode(self):
        """The exit code, or minus the signal that ended it; None while it runs."""
        if self._code is None:
            with suppress(BlockingIOError):
                self._code = int(os.read(self._report, LONGEST))
                os.close(self._report)
        return self._code

    async def wait(self):
        while self.returncode is None:
            await trio.lowlevel.wait_readable(self._report)
        return self.returncode

    def send_signal(self, number):
        if self.returncode is None:
            with suppress(ProcessLookupError):  # it has ended, and that is just being reported
                os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The process that waits, from the first request to the end of the tests."""

    def __init__(self):
        self._door = None
        self._lock = Lock()  # plays are performed in several threads

    def ask(self, request, fds):
        """Asks for a program with these three streams; to the last of the four is written its pid, then its code."""
        with self._lock:
            if self._door is None:
                self._open()
        socket.send_fds(self._door, [json.dumps(request).encode()], fds)

    def _open(self):
        self._door, door = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.forkserver", str(door.fileno())]
        how = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | {"cwd": ROOT, "env": ENVIRONMENT}
        with door:
            # A Ctrl-C is for the tests, at whose end the programs end as well: hence a session of its own.
            self._process = subprocess.Popen(command, pass_fds=[door.fileno()], start_new_session=True, **how)
        atexit.register(self._close)

    def _close(self):
        self._door.close()
        self._process.communicate()


_FORK_SERVER = ForkServer()


async def open_program(
    module, arguments, *, stdout=subprocess.PIPE, stderr=subprocess.PIPE, terminal=None, cwd=ROOT, env=ENVIRONMENT
):
    """Starts a module or file with a pipe as standard input; where the outputs go is told in the words of `Popen`.

    `terminal`, a file descriptor, takes the place of all three; the program has a session of its own, then.
    """
    if not hasattr(os, "pidfd_open"):  # only Linux has it
        return await open_from_scratch(
            module, arguments, stdout=stdout, stderr=stderr, terminal=terminal, cwd=cwd, env=env
        )
    theirs, ours = _streams(stdout, stderr) if terminal is None else ([os.dup(terminal) for _ in range(3)], [None] * 3)
    report, reports = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    report.setblocking(False)
    program = Program(report.detach(), ours)
    request = {"module": module, "arguments": list(map(str, arguments)), "cwd": str(cwd), "env": env}
    request["at_a_terminal"] = terminal is not None
    with reports:
        _FORK_SERVER.ask(request, [*theirs, reports.fileno()])
    for fd in theirs:
        os.close(fd)
    await program.begin()
    return program


async def open_from_scratch(
    module, arguments, *, stdout=subprocess.PIPE, stderr=subprocess.PIPE, terminal=None, cwd=ROOT, env=ENVIRONMENT
):
    """The same without the wings: the interpreter starts, and all is imported."""
    command = [sys.executable, *([] if is_file(module) else ["-m"]), module, *map(str, arguments)]
    how = {"stdin": subprocess.PIPE, "stdout": stdout, "stderr": stderr, "cwd": cwd, "env": env}
    if terminal is not None:
        how |= dict.fromkeys(("stdin", "stdout", "stderr"), terminal) | {"start_new_session": True}
    return await trio.lowlevel.open_process(command, **how)


def is_file(module):
    return module.endswith(".py")


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


# --- in the process that waits ---


def wait_for_requests(door):
    """Forks for each request. Returns, in the new process, what is asked for; in this one, when the tests end, None."""
    running = {}  # (pid, pidfd, where it is reported), by either of the two
    stirring = select.poll()
    stirring.register(door, select.POLLIN)
    while True:
        fd = stirring.poll()[0][0]
        if fd in running:
            pid, *fds = running[fd]
            if fd == fds[1]:  # nobody waits for it any more
                os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            tell(fds[1], os.waitstatus_to_exitcode(status))
            for fd in fds:
                del running[fd]
                stirring.unregister(fd)
                os.close(fd)
            continue
        request, fds, _, _ = socket.recv_fds(door, LONGEST, 4)
        if not request:
            for pid, *_ in running.values():
                os.kill(pid, signal.SIGKILL)
            return None
        if (pid := os.fork()) == 0:
            take_streams(fds, rest=[*fds, *running, door.detach()])
            return json.loads(request)
        *streams, report = fds
        for fd in streams:
            os.close(fd)
        tell(report, pid)
        end = os.pidfd_open(pid)
        for fd in (end, report):
            running[fd] = pid, end, report
            stirring.register(fd, select.POLLIN)


def tell(report, number):
    with suppress(BrokenPipeError):
        os.write(report, str(number).encode())


def take_streams(fds, rest):
    """In a new process: the first three are its standard streams, and nothing else stays open."""
    for number, fd in enumerate(fds[:3]):
        os.dup2(fd, number)
    for fd in rest:
        os.close(fd)


def become(module, arguments, cwd, env, at_a_terminal):
    """In a new process: this module or file, as if it had been started."""
    if at_a_terminal:
        os.setsid()
        for stream in (sys.stdin, sys.stdout):
            stream.reconfigure(line_buffering=sys.stderr.line_buffering)  # not so with PYTHONUNBUFFERED
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = [module, *arguments]
    ending = atexit.register(end_at_once, code := [1])
    try:
        if is_file(module):
            sys.path[0] = os.path.dirname(os.path.abspath(module))
            runpy.run_path(module, run_name="__main__")
        else:
            sys.path[0] = cwd
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        code[0] = 0
    except SystemExit as end:
        code[0] = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    except KeyboardInterrupt:  # at its very end it sends itself the signal
        atexit.unregister(ending)
        raise


def end_at_once(code):
    """The last thing at a program's exit: without it, the interpreter takes all apart, most of the program's time."""
    with suppress(OSError, ValueError):  # one is closed, or nobody reads: there is more to say
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(*code)


if __name__ == "__main__":
    for module in IMPORTED:
        importlib.import_module(module)
    gc.freeze()  # or else each program would look through all of it, and copy it, only to end
    if request := wait_for_requests(socket.socket(fileno=int(sys.argv[1]))):
        become(**request)
