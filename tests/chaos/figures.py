"""What a run is summed up to, in one line of JSON."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence

from tests.chaos.appliances import Appliances, Json
from tests.chaos.ownership import Bereavement
from tests.chaos.truth import Evidence

_LOOK_S = 5.0
_SAYS_NOTHING = frozenset({None, 200, 500})
"""How a `POST /sites` is answered that may have taken effect all the same."""

Asked = tuple[str, str]
"""An appliance, and the operationID under which it was asked."""


class LostAnswers:
    """Remembers whose answers were lost; the simulator keeps only the latest calls."""

    def __init__(self, appliances: Appliances) -> None:
        self.asked: set[Asked] = set()
        self._appliances = appliances

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        """Look once."""
        for call in await self._appliances.log():
            is_post = call["method"] == "POST" and call["path"] == "/sites"
            if is_post and call["status"] in _SAYS_NOTHING:
                self.asked.add((call["appliance"], call["operationID"]))


def duplicates(evidence: Evidence, lost: set[Asked]) -> Json:
    """Calls of `POST /sites` that appliances took beyond the first one of a side, with lost answers
    and without. `needless`: an earlier one of the same job was to take effect. The rest followed
    on a task that failed, or that went with a restart."""
    # Whoever wants a pairing again wants its calls again.
    jobs = {job.name for job in evidence.jobs if not job.was_retried}
    taken: defaultdict[Asked, list[str]] = defaultdict(list)
    for each in sorted(evidence.accepted, key=lambda each: each["seq"]):
        if each["kind"] == "pair" and each["operationID"] in jobs:
            taken[each["appliance"], each["operationID"]].append(each["outcome"])
    return {
        "withLostAnswers": _beyond_first([taken[side] for side in taken if side in lost]),
        "withoutLostAnswers": _beyond_first([taken[side] for side in taken if side not in lost]),
    }


def _beyond_first(sides: Sequence[Sequence[str]]) -> Json:
    """`sides` has the outcomes of each side's calls, in the order in which they were taken."""
    beyond = sum(len(outcomes) - 1 for outcomes in sides)
    needless = sum(
        "SUCCEEDED" in outcomes[:number] for outcomes in sides for number in range(len(outcomes))
    )
    return {
        "sides": len(sides),
        "beyondFirst": beyond,
        "perSide": round(beyond / len(sides), 4) if sides else 0.0,
        "needless": needless,
    }


def states(evidence: Evidence) -> Json:
    """How many pairings ended in which state, and how many sides could not be rolled back."""
    counted = Counter(str(job.final["state"]) for job in evidence.jobs)
    sides = Counter(side["state"] for job in evidence.jobs for side in job.final["sides"])
    return {"pairings": dict(counted), "sides": dict(sides)}


def failures(evidence: Evidence) -> Json:
    """How many pairings failed for which reason."""
    return dict(
        Counter(job.final["error"]["code"] for job in evidence.jobs if job.final.get("error"))
    )


def taken_over(bereavements: Sequence[Bereavement]) -> list[Json]:
    """For each killed worker: how many pairings it left, and how long until the last was owned."""
    return [
        {
            "worker": each.process.name,
            "left": len(each.left),
            "ownedAgainS": None if each.owned_s is None else round(each.owned_s, 2),
            "databaseDownMeanwhile": each.was_database_down,
        }
        for each in bereavements
    ]
