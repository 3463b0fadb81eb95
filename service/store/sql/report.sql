-- These appliances do not answer: they are closed to everybody, and a probe tries them again.
--
-- Why it is right: who reports first sets since when; who reports later only says why. Until the
-- next probe it takes a second, and a quarter of the time that the appliance has been away on top,
-- up to 15 s: one that was away for a moment is back at once, one that is down is not bothered.
-- One that was back for less than 15 s counts as away all along: else all that waits for it would
-- be begun and set aside every few seconds, for nothing. All by the database's clock.
--
-- Locks: the appliances against deletion, in the order of their names, then their rows of health.
-- Lives on: uq_appliance_name, pk_appliance_health.
with clock as materialized (
  select clock_timestamp() as now
),
told as materialized (
  select a.id, t.error
  from unnest(cast(:names as text[]), cast(:errors as json[])) as t (name, error)
  join appliance as a on a.name = t.name
  order by a.name
  for key share of a
)
insert into appliance_health as h (appliance_id, closed_since, closed_error, probe_time)
select
  told.id,
  cast(extract(epoch from clock.now) * 1000 as bigint),
  told.error,
  clock.now + interval '1 second'
from told, clock
on conflict (appliance_id) do update
set closed_error = excluded.closed_error,
    (closed_since, probe_time) = (
      select
        since,
        excluded.probe_time
          + least(interval '14 seconds', (excluded.closed_since - since) / 4 * interval '1 millisecond')
      from coalesce(
        h.closed_since,
        case when excluded.closed_since - h.back_since < 15000 then h.away_since end,
        excluded.closed_since
      ) as since
    )
