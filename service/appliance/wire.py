"""H4's JSON, read leniently and written as documented (h4-api 1 to 3).

Missing fields, nulls, unknown fields and wrong types of what does not matter never break a
reading; what cannot be read at all raises Unreadable.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from sys import intern
from weakref import WeakValueDictionary

import msgspec
from msgspec.structs import replace

from service.domain.appliance import ApiError, Endpoint, Json, Peer, Task
from service.domain.ids import TaskId
from service.domain.registration import Credentials, LocalUser

MAX_TEXT = 4_000
MAX_STACKTRACE = 32_000
MAX_ID = 256
MAX_SENT = 64 * 1024
MAX_BRACKETS = 100
"""What is kept of an appliance's words about a peer is told again and again, by functions that call
themselves: more, or what may be nested deeper, is kept in short."""
MAX_VALUES = 1_000_000
"""What an answer may be made of; a list of 50,000 peers is. So many are read in seconds, and nobody
else is served meanwhile: of the smallest, 32 MB would take more than a minute and 3 GB."""
_NUL = b"\\u0000"
"""PostgreSQL's text has no place for this character."""


class Unreadable(ValueError):
    """The body is not what the call answers with; the text says why, without quoting it."""


@dataclass(frozen=True, slots=True)
class TaskPage:
    """One page of `GET /tasks`: `count` rows came, `total` there are (None: not told)."""

    tasks: tuple[Task, ...]
    count: int
    total: int | None


def login_body(credentials: Credentials) -> bytes:
    """The body of `POST /sessions` (h4-api 1)."""
    if isinstance(credentials, LocalUser):
        return msgspec.json.encode(
            {
                "type": "localUser",
                "localUser": credentials.user,
                "localPassword": credentials.password,
            }
        )
    return msgspec.json.encode(
        {
            "type": "ssoCredentials",
            "username": credentials.user,
            "password": credentials.password,
            "principal": None,
        }
    )


def pair_body(peer: Endpoint, description: str) -> bytes:
    """The body of `POST /sites` and of `PUT /sites/{id}` (h4-api 2.1)."""
    return msgspec.json.encode(
        {
            "apiUrl": peer.api_url,
            "apiThumbprint": peer.api_thumbprint,
            "description": description,
        }
    )


def poll_body(task_ids: Sequence[TaskId]) -> bytes:
    """The body of `POST /tasks/poll`: a bare array of ids (h4-api 3.5)."""
    return msgspec.json.encode(task_ids)


def read_json(body: bytes) -> object:
    """Any JSON value. Raises Unreadable."""
    _check_number_of_values(body)
    try:
        value: object = msgspec.json.decode(body)
        return _without_nul(value) if _NUL in body else value
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable("the answer is not JSON") from error


def read_object(body: bytes) -> Json:
    """A JSON object. Raises Unreadable."""
    value = read_json(body)
    if not isinstance(value, dict):
        raise Unreadable("the answer is not a JSON object")
    return value


def read_task(body: bytes) -> Task:
    """A task, as changes of `/sites` and `GET /tasks/{id}` answer it. Raises Unreadable without
    an id."""
    task = task_of(read_object(body))
    if task is None:
        raise Unreadable("the task has no id")
    return task


def read_peers(body: bytes) -> tuple[Peer, ...]:
    """The answer of `GET /sites`: a bare array (h4-api 2.1).

    Raises Unreadable also when a row is no object or the list is known to be incomplete: a peer
    that is missing here may be paired again.
    """
    rows, total = _rows(read_json(body))
    if not all(isinstance(row, dict) for row in rows):
        raise Unreadable("a row of the list of peers is not an object")
    if total is not None and total > len(rows):
        raise Unreadable("the list of peers is incomplete")
    return tuple([peer for row in rows if (peer := peer_of(row)) is not None])


class PeerList:
    """The answers of one appliance's `GET /sites`, one after the other, read like `read_peers`.

    Each holds nearly the same rows as the one before: those are not read again, which is most of
    the work where an appliance has many peers.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: tuple[Peer, ...] = ()
        self._since: dict[str | None, float] = {}

    def since(self, peer_id: str) -> float:
        """By the clock, since when at least a peer with this id is listed; infinite if none is."""
        return self._since.get(peer_id, inf)

    def read(self, body: bytes) -> tuple[Peer, ...]:
        """The peers, in their order. Raises Unreadable."""
        _check_number_of_values(body)
        end = self._end_of_known(body)
        try:
            rows = _ROWS.decode(b"[{}" + body[end:] if end else body)
        except (msgspec.MsgspecError, RecursionError):
            return self._anew(read_peers(body))  # A page, or what nobody can read.
        if not end:
            known = {peer.sent: peer for peer in self._last}
            each = [bytes(row) for row in rows]
            return self._anew(tuple([known.get(row) or _peer_in(row) for row in each]))
        new = tuple([_peer_in(bytes(row)) for row in rows[1:]])
        self._last += new
        self._since |= self._since_when(new)
        return self._last

    def _anew(self, peers: tuple[Peer, ...]) -> tuple[Peer, ...]:
        self._last, self._since = peers, self._since_when(peers)
        return peers

    def _since_when(self, peers: tuple[Peer, ...]) -> dict[str | None, float]:
        now = self._clock()
        return {peer.id: self._since.get(peer.id, now) for peer in peers}

    def _end_of_known(self, body: bytes) -> int:
        """Where `body` goes on behind all rows of the answer before; 0 if it does not begin with
        them. Mostly it does, and to compare costs a tenth of what it costs to take it apart."""
        known = b"[" + b",".join([peer.sent for peer in self._last])
        return len(known) if self._last and body.startswith(known) else 0


def _check_number_of_values(body: bytes) -> None:
    # Each but the first stands behind one of these, or behind a name. Those in texts count as well.
    if len(body) > MAX_VALUES and sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise Unreadable(f"the answer has more than {MAX_VALUES} values")


_ROWS = msgspec.json.Decoder(list[msgspec.Raw])


_LISTED: WeakValueDictionary[bytes, Peer] = WeakValueDictionary()
"""By what was sent, as long as it is in a list: many appliances say the same of a peer."""


def _peer_in(row: bytes) -> Peer:
    if (known := _LISTED.get(row)) is not None:
        return known
    (peer,) = read_peers(b"[" + row + b"]")
    if _NUL in row or not _is_modest(row):
        return peer
    # Not made anew: the next answer is compared with it. But what cannot be kept elsewhere is.
    _LISTED[row] = listed = replace(peer, sent=row)
    return listed


def read_task_page(body: bytes) -> TaskPage:
    """One page of `GET /tasks` (h4-api 3.4), its tasks without what they say at length: there may
    be many. Rows without an id are left out."""
    rows, total = _rows(read_json(body))
    tasks = (task_of(row) for row in rows)
    outlines = tuple([_outline(task) for task in tasks if task is not None])
    return TaskPage(outlines, len(rows), total)


def _outline(task: Task) -> Task:
    peer = task.result
    if peer is not None:
        peer = replace(peer, incoming_error=None, outgoing_error=None, sent=b"{}")
    return replace(task, result=peer, error=None)


def read_error(body: bytes) -> ApiError | None:
    """The ApiError that a body holds, or None: it needs a code (h4-api 7)."""
    try:
        value = read_json(body)
    except Unreadable:
        return None
    if not isinstance(value, dict) or not _text(value.get("code")):
        return None
    return error_of(value)


def task_of(value: object) -> Task | None:
    """A task from its JSON object; None without an id."""
    if not isinstance(value, dict) or not (task_id := _id(value.get("id"))):
        return None
    workflow = value.get("workflowInfo")
    about = workflow if isinstance(workflow, dict) else {}
    return Task(
        id=TaskId(task_id),
        state=_cut(_text(value.get("state")), MAX_ID) or "UNKNOWN",
        type=_id(about.get("type")),
        resource_type=_id(about.get("resourceType")),
        start_time=_time(value.get("startTime")),
        end_time=_time(value.get("endTime")),
        result=peer_of(value.get("result")),
        error=error_of(value.get("error")),
    )


def peer_of(value: object) -> Peer | None:
    """A ManagerPeerInfo from its JSON object (h4-api 2.2); None for anything else."""
    if not isinstance(value, dict):
        return None
    state = value.get("state")
    if not isinstance(state, dict):
        state = {"outgoingCommError": state}
    sent = msgspec.json.encode(value)
    return Peer(
        id=_id(value.get("id")),
        site=_shared(value.get("site")),
        api_url=_shared(value.get("apiUrl")),
        api_public_url=_shared(value.get("apiPublicUrl")),
        api_thumbprint=_shared(value.get("apiThumbprint")),
        is_local=value.get("isLocal") is True,
        incoming_error=error_of(state.get("incomingCommError")),
        outgoing_error=error_of(state.get("outgoingCommError")),
        sent=sent if _is_modest(sent) else _in_short(value),
    )


def error_of(value: object) -> ApiError | None:
    """An ApiError from its JSON object; None only for null: what is there is an error."""
    if value is None:
        return None
    if not isinstance(value, dict):
        return ApiError("UnknownError", _cut(str(value), MAX_TEXT) or "(no message)")
    args = value.get("args")
    return ApiError(
        code=_cut(_text(value.get("code")), 200) or "UnknownError",
        msg=_cut(_text(value.get("msg")) or _text(value.get("message")), MAX_TEXT),
        args=tuple(_arguments(args)) if isinstance(args, list) else (),
        stacktrace=_cut(_text(value.get("stacktrace")), MAX_STACKTRACE) or None,
    )


def _arguments(args: list[object]) -> Iterable[str]:
    return ("" if arg is None else _cut(str(arg), MAX_TEXT) for arg in args[:32])


def _rows(value: object) -> tuple[list[object], int | None]:
    """The rows of a bare array, or of a page {items, offset, limit, total}."""
    if isinstance(value, list):
        return value, None
    if isinstance(value, dict) and isinstance(items := value.get("items"), list):
        return items, _time(value.get("total"))
    raise Unreadable("the answer is not a list")


def _text(value: object) -> str | None:
    """A text that says something; numbers are spelt out."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return None


def _id(value: object) -> str | None:
    """An id, or another short word, which goes into paths, log lines and the record: none is as
    long as a text."""
    text = _text(value)
    return text if text is not None and len(text) <= MAX_ID else None


def _shared(value: object) -> str | None:
    """A text that many appliances say: each names the same peers."""
    text = _text(value)
    return intern(text[:MAX_TEXT]) if text is not None else None


def _is_modest(sent: bytes) -> bool:
    return len(sent) <= MAX_SENT and sent.count(b"[") + sent.count(b"{") <= MAX_BRACKETS


def _in_short(peer: Json) -> bytes:
    """What a peer is known by, of what an appliance says about it."""
    known = {"id": _id(peer.get("id"))}
    known |= {name: _shared(peer.get(name)) for name in _KNOWN_BY}
    return msgspec.json.encode({name: text for name, text in known.items() if text is not None})


_KNOWN_BY = ("site", "apiUrl", "apiPublicUrl", "apiThumbprint")


def _cut(text: str | None, length: int) -> str:
    return (text or "")[:length]


def _time(value: object) -> int | None:
    """A whole number from 0 on, of 64 bits; -1 means none (h4-api 3.1)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**63:
        return None
    return int(value)


def _without_nul(value: object) -> object:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    return value
