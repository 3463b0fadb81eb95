"""What the service would have logged: heard by the run, written nowhere.

And the ids that it gives to what it does on its own account: counted, so that a run replays.
"""

import itertools
import sys
from collections.abc import Callable

from service.domain.ids import OperationId
from service.observe import context, logging
from service.observe.events import LogEvent

Hear = Callable[[LogEvent, BaseException | None], None]

_heard: list[Hear] = []
_numbers = itertools.count(1)


def _emit(event: LogEvent, *, error: BaseException | None = None) -> None:
    if _heard:
        _heard[-1](event, error)


def _new_operation_id() -> OperationId:
    return OperationId(f"own-{next(_numbers)}")


def overhear(hear: Hear | None) -> None:
    """Let `hear` have all that is logged from now on, until the next call. Ids begin anew."""
    global _numbers  # noqa: PLW0603 - as the service's own, it belongs to the process
    _numbers = itertools.count(1)
    _heard[:] = [hear] if hear is not None else []


def take_over() -> None:
    """Put ourselves in the place of the service's own functions, wherever they were imported."""
    _put("emit", logging.emit, _emit)
    _put("new_operation_id", context.new_operation_id, _new_operation_id)


def _put(name: str, real: object, ours: object) -> None:
    if real is ours:
        return
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("service.") and getattr(module, name, None) is real:
            setattr(module, name, ours)
