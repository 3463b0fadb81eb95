"""Names and identities, and the shapes they must have."""

import re
from typing import NewType
from uuid import UUID

ApplianceName = NewType("ApplianceName", str)
PairingId = NewType("PairingId", UUID)
BatchId = NewType("BatchId", UUID)
WorkerId = NewType("WorkerId", UUID)
TaskId = NewType("TaskId", str)
OperationId = NewType("OperationId", str)

_APPLIANCE_NAME = re.compile(r"[a-z0-9-]{1,63}")
_OPERATION_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def is_appliance_name(text: str) -> bool:
    """Whether an appliance may be registered under `text`."""
    return _APPLIANCE_NAME.fullmatch(text) is not None


def is_operation_id(text: str) -> bool:
    """Whether `text` may travel as an operationID: it ends up in a header of every call."""
    return _OPERATION_ID.fullmatch(text) is not None
