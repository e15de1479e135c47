"""The picture of the terminal: `python -m docs.picture` plays a short chat and draws Alice's screen as it then is.

Alice sits at a real terminal, a pty; Bob, Carol and the server are processes in pipes. Nothing is drawn that the
client did not print.
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
"""Seconds that anything may take."""
CLIENT = "python -m trio_chat client alice 127.0.0.1 5000"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "trio_chat", *map(str, arguments)]


class Person:
    """Somebody in a pipe."""

    def __init__(self, environment: dict[str, str], *arguments: object) -> None:
        self.process = subprocess.Popen(  # noqa: S603  (it is ours)
            command(*arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
        )

    def says(self, line: str) -> None:
        print(line, file=self.process.stdin, flush=True)

    def hears(self, words: str) -> str:
        """Read until a line with these words."""
        for line in self.process.stdout:
            if words in line:
                return line
        raise RuntimeError(f"nobody said {words!r}")


class Typist:
    """Alice, at a terminal of her own."""

    def __init__(self, environment: dict[str, str], *arguments: object) -> None:
        self.screen = Screen(COLUMNS, ROWS)
        here, there = pty.openpty()
        fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self._terminal = here
        self.process = subprocess.Popen(  # noqa: S603  (it is ours)
            command(*arguments),
            stdin=there,
            stdout=there,
            stderr=there,
            env=environment | {"TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(there)

    def types(self, text: str) -> None:
        """Type at the speed at which a program may be typed at."""
        for character in text:
            os.write(self._terminal, character.encode())
            self.watches(0.005)

    def sees(self, words: str) -> None:
        """Wait until a line of the screen matches this pattern."""
        until = time.monotonic() + PATIENCE
        while not any(re.search(words, line) for line in self.screen.lines()):
            if time.monotonic() > until:
                raise RuntimeError("\n".join([f"not on the screen: {words!r}", *self.screen.lines()]))
            self.watches(0.05)

    def watches(self, seconds: float) -> None:
        """Look at the screen for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([self._terminal], [], [], left)[0]:
                self.screen.feed(os.read(self._terminal, 65536).decode(errors="replace"))
                for answer in self.screen.answers:
                    os.write(self._terminal, answer)
                self.screen.answers.clear()

    def waits_for(self, *people: Person) -> None:
        """Look at the screen until all programs have done what they had to do."""
        pids = [self.process.pid, *(person.process.pid for person in people)]
        self.watches(0.15)  # the server's timer for changes of the table
        before, until = None, time.monotonic() + PATIENCE
        while ((now := [switches(pid) for pid in pids]) != before or None in now) and time.monotonic() < until:
            before = now
            self.watches(0.01)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._terminal)


def play(environment: dict[str, str]) -> Screen:
    """The chat; the screen is as it is at its end."""
    people = [Person(environment, "server", 0, "--host", "127.0.0.1")]
    port = people[0].hears("Listening").rpartition(":")[2].strip()
    alice = Typist(environment, "client", "alice", "127.0.0.1", port)
    try:
        alice.sees(r"\[Welcome")
        people += [Person(environment, "client", name, "127.0.0.1", port) for name in ("bob", "carol")]
        for person in people[1:]:
            person.hears("Welcome")
        _converse(alice, *people[1:])
        return alice.screen
    finally:
        alice.close()
        for person in people:
            person.process.kill()
            person.process.communicate()


def _converse(alice: Typist, bob: Person, carol: Person) -> None:
    bob.says("send alice Morning! Is the build green?")
    alice.sees("bob: Morning!")
    alice.types("send bob All green since ten.\r")
    alice.sees(r"\[Message received by bob")
    carol.says("send_all Lunch at noon? alice, bob?")
    alice.sees("carol: Lunch")
    bob.says("dereg")
    bob.hears("Offline")
    alice.waits_for(bob, carol)
    alice.types("send bob Are you coming?\r")
    alice.sees("server and saved")
    alice.types("who\r")
    alice.sees("carol  on line")
    bob.says("reg")
    bob.hears("Are you coming?")
    alice.sees("Offline Message .* received by bob")
    bob.says("send_all On my way.")
    alice.sees("bob: On my way.")
    alice.types("send carol Keep us a sea")
    alice.sees("send carol Keep us a sea$")
    alice.waits_for(bob, carol)


def capture() -> str:
    """The picture, as it comes out now."""
    with tempfile.TemporaryDirectory() as home:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("COVERAGE_", "NO_COLOR"))}
        environment |= {"HOME": home, "XDG_DATA_HOME": home, "XDG_STATE_HOME": home, "PYTHONPATH": str(ROOT)}
        environment |= {"LC_ALL": "C.UTF-8", "COLORTERM": ""}
        return as_svg(play(environment), CLIENT, "A chat of three, as Alice sees it")


if __name__ == "__main__":
    PICTURE.write_text(capture(), encoding="utf-8")
