"""How often to look after tasks that are under way."""

from dataclasses import dataclass


@dataclass(slots=True)
class Pace:
    """Times in seconds. A task is looked after often while it is young, seldom when it is old:
    the pause is `share` of its age, within `floor_s` and `cap_s`.

    Where tasks are known to take long, a young one is not worth the haste: `typical_s` is a
    running average of how long they took to be seen over, and counts like a quarter of an age.
    `floor_s` is also the least pause between two rounds.
    """

    first_s: float = 0.1
    floor_s: float = 0.2
    cap_s: float = 5.0
    share: float = 0.2
    typical_s: float = 0.0

    def first_look_s(self) -> float:
        """How long after a task was asked about to look for the first time."""
        return min(self.cap_s, max(self.first_s, self.share * self.typical_s / 4))

    def pause_s(self, age_s: float) -> float:
        """How long to wait before the next look at a task of this age."""
        return min(self.cap_s, max(self.floor_s, self.share * max(age_s, self.typical_s / 4)))

    def saw_end(self, age_s: float) -> None:
        """A task was seen over at this age."""
        self.typical_s += (age_s - self.typical_s) * 0.2
