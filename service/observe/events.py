"""Every line that the service logs on its own account, as a typed value.

The names and fields are a contract with whoever reads the logs; `docs/observability.md` tables
them and a test compares the two.
"""

from typing import ClassVar, Literal

from msgspec import Struct

Level = Literal["debug", "info", "warning", "error"]


class LogEvent(Struct, frozen=True):
    """Base of all: `level` is how loud, the class name in snake case is the line's `event`."""

    level: ClassVar[Level] = "info"


class ApplianceCalled(LogEvent, frozen=True):
    """One call to an appliance, answered or not. Without an answer there is no `status`.

    `also` lists further operationIDs that a shared read served.
    """

    appliance: str
    method: str
    path: str
    status: int | None
    ms: float
    error: str | None = None
    also: tuple[str, ...] = ()


class DialingFailed(LogEvent, frozen=True):
    """An appliance could not be called: no file descriptor (this process may have `limit`), no
    thread or no memory was left. The call is tried again; logged once a minute for each
    appliance at most."""

    level: ClassVar[Level] = "error"
    error: str
    limit: int


class RequestServed(LogEvent, frozen=True):
    """One request of a caller. `route` is the pattern, never the raw path."""

    method: str
    route: str
    status: int
    ms: float
    user: str | None = None


class RequestCrashed(LogEvent, frozen=True):
    """A request met a defect of the service; the traceback follows."""

    level: ClassVar[Level] = "error"
    method: str
    route: str


class AcceptFailed(LogEvent, frozen=True):
    """Callers could not connect: no file descriptor (this process may have `limit`) or no memory
    was left. Tried again every second; logged once a minute at most."""

    level: ClassVar[Level] = "error"
    error: str
    limit: int


class BatchAccepted(LogEvent, frozen=True):
    """A batch is durable, `seconds` after all of it had arrived. Not logged again when the batch
    is replayed."""

    batch: str
    total: int
    accepted: int
    rejected: int
    seconds: float


class Move(Struct, frozen=True, omit_defaults=True):
    """One event of a pairing, and the state that it led to: of `side`, or of the pairing."""

    type: str
    state: str
    side: str | None = None
    code: str | None = None


class PairingMoved(LogEvent, frozen=True):
    """What happened to a pairing is durable. Each of `moves` has `type`, `state`, and where they
    apply `side` and `code`."""

    moves: tuple[Move, ...]


class PairingEnded(LogEvent, frozen=True):
    """A pairing is over, `seconds` after it was accepted."""

    operation: str
    state: str
    seconds: float
    code: str | None = None


class RollbackIncomplete(LogEvent, frozen=True):
    """What a pairing did on `side` could not be undone: somebody has to look at that appliance."""

    level: ClassVar[Level] = "error"
    side: str
    code: str


class PairingDropped(LogEvent, frozen=True):
    """A worker stopped driving a pairing before its end, because of `reason`."""

    level: ClassVar[Level] = "warning"
    reason: str


class PairingCrashed(LogEvent, frozen=True):
    """Driving a pairing met a defect of the service; the traceback follows."""

    level: ClassVar[Level] = "error"


class UpkeepCrashed(LogEvent, frozen=True):
    """A task beside the pairings (`doing`) met a defect of the service and was given up this
    once; everything else goes on. The traceback follows."""

    level: ClassVar[Level] = "error"
    doing: str


class HeartbeatLate(LogEvent, frozen=True):
    """The heartbeat of this process's worker is `late_s` late: half of its lease is gone,
    `left_s` are left (negative: none). Of several late ones in a row only the first is logged."""

    level: ClassVar[Level] = "warning"
    late_s: float
    left_s: float


class WorkerDeclaredDead(LogEvent, frozen=True):
    """The heartbeat of this process's worker came too late: other workers have its pairings. The
    process goes on as a new worker."""

    level: ClassVar[Level] = "warning"


class WorkersBuried(LogEvent, frozen=True):
    """The leases of other workers (`workers`) ended: their `pairings` are due again."""

    level: ClassVar[Level] = "warning"
    workers: tuple[str, ...]
    pairings: int


class BreakerOpened(LogEvent, frozen=True):
    """An appliance did not answer this worker for a while: only a probe calls it until it
    answers."""

    level: ClassVar[Level] = "warning"
    appliance: str
    code: str


class BreakerClosed(LogEvent, frozen=True):
    """A probe of this worker got through: the appliance is called again."""

    appliance: str


class JournalUnsure(LogEvent, frozen=True):
    """Whether a commit with so many `pairings` took effect is not known: the service looks it up
    before it goes on."""

    level: ClassVar[Level] = "warning"
    pairings: int
    error: str


class StoreTroubled(LogEvent, frozen=True):
    """The database did not do what it was asked to (`doing`)."""

    level: ClassVar[Level] = "warning"
    doing: str
    error: str


class BodyUnkept(LogEvent, frozen=True):
    """The body of a batch could not be kept in the data directory while it arrived."""

    level: ClassVar[Level] = "error"
    error: str


class ServiceStarted(LogEvent, frozen=True):
    """The process is ready. `bearer_file` is the path of the API's token, if no setting has the
    token."""

    roles: tuple[str, ...]
    listen: str | None
    database: str
    bearer_file: str | None = None


class ServiceStopped(LogEvent, frozen=True):
    """The process has shut down cleanly; it handed back `handed_back` pairings."""

    handed_back: int


class DatabaseStarting(LogEvent, frozen=True):
    """The service's own PostgreSQL is being started; after a crash it recovers first."""

    data_dir: str
    waited_s: float = 0.0


class DatabaseDied(LogEvent, frozen=True):
    """The service's own PostgreSQL is gone without an orderly stop; it is being started again."""

    level: ClassVar[Level] = "error"
    data_dir: str


class DatabaseRestarted(LogEvent, frozen=True):
    """The service's own PostgreSQL answers again, `seconds` after it was found dead."""

    level: ClassVar[Level] = "warning"
    seconds: float
