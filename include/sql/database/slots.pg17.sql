-- Replication slots of the server and of this database: WAL that each keeps from being removed (bytes), its state, and
-- the age of the transactions whose rows it keeps from being vacuumed. Also
-- why it was given up, and for how long nobody reads it (seconds).
select slot_name as name, slot_type as type, active, wal_status,
       pg_wal_lsn_diff(
         case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end,
         restart_lsn)::float8 as retained_bytes,
       greatest(age(xmin), age(catalog_xmin)) as xmin_age,
       invalidation_reason,
       extract(epoch from clock_timestamp() - inactive_since)::float8 as inactive_seconds
  from pg_replication_slots
 where not temporary and coalesce(database, current_database()) = current_database()
 order by slot_name
