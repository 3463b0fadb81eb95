"""JSON as callers may send it: one meaning only, and every departure from that named.

The standard library keeps the last of duplicate keys, reads NaN, and runs into the recursion
limit on deep nesting; none of it may pass here.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from service.api.faults import MOST, Fault, more, pointer_to

DEPTH = 32
"""How many arrays and objects may be nested."""

_DIGITS = 20
_EXACT = 2**53


class NotJson(ValueError):
    """The text is not JSON, or nested too deep. The message repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What the text says, and what it should not have said; `value` is safe to judge."""

    value: object
    faults: tuple[Fault, ...]


def parse(text: str) -> Parsed:
    """`text` as plain dicts, lists, strings, numbers; raises NotJson.

    Whole numbers come as int however they are spelt. Lone surrogates, which no database and no
    other encoder takes, are replaced and named among the faults, as are duplicate keys.
    """
    try:
        tree = _DECODER.decode(text)
    except RecursionError:
        raise NotJson(f"The body is nested deeper than {DEPTH} levels.") from None
    except json.JSONDecodeError as error:
        raise NotJson(
            f"The body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})."
        ) from None
    cleaning = _Cleaning()
    value = cleaning.clean(tree, ())
    return Parsed(value, tuple(cleaning.faults))


class _Object(list[tuple[str, object]]):
    """An object as it was written: pairs in order, names perhaps twice."""


@dataclass(slots=True)
class _Cleaning:
    """Makes plain values of what was parsed and keeps what is wrong with it."""

    faults: list[Fault] = field(default_factory=list)

    def clean(self, value: object, path: tuple[str | int, ...]) -> object:
        """`value`, found at `path`, without what the faults tell of. Raises NotJson."""
        if isinstance(value, list) and len(path) >= DEPTH:
            raise NotJson(f"The body is nested deeper than {DEPTH} levels.")
        match value:
            case _Object():
                return self._object(value, path)
            case list():
                return [self.clean(item, (*path, index)) for index, item in enumerate(value)]
            case str():
                return self._text(value, path)
            case _:
                return value

    def _object(
        self, pairs: Sequence[tuple[str, object]], path: tuple[str | int, ...]
    ) -> dict[str, object]:
        plain: dict[str, object] = {}
        for written, value in pairs:
            name = self._text(written, path)
            if name in plain:
                self._note("comes more than once", (*path, name))
            plain[name] = self.clean(value, (*path, name))
        return plain

    def _text(self, text: str, path: tuple[str | int, ...]) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:
            self._note("must not have unpaired surrogates", path)
            return text.encode("utf-8", "replace").decode()
        return text

    def _note(self, detail: str, path: tuple[str | int, ...]) -> None:
        if len(self.faults) < MOST:
            self.faults.append(Fault(detail, pointer_to(path)))
        elif len(self.faults) == MOST:
            self.faults.append(more())


def _no_constant(_name: str) -> object:
    raise NotJson("The body is not JSON: NaN and Infinity are no numbers.")


def _float(digits: str) -> float | int:
    number = float(digits)
    if not math.isfinite(number):
        raise NotJson("The body has a number that is too large.")
    return int(number) if number.is_integer() and abs(number) < _EXACT else number


def _int(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise NotJson("The body has a number that is too large.")
    return int(digits)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_Object, parse_constant=_no_constant, parse_float=_float, parse_int=_int
)
