"""The picture of the terminal. `python -m docs.picture` runs a short chat and draws Alice's screen at its end.

Alice's client runs at a real pseudo-terminal; Bob, Carol and the server are processes with pipes. The picture shows
exactly what the client printed. docs/screen.py keeps the screen and draws it.
"""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

from docs.screen import Screen, as_svg
from tests.end_to_end.processes import switches

PICTURE = Path(__file__).parent / "_static" / "terminal.svg"
ROOT = Path(__file__).parents[1]
COLUMNS, ROWS = 80, 16
PATIENCE = 60.0
"""How long to wait for any line, in seconds."""
CLIENT = "trio-chat client alice 127.0.0.1 5000"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "trio_chat", *map(str, arguments)]


class Piped:
    """A program whose input and output are pipes."""

    def __init__(self, environment: dict[str, str], *arguments: object) -> None:
        self.process = subprocess.Popen(  # noqa: S603  (our own program)
            command(*arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
        )

    def type(self, line: str) -> None:
        print(line, file=self.process.stdin, flush=True)

    def wait_for(self, words: str) -> str:
        """Read lines until one contains `words`; return that line."""
        for line in self.process.stdout:
            if words in line:
                return line
        raise RuntimeError(f"the program ended without {words!r}")


class AtTerminal:
    """A program at a pseudo-terminal, with the screen that it draws."""

    def __init__(self, environment: dict[str, str], *arguments: object) -> None:
        self.screen = Screen(COLUMNS, ROWS)
        here, there = pty.openpty()
        fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self._terminal = here
        self.process = subprocess.Popen(  # noqa: S603  (our own program)
            command(*arguments),
            stdin=there,
            stdout=there,
            stderr=there,
            env=environment | {"TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(there)

    def type(self, text: str) -> None:
        """Type one character after the other, as a person does: all at once would be a paste."""
        for character in text:
            os.write(self._terminal, character.encode())
            self.watch(0.005)

    def wait_for(self, words: str) -> None:
        """Wait until a line of the screen matches this regular expression."""
        until = time.monotonic() + PATIENCE
        while not any(re.search(words, line) for line in self.screen.lines()):
            if time.monotonic() > until:
                raise RuntimeError("\n".join([f"not on the screen: {words!r}", *self.screen.lines()]))
            self.watch(0.05)

    def watch(self, seconds: float) -> None:
        """Feed the screen with the program's output for so many seconds."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([self._terminal], [], [], left)[0]:
                self.screen.feed(os.read(self._terminal, 65536).decode(errors="replace"))
                for answer in self.screen.answers:
                    os.write(self._terminal, answer)
                self.screen.answers.clear()

    def wait_until_idle(self, *people: Piped) -> None:
        """Look at the screen until all programs have done what they had to do."""
        pids = [self.process.pid, *(person.process.pid for person in people)]
        self.watch(0.15)  # the server's timer for changes of the table
        before, until = None, time.monotonic() + PATIENCE
        while ((now := [switches(pid) for pid in pids]) != before or None in now) and time.monotonic() < until:
            before = now
            self.watch(0.01)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._terminal)


def run_chat(environment: dict[str, str]) -> Screen:
    """Run the server and the three clients; return Alice's screen at the end."""
    people = [Piped(environment, "server", 0, "--host", "127.0.0.1")]
    port = people[0].wait_for("Listening").rpartition(":")[2].strip()
    alice = AtTerminal(environment, "client", "alice", "127.0.0.1", port)
    try:
        alice.wait_for(r"\[Welcome")
        people += [Piped(environment, "client", name, "127.0.0.1", port) for name in ("bob", "carol")]
        for person in people[1:]:
            person.wait_for("Welcome")
        _converse(alice, *people[1:])
        return alice.screen
    finally:
        alice.close()
        for person in people:
            person.process.kill()
            person.process.communicate()


def _converse(alice: AtTerminal, bob: Piped, carol: Piped) -> None:
    bob.type("send alice Morning! Is the build green?")
    alice.wait_for("bob: Morning!")
    alice.type("send bob All green since ten.\r")
    alice.wait_for(r"\[Message received by bob")
    carol.type("send_all Lunch at noon? alice, bob?")
    alice.wait_for("carol: Lunch")
    bob.type("dereg")
    bob.wait_for("Offline")
    alice.wait_until_idle(bob, carol)
    alice.type("send bob Are you coming?\r")
    alice.wait_for("server and saved")
    alice.type("who\r")
    alice.wait_for("carol  on line")
    bob.type("reg")
    bob.wait_for("Are you coming?")
    alice.wait_for("Offline Message .* received by bob")
    bob.type("send_all On my way.")
    alice.wait_for("bob: On my way.")
    alice.type("send carol Keep us a sea")
    alice.wait_for("send carol Keep us a sea$")
    alice.wait_until_idle(bob, carol)


def capture() -> str:
    """The picture as SVG, from a run right now."""
    with tempfile.TemporaryDirectory() as home:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("COVERAGE_", "NO_COLOR"))}
        environment |= {"HOME": home, "XDG_DATA_HOME": home, "XDG_STATE_HOME": home, "PYTHONPATH": str(ROOT)}
        environment |= {"LC_ALL": "C.UTF-8", "COLORTERM": ""}
        return as_svg(run_chat(environment), CLIENT, "A chat of three people, on the screen of Alice")


if __name__ == "__main__":
    PICTURE.write_text(capture(), encoding="utf-8")
