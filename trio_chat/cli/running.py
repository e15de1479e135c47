"""Running a program of the command line to its end: errors as messages and exit codes.

Here, and nowhere else, exception groups are taken apart. The arguments are in main.py.
"""

import gc
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click
import trio

from trio_chat.cli.exit_codes import BY_SIGNAL, DONE, INTERRUPTED, Report, most_important
from trio_chat.errors import ChatError, NameTaken, WrongServerKey
from trio_chat.terminal.results import Failed, ProgramInterrupted, Renderer
from trio_chat.terminal.screen import Screen
from trio_chat.terminal.wordings import Phrasebook

if TYPE_CHECKING:
    from trio_chat.cli.client import ClientOptions
    from trio_chat.terminal.prompt import Prompt

_END_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""The system or its manager of services ends programs by the first, a terminal that is closed by the second."""


def run(
    program: Callable[[], Awaitable[int | None]],
    screen: "Screen | Prompt",
    renderer: Renderer,
    options: "ClientOptions | None" = None,
) -> int:
    """Run a program to its end, report the error that ended it, and return the exit code.

    SIGTERM and SIGHUP cancel it, so that it closes its files; if it is a client, the server is told. After either, a
    SIGTERM kills it.

    `options`: if it is a client, those from which it takes its files.
    """
    code = DONE
    error: BaseException | None = None
    report: Report = "nothing"
    gc.enable()
    try:
        code = trio.run(_run_until_told_to_end, program, options)
    # Several tasks may fail at once. What else is in the group is a bug, and comes out of here with a traceback.
    except* (ChatError, OSError, KeyboardInterrupt) as group:
        error, code, report = most_important(group)
    if report == "screen":
        for line in renderer.render(Failed(error) if isinstance(error, ChatError) else ProgramInterrupted()):
            screen.show(line)
    # Before anything is written to standard error, which may be the same terminal.
    screen.close()
    if report == "raise" and error is not None:
        raise error
    if report == "stderr":
        hint = "--server-key is wrong: " if isinstance(error, WrongServerKey) else ""
        complain(f"{hint}{error}")
    elif isinstance(error, NameTaken) and options and (hint := options.hint_if_taken()):
        complain(hint)
    return code


async def _run_until_told_to_end(program: Callable[[], Awaitable[int | None]], options: "ClientOptions | None") -> int:
    token, told = trio.lowlevel.current_trio_token(), trio.Event()
    code = DONE

    def end(number: int, frame: object) -> None:
        nonlocal code
        code = BY_SIGNAL + number
        # A program that waits in a write, because nobody reads, cannot end by itself: let the next SIGTERM kill it.
        # This is why trio.open_signal_receiver is not used: it needs a task that runs.
        # But a terminal that is closed sends SIGHUP twice within a millisecond, once by its shell and once by the
        # system: the second one killed a client before the server was told.
        for each in taken:
            signal.signal(each, signal.SIG_DFL if each == signal.SIGTERM else signal.SIG_IGN)
        token.run_sync_soon(told.set)

    async def cancel_when_told() -> None:
        await told.wait()
        if options:
            await options.leave()
        nursery.cancel_scope.cancel()

    # What is ignored stays so: nohup has programs go on without their terminal. And in a thread of another program,
    # signals are not ours.
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _END_SIGNALS if is_main}
    taken = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    for number in taken:
        signal.signal(number, end)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_when_told)
            ended_with = await program() or DONE
            code = code or ended_with  # told to end, it may end by itself
            nursery.cancel_scope.cancel()
    finally:
        for number in taken:
            signal.signal(number, before[number])
    return code


def complain(text: str) -> None:
    """Write a line to standard error, after the name of the command."""
    click.echo(f"{click.get_current_context().command_path}: {text}", err=True)


def watch(program: Callable[[], Awaitable[None]], screen: Screen | None = None) -> int:
    """Run a program that reads no input and usually ends by Ctrl-C."""
    code = run(program, screen or Screen(sys.stdout), Phrasebook())
    if code == INTERRUPTED and sys.stderr is not None and sys.stderr.isatty():
        click.echo(err=True)  # or else the shell's prompt would follow the terminal's ^C on the same line
    return code
