"""The prompt at a real terminal: a line is typed at the bottom, and other lines are shown above it.

prompt_toolkit runs in a thread of its own; the trio task in `Prompt.run` owns that thread. Keys and editing are in
editor.py. What the lines mean is not known here.
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

from trio_chat.protocol.records import fold
from trio_chat.terminal.editor import Editor, Interrupted, Keyboard, TypedLines
from trio_chat.terminal.screen import PROMPT
from trio_chat.terminal.styling import Line, LineStyle, styled
from trio_chat.terminal.wordings import Phrasebook, escape

PRINT_INTERVAL = 0.05
"""In seconds; what is shown meanwhile is printed in one go."""
MAX_UNPRINTED = 64 * 1024
"""How many characters may wait to be printed before nothing more is taken from the chat."""
GRACE = 2.0
"""How long, in seconds, the end waits for a terminal that takes no output."""

_STYLE = Style([])
_Mode = list[int | list[bytes | int]]


def open_prompt(book: Phrasebook, history: Path | None, *, bell: bool) -> "Prompt":
    """The prompt at standard input and output, which must be one terminal. `history`: the file of typed lines."""
    return Prompt(
        Keyboard(sys.stdin),
        Tty(sys.stdout.fileno(), sys.stdout.encoding),
        book.paste_question,
        book.paste_dropped,
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
        """Rows and columns; 24 and 80 if the terminal gives no size."""
        with suppress(OSError):
            columns, rows = os.get_terminal_size(self._fd)
            if columns and rows:
                return Size(rows, columns)
        return Size(24, 80)

    def write(self, text: str) -> None:
        """Keep it for the next flush."""
        self._text.append(text)

    def flush(self) -> None:
        """Write what was kept, unless it is held. Blocks while the terminal is stopped (Ctrl-S)."""
        if self._is_held:
            return
        data = "".join(self._text).encode(self.encoding, "backslashreplace")
        self._text.clear()
        # Where the terminal was hung up, the keyboard reads the end of input, which ends the prompt.
        with suppress(OSError):
            while data:
                data = data[os.write(self._fd, data) :]

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Write nothing until the end of the block, then everything at once."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            self.flush()


class _Output(Vt100_Output):
    """What prompt_toolkit writes to the terminal."""

    def erase_down(self) -> None:
        """Erase all from the cursor on."""
        # tmux takes an erasure that begins in the first column of the first row as that of the whole screen, and keeps
        # what was there above it: after Ctrl-L, each message that comes would leave a copy of the typed line. So it
        # begins one column further on, and what is left of the row is erased afterwards (ESC 7, 8: the cursor is back).
        self.write_raw("\x1b7\x1b[C\x1b[J\x1b8\x1b[K")


class _Log(logging.Handler):
    """Shows log records as lines: written to the terminal directly, they would tear the line that is typed."""

    def __init__(self, show: Callable[[Line], object]) -> None:
        super().__init__()
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        """Show each line of a record."""
        for text in self.format(record).splitlines():
            self._show(Line(escape(text), LineStyle.ERROR))

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Take everything that is logged until the end of the block."""
        root = logging.getLogger()
        root.addHandler(self)
        try:
            yield
        finally:
            root.removeHandler(self)


class Prompt:
    """The prompt: `run` takes lines until the end of input, `show` prints others above the one that is being typed.

    Before and after `run`, `show` prints at once.

    Args:
        keyboard, tty: the terminal.
        question: makes the question whether so many pasted lines are to be sent, and with which command, if with one.
        dropped: makes the lines that say that they were not.
        history: the lines that were typed before; None for nothing.
        colours: whether lines have colours and other styles.
        bell: whether a line with `rings` rings.
        logs: whether log records are shown.
    """

    def __init__(
        self,
        keyboard: Input,
        tty: Tty,
        question: Callable[[int, str], str],
        dropped: Callable[[int], Iterable[Line]],
        *,
        history: History | None = None,
        colours: bool = True,
        bell: bool = True,
        logs: bool = False,
    ) -> None:
        self.names: Callable[[], Iterable[str]] = tuple
        """Gives the names of people that can be completed; called by trio's thread."""
        self.rooms: Callable[[], Iterable[str]] = tuple
        """The same for rooms."""
        self._keyboard, self._tty, self._dropped = keyboard, tty, dropped
        self._colours, self._bell, self._logs = colours, bell, logs
        self._output = _Output(cast(TextIO, tty), tty.size, term=os.environ.get("TERM"), enable_cpr=False)
        self._editor = Editor(
            keyboard,
            self._output,
            submit=self._submit,
            names=lambda: trio.from_thread.run_sync(lambda: sorted(self.names(), key=fold)),
            rooms=lambda: trio.from_thread.run_sync(lambda: sorted(self.rooms(), key=fold)),
            question=question,
            dropped=self._show_dropped,
            history=history,
            colours=colours,
        )
        # The lock guards what both threads change: these five. `_loop` is the loop of the thread, while it takes calls.
        self._lock = threading.Lock()
        self._is_up, self._is_ending, self._unprinted_size = False, False, 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._unprinted: list[Line] = []
        self._typed: deque[str] = deque()  # it needs no lock: one thread appends, the other one pops
        self._wants_printing = asyncio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._changed = trio.lowlevel.ParkingLot()

    # --- for the program, in trio's thread ---

    def show(self, line: Line) -> None:
        """Print a line above the prompt, soon. May be called by any thread."""
        with self._lock:
            if self._is_up:
                self._unprinted.append(line)
                self._unprinted_size += len(line.text)
                # One call for all lines until they are printed: a call per line would be a system call per line.
                if len(self._unprinted) == 1:
                    self._call(self._wants_printing.set)
                return
        self._print([line])

    async def ready(self) -> None:
        """Wait until not too much waits to be printed: a terminal may be slow, or stopped."""
        await trio.lowlevel.checkpoint()
        while self._is_up and self._unprinted_size > MAX_UNPRINTED:
            await self._changed.park()

    def close(self) -> None:
        """Do nothing: `run` has removed the prompt. For a `Screen` there is something to do."""

    async def run(
        self, lines: trio.MemorySendChannel[str], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Send the lines that are typed to the channel, and close the channel at the end of input.

        However this ends, everything that was shown is printed, the prompt is gone, and the mode of the terminal is as
        before; but a terminal that takes no output is not waited for longer than GRACE.

        Raises KeyboardInterrupt at Ctrl-C.
        """
        mode: _Mode | None = None
        with suppress(termios.error):  # a terminal that is already hung up has no mode
            mode = termios.tcgetattr(self._keyboard.fileno())
        self._token = trio.lowlevel.current_trio_token()
        self._is_up = True
        # Shielded, since a cancelled task must still wait until its thread has left the terminal in order. Only the
        # deadline that _end_with_this_task sets abandons the thread.
        wait_for_thread = trio.CancelScope(shield=True)
        with _Log(self.show).attached() if self._logs else nullcontext():
            async with lines, trio.open_nursery() as nursery:
                nursery.start_soon(self._send_typed, lines)
                nursery.start_soon(self._end_with_this_task, wait_for_thread)
                task_status.started()
                ended: outcome.Outcome[None] = outcome.Value(None)
                with wait_for_thread:
                    # Captured: whatever the editor raises, _stop comes first.
                    ended = await trio.to_thread.run_sync(outcome.capture, self._edit, abandon_on_cancel=True)
                self._stop(mode if wait_for_thread.cancelled_caught else None)
                try:
                    ended.unwrap()
                except EOFError:
                    pass
                except Interrupted:
                    raise KeyboardInterrupt from None

    async def _send_typed(self, lines: trio.MemorySendChannel[str]) -> None:
        while True:
            # Asked before the lines are sent, not after: the thread may submit one more and end in between.
            is_up = self._is_up
            while self._typed:
                await lines.send(self._typed.popleft())
            if not is_up:
                return
            await self._changed.park()

    async def _end_with_this_task(self, wait_for_thread: trio.CancelScope) -> None:
        try:
            while self._is_up:
                await self._changed.park()
        finally:
            # `run` is cancelled, or the thread has ended by itself; then nothing of this has an effect.
            wait_for_thread.deadline = trio.current_time() + GRACE
            with self._lock:
                self._is_ending = True
                self._call(self._exit)

    def _stop(self, mode: _Mode | None) -> None:
        """Nothing waits any more. `mode`: the thread was abandoned, so it does not restore the terminal's mode."""
        with self._lock:
            self._is_up = False
            self._unprinted.clear()
            self._unprinted_size = 0
        self._changed.unpark_all()
        if mode is not None:
            # TCSANOW: the others wait until the output is drained, and that is what the thread is stuck in.
            termios.tcsetattr(self._keyboard.fileno(), termios.TCSANOW, mode)

    # --- in the thread ---

    def _edit(self) -> None:
        try:
            self._editor.run(self._pre_run)
        finally:
            # Here, not in trio's thread: a stopped terminal would block the program, and SIGTERM would do nothing.
            self._print_rest()

    def _print_rest(self) -> None:
        while self._is_up:
            self._print_unprinted()
            # Under the lock: `show` either has added a line, which is printed in the next round, or prints by itself.
            with self._lock:
                self._is_up = bool(self._unprinted)

    def _pre_run(self) -> None:
        # Keys typed before raw mode will still be read, but the terminal has echoed them: erase that echo.
        self._output.write_raw("\r")
        self._output.erase_end_of_line()
        with self._lock:
            self._loop = asyncio.get_running_loop()
            # Calls from before there was a loop had no effect: make up for both.
            if self._unprinted:
                self._wants_printing.set()
            if self._is_ending:
                self._exit()
        self._editor.app.create_background_task(self._print_loop()).add_done_callback(self._print_loop_has_ended)

    async def _print_loop(self) -> None:
        while True:
            await self._wants_printing.wait()
            self._wants_printing.clear()
            # Held: the prompt is erased, lines are printed and the prompt is drawn again, in one write.
            with self._tty.hold():
                async with in_terminal():
                    size = self._print_unprinted()
            # Only now, after the write that may have blocked, there is room for more.
            with self._lock:
                self._unprinted_size -= size
            self._tell_trio()
            await asyncio.sleep(PRINT_INTERVAL)

    def _print_loop_has_ended(self, task: "asyncio.Task[None]") -> None:
        # The application ends its background tasks before its loop is closed, and a closed loop refuses calls: a line
        # that is shown at that moment would raise RuntimeError in trio's thread.
        with self._lock:
            self._loop = None
        # prompt_toolkit would only log the error, and the prompt would stay, without any output.
        if not task.cancelled() and (error := task.exception()) and not self._editor.app.is_done:
            self._editor.app.exit(exception=error)

    def _print_unprinted(self) -> int:
        # Taken under the lock and printed without it: printing may block, and `show` must not.
        with self._lock:
            lines, self._unprinted = self._unprinted, []
        self._print(lines)
        return sum(len(line.text) for line in lines)

    def _exit(self) -> None:
        # Ctrl-C or Ctrl-D may have been quicker, and `exit` raises if it is called twice.
        if self._editor.app.is_running and not self._editor.app.is_done:
            self._editor.app.exit()

    def _submit(self, lines: list[str]) -> None:
        # Shown before the command is done, so that its result comes below it.
        for line in lines:
            self.show(Line(escape(line)))
        self._typed.extend(lines)
        self._tell_trio()

    def _show_dropped(self, count: int) -> None:
        for line in self._dropped(count):
            self.show(line)

    # --- in any thread ---

    def _call(self, function: Callable[[], object]) -> None:
        """Have it called in the thread. Only with the lock held, or the loop may be closed meanwhile."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(function)

    def _tell_trio(self) -> None:
        # A thread that was abandoned may go on when the program has left trio.
        with suppress(trio.RunFinishedError):
            if self._token is not None:
                self._token.run_sync_soon(self._changed.unpark_all)

    def _print(self, lines: list[Line]) -> None:
        fragments: StyleAndTextTuples = [
            fragment for line in lines for fragment in (("dim", PROMPT), *styled(line), ("", "\n"))
        ]
        if not self._colours:
            fragments = [("", fragment_list_to_text(fragments))]
        if self._bell and any(line.rings for line in lines):
            self._output.bell()
        print_formatted_text(self._output, fragments, _STYLE)
