-- What a backup is a backup of: server, database, place in the write-ahead log, encoding, locale, extensions;
-- from 15 on with the version of the collation library that built the indexes and the one in use now.
select pg_catalog.current_setting('server_version_num')::int as version_num,
       pg_catalog.current_setting('server_version') as version,
       pg_catalog.current_database() as database,
       pg_catalog.pg_is_in_recovery() as in_recovery,
       (case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
             else pg_catalog.pg_current_wal_lsn() end)::text as lsn,
       pg_catalog.clock_timestamp() as snapshot_time,
       pg_catalog.pg_encoding_to_char(d.encoding) as encoding,
       d.datcollate::text as lc_collate,
       d.datctype::text as lc_ctype,
       d.datcollversion as collation_version,
       pg_catalog.pg_database_collation_actual_version(d.oid) as collation_version_now,
       pg_catalog.pg_database_size(d.oid) as size_bytes,
       (select pg_catalog.json_object_agg(e.extname, e.extversion) from pg_catalog.pg_extension as e) as extensions,
       case when pg_catalog.pg_is_in_recovery() then
         (select pg_catalog.json_agg(n.nspname || '.' || c.relname order by n.nspname, c.relname)
            from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
           where c.relpersistence = 'u' and c.relkind = 'r')
       end as unlogged
  from pg_catalog.pg_database as d
 where d.datname = pg_catalog.current_database()
