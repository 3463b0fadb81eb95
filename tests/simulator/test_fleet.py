"""The simulator by itself, over TLS, with a client that knows nothing of the service."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from yarl import URL

from simulator import BadKnob, Fleet, FleetOptions, SimulatedAppliance, fault
from simulator.wire import Call

TOKEN = "X-VCAV-Auth"


class Caller:
    """One user of one appliance."""

    def __init__(self, session: aiohttp.ClientSession, appliance: SimulatedAppliance) -> None:
        self.appliance = appliance
        self._session = session
        self._headers = {"operationID": "test"}

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        pin = bytes.fromhex(self.appliance.thumbprint.removeprefix("SHA-256:").replace(":", ""))
        async with self._session.request(
            method,
            self.appliance.management_url + path,
            json=body,
            headers=self._headers,
            ssl=aiohttp.Fingerprint(pin),
        ) as response:
            if TOKEN in response.headers:
                self._headers[TOKEN] = response.headers[TOKEN]
            text = await response.text()
            return response.status, await response.json(content_type=None) if text else None

    @property
    def token(self) -> str:
        """Of its session."""
        return self._headers[TOKEN]

    async def log_in(self, password: str | None = None) -> int:
        credentials = {
            "type": "localUser",
            "localUser": self.appliance.username,
            "localPassword": password or self.appliance.password,
        }
        return (await self.call("POST", "/sessions", credentials))[0]

    async def pair(self, peer: SimulatedAppliance) -> Any:
        body = {"apiUrl": peer.api_url, "apiThumbprint": peer.api_thumbprint, "description": ""}
        status, task = await self.call("POST", "/sites", body)
        assert status == 202
        return task

    async def over(self, task: Any) -> Any:
        while task["endTime"] == -1:
            _, task = await self.call("GET", f"/tasks/{task['id']}")
        return task


@asynccontextmanager
async def two_callers(**knobs: Any) -> AsyncIterator[tuple[Fleet, Caller, Caller]]:
    async with (
        Fleet.start(FleetOptions(count=2, seed=3)) as fleet,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        for appliance in fleet.appliances:
            appliance.turn(**{"task_ms": [5, 10], "queued_ms": 0, **knobs})
        one, other = (Caller(session, appliance) for appliance in fleet.appliances)
        await one.log_in()
        await other.log_in()
        yield fleet, one, other


def comm_errors(peers: Any) -> list[str | None]:
    (peer,) = peers
    state = peer["state"]
    return [error and error["code"] for error in state.values()]


async def test_a_record_works_only_when_both_sides_hold_one() -> None:
    async with two_callers() as (_, one, other):
        task = await one.over(await one.pair(other.appliance))
        assert task["state"] == "SUCCEEDED"
        assert any(comm_errors((await one.call("GET", "/sites"))[1]))
        assert (await other.call("GET", "/sites"))[1] == []
        await other.over(await other.pair(one.appliance))
        assert not any(comm_errors((await one.call("GET", "/sites"))[1]))
        assert not any(comm_errors((await other.call("GET", "/sites"))[1]))


async def test_a_rotated_certificate_breaks_the_record_until_it_is_repaired() -> None:
    async with two_callers() as (_, one, other):
        await one.over(await one.pair(other.appliance))
        await other.over(await other.pair(one.appliance))
        other.appliance.rotate_certificate("api")
        _, peers = await one.call("GET", "/sites")
        assert "CertificateMismatch" in comm_errors(peers)
        body = {
            "apiUrl": other.appliance.api_url,
            "apiThumbprint": other.appliance.api_thumbprint,
            "description": "",
        }
        status, task = await one.call("PUT", f"/sites/{peers[0]['id']}", body)
        assert status == 202
        await one.over(task)
        assert not any(comm_errors((await one.call("GET", "/sites"))[1]))


async def test_unpairing_one_side_leaves_the_other_with_errors() -> None:
    async with two_callers() as (_, one, other):
        await one.over(await one.pair(other.appliance))
        await other.over(await other.pair(one.appliance))
        _, peers = await one.call("GET", "/sites")
        status, task = await one.call("DELETE", f"/sites/{peers[0]['id']}")
        assert status == 202
        await one.over(task)
        assert (await one.call("GET", "/sites"))[1] == []
        assert any(comm_errors((await other.call("GET", "/sites"))[1]))


async def test_the_bulk_poll_has_a_row_for_each_task_that_is_known() -> None:
    async with two_callers() as (_, one, other):
        task = await one.pair(other.appliance)
        unknown = "00000000-0000-4000-8000-000000000000"
        status, table = await one.call("POST", "/tasks/poll", [unknown, task["id"]])
        assert status == 200
        column = table["propertyNames"].index("id")
        assert [row[column] for row in table["values"]] == [task["id"]]
        assert any("." in name for name in table["propertyNames"])


async def test_an_answer_that_was_lost_is_in_the_truth_all_the_same() -> None:
    async with two_callers() as (fleet, one, other):
        one.appliance.add_fault(fault("lost_answer", method="POST", path="/sites"))
        with pytest.raises(aiohttp.ClientError):
            await one.pair(other.appliance)
        (accepted,) = fleet.truth()["accepted"]
        assert (accepted["appliance"], accepted["operationID"]) == (one.appliance.name, "test")


async def test_a_task_that_acts_and_fails_leaves_what_it_did_and_the_truth_knows() -> None:
    async with two_callers() as (fleet, one, other):
        one.appliance.add_fault(fault("task_acts_and_fails", method="POST", code="PeerBusy"))
        task = await one.over(await one.pair(other.appliance))
        assert (task["state"], task["error"]["code"]) == ("FAILED", "PeerBusy")
        assert "result" not in task
        _, (peer,) = await one.call("GET", "/sites")
        assert peer["id"] == other.appliance.site_id
        (accepted,) = fleet.truth()["accepted"]
        assert (accepted["outcome"], accepted["changed"]) == ("FAILED", True)

        one.appliance.add_fault(fault("task_acts_and_fails", method="DELETE", path="/sites/.+"))
        _, task = await one.call("DELETE", f"/sites/{peer['id']}")
        assert (await one.over(task))["state"] == "FAILED"
        assert (await one.call("GET", "/sites"))[1] == []


async def test_a_task_that_lies_did_nothing() -> None:
    async with two_callers() as (fleet, one, other):
        one.appliance.add_fault(fault("task_lies", method="POST", path="/sites"))
        task = await one.over(await one.pair(other.appliance))
        assert task["state"] == "SUCCEEDED"
        assert (await one.call("GET", "/sites"))[1] == []
        (accepted,) = fleet.truth()["accepted"]
        assert (accepted["outcome"], accepted["changed"]) == ("SUCCEEDED", False)


async def test_a_fault_of_records_is_not_used_up_by_a_call_that_makes_none() -> None:
    async with two_callers() as (_, one, other):
        await one.over(await one.pair(other.appliance))
        one.appliance.add_fault(fault("task_mismatch", path="/sites.*"))
        _, task = await one.call("DELETE", f"/sites/{other.appliance.site_id}")
        await one.over(task)
        task = await one.over(await one.pair(other.appliance))
        assert task["result"]["state"]["outgoingCommError"]["code"] == "CertificateMismatch"


async def test_a_call_that_acts_late_meets_what_happened_meanwhile() -> None:
    async with two_callers(task_ms=[50, 50]) as (_, one, other):
        one.appliance.add_fault(fault("slow", method="GET", path="/sites", when="before", ms=200))
        await one.pair(other.appliance)
        assert len((await one.call("GET", "/sites"))[1]) == 1


async def test_an_answer_that_drips_is_counted_as_what_it_is() -> None:
    async with two_callers() as (fleet, one, other):
        one.appliance.add_fault(fault("drip", method="POST", path="/sites", chunk=1_000))
        await one.pair(other.appliance)
        counts = fleet.world.truth.counts(one.appliance.name)
        assert counts.answers["POST /sites", 202] == 1


async def test_who_is_not_trusted_yet_knows_whom_it_reached_all_the_same() -> None:
    """As in the vendor's sample: Forbidden both ways, and a version."""
    async with two_callers() as (_, one, other):
        await one.over(await one.pair(other.appliance))
        _, (peer,) = await one.call("GET", "/sites")
        assert [error["code"] for error in peer["state"].values()] == ["Forbidden"] * 2
        assert peer["apiVersion"] == "4.7"
        assert peer["peerTunnelCert"]
        assert peer["apiUrl"] != peer["apiPublicUrl"]
        other.appliance.rotate_certificate("api")
        _, (peer,) = await one.call("GET", "/sites")
        assert (peer["apiVersion"], peer["peerTunnelCert"]) == (None, None)


@pytest.mark.parametrize(("version", "can"), [("4.5", True), ("4.4", False), ("3.5", False)])
async def test_sites_more_than_two_versions_apart_can_not_be_paired(
    version: str, *, can: bool
) -> None:
    async with two_callers() as (_, one, other):
        other.appliance.turn(api_version=version)
        task = await one.over(await one.pair(other.appliance))
        assert task["state"] == ("SUCCEEDED" if can else "FAILED")
        assert ((await one.call("GET", "/sites"))[1] != []) is can


@pytest.mark.parametrize("knob", ["licensed", "configured"])
@pytest.mark.parametrize(("way", "status"), [("rejected", 500), ("task_fails", 202)])
async def test_an_appliance_has_to_be_licensed_and_configured_before_it_pairs(
    knob: str, way: str, status: int
) -> None:
    async with two_callers(**{knob: False}, unready=way) as (_, one, other):
        body = {
            "apiUrl": other.appliance.api_url,
            "apiThumbprint": other.appliance.api_thumbprint,
        }
        answered, task = await one.call("POST", "/sites", body)
        assert answered == status
        assert status != 202 or (await one.over(task))["state"] == "FAILED"


async def test_a_limit_of_nothing_is_none() -> None:
    none = {"session_idle_ms": 0, "session_max_age_ms": 0, "list_limit_max": 0}
    async with two_callers(**none) as (fleet, one, _):
        assert (await one.call("GET", "/tasks?limit=5000"))[1]["limit"] == 5_000
        call = Call("GET", "/sites", token=one.token)
        much_later = fleet.now() + 10**12
        assert fleet.world.answer(one.appliance.name, call, much_later).status == 200


async def test_an_error_is_vendor_typed_even_where_the_version_is_unknown() -> None:
    async with two_callers() as (fleet, one, _):
        call = Call("GET", "/sites", accept="text/xml")
        answer = fleet.world.answer(one.appliance.name, call, fleet.now())
        assert answer.status == 406
        assert answer.headers["Content-Type"].startswith("application/vnd.vmware.h4-v4.7+json")


async def test_a_new_certificate_restarts_the_services() -> None:
    async with two_callers() as (_, one, _other):
        one.appliance.rotate_certificate()
        assert (await one.call("GET", "/sites"))[0] == 401
        assert await one.log_in() == 200


async def test_nobody_takes_the_port_of_an_appliance_that_is_down() -> None:
    async with Fleet.start(FleetOptions(count=1)) as fleet, aiohttp.ClientSession() as session:
        (appliance,) = fleet.appliances
        port = int(appliance.management_url.rpartition(":")[2])
        await appliance.down("refuse")
        with socket.socket() as thief, pytest.raises(OSError, match="in use"):
            thief.bind(("127.0.0.1", port))
        with socket.socket() as caller, pytest.raises(ConnectionRefusedError):
            caller.connect(("127.0.0.1", port))
        await appliance.up()
        assert await Caller(session, appliance).log_in() == 200


@pytest.mark.parametrize("how", ["down", "the end"])
async def test_who_has_not_shaken_hands_yet_is_cut_off_as_well(how: str) -> None:
    async with Fleet.start(FleetOptions(count=1)) as fleet:
        port = int(fleet.appliances[0].management_url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while not fleet.world.truth.counts("site-1").connections:  # noqa: ASYNC110
            await asyncio.sleep(0)
        if how == "down":
            await fleet.appliances[0].down("refuse")
            async with asyncio.timeout(1):
                assert await reader.read() == b""
    async with asyncio.timeout(1):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("downs", [1, 2])
async def test_an_end_in_the_midst_of_a_down_leaves_nothing_open(downs: int) -> None:
    before = asyncio.all_tasks()
    async with Fleet.start(FleetOptions(count=1)) as fleet:
        listener = fleet.appliances[0]._listener
        going = [asyncio.create_task(listener.down("slam", ms=60_000)) for _ in range(downs)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in going)
        await listener.close()
        await asyncio.gather(*going)
        with socket.socket() as other:
            other.bind(("127.0.0.1", listener.port))
    assert asyncio.all_tasks() == before


async def test_a_down_whose_caller_has_gone_is_one_all_the_same() -> None:
    async with Fleet.start(FleetOptions(count=1)) as fleet, aiohttp.ClientSession() as session:
        (appliance,) = fleet.appliances
        caller = Caller(session, appliance)
        await caller.log_in()
        going = asyncio.create_task(appliance.down("slam"))
        await asyncio.sleep(0)
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        with pytest.raises(aiohttp.ClientError):
            await caller.log_in()
        await appliance.up()
        assert await caller.log_in() == 200


async def test_a_hard_restart_ends_forgotten_tasks_as_well() -> None:
    async with two_callers(task_ms=[60_000] * 2, tasks_survive_restart=False) as (
        fleet,
        one,
        other,
    ):
        await one.pair(other.appliance)
        one.appliance.forget_tasks()
        one.appliance.restart()
        fleet.world.settle(fleet.now() + 60_000)
        assert [each.outcome for each in fleet.world.truth.accepted] == ["ABANDONED"]
        assert not one.appliance.state.peers


async def test_a_fault_given_twice_happens_twice_and_one_that_is_cleared_no_more() -> None:
    async with two_callers() as (_, one, _other):
        rule = fault("slow", path="/sites", ms=50, times=2)
        assert one.appliance.add_fault(rule) != one.appliance.add_fault(rule)
        for _ in range(3):
            assert (await one.call("GET", "/sites"))[0] == 200
        first, second = one.appliance.state.faults.as_json()
        assert (first["fired"], second["fired"]) == (2, 1)
        under_way = asyncio.create_task(one.call("GET", "/sites"))
        while one.appliance.state.faults.fired(second["id"]) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        one.appliance.clear_faults()
        assert (await under_way)[0] == 200
        one.appliance.add_fault(fault("status", path="/sites", status=503))
        assert [(await one.call("GET", "/sites"))[0] for _ in range(2)] == [503, 200]


async def test_refused_logins_are_counted_and_carry_no_marker() -> None:
    async with two_callers() as (fleet, one, _):
        assert await one.log_in("wrong") == 401
        assert fleet.world.truth.counts(one.appliance.name).logins_refused == 1


async def test_an_expired_session_is_told_by_the_marker() -> None:
    async with two_callers() as (_, one, _other):
        one.appliance.expire_sessions()
        assert (await one.call("GET", "/sites"))[0] == 401
        assert await one.log_in() == 200
        assert (await one.call("GET", "/sites"))[0] == 200


async def test_a_knob_that_does_not_exist_is_refused_with_the_nearest_name() -> None:
    async with two_callers() as (_, one, _other):
        with pytest.raises(BadKnob, match="bulk_poll"):
            one.appliance.turn(bulk_pol="404")


async def test_control_tells_the_truth_and_refuses_nonsense() -> None:
    async with two_callers() as (fleet, one, other), aiohttp.ClientSession() as session:
        await one.over(await one.pair(other.appliance))
        async with session.get(f"{fleet.control_url}/truth") as response:
            truth = await response.json()
        assert [each["kind"] for each in truth["accepted"]] == ["pair"]
        url = f"{fleet.control_url}/appliances/{one.appliance.name}/faults"
        async with session.post(url, json={"action": {"kind": "nonsense"}}) as response:
            assert response.status == 400
        for nonsense in ({"task_ms": "x"}, {"self": 1}, {"api_version": "new"}):
            async with session.patch(f"{fleet.control_url}/knobs", json=nonsense) as response:
                assert response.status == 400


@pytest.mark.parametrize(
    ("status", "method", "path", "body"),
    [
        (404, "GET", "/appliances/a%0Ab", None),
        (404, "POST", "/appliances/site-1/a%0Ab", None),
        (404, "DELETE", "/appliances/site-1/faults/a%0Ab", None),
        (404, "GET", "/truth?appliance=a%0Ab", None),
        (400, "GET", "/truth?kind=marriage", None),
        (400, "POST", "/appliances/site-1/clock", {"offsetMs": 10**13}),
        (400, "POST", "/appliances/site-1/down", {"ms": -1}),
        (400, "POST", "/appliances/site-1/down", {"ms": 10**400}),
        (400, "PATCH", "/knobs", {"task_ms": [0, 10**30]}),
        (400, "PATCH", "/knobs", {"keep_alive_ms": 10**400}),
        (400, "POST", "/faults", {"action": "hang", "path": "a{99999999999999999999}"}),
        (400, "POST", "/faults", {"action": "hang", "path": "(" * 9999 + ")" * 9999}),
        (400, "POST", "/faults", {"action": {"kind": "slow", "ms": 10**400}}),
        (400, "POST", "/faults", {"action": {"kind": "status", "status": 0}}),
        (400, "POST", "/faults", {"action": {"kind": "redirect", "location": "a\nb"}}),
    ],
)
async def test_control_says_what_is_wrong(
    status: int, method: str, path: str, body: object
) -> None:
    async with Fleet.start(FleetOptions(count=1)) as fleet, aiohttp.ClientSession() as session:
        url = URL(fleet.control_url + path, encoded=True)
        async with session.request(method, url, json=body) as response:
            assert response.status == status
            assert list(await response.json()) == ["error"]
        assert await Caller(session, fleet.appliances[0]).log_in() == 200


async def test_the_same_seed_makes_the_same_sites() -> None:
    seen = []
    for _ in range(2):
        async with Fleet.start(FleetOptions(count=2, seed=9)) as fleet:
            seen.append([(each.site_id, each.password) for each in fleet.appliances])
    assert seen[0] == seen[1]


async def test_a_fleet_that_hangs_ends_with_its_block() -> None:
    async with two_callers() as (_, one, _other):
        one.appliance.add_fault(fault("hang", method="GET", path="/sites"))
        with pytest.raises(TimeoutError):
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.1)) as session:
                await Caller(session, one.appliance).call("GET", "/sites")


async def test_a_ca_signed_fleet_is_trusted_through_its_root() -> None:
    async with (
        Fleet.start(FleetOptions(count=1, ca_signed=True)) as fleet,
        aiohttp.ClientSession() as session,
    ):
        trust = ssl.create_default_context(cadata=fleet.ca_pem)
        url = fleet.appliances[0].management_url + "/docs/api-guide.html"
        async with session.get(url, ssl=trust) as response:
            assert response.status == 200
