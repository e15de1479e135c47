"""What of a transcript differs each time it is played: clock times, ports, fingerprints.

Ports and fingerprints must differ consistently: the same one in the documentation is always the same one on the stage.
"""

import re

_VOLATILE = re.compile(
    r"(?P<clock>\b\d\d:\d\d:\d\d\b)"
    r"|(?P<key>\b[a-z2-7]{4}(?:-[a-z2-7]{4}){3}\b)"
    r"|(?P<epoch>\b\d{9,}(?:\.\d+)?\b)"
    r"|(?P<port>(?:(?<=127\.0\.0\.1:)|(?<=127\.0\.0\.1', )|(?<=\]:)|(?<=\bport )|(?<=\"port\": ))\d+\b)"
)
_CONSISTENT = ("key", "port")


class Names:
    """Which port or fingerprint on the stage stands for which one in the documentation."""

    def __init__(self):
        self._on_stage = {}
        self._in_docs = {}

    def bind(self, documented, real):
        """From now on these are the same; False if one of them is something else already."""
        bound = self._on_stage.setdefault(documented, real) == real
        return bound and self._in_docs.setdefault(real, documented) == documented

    def known(self, documented):
        return documented in self._on_stage

    def translate(self, documented):
        """A documented command, as it has to be typed on this stage."""
        return re.sub(r"[\w-]+", lambda word: self._on_stage.get(word[0], word[0]), documented)

    def same(self, documented, real):
        """Do these lines say the same?"""
        if skeleton(documented) != skeleton(real):
            return False
        pairs = list(zip(_VOLATILE.finditer(documented), _VOLATILE.finditer(real), strict=True))
        return all(self.bind(one[0], other[0]) for one, other in pairs if one.lastgroup in _CONSISTENT)


def skeleton(line):
    """The line without what differs."""
    return _VOLATILE.sub(lambda found: f"<{found.lastgroup}>", line.rstrip())
