"""HTTPS to one appliance. Knows nothing of H4.

An HTTP client of our own (docs/architecture.md), which does nothing on its own account: no
redirects, no decompression, no cookies, no proxies, no resending.
"""

import asyncio
from collections.abc import Mapping
from ipaddress import IPv4Address

from yarl import URL

from service.appliance.dialing import Dialer
from service.appliance.egress import EgressPolicy
from service.appliance.exchange import Failure, FailureKind, Outcome, Permit, Request, granted
from service.appliance.limits import CallTimeouts, Limits
from service.appliance.pool import Pool
from service.appliance.requestwriter import RequestWriter
from service.appliance.tls import Trust


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
        self._answer_s = timeouts.answer_s
        self._total_s = timeouts.total_s
        self._change_s = min(timeouts.change_s, timeouts.total_s)
        target = _target(url)
        self._refusal = target if isinstance(target, Failure) else None
        place = _NOWHERE if isinstance(target, Failure) else target
        self._writer = RequestWriter(place)
        dialer = Dialer(_host(place), place.port or 443, trust, egress, self._change_s)
        self._pool = Pool(dialer, limits, timeouts.connect_s)

    async def send(self, request: Request, headers: Mapping[str, str], permit: Permit) -> Outcome:
        """Implements `Channel.send`. Raises ValueError when a header would break out of its line.

        Whatever fails once the permit was given counts as sent: the request is written in one
        piece, right after it.
        """
        if self._refusal is not None:
            return self._refusal
        written = self._writer.write(request, headers)
        patience_s = self._change_s if request.mutating else self._total_s
        until = asyncio.get_running_loop().time() + patience_s
        connection = await self._pool.take(until)
        if isinstance(connection, Failure):
            return connection
        try:
            asked = permit if request.mutating else granted
            return await connection.exchange(written, asked, self._answer_s, until)
        finally:
            self._pool.give_back(connection)

    async def close(self) -> None:
        """Close all connections."""
        self._pool.close()


_NOWHERE = URL("https://nowhere.invalid")


def _target(url: str) -> URL | Failure:
    """`url` taken apart; why it cannot be called at all, if so."""
    try:
        target = URL(url)
        if target.scheme != "https" or not target.host:
            return Failure(FailureKind.INVALID_URL, "https://HOST[:PORT] is needed")
        if target.host.replace(".", "").isdigit():
            IPv4Address(target.host)  # No 127.1: resolvers would make an address of it.
    except ValueError as error:
        return Failure(FailureKind.INVALID_URL, str(error))
    return target


def _host(url: URL) -> str:
    """The name as the DNS and TLS spell it, or the literal of an address."""
    host = url.host or ""
    return host if ":" in host else url.raw_host or ""
