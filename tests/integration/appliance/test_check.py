"""The preflight check: what is wrong with an appliance, step by step."""

import asyncio
import ssl
from dataclasses import replace

import msgspec
import pytest

from service.appliance.check import CheckReport, check
from service.appliance.egress import EgressPolicy
from service.appliance.limits import CallTimeouts
from service.domain.registration import LocalUser, LoginEnd, LoginOutcome
from service.domain.thumbprint import thumbprint_of
from simulator import Fleet, FleetOptions, Rule, SimulatedAppliance, fault
from tests.integration.appliance.raw_server import LOGIN, Arrival, raw_server, response
from tests.integration.appliance.rigs import LOOPBACK, QUICK, registered, spec_of, until

ALL = ["address", "reachable", "certificate", "login", "version", "configured", "clock", "peers"]


def verdicts(report: CheckReport) -> dict[str, bool | None]:
    """Each check's own result."""
    assert [each.name for each in report.checks] == ALL
    assert all(each.detail for each in report.checks)
    return {each.name: each.ok for each in report.checks}


def until_failed(name: str) -> dict[str, bool | None]:
    """What is expected when this check fails and those after it build upon it."""
    at = ALL.index(name)
    return {each: True if n < at else False if n == at else None for n, each in enumerate(ALL)}


def found(report: CheckReport, name: str) -> dict[str, object]:
    """What a check found, for programs."""
    return next(dict(each.data) for each in report.checks if each.name == name)


async def checked(
    appliance: SimulatedAppliance, egress: EgressPolicy = LOOPBACK, **changes: object
) -> CheckReport:
    """The report on a simulated appliance whose registration has `changes`."""
    return await check(registered(spec_of(appliance, **changes)), egress, QUICK)


async def test_an_appliance_in_order_passes_every_check() -> None:
    async with Fleet.start(FleetOptions(count=1)) as fleet:
        here = fleet.appliances[0]
        report = await checked(here)
        assert report.ok
        assert set(verdicts(report).values()) == {True}
        assert found(report, "certificate")["thumbprint"] == here.thumbprint
        assert found(report, "version")["buildVersion"] == "4.7.4.25076082-8554b3d026"
        assert found(report, "clock")["source"] == "health"
        assert found(report, "peers") == {"peers": []}
        counts = fleet.world.truth.counts(here.name)
        assert counts.answers["DELETE /sessions", 204] == 1
        assert not fleet.world.truth.accepted
        await until(lambda: here.connections == 0)


async def test_a_forbidden_address_is_not_touched() -> None:
    async with Fleet.start(FleetOptions(count=1)) as fleet:
        report = await checked(fleet.appliances[0], EgressPolicy())
        assert verdicts(report) == until_failed("address")
        assert fleet.world.truth.counts("site-1").connections == 0


async def test_a_name_that_does_not_resolve_is_told() -> None:
    async with Fleet.start(FleetOptions(count=1)) as fleet:
        report = await checked(fleet.appliances[0], management_url="https://nowhere.invalid/")
        assert verdicts(report) == until_failed("address")


async def test_an_appliance_that_is_down_is_told() -> None:
    async with Fleet.start(FleetOptions(count=1)) as fleet:
        await fleet.appliances[0].down("refuse")
        report = await checked(fleet.appliances[0])
        assert verdicts(report) == until_failed("reachable")
        assert not report.ok


async def test_another_certificate_is_told_with_its_thumbprint() -> None:
    pinned = thumbprint_of(b"another")
    async with Fleet.start(FleetOptions(count=1)) as fleet:
        here = fleet.appliances[0]
        report = await checked(here, thumbprint=pinned)
        assert verdicts(report) == until_failed("certificate")
        data = found(report, "certificate")
        assert (data["thumbprint"], data["expected"]) == (here.thumbprint, pinned)
        assert isinstance(data["notAfter"], int)
        assert not fleet.world.truth.counts(here.name).requests


async def test_a_certificate_that_no_ca_vouches_for_is_told_with_its_thumbprint() -> None:
    async with Fleet.start(FleetOptions(count=1)) as fleet:
        here = fleet.appliances[0]
        report = await checked(here, thumbprint=None)
        assert verdicts(report) == until_failed("certificate")
        assert found(report, "certificate")["thumbprint"] == here.thumbprint


async def test_a_certificate_that_a_ca_vouches_for_passes() -> None:
    async with Fleet.start(FleetOptions(count=1, ca_signed=True)) as fleet:
        spec = spec_of(fleet.appliances[0], thumbprint=None)
        ca = ssl.create_default_context(cadata=fleet.ca_pem)
        report = await check(registered(spec), LOOPBACK, QUICK, ca=ca)
        assert set(verdicts(report).values()) == {True}


async def test_wrong_credentials_are_told_and_tried_once() -> None:
    async with Fleet.start(FleetOptions(count=1)) as fleet:
        report = await checked(fleet.appliances[0], credentials=LocalUser("root", "wrong"))
        assert verdicts(report) == until_failed("login")
        assert found(report, "login")["code"] == "NotAuthenticated"
        assert fleet.world.truth.counts("site-1").logins_refused == 1
        assert all("wrong" not in str(each.data) for each in report.checks)


@pytest.mark.parametrize("offset_ms", [-3_600_000, 3_600_000])
async def test_a_clock_that_is_wrong_is_told(offset_ms: int) -> None:
    async with Fleet.start(FleetOptions(count=1)) as fleet:
        fleet.appliances[0].skew_clock(offset_ms)
        report = await checked(fleet.appliances[0])
        assert verdicts(report) == {**dict.fromkeys(ALL, True), "clock": False}
        skew = found(report, "clock")["skewMs"]
        assert isinstance(skew, int)
        assert abs(skew - offset_ms) < 5_000


async def test_without_a_health_report_the_date_header_tells_the_time() -> None:
    async with Fleet.start(FleetOptions(count=1)) as fleet:
        fleet.appliances[0].add_fault(
            fault("status", path="/diagnostics/health", status=404, code="NotFound", times=None)
        )
        report = await checked(fleet.appliances[0])
        assert verdicts(report)["clock"] is True
        assert found(report, "clock")["source"] == "date"


@pytest.mark.parametrize("status", [404, 405])
async def test_an_older_appliance_is_asked_for_its_health_by_get(status: int) -> None:
    async with Fleet.start(FleetOptions(count=1)) as fleet:
        fleet.appliances[0].turn(health_method="GET")
        fleet.appliances[0].add_fault(
            fault("status", method="POST", path="/diagnostics/health", status=status)
        )
        report = await checked(fleet.appliances[0])
        assert found(report, "clock")["source"] == "health"


async def test_an_appliance_that_is_not_configured_yet_is_told() -> None:
    async with Fleet.start(FleetOptions(count=1)) as fleet:
        fleet.appliances[0].turn(configured=False)
        results = verdicts(await checked(fleet.appliances[0]))
        assert results == {**dict.fromkeys(ALL, True), "configured": False}


async def test_an_appliance_that_tells_nothing_about_itself_may_be_paired_still() -> None:
    async with Fleet.start(FleetOptions(count=1)) as fleet:
        here = fleet.appliances[0]
        for path in ("/diagnostics/about", "/config/is-configured"):
            here.add_fault(fault("status", path=path, status=404, code="NotFound", times=None))
        report = await checked(here)
        results = verdicts(report)
        assert results["configured"] is None
        assert results["peers"] is True
        assert (found(report, "configured"), found(report, "login")) == ({}, {})


@pytest.mark.parametrize(
    "rule",
    [
        fault("garbage", times=None),
        fault("garbage", body="list", times=None, path="/(config|diagnostics|sites).*"),
        fault("status", status=500, times=None),
        fault("reset", times=None),
        fault("redirect", times=None),
        fault("huge", mb=9, times=None),
        fault("status", status=403, code="Forbidden", times=None, path="/(config|diag|sites).*"),
    ],
    ids=lambda rule: rule.action.kind,
)
async def test_whatever_an_appliance_does_becomes_a_report(rule: Rule) -> None:
    async with Fleet.start(FleetOptions(count=1)) as fleet:
        fleet.appliances[0].add_fault(rule)
        report = await checked(fleet.appliances[0])
        assert not report.ok
        verdicts(report)


@pytest.mark.parametrize(
    "said",
    [
        b'{"buildVersion": "1", "productName": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"buildVersion": "' + b"1" * 100_000 + b'"}',
        b'{"currentTime": ' + b"9" * 400 + b"}",
        b'{"currentTime": -' + b"9" * 30 + b"}",
    ],
    ids=["deep", "long", "far", "long ago"],
)
async def test_whatever_an_appliance_says_of_itself_becomes_a_short_report(said: bytes) -> None:
    async def script(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
        is_asked_what_it_is = arrival.path.startswith("/diagnostics/")
        writer.write(response(said) if is_asked_what_it_is else LOGIN)

    async with raw_server(script) as server:
        report = await check(registered(server.spec()), LOOPBACK, QUICK)
        assert len(msgspec.json.encode(report)) < 10_000
        assert verdicts(report)["clock"] is None


async def test_what_it_is_paired_with_is_told_but_not_itself() -> None:
    listed = [
        {
            "id": "p-1",
            "site": "two",
            "apiUrl": "https://two.example.test:8048/",
            "state": {"incomingCommError": {"code": "C", "msg": "m", "stacktrace": "at x"}},
        },
        {"id": "p-0", "site": "raw", "isLocal": True},
    ]

    async def script(arrival: Arrival, writer: asyncio.StreamWriter) -> None:
        writer.write(response(msgspec.json.encode(listed) if arrival.path == "/sites" else b"{}"))

    async with raw_server(script) as server:
        report = await check(registered(server.spec()), LOOPBACK, QUICK)
    assert found(report, "peers") == {
        "peers": [
            {
                "id": "p-1",
                "site": "two",
                "apiUrl": "https://two.example.test:8048/",
                "apiPublicUrl": None,
                "apiThumbprint": None,
                "incomingCommError": {"code": "C", "msg": "m", "args": []},
                "outgoingCommError": None,
            }
        ]
    }


async def test_what_was_not_reached_in_time_is_told_so() -> None:
    async with Fleet.start(FleetOptions(count=1)) as fleet:
        here = fleet.appliances[0]
        here.add_fault(fault("hang", path="/config/is-configured", times=None))
        slow = replace(QUICK, answer_s=5.0, total_s=5.0)
        report = await check(registered(spec_of(here)), LOOPBACK, slow, timeout_s=0.5)
        results = verdicts(report)
        assert results["version"] is True
        assert [results[name] for name in ("configured", "clock", "peers")] == [None] * 3


async def test_a_port_without_tls_is_told() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        await writer.drain()
        writer.close()

    async with Fleet.start(FleetOptions(count=1)) as fleet:
        listener = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            spec = spec_of(fleet.appliances[0], management_url=f"https://127.0.0.1:{port}")
            timeouts = CallTimeouts(connect_s=1.0, total_s=2.0)
            report = await check(registered(spec), LOOPBACK, timeouts)
            assert verdicts(report) == until_failed("certificate")


@pytest.mark.parametrize(
    ("password", "expected"), [(None, LoginEnd.ACCEPTED), ("wrong", 401)], ids=["right", "wrong"]
)
async def test_whoever_asks_hears_what_became_of_the_login(
    password: str | None, expected: LoginEnd | int
) -> None:
    heard: list[LoginOutcome] = []

    async def hear(outcome: LoginOutcome) -> None:
        heard.append(outcome)

    async with Fleet.start(FleetOptions(count=1)) as fleet:
        here = fleet.appliances[0]
        spec = spec_of(here)
        if password is not None:
            spec = replace(spec, credentials=LocalUser("root", password))
        report = await check(registered(spec), LOOPBACK, QUICK, on_login=hear)
        assert report.ok is (password is None)
    assert [getattr(each, "status", each) for each in heard] == [expected]
