-- Whether this server lets this role copy its files, and what is to be copied (sizes in bytes, of the databases that the
-- role may look at; NULL when it may look at none).
select (select r.rolreplication or r.rolsuper from pg_catalog.pg_roles as r where r.rolname = current_user) as replication,
       current_user::text as role,
       pg_catalog.current_setting('wal_level') as wal_level,
       pg_catalog.current_setting('max_wal_senders')::int as max_wal_senders,
       (select pg_catalog.count(*) from pg_catalog.pg_stat_replication)::int as wal_senders,
       pg_catalog.current_setting('max_replication_slots')::int as max_slots,
       (select pg_catalog.count(*) from pg_catalog.pg_replication_slots)::int as slots,
       pg_catalog.current_setting('data_checksums') = 'on' as checksums,
       coalesce(pg_catalog.current_setting('summarize_wal', true), 'off') = 'on' as summarizes,
       (select pg_catalog.json_object_agg(t.oid::text, pg_catalog.pg_tablespace_location(t.oid))
          from pg_catalog.pg_tablespace as t
         where t.spcname not in ('pg_default', 'pg_global')) as tablespaces,
       (select coalesce(pg_catalog.sum(s.checksum_failures), 0)::bigint from pg_catalog.pg_stat_database as s)
         as page_failures,
       (select pg_catalog.sum(pg_catalog.pg_database_size(d.oid))::bigint
          from pg_catalog.pg_database as d
         where pg_catalog.has_database_privilege(d.oid, 'CONNECT')
            or pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')) as size_bytes
