-- One row on a standby, none on a primary: what was received and replayed, whether a receiver runs, and how long ago
-- the last replayed transaction was committed (seconds; on an idle primary that grows without any lag).
select exists (select from pg_stat_wal_receiver where pid is not null) as receiving,
       pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::float8 as lag_bytes,
       extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())::float8 as replayed_seconds_ago,
       case when pg_is_in_recovery() then pg_is_wal_replay_paused() end as paused
 where pg_is_in_recovery()
