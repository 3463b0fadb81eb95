"""What is counted: the events that are logged, and what the parts of this process tell of
themselves.

Names, kinds and labels are a contract with whoever draws them; `docs/observability.md` tables them
and a test compares the two. No label grows with what is registered or asked for, and no scrape
touches the database.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from service import __version__
from service.domain.codes import OURS
from service.observe import events as e
from service.observe.figures import JournalFigures, WorkerFigures
from service.observe.logging import unwritten

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_CALL_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_REQUEST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 60.0)
_PAIRING_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric. The bounds of a histogram's buckets are in seconds."""

    name: str
    kind: Kind
    means: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


class M:
    """The names. Plain strings, whose hashes are known: each event looks a few up."""

    BUILD = "sitepair_build_info"
    EVENTS = "sitepair_pairing_events_total"
    ENDED = "sitepair_pairings_ended_total"
    PAIRING_S = "sitepair_pairing_seconds"
    INCOMPLETE = "sitepair_rollbacks_incomplete_total"
    DROPPED = "sitepair_pairings_dropped_total"
    CRASHED = "sitepair_pairings_crashed_total"
    BURIED = "sitepair_workers_buried_total"
    TAKEN_OVER = "sitepair_pairings_taken_over_total"
    DIED = "sitepair_worker_deaths_total"
    IN_FLIGHT = "sitepair_pairings_in_flight"
    LEASE = "sitepair_lease_left_seconds"
    CLOSED = "sitepair_appliances_closed"
    OPENED = "sitepair_breakers_opened_total"
    REOPENED = "sitepair_breakers_closed_total"
    CALL_S = "sitepair_appliance_call_seconds"
    LOGINS = "sitepair_appliance_logins_total"
    GROUPS = "sitepair_journal_groups_total"
    CHANGES = "sitepair_journal_changes_total"
    REPEATS = "sitepair_journal_repeats_total"
    UNSURE = "sitepair_journal_unsure_total"
    TROUBLE = "sitepair_store_troubles_total"
    REQUEST_S = "sitepair_http_request_seconds"
    UNWRITTEN = "sitepair_log_lines_unwritten_total"


MEASURES: Sequence[Measure] = (
    Measure(M.BUILD, "gauge", "1, with the version that runs", ("version",)),
    Measure(
        M.EVENTS,
        "counter",
        "events of pairings that this process's worker put on record, by type",
        ("type",),
    ),
    Measure(
        M.ENDED,
        "counter",
        "pairings that ended; `code` is `none`, one of the service's, or `appliance` for theirs",
        ("operation", "state", "code"),
    ),
    Measure(
        M.PAIRING_S,
        "histogram",
        "time from acceptance (202) to the end",
        ("operation", "state"),
        _PAIRING_S,
    ),
    Measure(M.INCOMPLETE, "counter", "sides whose rollback could not be completed", ("code",)),
    Measure(M.DROPPED, "counter", "pairings that a worker stopped driving; others take them up"),
    Measure(M.CRASHED, "counter", "pairings that met a defect of the service"),
    Measure(M.BURIED, "counter", "other workers that this worker declared dead"),
    Measure(M.TAKEN_OVER, "counter", "pairings that this worker freed from dead workers"),
    Measure(M.DIED, "counter", "how often this process's own worker was declared dead"),
    Measure(M.IN_FLIGHT, "gauge", "pairings that the worker drives"),
    Measure(
        M.LEASE, "gauge", "time left of the worker's lease; negative: others may take its pairings"
    ),
    Measure(M.CLOSED, "gauge", "appliances with an open breaker"),
    Measure(M.OPENED, "counter", "appliances that stopped answering this worker"),
    Measure(M.REOPENED, "counter", "appliances that a probe of this worker found answering again"),
    Measure(
        M.CALL_S,
        "histogram",
        "calls to appliances; `status` is a class like `2xx`, or `none` for no answer",
        ("method", "status"),
        _CALL_S,
    ),
    Measure(
        M.LOGINS,
        "counter",
        "logins to appliances: `accepted`, `refused` or `unclear`",
        ("outcome",),
    ),
    Measure(M.GROUPS, "counter", "commits of the journal (group commits)"),
    Measure(M.CHANGES, "counter", "changes of pairings in these commits"),
    Measure(M.REPEATS, "counter", "commits that were repeated because they certainly failed"),
    Measure(
        M.UNSURE,
        "counter",
        "commits whose answer was lost, so that their effect was looked up",
    ),
    Measure(M.TROUBLE, "counter", "times that the database did not do what it was asked to"),
    Measure(
        M.REQUEST_S,
        "histogram",
        "requests; `route` is the pattern",
        ("method", "route", "status"),
        _REQUEST_S,
    ),
    Measure(
        M.UNWRITTEN,
        "counter",
        "lines of the log that could not be written (a full disk, a closed pipe)",
    ),
)


class Metrics:
    """The metrics of one process. `see` is for `logging.listening`.

    Counted here and not in the library's own counters, whose locks cost several times as much:
    there are twenty events for each pairing.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, ...], float] = {
            (each.name,): 0 for each in MEASURES if each.kind == "counter" and not each.labels
        }
        self._times: dict[tuple[str, ...], _Times] = {}
        self._worker: Callable[[], WorkerFigures] | None = None
        self._journals: list[Callable[[], JournalFigures]] = []
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def watch_worker(self, figures: Callable[[], WorkerFigures]) -> None:
        """Ask `figures` at each scrape."""
        self._worker = figures

    def watch_journal(self, figures: Callable[[], JournalFigures]) -> None:
        """Ask `figures` at each scrape, and add them to those of the other journals."""
        self._journals.append(figures)

    def text(self) -> bytes:
        """All of it, as MEDIA_TYPE."""
        return generate_latest(self._registry)

    def see(self, event: e.LogEvent) -> None:
        """Count `event`, if it counts."""
        match event:
            case e.ApplianceCalled():
                self._time(M.CALL_S, event.ms / 1000, event.method, _class_of(event.status))
                if event.path == "/sessions" and event.method == "POST":
                    self._count(M.LOGINS, 1, _login(event.status))
            case e.PairingMoved():
                for move in event.moves:
                    self._count(M.EVENTS, 1, move.type)
            case e.RequestServed():
                method = event.method if event.method in _METHODS else "other"
                self._time(M.REQUEST_S, event.ms / 1000, method, event.route, str(event.status))
            case e.PairingEnded():
                self._count(M.ENDED, 1, event.operation, event.state, _code(event.code))
                self._time(M.PAIRING_S, event.seconds, event.operation, event.state)
            case _:
                self._see_trouble(event)

    def _see_trouble(self, event: e.LogEvent) -> None:
        match event:
            case e.RollbackIncomplete(code=code):
                self._count(M.INCOMPLETE, 1, _code(code))
            case e.WorkersBuried(workers=workers, pairings=pairings):
                self._count(M.BURIED, len(workers))
                self._count(M.TAKEN_OVER, pairings)
            case _:
                name = _SIMPLE.get(type(event))
                if name is not None:
                    self._count(name)

    def _count(self, name: str, by: float = 1, *labels: str) -> None:
        key = (name, *labels)
        self._counts[key] = self._counts.get(key, 0) + by

    def _time(self, name: str, seconds: float, *labels: str) -> None:
        key = (name, *labels)
        times = self._times.get(key)
        if times is None:
            times = self._times[key] = _Times(_MEASURES[name].buckets)
        times.add(seconds)

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now; for the registry."""
        counts = {**self._counts, **self._told()}
        for measure in MEASURES:
            if measure.kind == "histogram":
                yield self._histogram(measure)
            else:
                kind = CounterMetricFamily if measure.kind == "counter" else GaugeMetricFamily
                family = kind(measure.name, measure.means, labels=measure.labels)
                for (name, *labels), value in counts.items():
                    if name == measure.name:
                        family.add_metric(labels, value)
                yield family

    def _histogram(self, measure: Measure) -> Metric:
        family = HistogramMetricFamily(measure.name, measure.means, labels=measure.labels)
        for (name, *labels), times in self._times.items():
            if name == measure.name:
                family.add_metric(labels, times.cumulated(), times.sum)
        return family

    def _told(self) -> dict[tuple[str, ...], float]:
        """What the parts say of themselves at this moment."""
        told: dict[tuple[str, ...], float] = {(M.BUILD, __version__): 1}
        told[(M.UNWRITTEN,)] = unwritten()
        if self._worker is not None:
            worker = self._worker()
            told[(M.IN_FLIGHT,)] = worker.in_flight
            told[(M.LEASE,)] = worker.lease_left_s
            told[(M.CLOSED,)] = worker.closed
        journals = [figures() for figures in self._journals]
        told[(M.GROUPS,)] = sum(journal.groups for journal in journals)
        told[(M.CHANGES,)] = sum(journal.changes for journal in journals)
        told[(M.REPEATS,)] = sum(journal.repeats for journal in journals)
        return told


class _Times:
    """One histogram's buckets."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.sum = 0.0
        self._bounds = bounds
        self._buckets = [0] * (len(bounds) + 1)

    def add(self, seconds: float) -> None:
        self._buckets[bisect_left(self._bounds, seconds)] += 1
        self.sum += seconds

    def cumulated(self) -> list[tuple[str, float]]:
        """As Prometheus has it: each bucket holds what the smaller ones do."""
        bounds = [*(str(bound) for bound in self._bounds), "+Inf"]
        return list(zip(bounds, accumulate(self._buckets), strict=True))


_MEASURES = {each.name: each for each in MEASURES}
_SIMPLE: dict[type[e.LogEvent], str] = {
    e.PairingDropped: M.DROPPED,
    e.PairingCrashed: M.CRASHED,
    e.WorkerDeclaredDead: M.DIED,
    e.BreakerOpened: M.OPENED,
    e.BreakerClosed: M.REOPENED,
    e.JournalUnsure: M.UNSURE,
    e.StoreTroubled: M.TROUBLE,
}


def _class_of(status: int | None) -> str:
    return "none" if status is None else f"{status // 100}xx"


def _login(status: int | None) -> str:
    if status is None:
        return "unclear"
    if status in {401, 403}:
        return "refused"
    return "accepted" if 200 <= status < 300 else "unclear"


def _code(code: str | None) -> str:
    """One of a few: appliances have words of their own without end."""
    if code is None:
        return "none"
    return code if code in OURS else "appliance"
