"""Follows the README in a fresh copy of the repository, with an environment of its own: `nox -s readme`.

First one shell runs all `sh` blocks as they are printed. Then the terminals run with the environment that the first
block has made, at the ports that the README names. This takes some minutes and needs the package index, so it is no
part of the test suite. The second block runs that suite, and the suite never runs this: there is no recursion.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from tests.docs.blocks import ROOT, blocks_of
from tests.docs.running import Installation
from tests.docs.test_docs_blocks import run_page

README = ROOT / "README.md"
LEAVES_ENVIRONMENT = ("NOX_", "PYTHON", "COVERAGE_", "VIRTUAL_ENV")


def copy_repository(folder):
    """Copy what a clone would have: everything but Git's own files, and what .gitignore names."""
    ignored = [line.strip("/").rpartition("/")[2] for line in (ROOT / ".gitignore").read_text().split()]
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", ".ci-local", *ignored))


def fresh_environment(home):
    """The variables of a new terminal: no environment is activated, and `python3` is the Python that runs this."""
    programs = home / "bin"
    programs.mkdir()
    (programs / "python3").write_text(f'#!/bin/sh\nexec "{sys._base_executable}" "$@"\n')
    (programs / "python3").chmod(0o700)
    path = [folder for folder in os.environ["PATH"].split(os.pathsep) if not (Path(folder) / "activate").exists()]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(LEAVES_ENVIRONMENT)}
    data = dict.fromkeys(("XDG_DATA_HOME", "XDG_STATE_HOME"), str(home))
    return kept | data | {"PATH": os.pathsep.join([str(programs), *path])}


def run_shell_blocks(clone, environment):
    """Run all `sh` blocks in one shell, and check which `trio-chat` it then has."""
    lines = [line for block in blocks_of(README) if block.kind == "sh" for line in block.lines]
    lines.append(f'test "$(command -v trio-chat)" = {clone}/.venv/bin/trio-chat')
    script = "\n".join(f"echo; echo {shlex.quote(f'$ {line}')}\n{line} || exit" for line in lines)
    done = subprocess.run(["/bin/sh", "-c", script], cwd=clone, env=environment, stdin=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(f"a command of the README failed, with exit code {done.returncode}")


def main():
    # A build may run as a background job, which ignores SIGINT. The programs that get a Ctrl-C would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with TemporaryDirectory() as folder:
        home, clone = Path(folder).resolve(), Path(folder).resolve() / "clone"
        copy_repository(clone)
        run_shell_blocks(clone, fresh_environment(home))
        trio.run(run_page, README, Installation(folder=str(clone), has_own_ports=True))
    print("every command of the README works")


if __name__ == "__main__":
    main()
