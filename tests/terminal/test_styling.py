"""What a line is, and the styles in which a terminal shows it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_chat import (
    GroupMessageReceived,
    KeyWarning,
    LetterReceived,
    MailboxFull,
    MessageReceived,
    ServerNotResponding,
    TableChanged,
)
from trio_chat.terminal.styling import COLOURS, Line, LineStyle, colour_of, mentions, styled
from trio_chat.terminal.wordings import Phrase, Phrasebook, TableRow, Wording

BOOK = Phrasebook(owner="Bob")


def contrast(one, other):
    lighter, darker = sorted([luminance(one), luminance(other)], reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colour", COLOURS)
def test_names_can_be_read_on_black_and_on_white(colour):
    assert contrast(colour, "#000000") > 4
    assert contrast(colour, "#ffffff") > 4


def test_a_name_has_the_same_colour_always_and_others_mostly_another():
    assert colour_of("alice") == colour_of("Alice") == "#875fff"
    assert {colour_of(f"name{number}") for number in range(200)} == set(COLOURS)


@pytest.mark.parametrize(
    ("line", "tone"),
    [
        (BOOK.event(MessageReceived("x", "hi"))[0], LineStyle.DIRECT),
        (BOOK.event(LetterReceived("x", "hi", 0.0, group=False, first=False))[0], LineStyle.DIRECT),
        (BOOK.event(GroupMessageReceived("x", "hi"))[0], LineStyle.GROUP),
        (BOOK.event(LetterReceived("x", "hi", 0.0, group=True, first=False))[0], LineStyle.GROUP),
        (BOOK.lines(Phrase.REGISTERED)[0], LineStyle.SYSTEM),
        (Phrasebook(Wording.CHANNEL).event(TableChanged())[0], LineStyle.SYSTEM),
        (BOOK.error(MailboxFull("x"))[0], LineStyle.TROUBLE),
        (BOOK.error(ServerNotResponding())[0], LineStyle.TROUBLE),
        (BOOK.event(KeyWarning("x", "old", "new"))[0], LineStyle.WARNING),
        (BOOK.table([TableRow("x", "::1", 9, True, 0.0, "key", False)])[1], LineStyle.PLAIN),
        (BOOK.table([TableRow("x", "::1", 9, True, 0.0, "key", True)])[1], LineStyle.WARNING),
    ],
)
def test_every_line_has_its_tone(line, tone):
    assert line.tone is tone


def test_direct_messages_ring_and_so_do_letters():
    lines = [
        *BOOK.event(MessageReceived("x", "hi")),
        *BOOK.event(LetterReceived("x", "hi", 0.0, group=False, first=True)),
        *BOOK.event(GroupMessageReceived("x", "hi")),
        *BOOK.lines(Phrase.MESSAGE, name="x", text="shown once more"),
    ]
    assert [line.rings for line in lines] == [True, False, True, False, False]


@pytest.mark.parametrize(
    ("text", "is_named"),
    [
        ("bob", True),
        ("hi BOB!", True),
        ("bob's turn, or Bob.", True),
        ("@bob: come", True),
        ("(bob)", True),
        ("bobby", False),
        ("kebob", False),
        ("bob-2 and bob.smith and _bob", False),
        ("jim.bob", False),
        ("", False),
    ],
)
def test_a_name_is_mentioned_as_a_word_of_its_own(text, is_named):
    (line,) = BOOK.event(GroupMessageReceived("x", text))
    assert mentions(text, "Bob") == line.rings == is_named
    (later,) = BOOK.event(LetterReceived("x", text, 0.0, group=True, first=False))
    assert later.rings == is_named


def test_nobody_is_mentioned_where_nobody_owns_the_book():
    assert not Phrasebook().event(GroupMessageReceived("x", "hi bob"))[0].rings


def test_the_name_is_coloured_and_what_is_for_us_is_bold():
    assert styled(BOOK.event(MessageReceived("alice", "hi"))[0]) == [("bold #875fff", "alice"), ("bold", ": hi")]
    assert styled(BOOK.event(GroupMessageReceived("alice", "hi"))[0]) == [
        ("", "Group Chat "),
        ("bold #875fff", "alice"),
        ("", ": hi"),
    ]
    assert styled(BOOK.event(GroupMessageReceived("alice", "hi bob, hi"))[0]) == [
        ("", "Group Chat "),
        ("bold #875fff", "alice"),
        ("bold", ": hi "),
        ("bold reverse", "bob"),
        ("bold", ", hi"),
    ]
    assert styled(BOOK.lines(Phrase.ACKNOWLEDGED, name="alice")[0]) == [
        ("dim", "[Message received by "),
        ("bold #875fff", "alice"),
        ("dim", ".]"),
    ]
    assert styled("just text") == [("", "just text")]


def test_a_sender_of_our_own_name_does_not_move_the_mark():
    (line,) = BOOK.event(GroupMessageReceived("bob", "I, Bob, say"))
    assert ("bold reverse", "Bob") in styled(line)


@given(st.text(), st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,31}\Z"), st.sampled_from(Phrase), st.booleans())
def test_styles_never_change_the_text(text, name, phrase, is_calling):
    for line in Phrasebook(owner=name).lines(phrase, name=name, text=text, key=text, pinned=text):
        said = line.calling(name) if is_calling else line
        assert "".join(part for _, part in styled(said)) == said == line
        assert isinstance(line, Line)
