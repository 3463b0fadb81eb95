"""What this layer is built from."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from service.api.paging import Cursors
from service.appliance.check import CheckReport
from service.domain.registration import Registration
from service.store.appliances import Appliances
from service.store.intake import Intake
from service.store.notify import Announcements
from service.store.pairings import Pairings


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether requests can be served, and if not, why: shown to whoever asks, without a token."""

    ok: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiParts:
    """All that the calls need; none of it is owned or closed here.

    `egress_forbids` tells why a host that is an IP address may not be called, or None.
    Processes of one service share `cursor_key`, so that each takes the others' cursors.
    """

    appliances: Appliances
    intake: Intake
    pairings: Pairings
    over: Announcements
    check: Callable[[Registration], Awaitable[CheckReport]]
    ready: Callable[[], Awaitable[Readiness]]
    egress_forbids: Callable[[str], str | None]
    admin_token: str = field(repr=False)
    cursor_key: bytes = field(repr=False)


PARTS = web.AppKey("parts", ApiParts)
CURSORS = web.AppKey("cursors", Cursors)
STOPPING = web.AppKey("stopping", asyncio.Event)
