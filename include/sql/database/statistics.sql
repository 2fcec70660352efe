-- One row: counters of this database since `reset_at`, and blocks whose checksum was wrong when they were read, here
-- and in what all databases share. The failures are null while checksums are off.
select s.blks_hit, s.blks_read, s.checksum_failures, s.stats_reset as reset_at,
       (select shared.checksum_failures from pg_stat_database as shared where shared.datid = 0) as shared_failures
  from pg_stat_database as s
 where s.datname = current_database()
