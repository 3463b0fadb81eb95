"""The service on virtual time, thousands of schedules: every promise holds in all of them.

Each runs in processes of its own, for it takes over what the service logs. ``SIMULATION_RUNS`` and
``SIMULATION_SEED`` choose other schedules than CI's.
"""

import os
import re
import subprocess
import sys
import warnings

import pytest

from tests.simulation.kept import KEPT
from tests.simulation.mutants import MUTANTS, caught

RUNS = int(os.environ.get("SIMULATION_RUNS", "1200"))
FIRST = int(os.environ.get("SIMULATION_SEED", "1"))
MANY = 1000
"""Among so many schedules each kind of fault happens."""
JOBS = os.cpu_count() or 1
NEARBY = 400
"""How many schedules a mutant may take if its known seed does not catch it any more."""


def simulation(*arguments: str, mutant: str = "", hash_seed: str = "0") -> tuple[int, str]:
    """How `python -m tests.simulation` ended, and what it said."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "SIMULATION_MUTANT": mutant}
    played = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return played.returncode, played.stdout


@pytest.mark.timeout(900)
def test_every_promise_holds_in_every_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = simulation("--runs", str(RUNS), "--seed", str(FIRST))
    with capsys.disabled():
        sys.stdout.write(f"\n{said}")
    assert code == 0, said
    assert "faults that never happened: none" in said or RUNS < MANY


@pytest.mark.parametrize("seed", KEPT)
def test_a_seed_that_failed_once_fails_no_more(seed: int) -> None:
    code, said = simulation("--runs", "1", "--seed", str(seed))
    assert code == 0, f"{KEPT[seed]}: {said}"


@pytest.mark.parametrize("seed", [7, 33])
def test_a_seed_replays_to_the_same_step(seed: int) -> None:
    arguments = ("--trace", "--seed", str(seed))
    traces = {simulation(*arguments, hash_seed=each)[1] for each in ("0", "1", "random")}
    assert len(traces) == 1
    assert len(traces.pop().splitlines()) > 20


def test_a_failing_seed_says_which_promise_it_broke_and_how_to_see_it_again() -> None:
    code, said = simulation("--runs", "40", "--seed", "1", "--first", mutant="task-is-proof")
    assert code == 1
    found = re.search(r"seed (\d+) broke a promise \((.+)\):\n  (.+)", said)
    assert found is not None, said
    seed, again, promise = found.groups()
    assert again == f"python -m tests.simulation --trace --seed {seed}"
    traced, trace = simulation("--trace", "--seed", seed, mutant="task-is-proof")
    assert traced == 1
    assert promise in trace
    assert "PairingSucceeded" in trace


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_caught(name: str) -> None:
    known = MUTANTS[name].seed
    if caught(name, range(known, known + 1), jobs=1) is None:
        warnings.warn(
            f"seed {known} does not catch {name} any more, which takes long: see `make mutants`",
            stacklevel=1,
        )
        assert caught(name, range(1, NEARBY + 1), jobs=JOBS) is not None
