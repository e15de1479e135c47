"""Measures how long commands need to start, beside a new interpreter that only imports trio.

    python benchmarks/startup.py [TIMES]

A client is measured from its start to the line that welcomes it, with its key and its store in files that exist, and a
server that waits for it. All are started in turns, and the median counts. Each is started once before, so that Python
has compiled all modules.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from shared.processes import running, serve
from shared.tables import print_heading, print_row

TIMES = int(sys.argv[1]) if len(sys.argv) > 1 else 15
ROOT = Path(__file__).parents[1]
TRIO = "python -c 'import trio'"


def until_line(arguments, environment, welcome=b""):
    """Milliseconds until a program has printed a line with these words; the end of its input follows."""
    started = time.perf_counter()
    command = [sys.executable, *arguments]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **streams, cwd=ROOT, env=environment) as process:  # noqa: S603
        for line in process.stdout:
            if welcome in line:
                return 1000 * (time.perf_counter() - started)
    sys.exit(f"{' '.join(arguments)} has not printed {welcome.decode()}")


def until_end(arguments, environment):
    """Milliseconds until a program has ended."""
    started = time.perf_counter()
    command = [sys.executable, *arguments]
    subprocess.run(command, stdout=subprocess.DEVNULL, cwd=ROOT, env=environment, check=True)  # noqa: S603
    return 1000 * (time.perf_counter() - started)


def measure(folder, port):
    """Print the table."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"HOME": folder, "XDG_DATA_HOME": folder, "XDG_STATE_HOME": folder}
    client = ["-m", "trio_chat", "client", "alice", "127.0.0.1", str(port)]
    measures = {
        TRIO: lambda: until_end(["-c", "import trio"], environment),
        "trio-chat --help": lambda: until_end(["-m", "trio_chat", "--help"], environment),
        "trio-chat client --help": lambda: until_end(["-m", "trio_chat", "client", "--help"], environment),
        "trio-chat server --help": lambda: until_end(["-m", "trio_chat", "server", "--help"], environment),
        "trio-chat client, until it is welcomed": lambda: until_line(client, environment, b"Welcome"),
    }
    times = {what: [] for what in measures}
    for turn in range(1 + TIMES):
        for what, start in measures.items():
            taken = start()
            if turn:
                times[what].append(taken)
    print_heading(f"starts, median of {TIMES}", "ms")
    for what, seen in times.items():
        print_row(what, median(seen), median(times[TRIO]))


def main():
    with TemporaryDirectory() as folder, running(serve) as (_, (_, port)):
        measure(folder, port)


if __name__ == "__main__":
    main()
