-- Gives up what :worker owns of :ids, state untouched, and tells the others.
--
-- Why it is right: only an owner gives up, and a claim that came in between has made somebody
-- else the owner. The epoch stays: the next claim raises it.
-- Lives on: pk_pairing.
with freed as (
  update pairing
  set worker = null
  where id = any(cast(:ids as uuid[])) and worker = :worker
  returning id
),
told as (
  select pg_notify('sitepair_due', '') where exists (select from freed)
)
select freed.id, (select count(*) from told) as told from freed
