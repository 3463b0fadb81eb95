"""Whom a client talks to: certificates and networks."""

import asyncio
import ssl
from dataclasses import replace

import pytest

from service.appliance.egress import EgressPolicy, parse_networks
from service.appliance.exchange import granted
from service.appliance.tls import Trust, system_ca, trust_of
from service.domain.appliance import Endpoint
from service.domain.errors import NotSent, Rejected
from service.domain.ids import ApplianceName
from service.domain.thumbprint import parse_thumbprint, thumbprint_of
from simulator import Fleet, FleetOptions
from tests.integration.appliance.raw_server import Arrival, raw_server, response
from tests.integration.appliance.rigs import LOOPBACK, client_of, rig, spec_of


async def test_another_certificate_than_the_pinned_one_gets_no_request() -> None:
    pinned = thumbprint_of(b"another certificate")
    async with rig(thumbprint=pinned) as here:
        with pytest.raises(Rejected) as caught:
            await here.client.pair(here.there, "", granted)
        error = caught.value.error
        assert error.code == "ManagementThumbprintMismatch"
        assert error.args == (pinned, here.here.thumbprint)
        assert not here.counts.requests


async def test_a_certificate_that_is_rotated_meanwhile_is_noticed() -> None:
    async with rig() as here:
        await here.client.about()
        here.here.rotate_certificate("management")
        here.here.cut_connections()
        with pytest.raises(Rejected) as caught:
            await here.client.about()
        assert caught.value.error.code == "ManagementThumbprintMismatch"


async def test_without_a_pin_the_ca_vouches() -> None:
    async with rig(ca_signed=True, thumbprint=None) as here:
        await here.client.about()
        assert here.counts.handshakes == 1


async def test_without_a_pin_a_stranger_gets_no_request() -> None:
    async with rig(thumbprint=None) as here:
        with pytest.raises(Rejected) as caught:
            await here.client.about()
        assert caught.value.error.code == "CertificateNotTrusted"
        assert not here.counts.requests


@pytest.mark.parametrize(("host", "is_trusted"), [("127.0.0.1", True), ("localhost", False)])
async def test_a_certificate_for_another_host_is_not_trusted(host: str, is_trusted: bool) -> None:
    async def answer(_: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(response())

    async with raw_server(answer) as server:
        ca = ssl.create_default_context(cadata=server.pem)
        url = f"https://{host}:{server.port}"
        spec = replace(server.spec(), management_url=url, thumbprint=None)
        async with client_of(spec, ca=ca) as client:
            if is_trusted:
                await client.about()
                return
            with pytest.raises(Rejected) as caught:
                await client.about()
            assert caught.value.error.code == "CertificateNotTrusted"
            assert not server.arrivals


def test_a_context_that_lets_everybody_pass_is_refused() -> None:
    lax = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    lax.check_hostname = False
    with pytest.raises(ValueError, match="verify"):
        trust_of(None, lax)
    lax.verify_mode = ssl.CERT_NONE
    with pytest.raises(ValueError, match="verify"):
        trust_of(None, lax)


def test_without_a_pin_the_systems_cas_are_asked() -> None:
    ca = system_ca()
    assert trust_of(None, ca) == Trust(ca)
    assert ca.verify_mode is ssl.CERT_REQUIRED
    assert ca.check_hostname


@pytest.mark.parametrize(
    ("egress", "host"),
    [
        (EgressPolicy(), "127.0.0.1"),
        (EgressPolicy(), "localhost"),
        (EgressPolicy(parse_networks("0.0.0.0/0")), "127.0.0.1"),
        (EgressPolicy(parse_networks("0.0.0.0/0 ::/0")), "localhost"),
        (EgressPolicy(parse_networks("127.0.0.0/8"), parse_networks("127.0.0.1")), "localhost"),
        (EgressPolicy(), "[::ffff:127.0.0.1]"),
    ],
)
async def test_a_forbidden_address_gets_no_connection(egress: EgressPolicy, host: str) -> None:
    async with Fleet.start(FleetOptions(count=1)) as simulated:
        here = simulated.appliances[0]
        spec = spec_of(here)
        url = spec.management_url.replace("127.0.0.1", host)
        async with client_of(replace(spec, management_url=url), egress) as client:
            with pytest.raises(Rejected) as caught:
                await client.about()
        assert caught.value.error.code == "EgressForbidden"
        assert simulated.world.truth.counts(here.name).connections == 0


async def test_a_name_that_leads_to_a_permitted_address_is_called() -> None:
    async with Fleet.start(FleetOptions(count=1)) as simulated:
        spec = spec_of(simulated.appliances[0])
        url = spec.management_url.replace("127.0.0.1", "localhost")
        async with client_of(replace(spec, management_url=url)) as client:
            await client.about()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080", "https://", "https://127.1:443", "ftp://x"]
)
async def test_a_url_that_is_none_for_us_is_rejected(url: str) -> None:
    async with Fleet.start(FleetOptions(count=1)) as simulated:
        spec = replace(spec_of(simulated.appliances[0]), management_url=url)
        async with client_of(spec, LOOPBACK) as client:
            with pytest.raises(Rejected) as caught:
                await client.about()
            assert caught.value.error.code == "InvalidManagementUrl"


async def test_a_name_that_does_not_resolve_is_an_appliance_that_is_down() -> None:
    async with Fleet.start(FleetOptions(count=1)) as simulated:
        spec = replace(spec_of(simulated.appliances[0]), management_url="https://nowhere.invalid")
        async with client_of(spec) as client:
            with pytest.raises(NotSent) as caught:
                await client.pair(_anybody(), "", granted)
            assert caught.value.error.code == "ApplianceUnreachable"


async def test_a_port_that_speaks_no_tls_is_not_sent_anything() -> None:
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1000))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with Fleet.start(FleetOptions(count=1)) as simulated:
        listener = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            url = f"https://127.0.0.1:{port}"
            spec = replace(spec_of(simulated.appliances[0]), management_url=url)
            async with client_of(spec) as client:
                with pytest.raises(NotSent) as caught:
                    await client.about()
    assert caught.value.error.code == "TlsFailed"
    assert not any(b"/sessions" in each for each in heard)


def _anybody() -> Endpoint:
    return Endpoint(
        ApplianceName("b"), "https://b.test:8048", parse_thumbprint("SHA-256" + ":00" * 32)
    )
