"""Every line that the service logs on its own account, as a typed value.

The names and fields are a contract with whoever reads the logs; `docs/observability.md` tables
them and a test compares the two.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class LogEvent:
    """Base of all: `level` is how loud, the class name in snake case is the line's `event`."""

    level: ClassVar[Level] = "info"


@dataclass(frozen=True, slots=True)
class ApplianceCalled(LogEvent):
    """One call to an appliance, answered or not. `status` is None when no answer came.

    `also` lists further operationIDs that a shared read served.
    """

    appliance: str
    method: str
    path: str
    status: int | None
    ms: float
    error: str | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestServed(LogEvent):
    """One request of a caller. `route` is the pattern, never the raw path."""

    method: str
    route: str
    status: int
    ms: float
    user: str | None = None


@dataclass(frozen=True, slots=True)
class RequestCrashed(LogEvent):
    """A request met a defect of ours; the traceback follows."""

    level: ClassVar[Level] = "error"
    method: str
    route: str


@dataclass(frozen=True, slots=True)
class BatchAccepted(LogEvent):
    """A batch is durable, `seconds` after all of it had arrived; not again when it is replayed."""

    batch: str
    total: int
    accepted: int
    rejected: int
    seconds: float


@dataclass(frozen=True, slots=True)
class PairingMoved(LogEvent):
    """An event of a pairing is durable."""

    type: str
    side: str | None
    state: str
    code: str | None = None


@dataclass(frozen=True, slots=True)
class PairingEnded(LogEvent):
    """A pairing is over, `seconds` after it was accepted."""

    operation: str
    state: str
    seconds: float
    code: str | None = None


@dataclass(frozen=True, slots=True)
class RollbackIncomplete(LogEvent):
    """What a pairing did on `side` could not be undone: somebody has to look at that appliance."""

    level: ClassVar[Level] = "error"
    side: str
    code: str


@dataclass(frozen=True, slots=True)
class PairingDropped(LogEvent):
    """A worker stopped driving a pairing without bringing it to its end."""

    level: ClassVar[Level] = "warning"
    reason: str


@dataclass(frozen=True, slots=True)
class PairingCrashed(LogEvent):
    """Driving a pairing met a defect of ours; the traceback follows."""

    level: ClassVar[Level] = "error"


@dataclass(frozen=True, slots=True)
class WorkerDeclaredDead(LogEvent):
    """This process's worker beat too late; its pairings went to others. A new one begins."""

    level: ClassVar[Level] = "warning"


@dataclass(frozen=True, slots=True)
class WorkersBuried(LogEvent):
    """Other workers did not beat any more; their `pairings` are due again."""

    level: ClassVar[Level] = "warning"
    workers: tuple[str, ...]
    pairings: int


@dataclass(frozen=True, slots=True)
class BreakerOpened(LogEvent):
    """An appliance did not answer this worker for a while; nobody calls it until a probe gets
    through."""

    level: ClassVar[Level] = "warning"
    appliance: str
    code: str


@dataclass(frozen=True, slots=True)
class BreakerClosed(LogEvent):
    """A probe of this worker got through: the appliance is called again."""

    appliance: str


@dataclass(frozen=True, slots=True)
class JournalUnsure(LogEvent):
    """What became of a commit for so many `pairings` is not known: it is looked up first."""

    level: ClassVar[Level] = "warning"
    pairings: int
    error: str


@dataclass(frozen=True, slots=True)
class StoreTroubled(LogEvent):
    """The database did not do what it was asked to."""

    level: ClassVar[Level] = "warning"
    doing: str
    error: str


@dataclass(frozen=True, slots=True)
class ServiceStarted(LogEvent):
    """The process is ready."""

    roles: tuple[str, ...]
    listen: str | None
    database: str


@dataclass(frozen=True, slots=True)
class ServiceStopped(LogEvent):
    """The process is through with its clean shutdown."""

    handed_back: int


@dataclass(frozen=True, slots=True)
class DatabaseStarting(LogEvent):
    """Our own PostgreSQL is being started; after a crash it recovers first."""

    data_dir: str
    waited_s: float = 0.0
