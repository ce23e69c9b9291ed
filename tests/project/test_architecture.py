"""The rules of the house that a machine can hold: who imports what, how much there is, what it does when imported.

Read from the source, so that a module nobody imports is held to them too. ``FLOORS`` is the plan of the
house: a new module has to be put on a floor here before anything passes.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import pea2pea

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "pea2pea"

#: Who lives where. A module may import its own floor and those below, never above, and never in a circle.
FLOORS: dict[int, set[str]] = {
    1: {
        "_speedups", "addr", "codec", "errors", "gate", "instruments", "lifecycle", "settings", "stats", "undecoded",
        "version",
    },
    2: {"network", "reporting", "waiting"},
    3: {"inbox", "outbox", "streams"},
    4: {"peer", "supervisor"},
    5: {"context", "link"},
    6: {"frames", "protocols", "setup"},
    7: {"connection"},
    8: {"dialing", "listening"},
    9: {"memory", "tcp"},
    10: {"node"},
    11: {"topology"},
    12: {"identity", "keyfile", "libp2p", "noise", "share", "testing", "tls", "typed", "__init__"},
    13: {"cli"},
    14: {"__main__"},
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
PURE = FLOORS[1]
CORE = set().union(*(FLOORS[floor] for floor in range(1, 11))) - {"memory"}
IMPURE = {"_asyncio", "asyncio", "concurrent", "select", "selectors", "socket", "ssl", "subprocess", "threading"}

#: Extras whose names are public where they are.
PUBLIC_PACKAGES = {"keyfile", "noise", "share", "tls"}

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

MOST_CORE_LINES = 3_050
MOST_MODULE_LINES = 350
MOST_FUNCTION_LINES = 50


def parse(path: Path) -> ast.Module:
    # Not kept: the fixtures collect garbage after each test, which takes its time from how much there is to look at.
    return ast.parse(path.read_text(encoding="utf-8"))


def room_of(path: Path) -> str:
    """The module directly under the package that ``path`` is, or is a part of."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def library() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def rooms() -> list[Path]:
    return sorted(PACKAGE.glob("*.py"))


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(tree: ast.AST, *, typing_only: bool = True) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import of ``tree``, wherever it stands; ``typing_only``: also those that never run."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif typing_only or not is_type_checking(node):
            yield from imports(node, typing_only=typing_only)


@cache
def outside(path: Path, *, typing_only: bool = True) -> set[str]:
    """The top-level packages that ``path`` imports and that are not this one."""
    found = set()
    for node in imports(parse(path), typing_only=typing_only):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif not node.level and node.module:
            found.add(node.module.split(".")[0])
    return found - {"pea2pea"}


@cache
def inside(path: Path, *, typing_only: bool = True) -> set[str]:
    """The rooms of this package that ``path`` imports."""
    found = set()
    here = ("pea2pea", *path.relative_to(PACKAGE).parts[:-1])
    for node in imports(parse(path), typing_only=typing_only):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[2] or "__init__" for name in node.names if is_own(name.name)}
        elif node.level or is_own(node.module or ""):
            parents = here[: len(here) - node.level + 1] if node.level else ()
            base = ".".join([*parents, *([node.module] if node.module else [])])
            found |= targets(base, [name.name for name in node.names])
    return {name.split(".")[0] for name in found}


def is_own(module: str) -> bool:
    return module.split(".")[0] == "pea2pea"


def targets(base: str, names: list[str]) -> set[str]:
    """What ``from base import names`` refers to, below ``pea2pea``."""
    if base == "pea2pea":
        return {name if name in FLOOR_OF else "__init__" for name in names}
    return {base.removeprefix("pea2pea.")}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(parse(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


@cache
def code_lines(path: Path) -> int:
    """Lines that hold code: no docstrings, no comments, no blanks."""
    docstrings: set[int] = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node):
            docstrings.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    return sum(bool(text.strip()) and not text.lstrip().startswith("#") and n not in docstrings for n, text in lines)


# Who may import what


def test_every_module_stands_on_a_floor() -> None:
    assert {room_of(path) for path in library()} <= set(FLOOR_OF)


def test_imports_only_go_down() -> None:
    upward = {
        f"{path.relative_to(PACKAGE)} imports {room}"
        for path in library()
        for room in inside(path, typing_only=False)
        if FLOOR_OF[room] > FLOOR_OF[room_of(path)]
    }
    assert not upward


def dotted(path: Path) -> str:
    """The name of the module at ``path``, without the package's."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


@cache
def modules_inside(path: Path) -> set[str]:
    """The modules of this package, those inside its packages included, that run when ``path`` is imported."""
    known = {dotted(other) for other in library()}
    found = set()
    here = ("pea2pea", *path.relative_to(PACKAGE).parts[:-1])
    for node in imports(parse(path), typing_only=False):
        if isinstance(node, ast.Import):
            found |= {name.name.removeprefix("pea2pea.") for name in node.names if is_own(name.name)}
        elif node.level or is_own(node.module or ""):
            parents = here[: len(here) - node.level + 1] if node.level else ()
            base = ".".join([*parents, *([node.module] if node.module else [])]).removeprefix("pea2pea").lstrip(".")
            for name in node.names:
                inner = f"{base}.{name.name}".lstrip(".")
                compiled = not base and name.name == "_speedups"
                found.add(inner if inner in known or compiled else base or "__init__")
    return found & known


def test_no_module_imports_itself_in_a_circle() -> None:
    """In no package; a package's ``__init__`` re-exports, and is not counted as imported by its own modules."""
    graph = {dotted(path): modules_inside(path) for path in library()}

    def reach(room: str) -> set[str]:
        seen: set[str] = set()
        frontier = [room]
        while frontier:
            new = graph.get(frontier.pop(), set()) - seen
            seen |= new
            frontier.extend(new)
        return seen

    assert not {room for room in graph if room in reach(room)}


def test_pure_rooms_touch_neither_loop_nor_socket() -> None:
    guilty = {path.name: found for path in rooms() if path.stem in PURE and (found := outside(path) & IMPURE)}
    assert not guilty


def test_only_networks_touch_sockets() -> None:
    touching = {path.stem for path in rooms() if path.stem in CORE and "socket" in outside(path, typing_only=False)}
    assert touching == {"network", "tcp"}, "the interface names the type"


def test_the_core_imports_the_standard_library_and_itself() -> None:
    foreign = {
        path.name: found
        for path in rooms()
        if path.stem in CORE and (found := outside(path, typing_only=False) - sys.stdlib_module_names - {"__future__"})
    }
    assert not foreign


@pytest.mark.parametrize(("application", "allowed"), [("share", {"share"}), ("cli", {"cli", "share"})])
def test_the_applications_use_the_public_api_alone(application: str, allowed: set[str]) -> None:
    private = {
        f"{path.relative_to(PACKAGE)} imports {room}"
        for path in library()
        if room_of(path) == application
        for room in inside(path) - {"__init__", *allowed, *PUBLIC_PACKAGES}
    }
    assert not private


def test_the_import_rules_see_every_way_to_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules above hold nothing if the reader of imports is blind."""
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    path = tmp_path / "cli" / "sub.py"
    path.parent.mkdir()
    path.write_text(
        "import socket as s, a.b\nfrom concurrent.futures import wait\nimport pea2pea.peer\nfrom pea2pea import Node\n"
        "from pea2pea.codec import x\nfrom .. import network\nfrom ..addr import y\nfrom . import other\n"
        "def f():\n    import late\nif TYPE_CHECKING:\n    import typed_only\n    from ..node import z\n",
        encoding="utf-8",
    )
    assert outside(path) == {"socket", "a", "concurrent", "late", "typed_only"}
    assert outside(path, typing_only=False) == {"socket", "a", "concurrent", "late"}
    assert inside(path) == {"peer", "__init__", "codec", "network", "addr", "cli", "node"}
    assert inside(path, typing_only=False) == {"peer", "__init__", "codec", "network", "addr", "cli"}


#: Packages that still use private names of other modules; to be empty.
PRIVATE_ALLOWED = {"cli", "libp2p", "noise", "tls"}


def defined(tree: ast.Module) -> set[str]:
    """Names that a module defines: functions, classes, attributes of ``self``, slots, and whatever is assigned."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_own_object(node.value):
            found.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # __slots__
            found.add(node.value)
    return found


def is_own_object(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def foreign_private_names(tree: ast.Module) -> set[str]:
    """Private names of other modules that a module uses: as an attribute, or imported."""
    own = defined(tree)
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and not is_own_object(node.value) and node.attr not in own
    }
    used |= {
        name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level for name in node.names
    } - {"_speedups"}
    return {name for name in used if name.startswith("_") and not name.endswith("__")}


def test_no_module_uses_a_private_name_of_another() -> None:
    used = {
        str(path.relative_to(PACKAGE)): names
        for path in library()
        if room_of(path) not in PRIVATE_ALLOWED and (names := foreign_private_names(parse(path)))
    }
    assert not used


def test_private_names_are_seen_wherever_they_are_used() -> None:
    text = """
from .other import _hidden
from pea2pea import x
class A:
    __slots__ = ("_slot",)
    def f(self, b):
        self._mine = b._slot + b._mine + b.__class__
        return b._theirs, self._x.y._deep, b._x
"""
    assert foreign_private_names(ast.parse(text)) == {"_hidden", "_theirs", "_deep", "_x"}


# How much there is


def test_the_core_is_read_in_an_afternoon() -> None:
    # What the node needs, and the tools of its floor. It needs the interface of codecs, and none of the ready ones.
    core = {path.name: code_lines(path) for path in rooms() if path.stem in CORE | {"__init__"}}
    core["codec/interface.py"] = code_lines(PACKAGE / "codec" / "interface.py")
    assert sum(core.values()) <= MOST_CORE_LINES, core


def test_code_lines_are_counted_without_what_explains_them(tmp_path: Path) -> None:
    path = tmp_path / "counted.py"
    text = '"""One\n\ntwo."""\n\n# three\nx = 1  # one\n\ndef f():\n    """Four."""\n    return """\na"""\n'
    path.write_text(text, encoding="utf-8")
    assert code_lines(path) == 4


def test_no_module_is_too_long() -> None:
    long = {str(path.relative_to(PACKAGE)): code_lines(path) for path in library()}
    assert not {name: lines for name, lines in long.items() if lines > MOST_MODULE_LINES}


def test_functions_fit_on_a_screen() -> None:
    long = {f"{path.name}:{f.lineno} {f.name}": length(f) for path in library() for f in functions(path)}
    assert not {where: lines for where, lines in long.items() if lines > MOST_FUNCTION_LINES}
    assert statistics.median(long.values()) < 10


def test_there_are_at_least_as_many_lines_of_tests_as_of_library() -> None:
    tests = sum(code_lines(path) for path in (ROOT / "tests").rglob("*.py"))
    assert tests >= sum(code_lines(path) for path in library())


# What a user sees


def test_public_names_are_there_once() -> None:
    assert len(pea2pea.__all__) == len(set(pea2pea.__all__))
    assert all(hasattr(pea2pea, name) for name in pea2pea.__all__)


def test_the_top_level_only_re_exports() -> None:
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.Expr)
    assert all(isinstance(node, allowed) for node in parse(PACKAGE / "__init__.py").body)


def test_every_module_says_what_it_is_for() -> None:
    assert not [path.name for path in library() if not ast.get_docstring(parse(path))]


def test_every_public_name_has_a_docstring() -> None:
    assert not [name for name in pea2pea.__all__ if undocumented(getattr(pea2pea, name))]


def test_every_public_method_has_a_docstring() -> None:
    classes = [value for name in pea2pea.__all__ if inspect.isclass(value := getattr(pea2pea, name))]
    bare = {
        f"{cls.__name__}.{name}"
        for cls in classes
        for base in cls.__mro__
        if base.__module__.startswith("pea2pea")
        for name, value in vars(base).items()
        if not name.startswith("_") and is_method(value) and not inspect.getdoc(getattr(cls, name))
    }
    assert not bare


def is_method(value: object) -> bool:
    return inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod)


def undocumented(value: object) -> bool:
    """Whether a class or function lacks a docstring of its own; the generated one of a dataclass is none."""
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return False
    own = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    return not own or own.startswith(f"{getattr(value, '__name__', '')}(")


def test_the_invariants_name_what_is_there() -> None:
    """A statement of what enforces an invariant is worth nothing once that was renamed."""
    named = set(re.findall(r"`([a-z_]+)\.([\w.]+)`", (ROOT / "INVARIANTS.md").read_text(encoding="utf-8")))
    named = {(room, path) for room, path in named if room in FLOOR_OF}
    assert len(named) > 20
    assert not [f"{room}.{path}" for room, path in named if not is_there(room, path)]


def is_there(room: str, path: str) -> bool:
    value: object = importlib.import_module(f"pea2pea.{room}")
    for name in path.split("."):
        value = getattr(value, name, None)
    return value is not None


# What importing it does


def test_importing_configures_no_logging_and_needs_no_dependency() -> None:
    script = (
        "import logging, sys\n"
        "before = set(sys.modules), logging.root.level\n"
        "import pea2pea\n"
        "known = logging.Logger.manager.loggerDict.values()\n"
        "loggers = [logging.root, *(one for one in known if isinstance(one, logging.Logger))]\n"
        "assert not [h for l in loggers for h in l.handlers if not isinstance(h, logging.NullHandler)], 'a handler'\n"
        "assert logging.root.level == before[1] and not logging.getLogger('pea2pea').level, 'a level'\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before[0]}\n"
        "print(sorted(new - sys.stdlib_module_names))\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout) == ("", "['pea2pea']\n")


@pytest.mark.parametrize("path", library(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_can_be_imported_by_itself(path: Path) -> None:
    """All but the command's entry point, which runs the command."""
    name = ".".join(("pea2pea", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    if not name.endswith("__main__"):
        assert importlib.import_module(name).__doc__


# What no file may say

_REGISTRIES = [("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "com"), ("npmjs", "org"), ("crates", "io")]
_REGISTRIES += [("rubygems", "org"), ("anaconda", "org"), ("debian", "org"), ("ubuntu", "com"), ("golang", "org")]
_HOMES = "|".join(("work", "farm", "root", "home", "Users", "opt"))
FORBIDDEN = re.compile(
    "|".join([*(re.escape(".".join(parts)) for parts in _REGISTRIES), rf"(?<![\w.~$}}-])/(?:{_HOMES})/[\w.]"])
)


def repository_files() -> list[Path]:
    """What is, or would be, committed; in a source archive, which has no history, everything but what tools left."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        files = [p for p in ROOT.rglob("*") if not any(part.startswith(".venv") for part in p.parts)]
        return [p for p in files if p.is_file() and p.suffix in {".py", ".md", ".toml", ".txt", ".in"}]
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_registry_or_a_place_on_this_machine() -> None:
    texts = {path: path.read_text(encoding="utf-8", errors="replace") for path in repository_files()}
    assert PACKAGE / "__init__.py" in texts
    found = {str(path.relative_to(ROOT)): FORBIDDEN.search(text) for path, text in texts.items()}
    assert not {name: match.group() for name, match in found.items() if match}


@pytest.mark.parametrize(
    ("text", "caught"),
    [
        ("see " + ".".join(("pypi", "org")), True),
        ("https://" + ".".join(("files", "pythonhosted", "org")) + "/x", True),
        ("cd " + "/".join(("", "work", "main")), True),
        ("'" + "/".join(("", "root", ".pyenv")) + "'", True),
        ("at work/main and ~/home/x and src/root/x", False),
        ("the /work/ of others", False),
    ],
)
def test_what_no_file_may_say_is_recognised(text: str, caught: bool) -> None:
    assert bool(FORBIDDEN.search(text)) is caught
