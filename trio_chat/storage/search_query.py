"""What a search asks for: all of its words, the last of which may be the beginning of one, and nothing else.

Said for SQLite's FTS5, and once more without SQLite, for texts that are in no file. Nothing is stored here.
"""

import re
import unicodedata
from collections.abc import Sequence

__all__ = ["SEARCHED_WORDS", "fts5_query", "is_found", "without_surrogates"]

SEARCHED_WORDS = 32
"""The words of a search that count, the first ones."""


def without_surrogates(text: str) -> str:
    """The text as UTF-8 can have it."""
    return text.encode(errors="replace").decode()


def _split(words: str) -> list[str]:
    return without_surrogates(words).replace("\0", " ").split()[:SEARCHED_WORDS]


def fts5_query(words: str) -> str:
    """The query for these words; empty if there are none. Nothing that they say is FTS5's language."""
    # Within quotes nothing has a meaning but quotes and NUL.
    quoted = ['"' + word.replace('"', '""') + '"' for word in _split(words)]
    return " ".join(quoted) + "*" if quoted else ""


def is_found(words: str, text: str) -> bool:
    """Whether a search for these words finds this text, as FTS5 would say."""
    found = _tokens(text)
    wanted = [_tokens(word) for word in _split(words)]
    last = len(wanted) - 1
    phrases = [(phrase, place == last) for place, phrase in enumerate(wanted) if phrase]
    return bool(phrases) and all(_has(found, phrase, is_begun) for phrase, is_begun in phrases)


def _tokens(text: str) -> list[str]:
    """Runs of letters, digits and most emoji, in lower case and without marks, as the tokenizer `unicode61` has it."""
    plain = "".join(one for one in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(one))
    return re.findall(r"(?:[^\W_]|[\U00010000-\U0010ffff])+", plain)


def _has(found: Sequence[str], phrase: Sequence[str], is_begun: bool) -> bool:
    """Whether the tokens of a phrase are there side by side; with `is_begun`, the last one may go on."""
    *before, end = phrase
    for place in range(len(found) - len(before)):
        *first, last = found[place : place + len(phrase)]
        if first == before and (last == end or (is_begun and last.startswith(end))):
            return True
    return False
