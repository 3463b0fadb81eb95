"""What an appliance is told and what it says, in our own values (h4-api 2 and 3)."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from msgspec import Struct
from msgspec.structs import force_setattr

from service.domain.ids import ApplianceName, TaskId
from service.domain.thumbprint import Thumbprint, same_thumbprint

Json = Mapping[str, object]
"""A JSON object as it came."""

SentJson = bytes
"""The same as text. An appliance's record of a peer is kept so: there are many, and what it says is
only needed for its id, for the trail, and for a caller who asks."""


class _WithId(Struct):
    id: object = None


_IDS = msgspec.json.Decoder(_WithId)


def read_sent(text: SentJson) -> Json:
    """What it says."""
    said: Json = msgspec.json.decode(text)
    return said


def id_sent(text: SentJson) -> str | None:
    """The id in it, if it says one; read as in lists of peers, where a number is spelt out and an
    empty text is none."""
    known = _IDS.decode(text).id
    if isinstance(known, int | float) and not isinstance(known, bool):
        return str(known)
    return known if isinstance(known, str) and known else None


class ApiError(Struct, frozen=True):
    """An error in H4's shape (h4-api 7). Ours have the same shape, so that callers read one."""

    code: str
    msg: str
    args: tuple[str, ...] = ()
    stacktrace: str | None = None

    @property
    def shown(self) -> dict[str, object]:
        """What callers and the audit trail see of it: all but the stack trace."""
        return {"code": self.code, "msg": self.msg, "args": list(self.args)}


class Endpoint(Struct, frozen=True):
    """How the peers of an appliance reach it: what `POST /sites` tells them.

    `version` grows whenever the registration is replaced; with `registration`, which is another
    one after the name was removed and registered again, it tells a kept client from a current one.
    `former_api_urls` are what was registered before, normalized, the last one first: under each of
    them its peers may still know it.
    """

    name: ApplianceName
    api_url: str
    api_thumbprint: Thumbprint
    version: int = 1
    registration: UUID | None = None
    former_api_urls: tuple[str, ...] = ()


class Peer(Struct, frozen=True, weakref=True):
    """One row of an appliance's `GET /sites` (ManagerPeerInfo, h4-api 2.2)."""

    id: str | None
    site: str | None
    api_url: str | None
    api_public_url: str | None
    api_thumbprint: str | None
    is_local: bool = False
    incoming_error: ApiError | None = None
    outgoing_error: ApiError | None = None
    sent: SentJson = b"{}"
    """All that the appliance said, of which the other fields are a part."""
    known_at: tuple[str, ...] = ()
    """Its URLs in one spelling, made when it is: a peer is compared with many endpoints."""

    def __post_init__(self) -> None:
        """Spell the URLs."""
        force_setattr(self, "known_at", _spellings(self.api_public_url, self.api_url))

    def trusts(self, endpoint: Endpoint) -> bool:
        """Whether this record pins the certificate that `endpoint` is registered with."""
        return same_thumbprint(self.api_thumbprint, endpoint.api_thumbprint)

    def is_known_at(self, url: str) -> bool:
        """Whether this record is of the endpoint `url`, in whatever spelling: `apiUrl` is often an
        internal tunnel name, and the slash at the end comes and goes (h4-api 2.2)."""
        return normalized_url(url) in self.known_at


class Task(Struct, frozen=True):
    """An appliance's long-running task (h4-api 3.1). Every field but the id may be missing."""

    id: TaskId
    state: str
    type: str | None = None
    resource_type: str | None = None
    start_time: int | None = None
    end_time: int | None = None
    result: Peer | None = None
    error: ApiError | None = None

    @property
    def succeeded(self) -> bool:
        """Only this word is success (h4-api 3.2)."""
        return self.state == "SUCCEEDED"

    @property
    def failed(self) -> bool:
        """Only this word is failure."""
        return self.state == "FAILED"

    @property
    def is_pairing(self) -> bool:
        """Whether it says that it pairs: of the calls about sites the one whose type is known."""
        return self.type is not None and self.type.lower() == "pair"

    @property
    def is_over(self) -> bool:
        """Any other word, known or not, means: keep polling (h4-api 3.2)."""
        return self.succeeded or self.failed


@lru_cache(maxsize=8192)
def normalized_url(url: str) -> str:
    """`url` so that two spellings of one endpoint compare equal (h4-api 2.2, apiPublicUrl).

    Raises ValueError when it is no URL. Kept: the same few are compared at every look.
    """
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme.lower(), 0)
    return (
        f"{parts.scheme.lower()}://{(parts.hostname or '').lower()}:{port}{parts.path.rstrip('/')}"
    )


def find_peer(
    peers: Sequence[Peer],
    endpoint: Endpoint,
    peer_id: str | None = None,
    asked_url: str | None = None,
) -> Peer | None:
    """The record that an appliance holds of `endpoint`, or None.

    Known by its id where an earlier answer told it, else by the URL that the appliance was told,
    normalized, else by its public one, else by those that were registered before. The local site
    may be listed and is never a peer (h4-api 2.2).
    """
    if peer_id is not None:
        for peer in peers:
            if peer.id == peer_id and not peer.is_local:
                return peer
    for spelt in (asked_url, normalized_url(endpoint.api_url), *endpoint.former_api_urls):
        if spelt is None:
            continue
        for peer in peers:
            if spelt in peer.known_at and not peer.is_local:
                return peer
    return None


@lru_cache(maxsize=8192)
def _spellings(*urls: str | None) -> tuple[str, ...]:
    """What is left of `urls` in one spelling. Kept: each appliance lists the same peers."""
    spelt = dict.fromkeys(map(_normalized_if_any, urls))
    return tuple([url for url in spelt if url is not None])


def _normalized_if_any(url: str | None) -> str | None:
    try:
        return normalized_url(url) if url else None
    except ValueError:
        return None
