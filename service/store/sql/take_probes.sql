-- Takes the probes that it is time for: each is one caller's to make.
--
-- Why it is right: whoever takes a probe moves its time on in the same statement, so that nobody
-- else finds it. What the probe brings sets the time anew, or opens the appliance; should it bring
-- nothing, because whoever took it is dead, the next one takes it 20 s later.
--
-- Locks: the rows of health taken; nobody waits.
-- Lives on: pk_appliance_health. The table has a row for each appliance.
with ripe as materialized (
  select appliance_id
  from appliance_health
  where closed_since is not null and probe_time <= clock_timestamp()
  for update skip locked
)
update appliance_health as h
set probe_time = clock_timestamp() + interval '20 seconds'
from ripe, appliance as a
where h.appliance_id = ripe.appliance_id and a.id = ripe.appliance_id
returning a.name
