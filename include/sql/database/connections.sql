-- Connections in use against what may be used: of the server (max_connections less the slots kept back), and of this
-- database and of the roles connected to it where they have a limit of their own. `active` and `idle_in_transaction`
-- count what the server's other clients do.
-- Without pg_monitor backend_type is null for other roles' sessions: what has a user and a database is then taken for
-- a client. reserved_connections exists from 16 on. Superusers are exempt from the limits of databases and roles.
with client as materialized (
    select datid, usesysid, case when pid <> pg_backend_pid() then state end as state
      from pg_stat_activity
     where coalesce(backend_type = 'client backend', datid is not null and usesysid is not null)
), own as (
    select oid, datname, datconnlimit from pg_database where datname = current_database()
)
select 'server' as scope,
       '' as name,
       count(*) as used,
       current_setting('max_connections')::bigint
         - current_setting('superuser_reserved_connections')::bigint
         - coalesce(nullif(current_setting('reserved_connections', true), '')::bigint, 0) as usable,
       count(*) filter (where state = 'active') as active,
       count(*) filter (where state like 'idle in transaction%%') as idle_in_transaction
  from client
union all
select 'database', own.datname, count(client.datid), own.datconnlimit, null, null
  from own
  left join client on client.datid = own.oid
 where own.datconnlimit > 0
 group by own.datname, own.datconnlimit
union all
(select 'role', r.rolname, count(*), r.rolconnlimit, null, null
   from client
   join pg_roles as r on r.oid = client.usesysid
  where r.rolconnlimit > 0 and not r.rolsuper
  group by r.rolname, r.rolconnlimit
 having bool_or(client.datid = (select oid from own))
  order by count(*) / r.rolconnlimit::float8 desc, r.rolname
  limit %(top)s)
