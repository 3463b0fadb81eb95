-- A worker still lives. No row: it was declared dead, and owns nothing any more. Says how many live,
-- with this one: those whose lease is not over.
--
-- Why it is right: the time is the database's own, at the moment of the update, so it lies after
-- the moment in which the worker sent this, and the lease that the worker counts from there ends
-- first. Who buries holds the row's lock and removes it; whoever comes second sees what the first
-- one did: a beat finds no row, or a burial finds a fresh one.
--
-- Steady is the database, not the worker: whoever's row was beaten within half a lease tells that
-- it was there at that time, and since when it was there before. So a young worker inherits from an
-- old one, even from a dead one or one that has left (leave.sql), and workers that come and go often
-- do not keep each other from burying.
-- Where there is no such row there was a gap, or the clock went back: then nobody's row says
-- anything about who lives, until all have had the time to beat again (bury.sql).
--
-- Locks: the worker's row, for no longer than this takes; claims are not in its way.
-- Lives on: pk_worker. The table has a row for each process.
update worker
set seen = clock.now,
    steady_since = coalesce(
      (
        select min(w.steady_since) from worker as w
        where clock.now - w.seen between interval '0' and w.lease_ms / 2 * interval '1 millisecond'
      ),
      clock.now
    )
from (select clock_timestamp() as now) as clock
where id = :worker
returning (
  select 1 + count(*) from worker as w
  where w.id not in (:worker, cast(:nobody as uuid))
    and clock.now - w.seen <= w.lease_ms * interval '1 millisecond'
) as living
