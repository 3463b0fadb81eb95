-- Makes a worker the owner of up to :limit due pairings: the highest priority first, then the
-- oldest. Says all that it takes to drive them.
--
-- Why it is right: a pairing is due when nobody holds it. `for update skip locked` gives each to
-- one claimer, who does not wait for the others; the lock is taken on the newest version of the
-- row, so one that somebody else has claimed meanwhile no longer fits. `taken` is the only proof
-- of ownership. The raised epoch shuts out whoever held it before.
--
-- Locks: the rows taken, in the order of the index; nobody waits.
-- Lives on: ix_pairing_due, which holds nothing but the backlog.
with due as (
  select id
  from pairing
  where worker is null and state in ('QUEUED', 'RUNNING')
  order by priority desc, id
  limit :limit
  for update skip locked
),
taken as (
  update pairing as p
  set worker = :worker, epoch = p.epoch + 1
  from due
  where p.id = due.id
  returning p.*
)
select
  t.*,
  a.appliance as a_appliance, a.peer as a_peer, a.state as a_state, a.task_id as a_task_id,
  a.start_time as a_start_time, a.end_time as a_end_time, a.result as a_result,
  a.error as a_error, a.attempts as a_attempts,
  b.appliance as b_appliance, b.peer as b_peer, b.state as b_state, b.task_id as b_task_id,
  b.start_time as b_start_time, b.end_time as b_end_time, b.result as b_result,
  b.error as b_error, b.attempts as b_attempts,
  x.id as a_registration, x.api_url as a_api_url, x.api_thumbprint as a_api_thumbprint, x.version as a_version,
  y.id as b_registration, y.api_url as b_api_url, y.api_thumbprint as b_api_thumbprint, y.version as b_version,
  -- By the database's clock, which is the same for all workers.
  t.timeout_s - (extract(epoch from clock_timestamp()) - t.start_time / 1000.0) as remaining_s
from taken as t
join side as a on a.pairing_id = t.id and a.ordinal = 0
join side as b on b.pairing_id = t.id and b.ordinal = 1
-- An appliance with active pairings is never deleted. Were one gone, its pairing has to come to
-- an end all the same, and the others that were taken with it must not suffer.
left join appliance as x on x.name = a.appliance
left join appliance as y on y.name = b.appliance
order by t.priority desc, t.id
