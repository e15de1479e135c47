"""What a history is asked for: a room, or words.

All words must be in the text, and the last one may be the beginning of a word. As a query for SQLite's FTS5, and as a
function of a text, for histories in memory. Nothing is stored here.
"""

import re
import unicodedata
from collections.abc import Sequence

from trio_chat.protocol.records import EVERYONE_NAME, fold

SEARCHED_WORDS = 32
"""The most words of a search; later ones are ignored."""


def without_surrogates(text: str) -> str:
    """The text with lone surrogates replaced: SQLite takes UTF-8, which has none."""
    return text.encode(errors="replace").decode()


def _split(words: str) -> list[str]:
    return without_surrogates(words).replace("\0", " ").split()[:SEARCHED_WORDS]


def fts5_query(words: str) -> str:
    """The query for these words; empty if there are none."""
    # Quoted, or else words such as NOT, `-` and `*` would be operators. Inside, only quotes and NUL are special.
    quoted = ['"' + word.replace('"', '""') + '"' for word in _split(words)]
    return " ".join(quoted) + "*" if quoted else ""


def is_found(words: str, text: str) -> bool:
    """Whether FTS5 would find this text with `fts5_query(words)`."""
    found = _tokens(text)
    wanted = [_tokens(word) for word in _split(words)]
    last = len(wanted) - 1
    phrases = [(phrase, place == last) for place, phrase in enumerate(wanted) if phrase]
    return bool(phrases) and all(_has(found, phrase, is_prefix) for phrase, is_prefix in phrases)


def _tokens(text: str) -> list[str]:
    """Runs of letters, digits and most emoji, in lower case, without accents: as FTS5's tokenizer `unicode61` does."""
    plain = "".join(one for one in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(one))
    return re.findall(r"(?:[^\W_]|[\U00010000-\U0010ffff])+", plain)


def _has(found: Sequence[str], phrase: Sequence[str], is_prefix: bool) -> bool:
    """Whether the tokens of a phrase are there, side by side. With `is_prefix`, the last one may be longer."""
    *before, end = phrase
    for place in range(len(found) - len(before)):
        *first, last = found[place : place + len(phrase)]
        if first == before and (last == end or (is_prefix and last.startswith(end))):
            return True
    return False


def asked_room(peer: str | None) -> str | None:
    """What `HistoryEntry.room` is for those that `ClientStore.history` is asked for; None if it is not for a room."""
    if peer is None or not peer.startswith("#"):
        return None
    return "" if fold(peer[1:]) == EVERYONE_NAME else peer[1:]
