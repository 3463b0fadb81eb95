"""What one round of one contender measured."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Round:
    """All `pairings` together; the CPU is that of the process that makes the calls."""

    pairings: int
    wall_s: float
    cpu_s: float
    calls: int

    @property
    def per_s(self) -> float:
        """Pairings a second."""
        return self.pairings / self.wall_s

    @property
    def cpu_ms_each(self) -> float:
        """CPU milliseconds for a pairing."""
        return 1000 * self.cpu_s / self.pairings

    @property
    def calls_each(self) -> float:
        """Calls to appliances for a pairing."""
        return self.calls / self.pairings
