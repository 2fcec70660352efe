-- One row: bytes that the server's databases take, the bytes of WAL that may lie beside them (max_wal_size, or what the
-- slots keep when that is more), and how many databases this role may not measure.
select sum(case when seen then pg_database_size(oid) else 0 end)::bigint as used,
       count(*) filter (where not seen) as hidden,
       greatest(pg_size_bytes(current_setting('max_wal_size')),
                (select max(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
                                                 else pg_current_wal_lsn() end, restart_lsn))
                   from pg_replication_slots))::bigint as wal
  from (select oid, has_database_privilege(oid, 'connect') or pg_has_role('pg_read_all_stats', 'usage') as seen
          from pg_database
         where datallowconn) as d
