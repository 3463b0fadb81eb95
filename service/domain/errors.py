"""What can go wrong, as a tree. A branch says what to do, a leaf says what happened::

SitepairError
|-- ApplianceError              an appliance, or the way to it; `error` is in H4's shape
|   |-- NotSent                 it had no effect: try again until the deadline
|   |   |-- ApplianceClosed     its breaker is open: nothing is sent until a probe got through
|   |   |-- Unheard             it was sent, and brought no answer: the appliance, or that call?
|   |   |-- LeaseTooShort       the worker may not change anything now
|   |   `-- OutOfResources      this process can open no connection
|   |-- Ambiguous               it may have had an effect: look, then decide
|   |-- Rejected                the appliance said no: the side fails with its words
|   |   `-- LoginRefused        its credentials are refused
|   |-- TaskForgotten           it no longer knows the task: look, then decide
|   `-- TaskUnreadable          nothing of use is heard of the task: look, it may run still
|-- LeaseLost                   another worker owns the pairing: stop at once
|   |-- Unwanted                it is to be canceled: claim it again, and hear that
|   `-- DeclaredDead            this worker owns nothing any more
|-- StoreUnavailable            the database could not be asked: try again later
|   `-- NotOurs                 it is another application's
|-- DuplicateInBatch            of an item, while its batch goes on without it
|-- IllegalTransition           an event that does not fit the state: a defect
`-- RequestError                the caller's request, with its HTTP meaning in api/problems
    |-- UnknownAppliance, UnknownPairing, UnknownBatch
    |-- PairingOver             it is over, and cannot be canceled
    |-- NotRetryable            it is not over, or succeeded
    |-- Superseded              what it left behind belongs to another pairing by now
    |-- ApplianceBusy           pairings on it are active
    |-- ApplianceExists         another appliance has the same apiUrl
    |-- PairingActive           another pairing of the same two appliances is active
    |-- BatchRejected           a batch that is to be accepted as a whole cannot be
    `-- IdempotencyKeyReused    the same key came with another body
"""

from collections.abc import Sequence

from service.domain.appliance import ApiError
from service.domain.batch import Rejection
from service.domain.ids import ApplianceName, PairingId, TaskId

LISTED_REJECTIONS = 100
"""How many an error names."""


class SitepairError(Exception):
    """Anything that this service raises by itself."""


class ApplianceError(SitepairError):
    """A call to an appliance came to nothing. `error` is what the side would fail with."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(f"{error.code}: {error.msg}")
        self.error = error


class NotSent(ApplianceError):
    """The appliance did not act on the call. `retry_after_s` is its own wish, if it had one. It
    `is_answered` if it was a call that only looks, and the answer is of no use."""

    def __init__(
        self, error: ApiError, retry_after_s: float | None = None, *, is_answered: bool = False
    ) -> None:
        super().__init__(error)
        self.retry_after_s = retry_after_s
        self.is_answered = is_answered


class ApplianceClosed(NotSent):
    """The appliance did not answer for a while; a single probe tries it again and again."""


class Unheard(NotSent):
    """A call that only looks was sent, and brought no HTTP answer that can be read. Whether the
    appliance is to blame or that very call, another one tells."""


class LeaseTooShort(NotSent):
    """The worker's lease would not outlast the call, so somebody else might make it too."""

    def __init__(self) -> None:
        super().__init__(
            ApiError("LeaseTooShort", "The worker's lease may end before the call does.")
        )


class OutOfResources(NotSent):
    """This process has no file descriptor, thread or memory left, which tells nothing of the
    appliance."""


class Ambiguous(ApplianceError):
    """The call was sent and no readable answer came."""


class Rejected(ApplianceError):
    """The appliance answered no. `status` is the HTTP status."""

    def __init__(self, error: ApiError, status: int) -> None:
        super().__init__(error)
        self.status = status


class LoginRefused(Rejected):
    """The appliance refused the credentials, or the network they came from (h4-api 1)."""


class TaskForgotten(ApplianceError):
    """The appliance no longer knows, or no longer shows, this task."""

    def __init__(self, task_id: TaskId) -> None:
        super().__init__(
            ApiError("TaskForgotten", f"The appliance no longer knows task {task_id}.", (task_id,))
        )


class TaskUnreadable(ApplianceError):
    """For a good while nothing that the appliance said about this task was of any use, if it said
    anything."""


class TaskUnfinished(TimeoutError):
    """The time to wait for a task is over, the task is not. `seen` is what the appliance said of it
    last, if anything."""

    def __init__(self, seen: str = "") -> None:
        super().__init__("a task was not over in time")
        self.seen = seen


class LeaseLost(SitepairError):
    """A write came under an epoch that is no longer the pairing's, or follows on another state of
    it than is stored."""

    def __init__(self, pairing_id: PairingId | None = None) -> None:
        what = f"pairing {pairing_id}" if pairing_id is not None else "what was claimed"
        super().__init__(f"{what} was changed without this worker")
        self.pairing_id = pairing_id


class Unwanted(LeaseLost):
    """An end was to be written after somebody had been told that the pairing will be canceled."""

    def __init__(self, pairing_id: PairingId) -> None:
        super().__init__(pairing_id)
        self.args = (f"pairing {pairing_id} is to be canceled, and its worker did not know it yet",)


class DeclaredDead(LeaseLost):
    """This worker's heartbeat came too late: its pairings were given to others."""


class StoreUnavailable(SitepairError):
    """The database did not answer. Whether the last write took effect is not known."""


class NotOurs(StoreUnavailable):
    """The database is another application's: nothing is read from it, and nothing written."""


class IllegalTransition(SitepairError):
    """An event that does not fit the state it met."""


class RequestError(SitepairError):
    """The request cannot be served as it stands."""


class UnknownAppliance(RequestError):
    """No appliance is registered under this name, or under these; none if it could not be one."""

    def __init__(self, *names: ApplianceName) -> None:
        which = f"as {' or '.join(repr(n) for n in names)}" if names else "under this name"
        super().__init__(f"No appliance is registered {which}.")
        self.names = names


class UnknownPairing(RequestError):
    """There is no such pairing."""

    def __init__(self) -> None:
        super().__init__("There is no such pairing.")


class UnknownBatch(RequestError):
    """There is no such batch."""

    def __init__(self) -> None:
        super().__init__("There is no such batch.")


class PairingOver(RequestError):
    """The pairing is over."""

    def __init__(self, pairing_id: PairingId, state: str) -> None:
        super().__init__(f"Pairing {pairing_id} is over: it is {state}.")


class NotRetryable(RequestError):
    """Only a pairing that is FAILED or CANCELED can be tried again."""

    def __init__(self, pairing_id: PairingId, state: str) -> None:
        super().__init__(
            f"Pairing {pairing_id} is {state}; only a FAILED or CANCELED one can be tried again."
        )


class Superseded(RequestError):
    """What a pairing left behind is not its own any more: it must not be undone."""

    def __init__(self, pairing_id: PairingId, by: PairingId) -> None:
        super().__init__(
            f"Pairing {by} of the same two appliances succeeded since and may rely on what pairing "
            f"{pairing_id} left behind, so that is not undone any more."
        )
        self.by = by


class ApplianceBusy(RequestError):
    """The appliance has active pairings."""

    def __init__(self, name: ApplianceName) -> None:
        super().__init__(f"Pairings on '{name}' are active; wait for their end.")


class ApplianceExists(RequestError):
    """Another appliance is registered with the same apiUrl."""

    def __init__(self, name: ApplianceName) -> None:
        super().__init__(f"'{name}' is already registered with this apiUrl.")
        self.name = name


class PairingActive(RequestError):
    """Another pairing of the same two appliances is not over yet."""

    def __init__(self, pairing_id: PairingId) -> None:
        super().__init__(f"Pairing {pairing_id} of the same two appliances is not over yet.")
        self.pairing_id = pairing_id


class DuplicateInBatch(SitepairError):
    """An item of a batch is about the same two appliances as one before it."""

    def __init__(self) -> None:
        super().__init__("An earlier item is about the same two appliances.")


class BatchRejected(RequestError):
    """Not every item of a batch can be accepted, and it was to be all or none."""

    def __init__(self, total: int, refused: int, listed: Sequence[Rejection]) -> None:
        """Of `total` items `refused` are; the first of them are `listed`."""
        which = "" if len(listed) == refused else f"; the first {len(listed)} are listed"
        super().__init__(f"{refused} of {total} items cannot be accepted, so none was{which}.")
        self.rejected = listed


class IdempotencyKeyReused(RequestError):
    """The same Idempotency-Key came with another body."""

    def __init__(self) -> None:
        super().__init__("The Idempotency-Key was used for another request.")
