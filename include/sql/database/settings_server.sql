-- One row: who asks, and what the settings are judged against. `bytes` and `tables` (with TOAST and the server's own)
-- are of this database, as the planner counts pages. `sees_all`: whether settings that only superusers and members of
-- pg_read_all_settings see are among the answers; `sees_files`: whether the configuration files are.
select current_database() as database,
       current_user as role,
       pg_is_in_recovery() as in_recovery,
       now() as now,
       pg_has_role(current_user, 'pg_read_all_settings', 'usage') as sees_all,
       has_function_privilege('pg_show_all_file_settings()', 'execute')
       and has_table_privilege('pg_file_settings', 'select') as sees_files,
       count(*) filter (where c.relkind in ('r', 'm', 't')) as tables,
       coalesce(sum(c.relpages::bigint) filter (where c.relkind in ('r', 'm', 't', 'i')), 0)::bigint
         * current_setting('block_size')::bigint as bytes
  from pg_class as c
