"""Fault actions that happen on the connection: late, cut, slow, wrong, huge."""

import asyncio
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never

from aiohttp import web

from simulator.faults import Action
from simulator.logins import SESSION_GONE
from simulator.wire import PLAIN_JSON, Answer, ApiError, encode, vendor_type
from simulator.world import Visit, World

if TYPE_CHECKING:
    from simulator.listener import Listener

_BLOCK = 65_536
_HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"


class Mischief:
    """Plays the actions that fired on one appliance's port."""

    def __init__(self, world: World, listener: "Listener", clock: Callable[[], int]) -> None:
        self._world = world
        self._listener = listener
        self._clock = clock

    async def play(
        self, request: web.BaseRequest, visit: Visit, action: Action
    ) -> web.StreamResponse:
        """Do what `action` says to this request."""
        match action.kind:
            case "lost_answer" | "reset" | "late" | "hang" | "down":
                return await self._unanswered(request, visit, action)
            case "slow":
                return await self._slow(visit, action)
            case "status" | "garbage" | "redirect":
                return await self._wrong(request, visit, action)
            case "huge" | "drip" | "gzip_bomb":
                return await self._stream(request, visit, action)
            case "forget_tasks" | "expire_sessions":
                return respond(self._act(visit))
            case "task_fails" | "task_acts_and_fails" | "task_lies" | "task_mismatch":
                return respond(self._act(visit))
        assert_never(action.kind)

    def _act(self, visit: Visit) -> Answer:
        now = self._clock()
        answer = self._world.act(visit, now)
        self._world.leave(visit, now, answer.status)
        return answer

    def _act_unheard(self, visit: Visit, action: Action, status: int | None) -> Answer | None:
        """Act if the action acts first, and note the answer that the caller really gets."""
        now = self._clock()
        answer = self._world.act(visit, now) if action.acts_first else None
        self._world.leave(visit, now, status)
        return answer

    async def _unanswered(
        self, request: web.BaseRequest, visit: Visit, action: Action
    ) -> web.StreamResponse:
        self._act_unheard(visit, action, None)
        if action.kind == "late":
            self._world.act_later(visit, self._clock() + action.ms)
        if action.kind == "hang":
            await _hang(action.ms)
        if action.kind == "down":
            await self._listener.down(action.mode, action.ms)
        return cut(request)

    async def _slow(self, visit: Visit, action: Action) -> web.StreamResponse:
        if not action.acts_first:
            await asyncio.sleep(action.ms / 1000)
            return respond(self._act(visit))
        answer = self._act(visit)
        await asyncio.sleep(action.ms / 1000)
        return respond(answer)

    async def _wrong(
        self, request: web.BaseRequest, visit: Visit, action: Action
    ) -> web.StreamResponse:
        if action.kind == "redirect":
            self._act_unheard(visit, action, 302)
            return web.Response(status=302, headers={"Location": action.location})
        if action.kind == "status":
            self._act_unheard(visit, action, action.status)
            return _status(visit, action)
        answer = self._act_unheard(visit, action, 200)
        body = answer.body if answer is not None else b'{"items":[]}'
        if action.body == "cut":
            return await _cut_short(request, body)
        return web.Response(body=_garbage(action, body), headers={"Content-Type": PLAIN_JSON})

    async def _stream(
        self, request: web.BaseRequest, visit: Visit, action: Action
    ) -> web.StreamResponse:
        if action.kind == "drip" and action.acts_first:
            return await _drip(request, self._act(visit), action)
        self._act_unheard(visit, action, 200)
        if action.kind == "huge":
            return await _huge(request, action.mb)
        if action.kind == "gzip_bomb":
            headers = {"Content-Type": PLAIN_JSON, "Content-Encoding": "gzip"}
            return web.Response(body=_bomb(action.mb), headers=headers)
        return await _drip(request, Answer(200, b"[]"), action)


def respond(answer: Answer) -> web.Response:
    """An answer as aiohttp sends it."""
    return web.Response(status=answer.status, body=answer.body, headers=answer.headers)


def cut(request: web.BaseRequest) -> web.Response:
    """Cut the connection under the request; the response returned is never sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _hang(ms: int) -> None:
    if ms:
        await asyncio.sleep(ms / 1000)
    else:
        await asyncio.Event().wait()


def _status(visit: Visit, action: Action) -> web.Response:
    headers = {"Content-Type": vendor_type(visit.appliance.knobs.api_version)}
    if action.marker:
        headers.update(SESSION_GONE)
    if action.retry_after is not None:
        headers["Retry-After"] = str(action.retry_after)
    error = ApiError(action.code, action.msg, (), f"simulator.Fault: {action.msg}")
    return web.Response(status=action.status, body=encode(error), headers=headers)


def _garbage(action: Action, body: bytes) -> bytes:
    match action.body:
        case "html":
            return _HTML
        case "truncated":
            return body[: max(1, len(body) // 2)]
        case "text":
            return b"OK"
        case "list":
            return b'[1, [null], "x"]'
        case "binary":
            return b"\xff\xfe\x00\x80" * 16
        case "empty" | "cut":
            return b""
    assert_never(action.body)


async def _cut_short(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
    """Headers that promise a whole body, half of it, and the connection is gone."""
    response = web.StreamResponse(headers={"Content-Type": PLAIN_JSON})
    response.content_length = len(body) + 1
    await response.prepare(request)
    await response.write(body[: len(body) // 2 + 1])
    return cut(request)


async def _huge(request: web.BaseRequest, mb: int) -> web.StreamResponse:
    """A body of `mb` MB that is valid JSON: a list of one long text."""
    response = web.StreamResponse(headers={"Content-Type": PLAIN_JSON})
    await response.prepare(request)
    await response.write(b'["')
    for _ in range(mb * 1_048_576 // _BLOCK):
        await response.write(b"x" * _BLOCK)
    await response.write(b'"]')
    await response.write_eof()
    return response


async def _drip(request: web.BaseRequest, answer: Answer, action: Action) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body)
    await response.prepare(request)
    for start in range(0, len(answer.body), max(1, action.chunk)):
        await response.write(answer.body[start : start + max(1, action.chunk)])
        await asyncio.sleep(action.ms / 1000)
    await response.write_eof()
    return response


def _bomb(mb: int) -> bytes:
    """A gzip body that inflates to `mb` MB of spaces."""
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    block = b" " * 1_048_576
    return b"".join([*(packer.compress(block) for _ in range(mb)), packer.flush()])
