-- What keeps dead rows of this database from being removed: transactions, prepared ones, replication slots, standbys
-- that report what they read; the oldest first, at most `top`. `age` counts transactions since, `xmin` is the oldest id
-- held, `seconds` a time for which it is held for certain (null: not known), `catalog` says that only the server's own
-- tables are held. Vacuum ignores vacuum, and sessions of other databases hold shared tables only.
with held as (
    select case when a.backend_type = 'walsender' then 'standby' else 'session' end as kind,
           case when a.backend_type = 'walsender' then coalesce(a.application_name, '') else coalesce(a.usename, '') end
             as name,
           a.pid, a.usename as role, a.application_name as application, a.client_addr::text as client, a.state, a.query,
           case when age(a.backend_xid) >= age(a.backend_xmin) or a.backend_xmin is null
                then a.backend_xid else a.backend_xmin end as xid,
           case when a.backend_type = 'walsender' then null
                else extract(epoch from clock_timestamp()
                     - case when a.state = 'active' then a.query_start else a.state_change end)::float8 end as seconds,
           extract(epoch from clock_timestamp() - a.xact_start)::float8 as transaction_seconds,
           false as catalog
      from pg_stat_activity as a
     where (a.backend_xid is not null or a.backend_xmin is not null)
       and (a.datname = current_database() or a.datid is null or a.backend_type = 'walsender')
       and a.pid <> pg_backend_pid() and a.backend_type <> 'autovacuum worker'
       and not exists (select from pg_stat_progress_vacuum as v where v.pid = a.pid)
    union all
    select 'prepared', gid, null, owner, null, null, null, null, transaction,
           extract(epoch from clock_timestamp() - prepared)::float8,
           extract(epoch from clock_timestamp() - prepared)::float8, false
      from pg_prepared_xacts
     where database = current_database()
    union all
    select 'slot', slot_name, active_pid, null, null, null, slot_type, null, xmin, null, null, false
      from pg_replication_slots
     where xmin is not null
    union all
    select 'slot', slot_name, active_pid, null, null, null, slot_type, null, catalog_xmin, null, null, true
      from pg_replication_slots
     where catalog_xmin is not null
)
select kind, name, pid, role, application, client, state, query, seconds, transaction_seconds, catalog,
       xid::text::float8 as xmin, age(xid)::float8 as age, count(*) over () as total
  from held
 where xid is not null
 order by age(xid) desc, seconds desc nulls last
 limit %(top)s
