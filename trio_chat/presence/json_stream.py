"""Finds and decodes JSON objects in a stream of bytes, however the bytes are cut into pieces.

The bounds of an object are here; what the objects mean is in messages.py.
"""

import re

import msgspec

MAX_OBJECT = 64 * 1024
"""The longest object, in bytes."""

MAX_DEPTH = 32
"""How deep objects and lists may be nested."""

_BLANKS = b" \t\r\n"
_MARK = re.compile(rb'["{}\[\]]')
_MARK_IN_STRING = re.compile(rb'["\\]')
_CLOSERS = {b"{": b"}", b"[": b"]"}
_decoder = msgspec.json.Decoder(dict[str, object])


class JsonError(Exception):
    """The bytes do not begin with an object within the bounds. The stream cannot be read any further."""


class JsonStream:
    """Takes bytes and returns objects, one at a time. There may be blanks between objects, or nothing.

    An object is strict JSON in UTF-8: no NaN, no number beyond a double, no lone surrogate. Of a repeated key the
    last value counts. Each byte is scanned once, however small the pieces: one byte a packet costs no more.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._seen = 0
        self._in_string = False
        self._closers: list[bytes] = []

    def feed(self, data: bytes | bytearray) -> None:
        """Add bytes. Before the next call, call `take` until it returns None: only `take` checks the bounds."""
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
                    self._seen += 1  # skips the escaped byte, which may not have arrived yet
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
            raise JsonError("objects and lists are nested too deeply")
        self._closers.append(closer)
