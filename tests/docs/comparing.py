"""Compares a documented line with a printed one. Times, ports and fingerprints differ in each run.

Ports and fingerprints must differ consistently: one value in the documentation always stands for the same real value.
"""

import re

_CHANGING = re.compile(
    r"(?P<clock>\b\d\d:\d\d:\d\d\b)"
    r"|(?P<day>\b\d{4}-\d\d-\d\d(?= \d\d:\d\d:\d\d\b))"
    r"|(?P<date>\b\d{4}-\d\d-\d\d \d\d:\d\d\b(?!:))"
    r"|(?P<key>\b[a-z2-7]{4}(?:-[a-z2-7]{4}){3}(?:(?:-[a-z2-7]{4}){2})?\b)"  # or the code of an invitation
    r"|(?P<epoch>\b\d{9,}(?:\.\d+)?\b)"
    r"|(?P<port>(?:(?<=127\.0\.0\.1:)|(?<=127\.0\.0\.1', )|(?<=\]:)|(?<=\bport )|(?<=\"port\": ))\d+\b)"
)
_CONSISTENT = ("key", "port")


class RealValues:
    """The real port or fingerprint behind each documented one."""

    def __init__(self):
        self._real = {}
        self._documented = {}

    def bind(self, documented, real):
        """Both stand for each other from now on. False if one of them already stands for something else.

        A real port may stand for two: the system may hand out that of a program that has ended.
        """
        bound = self._real.setdefault(documented, real) == real
        return bound and (real.isdigit() or self._documented.setdefault(real, documented) == documented)

    def knows(self, documented):
        return documented in self._real

    def translate(self, documented):
        """A documented command, with the real values in it."""
        return re.sub(r"[\w-]+", lambda word: self._real.get(word[0], word[0]), documented)

    def matches(self, documented, real):
        """Whether these lines are the same, apart from values that may differ."""
        if without_changing(documented) != without_changing(real):
            return False
        pairs = list(zip(_CHANGING.finditer(documented), _CHANGING.finditer(real), strict=True))
        return all(self.bind(one[0], other[0]) for one, other in pairs if one.lastgroup in _CONSISTENT)


def without_changing(line):
    """The line with placeholders such as `<clock>` for all values that differ in each run."""
    return _CHANGING.sub(lambda found: f"<{found.lastgroup}>", line.rstrip())
