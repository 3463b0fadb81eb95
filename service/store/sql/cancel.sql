-- Notes that these pairings, sorted by id, are not wanted any more.
--
-- Why it is right: a wish is noted beside the pairing, and who drives it takes it into the chain.
-- Whoever asks again, or when one is over, changes nothing. A pairing that is set aside becomes due.
--
-- Locks: the rows noted, in the order of their ids, as the journal locks them.
-- Lives on: pk_pairing.
with unwanted as materialized (
  select one.id
  from unnest(cast(:ids as uuid[])) as wanted (id)
  -- One by one: asked for all in their order, PostgreSQL before 17 may read the whole index.
  cross join lateral (
    select id
    from pairing
    where id = wanted.id and end_time is null and cancel_user is null
    for update
  ) as one
),
noted as (
  update pairing
  set cancel_user = :user, cancel_operation_id = :operation_id, waits_for = null
  -- An array keeps to the index, however many the planner takes them for.
  where id = any(array(select id from unwanted))
  returning id
),
told as (
  select pg_notify(channel, '')
  from unnest(array['sitepair_due', 'sitepair_cancel']) as channel
  where exists (select from noted)
)
select count(*) as told from told
