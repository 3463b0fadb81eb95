"""What `make bench` measures, and in which sizes: fifteen minutes for all together, on two cores.

A part that is added is one line here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bench import (
    asking,
    batches,
    calls,
    crowd,
    ending,
    history,
    idle,
    takeover,
    throughput,
    versus,
)
from bench.options import Options
from bench.report import Measure


@dataclass(frozen=True, slots=True)
class Part:
    """`measure` with the sizes that fit."""

    measure: Measure
    options: Options


PARTS: Mapping[str, Part] = {
    "throughput": Part(throughput.measure, throughput.DEFAULTS),
    "versus": Part(versus.measure, versus.DEFAULTS),
    "calls": Part(calls.measure, calls.DEFAULTS),
    "idle": Part(idle.measure, replace(idle.DEFAULTS, pairings=10)),
    "ending": Part(ending.measure, ending.DEFAULTS),
    "crowd": Part(crowd.measure, crowd.DEFAULTS),
    "asking": Part(asking.measure, asking.DEFAULTS),
    "batches": Part(batches.measure, batches.DEFAULTS),
    "history": Part(history.measure_in_short, history.DEFAULTS),
    "takeover": Part(takeover.measure, takeover.DEFAULTS),
}
