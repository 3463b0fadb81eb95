-- A worker lives no more. What it knew of the database outlives it, in the row of nobody (:nobody).
--
-- Why it is right: who has just come judges others only if somebody has seen a steady database
-- (beat.sql). Workers that die leave their rows behind, which tell that. One that leaves takes its
-- row away; were that all, workers that are restarted again and again would keep each other from
-- burying somebody who died before. What it knew is what a beat of this moment would have found.
-- Nobody's row is a witness as good as any other, for half a lease, and is buried like any other.
--
-- Locks: the worker's row, for which it waits while a claim of its own is under way, then nobody's.
-- Lives on: pk_worker. The table has a row for each process.
with clock as materialized (
  select clock_timestamp() as now
),
known as materialized (
  select min(w.lease_ms) as lease_ms, min(w.steady_since) as steady_since
  from worker as w, clock
  where clock.now - w.seen between interval '0' and w.lease_ms / 2 * interval '1 millisecond'
  having count(*) > 0
),
told as (
  insert into worker (id, lease_ms, seen, steady_since)
  select cast(:nobody as uuid), k.lease_ms, clock.now, k.steady_since from known as k, clock
  on conflict (id) do update
  set lease_ms = excluded.lease_ms, seen = excluded.seen, steady_since = excluded.steady_since
)
delete from worker
where id = :worker
