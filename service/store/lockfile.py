"""Locks between processes of one machine, which the kernel drops when their holder dies."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

_LOOK_AGAIN_S = 0.05


class LockFile:
    """A file to lock; what is held of it goes when the context ends."""

    def __init__(self, path: Path) -> None:
        """Made if it is missing. Raises OSError."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    async def share(self) -> None:
        """Wait until it can be held together with others."""
        while not self._lock(fcntl.LOCK_SH):  # noqa: ASYNC110 - the kernel offers no event for it
            await asyncio.sleep(_LOOK_AGAIN_S)

    def take(self) -> bool:
        """Hold it alone; False if somebody else holds it."""
        return self._lock(fcntl.LOCK_EX)

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Wait until it can be held alone, and let go of it at the end."""
        while not self.take():  # noqa: ASYNC110 - the kernel offers no event for it
            await asyncio.sleep(_LOOK_AGAIN_S)
        try:
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _lock(self, kind: int) -> bool:
        try:
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
