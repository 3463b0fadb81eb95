-- Gives up all that :worker owns besides :driven, state untouched, and tells the others.
--
-- Why it is right: only an owner gives up, and a claim that came in between has made somebody
-- else the owner. The epoch stays: the next claim raises it. A claim of this worker's own whose
-- answer was lost may be on its way still: the caller has locked the worker's row before, which
-- waits for such a claim, and lets none begin.
--
-- Locks: the rows given up, in the order of their ids.
-- Lives on: ix_pairing_held, pk_pairing.
with held as materialized (
  select p.id
  from pairing as p
  where p.worker = :worker
    and not exists (
      select from unnest(cast(:driven as uuid[])) as d (id) where d.id = p.id
    )
  order by p.id
  for update
),
freed as (
  update pairing
  set worker = null
  -- An array keeps to the index, however many the planner takes them for.
  where id = any(array(select id from held))
  returning id
),
told as (
  select pg_notify('sitepair_due', '') where exists (select from freed)
)
select freed.id, (select count(*) from told) as told from freed
