"""The calls about batches."""

import asyncio

import msgspec
from aiohttp import web

from service.api import bulkrequests, requests, responses, validation
from service.api.bodies import JSON, look_at_headers
from service.api.items import Judge
from service.api.middleware import author_of
from service.api.parts import CONTRACT, PARTS, STOPPING, ApiParts
from service.api.piecewise import PiecewiseResponse
from service.api.uploads import LineCount, spooled
from service.api.validation import Asked
from service.api.waiting import LOOK_S, PAUSE_S, first
from service.domain.batch import Batch
from service.domain.errors import UnknownBatch
from service.domain.ids import BatchId, uuid_from
from service.store.batchrecord import BatchAcceptance

LINES = "application/x-ndjson"
LIMITS = {JSON: 8 * 1024 * 1024, LINES: 128 * 1024 * 1024}
"""Bytes in a body, by its media type. JSON is read as a whole, lines one by one."""

_ASK_AGAIN_S = 1


async def create_batch(request: web.Request) -> web.StreamResponse:
    """Promise an end to each pairing that can be accepted: 202 once they are durable."""
    parameters, faults = validation.parameters_of(request)
    wanted = Asked(parameters, None, tuple(faults))
    wanted.insist()
    limit = look_at_headers(request, LIMITS)
    acceptance = await _accepted(request, wanted, limit)
    replayed = {"Idempotency-Replayed": "true"} if acceptance.replayed else {}
    headers = _leading_to(acceptance.id) | replayed
    told = responses.batch_accepted(acceptance)
    if acceptance.rejected is not None:
        told["rejected"] = msgspec.Raw(acceptance.rejected)
        return responses.respond(told, status=202, headers=headers)
    rejected = request.app[PARTS].bulk.rejected(acceptance.id)
    response = PiecewiseResponse(request, told, status=202, headers=headers)
    return await response.send("rejected", rejected)


async def get_batch(request: web.Request) -> web.Response:
    """One; with `waitSeconds`, when all its pairings are over or the time is."""
    wanted = await validation.read(request)
    wanted.insist()
    stopping = request.app[STOPPING]
    batch = await _when_over(request.app[PARTS], _id(request), requests.wait_s(wanted), stopping)
    return responses.respond(responses.batch(batch))


async def cancel_batch(request: web.Request) -> web.Response:
    """Promise that all its pairings come to their end, and that what they did is undone."""
    (await validation.read(request)).insist()
    batch = await request.app[PARTS].cancels.request_batch(_id(request), author_of(request))
    headers = _leading_to(batch.id)
    return responses.respond(responses.batch(batch), status=202, headers=headers)


async def _accepted(request: web.Request, wanted: Asked, limit: int) -> BatchAcceptance:
    parts, is_atomic = request.app[PARTS], requests.is_atomic(wanted)
    judge = Judge(request.app[CONTRACT].pairing_request)
    count = LineCount() if request.content_type == LINES else None
    async with spooled(request, parts.spool_dir, limit, count) as spool:
        if count is not None:
            batch = bulkrequests.of_lines(spool, count.lines, judge, is_atomic=is_atomic)
        else:
            operation = validation.operation_of(request)
            batch = bulkrequests.of_json(spool, operation, judge, is_atomic=is_atomic)
        key = requests.batch_key(wanted, request.content_type, spool.digest)
        return await parts.bulk.accept(batch, author_of(request), key)


async def _when_over(
    parts: ApiParts, batch_id: BatchId, timeout_s: float, stopping: asyncio.Event
) -> Batch:
    now = asyncio.get_running_loop().time
    deadline = now() + timeout_s
    while True:
        ring = parts.anything.hear()
        batch = await parts.batches.get(batch_id)
        left_s = deadline - now()
        if batch.is_over or left_s <= 0 or stopping.is_set():
            return batch
        pause_s = min(left_s, PAUSE_S)
        await first(stopping, within_s=pause_s)
        await first(ring, stopping, within_s=min(left_s - pause_s, LOOK_S))


def _leading_to(batch_id: BatchId) -> dict[str, str]:
    return {"Location": f"/v1/batches/{batch_id}", "Retry-After": str(_ASK_AGAIN_S)}


def _id(request: web.Request) -> BatchId:
    batch_id = uuid_from(request.match_info["batch"])
    if batch_id is None:
        raise UnknownBatch
    return BatchId(batch_id)
