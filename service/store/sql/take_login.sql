-- Takes the turn to log in on an appliance, or says why there is none.
--
-- Why it is right: the row of an appliance is one, so of many who ask at once each sees what the one
-- before has written. A turn ends when it is given back, when its owner, a worker, is buried, or by
-- itself, for what became of its taker may never be known. Credentials that were refused give no turn
-- any more, whoever was refused; others do. `taken` is the only proof of a turn.
--
-- Locks: the row of one appliance.
-- Lives on: pk_appliance_health, pk_worker.
with taken as (
  insert into appliance_health as h (appliance_id, login_worker, login_until, login_owner)
  values (:appliance, :turn, clock_timestamp() + make_interval(secs => :lasts_s), :owner)
  on conflict (appliance_id) do update
  set
    login_worker = excluded.login_worker,
    login_until = excluded.login_until,
    login_owner = excluded.login_owner
  where h.refused_version is distinct from :credentials_version
    and (
      h.login_until is null
      or h.login_until < clock_timestamp()
      or (
        h.login_owner is not null
        and not exists (select from worker as w where w.id = h.login_owner)
      )
    )
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
