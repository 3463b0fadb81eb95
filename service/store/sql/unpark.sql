-- Makes those due again that were set aside and should not be: their appliance is open, or gone,
-- or their time is over; or they are on their way back and can be undone on their other one.
--
-- Why it is right: whoever opens an appliance frees what waits for it, but does not see what is set
-- aside at the same moment, on the strength of what was true before. That is found here, by the
-- next worker that buries, and so is what has waited for too long. A wish to cancel needs no
-- looking for: it is written to the row itself, and nobody sets aside a row that has one.
--
-- Whoever sets aside knows within seconds that the other one opened, so those are looked at that did
-- in the last 20 s. What that one refused to undo does not count: it would be begun in vain each time;
-- unless it is retried and was not begun since.
--
-- `waited_for` steps from one appliance to the next in the index, so the cost grows with the
-- appliances that are closed, times those that opened just now, not with what waits for them.
--
-- Locks: the rows freed; nobody waits.
-- Lives on: ix_pairing_waiting, uq_pairing_active_couple, pk_pairing, ix_side_appliance_pairing_id,
-- uq_appliance_name, pk_appliance_health.
with recursive waited_for as (
  (
    select waits_for as name from pairing where waits_for is not null order by waits_for limit 1
  )
  union all
  select (
    select p.waits_for from pairing as p
    where p.waits_for is not null and p.waits_for > w.name
    order by p.waits_for
    limit 1
  )
  from waited_for as w
  where w.name is not null
),
judged as materialized (
  select
    w.name,
    not exists (
      select from appliance as a
      join appliance_health as h on h.appliance_id = a.id
      where a.name = w.name and h.closed_since is not null
    ) as is_open
  from waited_for as w
  where w.name is not null
),
clock as materialized (
  select cast(extract(epoch from clock_timestamp()) * 1000 as bigint) as now
),
-- Arrays keep to the index, however many the planner takes them for.
needless as materialized (
  select id
  from pairing
  where waits_for = any(array(select name from judged where is_open))
  for update skip locked
),
late as materialized (
  select id
  from pairing
  where waits_for = any(array(select name from judged where not is_open))
    and deadline <= (select now from clock)
  for update skip locked
),
ways_back as materialized (
  select active.id
  from clock
  join appliance_health as h on h.closed_since is null and h.back_since > clock.now - 20000
  join appliance as a on a.id = h.appliance_id
  join judged as j on not j.is_open
  -- Looked up by couple, and only then asked what it waits for: else, as long as it is not counted
  -- how many wait, all that do so for `j` would be passed by, once for each that opened.
  cross join lateral (
    select
      p.id,
      p.waits_for,
      -- What was left behind and is retried is on its way back, and has its error still.
      coalesce(p.phase, case when p.error is not null then 'ROLLING_BACK' end) as phase,
      (
        select s.state <> 'ROLLBACK_FAILED' or p.phase is null
        from side as s
        where s.pairing_id = p.id and s.appliance = a.name and s.call in ('pair', 'unpair')
      ) as is_left_there
    from pairing as p
    where p.couple_low = least(a.name, j.name)
      and p.couple_high = greatest(a.name, j.name)
      and p.state in ('QUEUED', 'RUNNING')
    limit 1
  ) as active
  where active.waits_for = j.name
    and active.phase = 'ROLLING_BACK'
    and active.is_left_there
),
turned_back as materialized (
  select id
  from pairing
  where id = any(array(select id from ways_back))
    and coalesce(waits_for, '') <> ''  -- Said so, and not as `is not null`, it is no index's own.
  for update skip locked
),
freed as (
  update pairing
  set waits_for = null
  where id = any(array(
    select id from needless union all select id from late union all select id from turned_back
  ))
  returning id
),
told as (
  select pg_notify('sitepair_due', '') where exists (select from freed)
)
select count(*) as freed, (select count(*) from told) as told from freed
