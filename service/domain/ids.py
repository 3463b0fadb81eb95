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
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_OPERATION_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def is_appliance_name(text: str) -> bool:
    """Whether an appliance may be registered under `text`."""
    return _APPLIANCE_NAME.fullmatch(text) is not None


def is_operation_id(text: str) -> bool:
    """Whether `text` may travel as an operationID: it ends up in a header of every call."""
    return _OPERATION_ID.fullmatch(text) is not None


def uuid_from(text: str) -> UUID | None:
    """The UUID that `text` is in its usual spelling; None for any other text, those that `UUID`
    would take as well."""
    return UUID(text) if _UUID.fullmatch(text) is not None else None
