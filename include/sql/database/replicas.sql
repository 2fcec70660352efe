-- Standbys and other receivers that are connected: WAL they have not replayed yet (bytes) and their own word on the
-- delay (seconds, null when nothing was written lately). Base backups are no receivers. `state` is null when it is
-- hidden from this role.
select application_name as name, state, sync_state,
       pg_wal_lsn_diff(
         case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end,
         coalesce(replay_lsn, flush_lsn, sent_lsn))::float8 as lag_bytes,
       extract(epoch from replay_lag)::float8 as lag_seconds
  from pg_stat_replication
 where coalesce(state, '') <> 'backup'
 order by lag_bytes desc nulls last, application_name
 limit %(top)s
