-- Write the canary of a target anew; returns its counter, 1 at first and one more each time.
INSERT INTO upkeep_canary AS c (target, written_at, run_id, counter)
VALUES (%(target)s::text, pg_catalog.clock_timestamp(), %(run_id)s::text, 1)
ON CONFLICT (target) DO UPDATE
SET written_at = excluded.written_at, run_id = excluded.run_id, counter = c.counter + 1
RETURNING c.counter
