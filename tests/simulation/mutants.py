"""Realistic bugs, planted one at a time: does the simulation see them?

``python -m tests.simulation.mutants`` plays seeds against each until a promise is broken, and says
after how many schedules, at which seed, and which promise. Each mutant is a change of the source
text, so it says so when the source has moved on and it fits no more.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass

from tests.simulation.planting import Edit


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug in words and as edits. `seed` is one that catches it, unless schedules have changed."""

    what: str
    edits: tuple[Edit, ...]
    seed: int = 1


_SIDE = "service.engine.side"

MUTANTS = {
    "intent-after-call": Mutant(
        "the intent goes on record after the call, together with its task",
        (
            Edit(
                _SIDE,
                "        await self._record(self._intent(step.call))\n        try:\n"
                "            task = await self._send(step)\n",
                "        try:\n            task = await self._send(step)\n"
                "            await self._record(self._intent(step.call))\n",
            ),
            Edit(
                _SIDE,
                "        except Ambiguous as lost:\n",
                "        except Ambiguous as lost:\n"
                "            await self._record(self._intent(step.call))\n",
            ),
        ),
        seed=803,
    ),
    "epoch-unchecked": Mutant(
        "the journal's statement does not ask for the epoch",
        (
            Edit(
                "tests.simulation.tables",
                "if row is None or row.pairing.epoch != epoch:",
                "if row is None:",
            ),
        ),
        seed=1428,
    ),
    "task-is-proof": Mutant(
        "a task that succeeded is taken for a pairing that works",
        (
            Edit(
                "service.engine.verification",
                "        return Doubt(side.appliance, found)\n",
                "        return PeerVerified(side.appliance, b'{}')\n",
            ),
        ),
        seed=10,
    ),
    "existing-rolled-back": Mutant(
        "what was there before the job is rolled back like what it made",
        (
            Edit(
                "service.domain.transitions",
                "after = replace(after, result=result, error=None, call=None, end_time=at)",
                "after = replace(after, result=result, error=None, end_time=at)\n"
                "            after = replace(after, call=SiteCall.PAIR)",
            ),
            Edit(
                "service.domain.transitions",
                "_UNDOABLE = {S.SUCCEEDED,",
                "_UNDOABLE = {S.ALREADY_PAIRED, S.SUCCEEDED,",
            ),
        ),
        seed=26,
    ),
    "rows-by-position": Mutant(
        "rows of the bulk poll are matched by position",
        (
            Edit(
                "service.appliance.inquiry",
                "        for question in chunk:\n            task = tasks.get(question.task_id)\n",
                "        rows = [*tasks.values(), *[None] * len(chunk)]\n"
                "        for question, task in zip(chunk, rows, strict=False):\n",
            ),
            Edit(
                "service.appliance.inquiry",
                "                tell(task.id, task)\n        return left\n",
                "                tell(question.task_id, task)\n        return left\n",
            ),
        ),
        seed=363,
    ),
    "session-not-renewed": Mutant(
        "an expired session is not renewed",
        (
            Edit(
                "service.appliance.client",
                "        if self._is_worth_a_login(request, outcome):\n",
                "        if self._is_worth_a_login(request, outcome) and self is None:\n",
            ),
        ),
        seed=8,
    ),
    "lost-answer-repeated": Mutant(
        "after a lost answer the call is made again, without settling what it did",
        (
            Edit(
                _SIDE,
                "            return await self._record(AnswerLost(self._name, lost.error))\n",
                "            return await self._defer(lost)\n",
            ),
        ),
        seed=55,
    ),
    "permit-ignored": Mutant(
        "a call is sent whatever is left of the lease",
        (
            Edit(
                "service.engine.lease",
                "        if self.left_s < self._policy.call_s:\n",
                "        if self is None:\n",
            ),
        ),
        seed=554,
    ),
    "half-left-behind": Mutant(
        "one side that failed is enough to have nothing to undo",
        (
            Edit(
                "service.domain.pairing",
                "        is_done = any(side.undo is not None for side in self.sides)\n",
                "        is_done = all(side.undo is not None for side in self.sides)\n",
            ),
            Edit(
                "service.domain.transitions",
                "        _need(side.undo is None or may_stay, event",
                "        _need(True, event",
            ),
        ),
        seed=4,
    ),
    "requested-forgotten": Mutant(
        "a call whose task was never learnt counts as one that did nothing",
        (
            Edit(
                "service.domain.pairing",
                "return _INVERSE.get(self.call)",
                "return _INVERSE.get(self.call) if self.task_id else None",
            ),
        ),
        seed=3,
    ),
    "doubt-not-disowned": Mutant(
        "what a claim brought whose answer was lost is not given up",
        (
            Edit(
                "service.engine.worker",
                "        await self._ports.claims.disown(self._cases.keys())\n",
                "        return\n",
            ),
        ),
        seed=9,
    ),
    "refusal-forgotten": Mutant(
        "a login that was refused is tried again",
        (
            Edit(
                "service.appliance.login",
                "            refusal = await self._refusal()\n"
                "            if refusal is not None:\n",
                "            refusal = await self._refusal()\n            if refusal is self:\n",
            ),
        ),
        seed=192,
    ),
    "one-look-settles": Mutant(
        "one look that misses the peer is enough to call again",
        (
            Edit(
                _SIDE,
                "        if not self._site.is_missed(self._policy.settle_s, "
                "self._policy.verify_timeout_s):\n",
                "        if False:\n",
            ),
        ),
        seed=432,
    ),
    "unpark-forgotten": Mutant(
        "an appliance that answers again is not opened to the others",
        (
            Edit(
                "service.engine.breakers",
                "                await self._health.reopen(name)\n",
                "                pass\n",
            ),
        ),
        seed=16,
    ),
}


@dataclass(frozen=True, slots=True)
class Catch:
    """How a mutant was caught."""

    seed: int
    schedules: int
    broken: str


def caught(name: str, seeds: range, *, jobs: int) -> Catch | None:
    """The first of `seeds` that breaks a promise with the mutant planted; None if none does."""
    command = [sys.executable, "-m", "tests.simulation", "--runs", str(len(seeds))]
    command += ["--seed", str(seeds[0]), "--jobs", str(jobs), "--first"]
    environment = {**os.environ, "SIMULATION_MUTANT": name, "PYTHONHASHSEED": "0"}
    played = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if played.returncode == 0:
        return None
    found = re.search(r"seed (\d+) broke a promise .*\n  (.+)", played.stdout)
    if found is None:
        raise RuntimeError(f"{name}: {played.stdout}{played.stderr}")
    seed = int(found[1])
    return Catch(seed, seed - seeds[0] + 1, found[2])


def main() -> int:
    """Hunt every mutant, or those that are named; returns 1 if one got away."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="which; all if none")
    parser.add_argument("--runs", type=int, default=3_000, help="schedules for each at most")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args()
    escaped = 0
    for name in options.names or MUTANTS:
        began = time.monotonic()
        seeds = range(options.seed, options.seed + options.runs)
        catch = caught(name, seeds, jobs=options.jobs)
        escaped += catch is None
        found = (
            f"caught after {catch.schedules} schedules, by seed {catch.seed}: {catch.broken[:110]}"
            if catch is not None
            else f"got away through {options.runs} schedules"
        )
        sys.stdout.write(f"{name:<22} {found} ({time.monotonic() - began:.0f} s)\n")
        sys.stdout.flush()
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())
