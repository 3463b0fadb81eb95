"""The codes that are ours are known, and told to operators."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from service.appliance import classify
from service.domain.codes import OURS

ROOT = Path(__file__).parents[3]
TABLE = re.findall(r"^\| (`[^|]+) \|", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)


def in_the_code() -> Iterator[str]:
    yield from classify._CODES.values()
    for path in (ROOT / "service").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "ApiError" and node.args:
                parts = [each for each in ast.walk(node.args[0]) if isinstance(each, ast.Constant)]
                words = [str(part.value) for part in parts]
                yield from (word for word in words if word[:1].isupper())


def test_every_code_that_the_code_makes_is_named() -> None:
    # `Http503` and its like stand for an answer without a code of the appliance's own.
    assert set(in_the_code()) - {"Http"} == OURS


def test_every_code_of_ours_is_in_the_operators_table() -> None:
    tabled = {code for cell in TABLE for code in re.findall(r"`(\w+)`", cell)}
    assert tabled >= OURS
