"""What a round measured, and what several rounds say together."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one contender. Seconds, but for what is named otherwise."""

    pairings: int
    wall_s: float
    cpu_s: float
    calls: int
    latencies_s: Sequence[float]

    @property
    def figures(self) -> dict[str, float]:
        """The figures that are compared."""
        ranked = sorted(self.latencies_s)
        return {
            "pairings/s": self.pairings / self.wall_s,
            "CPU ms per pairing": 1000 * self.cpu_s / self.pairings,
            "calls per pairing": self.calls / self.pairings,
            "latency median ms": 1000 * median(ranked),
            "latency p99 ms": 1000 * ranked[min(len(ranked) - 1, int(len(ranked) * 0.99))],
        }


@dataclass(frozen=True, slots=True)
class Row:
    """One figure over all rounds: medians, and the ratio of ours to bare with its worst round."""

    figure: str
    bare: float
    ours: float
    ratio: float
    worst_ratio: float

    def as_json(self) -> dict[str, object]:
        """For `--json`."""
        return asdict(self)


def compared(bare: Sequence[Round], ours: Sequence[Round]) -> list[Row]:
    """Figure by figure; the ratio is taken round by round, because the machine's speed drifts."""
    rows = []
    for figure in bare[0].figures:
        pairs = [
            (one.figures[figure], other.figures[figure])
            for one, other in zip(bare, ours, strict=True)
        ]
        ratios = [mine / theirs for theirs, mine in pairs]
        worst: Callable[[Sequence[float]], float] = min if figure == "pairings/s" else max
        rows.append(
            Row(
                figure,
                median(theirs for theirs, _ in pairs),
                median(mine for _, mine in pairs),
                median(ratios),
                worst(ratios),
            )
        )
    return rows
