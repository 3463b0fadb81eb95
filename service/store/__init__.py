"""Speaks SQL, and nothing else does.

- `tables` says what the rows are and may never be; `statements` finds the hot ones in `sql/`,
  `columns`, `rows` and `arrays` turn values into rows and back. `errors` is the one place that
  knows SQLSTATEs, `patience` tries again what could not be asked.
- `database` has the connections, which `sessions` opens and sets, by the address that `urls` reads;
  `notify` listens on one. `group` lets many share a transaction.
- What a worker needs: `claims`, `journal` (with `folds`), `leases`, `health`, `logins`,
  `registrations`.
- What callers need: `intake` accepts pairings, `bulk` batches of them (with `batchrecord`,
  `bulkrows` and `rejections`); `pairings`, `batches` and `audit` read; `cancels` and `retries` take
  what else is asked; `appliances` is the registry, whose credentials `vault` seals.
- What operators need: `migrate` upgrades the schema, `partitions` makes the trail's months,
  `pruning` removes what is old, `chains` verifies the record.
- Our own PostgreSQL: `embedded` starts and stops it, with `server`, `cluster`, `installation` and
  `lockfile`.
"""
