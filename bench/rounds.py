"""What one round of one contender measured."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Round:
    """When each pairing ended, in seconds since the first one began; the CPU is that of the process
    that makes the calls."""

    ended_s: Sequence[float]
    cpu_s: float
    calls: int

    @property
    def pairings(self) -> int:
        """How many there were."""
        return len(self.ended_s)

    @property
    def wall_s(self) -> float:
        """What all of them took together."""
        return max(self.ended_s)

    @property
    def per_s(self) -> float:
        """Pairings a second."""
        return self.pairings / self.wall_s

    @property
    def per_s_between(self) -> float:
        """The same from the end of the first tenth to that of the ninth: a queue of thousands takes
        no longer to fill and to run dry than a short run, of which that is a good part."""
        ranked = sorted(self.ended_s)
        first, last = len(ranked) // 10, len(ranked) * 9 // 10
        took_s = ranked[last] - ranked[first]
        return (last - first) / took_s if took_s else self.per_s

    @property
    def cpu_ms_each(self) -> float:
        """CPU milliseconds for a pairing."""
        return 1000 * self.cpu_s / self.pairings

    @property
    def calls_each(self) -> float:
        """Calls to appliances for a pairing."""
        return self.calls / self.pairings
