-- Opens an appliance to everybody, and makes due what was set aside for it.
--
-- On its way back a pairing goes on as soon as either of its two appliances answers, whichever of
-- them it waits for: what is left on this one can be undone. If nothing is, the next claim sets it
-- aside again. There is one at most with each appliance that is closed.
--
-- Why it is right: what is set aside at this very moment, by who saw it closed before, is not seen
-- here; whoever buries looks for that (unpark.sql). With :contact it answered just now; without, it is
-- another one by now, and what it was like before says nothing of it.
--
-- Locks: the rows freed, in the order of their ids, then its row of health: PostgreSQL carries out
-- last what nothing else reads. Whoever holds such a row of health wants no pairing any more.
-- Lives on: ix_pairing_waiting, uq_pairing_active_couple, pk_pairing, uq_appliance_name,
-- pk_appliance_health.
with clock as materialized (
  select cast(extract(epoch from clock_timestamp()) * 1000 as bigint) as now
),
opened as (
  update appliance_health as h
  set closed_since = null,
      closed_error = null,
      probe_time = null,
      away_since = case when :contact then coalesce(h.closed_since, h.away_since) end,
      back_since = case when h.closed_since is null then h.back_since else clock.now end,
      last_contact = case
        when :contact then clock.now
        else h.last_contact
      end
  from appliance as a
  cross join clock
  where a.name = :name and h.appliance_id = a.id
),
turned_back as materialized (
  select active.id
  from appliance_health as h
  join appliance as a on a.id = h.appliance_id
  -- Looked up by couple, and only then asked what it waits for: else, as long as it is not counted
  -- how many wait, all that do so for `a` would be passed by.
  cross join lateral (
    select
      p.id,
      p.waits_for,
      coalesce(p.phase, case when p.error is not null then 'ROLLING_BACK' end) as phase
    from pairing as p
    where p.couple_low = least(a.name, cast(:name as text))
      and p.couple_high = greatest(a.name, cast(:name as text))
      and p.state in ('QUEUED', 'RUNNING')
    limit 1
  ) as active
  where h.closed_since is not null
    and active.waits_for = a.name
    and active.phase = 'ROLLING_BACK'
),
waiting as materialized (
  select id
  from pairing
  where id = any(array(
    select id from pairing where waits_for = :name union all select id from turned_back
  ))
  order by id
  for update
),
freed as (
  update pairing
  set waits_for = null
  -- An array keeps to the index, however many the planner takes them for.
  where id = any(array(select id from waiting))
  returning id
),
told as (
  select pg_notify('sitepair_due', '') where exists (select from freed)
)
select count(*) as freed, (select count(*) from told) as told from freed
