"""One call to an appliance and what came of it, as values that know no HTTP library."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from service.domain.thumbprint import Thumbprint


@dataclass(frozen=True, slots=True)
class Request:
    """A call. `mutating` ones are never sent twice by this client, whatever happens to them.

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
