"""What a 401 means that is not marked as the end of a session: it may be that all the same, or this
kind of call is not allowed (h4-api 1, 7)."""

import asyncio
from dataclasses import dataclass

from service.appliance.exchange import Request

_TIMES = 3
"""A 401 that so many new sessions in a row have met is the answer to that kind of call."""

_FOR_S = 300.0
"""It is for so long, and no login is made because of it. Then somebody may have set it right."""

_REST_S = 60.0
"""Where one call of a kind met it in a new session and others of that kind are answered, it is
about that one alone; so for so long no login is made because of another."""


@dataclass(slots=True)
class _Kind:
    """How many new sessions met the 401, the last of them by its number, and when (loop time)."""

    times: int = 0
    login: int = 0
    at: float = 0.0


class UnauthorizedCalls:
    """The kinds of calls that met a 401 even in a new session. One begins anew as soon as a call
    of that kind is answered with anything else."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def is_answer(self, request: Request) -> bool:
        """Whether a 401 is the answer to `request`, so that another login would not help."""
        kind = self._kinds.get(_kind_of(request))
        if kind is None or kind.times < _TIMES:
            return False
        return asyncio.get_running_loop().time() < kind.at + _FOR_S

    def is_worth_a_login(self, request: Request) -> bool:
        """Whether a new session may be met otherwise than with the 401 that `request` met."""
        kind = self._kinds.get(_kind_of(request))
        if kind is not None and kind.times == 0:
            return asyncio.get_running_loop().time() >= kind.at + _REST_S
        return not self.is_answer(request)

    def add(self, request: Request, login: int) -> None:
        """The session of this `login`, the how-many-th of this client, was new and met a 401 as
        well. Many calls may tell of the same session."""
        kind = self._kinds.setdefault(_kind_of(request), _Kind())
        if login != kind.login:
            kind.times += 1
            kind.login = login
            kind.at = asyncio.get_running_loop().time()

    def forget(self, request: Request) -> None:
        """It was answered with something else."""
        if self._kinds and (kind := self._kinds.get(_kind_of(request))) is not None:
            kind.times = 0


def _kind_of(request: Request) -> str:
    """What one may and what one may not is a matter of the method and the collection, and of
    whether all of it is asked for or one of it."""
    _, collection, *one = request.path.split("/", 2)
    return f"{request.method} {collection}{'/one' if one else ''}"
