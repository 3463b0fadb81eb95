"""A defect of ours that is met on one side: an appliance that does what nobody thought of.

It is that side's failure and no more, so that what was done on the other one is undone.
"""

from service.domain.appliance import ApiError
from service.domain.errors import LeaseLost, StoreUnavailable, UnknownAppliance
from service.observe.events import PairingCrashed
from service.observe.logging import emit

DEFECT = ApiError("InternalError", "A defect of the service.")

NO_DEFECT = (LeaseLost, StoreUnavailable, UnknownAppliance)
"""What is no defect, and no failure of one side: it ends the driving of the pairing."""


def defect(crash: Exception) -> ApiError:
    """Tell of `crash`; what the side fails with."""
    emit(PairingCrashed(), error=crash)
    return DEFECT
