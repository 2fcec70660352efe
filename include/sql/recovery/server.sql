-- What the role of this session may do on this server, and whether the server is one that can be written to.
select current_setting('server_version_num')::int as version_num, current_setting('server_version') as version,
       pg_is_in_recovery() as in_recovery, r.rolname::text as role, r.rolsuper as superuser,
       r.rolsuper or r.rolcreatedb as may_create,
       r.rolsuper or pg_has_role('pg_signal_backend', 'usage') as may_end_sessions,
       (select sum(case when has_database_privilege(d.oid, 'connect') or pg_has_role('pg_read_all_stats', 'usage')
                        then pg_database_size(d.oid) end) from pg_database as d)::bigint as all_bytes
  from pg_roles as r
 where r.rolname = current_user
