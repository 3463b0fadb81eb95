"""Drives pairings: claims them, runs both sides at once, verifies, records every step.

Knows the store and the appliances only through `ports`, because both have a second self in
simulation; uses no clock but the event loop's.

- `worker` claims pairings and drives each; `lease` says when it may, `succession` begins a new one
  when it may not any more. `batches` knows since when those wait that were asked for together,
  `breakers` probes appliances that do not answer, `policy` has all times.
- `saga` is the procedure: `side` forward, `verification`, `rollback` back, `traces` where what was
  done is to stay. `case` is the one pairing that they share, and the only way to change it; `site`
  is what they see of an appliance, `evidence` what its tasks tell of a call in doubt.
- What goes wrong by our own fault: `defects` on a side, `surrender` altogether.
"""
