-- Writes what happened to many pairings: their state, the sides that moved, their events.
--
-- Why it is right: a change is bound to the epoch that its worker's claim raised, and to the place
-- in the chain that it follows on. `granted` is the only proof of either: a change whose pairing
-- is not in it leaves no trace, neither in `side` nor in `event`. One statement is one
-- transaction, so events and state cannot part. Sent again it finds that `seq` has moved, and
-- changes nothing: whoever does not know what became of it may send it again, and asks
-- `journal_standing` about what is not granted then.
--
-- A pairing that is QUEUED after a change is tried again: it was over, so nobody holds it, and the
-- wish to cancel it was for the time before. One that is given up to wait for an appliance is due
-- all the same if somebody wants it canceled: the row knows, though its worker may not yet.
--
-- A batch's pairings are counted as they move: what `tallied` adds is the difference that the
-- granted changes make, so the sums over the slots are what counting the rows would give. Sent again
-- nothing is granted, and nothing added.
--
-- Locks: the rows of `pairing` in the order of their ids (the arrays are sorted, and lanes go by the
-- indexes: a whole table that is read has an order of its own), then their sides;
-- and, when all of `granted` is known, a row for each batch in the order of their ids. Whoever has
-- one of these wants no pairing any more. Two workers meet on a pairing only when one of them has
-- lost it, and on a tally only when their connections have the same slot.
-- Lists of what is short are spelt by store/arrays.py. Records and details are sent as they are, as
-- hashes are: spelt, each of their quotes would be quoted and read by itself. Lists are taken apart in
-- the select list, because for those in `from` PostgreSQL fills a table each, before it joins them.
-- Together that is a tenth of its time. Sides and entries name their pairing by its place among the
-- others.
-- Lives on: pk_pairing, pk_side, pk_batch_tally.
with granted as (
  update pairing as p
  set state_before = p.state,
      state = c.state,
      phase = c.phase,
      last_updated = c.last_updated,
      end_time = c.end_time,
      error = c.error,
      deadline = c.deadline,
      warnings = c.warnings,
      is_canceling = c.is_canceling,
      seq = c.seq,
      head = c.head,
      worker = case when c.given_up then null else p.worker end,
      waits_for = case when p.cancel_user is null or c.is_canceling then c.waits_for end,
      cancel_user = case when c.state = 'QUEUED' then null else p.cancel_user end,
      cancel_operation_id = case when c.state = 'QUEUED' then null else p.cancel_operation_id end
  from (
    select
      unnest(cast(cast(:places as text) as bigint[])) as place,
      unnest(cast(cast(:ids as text) as uuid[])) as id,
      unnest(cast(cast(:epochs as text) as bigint[])) as epoch,
      unnest(cast(cast(:followed as text) as bigint[])) as followed,
      unnest(cast(cast(:states as text) as text[])) as state,
      unnest(cast(cast(:phases as text) as text[])) as phase,
      unnest(cast(cast(:last_updated as text) as bigint[])) as last_updated,
      unnest(cast(cast(:end_times as text) as bigint[])) as end_time,
      unnest(cast(cast(:errors as text) as json[])) as error,
      unnest(cast(cast(:deadlines as text) as bigint[])) as deadline,
      unnest(cast(cast(:warnings as text) as json[])) as warnings,
      unnest(cast(cast(:cancelings as text) as boolean[])) as is_canceling,
      unnest(cast(cast(:seqs as text) as bigint[])) as seq,
      unnest(cast(:heads as bytea[])) as head,
      unnest(cast(cast(:given_up as text) as boolean[])) as given_up,
      unnest(cast(cast(:waits_for as text) as text[])) as waits_for
  ) as c
  where p.id = c.id
    and p.epoch = c.epoch
    -- Without it, a change after one that failed would leave a hole in the chain.
    and p.seq = c.followed
    -- Who wanted it canceled before it was over has been told that it will be.
    and (c.end_time is null or c.is_canceling or p.cancel_user is null)
  returning
    c.place,
    p.id,
    p.epoch,
    p.batch,
    p.state_before,
    p.state,
    p.end_time,
    c.end_time is not null as is_over,
    p.worker is null and p.waits_for is null and c.end_time is null as is_due
),
parted as materialized (
  select g.id, c.*
  from (
    select
      unnest(cast(cast(:side_places as text) as bigint[])) as place,
      unnest(cast(cast(:side_ordinals as text) as bigint[])) as ordinal,
      unnest(cast(cast(:side_states as text) as text[])) as state,
      unnest(cast(cast(:side_tasks as text) as text[])) as task_id,
      unnest(cast(cast(:side_attempts as text) as bigint[])) as attempts,
      unnest(cast(cast(:side_starts as text) as bigint[])) as start_time,
      unnest(cast(cast(:side_ends as text) as bigint[])) as end_time,
      unnest(cast(:side_results as json[])) as result,
      unnest(cast(cast(:side_errors as text) as json[])) as error,
      unnest(cast(cast(:side_calls as text) as text[])) as call,
      unnest(cast(cast(:side_losses as text) as bigint[])) as losses,
      unnest(cast(cast(:side_thumbprints as text) as text[])) as asked_thumbprint,
      unnest(cast(cast(:side_urls as text) as text[])) as asked_url,
      unnest(cast(cast(:side_called as text) as text[])) as called_url
  ) as c
  join granted as g on g.place = c.place
),
moved as (
  update side as s
  set state = c.state,
      task_id = c.task_id,
      attempts = c.attempts,
      start_time = c.start_time,
      end_time = c.end_time,
      result = c.result,
      error = c.error,
      call = c.call,
      losses = c.losses,
      asked_thumbprint = c.asked_thumbprint,
      asked_url = c.asked_url,
      called_url = c.called_url
  from parted as c
  where s.pairing_id = c.id and s.ordinal = c.ordinal
),
recorded as (
  insert into event (chain, seq, at, type, appliance, actor, operation_id, detail, hash)
  select
    g.id,
    e.seq,
    timestamptz 'epoch' + e.at * interval '1 millisecond',
    e.type,
    e.appliance,
    e.actor,
    e.operation_id,
    e.detail,
    e.hash
  from (
    select
      unnest(cast(cast(:entry_places as text) as bigint[])) as place,
      unnest(cast(cast(:entry_seqs as text) as bigint[])) as seq,
      unnest(cast(cast(:ats as text) as bigint[])) as at,
      unnest(cast(cast(:types as text) as text[])) as type,
      unnest(cast(cast(:appliances as text) as text[])) as appliance,
      unnest(cast(cast(:actors as text) as text[])) as actor,
      unnest(cast(cast(:operation_ids as text) as text[])) as operation_id,
      unnest(cast(:details as json[])) as detail,
      unnest(cast(:hashes as bytea[])) as hash
  ) as e
  join granted as g on g.place = e.place
),
tallied as (
  insert into batch_tally as t (
    batch, slot, queued, running, succeeded, failed, canceled, last_end
  )
  select
    g.batch,
    mod(pg_backend_pid(), 64),
    count(*) filter (where g.state = 'QUEUED') - count(*) filter (where g.state_before = 'QUEUED'),
    count(*) filter (where g.state = 'RUNNING')
      - count(*) filter (where g.state_before = 'RUNNING'),
    count(*) filter (where g.state = 'SUCCEEDED'),
    count(*) filter (where g.state = 'FAILED') - count(*) filter (where g.state_before = 'FAILED'),
    count(*) filter (where g.state = 'CANCELED')
      - count(*) filter (where g.state_before = 'CANCELED'),
    coalesce(max(g.end_time), 0)
  from granted as g
  where g.batch is not null and g.state <> g.state_before
  group by g.batch
  order by g.batch
  on conflict (batch, slot) do update
  set queued = t.queued + excluded.queued,
      running = t.running + excluded.running,
      succeeded = t.succeeded + excluded.succeeded,
      failed = t.failed + excluded.failed,
      canceled = t.canceled + excluded.canceled,
      last_end = greatest(t.last_end, excluded.last_end)
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
  where exists (select from granted where is_due)
)
select
  g.id,
  g.epoch,
  (select count(*) from told_over) as told_over,
  (select count(*) from told_due) as told_due
from granted as g
