"""The calls about pairings."""

import asyncio
from functools import partial

from aiohttp import web

from service.api import requests, responses, validation
from service.api.faults import Fault
from service.api.middleware import author_of
from service.api.parts import CURSORS, PARTS, STOPPING, ApiParts
from service.api.refusals import ApplianceGone, UnknownAppliances
from service.api.waiting import first
from service.domain.errors import UnknownAppliance, UnknownPairing
from service.domain.ids import PairingId, uuid_from
from service.domain.pairing import Pairing
from service.store.intake import PairingRequest

_ASK_AGAIN_S = 1
_LOOK_S = 5.0
"""How often who waits looks even if nothing was announced: announcements may get lost."""


async def create_pairing(request: web.Request) -> web.Response:
    """Promise an end to a new pairing: 202 once it is durable."""
    parts = request.app[PARTS]
    wanted = await validation.read(request)
    pairing = requests.pairing_request(wanted)
    key = requests.idempotency_key(wanted, pairing)
    try:
        acceptance = await parts.intake.accept(pairing, author_of(request), key)
    except UnknownAppliance as error:
        raise _unknown(pairing, error) from error
    replayed = {"Idempotency-Replayed": "true"} if acceptance.replayed else {}
    return _promised(acceptance.pairing, **replayed)


async def get_pairing(request: web.Request) -> web.Response:
    """One; with `waitSeconds`, when it is over or the time is."""
    wanted = await validation.read(request)
    wanted.insist()
    parts, pairing_id = request.app[PARTS], _id(request)
    timeout_s = requests.wait_s(wanted)
    if timeout_s > 0:
        pairing = await _when_over(parts, pairing_id, timeout_s, request.app[STOPPING])
    else:
        pairing = await parts.pairings.get(pairing_id)
    return responses.respond(responses.pairing(pairing))


async def list_pairings(request: web.Request) -> web.Response:
    """One page, newest first."""
    wanted = await validation.read(request)
    filters, limit = requests.pairing_filter(wanted), requests.limit_of(wanted)
    cursors = request.app[CURSORS]
    position = partial(cursors.position, filters=filters)
    before = requests.behind(wanted, "cursor", position, "was not given for these filters")
    wanted.insist()
    # One more than asked for tells whether there is another page.
    found = await request.app[PARTS].pairings.page(filters, limit + 1, before)
    page = found[:limit]
    more = cursors.after(page[-1].id, filters) if len(found) > limit else None
    return responses.respond(responses.pairings(page, more))


async def list_pairing_events(request: web.Request) -> web.Response:
    """The audit trail of one."""
    (await validation.read(request)).insist()
    entries = await request.app[PARTS].pairings.events(_id(request))
    return responses.respond(responses.events(entries))


async def cancel_pairing(request: web.Request) -> web.Response:
    """Promise that it comes to its end, and that what it did is undone."""
    (await validation.read(request)).insist()
    cancels = request.app[PARTS].cancels
    return _promised(await cancels.request(_id(request), author_of(request)))


async def retry_pairing(request: web.Request) -> web.Response:
    """Promise one that did not succeed another end."""
    (await validation.read(request)).insist()
    retries = request.app[PARTS].retries
    try:
        return _promised(await retries.retry(_id(request), author_of(request)))
    except UnknownAppliance as error:
        raise ApplianceGone(*error.names) from error


def _promised(pairing: Pairing, **headers: str) -> web.Response:
    location = {"Location": f"/v1/pairings/{pairing.id}", "Retry-After": str(_ASK_AGAIN_S)}
    return responses.respond(responses.pairing(pairing), status=202, headers=location | headers)


async def _when_over(
    parts: ApiParts, pairing_id: PairingId, timeout_s: float, stopping: asyncio.Event
) -> Pairing:
    now = asyncio.get_running_loop().time
    deadline = now() + timeout_s
    while True:
        with parts.over.expect(pairing_id) as over:
            pairing = await parts.pairings.get(pairing_id)
            left_s = deadline - now()
            if pairing.is_over or left_s <= 0 or stopping.is_set():
                return pairing
            await first(over, stopping, within_s=min(left_s, _LOOK_S))


def _unknown(pairing: PairingRequest, error: UnknownAppliance) -> UnknownAppliances:
    return UnknownAppliances(
        [
            Fault("is not registered", f"/appliances/{index}")
            for index, name in enumerate(pairing.appliances)
            if name in error.names
        ]
    )


def _id(request: web.Request) -> PairingId:
    pairing_id = uuid_from(request.match_info["id"])
    if pairing_id is None:
        raise UnknownPairing
    return PairingId(pairing_id)
