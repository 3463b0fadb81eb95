"""What this layer is built from."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from service.api.contract import Contract
from service.api.paging import Cursors
from service.appliance.check import CheckReport
from service.domain.registration import Registration
from service.observe.metrics import Metrics
from service.store.appliances import Appliances
from service.store.audit import Audit
from service.store.batches import Batches
from service.store.bulk import BulkIntake
from service.store.cancels import Cancels
from service.store.health import Health
from service.store.intake import Intake
from service.store.notify import Announcements, Bell
from service.store.pairings import Pairings
from service.store.retries import Retries


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessParts:
    """What the calls need that are about this process, whatever it does.

    `objection` tells why requests cannot be served, None if they can; it is shown to whoever asks,
    without a token.
    """

    objection: Callable[[], Awaitable[str | None]]
    metrics: Metrics
    admin_token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """All that the other calls need; none of it is owned or closed here.

    `egress_forbids` tells why a host that is an IP address may not be called, or None.
    Processes of one service share `cursor_keys`, so that each takes the others' cursors; the first
    makes them.
    `anything` rings, as a hint, when something may have been added to the audit trail.
    Batches lie in `spool_dir` while they arrive.
    """

    appliances: Appliances
    health: Health
    intake: Intake
    bulk: BulkIntake
    batches: Batches
    pairings: Pairings
    cancels: Cancels
    retries: Retries
    over: Announcements
    audit: Audit
    anything: Bell
    spool_dir: Path
    check: Callable[[Registration], Awaitable[CheckReport]]
    egress_forbids: Callable[[str], str | None]
    cursor_keys: Sequence[bytes] = field(repr=False)


CONTRACT = web.AppKey("contract", Contract)
PROCESS = web.AppKey("process", ProcessParts)
PARTS = web.AppKey("parts", ApiParts)
CURSORS = web.AppKey("cursors", Cursors)
STOPPING = web.AppKey("stopping", asyncio.Event)
