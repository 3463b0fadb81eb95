"""One call to an appliance and what came of it, as values that know no HTTP library."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from service.domain.thumbprint import Thumbprint


@dataclass(frozen=True, slots=True)
class Request:
    """A call. A `mutating` one is never sent again by this client, unless the appliance refused it
    because the session had ended: then once more in a new session.

    `path` is percent-encoded; `query` is not.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = field(default=None, repr=False)
    mutating: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, read to its end. Header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class FailureKind(Enum):
    """How a call failed below HTTP. Only those in `AFTER_SENDING` may have arrived."""

    UNREACHABLE = "no connection"
    CONNECT_TIMEOUT = "no connection in time"
    TLS_FAILED = "TLS handshake failed"
    USED_UP = "no file descriptor, thread or memory left on this side"
    PIN_MISMATCH = "another certificate than the pinned one"
    UNTRUSTED = "certificate not trusted"
    FORBIDDEN = "egress policy forbids the address"
    INVALID_URL = "not a usable URL"
    CUT = "connection lost"
    SILENT = "no answer in time"
    GARBLED = "answer is not HTTP"
    TOO_LARGE = "answer over the size limit"
    ENCODED = "answer has a Content-Encoding that was not asked for"


AFTER_SENDING = frozenset(
    {
        FailureKind.CUT,
        FailureKind.SILENT,
        FailureKind.GARBLED,
        FailureKind.TOO_LARGE,
        FailureKind.ENCODED,
    }
)


@dataclass(frozen=True, slots=True)
class Failure:
    """No usable answer came. The thumbprints are there for PIN_MISMATCH only."""

    kind: FailureKind
    detail: str
    expected: Thumbprint | None = None
    presented: Thumbprint | None = None


Outcome = Answer | Failure

Permit = Callable[[], None]
"""Asked at the last moment before a mutating call leaves. Raises NotSent to keep it back."""


def granted() -> None:
    """The permit of calls that need none."""


class Channel(Protocol):
    """The way to one appliance."""

    async def send(self, request: Request, headers: Mapping[str, str], permit: Permit) -> Outcome:
        """Send `request` once and read its answer to the end.

        If it is mutating, `permit` is called once there is a connection, right before the first
        byte: what it raises comes out, and nothing was sent. Never raises for the other side's
        faults.
        """

    async def close(self) -> None:
        """Close all connections."""
