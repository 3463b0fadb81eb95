"""Under which conditions an appliance is spoken to, and how the way to it is opened."""

import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from service.appliance.egress import EgressPolicy
from service.appliance.exchange import Channel
from service.appliance.http import HttpsChannel
from service.appliance.limits import DEFAULT_LIMITS, DEFAULT_TIMEOUTS, CallTimeouts, Limits
from service.appliance.pace import Pace, paces
from service.appliance.tls import trust_of
from service.domain.registration import ApplianceSpec


def wall_ms() -> int:
    """The time of day in ms."""
    return time.time_ns() // 1_000_000


def https_channel(spec: ApplianceSpec, conditions: "Conditions") -> Channel:
    """The way to a real appliance."""
    return HttpsChannel(
        spec.management_url,
        trust_of(spec.thumbprint, conditions.ca),
        conditions.egress,
        conditions.timeouts,
        conditions.limits,
    )


@dataclass(frozen=True, slots=True)
class Conditions:
    """How a client may talk: to which addresses, how long, how much, whose certificates count
    where none is pinned (those of the system's CAs if `ca` is None), how often it looks after
    tasks.

    Whatever else is not the running loop's comes from here: `connect` opens the way to an
    appliance, `jitter` gives numbers in [0, 1), `clock` the time of day in ms.
    """

    egress: EgressPolicy
    timeouts: CallTimeouts = DEFAULT_TIMEOUTS
    limits: Limits = DEFAULT_LIMITS
    ca: ssl.SSLContext | None = None
    pace: Callable[[], Pace] = field(default_factory=paces)
    jitter: Callable[[], float] = random.random
    clock: Callable[[], int] = wall_ms
    connect: Callable[[ApplianceSpec, "Conditions"], Channel] = https_channel
