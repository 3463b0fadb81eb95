-- Makes a worker the owner of up to :limit due pairings: the highest priority first, then the
-- oldest. Says all that it takes to drive them. Those that could only wait for an appliance that
-- is closed are set aside for it, unless their time is over or somebody wants them canceled:
-- then there is something to do without it.
--
-- Why it is right: a pairing is due when nobody holds it and it waits for nothing. `for update
-- skip locked` gives each to one claimer, who does not wait for the others; the lock is taken on
-- the newest version of the row, so one that somebody else has claimed meanwhile no longer fits.
-- `taken` is the only proof of ownership. The raised epoch shuts out whoever held it before.
--
-- Only who lives may own. `alive` keeps the worker's row as it is until the claim is committed:
-- whoever buries the worker waits for that, and frees afterwards what was claimed (bury.sql). If
-- the row is gone already, nothing is claimed.
--
-- An appliance that opens at this very moment misses what is set aside here; whoever buries looks
-- for that (unpark.sql).
--
-- Locks: the worker's row, then the rows taken, in the order of the index; for those nobody waits.
-- Lives on: ix_pairing_due, which holds nothing but the backlog; pk_worker.
with alive as materialized (
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
due as materialized (
  select
    p.id,
    p.couple_low,
    p.couple_high,
    coalesce(p.deadline, p.start_time + p.timeout_s * 1000) as deadline,
    p.cancel_user is not null and not p.is_canceling as is_to_be_canceled
  from pairing as p
  where p.worker is null
    and p.waits_for is null
    and p.state in ('QUEUED', 'RUNNING')
    and exists (select from alive)
  order by p.priority desc, p.id
  limit :limit
  for update of p skip locked
),
judged as materialized (
  select
    d.id,
    d.deadline,
    (
      select min(c.name) from closed as c
      where c.name in (d.couple_low, d.couple_high)
        and d.deadline > clock.now
        and not d.is_to_be_canceled
    ) as waits_for
  from due as d, clock
),
set_aside as (
  update pairing as p
  set waits_for = j.waits_for, deadline = j.deadline
  from judged as j
  where p.id = j.id and j.waits_for is not null
  returning p.id
),
taken as (
  update pairing as p
  set worker = :worker, epoch = p.epoch + 1
  from judged as j
  where p.id = j.id and j.waits_for is null
  returning p.*
)
select
  (select count(*) from set_aside) as set_aside,
  t.*,
  a.appliance as a_appliance, a.peer as a_peer, a.state as a_state, a.task_id as a_task_id,
  a.start_time as a_start_time, a.end_time as a_end_time, a.result as a_result,
  a.error as a_error, a.attempts as a_attempts, a.call as a_call, a.losses as a_losses,
  a.asked_thumbprint as a_asked_thumbprint,
  b.appliance as b_appliance, b.peer as b_peer, b.state as b_state, b.task_id as b_task_id,
  b.start_time as b_start_time, b.end_time as b_end_time, b.result as b_result,
  b.error as b_error, b.attempts as b_attempts, b.call as b_call, b.losses as b_losses,
  b.asked_thumbprint as b_asked_thumbprint,
  x.id as a_registration, x.api_url as a_api_url, x.api_thumbprint as a_api_thumbprint,
  x.version as a_version, xf.url as a_former_api_url,
  y.id as b_registration, y.api_url as b_api_url, y.api_thumbprint as b_api_thumbprint,
  y.version as b_version, yf.url as b_former_api_url,
  -- By the database's clock, which is the same for all workers.
  (coalesce(t.deadline, t.start_time + t.timeout_s * 1000) - clock.now) / 1000.0 as remaining_s
from clock
-- One row at least, so that what was set aside is told even if nothing was taken.
left join taken as t on true
left join side as a on a.pairing_id = t.id and a.ordinal = 0
left join side as b on b.pairing_id = t.id and b.ordinal = 1
-- An appliance with active pairings is never deleted. Were one gone, its pairing has to come to
-- an end all the same, and the others that were taken with it must not suffer.
left join appliance as x on x.name = a.appliance
left join appliance as y on y.name = b.appliance
-- What another appliance has as its URL by now says nothing about this one any more.
left join lateral (
  select x.former_api_url as url
  where not exists (select from appliance as o where o.api_url_normalized = x.former_api_url)
) as xf on true
left join lateral (
  select y.former_api_url as url
  where not exists (select from appliance as o where o.api_url_normalized = y.former_api_url)
) as yf on true
order by t.priority desc, t.id
