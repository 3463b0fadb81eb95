-- A worker still lives. No row: it was declared dead, and owns nothing any more.
--
-- Why it is right: the time is the database's own, at the moment of the update, so it lies after
-- the moment in which the worker sent this, and the lease that the worker counts from there ends
-- first. Who buries holds the row's lock and removes it; whoever comes second sees what the first
-- one did: a beat finds no row, or a burial finds a fresh one.
--
-- A gap is more than half a lease without a beat, or a clock that went back: after it nobody's row
-- says anything about who lives, until all have had the time to beat again (bury.sql).
--
-- Locks: the worker's row, for no longer than this takes; claims are not in its way.
-- Lives on: pk_worker.
update worker
set seen = clock.now,
    steady_since = case
      when clock.now - seen between interval '0' and lease_ms / 2 * interval '1 millisecond'
      then steady_since
      else clock.now
    end
from (select clock_timestamp() as now) as clock
where id = :worker
returning id
