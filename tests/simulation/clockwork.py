"""A deterministic event loop for several simulated processes at once, on virtual time.

Words
-----
Clockwork   the loop. It has no selector, no thread and no socket: when nobody can run, time jumps
            to the next timer.
Node        a process of the simulation. A handle, timer or task belongs to the node in whose
            context it was scheduled. One node's handles run in the order in which they became
            ready, as asyncio promises; which node runs next is chosen by the seed.
Clock       what a node takes for the time: it may be off, and run too fast or too slow.

Guarantees
----------
1. One seed, one order: no set of tasks or futures is iterated in an order that an address decides.
2. A node that crashed never runs again: no `finally`, no `except`, no callback. What it held is
   kept until the end, so that nothing is finalized while the simulation runs.
3. A node that is paused keeps its place: what becomes ready waits, its clock goes on.
"""

import asyncio
import heapq
import random
import sys
import warnings
from asyncio import events
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

Result = TypeVar("Result")

MOST_STEPS = 3_000_000
"""More handles than that in one run are a loop that does not wait."""


RESOLUTION_S = 1e-9
"""Less than this is lost when times are converted."""


class Stuck(AssertionError):
    """Nothing is left to happen, or it never stops happening."""


@dataclass(frozen=True, slots=True)
class Clock:
    """A node's monotonic clock: `offset_s` at the beginning, then `rate` seconds a second.

    `skew_ms` is how far its wall clock is off.
    """

    offset_s: float = 0.0
    rate: float = 1.0
    skew_ms: int = 0


class Node:
    """One simulated process. `steps` counts the handles that it has run."""

    def __init__(self, name: str, clock: Clock | None = None) -> None:
        self.name = name
        self.clock = clock or Clock()
        self.is_crashed = False
        self.is_paused = False
        self.steps = 0
        self.crash_at: int | None = None
        """Crash before the handle of this number runs."""
        self.ready: deque[asyncio.Handle] = deque()
        self.tasks: list[asyncio.Task[Any]] = []
        self.kept: list[asyncio.Handle] = []

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @property
    def can_run(self) -> bool:
        """Whether it is alive and not stopped."""
        return not (self.is_crashed or self.is_paused)

    def local(self, instant_s: float) -> float:
        """What its monotonic clock says at `instant_s`."""
        return self.clock.offset_s + self.clock.rate * instant_s

    def instant(self, local_s: float) -> float:
        """When its monotonic clock says `local_s`, or a moment later: never before."""
        return (local_s - self.clock.offset_s) / self.clock.rate + RESOLUTION_S

    @property
    def pending(self) -> list[asyncio.Task[Any]]:
        """Its tasks that are not done."""
        return [task for task in self.tasks if not task.done()]


NOBODY = Node("nobody")
"""Whose work belongs to no process: the network, the schedule."""

_node: ContextVar[Node] = ContextVar("node")


class _Numbered:
    """Hashes by number, so that sets of them have the same order in every run."""

    number: int

    def __hash__(self) -> int:
        return self.number


class _Task(_Numbered, asyncio.Task[Any]):
    def __init__(self, number: int, coroutine: Any, **options: Any) -> None:
        self.number = number
        super().__init__(coroutine, **options)


class _Future(_Numbered, asyncio.Future[Any]):
    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self.number = number
        super().__init__(loop=loop)


class Clockwork(asyncio.BaseEventLoop):
    """The loop. Times without a node are instants: seconds since the beginning of the run."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.instant = 0.0
        self.steps = 0
        self.complaints: list[str] = []
        """What living nodes let fall: exceptions that nobody took."""
        self.on_crash: Callable[[Node], None] = lambda _: None
        self.after_step: Callable[[Node, object], None] | None = None
        """Told of each handle that ran: whose, and whose method it called, mostly a task's."""
        self._rng = rng
        self._nobody = Node("nobody")
        self._running = self._nobody
        self._runnable: list[Node] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Node]] = []
        self._count = 0
        self._nodes: list[Node] = [self._nobody]
        self._is_over = False
        self.set_exception_handler(self._complain)

    def node(self, name: str, clock: Clock | None = None) -> Node:
        """A new process."""
        node = Node(name, clock)
        self._nodes.append(node)
        return node

    @property
    def running(self) -> Node:
        """Whose handle runs at this moment."""
        return self._running

    def start(self, node: Node, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Run `work` as a task of `node`."""
        context = Context()
        context.run(_node.set, node)
        return self.create_task(work, context=context)

    def post(self, node: Node, after_s: float, do: Callable[[], object]) -> asyncio.TimerHandle:
        """Let `node` do something `after_s` seconds from now, by true time."""
        context = Context()
        context.run(_node.set, node)
        return self._at(self.instant + after_s, do, (), context, node)

    def at(self, instant_s: float, do: Callable[[], object]) -> asyncio.TimerHandle:
        """Do something at an instant, on nobody's behalf."""
        return self._at(max(instant_s, self.instant), do, (), Context(), self._nobody)

    def crash(self, node: Node) -> None:
        """SIGKILL."""
        if node.is_crashed:
            return
        self.on_crash(node)
        node.is_crashed = True
        node.kept.extend(node.ready)
        node.ready.clear()
        self._withdraw(node)

    def pause(self, node: Node) -> None:
        """SIGSTOP."""
        node.is_paused = True
        self._withdraw(node)

    def resume(self, node: Node) -> None:
        """SIGCONT."""
        node.is_paused = False
        if node.ready and not node.is_crashed and node not in self._runnable:
            self._runnable.append(node)

    def run_until(self, is_over: Callable[[], bool], until_s: float) -> bool:
        """Run until `is_over`, asked whenever time moves on, or `until_s`; returns which it was.

        Raises Stuck.
        """
        events._set_running_loop(self)
        try:
            while True:
                self._run_ready()
                if is_over():
                    return True
                if not self._jump(until_s):
                    return False
        finally:
            events._set_running_loop(None)

    def dispose(self) -> None:
        """Let go of all that is left, silently. Nothing of it may matter any more."""
        self._is_over = True
        before = sys.unraisablehook
        sys.unraisablehook = lambda _: None
        events._set_running_loop(self)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._bury_all()
        finally:
            events._set_running_loop(None)
            self.close()
            sys.unraisablehook = before

    def _bury_all(self) -> None:
        for node in self._nodes:
            for task in node.pending:
                _bury(task)
        for node in self._nodes:
            for each in (node.ready, node.kept, node.tasks):
                each.clear()
        self._timers.clear()

    # What asyncio asks of a loop.

    def time(self) -> float:
        """The time by the clock of the node that is running."""
        return self._running.local(self.instant)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Ready at once."""
        if context is None:
            context = copy_context()
        handle = asyncio.Handle(callback, args, self, context)
        self._make_ready(context.get(_node, self._nobody), handle)
        return handle

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Ready when the node's clock says `when`."""
        if context is None:
            context = copy_context()
        node = context.get(_node, self._nobody)
        return self._at(node.instant(when), callback, args, context, node)

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Ready after `delay` seconds of the node's clock."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def create_task(
        self,
        coro: Generator[Any, None, Result] | Awaitable[Result],
        *,
        name: object = None,  # noqa: ARG002 - names are numbers here, so that a run replays
        context: Context | None = None,
    ) -> asyncio.Task[Result]:
        """A task of the node of `context`; of the running one if the context is of none."""
        if self._is_over:
            raise RuntimeError("nothing begins any more")
        if context is not None and _node not in context:
            context.run(_node.set, self._running)
        self._count += 1
        task = _Task(self._count, coro, loop=self, name=f"task-{self._count}", context=context)
        node = self._running if context is None else context[_node]
        node.tasks.append(task)
        return task

    def create_future(self) -> asyncio.Future[Any]:
        """A future that hashes by its number."""
        self._count += 1
        return _Future(self._count, self)

    def get_debug(self) -> bool:
        """Never: it would cost time and change nothing."""
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are passed over when they are due."""

    def _at(
        self,
        instant_s: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context,
        node: Node,
    ) -> asyncio.TimerHandle:
        self._count += 1
        handle = asyncio.TimerHandle(instant_s, callback, args, self, context)
        heapq.heappush(self._timers, (instant_s, self._count, handle, node))
        return handle

    def _make_ready(self, node: Node, handle: asyncio.Handle) -> None:
        if node.is_crashed or self._is_over:
            node.kept.append(handle)
            return
        if not node.ready and not node.is_paused:
            self._runnable.append(node)
        node.ready.append(handle)

    def _withdraw(self, node: Node) -> None:
        if node in self._runnable:
            self._runnable.remove(node)

    def _run_ready(self) -> None:
        runnable, draw = self._runnable, self._rng.random
        while runnable:
            count = len(runnable)
            at = int(draw() * count) if count > 1 else 0
            node = runnable[at]
            if node.crash_at is not None and node.steps >= node.crash_at:
                self.crash(node)
                continue
            handle = node.ready.popleft()
            if not node.ready:
                runnable[at] = runnable[-1]
                runnable.pop()
            if handle._cancelled:
                continue
            node.steps += 1
            self._running = node
            handle._run()
            self._running = self._nobody
            if self.after_step is not None:
                self.after_step(node, getattr(getattr(handle, "_callback", None), "__self__", None))
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise Stuck(f"after {MOST_STEPS} steps, at {self.instant:.3f} s, nobody waits")

    def _jump(self, until_s: float) -> bool:
        """To the next timer, unless that is after `until_s`."""
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not timers or timers[0][0] > until_s:
            self.instant = max(self.instant, until_s)
            return False
        self.instant = max(self.instant, timers[0][0])
        while timers and timers[0][0] <= self.instant:
            _, _, handle, node = heapq.heappop(timers)
            if not handle._cancelled:
                self._make_ready(node, handle)
        return True

    def _complain(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not self._is_over:
            error = context.get("exception")
            self.complaints.append(f"{self._running.name}: {context.get('message')}: {error!r}")


def _bury(task: asyncio.Task[Any]) -> None:
    """Close a coroutine that will never be resumed. Its `finally` may wait, a few times."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    coroutine = task.get_coro()
    for _ in range(20):
        try:
            coroutine.close()
        except BaseException:  # noqa: BLE001, S112 - whatever a dead process still has to say
            continue
        return


def current_node() -> Node:
    """The node in whose context the caller runs."""
    return _node.get(NOBODY)
