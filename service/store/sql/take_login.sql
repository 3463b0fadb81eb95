-- Takes the turn to log in on an appliance, or says why there is none.
--
-- Why it is right: the row of an appliance is one, so of many who ask at once each sees what the one
-- before has written. A turn ends when it is given back, or by itself, for whoever took it may be
-- dead. Credentials that were refused give no turn any more, whoever was refused; others do.
-- `taken` is the only proof of a turn.
--
-- Locks: the row of one appliance.
-- Lives on: pk_appliance_health.
with taken as (
  insert into appliance_health as h (appliance_id, login_worker, login_until)
  values (:appliance, :turn, clock_timestamp() + make_interval(secs => :lasts_s))
  on conflict (appliance_id) do update
  set login_worker = excluded.login_worker, login_until = excluded.login_until
  where h.refused_version is distinct from :credentials_version
    and (h.login_until is null or h.login_until < clock_timestamp())
  returning h.appliance_id
)
select
  exists (select from taken) as is_taken,
  -- As it was when the statement began: for who took no turn, why that may be.
  h.refused_error,
  h.refused_status
from (select 1) as one
left join appliance_health as h
  on h.appliance_id = :appliance and h.refused_version = :credentials_version
