-- One row: what pg_stat_statements is like here, whatever version of it, in whatever schema.
-- `installed`: the version created in this database, null when it is not; `offered`: the version the server would create
-- or update to; `loaded`: the library was there when the server started; `entries_max`: how many statements it keeps;
-- `planted`: functions that planning a statement may run (stable and immutable ones, and what domains check) and that
-- neither a superuser nor our role wrote;
-- `sees_all`: whether other roles' statements are visible; `taken_at`: the server's clock (seconds).
with setting as (
    select name, setting, vartype
      from pg_settings
     where name in ('pg_stat_statements.max', 'pg_stat_statements.track')
)
select current_database() as database,
       current_user as role,
       pg_is_in_recovery() as in_recovery,
       pg_has_role(current_user, 'pg_read_all_stats', 'usage') as sees_all,
       e.extversion as installed,
       n.nspname as schema,
       has_schema_privilege(n.oid, 'usage') as may_use,
       (select default_version from pg_available_extensions where name = 'pg_stat_statements') as offered,
       -- A line in postgresql.conf for a library that is not loaded is a setting too, of type string.
       exists (select from setting where name = 'pg_stat_statements.max' and vartype = 'integer') as loaded,
       (select setting from pg_settings where name = 'shared_preload_libraries') as preloaded,
       (select setting::bigint from setting where name = 'pg_stat_statements.max' and vartype = 'integer') as entries_max,
       coalesce((select setting from setting where name = 'pg_stat_statements.track'), 'top') as track,
       current_setting('compute_query_id') as compute_query_id,
       current_setting('track_io_timing')::boolean as io_timed,
       (select count(*)
          from pg_proc as p
          join pg_language as l on l.oid = p.prolang
          join pg_roles as o on o.oid = p.proowner
         where (p.provolatile <> 'v' or exists (select from pg_constraint where contypid <> 0 and oid >= 16384))
           and l.lanname not in ('internal', 'c') and not o.rolsuper
           and o.rolname <> current_user) as planted,
       extract(epoch from clock_timestamp())::float8 as taken_at
  from (select 1) as always
  left join pg_extension as e on e.extname = 'pg_stat_statements'
  left join pg_namespace as n on n.oid = e.extnamespace
