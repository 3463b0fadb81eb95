-- Where pairings stand, and whether what was to be written about them is in their chains.
--
-- Why it is right: an entry's hash is over its content and over all that was before it, so an
-- entry with this number and this hash is the very one that was to be written. It is there, or its
-- transaction has not been committed, or not yet: as long as `epoch` and `seq` are what the write
-- was bound to, it may be sent again (see journal.sql). The row of the pairing alone would not do:
-- others may have gone on from there.
--
-- Locks: none.
-- Lives on: pk_pairing, pk_event. The time names the partition.
select
  p.id,
  c.epoch as asked_epoch,
  p.epoch,
  p.seq,
  p.cancel_user is not null and not p.is_canceling as is_unwanted,
  written.seq is not null as is_recorded
from unnest(
  cast(:ids as uuid[]),
  cast(:epochs as bigint[]),
  cast(:seqs as bigint[]),
  cast(:ats as timestamptz[]),
  cast(:heads as bytea[])
) as c (id, epoch, seq, at, head)
join pairing as p on p.id = c.id
left join lateral (
  select e.seq from event as e
  where e.chain = c.id and e.seq = c.seq and e.at = c.at and e.hash = c.head
  -- One there is at most; so each is looked up, however many the planner takes them for.
  limit 1
) as written on true
