-- Counter of a target's canary (null: it has none), rows of the table, and their hash as the proof of a backup has it.
-- The columns stand in the order of their names; see adapters/fingerprint.py, which this must agree with.
SELECT
  max(counter) FILTER (WHERE target = %(target)s::text) AS counter,
  count(*) AS rows,
  coalesce(
    sum(hashfloat8extended(hash_record_extended(row(counter, run_id, target, written_at), 0)::float8, 0)), 0
  )::text AS hash
FROM upkeep_canary
