"""Every fenced block of the documentation is run or checked, or is listed here with the reason.

Programs and sockets are real, so times and ports differ in each run: comparing.py allows for that. Three pages run at
the same time, in `nox -s docs`. The blocks that install something are run by fresh_clone.py (`nox -s readme`).
"""

import json
import re
import shlex
import sys

import click
import pytest
import trio

from tests.docs.blocks import PAGES, ROOT, blocks_of
from tests.docs.running import AS_PRINTED, FORKING, open_page
from trio_chat.cli.main import cli

README = ROOT / "README.md"
NOT_RUN = {
    ("README.md", "cli/         "): "a list of packages; the last test compares it with the tree",
}
"""The page and the first words of blocks that are neither run nor checked."""

WITHOUT_CODE = {"toctree", "figure"}
"""Directives without commands, code or output."""
GENERATED = {"message-table", "record-table", "phrase-table", "limits", "server-limits", "eval-rst"}
"""Directives that show facts of the package; test_docs_tables.py checks them."""
CHECKED = {"literalinclude", "sh", "usage"}
"""Blocks for the tests below. test_docs_tables.py checks that a terminal runs each example."""

INSTALLING = re.compile(r"python3 -m venv \.venv && \.venv/bin/pip install \S+( \S+)*? && ")
NOX = re.compile(r"\.venv/bin/nox(?: -s (?P<sessions>[\w ]+?))?(?: -- .*)?")


def file_name(path):
    return path.name


def blocks_to_run(path):
    """The terminals of a page, its Python programs, and its JSON dialogues."""
    return [block for block in blocks_of(path) if block.kind in ("terminal", "console", "python", "json")]


def is_listed(block):
    return any(block.page == page and block.first.startswith(beginning) for page, beginning in NOT_RUN)


def all_blocks(kind):
    return [block for path in PAGES for block in blocks_of(path) if block.kind == kind and not is_listed(block)]


@pytest.mark.parametrize("path", PAGES, ids=file_name)
def test_each_block_is_run_or_listed(path):
    neither = [
        f"{block} ({block.info or 'without a language'}): {block.first}"
        for block in blocks_of(path)
        if block not in blocks_to_run(path)
        and block.kind not in WITHOUT_CODE | GENERATED | CHECKED
        and not is_listed(block)
    ]
    assert neither == []


def test_each_listed_block_exists():
    blocks = [block for path in PAGES for block in blocks_of(path)]
    for page, beginning in NOT_RUN:
        assert any(block.page == page and block.first.startswith(beginning) for block in blocks), beginning


@pytest.mark.docs
def test_the_terminals_of_all_pages_show_what_the_programs_print():
    if failures := trio.run(run_pages):
        pytest.fail("\n\n".join(failures), pytrace=False)


async def run_pages():
    """Run the pages, three at a time because they mostly wait. Return the failures."""
    failures, limiter = [], trio.CapacityLimiter(3)

    async def run(path):
        async with limiter:
            try:
                # In the README a shell runs every command as it is printed. On the other pages speed is more important.
                await run_page(path, AS_PRINTED if path == README else FORKING)
            except AssertionError as error:
                failures.append(str(error))

    async with trio.open_nursery() as nursery:
        for path in PAGES:
            nursery.start_soon(run, path)
    return failures


async def run_page(path, installation):
    """Run the blocks of a page."""
    async with open_page(installation) as page:
        for block in blocks_to_run(path):
            if block.kind == "python":
                await page.save_program(block)
            elif block.kind == "json":
                await run_dialogue(page, block)
            else:
                await page.run_block(block)


async def run_dialogue(page, block):
    """Talk to the presence server: odd lines are requests, even lines its answers."""
    stream = await trio.open_tcp_stream("127.0.0.1", int(page.to_real("8081")))
    async with stream:
        for request, answer in zip(block.lines[::2], block.lines[1::2], strict=True):
            await stream.send_all(request.encode())
            with trio.fail_after(60):
                received = await stream.receive_some()
            assert json.loads(received) == json.loads(answer), f"{block}: {request}"


@pytest.mark.docs
@pytest.mark.parametrize("block", all_blocks("sh"), ids=str)
async def test_shell_commands_work(block):
    """Commands for pip, nox and pytest are only checked: they need the package index, or would run this test again."""
    for line in block.lines:
        command = INSTALLING.sub("", re.sub(r"\s+#.*", "", line) + " && ").removesuffix(" && ")
        if found := NOX.fullmatch(command):
            assert set((found["sessions"] or "").split()) <= nox_sessions(), line
        elif command.startswith(".venv/bin/python -m pytest "):
            assert all((ROOT / path).exists() for path in shlex.split(command)[3:]), line
        elif command:
            await run_command(command)


def nox_sessions():
    return set(re.findall(r"@nox\.session\ndef (\w+)", (ROOT / "noxfile.py").read_text()))


async def run_command(command):
    """Run a command, which must succeed. `.venv` is the environment of the tests."""
    if sys.prefix == sys.base_prefix:
        pytest.skip("the tests do not run in a virtual environment")
    async with open_page(AS_PRINTED) as page:
        process = await page.shell.run("shell", f"{command} && true")
        output = await process.read_to_end()
        assert process.process.returncode == 0, output


def test_all_commands_of_the_readme_are_in_blocks():
    """A command within a sentence is run by no test."""
    text = README.read_text(encoding="utf-8")
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    commands = [span for span in spans if re.match(r"(trio-chat|python3?|pip|nox|\.venv\S*) \S", span)]
    assert commands == ["trio-chat servers", "python -m trio_chat", "trio-chat client --help", "trio-chat servers"]


@pytest.mark.parametrize("block", all_blocks("usage"), ids=str)
def test_each_usage_line_is_that_of_the_command_line(block):
    for line in block.lines:
        shown = re.split(r"\s{2,}", line)[0].removeprefix("python -m trio_chat ").removeprefix("trio-chat ")
        name, *arguments = shown.split()
        command = cli.commands[name]
        wanted = command.collect_usage_pieces(click.Context(command, info_name=name))
        assert [word for word in arguments if not word.startswith("-")] == [w for w in wanted if w != "[OPTIONS]"], line


def test_the_readme_names_every_part_of_the_package():
    named = {
        line.split("/")[0].split("*")[0]
        for block in blocks_of(README)
        if block.first.startswith("cli/")
        for line in block.lines
    }
    assert named >= {path.parent.name for path in (ROOT / "trio_chat").glob("*/__init__.py")}


async def test_the_program_of_the_readme_reports_an_error_in_one_line():
    (program,) = [block for block in blocks_of(README) if block.kind == "python"]
    async with open_page() as page:
        await page.save_program(program)
        process = await page.shell.run("program", "python reporter.py")
        assert await process.read_to_end() == ["reporter: the server is not responding"]
