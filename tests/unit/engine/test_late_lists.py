"""A list of peers may be behind what was done, and the tasks may not tell: that is waited for."""

from dataclasses import replace

import pytest

from service.domain.pairing import Operation, Pairing, PairingState, SideState
from simulator import errors, fault
from tests.simulation.schedule import Wanted
from tests.simulation.weather import CallFault
from tests.unit.engine.scene import ONE, OTHER, POLICY, THIRD, Scene, a_pairing, scene

PATIENT = replace(POLICY, verify_timeout_s=60.0)
LAG_MS = 20_000
PAIR = a_pairing()
UNPAIR = a_pairing(at_s=100.0, operation=Operation.UNPAIR)
LATEST_S = POLICY.verify_timeout_s - POLICY.settle_s
HASTY = replace(PATIENT, rollback_s=10)
TWICE = a_pairing(retries=1)
UNPAIR_TWICE = a_pairing(at_s=100.0, operation=Operation.UNPAIR, retries=1)


def hide_tasks(here: Scene, appliance: str) -> None:
    """Let nobody be told about tasks there, in whatever way."""
    for method, path in (("POST", "/tasks/poll"), ("GET", "/tasks.*")):
        here.befall(appliance, method, path, CallFault.REFUSED)


def first_side(pairing: Pairing) -> SideState:
    """Where the side on ONE stands."""
    return next(side.state for side in pairing.sides if side.appliance == ONE)


def test_what_succeeded_is_undone_though_the_list_shows_it_late() -> None:
    with scene(policy=PATIENT) as here:
        here.turn(ONE, list_lag_ms=LAG_MS)
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        pairing = here.until_over()
        assert pairing.state is PairingState.FAILED
        # The list is late twice: with the record, and with its end.
        assert first_side(pairing) is SideState.ROLLED_BACK
        assert here.calls(ONE, "DELETE") == 1
        assert not here.world.appliances[ONE].peers


def test_a_list_that_is_slow_in_coming_is_as_old_as_it_was_when_it_was_asked_for() -> None:
    with scene() as here:
        here.turn(ONE, list_lag_ms=int(POLICY.verify_timeout_s * 1000) - 100)
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        here.until(lambda: "RollbackStarted" in here.events)
        here.loop.run_until(lambda: False, here.loop.instant + LATEST_S)
        here.befall(ONE, "GET", "/sites", CallFault.SLOW, times=1)
        assert first_side(here.until_over()) is SideState.ROLLED_BACK
        assert here.calls(ONE, "DELETE") == 1
        assert not here.world.appliances[ONE].peers


def test_what_a_failed_task_did_all_the_same_is_undone_though_the_list_shows_it_late() -> None:
    with scene() as here:
        here.turn(ONE, list_lag_ms=int(POLICY.settle_s * 1000) - 500)
        here.spoil(ONE, fault("task_acts_and_fails", method="POST", path="/sites"))
        pairing = here.until_over()
        assert pairing.state is PairingState.FAILED
        assert first_side(pairing) is SideState.ROLLED_BACK
        assert here.calls(ONE, "DELETE") == 1
        assert not here.world.appliances[ONE].peers


def test_a_later_way_back_waits_for_a_late_list_too() -> None:
    with scene(a_pairing(retries=1), policy=PATIENT) as here:
        here.turn(ONE, list_lag_ms=LAG_MS)
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        # The first one meets an appliance that shows its list to nobody.
        here.befall(
            ONE,
            "GET",
            "/sites",
            CallFault.REFUSED,
            when=lambda: "RollbackStarted" in here.events and "RollbackFailed" not in here.events,
        )
        here.until(lambda: "RollbackFailed" in here.events)
        here.turn(ONE, list_lag_ms=10_000_000)
        here.until(lambda: "PairingRetried" in here.events)
        here.until(lambda: here.events[-1] == "PairingStarted", here.loop.instant + 5)
        here.turn(ONE, list_lag_ms=LAG_MS)
        assert first_side(here.until_over()) is SideState.ROLLED_BACK
        assert not here.world.appliances[ONE].peers


def with_an_undoing_given_up(here: Scene, wanted: tuple[Wanted, ...], task_ms: int) -> str:
    """A way back whose time is over though its call on ONE was made, and taken, just before; this
    is the method of that call. The task takes so long."""
    here.until(lambda: len(here.tables.pairings) == len(wanted))
    method, back = ("POST", "DELETE") if len(wanted) == 1 else ("DELETE", "POST")
    here.spoil(OTHER, fault("task_fails", method=method, path="/sites.*"))
    here.until(lambda: "RollbackStarted" in here.events)
    here.turn(ONE, task_ms=(task_ms, task_ms))
    here.until(lambda: "RollbackFailed" in here.events)
    return back


@pytest.mark.parametrize("wanted", [(TWICE,), (PAIR, UNPAIR_TWICE)], ids=["pair", "unpair"])
@pytest.mark.parametrize("is_lost", [False, True], ids=["accepted", "lost"])
def test_what_it_asked_for_is_not_asked_for_again_by_a_later_way_back_while_nobody_tells_of_it(
    wanted: tuple[Wanted, ...], *, is_lost: bool
) -> None:
    with scene(*wanted, policy=HASTY) as here:
        if is_lost:
            here.befall(
                ONE,
                "DELETE" if len(wanted) == 1 else "POST",
                "/sites.*",
                CallFault.ANSWER_LOST,
                times=1,
                when=lambda: "RollbackRequested" in here.events,
            )
        back = with_an_undoing_given_up(here, wanted, task_ms=40_000)
        hide_tasks(here, ONE)
        pairing = here.until_over()
        assert pairing.state is PairingState.FAILED
        assert first_side(pairing) is SideState.ROLLED_BACK
        # One POST was for the pairing that is unpaired.
        assert here.calls(ONE, back) == len(wanted)
        assert bool(here.world.appliances[ONE].peers) is (back == "POST")


@pytest.mark.parametrize("wanted", [(TWICE,), (PAIR, UNPAIR_TWICE)], ids=["pair", "unpair"])
def test_a_later_way_back_removes_what_is_listed_though_a_task_never_ends_and_brings_back_nothing(
    wanted: tuple[Wanted, ...],
) -> None:
    with scene(*wanted, policy=HASTY) as here:
        back = with_an_undoing_given_up(here, wanted, task_ms=10_000_000)
        here.turn(ONE, task_ms=(80, 220))
        side = first_side(here.until_over())
        assert here.calls(ONE, back) == 2
        assert side is (SideState.ROLLED_BACK if back == "DELETE" else SideState.ROLLBACK_FAILED)


def test_nor_does_it_leave_what_is_listed_for_want_of_time() -> None:
    with scene(TWICE, policy=replace(HASTY, verify_timeout_s=600.0)) as here:
        here.befall(ONE, "DELETE", "/sites/.*", CallFault.LOST, times=1)
        with_an_undoing_given_up(here, (TWICE,), task_ms=200)
        hide_tasks(here, ONE)
        assert first_side(here.until_over()) is SideState.ROLLED_BACK
        assert not here.world.appliances[ONE].peers


def test_what_was_unpaired_is_paired_again_though_the_list_shows_it_late() -> None:
    with scene(PAIR, UNPAIR, policy=PATIENT) as here:
        here.until(lambda: len(here.tables.pairings) == 2)
        here.turn(ONE, list_lag_ms=LAG_MS)
        here.spoil(OTHER, fault("task_fails", method="DELETE", path="/sites/.*"))
        pairing = here.until_over()
        assert pairing.state is PairingState.FAILED
        assert first_side(pairing) is SideState.ROLLED_BACK
        assert here.calls(ONE, "POST") == 2
        assert here.world.appliances[ONE].peers
        assert here.world.appliances[OTHER].peers


@pytest.mark.parametrize("wanted", [(PAIR,), (PAIR, UNPAIR)], ids=["pair", "unpair"])
def test_an_accepted_call_whose_task_nobody_tells_of_is_not_repeated(
    wanted: tuple[Wanted, ...],
) -> None:
    with scene(*wanted, policy=PATIENT) as here:
        here.until(lambda: len(here.tables.pairings) == len(wanted))
        hide_tasks(here, ONE)
        here.turn(ONE, task_ms=(14_000, 14_000))
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.calls(ONE, "POST") + here.calls(ONE, "DELETE") == len(wanted)


def test_nor_one_whose_answer_was_lost() -> None:
    with scene(policy=PATIENT) as here:
        hide_tasks(here, ONE)
        here.turn(ONE, task_ms=(14_000, 14_000))
        here.befall(ONE, "POST", "/sites", CallFault.ANSWER_LOST, times=1)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.calls(ONE, "POST") == 1


def test_nor_one_whose_task_is_told_to_have_succeeded() -> None:
    with scene(policy=PATIENT) as here:
        here.turn(ONE, list_lag_ms=LAG_MS)
        here.befall(ONE, "POST", "/sites", CallFault.ANSWER_LOST, times=1)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.calls(ONE, "POST") == 1


def test_nothing_of_it_turns_up_after_the_way_back() -> None:
    with scene(policy=PATIENT) as here:
        hide_tasks(here, ONE)
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        here.turn(ONE, task_ms=(14_000, 14_000))
        assert here.until_over().state is PairingState.FAILED
        here.loop.run_until(lambda: False, here.loop.instant + 60)
        assert not here.world.appliances[ONE].peers
        assert not here.world.appliances[OTHER].peers


def test_a_task_of_somebody_else_that_never_ends_holds_up_no_way_back() -> None:
    with scene(a_pairing(at_s=10.0), policy=PATIENT) as here:
        here.turn(ONE, task_ms=(10_000_000, 10_000_000))
        here.stage.call_by_hand(ONE, THIRD, pairs=True)
        here.turn(ONE, task_ms=(80, 220))
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        assert first_side(here.until_over(60.0)) is SideState.ROLLED_BACK
        assert not here.world.appliances[ONE].peers


@pytest.mark.parametrize("wanted", [(PAIR,), (PAIR, UNPAIR)], ids=["pair", "unpair"])
def test_where_an_answer_was_lost_it_holds_up_only_what_is_to_be_brought_back(
    wanted: tuple[Wanted, ...],
) -> None:
    with scene(*wanted, policy=PATIENT) as here:
        is_pairing = len(wanted) == 1
        if not is_pairing:
            here.stage.call_by_hand(ONE, THIRD, pairs=True)
        here.until(lambda: len(here.tables.pairings) == len(wanted))
        method, path = ("POST", "/sites") if is_pairing else ("DELETE", "/sites/.*")
        here.befall(ONE, method, path, CallFault.ANSWER_LOST, times=1)
        here.spoil(OTHER, fault("task_fails", method=method, path=path))
        here.turn(ONE, task_ms=(10_000_000, 10_000_000))
        here.stage.call_by_hand(ONE, THIRD, pairs=is_pairing)
        here.turn(ONE, task_ms=(80, 220))
        side = first_side(here.until_over())
        assert side is (SideState.ROLLED_BACK if is_pairing else SideState.ROLLBACK_FAILED)
        assert here.world.appliances[OTHER].site_id not in here.world.appliances[ONE].peers


@pytest.mark.parametrize("wanted", [(PAIR,), (PAIR, UNPAIR)], ids=["pair", "unpair"])
@pytest.mark.parametrize(
    "knobs",
    [{"task_result": "omitted"}, {"task_retention_ms": 300}, {"task_retention_ms": 1}],
    ids=["no result", "soon forgotten", "forgotten at once"],
)
def test_nor_one_whose_task_tells_little_or_is_forgotten(
    knobs: dict[str, object], wanted: tuple[Wanted, ...]
) -> None:
    with scene(*wanted, policy=PATIENT) as here:
        here.until(lambda: len(here.tables.pairings) == len(wanted))
        here.turn(ONE, list_lag_ms=LAG_MS, task_ms=(1_000, 1_000), **knobs)
        method, path = ("POST", "/sites") if len(wanted) == 1 else ("DELETE", "/sites/.*")
        here.befall(ONE, method, path, CallFault.ANSWER_LOST, times=1)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.calls(ONE, "POST") + here.calls(ONE, "DELETE") == len(wanted)


@pytest.mark.parametrize("knobs", [{"task_result": "omitted"}, {"task_retention_ms": 300}])
def test_no_half_is_left_where_the_answer_was_lost_and_the_list_is_late(
    knobs: dict[str, object],
) -> None:
    with scene(policy=PATIENT) as here:
        here.turn(ONE, list_lag_ms=LAG_MS, task_ms=(1_000, 1_000), **knobs)
        here.befall(ONE, "POST", "/sites", CallFault.ANSWER_LOST, times=1)
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        assert here.until_over().state is PairingState.FAILED
        here.loop.run_until(lambda: False, here.loop.instant + 60)
        assert not here.world.appliances[ONE].peers
        assert here.calls(ONE, "POST") == 1


def test_a_way_back_whose_answer_was_lost_is_not_repeated_while_the_list_may_be_late() -> None:
    with scene(policy=PATIENT) as here:
        here.turn(ONE, list_lag_ms=LAG_MS)
        here.befall(ONE, "DELETE", "/sites/.*", CallFault.ANSWER_LOST, times=1)
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        pairing = here.until_over()
        assert pairing.state is PairingState.FAILED
        assert first_side(pairing) is SideState.ROLLED_BACK
        assert here.calls(ONE, "DELETE") == 1


def vanish(here: Scene) -> None:
    """Somebody removes OTHER on ONE by hand, which the list shows late."""
    appliance = here.world.appliances[ONE]
    here.turn(ONE, list_lag_ms=LAG_MS)
    appliance.listed(here.stage.now_ms)
    appliance.peers.pop(here.world.appliances[OTHER].site_id)


@pytest.mark.parametrize("trouble_s", [None, 0.0, 6.0])
@pytest.mark.parametrize("refused", ["rejected", "task_fails"])
def test_who_was_removed_by_hand_counts_as_unpaired_once_the_list_agrees(
    refused: str, trouble_s: float | None
) -> None:
    with scene(PAIR, UNPAIR, policy=PATIENT, unknown_peer_id=refused) as here:
        here.until(lambda: here.loop.instant > 95.0)
        vanish(here)
        here.until(lambda: here.calls(ONE, "DELETE") == 1)
        if trouble_s is not None:
            here.loop.run_until(lambda: False, here.loop.instant + trouble_s)
            here.befall(ONE, "GET", "/sites", CallFault.BUSY, times=1)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.events.count("TaskAccepted") == (1 if refused == "rejected" else 2)
        assert here.calls(ONE, "DELETE") == 1
        assert not here.world.appliances[ONE].peers
        assert not here.world.appliances[OTHER].peers


def test_a_list_that_nobody_is_shown_is_not_waited_for() -> None:
    with scene(PAIR, UNPAIR, policy=PATIENT, unknown_peer_id="rejected") as here:
        here.until(lambda: here.loop.instant > 95.0)
        vanish(here)
        here.until(lambda: here.calls(ONE, "DELETE") == 1)
        here.befall(ONE, "GET", "/sites", CallFault.REFUSED)
        here.until(lambda: "SideFailed" in here.events, within_s=10.0)


def test_nor_is_it_before_anything_was_called() -> None:
    with scene() as here:
        here.befall(ONE, "GET", "/sites", CallFault.REFUSED)
        side = here.until_over(10.0).failed_side
        assert side is not None
        assert side.error is not None
        assert side.error.code == "Forbidden"
        assert here.calls(ONE, "POST") == 0


def test_a_way_back_whose_record_was_removed_by_hand_is_done_once_the_list_agrees() -> None:
    with scene(policy=PATIENT, unknown_peer_id="rejected") as here:
        here.spoil(OTHER, fault("task_fails", method="POST", path="/sites"))
        here.turn(OTHER, task_ms=(5_000, 5_000))
        here.until(lambda: bool(here.world.appliances[ONE].peers))
        vanish(here)
        assert first_side(here.until_over()) is SideState.ROLLED_BACK
        assert here.calls(ONE, "DELETE") == 1


def test_those_who_wait_for_the_list_to_agree_hold_up_nobody_who_wants_to_stop() -> None:
    with scene(PAIR, UNPAIR, policy=PATIENT, unknown_peer_id="rejected") as here:
        here.until(lambda: here.loop.instant > 95.0)
        vanish(here)
        here.until(lambda: here.calls(ONE, "DELETE") == 1)
        here.loop.run_until(lambda: False, here.loop.instant + 3.0)
        began = here.loop.instant
        worker = here.stop()
        assert here.loop.instant - began < 1.0
        here.stage.start_another(worker)
        assert here.until_over().state is PairingState.SUCCEEDED


def test_once_the_time_is_over_nobody_waits_for_the_list_of_who_does_not_answer() -> None:
    hasty = a_pairing(at_s=100.0, operation=Operation.UNPAIR, timeout_s=20)
    with scene(PAIR, hasty, policy=PATIENT, unknown_peer_id="rejected") as here:
        here.until(lambda: here.loop.instant > 95.0)
        vanish(here)
        here.turn(ONE, list_lag_ms=10_000_000)
        here.until(lambda: here.calls(ONE, "DELETE") == 1)
        for method in ("GET", "POST"):
            here.befall(ONE, method, ".*", CallFault.UNREACHABLE)
        here.until(lambda: "SideFailed" in here.events)
        assert here.loop.instant == pytest.approx(120.0, abs=POLICY.settle_s)


def test_a_record_that_is_repaired_is_not_taken_for_what_its_task_is_about_to_make_of_it() -> None:
    repair = a_pairing(at_s=100.0, operation=Operation.REPAIR)
    with scene(PAIR, repair, policy=PATIENT) as here:
        here.until(lambda: here.loop.instant > 90.0)
        (record,) = here.world.appliances[ONE].peers.values()
        record.forced = errors.unreachable(record.url)
        here.turn(ONE, task_ms=(150_000, 150_000))
        here.befall(ONE, "PUT", "/sites/.*", CallFault.ANSWER_LOST, times=1)
        here.until(lambda: len(here.tables.pairings) == 2)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.calls(ONE, "PUT") == 1


def test_what_is_listed_does_not_wait_long_for_a_task_that_never_ends() -> None:
    """It may be anybody's."""
    with scene(a_pairing(at_s=10.0), policy=PATIENT) as here:
        here.turn(ONE, task_ms=(10_000_000, 10_000_000))
        here.stage.call_by_hand(ONE, THIRD, pairs=True)
        here.turn(ONE, task_ms=(80, 220))
        here.befall(ONE, "POST", "/sites", CallFault.ANSWER_LOST, times=1)
        began = here.loop.instant
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.loop.instant - began < 10.0 + 2 * PATIENT.verify_timeout_s
        assert here.calls(ONE, "POST") == 1


def test_what_ran_on_for_long_may_be_listed_late_all_the_same() -> None:
    """The list gets its time from the end of the task on, not from the first look."""
    hasty = replace(PATIENT, verify_timeout_s=15.0, rollback_s=100)
    # The other one has the list read, so that it is old just then.
    with scene(a_pairing(timeout_s=5), a_pairing(0, 2, at_s=79.5), policy=hasty) as here:
        here.turn(ONE, task_ms=(80_000, 80_000), list_lag_ms=6_000)
        here.until(lambda: here.events.count("TaskAccepted") == 2)
        here.turn(ONE, task_ms=(80, 220))
        assert here.until_over().state is PairingState.SUCCEEDED
        first, _ = [row.pairing for row in here.tables.pairings.values()]
        assert first.state is PairingState.FAILED
        assert first_side(first) is SideState.ROLLED_BACK
        here.loop.run_until(lambda: False, here.loop.instant + 60)
        assert len(here.world.appliances[ONE].peers) == 1


def test_where_no_task_is_ever_shown_after_its_end_none_is_no_proof() -> None:
    with scene(policy=PATIENT) as here:
        here.turn(ONE, task_ms=(1, 1), queued_ms=0, task_retention_ms=1, list_lag_ms=LAG_MS)
        here.befall(ONE, "POST", "/sites", CallFault.ANSWER_LOST, times=1)
        assert here.until_over().state is PairingState.SUCCEEDED
        assert here.calls(ONE, "POST") == 1


@pytest.mark.parametrize("stopped", [False, True])
def test_that_a_task_of_somebody_else_is_still_shown_is_no_proof_that_ours_would_be(
    stopped: bool,
) -> None:
    """It may have ended a moment ago, and ours be forgotten."""
    with scene(a_pairing(), a_pairing(0, 2, at_s=9.0), policy=PATIENT) as here:
        here.turn(ONE, list_lag_ms=45_000, task_ms=(1_000, 1_000), task_retention_ms=10_000)
        here.befall(ONE, "POST", "/sites", CallFault.ANSWER_HANGS, times=1)
        if stopped:
            here.until(lambda: here.loop.instant > 17.0)
            here.stage.start_another(here.stop())
        here.until_over()
        states = [row.pairing.state for row in here.tables.pairings.values()]
        assert states == [PairingState.SUCCEEDED] * 2
        assert here.calls(ONE, "POST") == 2
