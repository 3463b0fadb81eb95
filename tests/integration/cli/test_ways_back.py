"""Repairing, unpairing, canceling and trying again, from the command line."""

import asyncio
import json
from typing import Any

import pytest

from simulator import fault
from tests.integration.cli.commands import sitepair
from tests.support.service import ServiceUnderTest, are_paired

TASK_FAILS = fault("task_fails", method="POST", path="/sites", code="PeerBusy", msg="Busy.")
REFUSED = fault("status", method="DELETE", path="/sites/.*", status=403, code="Forbidden")
NOT_NOW = fault("status", method="POST", path="/sites", status=503, times=None)

Remote = dict[str, str]


@pytest.fixture
async def pair(service: ServiceUnderTest) -> tuple[str, str]:
    """Two registered appliances."""
    one, other, _ = await service.register()
    return one, other


async def only(service: ServiceUnderTest) -> Any:
    """The one pairing there is."""
    (pairing,) = (await service.call("GET", "/v1/pairings")).json["items"]
    return pairing


async def until(service: ServiceUnderTest, state: str) -> Any:
    """The one pairing there is, once a side of it is in `state`."""
    while True:
        items = (await service.call("GET", "/v1/pairings")).json["items"]
        if items and any(side["state"] == state for side in items[0]["sides"]):
            return items[0]


async def test_two_are_unpaired_and_to_do_so_again_says_that_there_was_nothing(
    service: ServiceUnderTest, pair: tuple[str, str], remote: Remote
) -> None:
    paired = await sitepair("pair", *pair, **remote)
    unpaired = await sitepair("pair", *pair, "--operation", "unpair", **remote)
    again = await sitepair("pair", *pair, "--operation", "unpair", **remote)

    assert [each.status for each in (paired, unpaired, again)] == [0, 0, 0], (unpaired, again)
    assert "unpair SUCCEEDED" in unpaired.out
    assert "AlreadyUnpaired" not in unpaired.out
    assert again.out.count("warning: AlreadyUnpaired") == 2
    assert not are_paired(service.fleet, *pair)


async def test_a_pairing_is_repaired_after_a_new_certificate(
    service: ServiceUnderTest, pair: tuple[str, str], remote: Remote
) -> None:
    await sitepair("pair", *pair, **remote)
    service.fleet[pair[1]].rotate_certificate()
    await service.register(service.fleet[pair[1]])
    repaired = await sitepair("pair", *pair, "--operation", "repair", **remote)

    assert repaired.status == 0, repaired
    assert are_paired(service.fleet, *pair)


async def test_what_is_to_be_kept_is_and_is_told(
    service: ServiceUnderTest, pair: tuple[str, str], remote: Remote
) -> None:
    service.fleet[pair[1]].add_fault(TASK_FAILS)
    ended = await sitepair("pair", *pair, "--on-failure", "keep", **remote)

    assert ended.status == 1, ended
    assert f"on {pair[0]}: SUCCEEDED, kept" in ended.out
    assert f"on {pair[1]}: FAILED: PeerBusy: Busy." in ended.out


async def test_what_is_left_behind_is_told_and_a_retry_undoes_it_and_then_pairs(
    service: ServiceUnderTest, pair: tuple[str, str], remote: Remote
) -> None:
    service.fleet[pair[1]].add_fault(TASK_FAILS)
    service.fleet[pair[0]].add_fault(REFUSED)
    failed = await sitepair("pair", *pair, **remote)
    pairing_id = (await only(service))["id"]
    undone = await sitepair("retry", pairing_id, **remote)
    paired = await sitepair("retry", pairing_id, **remote)

    assert failed.status == 1
    assert f"on {pair[0]}: ROLLBACK_FAILED: Forbidden" in failed.out
    assert "warning: RollbackFailed" in failed.out
    assert "may look for SITEPAIR_VERIFY_TIMEOUT" in undone.err
    assert "SITEPAIR_VERIFY_TIMEOUT" not in paired.err
    assert f"sitepair retry {pairing_id}" in failed.out
    assert undone.status == 0, undone
    assert f"on {pair[0]}: ROLLED_BACK" in undone.out
    assert "warning" not in undone.out
    assert paired.status == 0, paired
    assert are_paired(service.fleet, *pair)


async def test_a_pairing_is_canceled_while_another_command_watches_it(
    service: ServiceUnderTest, pair: tuple[str, str], remote: Remote
) -> None:
    service.fleet[pair[1]].add_fault(NOT_NOW)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(sitepair("pair", *pair, **remote))
        pairing = await until(service, "SUCCEEDED")
        canceled = await sitepair("cancel", pairing["id"], **remote)

    assert canceled.status == 0, canceled
    assert "Canceled: 'admin' asked for it to be canceled." in canceled.out
    assert watching.result().status == 1
    assert "CANCELED" in watching.result().out
    assert not are_paired(service.fleet, *pair)
    assert (await only(service))["state"] == "CANCELED"


async def test_what_is_over_is_neither_canceled_nor_tried_again(
    service: ServiceUnderTest, pair: tuple[str, str], remote: Remote
) -> None:
    await sitepair("pair", *pair, **remote)
    pairing_id = (await only(service))["id"]
    canceled = await sitepair("cancel", pairing_id, **remote)
    retried = await sitepair("retry", pairing_id, "--json", **remote)

    assert (canceled.status, retried.status) == (2, 2)
    assert "PairingOver" in canceled.err
    assert "NotRetryable" in retried.err


async def test_without_waiting_the_promise_is_told(
    service: ServiceUnderTest, pair: tuple[str, str], remote: Remote
) -> None:
    service.fleet[pair[0]].add_fault(TASK_FAILS)
    await sitepair("pair", *pair, **remote)
    pairing_id = (await only(service))["id"]
    retried = await sitepair("retry", pairing_id, "--no-wait", "--json", **remote)

    assert retried.status == 0
    assert json.loads(retried.out)["id"] == pairing_id
    assert json.loads(retried.out)["endTime"] == -1
    assert (await service.over(json.loads(retried.out)))["state"] == "SUCCEEDED"


async def test_what_is_no_id_is_refused_by_the_command_line(remote: Remote) -> None:
    ended = await sitepair("cancel", "nonsense", **remote)
    assert ended.status not in {0, None}
