"""Reads arrays as PostgreSQL spells them: what `store/arrays.py` writes, in other words."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

_ELEMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,{}"]+)', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_WORDS: Mapping[str, bool | None] = {"null": None, "true": True, "false": False}


def elements(spelt: str) -> Sequence[Any]:
    """Texts, whole numbers, truth values, and None."""
    return [_element(found) for found in _ELEMENT.finditer(spelt)]


def _element(found: re.Match[str]) -> str | int | bool | None:
    quoted, bare = found.groups()
    if quoted is not None:
        return _ESCAPED.sub(r"\1", quoted) if "\\" in quoted else str(quoted)
    return _WORDS[bare] if bare in _WORDS else int(bare)
