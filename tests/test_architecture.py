"""The rules of the code base, checked on every module of trio_chat: who imports whom, what is forbidden, and sizes.

Each rule reads the syntax tree of one module and reports violations. The second half tests the rules themselves.
"""

import ast
import builtins
import re
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from pathlib import Path

import attrs
import pytest

pytestmark = pytest.mark.xdist_group("architecture")  # one process reads the modules, for all rules

PACKAGE = Path(__file__).parent.parent / "trio_chat"

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "tasks": set(),
    "protocol": {"errors"},
    "crypto": {"protocol"},
    "presence": {"errors", "tasks", "protocol"},
    "link": {"protocol", "crypto"},
    "storage": {"errors", "tasks", "protocol", "crypto"},
    "transport": {"tasks", "errors", "protocol", "link"},
    "server": {"errors", "tasks", "protocol", "crypto", "presence", "link", "storage", "transport"},
    "client": {"errors", "tasks", "protocol", "crypto", "link", "storage", "transport"},
    "terminal": {"errors", "protocol", "presence", "client"},
    "cli": {
        "errors",
        "tasks",
        "protocol",
        "crypto",
        "presence",
        "storage",
        "server",
        "client",
        "terminal",
        "transport",
        "trio_chat",
    },
    "__main__": {"cli"},
    # trio_chat/__init__.py, the public interface
    "trio_chat": {"errors", "protocol", "crypto", "presence", "storage", "server", "client"},
}

PURE_PACKAGES = {"protocol", "crypto", "link"}
PURE_MODULES = {
    *("server/service.py", "server/sessions.py", "server/moderation.py", "server/blocks.py"),
    *("server/retention.py", "server/throttle.py", "server/other_versions.py"),
    *("presence/messages.py", "presence/json_stream.py", "presence/roster.py"),
}
NEVER_IN_PURE = {
    *("trio", "socket", "pathlib", "os", "sqlite3"),  # pure code does not wait, and uses neither network nor disk
    *("time", "datetime", "random", "secrets", "logging"),  # times and random bytes are arguments
}
NEVER_IN_PRESENCE = {"trio_chat.transport"}
NEVER_ANYWHERE = {"eval", "exec", "pickle", "marshal", "shelve", "trio.lowlevel.spawn_system_task"}
SOCKETS = {"socket", "trio.socket"}
SOCKETS_ARE_IN = ("transport/udp.py", "transport/multicast.py", "transport/unix.py", "presence/tcp.py")
GROUPS_ARE_SPLIT_IN = "cli/running.py"
MAX_MODULE = 400
MAX_FUNCTION = 40


# --- modules ---


@attrs.frozen
class Module:
    """A module; `path` is relative to trio_chat/."""

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
        """Its package, or the module itself outside of packages: a key of MAY_IMPORT."""
        first = self.path.split("/", maxsplit=1)[0].removesuffix(".py")
        return "trio_chat" if first == "__init__" else first

    @property
    def package(self) -> list[str]:
        """The dotted name of its package, for relative imports."""
        return ["trio_chat", *self.path.split("/")[:-1]]

    def imports(self) -> Iterator[tuple[str, str]]:
        """The full name of each import, and the name that it gets here."""
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
    def uses(self) -> set[str]:
        """The full names of everything that is imported, or built in and used, whatever it is called here."""
        full_names = {name: name for name in dir(builtins)}
        uses = set()
        for full, here in self.imports():
            uses.add(full)
            first, dot, _ = here.partition(".")
            full_names[first] = first if dot else full
        for node in self.nodes:
            if isinstance(node, ast.Name | ast.Attribute) and (dotted := _dotted(node)):
                first, *rest = dotted.split(".")
                if first in full_names:
                    uses.add(".".join([full_names[first], *rest]))
        return uses

    def forbidden_uses(self, forbidden: set[str]) -> list[str]:
        """Those of the forbidden names which this module uses, or of which it uses an attribute."""
        return sorted(name for name in forbidden if any(f"{one}.".startswith(f"{name}.") for one in self.uses))


def _dotted(node: ast.expr) -> str:
    """The name `a.b.c` if the expression is one, else an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


# --- the rules ---


def imports_follow_the_map(module: Module) -> Iterator[str]:
    if module.part not in MAY_IMPORT:
        yield f"{module.part} is not in MAY_IMPORT"
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
        yield from module.forbidden_uses(NEVER_IN_PURE)


def presence_uses_no_datagrams(module: Module) -> Iterator[str]:
    if module.part == "presence":
        yield from module.forbidden_uses(NEVER_IN_PRESENCE)


def sockets_are_in_four_modules(module: Module) -> Iterator[str]:
    if module.path not in SOCKETS_ARE_IN:
        yield from module.forbidden_uses(SOCKETS)


def nothing_dangerous_is_used(module: Module) -> Iterator[str]:
    yield from module.forbidden_uses(NEVER_ANYWHERE)


def groups_are_split_in_one_module(module: Module) -> Iterator[str]:
    if module.path != GROUPS_ARE_SPLIT_IN:
        for node in module.nodes:
            if isinstance(node, ast.TryStar):
                yield f"line {node.lineno}: except*"


def expected_errors_are_named(module: Module) -> Iterator[str]:
    for node in module.nodes:
        if isinstance(node, ast.ExceptHandler):
            caught = {_dotted(one) for one in ast.walk(node.type)} if node.type else {"everything"}
            reraised = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
        elif isinstance(node, ast.Call) and _dotted(node.func).endswith("suppress"):
            caught, reraised = {_dotted(one) for one in node.args}, False
        else:
            continue
        if caught & {"everything", "Exception"} or ("BaseException" in caught and not reraised):
            yield f"line {node.lineno}: catches too much"


def modules_have_docstrings(module: Module) -> Iterator[str]:
    lines = [line for line in (ast.get_docstring(module.tree) or "").splitlines() if line]
    wanted = 1 if module.path.rsplit("/", maxsplit=1)[-1].startswith("__") else 2
    if len(lines) < wanted:
        yield f"the docstring has {len(lines)} of {wanted} lines"


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
    """Its number of lines, without blank lines and docstrings."""
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
    """Names of nurseries: those that are opened, arguments of that type, and `nursery`."""
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
    """Whether this value is, or contains, a nursery or a method of one. The result of awaiting a method is neither."""
    match value:
        case None | ast.Await() | ast.Attribute(attr="cancel_scope"):
            return False
        case ast.Name(id=name):
            return name in names
    return any(_holds(child, names) for child in ast.iter_child_nodes(value))


def names_defined_twice(modules: list[Module]) -> dict[str, list[str]]:
    """Public names of classes, functions and constants, with the modules that define them. Each may have a `log`."""
    paths: dict[str, list[str]] = {}
    for module in modules:
        for name in _defined_names(module) - {"log"}:
            if not name.startswith("_") and not module.path.endswith("__init__.py"):
                paths.setdefault(name, []).append(module.path)
    return {name: where for name, where in sorted(paths.items()) if len(where) > 1}


def _defined_names(module: Module) -> set[str]:
    names = set()
    for node in module.tree.body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.Assign(targets=targets):
                names |= {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return names


Rule = Callable[[Module], Iterator[str]]
RULES: list[Rule] = [
    imports_follow_the_map,
    pure_modules_are_pure,
    presence_uses_no_datagrams,
    sockets_are_in_four_modules,
    nothing_dangerous_is_used,
    groups_are_split_in_one_module,
    expected_errors_are_named,
    modules_have_docstrings,
    modules_and_functions_are_small,
    nurseries_are_local_variables,
]


@cache
def modules() -> list[Module]:
    found = sorted(PACKAGE.rglob("*.py"))
    return [Module(path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8")) for path in found]


def name_of(rule: Rule) -> str:
    return rule.__name__


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_every_module_follows_the_rule(rule):
    assert [f"{module.path}: {violation}" for module in modules() for violation in rule(module)] == []


def test_no_public_name_is_defined_in_two_modules():
    defined_twice = names_defined_twice(modules())
    assert defined_twice == {}


def test_all_modules_are_read():
    assert {"errors.py", "protocol/messages.py", *SOCKETS_ARE_IN, "client/events.py"} <= {m.path for m in modules()}


def test_the_docstring_of_a_package_names_all_its_modules():
    """It is the map that a reader has."""
    missing = []
    for folder in sorted(path.parent for path in PACKAGE.glob("*/__init__.py")):
        docstring = (folder / "__init__.py").read_text(encoding="utf-8")
        names = {path.stem for path in folder.glob("*.py")} - {"__init__"}
        missing += [f"{folder.name}/{name}" for name in sorted(names) if not re.search(rf"\b{name}\b", docstring)]
    assert missing == []


def test_all_pure_modules_exist():
    assert {module.path for module in modules()} >= PURE_MODULES


def test_every_imported_part_is_in_the_map():
    assert all(allowed <= MAY_IMPORT.keys() for allowed in MAY_IMPORT.values())


# --- the rules, tested ---


def a_function_of(lines: int) -> str:
    """A function with so many lines that count, and others that do not."""
    body = "\n\n".join(f"    x = {n}" for n in range(lines - 1))
    return f'def f():\n    """A docstring\n\n    of lines.\n    """\n{body}\n'


VIOLATIONS = [
    (imports_follow_the_map, "errors.py", "from trio_chat.protocol.messages import NAME"),
    (imports_follow_the_map, "protocol/wire.py", "import trio_chat.transport.endpoint"),
    (imports_follow_the_map, "protocol/wire.py", "from ..storage import memory"),
    (imports_follow_the_map, "transport/endpoint.py", "from trio_chat.storage.memory import MemoryClientStore"),
    (imports_follow_the_map, "storage/memory.py", "from trio_chat import transport"),
    (imports_follow_the_map, "client/chat.py", "from trio_chat.server.server import serve_chat"),
    (imports_follow_the_map, "server/server.py", "from trio_chat.client import events"),
    (imports_follow_the_map, "server/server.py", "def f():\n    from trio_chat.cli.main import main"),
    (imports_follow_the_map, "terminal/wordings.py", "from trio_chat.storage.interface import Entry"),
    (imports_follow_the_map, "terminal/wordings.py", "from trio_chat import open_chat"),
    (imports_follow_the_map, "terminal/wordings.py", "from .. import Chat"),
    (imports_follow_the_map, "__init__.py", "from trio_chat.terminal import wordings"),
    (imports_follow_the_map, "helpers/strings.py", "x = 1"),
    (pure_modules_are_pure, "protocol/table.py", "import time"),
    (pure_modules_are_pure, "protocol/table.py", "from os import path"),
    (pure_modules_are_pure, "protocol/log.py", "import trio.abc as t"),
    (pure_modules_are_pure, "server/retention.py", "import time"),
    (pure_modules_are_pure, "protocol/table.py", "def f():\n    from datetime import UTC"),
    (presence_uses_no_datagrams, "presence/server.py", "from trio_chat.transport.udp import Address"),
    (presence_uses_no_datagrams, "presence/client.py", "from ..transport import endpoint"),
    (sockets_are_in_four_modules, "transport/endpoint.py", "import socket"),
    (sockets_are_in_four_modules, "server/server.py", "import trio\ntrio.socket.socket()"),
    (sockets_are_in_four_modules, "server/server.py", "import trio as t\nt.socket.getaddrinfo"),
    (sockets_are_in_four_modules, "server/server.py", "import trio.abc\ntrio.socket.getaddrinfo"),
    (sockets_are_in_four_modules, "cli/main.py", "from trio import socket as s"),
    (nothing_dangerous_is_used, "cli/main.py", "eval('1')"),
    (nothing_dangerous_is_used, "cli/main.py", "run = exec"),
    (nothing_dangerous_is_used, "storage/memory.py", "from pickle import loads"),
    (nothing_dangerous_is_used, "client/chat.py", "import trio\ntrio.lowlevel.spawn_system_task(f)"),
    (nothing_dangerous_is_used, "client/chat.py", "from trio.lowlevel import spawn_system_task as spawn"),
    (nothing_dangerous_is_used, "client/chat.py", "from trio import lowlevel\nlowlevel.spawn_system_task(f)"),
    (groups_are_split_in_one_module, "cli/demo.py", "try:\n    f()\nexcept* ValueError:\n    pass"),
    (expected_errors_are_named, "server/server.py", "try:\n    f()\nexcept:\n    raise"),
    (expected_errors_are_named, "server/server.py", "try:\n    f()\nexcept Exception:\n    pass"),
    (expected_errors_are_named, "server/server.py", "try:\n    f()\nexcept (OSError, Exception) as e:\n    raise"),
    (expected_errors_are_named, "cli/main.py", "try:\n    f()\nexcept* Exception:\n    pass"),
    (expected_errors_are_named, "cli/main.py", "try:\n    f()\nexcept BaseException as e:\n    raise X from e"),
    (expected_errors_are_named, "cli/main.py", "import contextlib\nwith contextlib.suppress(Exception):\n    f()"),
    (modules_have_docstrings, "client/chat.py", "import attrs"),
    (modules_have_docstrings, "client/chat.py", '"""One line does not say what is not here."""'),
    (modules_have_docstrings, "client/__init__.py", ""),
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

ALLOWED = [
    (
        imports_follow_the_map,
        "protocol/wire.py",
        "from .messages import Ack\nfrom trio_chat.errors import ChatError",
    ),
    (imports_follow_the_map, "terminal/wordings.py", "from trio_chat import errors\nimport msgspec"),
    (imports_follow_the_map, "cli/main.py", "from trio_chat import open_chat\nfrom trio_chat.server import chat"),
    (pure_modules_are_pure, "protocol/table.py", "import random_names\ndef f(time):\n    return time.now"),
    (pure_modules_are_pure, "server/server.py", "import time"),
    (presence_uses_no_datagrams, "server/server.py", "from trio_chat.transport.udp import UDP"),
    (sockets_are_in_four_modules, SOCKETS_ARE_IN[0], "import socket, trio\ntrio.socket.getaddrinfo"),
    (sockets_are_in_four_modules, "presence/server.py", "import trio\ntrio.SocketStream\ntrio.open_tcp_listeners"),
    (
        sockets_are_in_four_modules,
        "transport/endpoint.py",
        "def f(socket):\n    socket.send(b'')\n    self.socket.close()",
    ),
    (nothing_dangerous_is_used, "cli/main.py", "import re\nre.compile('x')\nexecute()\ntrio.lowlevel.checkpoint()"),
    (groups_are_split_in_one_module, "cli/running.py", "try:\n    f()\nexcept* ValueError:\n    pass"),
    (expected_errors_are_named, "cli/main.py", "try:\n    f()\nexcept BaseException:\n    g()\n    raise"),
    (expected_errors_are_named, "cli/main.py", "try:\n    f()\nexcept (OSError, trio.BrokenResourceError):\n    pass"),
    (modules_have_docstrings, "cli/main.py", '"""What is here.\n\nWhat is not.\n"""'),
    (modules_have_docstrings, "__main__.py", '"""One line."""'),
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


@pytest.mark.parametrize(("rule", "path", "source"), VIOLATIONS)
def test_a_violation_is_reported(rule, path, source):
    assert list(rule(Module(path, source)))


@pytest.mark.parametrize(("rule", "path", "source"), ALLOWED)
def test_what_is_allowed_is_not_reported(rule, path, source):
    assert list(rule(Module(path, source))) == []


def test_a_name_in_two_modules_is_reported():
    one = Module("client/a.py", "log = 1\nREFUSED = 2\nclass Trust: ...\n_own: int = 3\ndef f():\n    inside = 1")
    other = Module("server/b.py", "log = 1\nREFUSED: int = 2\ndef Trust(): ...\n_own = 3\ninside = 1")
    package = Module("server/__init__.py", "Trust = 1")
    where = ["client/a.py", "server/b.py"]
    assert names_defined_twice([one, other, package]) == {"REFUSED": where, "Trust": where}
    assert names_defined_twice([one, package]) == {}


def test_every_rule_is_tested():
    assert {rule for rule, _, _ in VIOLATIONS} == {rule for rule, _, _ in ALLOWED} == set(RULES)
