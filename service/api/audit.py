"""The calls about the audit trail of everything: page by page, and as it grows."""

import asyncio
from collections.abc import Sequence

from aiohttp import web

from service.api import requests, responses, validation
from service.api.faults import Fault
from service.api.paging import Cursors
from service.api.parts import CURSORS, PARTS, STOPPING, ApiParts
from service.api.streaming import EventStream, ServerSentEvent
from service.api.validation import Asked
from service.api.waiting import LOOK_S, PAUSE_S, first
from service.domain.errors import StoreUnavailable
from service.observe.events import RequestCrashed, StoreTroubled
from service.observe.logging import emit
from service.store.audit import AuditFilter, Place, Recorded

_PAGE = 200
"""How many events of the stream are in memory at once."""


async def list_audit_events(request: web.Request) -> web.Response:
    """One page, oldest first."""
    wanted = await validation.read(request)
    narrowed, limit = requests.audit_filter(wanted), requests.limit_of(wanted)
    after = await _insisted(request, wanted)
    # One more than asked for tells whether there is another page.
    found = await request.app[PARTS].audit.page(narrowed, limit + 1, after)
    cursors = request.app[CURSORS]
    page = [_item(each, cursors) for each in found[:limit]]
    more = cursors.event_id(found[limit - 1].place) if len(found) > limit else None
    return responses.respond(responses.audit_events(page, more))


async def stream_audit_events(request: web.Request) -> web.StreamResponse:
    """What comes after a place, or from now on, until the client or the service stops."""
    wanted = await validation.read(request)
    narrowed, parts = requests.audit_filter(wanted), request.app[PARTS]
    # Before the headers: whoever has them misses nothing from then on.
    after = await _insisted(request, wanted) or await parts.audit.now()
    stream = EventStream(request, request.app[CURSORS].event_id(after))
    await stream.open()
    if request.method != "HEAD":
        following = _follow(parts, narrowed, after, stream, request.app[CURSORS])
        try:
            await stream.until(request.app[STOPPING], following)
        except ExceptionGroup as defect:
            emit(RequestCrashed(method=request.method, route="/v1/audit/stream"), error=defect)
    return stream.response


async def _follow(
    parts: ApiParts, narrowed: AuditFilter, after: Place, stream: EventStream, cursors: Cursors
) -> None:
    troubled = False
    while True:
        ring = parts.anything.hear()
        found: Sequence[Recorded] = ()
        try:
            found = await parts.audit.page(narrowed, _PAGE, after)
            troubled = False
        except StoreUnavailable as trouble:
            if not troubled:
                emit(StoreTroubled(doing="following the audit trail", error=str(trouble)))
            troubled = True
        await stream.send([_message(each, cursors) for each in found])
        if found:
            after = found[-1].place
        if len(found) < _PAGE:
            await asyncio.sleep(PAUSE_S)
            await first(ring, within_s=LOOK_S)


async def _insisted(request: web.Request, wanted: Asked) -> Place | None:
    """Where the caller is to go on from, if nothing is wrong. Who was cut off tells the header,
    too."""
    name = "Last-Event-ID" if "Last-Event-ID" in wanted.parameters else "after"
    place = requests.behind(wanted, name, request.app[CURSORS].place, "is not the id of an event")
    try:
        # One from before a dump was restored elsewhere: what is new there would stand before it.
        if place is not None and place > await request.app[PARTS].audit.now():
            wanted.insist(Fault("is not the id of an event of this database", parameter=name))
    except StoreUnavailable:
        wanted.insist()  # What else is wrong is known all the same.
        raise
    wanted.insist()
    return place


def _message(recorded: Recorded, cursors: Cursors) -> ServerSentEvent:
    item = _item(recorded, cursors)
    return ServerSentEvent(str(item["id"]), recorded.entry.type, item)


def _item(recorded: Recorded, cursors: Cursors) -> responses.Wire:
    return responses.audit_event(cursors.event_id(recorded.place), recorded.entry)
