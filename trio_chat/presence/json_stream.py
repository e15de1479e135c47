"""JSON objects out of a stream of bytes, however the bytes are cut into pieces: where one ends, and what is in it.

Knows the form and its bounds, and nothing of what the objects mean.
"""

import re

import msgspec

__all__ = ["MAX_DEPTH", "MAX_OBJECT", "JsonError", "JsonStream"]

MAX_OBJECT = 64 * 1024
"""The longest object, in bytes."""

MAX_DEPTH = 32
"""How deep objects and lists may stand within each other."""

_BLANKS = b" \t\r\n"
_MARK = re.compile(rb'["{}\[\]]')
_MARK_IN_STRING = re.compile(rb'["\\]')
_CLOSERS = {b"{": b"}", b"[": b"]"}
_decoder = msgspec.json.Decoder(dict[str, object])


class JsonError(Exception):
    """These bytes do not begin with an object within the bounds. The stream is of no use any longer."""


class JsonStream:
    """Bytes in, as they come; objects out, one at a time. Between objects may stand blanks, or nothing.

    An object is strict JSON in UTF-8: no NaN, no number beyond a double, no lone surrogate. Of a repeated key the
    last value counts. Each byte is looked at once, however small the pieces.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._seen = 0
        self._in_string = False
        self._closers: list[bytes] = []

    def feed(self, data: bytes | bytearray) -> None:
        """Take more bytes. Call `take` until it gives None before the next ones: only that looks at the bounds."""
        self._buffer += data

    def take(self) -> dict[str, object] | None:
        """The next whole object, or None when more bytes are needed.

        Raises JsonError, and nothing else, as soon as it is certain that there will be none.
        """
        if not self._closers:
            self._buffer = self._buffer.lstrip(_BLANKS)
            if self._buffer and not self._buffer.startswith(b"{"):
                raise JsonError("not a JSON object")
        end = self._find_end()
        if (end or len(self._buffer)) > MAX_OBJECT:
            raise JsonError("an object over 64 KiB")
        if end is None:
            return None
        whole = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._seen = 0
        try:
            return _decoder.decode(whole)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise JsonError("not JSON") from error

    def _find_end(self) -> int | None:
        while mark := (_MARK_IN_STRING if self._in_string else _MARK).search(self._buffer, self._seen):
            self._seen = mark.end()
            match mark[0]:
                case b"\\":
                    self._seen += 1  # it may not even be here yet
                case b'"':
                    self._in_string = not self._in_string
                case b"{" | b"[" as opener:
                    self._open(_CLOSERS[opener])
                case closer:
                    if closer != self._closers.pop():
                        raise JsonError("not JSON")
                    if not self._closers:
                        return self._seen
        self._seen = max(self._seen, len(self._buffer))
        return None

    def _open(self, closer: bytes) -> None:
        if len(self._closers) == MAX_DEPTH:
            raise JsonError("objects and lists stand too deep within each other")
        self._closers.append(closer)
