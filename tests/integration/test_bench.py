"""The bench measures what it says, in the smallest size: so that it does not rot."""

from bench import batches, throughput
from bench.options import Options


async def test_both_sides_are_measured_end_to_end() -> None:
    """Three couples by both; neither makes fewer calls than two changes and two looks for each."""
    rows = await throughput.measure(Options(rounds=1, appliances=3, pairings=3, in_flight=3))
    figures = {row.figure: row for row in rows}
    rate, calls = figures["pairings/s"], figures["calls per pairing, as bare"]
    assert rate.ours > 0
    assert rate.other is not None
    assert rate.median == rate.ours / rate.other
    assert figures["pairings/s, while all goes on"].ours > 0
    assert calls.other is not None
    assert min(calls.ours, calls.other) >= 4
    assert figures["commits per pairing"].ours > 0
    assert figures["CPU ms per pairing, PostgreSQL"].ours > 0


async def test_rounds_of_batches_find_the_tables_empty_each_time() -> None:
    rows = await batches.measure(Options(rounds=2, appliances=4, pairings=6))
    assert [row.ours > 0 for row in rows] == [True, True]
