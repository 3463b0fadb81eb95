-- Opens an appliance to everybody, and makes due what was set aside for it.
--
-- Why it is right: what is set aside at this very moment, by who saw it closed before, is not seen
-- here; whoever buries looks for that (unpark.sql). With :contact it answered just now.
--
-- Locks: the rows freed, in the order of their ids, then its row of health: PostgreSQL carries out
-- last what nothing else reads. Whoever holds such a row of health wants no pairing any more.
-- Lives on: ix_pairing_waiting, pk_pairing, uq_appliance_name, pk_appliance_health.
with opened as (
  update appliance_health as h
  set closed_since = null,
      closed_error = null,
      probe_time = null,
      last_contact = case
        when :contact then cast(extract(epoch from clock_timestamp()) * 1000 as bigint)
        else h.last_contact
      end
  from appliance as a
  where a.name = :name and h.appliance_id = a.id
),
waiting as materialized (
  select id from pairing where waits_for = :name order by id for update
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
