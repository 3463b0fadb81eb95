-- Frees all that is held in the name of a worker that has no row, and tells the others.
--
-- Why it is right: a claim takes effect only while its worker's row is there and locked (claim.sql),
-- and who removes a row comes here in the same transaction. So what is found in the name of nobody
-- was either held by whom this transaction has just removed, or was written by hand. A new
-- worker's row is committed before its first claim begins: it is never missed here. The epoch is
-- raised at once: from the commit on, no write of the dead worker takes effect.
--
-- What somebody has locked at this moment stays as it is: owned by who is dead, so by nobody else,
-- until the next burial finds it. Whoever buries has to beat meanwhile, and waits for no lock.
--
-- `holders` steps from one worker to the next in the index, so the cost grows with the workers.
--
-- Locks: the rows freed; nobody waits.
-- Lives on: ix_pairing_held, pk_pairing, pk_worker.
with recursive holders as (
  (
    select worker from pairing where worker is not null order by worker limit 1
  )
  union all
  select (
    select p.worker from pairing as p
    where p.worker is not null and p.worker > h.worker
    order by p.worker
    limit 1
  )
  from holders as h
  where h.worker is not null
),
gone as materialized (
  select h.worker
  from holders as h
  where h.worker is not null and not exists (select from worker where id = h.worker)
),
-- Arrays keep to the index, however many the planner takes them for.
held as materialized (
  select id
  from pairing
  where worker = any(array(select worker from gone))
  for update skip locked
),
freed as (
  update pairing
  set worker = null, epoch = epoch + 1
  where id = any(array(select id from held))
  returning id
),
told as (
  select pg_notify('sitepair_due', '') where exists (select from freed)
)
select count(*) as freed, (select count(*) from told) as told from freed
