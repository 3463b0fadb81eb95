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
-- What should not wait lies, in the order of the index, between one appliance that is closed and the
-- next. So the cost grows with the appliances that are closed, not with what waits for them. Of that
-- only what is on its way back is looked at one by one: it had begun when its appliance closed, so
-- it is never much.
--
-- Locks: the rows freed; nobody waits.
-- Lives on: ix_pairing_waiting, ix_pairing_way_back, pk_pairing, ix_side_appliance_pairing_id,
-- uq_appliance_name, pk_appliance_health.
with closed as materialized (
  select a.name
  from appliance_health as h
  join appliance as a on a.id = h.appliance_id
  where h.closed_since is not null
),
gaps as materialized (
  -- No name is before the one, or behind the other.
  select name as low, lead(name, 1, '~') over (order by name) as high
  from (select '' as name union all select name from closed) as fences
),
clock as materialized (
  select cast(extract(epoch from clock_timestamp()) * 1000 as bigint) as now
),
needless as materialized (
  select between_two.id
  from gaps as g
  cross join lateral (
    select id
    from pairing
    where waits_for > g.low and waits_for < g.high
    for update skip locked
  ) as between_two
),
-- Arrays keep to the index, however many the planner takes them for.
late as materialized (
  select id
  from pairing
  where waits_for = any(array(select name from closed))
    and deadline <= (select now from clock)
  for update skip locked
),
ways_back as materialized (
  select p.id
  from clock
  cross join pairing as p
  join appliance as a
    on a.name = case p.waits_for when p.couple_low then p.couple_high else p.couple_low end
  join appliance_health as h on h.appliance_id = a.id
  where h.closed_since is null
    and h.back_since > clock.now - 20000
    -- What goes back has an error, why it does; what was left behind and is retried has it still.
    and p.waits_for is not null
    and p.error is not null
    and coalesce(p.phase, 'ROLLING_BACK') = 'ROLLING_BACK'
    and (
      select s.state <> 'ROLLBACK_FAILED' or p.phase is null
      from side as s
      where s.pairing_id = p.id and s.appliance = a.name and s.call in ('pair', 'unpair')
    )
),
turned_back as materialized (
  select id
  from pairing
  where id = any(array(select id from ways_back))
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
