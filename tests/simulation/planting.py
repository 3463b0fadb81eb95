"""Plants a bug: modules are changed in memory, as text, when they are imported."""

import importlib.abc
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import CodeType, ModuleType


@dataclass(frozen=True, slots=True)
class Edit:
    """In the source of `module`, `old`, which is there exactly once, becomes `new`."""

    module: str
    old: str
    new: str

    def made_in(self, source: str) -> str:
        """The changed source. Raises ValueError when it does not fit any more."""
        if source.count(self.old) != 1:
            raise ValueError(f"{self.module} has {source.count(self.old)} times: {self.old!r}")
        return source.replace(self.old, self.new)


class _Planted(importlib.abc.SourceLoader):
    """Loads a module from its changed source."""

    def __init__(self, path: str, edits: Sequence[Edit]) -> None:
        self._path = path
        self._edits = edits

    def get_filename(self, fullname: str) -> str:  # noqa: ARG002 - the protocol's
        """Where the unchanged one is."""
        return self._path

    def get_data(self, path: str | bytes) -> bytes:
        """The changed source."""
        source = Path(str(path)).read_text(encoding="utf-8")
        for edit in self._edits:
            source = edit.made_in(source)
        return source.encode()

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - the protocol's
        """Compiled anew: the cache holds the unchanged one."""
        return compile(self.get_data(self._path), self._path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    """Knows which modules are to be changed."""

    def __init__(self, edits: Mapping[str, Sequence[Edit]]) -> None:
        self._edits = edits

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """The changed module's, if it is one."""
        if fullname not in self._edits:
            return None
        found = PathFinder.find_spec(fullname, path, target)
        if found is None or found.origin is None:
            return None
        loader = _Planted(found.origin, self._edits[fullname])
        return importlib.util.spec_from_file_location(fullname, found.origin, loader=loader)


def plant(name: str) -> None:
    """Change what the mutant `name` changes, in this process. To be called before the imports."""
    from tests.simulation.mutants import MUTANTS  # noqa: PLC0415 - it imports nothing of these

    edits: dict[str, list[Edit]] = {}
    for edit in MUTANTS[name].edits:
        if edit.module in sys.modules:
            raise RuntimeError(f"{edit.module} is imported already")
        edits.setdefault(edit.module, []).append(edit)
    sys.meta_path.insert(0, _Finder(edits))
