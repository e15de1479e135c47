"""What is imported at the start: only what a command uses. Counted in new interpreters, not timed.

And the public names: each is imported when it is used, and type checkers know the same ones.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import trio_chat
from trio_chat.cli.main import REGISTRATION_MODES, WORDINGS
from trio_chat.server.moderation import RegistrationMode
from trio_chat.terminal.phrases import Wording

HEAVY = {"attrs", "attr", "cryptography", "msgspec", "prompt_toolkit", "sqlite3", "trio", "platformdirs", "asyncio"}
SERVER = {"trio_chat.server", "trio_chat.presence.server", "trio_chat.storage.server_store"}
REPORT = "import sys; print(*sys.modules, file=sys.stderr)"


def imported(code):
    """The modules that a new interpreter has imported after running this code, but for those it has anyway.

    A measurement of coverage, for example, begins with each interpreter, and imports modules of its own.
    """
    return _modules_after(code) - _modules_after("pass")


def _modules_after(code):
    done = subprocess.run([sys.executable, "-c", f"{code}\n{REPORT}"], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def after(*arguments):
    """The same after a command that ends at once."""
    return imported(f"import sys\nfrom trio_chat.__main__ import start\nsys.argv[1:] = {list(arguments)}\nstart()")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["client", "--help"], ["server", "--help"], ["server", "kick", "-h"]]
)
def test_help_imports_the_command_line_alone(arguments):
    modules = after(*arguments)
    ours = {name for name in modules if name.startswith("trio_chat.")}
    in_cli = {f"trio_chat.cli.{name}" for name in ("main", "operator", "arguments", "exit_codes")}
    assert ours == in_cli | {"trio_chat.__main__", "trio_chat.cli", "trio_chat.errors"}
    assert modules & HEAVY == set()


def test_a_client_imports_neither_the_server_nor_the_prompt():
    modules = imported("import trio_chat.cli.client")
    assert modules & (SERVER | {"trio_chat.terminal.prompt", "prompt_toolkit"}) == set()
    assert "trio_chat.client.opening" in modules


def test_a_program_that_uses_the_client_does_not_import_the_server():
    modules = imported("from trio_chat import ChatError, open_chat")
    assert modules & (SERVER | {"trio_chat.cli", "trio_chat.terminal", "click"}) == set()


def test_the_package_alone_imports_nothing():
    assert {name for name in imported("import trio_chat") if name.startswith("trio_chat.")} == set()


def test_type_checkers_know_the_same_public_names():
    tree = ast.parse(Path(trio_chat.__file__).read_text(encoding="utf-8"))
    static = {
        alias.asname: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("trio_chat.")
        for alias in node.names
    }
    assert static == {name: (module, name) for name, module in trio_chat._MODULES.items()}
    assert set(static) == set(trio_chat.__all__) <= set(dir(trio_chat))
    assert all(hasattr(trio_chat, name) for name in static)


def test_a_name_that_does_not_exist():
    with pytest.raises(AttributeError, match=r"module 'trio_chat' has no attribute 'open_door'"):
        _ = trio_chat.open_door


def test_the_values_of_options_are_those_of_their_enums():
    assert tuple(mode.value for mode in RegistrationMode) == REGISTRATION_MODES
    assert tuple(wording.value for wording in Wording) == WORDINGS


@pytest.mark.parametrize("module", ["trio_chat.cli.main", "trio_chat.cli.client", "trio"])
def test_ctrl_c_during_the_imports_ends_quietly(module):
    """Whichever module is imported at that moment: this one is a finder that is interrupted."""
    code = f"""
import sys
from trio_chat.__main__ import start

class Interrupted:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted())
sys.argv[1:] = ["client", "x", "127.0.0.1", "5000"]
sys.exit(start())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "")


def test_garbage_is_collected_when_the_program_runs():
    """It is not during the imports."""
    code = """
import gc, sys
from trio_chat.__main__ import start
import trio

was = []
trio.run = lambda *_: was.append(gc.isenabled()) or 0
sys.argv[1:] = ["demo"]
start()
print(*was)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\n"
