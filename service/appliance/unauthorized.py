"""A 401 without the mark: the session may have ended, or it means anything else (h4-api 1, 7)."""

import asyncio
from dataclasses import dataclass

from service.appliance.exchange import Request

_TIMES = 3
"""So many sessions in a row may end under one kind of call before its 401 is an answer."""

_FOR_S = 300.0
"""For so long it is, and no login is made for it. Then somebody may have set it right."""


@dataclass(slots=True)
class _Kind:
    """How often a login was in vain, the last one that was, and when (loop time)."""

    times: int = 0
    login: int = 0
    at: float = 0.0


class UnauthorizedCalls:
    """For which kinds of calls new sessions were met with the same 401. Whatever else a call of
    the kind is answered with, it is forgotten."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def is_answer(self, request: Request) -> bool:
        """Whether a 401 without the mark is what `request` is answered with, whatever session it
        is made in."""
        kind = self._kinds.get(_kind_of(request))
        if kind is None or kind.times < _TIMES:
            return False
        return asyncio.get_running_loop().time() < kind.at + _FOR_S

    def add(self, request: Request, login: int) -> None:
        """The session of this `login` (the how many-th) was new, and met it, too. Many may tell of
        one session."""
        kind = self._kinds.setdefault(_kind_of(request), _Kind())
        if login != kind.login:
            kind.times += 1
            kind.login = login
            kind.at = asyncio.get_running_loop().time()

    def forget(self, request: Request) -> None:
        """It was answered with something else."""
        if self._kinds:
            self._kinds.pop(_kind_of(request), None)


def _kind_of(request: Request) -> str:
    """What one may and what one may not is a matter of the method and the collection, and of
    whether all of it is asked for or one of it."""
    _, collection, *one = request.path.split("/", 2)
    return f"{request.method} {collection}{'/one' if one else ''}"
