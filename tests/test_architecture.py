"""The diagram of the house, held against every module of trio_chat: who imports whom, and the manners of the place.

Each rule reads one module's syntax tree and names its breaches. The second half breaks each rule on purpose.
"""

import ast
import builtins
import re
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from pathlib import Path

import attrs
import pytest

pytestmark = pytest.mark.xdist_group("house")  # one worker reads it, and all rules have it

HOUSE = Path(__file__).parent.parent / "trio_chat"

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "tasks": set(),
    "protocol": {"errors"},
    "crypto": {"protocol"},
    "presence": {"errors", "tasks", "protocol"},
    "link": {"protocol", "crypto"},
    "storage": {"errors", "tasks", "protocol", "crypto"},
    "transport": {"errors", "protocol", "link"},
    "server": {"errors", "protocol", "crypto", "presence", "link", "storage", "transport"},
    "client": {"errors", "tasks", "protocol", "crypto", "link", "storage", "transport"},
    "terminal": {"errors", "protocol", "presence", "client"},
    "cli": {"errors", "tasks", "protocol", "crypto", "presence", "storage", "server", "client", "terminal", "trio_chat"},
    "__main__": {"cli"},
    # trio_chat/__init__.py, which gives users their names
    "trio_chat": {"errors", "protocol", "crypto", "presence", "storage", "server", "client"},
}

PURE_PACKAGES = {"protocol", "crypto", "link"}
PURE_MODULES = {"server/service.py", "presence/messages.py", "presence/json_stream.py", "presence/roster.py"}
NEVER_IN_PURE = {
    *("trio", "socket", "pathlib", "os", "sqlite3"),  # it neither waits nor touches the network or the disk
    *("time", "datetime", "random", "secrets", "logging"),  # what it needs to know, it is told
}
NEVER_IN_PRESENCE = {"trio_chat.transport"}
NEVER_ANYWHERE = {"eval", "exec", "pickle", "marshal", "shelve", "trio.lowlevel.spawn_system_task"}
SOCKETS = {"socket", "trio.socket"}
SOCKETS_LIVE_IN = "transport/udp.py"
GROUPS_ARE_TAKEN_APART_IN = "cli/main.py"
MAX_MODULE = 400
MAX_FUNCTION = 40


# --- a module, as the rules see it ---


@attrs.frozen
class Module:
    """A module of the house; `path` is relative to trio_chat/."""

    path: str
    source: str
    tree: ast.Module = attrs.field(init=False)
    nodes: list[ast.AST] = attrs.field(init=False)

    @tree.default
    def _parse(self) -> ast.Module:
        return ast.parse(self.source)

    @nodes.default
    def _walk(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @property
    def part(self) -> str:
        """Which part of the house it belongs to: a key of MAY_IMPORT."""
        first = self.path.split("/", maxsplit=1)[0].removesuffix(".py")
        return "trio_chat" if first == "__init__" else first

    @property
    def package(self) -> list[str]:
        """The dotted name of the package that it is in, for relative imports."""
        return ["trio_chat", *self.path.split("/")[:-1]]

    def imports(self) -> Iterator[tuple[str, str]]:
        """What is imported, in full, and the name that it gets here."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield alias.name, alias.asname or alias.name
            elif isinstance(node, ast.ImportFrom):
                above = self.package[: len(self.package) - node.level + 1] if node.level else []
                origin = ".".join([*above, *filter(None, [node.module])])
                for alias in node.names:
                    yield f"{origin}.{alias.name}", alias.asname or alias.name

    @cached_property
    def touched(self) -> set[str]:
        """The full names of everything that is imported, or built in and used, whatever it is called here."""
        full_names = {name: name for name in dir(builtins)}
        touched = set()
        for full, here in self.imports():
            touched.add(full)
            first, dot, _ = here.partition(".")
            full_names[first] = first if dot else full
        for node in self.nodes:
            if isinstance(node, ast.Name | ast.Attribute) and (dotted := _dotted(node)):
                first, *rest = dotted.split(".")
                if first in full_names:
                    touched.add(".".join([full_names[first], *rest]))
        return touched

    def touches(self, forbidden: set[str]) -> list[str]:
        """Which of these names, or of what is in them, this module touches."""
        return sorted(name for name in forbidden if any(f"{one}.".startswith(f"{name}.") for one in self.touched))


def _dotted(node: ast.expr) -> str:
    """`a.b.c` of such an expression; nothing of any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


# --- the rules ---


def imports_follow_the_diagram(module: Module) -> Iterator[str]:
    if module.part not in MAY_IMPORT:
        yield f"{module.part} has no place in the diagram"
        return
    for full, _ in module.imports():
        if full.split(".")[0] != "trio_chat":
            continue
        inside = full.split(".")[1]
        part = inside if inside in MAY_IMPORT else "trio_chat"
        if part != module.part and part not in MAY_IMPORT[module.part]:
            yield f"imports {full}"


def pure_modules_are_pure(module: Module) -> Iterator[str]:
    if module.part in PURE_PACKAGES or module.path in PURE_MODULES:
        yield from module.touches(NEVER_IN_PURE)


def presence_knows_no_datagrams(module: Module) -> Iterator[str]:
    if module.part == "presence":
        yield from module.touches(NEVER_IN_PRESENCE)


def sockets_live_in_one_place(module: Module) -> Iterator[str]:
    if module.path != SOCKETS_LIVE_IN:
        yield from module.touches(SOCKETS)


def nothing_dangerous_is_used(module: Module) -> Iterator[str]:
    yield from module.touches(NEVER_ANYWHERE)


def groups_are_taken_apart_in_one_place(module: Module) -> Iterator[str]:
    if module.path != GROUPS_ARE_TAKEN_APART_IN:
        for node in module.nodes:
            if isinstance(node, ast.TryStar):
                yield f"line {node.lineno}: except*"


def expected_errors_are_named(module: Module) -> Iterator[str]:
    for node in module.nodes:
        if isinstance(node, ast.ExceptHandler):
            caught = {_dotted(one) for one in ast.walk(node.type)} if node.type else {"everything"}
            passed_on = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
        elif isinstance(node, ast.Call) and _dotted(node.func).endswith("suppress"):
            caught, passed_on = {_dotted(one) for one in node.args}, False
        else:
            continue
        if caught & {"everything", "Exception"} or ("BaseException" in caught and not passed_on):
            yield f"line {node.lineno}: catches too much"


def modules_open_with_a_charter(module: Module) -> Iterator[str]:
    charter = [line for line in (ast.get_docstring(module.tree) or "").splitlines() if line]
    wanted = 1 if module.path.rsplit("/", maxsplit=1)[-1].startswith("__") else 2
    if len(charter) < wanted:
        yield f"{len(charter)} of {wanted} lines of charter"


def modules_and_functions_are_small(module: Module) -> Iterator[str]:
    lines = module.source.splitlines()
    if len(lines) >= MAX_MODULE:
        yield f"{len(lines)} lines"
    for node in module.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = _size(node, lines)
            if size >= MAX_FUNCTION:
                yield f"{node.name} has {size} lines"


def _size(function: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> int:
    """Its lines, without blank ones and docstrings."""
    counted = set(range(function.lineno, (function.end_lineno or 0) + 1))
    for node in ast.walk(function):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(node):
            counted -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return sum(bool(lines[number - 1].strip()) for number in counted)


def nurseries_are_local_variables(module: Module) -> Iterator[str]:
    names = _nursery_names(module.nodes)
    for node in module.nodes:
        match node:
            case ast.Assign(targets=targets, value=value):
                held = any(isinstance(target, ast.Attribute) for target in targets) and _holds(value, names)
            case ast.AnnAssign(target=ast.Attribute(), annotation=annotation, value=value):
                held = _is_nursery_type(annotation) or _holds(value, names)
            case ast.ClassDef(body=body):
                held = any(isinstance(line, ast.AnnAssign) and _is_nursery_type(line.annotation) for line in body)
            case ast.withitem(optional_vars=ast.Attribute(), context_expr=opened):
                held = "open_nursery" in ast.unparse(opened)
            case _:
                continue
        if held:
            yield ast.unparse(node).splitlines()[0]


def _nursery_names(nodes: list[ast.AST]) -> set[str]:
    """What nurseries are called: as they are opened, as arguments that are typed so, or simply `nursery`."""
    names = {"nursery"}
    for node in nodes:
        match node:
            case ast.withitem(context_expr=opened, optional_vars=ast.Name(id=name)) if "open_nursery" in ast.unparse(
                opened
            ):
                names.add(name)
            case ast.arg(arg=name, annotation=annotation) if _is_nursery_type(annotation):
                names.add(name)
    return names


def _is_nursery_type(annotation: ast.expr | None) -> bool:
    return annotation is not None and bool(re.search(r"\bNursery\b", ast.unparse(annotation)))


def _holds(value: ast.AST | None, names: set[str]) -> bool:
    """Whether a nursery, or a method of one, is kept in this value; what comes of awaiting one is not."""
    match value:
        case None | ast.Await() | ast.Attribute(attr="cancel_scope"):
            return False
        case ast.Name(id=name):
            return name in names
    return any(_holds(child, names) for child in ast.iter_child_nodes(value))


Rule = Callable[[Module], Iterator[str]]
RULES: list[Rule] = [
    imports_follow_the_diagram,
    pure_modules_are_pure,
    presence_knows_no_datagrams,
    sockets_live_in_one_place,
    nothing_dangerous_is_used,
    groups_are_taken_apart_in_one_place,
    expected_errors_are_named,
    modules_open_with_a_charter,
    modules_and_functions_are_small,
    nurseries_are_local_variables,
]


@cache
def the_house() -> list[Module]:
    found = sorted(HOUSE.rglob("*.py"))
    return [Module(path.relative_to(HOUSE).as_posix(), path.read_text(encoding="utf-8")) for path in found]


def called(rule: Rule) -> str:
    return rule.__name__


@pytest.mark.parametrize("rule", RULES, ids=called)
def test_the_house_keeps_the_rule(rule):
    assert [f"{module.path}: {breach}" for module in the_house() for breach in rule(module)] == []


def test_the_whole_house_is_read():
    assert {"errors.py", "protocol/messages.py", SOCKETS_LIVE_IN, "client/events.py"} <= {m.path for m in the_house()}


def test_every_part_of_the_diagram_is_one_that_the_diagram_places():
    assert all(allowed <= MAY_IMPORT.keys() for allowed in MAY_IMPORT.values())


# --- the rules, broken on purpose ---


def a_function_of(lines: int) -> str:
    """A function of so many lines that count, and many that do not."""
    body = "\n\n".join(f"    x = {n}" for n in range(lines - 1))
    return f'def f():\n    """Says\n\n    much.\n    """\n{body}\n'


BREACHES = [
    (imports_follow_the_diagram, "errors.py", "from trio_chat.protocol.messages import NAME"),
    (imports_follow_the_diagram, "protocol/wire.py", "import trio_chat.transport.endpoint"),
    (imports_follow_the_diagram, "protocol/wire.py", "from ..storage import memory"),
    (imports_follow_the_diagram, "transport/endpoint.py", "from trio_chat.storage.memory import MemoryClientStore"),
    (imports_follow_the_diagram, "storage/memory.py", "from trio_chat import transport"),
    (imports_follow_the_diagram, "client/chat.py", "from trio_chat.server.server import serve_chat"),
    (imports_follow_the_diagram, "server/server.py", "from trio_chat.client import events"),
    (imports_follow_the_diagram, "server/server.py", "def f():\n    from trio_chat.cli.main import main"),
    (imports_follow_the_diagram, "terminal/wordings.py", "from trio_chat.storage.interface import Entry"),
    (imports_follow_the_diagram, "terminal/wordings.py", "from trio_chat import open_chat"),
    (imports_follow_the_diagram, "terminal/wordings.py", "from .. import Chat"),
    (imports_follow_the_diagram, "__init__.py", "from trio_chat.terminal import wordings"),
    (imports_follow_the_diagram, "helpers/strings.py", "x = 1"),
    (pure_modules_are_pure, "protocol/table.py", "import time"),
    (pure_modules_are_pure, "protocol/table.py", "from os import path"),
    (pure_modules_are_pure, "protocol/table.py", "import trio.abc as t"),
    (pure_modules_are_pure, "protocol/table.py", "def f():\n    from datetime import UTC"),
    (presence_knows_no_datagrams, "presence/server.py", "from trio_chat.transport.udp import Address"),
    (presence_knows_no_datagrams, "presence/client.py", "from ..transport import endpoint"),
    (sockets_live_in_one_place, "transport/endpoint.py", "import socket"),
    (sockets_live_in_one_place, "server/server.py", "import trio\ntrio.socket.socket()"),
    (sockets_live_in_one_place, "server/server.py", "import trio as t\nt.socket.getaddrinfo"),
    (sockets_live_in_one_place, "server/server.py", "import trio.abc\ntrio.socket.getaddrinfo"),
    (sockets_live_in_one_place, "cli/main.py", "from trio import socket as s"),
    (nothing_dangerous_is_used, "cli/main.py", "eval('1')"),
    (nothing_dangerous_is_used, "cli/main.py", "run = exec"),
    (nothing_dangerous_is_used, "storage/memory.py", "from pickle import loads"),
    (nothing_dangerous_is_used, "client/chat.py", "import trio\ntrio.lowlevel.spawn_system_task(f)"),
    (nothing_dangerous_is_used, "client/chat.py", "from trio.lowlevel import spawn_system_task as spawn"),
    (nothing_dangerous_is_used, "client/chat.py", "from trio import lowlevel\nlowlevel.spawn_system_task(f)"),
    (groups_are_taken_apart_in_one_place, "cli/demo.py", "try:\n    f()\nexcept* ValueError:\n    pass"),
    (expected_errors_are_named, "server/server.py", "try:\n    f()\nexcept:\n    raise"),
    (expected_errors_are_named, "server/server.py", "try:\n    f()\nexcept Exception:\n    pass"),
    (expected_errors_are_named, "server/server.py", "try:\n    f()\nexcept (OSError, Exception) as e:\n    raise"),
    (expected_errors_are_named, "cli/main.py", "try:\n    f()\nexcept* Exception:\n    pass"),
    (expected_errors_are_named, "cli/main.py", "try:\n    f()\nexcept BaseException as e:\n    raise X from e"),
    (expected_errors_are_named, "cli/main.py", "import contextlib\nwith contextlib.suppress(Exception):\n    f()"),
    (modules_open_with_a_charter, "client/chat.py", "import attrs"),
    (modules_open_with_a_charter, "client/chat.py", '"""One line does not say what must not be here."""'),
    (modules_open_with_a_charter, "client/__init__.py", ""),
    (modules_and_functions_are_small, "cli/main.py", "x = 1\n" * 400),
    (modules_and_functions_are_small, "cli/main.py", a_function_of(40)),
    (nurseries_are_local_variables, "cli/main.py", "self.nursery = nursery"),
    (nurseries_are_local_variables, "cli/main.py", "self.spawn = nursery.start_soon"),
    (nurseries_are_local_variables, "cli/main.py", "self.spawn = partial(nursery.start_soon, f)"),
    (
        nurseries_are_local_variables,
        "cli/main.py",
        "async def f():\n    async with open_nursery() as n:\n        self.n = n",
    ),
    (
        nurseries_are_local_variables,
        "cli/main.py",
        "async def f():\n    async with trio.open_nursery() as self.n:\n        g()",
    ),
    (nurseries_are_local_variables, "cli/main.py", "def __init__(self, tasks: trio.Nursery):\n    self._tasks = tasks"),
    (nurseries_are_local_variables, "cli/main.py", "@attrs.frozen\nclass A:\n    tasks: trio.Nursery | None = None"),
    (nurseries_are_local_variables, "cli/main.py", "self.tasks: Nursery = f()"),
]

MANNERS = [
    (
        imports_follow_the_diagram,
        "protocol/wire.py",
        "from .messages import Ack\nfrom trio_chat.errors import ChatError",
    ),
    (imports_follow_the_diagram, "terminal/wordings.py", "from trio_chat import errors\nimport msgspec"),
    (imports_follow_the_diagram, "cli/main.py", "from trio_chat import open_chat\nfrom trio_chat.server import chat"),
    (pure_modules_are_pure, "protocol/table.py", "import random_names\ndef f(time):\n    return time.now"),
    (pure_modules_are_pure, "server/server.py", "import time"),
    (presence_knows_no_datagrams, "server/server.py", "from trio_chat.transport.udp import UDP"),
    (sockets_live_in_one_place, SOCKETS_LIVE_IN, "import socket, trio\ntrio.socket.getaddrinfo"),
    (sockets_live_in_one_place, "presence/server.py", "import trio\ntrio.SocketStream\ntrio.open_tcp_listeners"),
    (
        sockets_live_in_one_place,
        "transport/endpoint.py",
        "def f(socket):\n    socket.send(b'')\n    self.socket.close()",
    ),
    (nothing_dangerous_is_used, "cli/main.py", "import re\nre.compile('x')\nexecute()\ntrio.lowlevel.checkpoint()"),
    (groups_are_taken_apart_in_one_place, "cli/main.py", "try:\n    f()\nexcept* ValueError:\n    pass"),
    (expected_errors_are_named, "cli/main.py", "try:\n    f()\nexcept BaseException:\n    g()\n    raise"),
    (expected_errors_are_named, "cli/main.py", "try:\n    f()\nexcept (OSError, trio.BrokenResourceError):\n    pass"),
    (modules_open_with_a_charter, "cli/main.py", '"""What is here.\n\nWhat must not be.\n"""'),
    (modules_open_with_a_charter, "__main__.py", '"""One line."""'),
    (modules_and_functions_are_small, "cli/main.py", "x = 1\n" * 399),
    (modules_and_functions_are_small, "cli/main.py", a_function_of(39)),
    (
        nurseries_are_local_variables,
        "cli/main.py",
        "async def f():\n    async with open_nursery() as n:\n        n.start_soon(g)",
    ),
    (nurseries_are_local_variables, "cli/main.py", "async def f():\n    self.address = await nursery.start(serve)"),
    (nurseries_are_local_variables, "cli/main.py", "self.scope = nursery.cancel_scope"),
]


@pytest.mark.parametrize(("rule", "path", "source"), BREACHES)
def test_a_breach_is_seen(rule, path, source):
    assert list(rule(Module(path, source)))


@pytest.mark.parametrize(("rule", "path", "source"), MANNERS)
def test_good_manners_are_left_in_peace(rule, path, source):
    assert list(rule(Module(path, source))) == []


def test_every_rule_is_broken_once():
    assert {rule for rule, _, _ in BREACHES} == {rule for rule, _, _ in MANNERS} == set(RULES)
