-- Notes how logins ended, and gives their turns back.
--
-- Why it is right: a refusal counts whenever it comes, also from a turn that took too long and was
-- taken by somebody else meanwhile; but only who holds the turn gives it back. A login that got in
-- lifts a refusal of the same credentials, or of older ones. What older ones than those refused have
-- met, in the hands of who does not know the newer ones yet, changes nothing. Of a login of which
-- nothing is known there is no contact, and no news. No appliance is named twice. Whose row somebody
-- else holds is not `written` and has to be told again: so one that is held for long keeps nobody
-- else.
--
-- Locks: the rows of health; nobody waits, but for who makes the same row for the first time.
-- Lives on: pk_appliance, pk_appliance_health.
with told as materialized (
  select *, case when status is not null then version end as refused_version
  from unnest(
    cast(:appliances as uuid[]),
    cast(:turns as uuid[]),
    cast(:versions as bigint[]),
    cast(:statuses as bigint[]),
    cast(:errors as json[]),
    cast(:contacts as bigint[])
  ) as told (appliance, turn, version, status, error, contact)
),
held as materialized (
  select h.appliance_id
  from told
  join appliance_health as h on h.appliance_id = told.appliance
  for update of h skip locked
),
written as (
  insert into appliance_health as h (
    appliance_id, refused_version, refused_status, refused_error, last_contact
  )
  select a.id, told.refused_version, told.status, told.error, told.contact
  from told
  join appliance as a on a.id = told.appliance
  where a.id in (select held.appliance_id from held)
    or not exists (select from appliance_health as h where h.appliance_id = a.id)
  order by a.name
  on conflict (appliance_id) do update
  set
    (login_worker, login_until, login_owner) = (
      select
        case when h.login_worker is distinct from told.turn then h.login_worker end,
        case when h.login_worker is distinct from told.turn then h.login_until end,
        case when h.login_worker is distinct from told.turn then h.login_owner end
      from told
      where told.appliance = h.appliance_id
    ),
    (refused_version, refused_status, refused_error) = (
      select
        case when it.is_news then told.refused_version else h.refused_version end,
        case when it.is_news then told.status else h.refused_status end,
        case when it.is_news then told.error else h.refused_error end
      from told
      cross join lateral (
        select
          told.contact is not null and told.version >= coalesce(h.refused_version, 0) as is_news
      ) as it
      where told.appliance = h.appliance_id
    ),
    last_contact = coalesce(excluded.last_contact, h.last_contact)
  returning h.appliance_id
)
select
  told.appliance,
  told.appliance in (select written.appliance_id from written) as is_written,
  a.id is not null as is_known
from told
left join appliance as a on a.id = told.appliance
