"""Request bodies as bytes arrive: refused by their headers before they are read."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from aiohttp import web
from aiohttp.web_exceptions import HTTPRequestEntityTooLarge

from service.api.refusals import (
    BodyTooLarge,
    BodyTooSlow,
    MalformedBody,
    UnsupportedEncoding,
    UnsupportedMediaType,
)

JSON = "application/json"
LIMIT = 64 * 1024
"""Bytes in a body."""

ARRIVAL_S = 30.0
"""How long a body may take to arrive."""

AWAITS_WELCOME = web.RequestKey("awaits_welcome", bool)
"""Whether the client does not send its body before it hears that it is welcome."""


async def read_text(request: web.Request) -> str:
    """The body as text. Raises what `refusals` has about bodies."""
    look_at_headers(request, {JSON: LIMIT})
    await welcome(request)
    try:
        if request.content.is_eof():  # Mostly it is there already, and needs no timer.
            content = await request.read()
        else:
            async with asyncio.timeout(ARRIVAL_S):
                content = await request.read()
    except TimeoutError:
        raise BodyTooSlow(ARRIVAL_S) from None
    except HTTPRequestEntityTooLarge:
        raise BodyTooLarge(LIMIT) from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise MalformedBody("The body broke off, or its chunks are malformed.") from error
    return decode(content)


async def welcome(request: web.Request) -> None:
    """The body is about to be read: have it sent by who waits for that."""
    if request.get(AWAITS_WELCOME, False):
        with suppress(ConnectionError):  # Who reads will notice.
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # Nothing of the response is sent yet.


def decode(content: bytes) -> str:
    """`content` as UTF-8 without a byte order mark. Raises MalformedBody."""
    if not content:
        raise MalformedBody("The body is empty; send a JSON object.")
    if content.startswith(b"\xef\xbb\xbf"):
        raise MalformedBody("The body begins with a byte order mark; leave it out.")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise MalformedBody(f"The body is not UTF-8: byte {error.start}.") from None


def look_at_headers(request: web.Request, limits: Mapping[str, int]) -> int:
    """The bytes that the body may have; `limits` has the media types that are taken.

    Raises UnsupportedEncoding, UnsupportedMediaType, BodyTooLarge.
    """
    encodings = request.headers.getall("Content-Encoding", [])
    if any(encoding.strip().lower() not in {"", "identity"} for encoding in encodings):
        raise UnsupportedEncoding
    # Of "gzip, chunked" aiohttp undoes the chunks alone.
    codings = request.headers.getall("Transfer-Encoding", [])
    if any(coding.strip().lower() != "chunked" for coding in codings):
        raise UnsupportedEncoding
    limit = limits.get(request.content_type)
    if limit is None or (request.charset or "utf-8").lower() not in {"utf-8", "utf8"}:
        raise UnsupportedMediaType(*limits)
    if request.content_length is not None and request.content_length > limit:
        raise BodyTooLarge(limit)
    return limit
