"""Files that are written anew as a whole, or stay as they were."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_OPEN_ALREADY = {Path("/dev/stdout"): 1, Path("/dev/stderr"): 2}
"""Opened anew, such a file would begin from its start, and what was written to it be lost."""


def refuse_unwritable(path: Path) -> None:
    """Raise OSError if `path` cannot be `rewritten` as things stand; they stay so."""
    if path.is_fifo():
        return  # Whoever reads it would take this for the end of what there is to read.
    try:
        path.open("x").close()
    except FileExistsError:
        path.open("a").close()
    else:
        path.unlink()
    if is_replaceable(path):
        draft = _draft(path)
        draft.touch()
        draft.unlink()


@contextmanager
def rewritten(path: Path) -> Iterator[TextIO]:
    """Text that takes the place of what is at `path` when the block ends well. A pipe or a device
    is written to as it is. Raises OSError."""
    if path.exists() and not is_replaceable(path):
        with _as_it_is(path) as out:
            yield out
        return
    draft = _draft(path)
    try:
        with draft.open("w", encoding="utf-8", newline="") as out:
            yield out
        if path.exists():
            shutil.copymode(path, draft)
        draft.replace(path.resolve())
    finally:
        draft.unlink(missing_ok=True)


def is_replaceable(path: Path) -> bool:
    """Whether what is written to `path` can be taken back by writing it anew."""
    # /dev/stdout is another name of what is open already, wherever that leads.
    is_ours = path.is_file() or not path.exists()
    return is_ours and Path("/dev") not in path.absolute().parents


def _as_it_is(path: Path) -> TextIO:
    if path in _OPEN_ALREADY:
        return os.fdopen(os.dup(_OPEN_ALREADY[path]), "w", encoding="utf-8", newline="")
    return path.open("w", encoding="utf-8", newline="")


def _draft(path: Path) -> Path:
    """In the directory of the file itself, also if `path` is a link to it."""
    return path.resolve().with_name(f".sitepair-{os.getpid()}")
