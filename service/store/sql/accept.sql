-- Accepts many pairings at once, and says for each what became of it.
--
-- Why it is right: the caller sends no couple and no key twice in one statement, unless both
-- can only be answered with what is there. What is there is looked up first; what somebody else
-- commits in between violates a unique index, so nothing of the statement takes effect and the
-- caller asks again, which then finds it. Nobody but the caller knows the ids: one that is there
-- was accepted by this very statement, sent before. So whoever does not know what became of it
-- may send it again, even while the first one is under way.
--
-- Locks: `for key share` on the appliances, in the order of their names. Whoever deletes an
-- appliance holds its row and looks for active pairings afterwards: either we find it gone, or
-- they find our pairing.
-- Lives on: uq_appliance_name, pk_pairing, pk_idempotency, uq_pairing_active_couple.
with wanted as materialized (
  select *
  from unnest(
    cast(:ids as uuid[]),
    cast(:operations as text[]),
    cast(:ones as text[]),
    cast(:others as text[]),
    cast(:lows as text[]),
    cast(:highs as text[]),
    cast(:operation_ids as text[]),
    cast(:users as text[]),
    cast(:descriptions as text[]),
    cast(:priorities as bigint[]),
    cast(:timeouts as bigint[]),
    cast(:on_failures as text[]),
    cast(:times as bigint[]),
    cast(:heads as bytea[]),
    cast(:details as json[]),
    cast(:lines as text[]),
    cast(:keys as text[]),
    cast(:fingerprints as bytea[])
  ) as w (
    id, operation, one, other, low, high, operation_id, user_name, description, priority,
    timeout_s, on_failure, start_time, head, detail, line, key, fingerprint
  )
),
known as materialized (
  select name
  from appliance
  where name = any(cast(:names as text[]))
  order by name
  for key share
),
looked_up as materialized (
  select
    w.id,
    mine.id is not null as is_there,
    kept.pairing_id as kept_id,
    kept.fingerprint = w.fingerprint as kept_matches,
    active.id as active_id,
    w.one in (select name from known) as one_known,
    w.other in (select name from known) as other_known
  from wanted as w
  left join idempotency as kept on kept.principal = w.user_name and kept.key = w.key
  -- One look-up for each. As plain joins, they would be planned as a walk through the whole table
  -- whenever the statistics are from before there was one.
  left join lateral (
    select p.id
    from pairing as p
    where p.id = w.id
    limit 1
  ) as mine on true
  left join lateral (
    select a.id
    from pairing as a
    where a.couple_low = w.low
      and a.couple_high = w.high
      and a.state in ('QUEUED', 'RUNNING')
    limit 1
  ) as active on true
),
made as (
  insert into pairing (
    id, operation, state, couple_low, couple_high, operation_id, user_name, description, priority,
    timeout_s, on_failure, start_time, last_updated, epoch, seq, head, line
  )
  select
    w.id, w.operation, 'QUEUED', w.low, w.high, w.operation_id, w.user_name, w.description,
    w.priority, w.timeout_s, w.on_failure, w.start_time, w.start_time, 0, 1, w.head,
    w.line
  from wanted as w
  join looked_up as l on l.id = w.id
  where not l.is_there
    and l.kept_id is null
    and l.active_id is null
    and l.one_known
    and l.other_known
  returning id
),
sided as (
  insert into side (pairing_id, ordinal, appliance, peer, state, attempts)
  select w.id, s.ordinal, s.appliance, s.peer, 'PENDING', 0
  from made
  join wanted as w on w.id = made.id
  cross join lateral (values (0, w.one, w.other), (1, w.other, w.one)) as s (ordinal, appliance, peer)
),
kept as (
  insert into idempotency (principal, key, fingerprint, pairing_id, created)
  select w.user_name, w.key, w.fingerprint, w.id, w.start_time
  from made
  join wanted as w on w.id = made.id
  where w.key is not null
),
recorded as (
  insert into event (chain, seq, at, type, actor, operation_id, detail, hash)
  select
    -- The hash is over milliseconds: times them, so that nothing is rounded.
    w.id, 1, timestamptz 'epoch' + w.start_time * interval '1 millisecond',
    cast(:kind as text), w.user_name, w.operation_id, w.detail, w.head
  from made
  join wanted as w on w.id = made.id
),
told as (
  select pg_notify('sitepair_due', '') where exists (select from made)
)
select
  l.*,
  made.id is not null as is_made,
  (select count(*) from told) as told
from looked_up as l
left join made on made.id = l.id
