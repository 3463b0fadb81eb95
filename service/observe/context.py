"""On whose behalf the current task works. Travels with asyncio tasks, lands in every log line."""

from contextlib import AbstractContextManager
from contextvars import Context, ContextVar, copy_context

import uuid_utils
from msgspec import Struct
from msgspec.structs import replace

from service.domain.ids import OperationId


class WorkContext(Struct, frozen=True):
    """The fields that every log line and every call to an appliance carries."""

    operation_id: OperationId | None = None
    pairing: str | None = None
    task: str | None = None


_NOBODY = WorkContext()
_CURRENT: ContextVar[WorkContext] = ContextVar("work_context", default=_NOBODY)


def current() -> WorkContext:
    """The context of the running task."""
    return _CURRENT.get()


def operation_id() -> OperationId:
    """The operationID in force; a new one where the service acts on its own account."""
    return _CURRENT.get().operation_id or new_operation_id()


def new_operation_id() -> OperationId:
    """An operationID for a caller who sent none."""
    return OperationId(f"sitepair-{uuid_utils.uuid7()}")


def context_for(work: WorkContext) -> Context:
    """The context to begin a task in that does nothing but `work`. Not a `with` within the task:
    tens of thousands run at once, and each would hold one."""
    context = copy_context()
    context.run(_CURRENT.set, work)
    return context


def working_on(*, operation_id: OperationId) -> AbstractContextManager[None]:
    """Within, this operationID is in force; the rest of the context stays."""
    return working_as(replace(_CURRENT.get(), operation_id=operation_id))


class working_as(AbstractContextManager[None]):  # noqa: N801 - used like the function above
    """Within, `work` is the context, as it was where it was taken."""

    # A class, because it is entered for each call: a generator takes three times as long.
    __slots__ = ("_token", "_work")

    def __init__(self, work: WorkContext) -> None:
        self._work = work

    def __enter__(self) -> None:
        self._token = _CURRENT.set(self._work)

    def __exit__(self, *_: object) -> None:
        _CURRENT.reset(self._token)
