"""Names on the pages exist in the package, and everything public is on a page. Reads files only."""

import importlib
import math
import re

import pytest

import trio_chat
from tests.docs.blocks import PAGES, ROOT, blocks_of
from trio_chat.client.outgoing_queue import PAUSES
from trio_chat.protocol.limits import LIMITS, MAX_SHARE
from trio_chat.storage.interface import MAILBOX_LETTERS

DOCS = ROOT / "docs"


def test_the_reference_has_every_public_name():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\.\. auto(?:function|class|data|exception):: ([\w.]+)", text, re.MULTILINE)
    assert {name for name in documented if "." not in name} == set(trio_chat.__all__)
    assert len(documented) == len(set(documented))


def named_constants():
    """The constants whose values the pages show."""
    for path in PAGES:
        yield from re.findall(r"\{value\}`(\w[\w.]+)", path.read_text(encoding="utf-8"))
        for block in blocks_of(path):
            if block.kind == "limits":
                yield from (line.partition("|")[0].strip() for line in block.lines)


@pytest.mark.parametrize("path", sorted(set(named_constants())))
def test_a_constant_exists(path):
    module, _, name = path.rpartition(".")
    assert hasattr(importlib.import_module(f"trio_chat.{module}"), name)


def test_the_page_of_the_protocol_has_all_tables():
    kinds = [block.info for block in blocks_of(DOCS / "protocol.md")]
    assert kinds == [
        "{message-table} requests",
        "{message-table} answers",
        "{record-table}",
        "{limits}",
        "{phrase-table}",
    ]


def test_every_example_is_shown_and_run():
    examples = {path.name for path in (DOCS / "examples").glob("*.py")}
    blocks = [block for path in PAGES for block in blocks_of(path)]
    shown = {block.argument.rpartition("/")[2] for block in blocks if block.kind == "literalinclude"}
    run = {
        name
        for block in blocks
        for line in block.lines
        for name in re.findall(r"\$ python docs/examples/(\w+\.py)", line)
    }
    assert examples == shown == run


def test_the_echo_bot_has_no_more_than_15_lines():
    source = (DOCS / "examples" / "echo_bot.py").read_text(encoding="utf-8")
    assert len([line for line in source.splitlines() if line.strip()]) <= 15


def test_every_page_is_in_the_table_of_contents():
    listed = set((DOCS / "index.md").read_text(encoding="utf-8").split())
    assert {path.stem for path in DOCS.glob("*.md")} - {"index"} <= listed


def test_the_readme_says_how_much_a_script_can_send():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    (said,) = re.findall(r"A server limits what one key sends through it: .*?\.", text)
    to_one = LIMITS.letters_per_mailbox_and_key
    assert re.findall(r"[0-9,]+ at once, then .*? (?:second|minute)", said) == [
        str(LIMITS.posts_per_key),
        f"{to_one.at_once:g} at once, then {to_one.a_second * 60:g} a minute",
        str(LIMITS.letters_per_key),
    ]
    assert f"at most {MAILBOX_LETTERS // (MAX_SHARE + 1)} of them wait" in said


def test_the_page_of_the_library_says_after_which_errors_the_outbox_tries_again():
    text = (DOCS / "library.md").read_text(encoding="utf-8")
    rows = re.findall(r"^  \| `(\w+)` \| (.*) \|$", text, re.MULTILINE)
    assert [name for name, _ in rows] == [error.__name__ for error in PAUSES]
    seconds = [float(found[1]) if (found := re.match(r"after (\d+) s", when)) else math.inf for _, when in rows]
    assert seconds == list(PAUSES.values())
