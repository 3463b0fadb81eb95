"""A pairing whose appliance is registered no more comes to its end, and tells nobody anything."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from service.domain.author import Author
from service.domain.ids import ApplianceName, OperationId
from service.domain.pairing import OnFailure, PairingState, SideState
from service.domain.registration import Registration
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, OTHER, POLICY, Scene, a_pairing, scene


def removed(here: Scene, name: str) -> Registration:
    """Take a registration away, by hand."""
    registration = here.tables.registration(ApplianceName(name))
    here.tables.remove(ApplianceName(name))
    return registration


@contextmanager
def nobody_driving(here: Scene) -> Iterator[None]:
    """Its worker has died, and another one begins at the end of the block."""
    (worker,) = here.stage.living
    here.loop.crash(worker.node)
    yield
    here.stage.start_another(worker)


@pytest.mark.parametrize("name", [ONE, OTHER])
def test_a_registration_that_is_gone_ends_the_pairing(name: str) -> None:
    with scene() as here:
        here.until(lambda: bool(here.events))
        removed(here, name)
        pairing = here.until_over()
        assert (pairing.state, pairing.error and pairing.error.code) == (
            PairingState.FAILED,
            "UnknownAppliance",
        )
        assert here.calls(ONE, "POST") == here.calls(OTHER, "POST") == 0


@pytest.mark.parametrize("name", [ONE, OTHER])
def test_also_when_it_is_made_anew_before_the_worker_looks_for_it(name: str) -> None:
    """The pairing was claimed without it: its peer would be told to pair with nowhere."""
    with scene() as here:
        here.until(lambda: bool(here.events))
        registration = removed(here, name)
        here.until(lambda: here.is_claimed)
        here.tables.register(registration)
        pairing = here.until_over()
        assert pairing.state is PairingState.FAILED
        assert pairing.error is not None
        assert pairing.error.code == "UnknownAppliance"
        assert [each for each in (ONE, OTHER) if each in pairing.error.msg] == [name]
        assert here.calls(ONE, "POST") == here.calls(OTHER, "POST") == 0


def test_what_was_done_before_it_was_gone_is_reported_as_left_behind() -> None:
    with scene(a_pairing(), task_ms=[5_000, 5_000]) as here:
        here.until(lambda: here.events.count("TaskAccepted") == 2)
        with nobody_driving(here):
            registration = removed(here, OTHER)
        here.until(lambda: here.events.count("PairingStarted") == 2, 3 * POLICY.lease_s)
        here.tables.register(registration)
        pairing = here.until_over()
        assert pairing.state is PairingState.FAILED
        assert {side.state for side in pairing.sides} == {SideState.ROLLBACK_FAILED}


def test_what_a_lost_call_may_have_done_is_reported_so_too() -> None:
    with scene() as here:
        here.befall(ONE, "POST", "/sites", CallFault.LOST, times=1)
        here.until(lambda: "CallLost" in here.events)
        with nobody_driving(here):
            removed(here, OTHER)
        pairing = here.until_over()
        assert pairing.state is PairingState.FAILED
        assert {side.state for side in pairing.sides} == {SideState.ROLLBACK_FAILED}


def test_who_wanted_it_canceled_is_heard_all_the_same() -> None:
    with scene(task_ms=(60_000, 60_000)) as here:
        here.until(lambda: here.events.count("TaskAccepted") == 2)
        with nobody_driving(here):
            removed(here, OTHER)
            here.tables.cancel(here.pairing.id, Author("caller", OperationId("cancel-1")))
        assert here.until_over(60.0).state is PairingState.CANCELED


def test_what_is_to_be_kept_is_not_reported_as_left_behind() -> None:
    with scene(a_pairing(on_failure=OnFailure.KEEP), task_ms=(60_000, 60_000)) as here:
        here.until(lambda: here.events.count("TaskAccepted") == 2)
        with nobody_driving(here):
            removed(here, OTHER)
        pairing = here.until_over()
        assert pairing.state is PairingState.FAILED
        assert {side.state for side in pairing.sides} == {SideState.FAILED}
        assert "RollbackStarted" not in here.events


def test_what_may_be_older_than_the_pairing_stays_and_is_told() -> None:
    with scene() as here:
        here.befall(ONE, "POST", "/sites", CallFault.ANSWER_LOST)
        here.befall(
            ONE,
            "GET",
            "/sites",
            CallFault.REFUSED,
            when=lambda: here.calls(ONE, "POST") > 0 and "RollbackStarted" not in here.events,
        )
        here.until(lambda: "RollbackStarted" in here.events)
        with nobody_driving(here):
            anew = removed(here, OTHER)
            url = "https://moved.example.test:8048/"
            here.tables.register(replace(anew, spec=replace(anew.spec, api_url=url)))
            (record,) = here.world.appliances[ONE].peers.values()
            record.url = url
        side = here.until_over().sides[0]
        assert side.error is not None
        assert (side.state, side.error.code) == (SideState.ROLLBACK_FAILED, "PeerRegisteredAnew")
        assert here.world.appliances[ONE].peers
