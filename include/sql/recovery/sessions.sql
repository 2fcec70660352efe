-- Sessions on a database, without ours and those of the server itself (autovacuum): process,
-- role, program, address, state, seconds since it last did something.
select pid, coalesce(usename::text, '') as role, coalesce(application_name, '') as application,
       coalesce(client_addr::text, 'local') as address, coalesce(state, backend_type, '') as state,
       extract(epoch from clock_timestamp() - coalesce(state_change, backend_start))::float8 as idle_seconds
  from pg_stat_activity
 where datname = %(name)s and pid <> pg_backend_pid() and usesysid is not null
 order by backend_start, pid
