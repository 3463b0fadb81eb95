"""A minute of chaos: every promise that the service makes, held against what really happened."""

import json
import sys

import pytest

from tests.chaos.run import SETTLE_S, Options, run

SECONDS = 60.0


@pytest.mark.timeout(SECONDS + SETTLE_S + 120)
async def test_nothing_is_lost_or_done_twice_or_by_halves_whatever_is_killed(seed: int) -> None:
    outcome = await run(Options(seconds=SECONDS, seed=seed))
    sys.stdout.write(json.dumps(outcome.report) + "\n")
    assert outcome.violations == [], f"seed {seed}, logs in {outcome.report['directory']}"
    assert outcome.report["accepted"] > 100
    assert outcome.report["ended"]["pairings"]["SUCCEEDED"] > 50
