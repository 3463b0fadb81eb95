"""What is wrong with a request, thing by thing, in words that never repeat a value of it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from jsonschema_rs import ValidationError

_KINDS = {
    "array": "an array",
    "boolean": "true or false",
    "integer": "an integer",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}
_NONE: frozenset[str] = frozenset()
# Words about the form name the length too, and those of a format are closer than a pattern's. What
# is not of the type at all is of no kind of it.
_SILENCED_BY = {
    "minLength": frozenset({"pattern", "format"}),
    "maxLength": frozenset({"pattern", "format"}),
    "pattern": frozenset({"format"}),
    "oneOf": frozenset({"type"}),
}
_LIMITS = {
    "falseSchema": "cannot stand beside the other fields",
    "maximum": "must be at most {limit}",
    "minimum": "must be at least {limit}",
    "maxLength": "must have at most {limit} characters",
    "minLength": "must have at least {limit} characters",
    "maxItems": "must have at most {limit} items",
    "minItems": "must have at least {limit} items",
    "oneOf": "must be of exactly one of the kinds that the contract describes",
    "uniqueItems": "must not have the same item twice",
}
_SHOWN_NAME = 64
MOST = 200
"""How many faults are told. A body of 64 KiB can have 30,000, and nobody else is served while words
are found for them."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: at `pointer` in the body, or with `parameter` elsewhere."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


@dataclass(frozen=True, slots=True)
class Wording:
    """How the contract words what its keywords cannot say for themselves.

    `patterns` has the words for each pattern; `formats` judges the formats of our own, and says
    why one does not fit.
    """

    patterns: Mapping[str, str]
    formats: Mapping[str, Callable[[str], str | None]]


def more() -> Fault:
    """Stands for all that come after `MOST`: with it, the whole cannot be accepted."""
    return Fault("has more faults than are listed", "")


def pointer_to(path: Iterable[str | int]) -> str:
    """The JSON pointer (RFC 6901) for `path`. Names in it are cut short and made readable."""
    return "".join(f"/{_escaped(part)}" for part in path)


def shown(name: str) -> str:
    """A name that a caller made up, fit to be answered: printable, and not long."""
    text = name
    if not text.isprintable():
        text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name)
    return text if len(text) <= _SHOWN_NAME else text[:_SHOWN_NAME] + "\N{HORIZONTAL ELLIPSIS}"


def faults_of(errors: Iterable[ValidationError], wording: Wording, most: int = MOST) -> list[Fault]:
    """What the schema's `errors` mean, in order, one sentence for each place and thing; of the
    first `most`."""
    first = list(islice(errors, most + 1))
    leaves = [leaf for error in first[:most] for leaf in _leaves(error)]
    keywords: dict[str, set[str]] = {}
    for leaf in leaves:
        keywords.setdefault(pointer_to(leaf.instance_path), set()).add(leaf.kind.name)
    # Ordered, and the words of alternatives that were tried in vain side by side.
    found: dict[tuple[str, str], dict[str, None]] = {}
    for leaf in leaves:
        if keywords[pointer_to(leaf.instance_path)] & _SILENCED_BY.get(leaf.kind.name, _NONE):
            continue
        for pointer, start, words in islice(_sentences(leaf, wording), most + 1):
            found.setdefault((pointer, start), {})[words] = None
    told = [Fault(start + " or ".join(words), pointer) for (pointer, start), words in found.items()]
    return told if len(first) <= most and len(told) <= most else [*told[:most], more()]


def _leaves(error: ValidationError) -> Sequence[ValidationError]:
    """`error`, or for a choice those of the branch that was meant."""
    if error.kind.name != "oneOf":
        return [error]
    branches: list[list[ValidationError]] = error.kind.as_dict()["context"]
    meant = [branch for branch in branches if not any(_is_other(leaf, error) for leaf in branch)]
    if not meant:
        return [leaf for branch in branches for leaf in branch if _is_other(leaf, error)]
    shared = set.intersection(*({_identity(leaf) for leaf in branch} for branch in meant))
    if not shared:
        return [error]  # it may have been any of them
    return [leaf for leaf in meant[0] if len(meant) == 1 or _identity(leaf) in shared]


def _is_other(leaf: ValidationError, choice: ValidationError) -> bool:
    """Whether `leaf` shows that another branch was meant: by its kind, by its `type`, or by a
    field that the branch rules out."""
    if leaf.kind.name == "type":
        return leaf.instance_path == choice.instance_path
    return leaf.kind.name in {"const", "falseSchema"}


def _identity(error: ValidationError) -> tuple[str, str, str]:
    return pointer_to(error.instance_path), error.kind.name, str(error.kind.as_dict())


def _sentences(error: ValidationError, wording: Wording) -> Iterable[tuple[str, str, str]]:
    """Pointer, beginning and end of what to say; ends with the same beginning may be joined."""
    values, keyword = error.kind.as_dict(), error.kind.name
    if keyword == "required":
        return [(pointer_to([*error.instance_path, values["property"]]), "is required", "")]
    if keyword == "additionalProperties":
        return (
            (pointer_to([*error.instance_path, name]), "is not a known field", "")
            for name in values["unexpected"]
        )
    pointer = pointer_to(error.instance_path)
    if keyword == "type":
        return [(pointer, "must be ", _KINDS[kind]) for kind in values["types"]]
    if keyword == "const":
        return [(pointer, "must be ", str(values["expected_value"]))]
    if keyword == "oneOf" and (needs := [*_needs(values["context"])]):
        return [(pointer, "must have ", names) for names in needs]
    return [(pointer, _words(keyword, values, error, wording), "")]


def _needs(branches: Iterable[Iterable[ValidationError]]) -> Iterator[str]:
    """The fields that each branch lacks."""
    for branch in branches:
        lacking = [leaf.kind.as_dict() for leaf in branch if leaf.kind.name == "required"]
        if lacking:
            yield " and ".join(f"'{values['property']}'" for values in lacking)


def _words(
    keyword: str, values: Mapping[str, object], error: ValidationError, wording: Wording
) -> str:
    match keyword:
        case "format":
            name = str(values["format"])
            judge = wording.formats.get(name)
            return (judge(str(error.instance)) if judge else None) or f"must be a {name}"
        case "pattern":
            pattern = str(values["pattern"])
            return wording.patterns.get(pattern, f"must match {pattern}")
        case "enum":
            options = values["options"]
            listed = options if isinstance(options, list) else []
            return f"must be one of {', '.join(str(option) for option in listed)}"
        case "minLength" if values["limit"] == 1:
            return "must not be empty"
        case _:
            return _LIMITS.get(keyword, "is not valid").format(**values)


def _escaped(part: str | int) -> str:
    text = str(part).replace("~", "~0").replace("/", "~1")
    return shown(text)
