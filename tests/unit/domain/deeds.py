"""What a pairing may have done on an appliance, kept apart from how the service keeps it."""

from dataclasses import dataclass

from service.domain import events as e
from service.domain.pairing import SiteCall

_ASKS = {
    e.PairRequested: SiteCall.PAIR,
    e.RepairRequested: SiteCall.REPAIR,
    e.UnpairRequested: SiteCall.UNPAIR,
}


@dataclass(frozen=True, slots=True)
class Deeds:
    """Of one side: the call that is being made, and those before it that may have had an effect."""

    asked: SiteCall | None = None
    maybe: frozenset[SiteCall] = frozenset()

    @property
    def all(self) -> frozenset[SiteCall]:
        """Every call that may have had an effect."""
        return self.maybe | ({self.asked} if self.asked is not None else frozenset())

    @property
    def undo(self) -> SiteCall | None:
        """What would undo them: a record that was repaired was there before."""
        if SiteCall.PAIR in self.all:
            return SiteCall.UNPAIR
        return SiteCall.PAIR if SiteCall.UNPAIR in self.all else None

    def after(self, event: e.SideEvent) -> "Deeds":
        """As `event` tells it."""
        match event:
            case e.PairRequested() | e.RepairRequested() | e.UnpairRequested():
                return Deeds(_ASKS[type(event)], self.all)
            case e.RequestDeferred() | e.PeerFound() | e.PeerGone() | e.SideFailed(refused=True):
                return Deeds(None, self.maybe)
            case e.CallLost() | e.SideFailed() | e.SidePaired() | e.SideUnpaired():
                return Deeds(None, self.all)
            case e.SideRolledBack() | e.NothingToUndo() | e.SideReopened():
                return Deeds()
            case _:
                return self
