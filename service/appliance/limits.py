"""What a call to an appliance may take: time, size, and a place in the queue."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallTimeouts:
    """Seconds. `connect_s`: TCP and TLS. `answer_s`: silence of the appliance, before the
    headers or within the body. `total_s`: the whole call once it has its turn, the longest that
    a mutating call can be on its way. `logout_s`: the good-bye at the end, for all appliances.
    """

    connect_s: float = 10.0
    answer_s: float = 20.0
    total_s: float = 30.0
    logout_s: float = 3.0

    def __post_init__(self) -> None:
        # A total that strikes first would hide whether the request had been sent.
        if not 0 < self.connect_s < self.total_s or min(self.answer_s, self.logout_s) <= 0:
            raise ValueError("time-outs must be positive, and connect_s less than total_s")


@dataclass(frozen=True, slots=True)
class Limits:
    """Per appliance. `keep_alive_s` has to be less than the appliance's own, which is unknown
    (libraries 2.1): a connection that it closes under a call makes a mutating call ambiguous.

    `refusal_lasts_s` is how long refused credentials are not tried again, so that no account is
    locked (h4-api 1). `spacing_s` is the least pause between two reads of the list of peers.
    """

    connections: int = 2
    keep_alive_s: float = 10.0
    max_body: int = 8 * 1024 * 1024
    refusal_lasts_s: float = 900.0
    spacing_s: float = 0.02
    bulk_ids: int = 500
    bulk_retry_s: float = 600.0


DEFAULT_TIMEOUTS = CallTimeouts()
DEFAULT_LIMITS = Limits()
