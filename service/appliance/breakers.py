"""The breakers of all appliances, whether there is a client or not."""

from collections.abc import Callable, Mapping

from service.appliance.breaker import Breaker
from service.appliance.limits import Limits
from service.domain.appliance import ApiError
from service.domain.ids import ApplianceName


class Breakers:
    """By the appliances' names."""

    def __init__(self, limits: Limits, on_open: Callable[[], None]) -> None:
        """`on_open` is told when one opens here."""
        self._on_open = on_open
        self._limits = limits
        self._breakers: dict[ApplianceName, Breaker] = {}

    def of(self, name: ApplianceName) -> Breaker:
        """The breaker of this appliance."""
        if name not in self._breakers:
            self._breakers[name] = Breaker(name, self._limits, self._on_open)
        return self._breakers[name]

    def renew(self, name: ApplianceName) -> Breaker:
        """A new breaker for an appliance that was registered anew. The old one is closed: who
        still holds it finds out by itself."""
        self.of(name).close()
        del self._breakers[name]
        return self.of(name)

    def opened(self) -> Mapping[ApplianceName, ApiError]:
        """Those that opened here and that `impose` has not named since, and why.

        What `impose` has named is known: reporting it again would undo what another worker's probe
        found meanwhile.
        """
        found = ((name, breaker.news) for name, breaker in self._breakers.items())
        return {name: cause for name, cause in found if cause is not None}

    def impose(self, open_elsewhere: Mapping[ApplianceName, ApiError]) -> None:
        """Open these, and close all others but those that opened here a moment ago."""
        for name, breaker in self._breakers.items():
            if name not in open_elsewhere:
                breaker.lift()
        for name, cause in open_elsewhere.items():
            self.of(name).impose(cause)
