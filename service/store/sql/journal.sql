-- Writes what happened to many pairings: their state, the sides that moved, their events.
--
-- Why it is right: a change is bound to the epoch that its worker's claim raised, and to the place
-- in the chain that it follows on. `granted` is the only proof of either: a change whose pairing
-- is not in it leaves no trace, neither in `side` nor in `event`. One statement is one
-- transaction, so events and state cannot part.
--
-- Locks: the rows of `pairing` in the order of their ids (the arrays are sorted), then their
-- sides. Two workers meet on a row only when one of them has lost it.
-- Lives on: pk_pairing, pk_side.
with granted as (
  update pairing as p
  set state = c.state,
      phase = c.phase,
      last_updated = c.last_updated,
      end_time = c.end_time,
      error = c.error,
      seq = c.seq,
      head = c.head,
      worker = case when c.given_up then null else p.worker end
  from unnest(
    cast(:ids as uuid[]),
    cast(:epochs as bigint[]),
    cast(:followed as bigint[]),
    cast(:states as text[]),
    cast(:phases as text[]),
    cast(:last_updated as bigint[]),
    cast(:end_times as bigint[]),
    cast(:errors as json[]),
    cast(:seqs as bigint[]),
    cast(:heads as bytea[]),
    cast(:given_up as boolean[])
  ) as c (id, epoch, followed, state, phase, last_updated, end_time, error, seq, head, given_up)
  where p.id = c.id
    and p.epoch = c.epoch
    -- Without it, a change after one that failed would leave a hole in the chain.
    and p.seq = c.followed
  returning p.id, p.epoch, c.given_up, c.end_time is not null as is_over
),
moved as (
  update side as s
  set state = c.state,
      task_id = c.task_id,
      attempts = c.attempts,
      start_time = c.start_time,
      end_time = c.end_time,
      result = c.result,
      error = c.error
  from unnest(
    cast(:side_pairings as uuid[]),
    cast(:side_epochs as bigint[]),
    cast(:side_ordinals as bigint[]),
    cast(:side_states as text[]),
    cast(:side_tasks as text[]),
    cast(:side_attempts as bigint[]),
    cast(:side_starts as bigint[]),
    cast(:side_ends as bigint[]),
    cast(:side_results as json[]),
    cast(:side_errors as json[])
  ) as c (
    pairing_id, epoch, ordinal, state, task_id, attempts, start_time, end_time, result, error
  )
  join granted as g on g.id = c.pairing_id and g.epoch = c.epoch
  where s.pairing_id = c.pairing_id and s.ordinal = c.ordinal
),
recorded as (
  insert into event (chain, seq, at, type, appliance, actor, operation_id, detail, hash)
  select e.chain, e.seq, e.at, e.type, e.appliance, e.actor, e.operation_id, e.detail, e.hash
  from unnest(
    cast(:chains as uuid[]),
    cast(:chain_epochs as bigint[]),
    cast(:entry_seqs as bigint[]),
    cast(:ats as timestamptz[]),
    cast(:types as text[]),
    cast(:appliances as text[]),
    cast(:actors as text[]),
    cast(:operation_ids as text[]),
    cast(:details as json[]),
    cast(:hashes as bytea[])
  ) as e (chain, epoch, seq, at, type, appliance, actor, operation_id, detail, hash)
  join granted as g on g.id = e.chain and g.epoch = e.epoch
),
-- Told at commit, and not at all if there is none. 200 ids fit into a payload (8,000 bytes).
told_over as (
  select pg_notify('sitepair_over', string_agg(over.id::text, ','))
  from (
    select id, (row_number() over () - 1) / 200 as payload from granted where is_over
  ) as over
  group by over.payload
),
told_due as (
  select pg_notify('sitepair_due', '')
  where exists (select from granted where given_up and not is_over)
)
select
  g.id,
  g.epoch,
  (select count(*) from told_over) as told_over,
  (select count(*) from told_due) as told_due
from granted as g
