-- Removes pairings with all that is theirs: sides, idempotency keys, events.
--
-- Why it is right: the caller holds the rows of the pairings, and has seen under that lock that
-- they are over. An event is written only in the transaction that changes its pairing's row, so
-- none can be added any more, and this statement, whose snapshot is newer than the locks, sees all
-- there are: no chain is left without its owner. Events are looked for in every month: a pairing
-- may have begun long before it was over.
--
-- Locks: events, keys and sides of these pairings. Whoever writes an event of another pairing is
-- not in its way.
-- Lives on: pk_event of each month, ix_idempotency_pairing_id, pk_pairing, pk_side.
with recorded as (
  delete from event where chain = any(cast(:ids as uuid[])) returning chain
),
keyed as (
  delete from idempotency where pairing_id = any(cast(:ids as uuid[])) returning pairing_id
),
parted as (
  delete from side where pairing_id = any(cast(:ids as uuid[]))
),
removed as (
  delete from pairing where id = any(cast(:ids as uuid[])) returning id
)
select
  (select count(*) from removed) as pairings,
  (select count(*) from recorded) as events,
  (select count(*) from keyed) as keys
