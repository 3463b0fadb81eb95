"""The habits of this code base, as far as a program can judge them."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("service", "simulator", "bench", "migrations")
FUNCTION_LINES = 60
MODULE_LINES = 400
TEST_LINES = 600
LINE_LENGTH = 110
# Paths of one machine, and hosts of package registries: neither belongs into a file of the project.
FOREIGN = re.compile(
    r"/(?:home|root|Users|work)/[a-z]|py" + r"pi\.org|pythonhosted\.org|npm" + r"js\.org"
)


def files(*places: str, suffix: str = ".py") -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", *places],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split("\0")
    found = [ROOT / name for name in listed if name.endswith(suffix)]
    return [path for path in found if path.exists()]


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body
    first = body[1] if ast.get_docstring(function) is not None and len(body) > 1 else body[0]
    return (function.end_lineno or 0) - first.lineno + 1


@pytest.fixture(scope="module")
def sources() -> dict[str, ast.Module]:
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in files(*SOURCES)}


def test_there_is_something_to_judge(sources: dict[str, ast.Module]) -> None:
    assert "service/engine/saga.py" in sources


def test_functions_fit_on_a_screen(sources: dict[str, ast.Module]) -> None:
    long = [
        f"{name}:{function.lineno} {function.name}: {lines_of(function)} lines"
        for name, tree in sources.items()
        for function in functions(tree)
        if lines_of(function) > FUNCTION_LINES
    ]
    assert not long


def test_nine_functions_in_ten_are_short(sources: dict[str, ast.Module]) -> None:
    lengths = sorted(lines_of(f) for tree in sources.values() for f in functions(tree))
    assert lengths[len(lengths) * 9 // 10] <= 25


def test_functions_take_few_parameters(sources: dict[str, ast.Module]) -> None:
    many = [
        f"{name}:{function.lineno} {function.name}"
        for name, tree in sources.items()
        for function in functions(tree)
        if len(_parameters(function)) > 6
    ]
    assert not many


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [each.arg for each in every if each.arg not in {"self", "cls"}]


def test_modules_have_one_reason_to_exist() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {count} lines"
        for places, limit in ((SOURCES, MODULE_LINES), (("tests",), TEST_LINES))
        for path in files(*places)
        if (count := len(path.read_text().splitlines())) > limit
    ]
    assert not long


def test_lines_can_be_read() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files(*SOURCES, "tests")
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if len(line) > LINE_LENGTH
    ]
    assert not long


def test_everything_public_says_what_it_promises(sources: dict[str, ast.Module]) -> None:
    silent = [
        f"{name}:{getattr(node, 'lineno', 1)}"
        for name, tree in sources.items()
        if not name.startswith("migrations/versions")
        for node in _public(tree)
        if ast.get_docstring(node) is None
    ]
    assert not silent


def test_a_package_that_lists_its_modules_lists_them_all(sources: dict[str, ast.Module]) -> None:
    missing = [
        name
        for package, tree in sources.items()
        if package.endswith("/__init__.py")
        if re.search(r"\n- `\w", words := ast.get_docstring(tree) or "")
        for name in sources
        if Path(name).parent == Path(package).parent and name != package
        if f"`{Path(name).stem}`" not in words
    ]
    assert not missing


def _public(
    tree: ast.Module | ast.ClassDef,
) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    yield tree
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name.startswith("_"):
                continue
            if isinstance(node, ast.ClassDef):
                yield from _public(node)
            elif not _is_overload(node):
                yield node


def _is_overload(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "overload" for each in node.decorator_list)


@pytest.mark.parametrize("word", ["Manager", "Util", "Helper", "Handler", "Common", "Base"])
def test_names_are_words_of_the_field(word: str, sources: dict[str, ast.Module]) -> None:
    found = [
        f"{name}: {node.name}"
        for name, tree in sources.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name.endswith((word, f"{word}s"))
    ]
    assert not found


def test_nothing_waits_for_a_duration_to_see_something_happen() -> None:
    """Virtual time may jump; in real time a tenth of a second is a slow peer, more is a hope."""
    sleepers = [
        f"{path.relative_to(ROOT)}: {seconds} s"
        for path in files("tests")
        if "virtual_time" not in (source := path.read_text())
        for seconds in re.findall(r"\basyncio\.sleep\(([0-9.]+)\)", source)
        if float(seconds) > 0.1
    ]
    assert not sleepers
    # It stops the loop with all that is to happen, however long it is.
    assert not [path for path in files("tests") if re.search(r"\btime\.sleep\(", path.read_text())]


def test_no_file_names_a_machine_or_a_registry() -> None:
    named = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files(suffix="")
        if path.is_file() and path.suffix not in {".png", ".ico"} and path.name != "test_tidy.py"
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if FOREIGN.search(line)
    ]
    assert not named
