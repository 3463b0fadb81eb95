"""What is counted, and that counting is bounded."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.observe import events as e
from service.observe.figures import JournalFigures, WorkerFigures
from service.observe.logging import emit, listening
from service.observe.metrics import MEASURES, Metrics
from tests.support.logs import captured_logs

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(metrics: Metrics) -> Samples:
    """All that a scrape shows, by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, frozenset(labels.items())))


@pytest.mark.parametrize(
    ("event", "name", "labels", "count"),
    [
        (
            e.PairingMoved((e.Move("TaskAccepted", "ACCEPTED", "a"), e.Move("Other", "RUNNING"))),
            "pairing_events",
            "type=TaskAccepted",
            1,
        ),
        (
            e.PairingEnded("pair", "SUCCEEDED", 1.5),
            "pairings_ended",
            "operation=pair,state=SUCCEEDED,code=none",
            1,
        ),
        (
            e.PairingEnded("unpair", "FAILED", 1.5, "DeadlineExceeded"),
            "pairings_ended",
            "operation=unpair,state=FAILED,code=DeadlineExceeded",
            1,
        ),
        (
            e.PairingEnded("repair", "FAILED", 1.5, "ReplicationsExist"),
            "pairings_ended",
            "operation=repair,state=FAILED,code=appliance",
            1,
        ),
        (
            e.RollbackIncomplete("a", "ApplianceUnavailable"),
            "rollbacks_incomplete",
            "code=ApplianceUnavailable",
            1,
        ),
        (e.PairingDropped("x"), "pairings_dropped", "", 1),
        (e.PairingCrashed(), "pairings_crashed", "", 1),
        (e.WorkersBuried(("v", "w"), 7), "workers_buried", "", 2),
        (e.WorkersBuried(("v", "w"), 7), "pairings_taken_over", "", 7),
        (e.WorkerDeclaredDead(), "worker_deaths", "", 1),
        (e.BreakerOpened("a", "ConnectTimeout"), "breakers_opened", "", 1),
        (e.BreakerClosed("a"), "breakers_closed", "", 1),
        (e.JournalUnsure(3, "cut"), "journal_unsure", "", 1),
        (e.StoreTroubled("x", "y"), "store_troubles", "", 1),
        (
            e.ApplianceCalled("a", "POST", "/sessions", 401, 1.0),
            "appliance_logins",
            "outcome=refused",
            1,
        ),
        (
            e.ApplianceCalled("a", "POST", "/sessions", None, 1.0),
            "appliance_logins",
            "outcome=unclear",
            1,
        ),
    ],
)
def test_an_event_is_counted(event: e.LogEvent, name: str, labels: str, count: float) -> None:
    metrics = Metrics()
    wanted = dict(part.split("=") for part in labels.split(",") if part)
    before = value(metrics, f"sitepair_{name}_total", **wanted) or 0

    metrics.see(event)

    assert value(metrics, f"sitepair_{name}_total", **wanted) == before + count


def test_the_time_of_a_call_lies_in_its_bucket_and_those_above() -> None:
    metrics = Metrics()
    for ms in (5.0, 30.0, 60_000.0):
        metrics.see(e.ApplianceCalled("a", "GET", "/sites", 200, ms))

    name, labels = "sitepair_appliance_call_seconds", {"method": "GET", "status": "2xx"}
    buckets = [
        value(metrics, f"{name}_bucket", **labels, le=bound)
        for bound in ("0.005", "0.025", "0.05", "30.0", "+Inf")
    ]
    assert buckets == [1, 1, 2, 2, 3]
    assert value(metrics, f"{name}_count", **labels) == 3
    assert value(metrics, f"{name}_sum", **labels) == pytest.approx(60.035)


def test_no_caller_and_no_appliance_can_make_the_metrics_grow() -> None:
    metrics = Metrics()

    def strange(word: str) -> None:
        metrics.see(e.RequestServed(word, "unmatched", 405, 1.0))
        metrics.see(e.PairingEnded("pair", "FAILED", 1.0, word))
        metrics.see(e.RollbackIncomplete(word, word))
        metrics.see(e.ApplianceCalled(word, "GET", f"/{word}", 200, 1.0, error=word))
        metrics.see(e.BreakerOpened(word, word))
        metrics.see(e.StoreTroubled(word, word))

    strange("first")
    before = len(samples(metrics))
    for number in range(100):
        strange(f"word-{number}")
    assert len(samples(metrics)) == before


def test_what_the_parts_tell_of_themselves_is_asked_for_at_each_scrape() -> None:
    metrics = Metrics()
    assert value(metrics, "sitepair_pairings_in_flight") is None
    driven = [3, 4]
    metrics.watch_worker(lambda: WorkerFigures(driven.pop(), -0.5, 2))
    metrics.watch_journal(lambda: JournalFigures(10, 60, 1))
    metrics.watch_journal(lambda: JournalFigures(1, 10, 0))

    assert value(metrics, "sitepair_pairings_in_flight") == 4
    found = samples(metrics)
    assert found["sitepair_pairings_in_flight", frozenset()] == 3
    assert found["sitepair_lease_left_seconds", frozenset()] == -0.5
    assert found["sitepair_appliances_closed", frozenset()] == 2
    assert found["sitepair_journal_groups_total", frozenset()] == 11
    assert found["sitepair_journal_changes_total", frozenset()] == 70
    assert found["sitepair_journal_repeats_total", frozenset()] == 1


def test_counters_without_labels_are_there_from_the_start() -> None:
    """Else the first one would be no increase to whoever watches."""
    found = {name for name, _ in samples(Metrics())}
    bare = {each.name for each in MEASURES if each.kind == "counter" and not each.labels}
    assert bare - found == set()


def test_a_listener_hears_what_is_too_quiet_for_the_log_until_it_is_gone() -> None:
    heard: list[e.LogEvent] = []
    event = e.StoreTroubled("testing", "none")
    with captured_logs():
        with listening(heard.append):
            emit(event)
        emit(event)
    assert heard == [event]
