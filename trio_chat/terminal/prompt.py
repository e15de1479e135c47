"""The prompt at a real terminal: a line is typed below, and others are said above it, by a thread of its own.

The task that runs it owns its life. What the lines mean is not known here.
"""

import asyncio
import logging
import os
import sys
import termios
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TextIO, cast

import outcome
import trio
from prompt_toolkit.application import in_terminal
from prompt_toolkit.data_structures import Size
from prompt_toolkit.formatted_text import StyleAndTextTuples, fragment_list_to_text
from prompt_toolkit.history import History
from prompt_toolkit.input import Input
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.renderer import print_formatted_text
from prompt_toolkit.styles import Style

from trio_chat.terminal.editor import Editor, Interrupted, Keyboard, TypedLines
from trio_chat.terminal.screen import PROMPT
from trio_chat.terminal.styling import Line, LineStyle, styled
from trio_chat.terminal.wordings import Phrase, Phrasebook, escape

__all__ = ["Prompt", "Tty", "open_prompt"]

PAUSE = 0.05
"""In seconds; what is said meanwhile is printed in one go."""
ROOM = 64 * 1024
"""How many characters may wait to be printed before nothing more is taken from the chat."""
GRACE = 2.0
"""How long, in seconds, a terminal that takes no output is waited for at the end."""

_STYLE = Style([])
_Mode = list[int | list[bytes | int]]


def open_prompt(book: Phrasebook, history: Path | None, *, bell: bool) -> "Prompt":
    """The prompt at standard input and output, which must be one terminal. `history`: the file of what was typed."""
    return Prompt(
        Keyboard(sys.stdin),
        Tty(sys.stdout.fileno(), sys.stdout.encoding),
        lambda count: "".join(book.lines(Phrase.PASTE, count=count)),
        history=None if history is None else TypedLines(history),
        colours=not os.environ.get("NO_COLOR"),
        bell=bell,
        logs=sys.stderr is not None and sys.stderr.isatty(),
    )


class Tty:
    """The output of a terminal, as prompt_toolkit wants it. `hold` makes one write of many: nothing flickers."""

    def __init__(self, fd: int, encoding: str = "utf-8") -> None:
        self.encoding = encoding
        self._fd = fd
        self._text: list[str] = []
        self._is_held = False

    def fileno(self) -> int:
        """The file descriptor."""
        return self._fd

    def size(self) -> Size:
        """Rows and columns; 24 and 80 where they cannot be told."""
        with suppress(OSError):
            columns, rows = os.get_terminal_size(self._fd)
            if columns and rows:
                return Size(rows, columns)
        return Size(24, 80)

    def write(self, text: str) -> None:
        """Keep it for the next flush."""
        self._text.append(text)

    def flush(self) -> None:
        """Write what there is, unless it is held. Takes as long as the terminal is stopped."""
        if self._is_held:
            return
        data = "".join(self._text).encode(self.encoding, "backslashreplace")
        self._text.clear()
        # Where the terminal was hung up, the keyboard will tell.
        with suppress(OSError):
            while data:
                data = data[os.write(self._fd, data) :]

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Until the end of the block nothing is written, then everything at once."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            self.flush()


class _Log(logging.Handler):
    """Says what is logged, which would tear the typed line if it went to the terminal by itself."""

    def __init__(self, say: Callable[[str], object]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Say it, each line as one."""
        for text in self.format(record).splitlines():
            self._say(Line(escape(text), LineStyle.TROUBLE))

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Until the end of the block, everything that is logged comes here."""
        root = logging.getLogger()
        root.addHandler(self)
        try:
            yield
        finally:
            root.removeHandler(self)


class Prompt:
    """The prompt: `run` takes lines until the end of input, `say` shows others above the one that is being typed.

    Before and after `run`, lines are printed as they are said.

    Args:
        keyboard, tty: the terminal.
        question: asks whether so many pasted lines are to be sent.
        history: what was typed before; None is nothing.
        colours: whether lines have colours and other styles.
        bell: whether a line that is for the owner above all rings.
        logs: whether what is logged is said.
    """

    def __init__(
        self,
        keyboard: Input,
        tty: Tty,
        question: Callable[[int], str],
        *,
        history: History | None = None,
        colours: bool = True,
        bell: bool = True,
        logs: bool = False,
    ) -> None:
        self.names: Callable[[], Iterable[str]] = tuple
        """Gives the names that can be completed; called by trio's thread."""
        self._keyboard, self._tty = keyboard, tty
        self._colours, self._bell, self._logs = colours, bell, logs
        self._output = Vt100_Output(cast(TextIO, tty), tty.size, term=os.environ.get("TERM"), enable_cpr=False)
        self._editor = Editor(
            keyboard,
            self._output,
            submit=self._submit,
            names=lambda: trio.from_thread.run_sync(lambda: sorted(self.names(), key=str.lower)),
            question=question,
            history=history,
            colours=colours,
        )
        # What both threads change is guarded by the lock; a deque guards itself.
        self._lock = threading.Lock()
        self._is_up = self._is_ending = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._said: list[str] = []
        self._waiting = 0
        self._typed: deque[str] = deque()
        self._something_said = asyncio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._news = trio.lowlevel.ParkingLot()
        self._typing_has_ended = False

    # --- for the program, in trio's thread ---

    def say(self, line: str) -> None:
        """Show a line above the prompt, soon. May be called by any thread."""
        with self._lock:
            if self._is_up:
                self._said.append(line)
                self._waiting += len(line)
                if len(self._said) == 1:
                    self._call(self._something_said.set)
                return
        self._print([line])

    async def room(self) -> None:
        """Wait until not too much waits to be printed: a terminal may be slow, or stopped."""
        await trio.lowlevel.checkpoint()
        while self._is_up and self._waiting > ROOM:
            await self._news.park()

    def close(self) -> None:
        """Nothing is left to be done: the prompt went away with `run`."""

    async def run(
        self, lines: trio.MemorySendChannel[str], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Send the lines that are typed to the channel, and close the channel at the end of input.

        However this ends, the terminal is as it was, everything that was said is printed, and the prompt is gone; but
        a terminal that takes no output is not waited for longer than GRACE.

        Raises KeyboardInterrupt at Ctrl-C.
        """
        mode = _mode(self._keyboard)
        self._token = trio.lowlevel.current_trio_token()
        self._is_up = True
        life = trio.CancelScope(shield=True)
        with _Log(self.say).attached() if self._logs else nullcontext():
            async with lines, trio.open_nursery() as nursery:
                nursery.start_soon(self._hand_on, lines)
                nursery.start_soon(self._end_with_this_task, life)
                task_status.started()
                ended: outcome.Outcome[None] = outcome.Value(None)
                with life:
                    ended = await trio.to_thread.run_sync(outcome.capture, self._edit, abandon_on_cancel=True)
                self._stop(mode if life.cancelled_caught else None)
                try:
                    ended.unwrap()
                except EOFError:
                    pass
                except Interrupted:
                    raise KeyboardInterrupt from None

    async def _hand_on(self, lines: trio.MemorySendChannel[str]) -> None:
        while True:
            while self._typed:
                await lines.send(self._typed.popleft())
            if not self._is_up:
                return
            await self._news.park()

    async def _end_with_this_task(self, life: trio.CancelScope) -> None:
        try:
            while self._is_up:
                await self._news.park()
        finally:
            life.deadline = trio.current_time() + GRACE
            with self._lock:
                self._is_ending = True
                self._call(self._exit)

    def _stop(self, mode: _Mode | None) -> None:
        """The thread has ended, or is stuck: then it does not restore the mode of the terminal."""
        with self._lock:
            self._is_up = False
            self._said.clear()
            self._waiting = 0
        self._news.unpark_all()
        if mode is not None:
            termios.tcsetattr(self._keyboard.fileno(), termios.TCSANOW, mode)

    # --- in the thread ---

    def _edit(self) -> None:
        try:
            self._editor.run(self._pre_run)
        finally:
            # Here and not in trio's thread, for a stopped terminal takes as long as it likes.
            self._print_the_rest()

    def _print_the_rest(self) -> None:
        while self._is_up:
            self._print_said()
            with self._lock:
                self._loop = None
                self._is_up = bool(self._said)

    def _pre_run(self) -> None:
        # What was typed before is read, but the terminal has echoed it, too.
        self._output.write_raw("\r")
        self._output.erase_end_of_line()
        with self._lock:
            self._loop = asyncio.get_running_loop()
            if self._said:
                self._something_said.set()
            # Whoever ended it before it was up found no loop to call.
            if self._is_ending:
                self._exit()
        self._editor.app.create_background_task(self._show()).add_done_callback(self._exit_if_failed)

    async def _show(self) -> None:
        while True:
            await self._something_said.wait()
            self._something_said.clear()
            with self._tty.hold():
                async with in_terminal():
                    size = self._print_said()
            with self._lock:
                self._waiting -= size
            self._tell_trio()
            await asyncio.sleep(PAUSE)

    def _print_said(self) -> int:
        with self._lock:
            lines, self._said = self._said, []
        self._print(lines)
        return sum(map(len, lines))

    def _exit(self) -> None:
        if self._editor.app.is_running and not self._editor.app.is_done:
            self._editor.app.exit()

    def _exit_if_failed(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) and not self._editor.app.is_done:
            self._editor.app.exit(exception=error)

    def _submit(self, lines: list[str]) -> None:
        for line in lines:
            self.say(escape(line))
        self._typed.extend(lines)
        self._tell_trio()

    # --- in any thread ---

    def _call(self, function: Callable[[], object]) -> None:
        """Have it called in the thread; the lock is held."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(function)

    def _tell_trio(self) -> None:
        # Where the thread was stuck, nobody may be there any more.
        with suppress(trio.RunFinishedError):
            if self._token is not None:
                self._token.run_sync_soon(self._news.unpark_all)

    def _print(self, lines: list[str]) -> None:
        fragments: StyleAndTextTuples = [
            fragment for line in lines for fragment in (("dim", PROMPT), *styled(line), ("", "\n"))
        ]
        if not self._colours:
            fragments = [("", fragment_list_to_text(fragments))]
        if self._bell and any(isinstance(line, Line) and line.rings for line in lines):
            self._output.bell()
        print_formatted_text(self._output, fragments, _STYLE)


def _mode(keyboard: Input) -> _Mode | None:
    with suppress(termios.error):
        return termios.tcgetattr(keyboard.fileno())
    return None
