"""Holds everybody off an appliance that does not answer, until a probe got through.

1. So many failures in a row, over a certain time at least, open the breaker.
2. While it is open every call is refused at once, and who waits is told; what is under way ends
   as it will.
3. Only a probe goes through. That it was answered, or that another worker's was, closes it again.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from service.appliance.classify import error_in, judge_failure
from service.appliance.exchange import Failure, FailureKind, Outcome
from service.appliance.limits import Limits
from service.domain.appliance import ApiError
from service.domain.errors import ApplianceClosed
from service.domain.ids import ApplianceName

_DEAD = frozenset(
    {
        FailureKind.UNREACHABLE,
        FailureKind.CONNECT_TIMEOUT,
        FailureKind.TLS_FAILED,
        FailureKind.SILENT,
        FailureKind.CUT,
        FailureKind.GARBLED,
    }
)
_ANSWERED_TOO_MUCH = frozenset({FailureKind.TOO_LARGE, FailureKind.ENCODED})
_UNWELL = frozenset({502, 503, 504})
_TOO_MANY_REQUESTS = 429


@dataclass(slots=True)
class Probe:
    """What became of the calls that went through an open breaker."""

    is_answered: bool = False


_PROBE: ContextVar[Probe | None] = ContextVar("probe", default=None)


@contextmanager
def probing() -> Iterator[Probe]:
    """Within, and in tasks begun within, calls go through open breakers."""
    probe = Probe()
    token = _PROBE.set(probe)
    try:
        yield probe
    finally:
        _PROBE.reset(token)


class Breaker:
    """The breaker of one appliance, on the running loop's clock."""

    def __init__(
        self,
        name: ApplianceName,
        limits: Limits,
        on_open: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_open` is told when failures opened it."""
        self.listeners: set[Callable[[ApplianceClosed], None]] = set()
        """Told when it opens, here or for all: whoever waits is to be turned away."""
        self._name = name
        self._limits = limits
        self._on_open = on_open
        self._cause: ApiError | None = None
        self._opened_here_at: float | None = None
        self._failures = 0
        self._first_failure_at = 0.0

    @property
    def news(self) -> ApiError | None:
        """Why it opened, as long as only this process knows that."""
        return self._cause if self._opened_here_at is not None else None

    @property
    def refusal(self) -> ApiError | None:
        """What is told to whom it turns away; None unless it is open."""
        return self._closed(self._cause).error if self._cause is not None else None

    def check(self) -> None:
        """Raise ApplianceClosed if it is open, but not for a probe."""
        if self._cause is not None and _PROBE.get() is None:
            raise self._closed(self._cause)

    def saw(self, outcome: Outcome) -> None:
        """Learn from the outcome of a call."""
        if isinstance(outcome, Failure):
            error = judge_failure(outcome, mutating=False).error
            if outcome.kind in _ANSWERED_TOO_MUCH:
                self._answered()
            elif outcome.kind in _DEAD:
                self._failed(error)
            # Else we did not get as far as to know whether it would answer.
        elif outcome.status in _UNWELL:
            self._failed(error_in(outcome))
        else:
            self._answered(is_well=outcome.status != _TOO_MANY_REQUESTS)

    def impose(self, cause: ApiError) -> None:
        """It is open, as all workers know by now."""
        self._opened_here_at = None
        if self._cause is None:
            self._open(cause)

    def close(self) -> None:
        """Let calls through again, and count from nought. Nothing happens if it is not open."""
        if self._cause is not None:
            self._cause = self._opened_here_at = None
            self._failures = 0

    def lift(self) -> None:
        """Close it, unless it opened here so recently that the others may not know of it yet."""
        opened_at = self._opened_here_at
        grace_s = self._limits.breaker_grace_s
        if opened_at is None or _now() - opened_at >= grace_s:
            self.close()

    def _answered(self, *, is_well: bool = True) -> None:
        if is_well:
            self._failures = 0
        if (probe := _PROBE.get()) is not None:
            probe.is_answered = True

    def _failed(self, error: ApiError) -> None:
        now = _now()
        if self._failures == 0:
            self._first_failure_at = now
        self._failures += 1
        if self._cause is not None or self._failures < self._limits.breaker_failures:
            return
        if now - self._first_failure_at >= self._limits.breaker_over_s:
            self._opened_here_at = now
            self._open(error)
            self._on_open()

    def _open(self, cause: ApiError) -> None:
        self._cause = cause
        for tell in tuple(self.listeners):
            tell(self._closed(cause))

    def _closed(self, cause: ApiError) -> ApplianceClosed:
        error = ApiError(
            "ApplianceUnavailable",
            f"'{self._name}' does not answer: only a probe calls it. The last failure: {cause.msg}",
            (self._name, cause.code),
        )
        return ApplianceClosed(error)


def _now() -> float:
    return asyncio.get_running_loop().time()
