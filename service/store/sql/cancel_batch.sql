-- Notes that up to :limit of a batch's pairings, those behind :after, are not wanted any more; how
-- many they were, and the last one's id.
--
-- Why it is right: each wish is what it is for a single pairing (cancels.py): it is noted beside the
-- pairing, and who drives it takes it into the chain. Whoever asks again, or when one is over,
-- changes nothing. A pairing that is set aside becomes due. A pairing that is retried meanwhile and
-- behind :after is canceled too.
--
-- Locks: the rows noted, in the order of their ids, as the journal locks them.
-- Lives on: ix_pairing_batch_id, pk_pairing.
with unwanted as materialized (
  select id
  from pairing
  where batch = :batch and id > :after and end_time is null and cancel_user is null
  order by id
  limit :limit
  for update
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
select
  (select count(*) from noted) as noted,
  (select id from noted order by id desc limit 1) as last,
  (select count(*) from told) as told
