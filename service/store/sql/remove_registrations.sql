-- Removes the chains of appliances that were removed before :before.
--
-- Why it is right: ApplianceRemoved is the last event of its chain, and nobody owns the chain any
-- more, so nothing is added to it. The whole chain goes at once, whichever months it is in: of a
-- part of it nobody could say that it is sound.
--
-- Locks: these events. Nobody else writes to them.
-- Lives on: pk_event, and a walk through the months before :before, of which `remove` has left only
-- what has to stay.
with gone as materialized (
  select e.chain
  from event as e
  where e.type = 'ApplianceRemoved'
    and e.at < :before
    and not exists (select from appliance as a where a.id = e.chain)
),
removed as (
  -- An array keeps to the index, however many the planner takes them for.
  delete from event where chain = any(array(select chain from gone)) returning chain
)
select count(distinct chain) as chains, count(*) as events from removed
