"""Every fenced block of the documentation is played, run or checked, or is listed here with the reason why not."""

import json
import re
import shlex

import click
import pytest
import trio

from tests.docs.blocks import PAGES, ROOT, blocks_of
from tests.docs.running import open_play
from trio_chat.cli.main import cli

NOT_RUN = {
    ("README.md", "cli/         "): "the parts of the package, which the last test holds against the tree",
    ("docs/walkthrough.md", "python3 -m venv .venv && .venv/bin/pip install . && . .venv/bin/activate"): (
        "installs, for which it needs the network; the checks on a fresh machine begin with the same"
    ),
}
"""The beginnings of blocks that are neither played nor run."""

WITHOUT_CODE = {"toctree", "figure"}
"""Directives whose body is no command, code or output."""
GENERATED = {"message-table", "record-table", "phrase-table", "limits", "eval-rst"}
"""Directives that show what the package itself says; test_docs_tables.py reads them."""

RUN_ELSEWHERE = {"literalinclude", "sh", "usage"}
"""By the tests below; each example is started by a terminal, which test_docs_tables.py sees to."""

INSTALLING = re.compile(r"python3 -m venv \.venv && \.venv/bin/pip install \S+( \S+)*? && ")
NOX = re.compile(r"\.venv/bin/nox(?: -s (?P<sessions>[\w ]+?))?(?: -- .*)?")


def called(path):
    return path.name


def blocks_played(path):
    """What of a page is played: its terminals, the programs that it shows whole, and what is said in JSON."""
    return [block for block in blocks_of(path) if block.kind in ("terminal", "console", "python", "json")]


def is_listed(block):
    return any(block.page == page and block.first.startswith(beginning) for page, beginning in NOT_RUN)


def every(kind):
    """The blocks of a kind on all pages, but for those that are listed."""
    return [block for path in PAGES for block in blocks_of(path) if block.kind == kind and not is_listed(block)]


@pytest.mark.parametrize("path", PAGES, ids=called)
def test_each_block_is_run_or_listed(path):
    neither = [
        f"{block} ({block.info or 'without a language'}): {block.first}"
        for block in blocks_of(path)
        if block not in blocks_played(path)
        and block.kind not in WITHOUT_CODE | GENERATED | RUN_ELSEWHERE
        and not is_listed(block)
    ]
    assert neither == []


def test_what_is_listed_is_there():
    blocks = [block for path in PAGES for block in blocks_of(path)]
    for page, beginning in NOT_RUN:
        assert any(block.page == page and block.first.startswith(beginning) for block in blocks), beginning


def test_the_terminals_of_all_pages_show_what_the_programs_print():
    if failures := trio.run(play_all):
        pytest.fail("\n\n".join(failures), pytrace=False)


async def play_all():
    """Plays the pages, three at a time, for they mostly wait; returns what went wrong."""
    failures, seats = [], trio.CapacityLimiter(3)

    async def attend(page):
        async with seats:
            try:
                await play_page(page)
            except AssertionError as error:
                failures.append(str(error))

    async with trio.open_nursery() as nursery:
        for page in PAGES:
            nursery.start_soon(attend, page)
    return failures


async def play_page(path):
    """Plays what is on a page."""
    async with open_play() as play:
        for block in blocks_played(path):
            if block.kind == "python":
                await play.run_program(block)
            elif block.kind == "json":
                await exchange(play, block)
            else:
                await play.perform(block)


async def exchange(play, block):
    """What a client and the presence server say to each other, an object a line, in turns."""
    stream = await trio.open_tcp_stream("127.0.0.1", int(play.to_stage("8081")))
    async with stream:
        for asked, answered in zip(block.lines[::2], block.lines[1::2], strict=True):
            await stream.send_all(asked.encode())
            with trio.fail_after(60):
                heard = await stream.receive_some()
            assert json.loads(heard) == json.loads(answered), f"{block}: {asked}"


@pytest.mark.parametrize("block", every("sh"), ids=str)
async def test_commands_for_a_shell_can_be_given(block):
    for line in block.lines:
        command = re.sub(r"\s+#.*", "", line)
        if found := NOX.fullmatch(INSTALLING.sub("", command)):
            assert set((found["sessions"] or "").split()) <= sessions(), line
        elif command.startswith(".venv/bin/python -m pytest "):
            assert all((ROOT / path).exists() for path in shlex.split(command)[3:]), line
        elif INSTALLING.sub("", f"{command} && "):
            await run(INSTALLING.sub("", command).replace(".venv/bin/", ""))


def sessions():
    """The sessions of nox."""
    return set(re.findall(r"@nox\.session\ndef (\w+)", (ROOT / "noxfile.py").read_text()))


async def run(command):
    """The command must end well."""
    async with open_play() as play:
        party = await play.stage.run("shell", command)
        said = await party.reads_to_the_end()
        assert party.process.returncode == 0, said


@pytest.mark.parametrize("block", every("usage"), ids=str)
def test_a_usage_is_that_of_the_command_line(block):
    for line in block.lines:
        shown = re.split(r"\s{2,}", line)[0].removeprefix("python -m trio_chat ")
        name, *arguments = shown.split()
        command = cli.commands[name]
        wanted = command.collect_usage_pieces(click.Context(command, info_name=name))
        assert [word for word in arguments if not word.startswith("-")] == [w for w in wanted if w != "[OPTIONS]"], line


def test_the_readme_names_every_part_of_the_package():
    named = {
        line.split("/")[0].split("*")[0]
        for block in blocks_of(ROOT / "README.md")
        if block.first.startswith("cli/")
        for line in block.lines
    }
    assert named >= {path.parent.name for path in (ROOT / "trio_chat").glob("*/__init__.py")}
