"""A defect of the service in one pairing: neither the others nor the worker suffer from it."""

import itertools
from typing import Any

import pytest

from service.appliance.client import ApplianceClient
from service.domain.advance import Change
from service.domain.appliance import ApiError, Peer, Task
from service.domain.decisions import doubt
from service.domain.errors import UnknownAppliance
from service.domain.events import (
    PairingEvent,
    PairingHandedBack,
    PairingStarted,
    PairingSucceeded,
    SideEvent,
)
from service.domain.ids import ApplianceName, TaskId
from service.domain.pairing import PairingState
from service.engine import verification
from service.engine import worker as engine
from service.engine.case import Case
from service.engine.defects import DEFECT
from service.engine.policy import Policy
from service.engine.ports import Fleet
from service.engine.saga import drive
from service.engine.surrender import surrender
from service.observe.events import LogEvent, PairingCrashed, StoreTroubled, UpkeepCrashed
from service.observe.logging import listening
from service.store.journal import Journal
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, OTHER, POLICY, THIRD, a_pairing, scene


class Defect(Exception):
    """What nobody expects."""


def test_one_that_can_neither_be_driven_nor_ended_is_tried_again_at_its_leisure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries: list[float] = []

    def is_cursed(case: Case) -> bool:
        return ApplianceName(THIRD) in {side.appliance for side in case.pairing.sides}

    async def crash_or_drive(case: Case, fleet: Fleet, policy: Policy, worker: str) -> None:
        if is_cursed(case):
            tries.append(here.loop.instant)
            raise Defect
        await drive(case, fleet, policy, worker)

    async def crash_or_surrender(case: Case, error: ApiError, policy: Policy) -> None:
        if is_cursed(case):
            raise Defect
        await surrender(case, error, policy)

    async def crash_or_record(
        case: Case, *events: PairingEvent | SideEvent, release: bool = False
    ) -> None:
        if is_cursed(case):
            raise Defect
        await record(case, *events, release=release)

    record = Case.record
    monkeypatch.setattr(Case, "record", crash_or_record)
    monkeypatch.setattr(engine, "drive", crash_or_drive)
    monkeypatch.setattr(engine, "surrender", crash_or_surrender)
    with scene(a_pairing(0, 2), a_pairing(0, 1, at_s=30.0)) as here:
        here.until(lambda: here.loop.instant > 60.0)
        assert here.pairing.state is PairingState.SUCCEEDED
        (worker,) = here.stage.living
        assert worker.is_up
        assert len(worker.workers) == 1
        pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
        assert min(pauses) >= POLICY.idle_s
        assert 60.0 / POLICY.idle_s / 2 < len(tries)
        # Told to stop, it stops as one that has no defect.
        here.stop()
        monkeypatch.undo()
        here.stage.start_another(worker)
        assert here.until_over().state is PairingState.SUCCEEDED


@pytest.mark.parametrize(("times", "state"), [(1, "ROLLED_BACK"), (1_000, "ROLLBACK_FAILED")])
def test_what_was_done_on_one_side_is_undone_though_the_other_one_meets_a_defect(
    monkeypatch: pytest.MonkeyPatch, times: int, state: str
) -> None:
    met = itertools.count(1)

    async def crash_or_finish(client: ApplianceClient, task: TaskId, until: float) -> Task:
        if client.name == OTHER and next(met) <= times:
            raise Defect
        return await finished(client, task, until)

    finished = ApplianceClient.finished
    monkeypatch.setattr(ApplianceClient, "finished", crash_or_finish)
    told: list[LogEvent] = []
    with scene() as here, listening(told.append):
        pairing = here.until_over()
        assert (pairing.state, pairing.error) == (PairingState.FAILED, DEFECT)
        assert [side.state for side in pairing.sides] == ["ROLLED_BACK", state]
        assert not here.world.appliances[ONE].peers
        assert bool(here.world.appliances[OTHER].peers) == (state == "ROLLBACK_FAILED")
    assert PairingCrashed() in told


@pytest.mark.parametrize(("times", "state"), [(1, "SUCCEEDED"), (1_000, "FAILED")])
def test_whoever_meets_a_defect_as_he_looks_whether_it_works_looks_again(
    monkeypatch: pytest.MonkeyPatch, times: int, state: str
) -> None:
    met = itertools.count(1)

    def crash_or_doubt(*what: Any) -> ApiError | Peer:
        if next(met) <= times:
            raise Defect
        return doubt(*what)

    monkeypatch.setattr(verification, "doubt", crash_or_doubt)
    with scene() as here:
        assert here.until_over().state == state
        is_paired = [bool(here.world.appliances[name].peers) for name in (ONE, OTHER)]
        assert is_paired == [state == "SUCCEEDED"] * 2


@pytest.mark.parametrize("times", [1, 2])
def test_a_defect_as_it_is_written_is_the_end_of_that_pairing_which_says_what_it_left(
    monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    failed: list[Change] = []

    async def crash_or_append(
        journal: Journal, change: Change, *, is_pressing: bool = False
    ) -> None:
        is_it = "TaskAccepted" in [entry.type for entry in change.entries]
        if is_it and len(failed) < times:
            failed.append(change)
            raise Defect
        await append(journal, change, is_pressing=is_pressing)

    append = Journal.append
    monkeypatch.setattr(Journal, "append", crash_or_append)
    with scene() as here:
        pairing = here.until_over()
        assert len(failed) == times
        assert (pairing.state, pairing.error) == (PairingState.FAILED, DEFECT)
        assert here.events.count("PairingStarted") == 1
        assert {side.state for side in pairing.sides} <= {"ROLLED_BACK", "ROLLBACK_FAILED"}


def test_of_what_is_noted_together_all_holds_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def note_nonsense(case: Case, fleet: Fleet, policy: Policy, worker: str) -> None:
        case.note(PairingStarted(worker, case.pairing.epoch))
        case.note(PairingHandedBack(worker), PairingSucceeded())

    monkeypatch.setattr(engine, "drive", note_nonsense)
    with scene() as here:
        assert here.until_over().error == DEFECT
        (row,) = here.tables.pairings.values()
        told = [(entry.seq, entry.type) for entry in row.entries]
        assert told == [(1, "PairingAccepted"), (2, "PairingStarted"), (3, "PairingFailed")]


def told_of_two_probes(first: Exception, monkeypatch: pytest.MonkeyPatch) -> list[LogEvent]:
    """What a worker tells that goes on after its first probe raised this; the next is answered."""
    probes: list[float] = []
    told: list[LogEvent] = []

    async def fail_at_first(client: ApplianceClient) -> ApiError | None:
        probes.append(here.loop.instant)
        if len(probes) == 1:
            raise first
        return await probe(client)

    probe = ApplianceClient.probe
    monkeypatch.setattr(ApplianceClient, "probe", fail_at_first)
    with scene() as here, listening(told.append):
        here.befall(OTHER, "GET", ".*", CallFault.UNREACHABLE, when=lambda: not probes)
        here.befall(OTHER, "POST", ".*", CallFault.UNREACHABLE, when=lambda: not probes)
        assert here.until_over().state is PairingState.SUCCEEDED
        (worker,) = here.stage.living
        assert len(worker.workers) == 1
    assert len(probes) == 2
    return [event for event in told if isinstance(event, StoreTroubled | UpkeepCrashed)]


def test_a_probe_that_meets_a_defect_is_tried_again_and_the_worker_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = told_of_two_probes(Defect(), monkeypatch)
    assert told == [UpkeepCrashed(f"probing '{OTHER}'")]


def test_an_appliance_that_is_gone_as_it_is_probed_is_no_trouble_of_the_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert told_of_two_probes(UnknownAppliance(ApplianceName(OTHER)), monkeypatch) == []
