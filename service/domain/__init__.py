"""The words of pairing, and what they promise. Pure values and decisions: no I/O, no clock.

An *appliance* is a registered replication management appliance. A *pairing* is one job over two of
them; it has two *sides*, and a side is what happens on one appliance about the other one, its
*peer*. The appliance answers a call with a *task* of its own, which has to be polled. The
*operationID* is the caller's correlation id; it travels on every call, log line and event.

States of a pairing: ``QUEUED -> RUNNING -> SUCCEEDED | FAILED | CANCELED``, with a *phase* while
RUNNING: ``PAIRING``, ``VERIFYING``, ``ROLLING_BACK``. States of a side: ``PENDING -> REQUESTED ->
ACCEPTED -> SUCCEEDED | FAILED``, ``PENDING -> ALREADY_PAIRED``, and on the way back ``REQUESTED ->
ACCEPTED -> ROLLED_BACK | ROLLBACK_FAILED``.

- A state changes only by an *event*, and only if the table in ``transitions`` allows it.
- Every event joins its pairing's *chain*: it carries the hash of the one before it.
- ``SUCCEEDED`` is reached only over both sides verified: each appliance lists the other with the
  expected thumbprint and no communication error in either direction; or, unpaired, lists it no
  more.
- A pairing that does not succeed ends only when nothing is left that it did, or may have done:
  undone, or reported as ``ROLLBACK_FAILED``, or kept because the caller wants it so.
- A side's ``call`` is set as long as a call of this job may have taken effect there. What was
  there before is never undone.

Times are milliseconds since the epoch, as in H4. Names ending in ``_s`` are seconds.
"""
