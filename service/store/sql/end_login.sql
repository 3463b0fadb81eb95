-- Notes how a login ended, and gives the turn back.
--
-- Why it is right: a refusal counts whenever it comes, also from a turn that took too long and was
-- taken by somebody else meanwhile; but only who holds the turn gives it back. A login that got in
-- lifts a refusal of the same credentials, or of older ones.
--
-- Locks: the row of one appliance.
-- Lives on: pk_appliance_health.
insert into appliance_health as h (
  appliance_id, refused_version, refused_status, refused_error, last_contact
)
select a.id, :refused_version, :status, cast(:error as json), :contact
from appliance as a
where a.id = :appliance
on conflict (appliance_id) do update
set
  login_worker = case when h.login_worker = :turn then null else h.login_worker end,
  login_until = case when h.login_worker = :turn then null else h.login_until end,
  login_owner = case when h.login_worker = :turn then null else h.login_owner end,
  refused_version = case when :is_news then excluded.refused_version else h.refused_version end,
  refused_status = case when :is_news then excluded.refused_status else h.refused_status end,
  refused_error = case when :is_news then excluded.refused_error else h.refused_error end,
  last_contact = coalesce(excluded.last_contact, h.last_contact)
