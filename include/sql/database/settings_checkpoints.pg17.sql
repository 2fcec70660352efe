-- One row: checkpoints since `since`, those that were due by checkpoint_timeout and those that something asked for
-- (WAL that grew to max_wal_size; also commands, backups).
select num_timed as timed, num_requested as requested, stats_reset as since
  from pg_stat_checkpointer
