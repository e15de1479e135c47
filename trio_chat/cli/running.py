"""Running a program of the command line to its end: errors as messages and exit codes.

Here, and nowhere else, exception groups are taken apart. The arguments are in main.py.
"""

import gc
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click
import trio

from trio_chat.cli.exit_codes import DONE, INTERRUPTED, Report, most_important
from trio_chat.errors import ChatError, NameTaken, WrongServerKey
from trio_chat.terminal.results import Failed, ProgramInterrupted, Renderer
from trio_chat.terminal.screen import Screen
from trio_chat.terminal.wordings import Phrasebook

if TYPE_CHECKING:
    from trio_chat.cli.client import ClientOptions
    from trio_chat.terminal.prompt import Prompt


def run(
    program: Callable[[], Awaitable[int | None]],
    screen: "Screen | Prompt",
    renderer: Renderer,
    options: "ClientOptions | None" = None,
) -> int:
    """Run a program to its end, report the error that ended it, and return the exit code.

    `options`: if it is a client, those from which it takes its files.
    """
    code: int | None = DONE
    error: BaseException | None = None
    report: Report = "nothing"
    gc.enable()
    try:
        code = trio.run(program)
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
    return code or DONE


def complain(text: str) -> None:
    """Write a line to standard error, after the name of the command."""
    click.echo(f"{click.get_current_context().command_path}: {text}", err=True)


def watch(program: Callable[[], Awaitable[None]], screen: Screen | None = None) -> int:
    """Run a program that reads no input and usually ends by Ctrl-C."""
    code = run(program, screen or Screen(sys.stdout), Phrasebook())
    if code == INTERRUPTED and sys.stderr is not None and sys.stderr.isatty():
        click.echo(err=True)  # or else the shell's prompt would follow the terminal's ^C on the same line
    return code
