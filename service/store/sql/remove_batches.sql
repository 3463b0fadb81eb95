-- Removes the batches from before :cut_off of which no pairing is left.
--
-- Why it is right: a batch and its pairings are accepted in one transaction, so one that is seen
-- without any had none accepted, or they were removed. Its key goes with it.
--
-- Locks: these batches, their tallies and rejections. Whoever counts one of them at this moment finds
-- it or not.
-- Lives on: a walk through the batches; ix_pairing_batch_id, pk_batch, pk_batch_tally,
-- pk_batch_rejection.
with removed as (
  delete from batch
  where start_time < :cut_off
    and not exists (select from pairing where pairing.batch = batch.id)
  returning key
)
select count(*) as batches, count(key) as keys from removed
