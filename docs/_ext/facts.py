"""Tables and numbers that are read from the package: messages, phrases, constants.

Only how they are shown is defined here. Names, values and meanings come from the package.
"""

import ast
import enum
import importlib
import inspect
import itertools
import re
import typing
from collections.abc import Sequence

import attrs
import msgspec
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

from trio_chat.protocol import limits, messages, records
from trio_chat.terminal.phrases import Phrase

# --- values ---


def value_of(path: str) -> object:
    """The value of a constant such as `transport.windows.ACK_WINDOW`."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(f"trio_chat.{module}"), name)


def shown(value: object) -> str:
    """A value as people read it: 16,384; 0.5; 1, 2 and 4."""
    if isinstance(value, tuple):
        *first, last = map(shown, value)
        return f"{', '.join(first)} and {last}" if first else last
    if isinstance(value, float):
        return f"{value:,.4g}" if value != int(value) else f"{int(value):,}"
    return f"{value:,}" if isinstance(value, int) else str(value)


class Value(SphinxRole):
    """{value}`transport.windows.ACK_WINDOW`: a constant; `... * 1000` in another unit."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        path, _, factor = self.text.partition("*")
        value = value_of(path.strip())
        if factor:
            divides = factor.strip().startswith("1/")
            number = float(factor.strip().removeprefix("1/"))
            value = value / number if divides else value * number  # type: ignore[operator]
        return [nodes.Text(shown(value))], []


def meaning_of(path: str) -> str:
    """The docstring below a constant in its module."""
    module, _, name = path.rpartition(".")
    return _docstring_below(name, ast.parse(inspect.getsource(importlib.import_module(f"trio_chat.{module}"))).body)


def meaning_of_field(cls: type, name: str) -> str:
    """The docstring below a field in its class."""
    (definition,) = ast.parse(inspect.getsource(cls)).body
    return _docstring_below(name, typing.cast("ast.ClassDef", definition).body)


def _docstring_below(name: str, body: list[ast.stmt]) -> str:
    for line, below in itertools.pairwise(body):
        match line, below:
            case (
                (ast.Assign(targets=[ast.Name(id=found)]) | ast.AnnAssign(target=ast.Name(id=found))),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                if found == name:
                    return " ".join(inspect.cleandoc(text).split())
    return ""


# --- tables ---


Cell = str | list[str]
"""A paragraph, or a list of lines."""


class _Table(SphinxDirective):
    """A table of plain texts. Text between backticks is shown as code; there is no other markup."""

    def table(self, head: list[str], rows: list[list[Cell]], widths: list[int]) -> nodes.Node:
        group = nodes.tgroup(cols=len(head))
        group += [nodes.colspec(colwidth=width) for width in widths]
        group += nodes.thead("", self._row(head))
        group += nodes.tbody("", *map(self._row, rows))
        return nodes.table("", group, classes=["colwidths-given"])

    def _row(self, cells: Sequence[Cell]) -> nodes.row:
        return nodes.row("", *(nodes.entry("", self._block(cell)) for cell in cells))

    def _block(self, cell: Cell) -> nodes.Node:
        """A paragraph, or a block of lines."""
        if isinstance(cell, str):
            return nodes.paragraph("", "", *self._inline(cell))
        return nodes.line_block("", *(nodes.line("", "", *self._inline(line)) for line in cell))

    def _inline(self, text: str) -> list[nodes.Node]:
        """Split a text at its backticks."""
        pieces = re.split(r"(`[^`]*`)", text)
        return [nodes.literal("", one[1:-1]) if one.startswith("`") else nodes.Text(one) for one in pieces if one]


class Messages(_Table):
    """The table of requests, or that of answers and parts."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        if self.arguments[0] == "requests":
            rows = [[*common(one), ", ".join(own_answers(one)) or "only Ack"] for one in messages.REQUESTS]
            return [self.table(["kind", "message", "fields", "own answer"], rows, [8, 40, 37, 15])]
        answers = sorted([*messages.ANSWERS, messages.PartAck, messages.Part], key=lambda one: one.kind)
        return [self.table(["kind", "message", "fields"], list(map(common, answers)), [8, 46, 46])]


class Records(_Table):
    """The table of classes that messages carry."""

    def run(self) -> list[nodes.Node]:
        carried = (
            records.Record,
            records.Credentials,
            records.PublicKeys,
            records.Version,
            records.Room,
            records.Entry,
        )
        rows = [[f"`{one.__name__}`: {docstring_of(one)}", fields_of(one)] for one in carried]
        rows += [
            [f"`{one.__name__}`: {docstring_of(one)}", [f'`"{member.value}"`' for member in one]]
            for one in (records.EntryKind, records.Reason)
        ]
        return [self.table(["what", "fields or values"], rows, [45, 55])]


def common(message: type) -> list[Cell]:
    return [str(message.kind), f"`{message.__name__}`: {docstring_of(message)}", fields_of(message)]


def docstring_of(one: type) -> str:
    return " ".join(inspect.cleandoc(one.__doc__ or "").split())


def own_answers(request: type) -> list[str]:
    """The answers that only this request can get: those that its own methods build."""
    built = [typing.get_type_hints(made).get("return") for made in vars(request).values() if inspect.isfunction(made)]
    return [f"`{one.__name__}`" for one in built if one in messages.ANSWERS]


def fields_of(one: type) -> Cell:
    """The fields with types and limits, without those that all requests or all answers have."""
    hints = typing.get_type_hints(one, include_extras=True)
    common_fields = {"of", "id"} if one in messages.ANSWERS else {"id"} if one in messages.REQUESTS else set()
    fields = [field for field in attrs.fields(one) if field.name not in common_fields]
    return [f"`{field.name}`: {type_text(hints[field.name], field)}" for field in fields] or "none"


def type_text(hint: object, field: "attrs.Attribute[typing.Any]") -> str:
    """A type with its limits, in words."""
    text = _type_text(hint)
    if field.validator is not None and hint is str:
        text = f"text of 1 to {records.MAX_TEXT:,} bytes"
    if field.default is False:
        text += ", false if left out"
    return text


def _type_text(hint: object, meta: msgspec.Meta | None = None) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        for name in _NAMED:
            if hint == getattr(records, name):
                return _NAMED[name]
        return _type_text(arguments[0], arguments[1])
    if type(None) in arguments:
        (other,) = (one for one in arguments if one is not type(None))
        return f"{_type_text(other)} or none"
    if origin is tuple and meta is None:
        return " with ".join(map(_type_text, arguments))
    if origin is tuple:
        return f"{_sizes(meta)} times {_type_text(arguments[0])}"
    if hint is bytes and meta:
        if meta.min_length == meta.max_length:
            return f"{meta.min_length} bytes"
        return f"{_sizes(meta)} bytes"
    if hint in (int, float):
        return ("a number, " if hint is float else "") + _range(meta)
    if inspect.isclass(hint) and (issubclass(hint, enum.Enum) or attrs.has(hint)):
        return f"`{hint.__name__}`"
    return {bool: "true or false", str: "text"}[typing.cast("type", hint)]


_NAMED = {
    "Name": "a name",
    "Host": "an IPv4 or IPv6 address",
    "Kind": "a kind",
    "Id": "16 bytes",
    "Seconds": "seconds",
}


def _sizes(meta: msgspec.Meta) -> str:
    return f"{meta.min_length or 0:,} to {meta.max_length:,}"


def _range(meta: msgspec.Meta) -> str:
    highest = meta.le if meta.le is not None else meta.lt - 1
    text = {2**53: "2^53", 2**32 - 1: "2^32 - 1"}.get(highest, f"{highest:,}")
    return f"{meta.ge} to {text}"


class Phrases(_Table):
    """The table of lines that a client prints, in both wordings."""

    def run(self) -> list[nodes.Node]:
        rows = [
            [phrase.when, phrase_cell(phrase.group), phrase_cell(phrase.channel, phrase.group)] for phrase in Phrase
        ]
        return [self.table(["what happened", "wording `group`", "wording `channel`"], rows, [28, 38, 34])]


def phrase_cell(template: str, same_as: str | None = None) -> Cell:
    """The cell of a phrase: one entry for each line."""
    if template == same_as:
        return "the same"
    return [f"`{line}`" for line in template.split(" / ")] if template else ""


class Limits(_Table):
    """The table of constants. A meaning is the constant's docstring, or else the text after `|`."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        rows = []
        for line in self.content:
            path, _, text = (part.strip() for part in line.partition("|"))
            rows.append([f"`{path}`", shown(value_of(path)), text or meaning_of(path)])
        return [self.table(["constant", "value", "meaning"], rows, [38, 12, 50])]


class ServerLimits(_Table):
    """The table of the limits of a server: the fields of `Limits`."""

    def run(self) -> list[nodes.Node]:
        rows: list[list[Cell]] = []
        for field in attrs.fields(limits.Limits):
            value, meaning = getattr(limits.LIMITS, field.name), meaning_of_field(limits.Limits, field.name)
            if not meaning:
                raise self.error(f"the limit {field.name} has no docstring")
            rows.append([f"`{field.name}`", str(value) if isinstance(value, limits.Rate) else shown(value), meaning])
        return [self.table(["limit", "value", "meaning"], rows, [26, 24, 50])]


TABLES = {
    "message-table": Messages,
    "record-table": Records,
    "phrase-table": Phrases,
    "limits": Limits,
    "server-limits": ServerLimits,
}


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_role("value", Value())
    for name, table in TABLES.items():
        app.add_directive(name, table)
    return {"parallel_read_safe": True}
