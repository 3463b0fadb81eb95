"""How often to look after tasks that are under way."""

from collections.abc import Callable
from dataclasses import dataclass

_HASTE_S = 0.5
_CROWD = 4
"""So many tasks that are waited for on one appliance tell that there is a crowd."""
_FEW, _MANY = 4, 16
"""Tasks: what others have seen counts like so many; the running mean is over so many."""


@dataclass(slots=True)
class Pace:
    """Times in seconds. A task is looked after often while it is young, seldom when it is old:
    the pause is `share` of its age, within a floor and `cap_s`. The floor, which is also the
    pause between two rounds, is `lone_s` for each that is waited for, up to `floor_s`.

    How long an appliance's tasks take is learnt as TCP learns how long an answer takes (RFC 6298):
    a running mean and a running deviation, which begin as those of `others`. Where they are quick,
    the first look comes when most are over, for one before that is a call for nothing. Where they
    are slow, it comes early, for a task may fail at once; the next one comes when the first of
    them end, and while they do a deviation after each other. Then the pauses grow again. Where no
    two take equally long, a young one counts like one of a quarter of the mean.

    In a crowd the rounds at all appliances keep to one beat, `floor_s` apart. So both sides of most
    pairings are seen over at the same time, all who were seen over look at the lists together, and
    whoever gets their slots begins together: more share each read and each commit.
    """

    first_s: float = 0.1
    lone_s: float = 0.05
    floor_s: float = 0.1
    cap_s: float = 5.0
    share: float = 0.2
    mean_s: float | None = None
    deviation_s: float = 0.0
    seen: int = 0
    others: "Pace | None" = None

    def first_look_s(self) -> float:
        """How long after a task was asked about to look for the first time."""
        if self.mean_s is None:
            return self.others.first_look_s() if self.others is not None else self.first_s
        likely_over_s = self.mean_s + 1.5 * self.deviation_s
        patience_s = max(_HASTE_S, self.share * self.mean_s / 4)
        return min(self.cap_s, max(self.first_s, min(likely_over_s, patience_s)))

    def pause_s(self, age_s: float, waiting: int) -> float:
        """How long to wait before the next look at a task of this age, with so many waited for."""
        return min(self.cap_s, max(self.rest_s(waiting), self._patience_s(age_s)))

    def _patience_s(self, age_s: float) -> float:
        if self.mean_s is None:
            return self.share * age_s
        first_over_s = self.mean_s - 2 * self.deviation_s
        if age_s < first_over_s:
            return first_over_s - age_s
        likely_over_s = max(self.deviation_s, age_s - self.mean_s)
        return min(likely_over_s, self.share * max(age_s, self.mean_s / 4))

    def rest_s(self, waiting: int) -> float:
        """The least pause between two rounds, with so many tasks waited for; the beat may halve
        it."""
        return min(self.floor_s, self.lone_s * waiting)

    def on_beat(self, due: float, waiting: int) -> float:
        """When to begin a round that is due then (loop time), with so many tasks waited for: less
        than half of a beat earlier or later."""
        if waiting < _CROWD:
            return due
        return round(due / self.floor_s) * self.floor_s

    def saw_end(self, took_s: float) -> None:
        """A task is over that took so long."""
        if self.mean_s is None and self.others is not None:
            self.mean_s, self.deviation_s = self.others.mean_s, self.others.deviation_s
            self.seen = _FEW
        if self.mean_s is None:
            self.mean_s, self.deviation_s, self.seen = took_s, took_s / 4, 1
        else:
            self.seen = min(self.seen + 1, _MANY)
            error_s = took_s - self.mean_s
            self.deviation_s += (abs(error_s) - self.deviation_s) / self.seen
            self.mean_s += error_s / self.seen
        if self.others is not None:
            self.others.saw_end(took_s)


def paces() -> Callable[[], Pace]:
    """Makes paces of which each begins with what all have learnt."""
    everybody = Pace()
    return lambda: Pace(others=everybody)
