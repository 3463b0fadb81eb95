"""HTTPS to one appliance, by aiohttp. Knows nothing of H4.

What aiohttp does on its own account is off: no redirects, no decompression, no cookies, no
proxies from the environment, and no resending (it would repeat GET, PUT and DELETE when a kept
connection drops, libraries 2.1).
"""

import math
from collections.abc import Mapping

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, ClientTimeout
from yarl import URL

from service.appliance.departure import Departure
from service.appliance.egress import EgressForbidden, EgressPolicy, GuardedResolver
from service.appliance.exchange import (
    AFTER_SENDING,
    Answer,
    Failure,
    FailureKind,
    Outcome,
    Permit,
    Request,
)
from service.appliance.limits import CallTimeouts, Limits
from service.appliance.tls import Trust
from service.domain.thumbprint import Thumbprint

_NEVER_SENT_BY_ITSELF = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class HttpsChannel:
    """A few kept connections to one HTTPS endpoint. Close it when done."""

    def __init__(
        self,
        url: str,
        trust: Trust,
        egress: EgressPolicy,
        timeouts: CallTimeouts,
        limits: Limits,
    ) -> None:
        """`url` is where the appliance is managed; paths of requests are appended to it."""
        self._base = url.rstrip("/")
        self._refusal = _refusal(url, egress)
        self._max_body = limits.max_body
        self._patience = _patience(timeouts, timeouts.total_s)
        self._patience_for_changes = _patience(timeouts, min(timeouts.change_s, timeouts.total_s))
        connector = aiohttp.TCPConnector(
            ssl=trust,
            limit=limits.connections,
            keepalive_timeout=limits.keep_alive_s,
            resolver=GuardedResolver(egress),
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            middlewares=(_send_once,),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            skip_auto_headers=_NEVER_SENT_BY_ITSELF,
            headers={"User-Agent": "sitepair"},
        )

    async def send(self, request: Request, headers: Mapping[str, str], permit: Permit) -> Outcome:
        """Implements `Channel.send`."""
        if self._refusal is not None:
            return self._refusal
        if request.mutating:
            return await self._change(request, headers, Departure(request.body or b"", permit))
        try:
            return await self._exchange(request, headers, request.body, self._patience)
        except (aiohttp.ClientError, OSError) as error:
            return _failure(error)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def _change(
        self, request: Request, headers: Mapping[str, str], departure: Departure
    ) -> Outcome:
        try:
            return await self._exchange(request, headers, departure, self._patience_for_changes)
        except (aiohttp.ClientError, OSError) as error:
            departure.raise_refusal()
            failure = _failure(error)
            return failure if departure.has_begun else _unsent(failure)
        finally:
            departure.withdraw()

    async def _exchange(
        self,
        request: Request,
        headers: Mapping[str, str],
        body: bytes | Departure | None,
        patience: ClientTimeout,
    ) -> Outcome:
        url = URL(self._base + request.path, encoded=True)
        if request.query:
            url = url.with_query(request.query)
        async with self._session.request(
            request.method,
            url,
            data=body,
            headers=headers,
            allow_redirects=False,
            timeout=patience,
        ) as response:
            if isinstance(body, Departure):
                body.arrived()
            return await self._read(response)

    async def _read(self, response: ClientResponse) -> Outcome:
        """The answer. A bad status stays an answer when its body cannot be read: the status
        alone says what happened."""
        headers = _headers(response)
        body: bytes | Failure
        if headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
            body = Failure(FailureKind.ENCODED, headers["content-encoding"][:100])
        else:
            try:
                body = await self._body(response)
            except (aiohttp.ClientError, OSError) as error:
                body = _failure(error)
        if isinstance(body, bytes):
            return Answer(response.status, headers, body)
        response.close()
        return body if 200 <= response.status < 300 else Answer(response.status, headers, b"")

    async def _body(self, response: ClientResponse) -> bytes | Failure:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._max_body:
                return Failure(FailureKind.TOO_LARGE, f"more than {self._max_body} bytes")
            chunks.append(chunk)
        return b"".join(chunks)


class _Cut(aiohttp.ClientError):
    """The connection was lost after sending had begun."""


async def _send_once(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Keeps from aiohttp the two errors upon which it would send the request again."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _Cut(_words(error)) from error


def _patience(timeouts: CallTimeouts, total_s: float) -> ClientTimeout:
    return ClientTimeout(
        total=total_s,
        connect=timeouts.connect_s,
        sock_connect=timeouts.connect_s,
        sock_read=timeouts.answer_s,
        ceil_threshold=math.inf,  # Else aiohttp rounds up to the next second.
    )


def _refusal(url: str, egress: EgressPolicy) -> Failure | None:
    """Why `url` may not be called at all, if so."""
    try:
        parts = URL(url)
    except ValueError as error:
        return Failure(FailureKind.INVALID_URL, str(error))
    if parts.scheme != "https" or not parts.host:
        return Failure(FailureKind.INVALID_URL, "https://HOST[:PORT] is needed")
    try:
        egress.check_literal(parts.host)
    except EgressForbidden as error:
        return Failure(FailureKind.FORBIDDEN, str(error))
    return None


def _headers(response: ClientResponse) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in response.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers


_KINDS: tuple[tuple[type[Exception], FailureKind], ...] = (
    (aiohttp.ClientConnectorCertificateError, FailureKind.UNTRUSTED),
    (aiohttp.ClientSSLError, FailureKind.TLS_FAILED),
    (aiohttp.ClientConnectorError, FailureKind.UNREACHABLE),
    (aiohttp.ConnectionTimeoutError, FailureKind.CONNECT_TIMEOUT),
    (aiohttp.InvalidURL, FailureKind.INVALID_URL),
    (TimeoutError, FailureKind.SILENT),
    (aiohttp.ClientResponseError, FailureKind.GARBLED),
)
"""The order matters, for aiohttp's errors inherit from one another."""


def _failure(error: Exception) -> Failure:
    """aiohttp's errors in our words. An unknown one counts as one that came after sending."""
    if isinstance(error, aiohttp.ServerFingerprintMismatch):
        return Failure(
            FailureKind.PIN_MISMATCH,
            "",
            expected=_spelt(error.expected),
            presented=_spelt(error.got),
        )
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, EgressForbidden):
        return Failure(FailureKind.FORBIDDEN, str(cause))
    kind = next((kind for known, kind in _KINDS if isinstance(error, known)), FailureKind.CUT)
    return Failure(kind, _words(cause))


def _unsent(failure: Failure) -> Failure:
    """The total time may strike, and a connection be lost, before anything was sent."""
    if failure.kind not in AFTER_SENDING:
        return failure
    is_late = failure.kind is FailureKind.SILENT
    kind = FailureKind.CONNECT_TIMEOUT if is_late else FailureKind.UNREACHABLE
    return Failure(kind, failure.detail)


def _words(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text[:300]


def _spelt(digest: bytes) -> Thumbprint:
    pairs = digest.hex(":").upper()
    return Thumbprint(f"SHA-256:{pairs}")
