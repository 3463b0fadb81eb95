"""What is looked at in a preflight check, in this order, each building upon those before."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from cryptography import x509

from service.appliance.classify import answered_at_ms, good
from service.appliance.client import ApplianceClient
from service.appliance.conditions import Conditions
from service.appliance.egress import EgressForbidden, addresses_of
from service.appliance.exchange import Request
from service.appliance.tls import leaf_certificate, system_ca, unverified
from service.appliance.wire import Unreadable, read_object, task_of
from service.domain.appliance import Json, Peer
from service.domain.errors import ApplianceError, LoginRefused, Rejected
from service.domain.registration import ApplianceSpec
from service.domain.thumbprint import thumbprint_of

MAX_SKEW_MS = 60_000
HEALTH_TIMEOUT_S = 10.0
_MOST_SAID = 200
_NEVER_MS = 2**53
"""No time is as far away; what is can be neither counted with nor written."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look found. `ok` is None when it could not be judged."""

    ok: bool | None
    detail: str
    data: Json = field(default_factory=dict)


def passed(detail: str, data: Json | None = None) -> Finding:
    """All is well."""
    return Finding(ok=True, detail=detail, data=data or {})


def failed(detail: str, data: Json | None = None) -> Finding:
    """The appliance cannot be paired like this."""
    return Finding(ok=False, detail=detail, data=data or {})


def unknown(detail: str, data: Json | None = None) -> Finding:
    """The appliance does not tell."""
    return Finding(ok=None, detail=detail, data=data or {})


@dataclass(frozen=True, slots=True)
class Step:
    """A look to take, which may raise ApplianceError. `is_vital`: those after it build on it."""

    name: str
    look: Callable[[], Awaitable[Finding]]
    is_vital: bool = False


class Examination:
    """The checks of one appliance, and what they learn for one another."""

    def __init__(
        self, spec: ApplianceSpec, conditions: Conditions, client: ApplianceClient
    ) -> None:
        parts = urlsplit(spec.management_url)
        self._host = parts.hostname or ""
        self._port = parts.port or 443
        self._expected = spec.thumbprint
        self._conditions = conditions
        self._client = client
        self._clock = conditions.clock
        self._address = ""
        self._addresses: tuple[str, ...] = ()
        self._presented: bytes | Exception = b""

    def steps(self) -> tuple[Step, ...]:
        """All checks, each building upon the vital ones before it."""
        return (
            Step("address", self.address, is_vital=True),
            Step("reachable", self.reachable, is_vital=True),
            Step("certificate", self.certificate, is_vital=True),
            Step("login", self.login, is_vital=True),
            Step("version", self.version),
            Step("configured", self.configured),
            Step("clock", self.clock_skew),
            Step("peers", self.peers),
        )

    async def address(self) -> Finding:
        """Whether the host leads anywhere, and whether we may go there."""
        try:
            self._addresses = await addresses_of(self._host, self._conditions.egress)
        except EgressForbidden as refusal:
            return failed(str(refusal), {"code": "EgressForbidden"})
        except (OSError, UnicodeError) as error:
            return failed(f"'{self._host}' does not resolve: {error}")
        detail = f"'{self._host}' leads to {', '.join(self._addresses)}."
        return passed(detail, {"addresses": list(self._addresses)})

    async def reachable(self) -> Finding:
        """Whether any of its addresses lets itself be connected to."""
        causes = []
        for address in self._addresses:
            try:
                async with self._in_time():
                    reader_and_writer = await asyncio.open_connection(address, self._port)
            except OSError as error:
                causes.append(f"{address}: {_words(error)}")
            else:
                self._address = address
                await self._shake_hands(reader_and_writer[1])
                data = {"address": address, "port": self._port}
                return passed(f"{address} port {self._port} answers.", data)
        return failed(f"No connection: {'; '.join(causes)}.")

    async def certificate(self) -> Finding:
        """Whether the certificate is the pinned one, or one that a CA vouches for."""
        if isinstance(self._presented, Exception):
            return failed(f"The TLS handshake failed: {_words(self._presented)}")
        data = _described(self._presented)
        if self._expected is None:
            return await self._ask_the_cas(data)
        data["expected"] = self._expected
        if data["thumbprint"] == self._expected:
            return passed("It is the pinned one.", data)
        detail = (
            f"It presents {data['thumbprint']}, but {self._expected} is registered. If the "
            "presented one is right, register the appliance anew with it."
        )
        return failed(detail, data)

    async def login(self) -> Finding:
        """Whether the credentials are accepted."""
        try:
            await self._client.log_in()
        except LoginRefused as refusal:
            detail = (
                f"{refusal.error.msg} Either the credentials are wrong, or the appliance admits no "
                "administrators from this network: it answers the same to both."
            )
            data = {"code": refusal.error.code, "status": refusal.status}
            return failed(detail, data)
        return passed("The credentials are accepted.")

    async def version(self) -> Finding:
        """Which build it runs."""
        about = await self._client.about()
        data = {
            key: said[:_MOST_SAID]
            for key in ("serviceType", "productName", "buildVersion")
            if isinstance(said := about.get(key), str)
        }
        build = data.get("buildVersion")
        if build is None:
            return unknown("It does not tell its version.", data)
        return passed(f"It runs {build}.", data)

    async def configured(self) -> Finding:
        """Whether it has been set up."""
        try:
            answer = await self._client.get_object("/config/is-configured")
        except Rejected as refusal:
            detail = f"It does not tell whether it is configured: {refusal.error.msg}"
            return unknown(detail)
        is_configured = answer.get("isConfigured")
        if not isinstance(is_configured, bool):
            return unknown("It does not tell whether it is configured.")
        detail = "It is configured." if is_configured else "It has not been configured yet."
        return Finding(is_configured, detail)

    async def clock_skew(self) -> Finding:
        """How far its clock is from ours: by its health report, else by HTTP's `Date`."""
        began = self._clock()
        source, earliest, theirs = "health", began, await self._health_time()
        if theirs is None:
            source, began = "date", self._clock()
            earliest, theirs = began - 1000, await self._date_header()  # Whole seconds only.
        if theirs is None:
            return unknown("It does not tell the time.")
        # They looked at their clock somewhere between our question and now.
        skew = max(0, theirs - self._clock()) - max(0, earliest - theirs)
        data = {"skewMs": skew, "source": source}
        detail = f"Its clock is {skew / 1000:+.1f} s from ours, by {source}."
        return Finding(abs(skew) <= MAX_SKEW_MS, detail, data)

    async def peers(self) -> Finding:
        """What it is paired with now."""
        peers = [_shown(peer) for peer in await self._client.peers() if not peer.is_local]
        return passed(f"Peers listed: {len(peers)}.", {"peers": peers})

    def _in_time(self) -> asyncio.Timeout:
        return asyncio.timeout(self._conditions.timeouts.connect_s)

    async def _shake_hands(self, writer: asyncio.StreamWriter) -> None:
        """See which certificate is presented. Nothing is sent over this connection."""
        try:
            async with self._in_time():
                await writer.start_tls(unverified(), server_hostname=self._host)
            self._presented = leaf_certificate(writer.get_extra_info("ssl_object"))
        except OSError as error:
            self._presented = error
        finally:
            writer.transport.abort()

    async def _ask_the_cas(self, data: Json) -> Finding:
        context = self._conditions.ca or system_ca()
        try:
            async with self._in_time():
                _, writer = await asyncio.open_connection(
                    self._address, self._port, ssl=context, server_hostname=self._host
                )
        except ssl.SSLCertVerificationError as error:
            return failed(f"Not trusted: {error.verify_message}", data)
        except OSError as error:
            return failed(f"The TLS handshake failed: {_words(error)}", data)
        writer.transport.abort()
        return passed("The system's CAs vouch for it.", data)

    async def _date_header(self) -> int | None:
        answer = await self._client.ask(Request("GET", "/diagnostics/about"))
        return answered_at_ms(answer.headers)

    async def _health_time(self) -> int | None:
        """`currentTime` of the health report, None if it cannot be had (h4-api 8)."""
        try:
            async with asyncio.timeout(HEALTH_TIMEOUT_S):
                answer = await self._client.ask(Request("POST", "/diagnostics/health"))
                if answer.status in {404, 405}:  # As in 4.5 and 4.6.
                    answer = await self._client.ask(Request("GET", "/diagnostics/health"))
                report = read_object(good(answer, mutating=False).body)
                while (task := task_of(report)) is not None and not task.is_over:
                    await asyncio.sleep(0.25)
                    report = await self._client.get_object(f"/tasks/{quote(task.id, safe='')}")
        except (ApplianceError, Unreadable, TimeoutError):
            return None
        return _current_time(report)


def _words(error: Exception) -> str:
    return str(error) or "no answer in time"


def _current_time(report: Json) -> int | None:
    """It is in the task's result; the documentation nests a whole task there (h4-api 8)."""
    inner: object = report
    while isinstance(inner, dict):
        moment = inner.get("currentTime")
        if isinstance(moment, int) and abs(moment) < _NEVER_MS:
            return moment
        inner = inner.get("result")
    return None


def _described(der: bytes) -> dict[str, object]:
    data: dict[str, object] = {"thumbprint": thumbprint_of(der)}
    try:
        expiry = x509.load_der_x509_certificate(der).not_valid_after_utc
    except ValueError:
        return data
    return {**data, "notAfter": int(expiry.timestamp() * 1000)}


def _shown(peer: Peer) -> dict[str, object]:
    return {
        "id": peer.id,
        "site": peer.site,
        "apiUrl": peer.api_url,
        "apiPublicUrl": peer.api_public_url,
        "apiThumbprint": peer.api_thumbprint,
        "incomingCommError": peer.incoming_error and peer.incoming_error.shown,
        "outgoingCommError": peer.outgoing_error and peer.outgoing_error.shown,
    }
