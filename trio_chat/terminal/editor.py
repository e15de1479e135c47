"""The line that is typed at a real terminal: editing, completion, history, and pastes of several lines.

What the lines do is not known here, and what is shown above them is in prompt.py, whose thread runs all of this.
"""

import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application, run_in_terminal
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.history import History
from prompt_toolkit.input import Input
from prompt_toolkit.input.vt100 import Vt100Input, cooked_mode
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import ColorDepth, Output

from trio_chat.protocol.records import fold
from trio_chat.terminal.commands import COMMANDS
from trio_chat.terminal.screen import PROMPT
from trio_chat.terminal.styling import LINE_END

MAX_KEPT_LINES = 1000
"""How many typed lines are kept, the latest ones; the file may have up to twice as many."""
MAX_KEPT_LENGTH = 1000
"""In characters; a longer line is not kept."""
RESIZE_POLLING = 0.1
"""How often, in seconds, the size of the terminal is read: Python handles SIGWINCH only in the main thread."""
SUSPEND_DELAY = 0.1
"""In seconds. SIGTSTP may be taken by another thread, and the terminal's mode must last until it has stopped us all."""
MENU_ROWS = 5
"""How many rows the completions get."""

_NO = ("n", "N", Keys.Escape, Keys.ControlD, Keys.ControlM, Keys.ControlJ)
"""These mean no and nothing else. Any other key but y means no, too, and then what it always means."""
_NAMES_FOLLOW = ("send", "trust", "block", "unblock", "history", "invite", "remove", "owners")
_ROOMS_FOLLOW = ("join_group", "leave_group", "list_members")
_SENDS_TO = re.compile(r"\s*(?:send +\S+ |send_all |send_group )", re.IGNORECASE)


class Interrupted(Exception):
    """Ctrl-C was typed in an empty line."""


class Keyboard(Vt100Input):
    """The keys of a terminal, which stays raw while lines are printed: keys typed meanwhile must not be echoed."""

    def cooked_mode(self) -> AbstractContextManager[None]:
        """Do nothing. prompt_toolkit calls this while something is printed above the prompt."""
        return nullcontext()


class TypedLines(History):
    """The lines that were typed, in a file that only its owner may read (mode 0600), oldest first. Its folder is there.

    They are a convenience: if the file cannot be read or written, there is no history, and nothing fails.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def load_history_strings(self) -> Iterable[str]:
        """The lines that are kept, latest first."""
        with suppress(OSError):
            lines = list(self._read())
            if len(lines) > 2 * MAX_KEPT_LINES:
                self._replace(lines[-MAX_KEPT_LINES:])
            return reversed(lines[-MAX_KEPT_LINES:])
        return ()

    def store_string(self, string: str) -> None:
        """Keep one more line."""
        if len(string) > MAX_KEPT_LENGTH or not string.isprintable():
            return
        with suppress(OSError):
            self._write(self._path, [string], os.O_APPEND)

    def _read(self) -> Iterator[str]:
        size = self._path.stat().st_size
        with self._path.open("rb") as file:
            # Only the end (a character has at most 4 bytes): somebody may have made the file very large.
            file.seek(max(0, size - 4 * MAX_KEPT_LENGTH * MAX_KEPT_LINES))
            for line in file:
                text = line.decode(errors="replace").rstrip("\n")
                if text and text.isprintable():
                    yield text

    def _replace(self, lines: list[str]) -> None:
        # The name is our own, since two clients may share the file; `replace` leaves no moment without a file.
        new = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        self._write(new, lines, os.O_TRUNC)
        new.replace(self._path)

    def _write(self, path: Path, lines: list[str], how: int) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600)
        # Unbuffered: one write for each line, so that lines of two clients do not mix (O_APPEND).
        with open(fd, "wb", buffering=0) as file:
            os.fchmod(fd, 0o600)  # the file may be older than this rule
            file.write("".join(f"{line}\n" for line in lines).encode(errors="replace"))


class Editor:
    """The line that is typed, and the keys that change it.

    Args:
        keyboard, output: the terminal.
        submit: takes finished lines: one, or those of a paste.
        names, rooms: return the names of people and of rooms that can be completed; called by the running thread.
        question: makes the question whether to send that number of pasted lines, and with which command, if with one.
        dropped: called with that number if they are not sent.
        history: the lines that were typed before; None for nothing.
        colours: whether there are any.
    """

    def __init__(
        self,
        keyboard: Input,
        output: Output,
        *,
        submit: Callable[[list[str]], object],
        names: Callable[[], Iterable[str]],
        rooms: Callable[[], Iterable[str]],
        question: Callable[[int, str], str],
        dropped: Callable[[int], object],
        history: History | None,
        colours: bool,
    ) -> None:
        self._keyboard, self._submit, self._question, self._dropped = keyboard, submit, question, dropped
        self._pasted: list[str] = []
        self._paste_command = ""
        self._before_paste = Document()
        self._session: PromptSession[None] = PromptSession(
            self._message,
            input=keyboard,
            output=output,
            completer=_Words(names, rooms),
            complete_while_typing=False,
            reserve_space_for_menu=MENU_ROWS,
            history=history,
            key_bindings=self._keys(),
            color_depth=None if colours else ColorDepth.DEPTH_1_BIT,
            interrupt_exception=Interrupted,
            erase_when_done=True,
        )
        self._session.default_buffer.accept_handler = self._accept
        self._session.app.terminal_size_polling_interval = RESIZE_POLLING

    @property
    def app(self) -> Application[None]:
        """What `run` runs; its `exit` ends it."""
        return self._session.app

    def run(self, pre_run: Callable[[], None]) -> None:
        """Take what is typed until `app.exit`, which can be called from `pre_run` on.

        Raises:
            EOFError: Ctrl-D in an empty line, or the terminal was hung up.
            Interrupted: Ctrl-C in an empty line.
        """
        # Without handlers of its own: only the main thread has signals, and an error goes to `Prompt.run`.
        self._session.prompt(pre_run=pre_run, handle_sigint=False, set_exception_handler=False)

    def _message(self) -> str:
        return f"{self._question(len(self._pasted), self._paste_command)} " if self._pasted else PROMPT

    def _accept(self, buffer: Buffer) -> bool:
        self._submit([buffer.text])
        return False  # the next line begins empty

    # --- keys of our own ---

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        asks = Condition(lambda: bool(self._pasted))
        has_text = Condition(lambda: bool(self._session.default_buffer.text))
        # Eager: the question takes every key, before any other binding.
        keys.add(Keys.Any, filter=asks, eager=True)(self._answer)
        keys.add(Keys.BracketedPaste, filter=~asks & has_focus(DEFAULT_BUFFER))(self._paste)
        # In an empty line, and while the history is searched, prompt_toolkit's own Ctrl-C remains.
        keys.add("c-c", filter=~asks & has_text & has_focus(DEFAULT_BUFFER))(lambda event: event.current_buffer.reset())
        if isinstance(self._keyboard, Vt100Input):
            keys.add("c-z", filter=~asks)(self._suspend)
        return keys

    def _paste(self, event: KeyPressEvent) -> None:
        """Ask about several lines. Pasted into `send bob`, each one becomes a `send bob`, and not a command."""
        buffer = event.current_buffer
        before, after = buffer.document.text_before_cursor, buffer.document.text_after_cursor
        first, *others = [line for line in LINE_END.split(event.data) if line] or [""]
        if not others:
            buffer.insert_text(first)
            return
        opening = _SENDS_TO.match(before)
        command = opening[0] if opening else ""
        lines = [before + first, *(command + line for line in others)]
        lines[-1] += after
        self._pasted, self._paste_command, self._before_paste = lines, " ".join(command.split()), buffer.document
        buffer.reset()

    def _answer(self, event: KeyPressEvent) -> None:
        key = event.key_sequence[0].key
        lines, self._pasted = self._pasted, []
        if key in ("y", "Y"):
            self._submit(lines)
            return
        self._dropped(len(lines))
        if key != Keys.ControlC:  # with it the line, which `_paste` has cleared, stays empty
            event.current_buffer.document = self._before_paste
            # They go on typing: nothing of that is lost. But Enter must not send the line that was half typed.
            if key not in _NO:
                event.key_processor.feed(event.key_sequence[0], first=True)

    def _suspend(self, event: KeyPressEvent) -> None:
        def stop() -> None:
            # The mode in which the shell expects the terminal. 0 is our process group: all of the job must stop.
            with cooked_mode(self._keyboard.fileno()):
                os.kill(0, signal.SIGTSTP)
                time.sleep(SUSPEND_DELAY)

        run_in_terminal(stop)


class _Words(Completer):
    """Completes commands, and names after some of them."""

    def __init__(self, names: Callable[[], Iterable[str]], rooms: Callable[[], Iterable[str]]) -> None:
        self._names, self._rooms = names, rooms

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """What the word before the cursor may become."""
        *before, typed = document.text_before_cursor.lstrip().split(" ")
        if not before:
            for word, row in COMMANDS.items():
                if word.startswith(typed.lower()):
                    yield Completion(f"{word} " if " " in row.usage else word, -len(typed), display=word)
        elif len(before) == 1:
            command = before[0].lower()
            for name in self._names_after(command, typed):
                if fold(name).startswith(fold(typed)):
                    yield Completion(f"{name} " if command in ("send", "search") else name, -len(typed), display=name)

    def _names_after(self, command: str, typed: str) -> Iterator[str]:
        if command in _NAMES_FOLLOW:
            yield from self._names()
        if command in _ROOMS_FOLLOW and not typed.startswith("#"):
            yield from self._rooms()
        elif command in (*_ROOMS_FOLLOW, "history", "search", "send"):
            yield from (f"#{room}" for room in self._rooms())
