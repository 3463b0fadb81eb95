"""What several rounds say together, and whether it is enough."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Literal

Judged = Literal["ratio", "difference", "ours"]
Grade = Literal["aim", "must", "neither"]


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked of a figure. Without `must` and `aim` it is only shown."""

    must: float | None = None
    aim: float | None = None
    higher_is_better: bool = False

    def grade(self, value: float) -> Grade | None:
        """How far `value` gets; None if nothing is asked."""
        for limit, grade in self._limits():
            if value >= limit if self.higher_is_better else value <= limit:
                return grade
        return None if self.must is None and self.aim is None else "neither"

    def worst(self, values: Sequence[float]) -> float:
        """The value that is furthest from what is asked."""
        return min(values) if self.higher_is_better else max(values)

    def _limits(self) -> list[tuple[float, Grade]]:
        limits: list[tuple[float | None, Grade]] = [(self.aim, "aim"), (self.must, "must")]
        return [(limit, grade) for limit, grade in limits if limit is not None]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure over all rounds.

    `ours` and `other` are medians; `against` names the other, and is empty where there is none.
    `median` and `worst` are of what is judged: the ratio or the difference of ours to the other,
    taken round by round because the machine's speed drifts, or our own value.
    """

    figure: str
    against: str
    ours: float
    other: float | None
    judged: Judged
    median: float
    worst: float
    target: Target

    @property
    def grade(self) -> Grade | None:
        """By the median."""
        return self.target.grade(self.median)

    def as_json(self) -> dict[str, object]:
        """For `--json`."""
        raw = asdict(self)
        return {**raw, "target": asdict(self.target), "grade": self.grade}


def ratio(figure: str, against: str, rounds: Sequence[tuple[float, float]], target: Target) -> Row:
    """A row that is judged by ours / other; `rounds` holds both of each round."""
    ours, others = zip(*rounds, strict=True)
    ratios = [mine / theirs for mine, theirs in rounds]
    return Row(
        figure,
        against,
        median(ours),
        median(others),
        "ratio",
        median(ratios),
        target.worst(ratios),
        target,
    )


def difference(
    figure: str, against: str, rounds: Sequence[tuple[float, float]], target: Target
) -> Row:
    """A row that is judged by ours - other; `rounds` holds both of each round."""
    ours, others = zip(*rounds, strict=True)
    gaps = [mine - theirs for mine, theirs in rounds]
    return Row(
        figure,
        against,
        median(ours),
        median(others),
        "difference",
        median(gaps),
        target.worst(gaps),
        target,
    )


def alone(figure: str, values: Sequence[float], target: Target) -> Row:
    """A row that is judged by our own value of each round."""
    middle = median(values)
    return Row(figure, "", middle, None, "ours", middle, target.worst(values), target)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all values do not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))]
