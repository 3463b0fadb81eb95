"""Who asks for something."""

from msgspec import Struct

from service.domain.ids import OperationId


class Author(Struct, frozen=True):
    """On whose behalf something is done: the audit trail's actor, and their correlation id."""

    user: str
    operation_id: OperationId
