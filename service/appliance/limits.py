"""What a call to an appliance may take: time, size, and a place in the queue."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallTimeouts:
    """Seconds. `connect_s`: TCP and TLS. `answer_s`: silence of the appliance, before the
    headers or within the body. `total_s`: the whole call once it has its turn. `change_s`: the
    same for a mutating call, if that is less; a worker's lease has to outlast it. `logout_s`: the
    good-bye at the end.
    """

    connect_s: float = 10.0
    answer_s: float = 20.0
    total_s: float = 30.0
    change_s: float = 12.0
    logout_s: float = 3.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Per appliance. `connections` are open at once; if this worker may make more changes at once,
    as many as those. `keep_alive_s` has to be less than the appliance's own, which is unknown: a
    connection that it closes under a call makes a mutating call ambiguous.

    `idle_s` after its last user has left an appliance is logged out, and its credentials are
    forgotten: it may have been removed.
    `spacing_s` is the least pause between two reads of the list of peers after one that was
    shared, a quarter of it after another; a quarter is also what the next one after a shared one
    waits for more to share it.
    `max_body` has to hold the list of peers of a large hub, which has no pages (h4-api 2.1).
    A task about which nothing of use is heard for `task_patience_s` is told to be unreadable.
    The breaker opens after `breaker_failures` in a row that took at least `breaker_over_s`, so that
    a short storm does not open it; for `breaker_grace_s` it stays open by itself, until the other
    workers know of it.
    """

    connections: int = 2
    keep_alive_s: float = 10.0
    idle_s: float = 600.0
    max_body: int = 32 * 1024 * 1024
    spacing_s: float = 0.08
    bulk_ids: int = 500
    bulk_retry_s: float = 600.0
    task_patience_s: float = 60.0
    breaker_failures: int = 3
    breaker_over_s: float = 2.0
    breaker_grace_s: float = 5.0


DEFAULT_TIMEOUTS = CallTimeouts()
DEFAULT_LIMITS = Limits()
