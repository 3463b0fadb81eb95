-- Takes turns to log in on appliances, or says why there is none.
--
-- Why it is right: the row of an appliance is one, so of many who ask at once each sees what the one
-- before has written. A turn ends when it is given back, when its owner, a worker, is buried, or by
-- itself, for what became of its taker may never be known. Credentials that were refused give no turn
-- any more, whoever was refused, nor do older ones, which were taken back; newer ones do. `taken` is
-- the only proof of a turn; who asks again for the one that he holds, because the answer was lost, has
-- it. No appliance is asked for twice.
-- Whose row somebody else holds has no turn yet: so one that is held for long keeps nobody else.
--
-- Locks: the rows of health; nobody waits, but for who makes the same row for the first time.
-- Lives on: pk_appliance, pk_appliance_health, pk_worker.
with asked as materialized (
  select *
  from unnest(
    cast(:appliances as uuid[]),
    cast(:turns as uuid[]),
    cast(:owners as uuid[]),
    cast(:versions as bigint[])
  ) as asked (appliance, turn, owner, credentials_version)
),
held as materialized (
  select h.appliance_id
  from asked
  join appliance_health as h on h.appliance_id = asked.appliance
  for update of h skip locked
),
taken as (
  insert into appliance_health as h (appliance_id, login_worker, login_until, login_owner)
  select a.id, asked.turn, clock_timestamp() + make_interval(secs => :lasts_s), asked.owner
  from asked
  join appliance as a on a.id = asked.appliance
  where a.id in (select held.appliance_id from held)
    or not exists (select from appliance_health as h where h.appliance_id = a.id)
  order by a.name
  on conflict (appliance_id) do update
  set
    login_worker = excluded.login_worker,
    login_until = excluded.login_until,
    login_owner = excluded.login_owner
  where coalesce(h.refused_version, 0) < (
      select asked.credentials_version from asked where asked.appliance = h.appliance_id
    )
    and (
      h.login_until is null
      or h.login_worker = excluded.login_worker
      or h.login_until < clock_timestamp()
      or (
        h.login_owner is not null
        and not exists (select from worker as w where w.id = h.login_owner)
      )
    )
  returning h.appliance_id
)
select
  asked.appliance,
  asked.appliance in (select taken.appliance_id from taken) as is_taken,
  a.id is not null as is_known,
  -- As it was when the statement began: for who took no turn, why that may be.
  h.refused_error,
  h.refused_status
from asked
left join appliance as a on a.id = asked.appliance
left join appliance_health as h
  on h.appliance_id = asked.appliance and h.refused_version >= asked.credentials_version
