"""How many pairings a worker owns, and how many of them it drives."""

from dataclasses import replace
from itertools import combinations

import pytest

from service.domain.ids import WorkerId
from service.domain.pairing import Claimed, OnFailure, PairingState
from tests.simulation.tables import Written
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, OTHER, POLICY, THIRD, Scene, a_pairing, scene


def owned(here: Scene) -> list[PairingState]:
    """The states of those that somebody owns."""
    rows = here.tables.pairings.values()
    return [row.pairing.state for row in rows if row.worker is not None]


def begun(here: Scene) -> int:
    """How many were begun."""
    return sum(len(row.entries) > 1 for row in here.tables.pairings.values())


def claims(here: Scene, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much each claim from now on asks for."""
    claim, limits = here.tables.claim, list[int]()

    def count(worker: WorkerId, limit: int) -> Claimed:
        limits.append(limit)
        return claim(worker, limit)

    monkeypatch.setattr(here.tables, "claim", count)
    return limits


def test_a_few_more_than_the_window_holds_are_owned_and_wait_for_their_slot() -> None:
    narrow = replace(POLICY, window=1)
    with scene(a_pairing(0, 1), a_pairing(0, 2), a_pairing(1, 2), policy=narrow) as here:
        driven: list[int] = []

        def count(_: Written) -> None:
            driven.append(owned(here).count(PairingState.RUNNING))

        here.on_written = count
        here.until(lambda: len(here.tables.pairings) == 3)
        assert narrow.ahead == 1
        here.until(lambda: len(owned(here)) == 2)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert max(driven) == 1


def test_one_alone_passes_those_of_many_that_are_owned_and_wait_for_a_slot() -> None:
    narrow = replace(POLICY, window=24)
    couples = combinations(range(10), 2)
    many = [replace(a_pairing(*couple), operation_id="op-many") for couple in couples]
    alone = a_pairing(10, 11, at_s=5.0)
    with scene(*many, alone, policy=narrow, appliances=12, task_ms=(20_000, 60_000)) as here:
        here.until(lambda: len(here.tables.pairings) == len(many) + 1)
        assert len(owned(here)) == narrow.window + narrow.ahead
        here.until(lambda: here.is_claimed)
        before = begun(here)
        here.until(lambda: "PairingStarted" in here.events)
        assert begun(here) - before < narrow.lot


def test_who_comes_while_many_are_begun_does_not_wait_until_all_are() -> None:
    policy = replace(POLICY, lot_size=4)
    many = [a_pairing(*couple) for couple in combinations(range(10), 2)]
    with scene(*many, a_pairing(10, 11, at_s=0.1), policy=policy, appliances=12) as here:
        here.until(lambda: len(here.tables.pairings) == len(many) + 1)
        before = len(owned(here))
        assert before < len(many) - policy.lot
        here.until(lambda: here.is_claimed)
        assert len(owned(here)) <= before + 2 * policy.lot


def test_what_was_under_way_is_owned_before_anything_is_driven(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In lots it would be nobody's for as long as others are begun."""
    policy = replace(POLICY, lot_size=4)
    many = [a_pairing(*couple) for couple in combinations(range(10), 2)]
    with scene(*many, policy=policy, appliances=10, task_ms=(60_000, 60_000)) as here:
        here.until(lambda: owned(here) == [PairingState.RUNNING] * len(many))
        limits = claims(here, monkeypatch)
        here.stage.start_another(here.stop())
        here.until(lambda: len(owned(here)) == len(many))
        assert limits == [policy.lot, policy.claim_size]


def test_the_slot_is_the_next_ones_while_an_end_is_written() -> None:
    narrow = replace(POLICY, window=1)
    with scene(a_pairing(0, 1), a_pairing(0, 2), policy=narrow) as here:
        begun: list[int] = []
        durable: list[int] = []

        def note(change: Written) -> None:
            for entry in change.entries:
                if entry.type == "PairingStarted":
                    begun.append(entry.at)
                elif entry.type == "PairingSucceeded":
                    durable.append(here.stage.now_ms)

        here.on_written = note
        here.until(lambda: len(owned(here)) == 2)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert begun[1] < durable[0]


def test_what_another_worker_could_drive_is_left_to_it() -> None:
    narrow = replace(POLICY, window=1)
    wanted = (a_pairing(0, 1, at_s=10.0), a_pairing(0, 2, at_s=10.0))
    with scene(*wanted, policy=narrow, task_ms=(60_000, 60_000)) as here:
        (worker,) = here.stage.living
        here.stage.start_another(worker)
        here.until(lambda: len(here.tables.pairings) == 2)
        here.until(lambda: len(owned(here)) == 2, here.loop.instant + 3)
        here.until(lambda: owned(here) == [PairingState.RUNNING] * 2, here.loop.instant + 3)


def test_who_was_full_claims_again_as_soon_as_there_is_room() -> None:
    narrow = replace(POLICY, window=1, idle_s=600.0)
    with scene(a_pairing(0, 1), a_pairing(0, 2), a_pairing(1, 2), policy=narrow) as here:
        here.until(lambda: len(owned(here)) == 2)
        here.until(lambda: len(here.tables.pairings) == 3)
        assert here.until_over(within_s=60).state is PairingState.SUCCEEDED


def test_who_was_full_claims_by_the_lot_and_who_was_not_leaves_the_database_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    narrow = replace(POLICY, window=24, idle_s=600.0)
    many = [a_pairing(*couple) for couple in combinations(range(10), 2)]
    with scene(*many, policy=narrow, appliances=10) as here:
        here.until(lambda: len(here.tables.pairings) == len(many))
        limits = claims(here, monkeypatch)
        here.until_over()
        assert min(limits) >= narrow.lot
        assert sum(limits[:-1]) <= len(many), "who could have had more asks no more"


def test_who_waits_for_a_slot_as_its_worker_stops_is_free_at_once() -> None:
    narrow = replace(POLICY, window=1)
    with scene(a_pairing(0, 1), a_pairing(0, 2), policy=narrow, task_ms=(9_000, 9_000)) as here:
        here.until(lambda: len(owned(here)) == 2)
        here.until(lambda: PairingState.RUNNING in owned(here))
        (worker,) = here.stage.living
        assert worker.task is not None
        here.loop.post(worker.node, 0.0, worker.task.cancel)
        began = here.loop.instant
        here.until(lambda: not owned(here))
        assert here.loop.instant - began < POLICY.grace_s
        here.stage.start_another(worker)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert "PairingHandedBack" not in here.events


def test_who_waited_for_a_slot_takes_the_list_that_was_read_meanwhile() -> None:
    narrow = replace(POLICY, window=1)
    with scene(a_pairing(0, 1), a_pairing(0, 2), policy=narrow) as here:
        here.until(lambda: len(owned(here)) == 2)
        assert here.until_over().state is PairingState.SUCCEEDED
        # To begin with, and at the end; but the second one found the last look of the first.
        looks = [here.calls(name, "GET", "/sites") for name in (ONE, OTHER, THIRD)]
        assert looks == [3, 2, 2]


def test_no_list_counts_that_was_read_before_it_was_owned() -> None:
    with scene(a_pairing(0, 1), a_pairing(0, 1, at_s=0.9)) as here:
        here.until(lambda: "PairingSucceeded" in here.events)
        for name, peer in ((ONE, OTHER), (OTHER, ONE)):
            here.stage.call_by_hand(name, peer, pairs=False)
        here.until(lambda: len(here.tables.pairings) == 2)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert [here.calls(name, "POST", "/sites") for name in (ONE, OTHER)] == [2, 2]


def test_once_it_has_looked_a_side_looks_for_itself() -> None:
    with scene() as here:
        here.befall(ONE, "POST", "/sites", CallFault.BUSY, times=1)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert [here.calls(name, "GET", "/sites") for name in (ONE, OTHER)] == [3, 2]


def test_who_waited_long_for_a_slot_sees_what_was_changed_by_hand_meanwhile() -> None:
    narrow = replace(POLICY, window=1)
    first = a_pairing(0, 1, at_s=10.0, timeout_s=200, on_failure=OnFailure.KEEP)
    with scene(first, a_pairing(0, 2, at_s=10.0), policy=narrow) as here:
        for name, peer in ((ONE, THIRD), (THIRD, ONE)):
            here.stage.call_by_hand(name, peer, pairs=True)
        here.until(lambda: here.loop.instant > 5)
        here.turn(ONE, task_ms=(500_000, 500_000))
        here.until(lambda: here.calls(ONE, "POST", "/sites") == 1)
        called = here.loop.instant
        here.until(lambda: here.loop.instant > called + 30)
        here.turn(ONE, task_ms=(80, 220))
        for name, peer in ((ONE, THIRD), (THIRD, ONE)):
            here.stage.call_by_hand(name, peer, pairs=False)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.calls(THIRD, "POST", "/sites") == 1
