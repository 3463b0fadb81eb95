-- Declares those workers dead whose last beat is older than their lease. Says who they are, and in
-- how many seconds the next lease ends, unless its worker beats; null: there is none.
--
-- Why it is right: a row that was beaten while this ran is read anew under its lock, and no longer
-- fits. Whoever claims holds the row's lock too, and is passed over until the next time. With the
-- row locked nobody can own anything more in that worker's name (claim.sql), so the statement
-- after this one, in the same transaction, sees all that the dead one held (free.sql).
--
-- After the database was away, every row is old. So nobody judges before it has been there without
-- a gap for a whole lease (beat.sql): whoever lives has beaten since then. The gap may be since the
-- judge's own last beat, too; so nor does anybody judge who has not beaten within half a lease. A row
-- from the future is as dead as an old one: the clock went back, and whoever lives has beaten by the
-- new one since. Nobody's row (leave.sql) goes in the same way; that is no news.
--
-- Locks: the rows of the dead; nobody waits.
-- Lives on: pk_worker. The table has a row for each process.
with judge as (
  select from worker
  where id = :worker and clock_timestamp() - steady_since > lease_ms * interval '1 millisecond'
    and clock_timestamp() - seen between interval '0' and lease_ms / 2 * interval '1 millisecond'
),
dead as materialized (
  select id
  from worker
  where exists (select from judge)
    and clock_timestamp() - seen not between
      -lease_ms * interval '1 millisecond' and lease_ms * interval '1 millisecond'
  for update skip locked
),
buried as (
  delete from worker
  using dead
  where worker.id = dead.id
  returning worker.id
),
others as (
  select seen + lease_ms * interval '1 millisecond' - clock_timestamp() as left_over
  from worker
  where id <> :worker
)
select
  array(select id from buried where id <> cast(:nobody as uuid)) as dead,
  cast(extract(epoch from min(left_over)) as double precision) as next_s
from others
where left_over >= interval '0'
