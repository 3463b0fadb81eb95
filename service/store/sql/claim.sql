-- Makes a worker the owner of up to :limit due pairings. Says all that it takes to drive them.
-- Those that could only wait for an appliance that is closed are set aside for it, unless their
-- time is over, or they have to turn back, which needs no appliance: because somebody wants them
-- canceled, or a side has failed. Either may be in the chain already, if who took it in stopped or
-- died. On the way back they wait only if all that is left to be undone is where nobody answers.
--
-- Who is next: lines take turns, whatever their length. Each of them gets a share of :limit, one
-- pairing at least, so that nobody starves; each 10 more of priority double the rest of the share.
-- In a line the oldest goes first. Of more lines than :most a claim sees those from :since on, and
-- tells where the next one has to begin.
--
-- Why it is right: a pairing is due when nobody holds it and it waits for nothing. `for update
-- skip locked` gives each to one claimer, who does not wait for the others; the lock is taken on
-- the newest version of the row, so one that somebody else has claimed meanwhile no longer fits.
-- `taken` is the only proof of ownership. The raised epoch shuts out whoever held it before.
-- What was skipped, because somebody else is about to claim it, is not in the way of the others:
-- a line that brought less than its share has no more for now.
--
-- Only who lives may own. `alive` keeps the worker's row as it is until the claim is committed:
-- whoever buries the worker waits for that, and frees afterwards what was claimed (bury.sql). If
-- the row is gone already, nothing is claimed.
--
-- An appliance that opens at this very moment misses what is set aside here; whoever buries looks
-- for that (unpark.sql).
--
-- Locks: the worker's row, then the rows taken, in the order of the index; for those nobody waits.
-- Lives on: ix_pairing_due, which holds nothing but the backlog; `lines` steps in it from one line
-- to the next. pk_pairing, pk_side, pk_worker, uq_appliance_name, uq_appliance_api_url_normalized.
with recursive alive as materialized (
  select id from worker where id = :worker for key share
),
closed as materialized (
  select a.name
  from appliance_health as h
  join appliance as a on a.id = h.appliance_id
  where h.closed_since is not null
),
clock as materialized (
  select cast(extract(epoch from clock_timestamp()) * 1000 as bigint) as now
),
lines as (
  (
    select p.line, 1 as place
    from pairing as p
    where p.worker is null
      and p.waits_for is null
      and p.state in ('QUEUED', 'RUNNING')
      and p.line >= cast(:since as text)
      and exists (select from alive)
    order by p.line
    limit 1
  )
  union all
  select
    (
      select p.line
      from pairing as p
      where p.worker is null
        and p.waits_for is null
        and p.state in ('QUEUED', 'RUNNING')
        and p.line > l.line
      order by p.line
      limit 1
    ),
    l.place + 1
  from lines as l
  where l.line is not null and l.place < least(cast(:most as bigint), cast(:limit as bigint))
),
weighed as materialized (
  select line, power(2, case line when '' then 0 else cast(left(line, 4) as integer) / 10.0 end) as weight
  from lines
  where line is not null
),
shares as materialized (
  select
    line,
    1 + cast(
      floor((cast(:limit as bigint) - count(*) over ()) * weight / sum(weight) over ()) as bigint
    ) as size
  from weighed
),
due as materialized (
  select first.*, s.line, s.size
  from shares as s
  cross join lateral (
    select
      p.id,
      p.couple_low,
      p.couple_high,
      coalesce(p.deadline, p.start_time + p.timeout_s * 1000) as deadline,
      p.cancel_user is not null
        and (not p.is_canceling or p.phase in ('PAIRING', 'VERIFYING')) as is_to_be_canceled,
      -- What was left behind and is retried is on its way back, and has its error still.
      coalesce(p.phase, case when p.error is not null then 'ROLLING_BACK' end) as phase
    from pairing as p
    where p.worker is null
      and p.waits_for is null
      and p.state in ('QUEUED', 'RUNNING')
      -- Said so, and not as `=`, no index but its own has this order. With the primary key's the
      -- planner would try its luck while most of what it knows of is due, and pass by all history.
      and p.line >= s.line
      and p.line <= s.line
    order by p.line, p.id
    limit s.size
    for update of p skip locked
  ) as first
),
next_one as materialized (
  select
    case when count(*) = least(cast(:most as bigint), cast(:limit as bigint)) then max(line) end as last_line,
    exists (
      select from due group by line, size having count(*) = size
    ) as is_more_behind
  from weighed
),
-- Arrays keep to the index, however many the planner takes them for.
doomed as materialized (
  select s.pairing_id as id
  from side as s
  where s.pairing_id = any(array(select id from due where phase in ('PAIRING', 'VERIFYING')))
    and s.state = 'FAILED'
),
stuck as materialized (
  select s.pairing_id as id, min(s.appliance) as waits_for
  from side as s
  where s.pairing_id = any(array(select id from due where phase = 'ROLLING_BACK'))
    and s.call in ('pair', 'unpair')
  group by s.pairing_id
  having bool_and(s.appliance in (select name from closed))
),
judged as materialized (
  select
    d.id,
    d.deadline,
    case
      when d.deadline <= clock.now or d.is_to_be_canceled then null
      when d.phase = 'ROLLING_BACK' then s.waits_for
      when d.id not in (select id from doomed) then (
        select min(c.name) from closed as c where c.name in (d.couple_low, d.couple_high)
      )
    end as waits_for
  from clock
  cross join due as d
  left join stuck as s on s.id = d.id
),
set_aside as (
  update pairing as p
  set waits_for = (select j.waits_for from judged as j where j.id = p.id),
      deadline = (select j.deadline from judged as j where j.id = p.id)
  where p.id = any(array(select id from judged where waits_for is not null))
  returning p.id
),
taken as (
  update pairing as p
  set worker = :worker, epoch = p.epoch + 1
  where p.id = any(array(select id from judged where waits_for is null))
  returning p.*
)
select
  (select count(*) from set_aside) as set_aside,
  n.last_line,
  n.is_more_behind,
  t.*,
  a.appliance as a_appliance, a.peer as a_peer, a.state as a_state, a.task_id as a_task_id,
  a.start_time as a_start_time, a.end_time as a_end_time, cast(a.result as text) as a_result,
  a.error as a_error, a.attempts as a_attempts, a.call as a_call, a.losses as a_losses,
  a.asked_thumbprint as a_asked_thumbprint,
  -- What another appliance has as its URL by now says nothing about this one any more.
  case
    when a.asked_url is not null and not exists (
      select from appliance as o where o.api_url_normalized = a.asked_url and o.name <> a.peer
    ) then a.asked_url
  end as a_asked_url,
  a.called_url as a_called_url,
  b.appliance as b_appliance, b.peer as b_peer, b.state as b_state, b.task_id as b_task_id,
  b.start_time as b_start_time, b.end_time as b_end_time, cast(b.result as text) as b_result,
  b.error as b_error, b.attempts as b_attempts, b.call as b_call, b.losses as b_losses,
  b.asked_thumbprint as b_asked_thumbprint,
  case
    when b.asked_url is not null and not exists (
      select from appliance as o where o.api_url_normalized = b.asked_url and o.name <> b.peer
    ) then b.asked_url
  end as b_asked_url,
  b.called_url as b_called_url,
  x.id as a_registration, x.api_url as a_api_url, x.api_thumbprint as a_api_thumbprint,
  x.version as a_version,
  -- Likewise.
  case
    when x.former_api_url is not null then array(
      select f.url
      from unnest(array_prepend(x.former_api_url, x.older_api_urls))
        with ordinality as f (url, place)
      where not exists (select from appliance as o where o.api_url_normalized = f.url)
      order by f.place
    )
  end as a_former_api_urls,
  y.id as b_registration, y.api_url as b_api_url, y.api_thumbprint as b_api_thumbprint,
  y.version as b_version,
  case
    when y.former_api_url is not null then array(
      select f.url
      from unnest(array_prepend(y.former_api_url, y.older_api_urls))
        with ordinality as f (url, place)
      where not exists (select from appliance as o where o.api_url_normalized = f.url)
      order by f.place
    )
  end as b_former_api_urls,
  -- By the database's clock, which is the same for all workers.
  (coalesce(t.deadline, t.start_time + t.timeout_s * 1000) - clock.now) / 1000.0 as remaining_s
from clock
cross join next_one as n
-- One row at least, so that what was set aside is told even if nothing was taken.
left join taken as t on true
left join side as a on a.pairing_id = t.id and a.ordinal = 0
left join side as b on b.pairing_id = t.id and b.ordinal = 1
-- An appliance with active pairings is never deleted. Were one gone, its pairing has to come to
-- an end all the same, and the others that were taken with it must not suffer.
left join appliance as x on x.name = a.appliance
left join appliance as y on y.name = b.appliance
order by t.id
