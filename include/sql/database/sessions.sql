-- Client sessions of this database that are active, or idle in a transaction, for longer than a limit; the longest
-- first, at most `top` of each kind. Applications whose names begin with one of `expected` (a running dump holds its
-- snapshot) may take their time. `total` counts all of the kind; `seconds` is the time in the present state; `holds`
-- tells whether an idle one keeps rows from being vacuumed (it has a snapshot or a transaction id).
with session as (
    select case when state = 'active' then 'query' else 'idle' end as kind,
           pid, coalesce(usename, 'dropped role ' || usesysid) as role, application_name as application, state, query,
           extract(epoch from clock_timestamp()
                   - case when state = 'active' then query_start else state_change end)::float8 as seconds,
           backend_xid is not null or backend_xmin is not null as holds,
           greatest(age(backend_xid), age(backend_xmin)) as xmin_age,
           wait_event_type, wait_event
      from pg_stat_activity
     where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()
       and (state = 'active' or state like 'idle in transaction%%')
), late as (
    select *, count(*) over (partition by kind) as total,
           row_number() over (partition by kind order by seconds desc) as place
      from session
     where seconds > case when kind = 'query' then %(query_seconds)s::float8 else %(idle_seconds)s::float8 end
       and not exists (select from unnest(%(expected)s::text[]) as e where starts_with(application, e))
)
select kind, pid, role, application, state, query, seconds, holds, xmin_age, wait_event_type, wait_event, total
  from late
 where place <= %(top)s
 order by kind, seconds desc
