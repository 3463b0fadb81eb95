-- Which of many couples have a pairing that is not over, and of which batch it is.
--
-- Why it is right: it tells what is committed, and what this very transaction has written before.
-- What somebody else commits afterwards violates the unique index when the pairing is written.
--
-- Locks: none.
-- Lives on: uq_pairing_active_couple.
select w.place, active.id, active.batch
from unnest(cast(:lows as text[]), cast(:highs as text[])) with ordinality as w (low, high, place)
join lateral (
  select p.id, p.batch
  from pairing as p
  where p.couple_low = w.low and p.couple_high = w.high and p.state in ('QUEUED', 'RUNNING')
  -- One there is at most; so each couple is looked up, however many the planner takes them for.
  limit 1
) as active on true
