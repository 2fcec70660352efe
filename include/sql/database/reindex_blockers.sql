-- Who would keep a concurrent rebuild of an index of a table (`table_oid`) waiting, the longest first. `kind` tells why:
-- lock: holds a lock that the rebuild must have at once (autovacuum gives way unless it prevents wraparound);
-- prepared: a prepared transaction (pid null) that has used the table; transaction: one older than `seconds` that has
-- used the table; snapshot: one older than `seconds` that may still read rows the new index would lack.
-- `seconds` is the age of the transaction. Sessions that are hidden from this role have no age and are left out.
with held as materialized (
    select pid, virtualtransaction, max(mode) filter (where mode not in ('AccessShareLock', 'RowShareLock',
                                                                        'RowExclusiveLock')) as strong
      from pg_locks
     where locktype = 'relation' and relation = %(table_oid)s::oid and granted
       and pid is distinct from pg_backend_pid()
       and database = (select oid from pg_database where datname = current_database())
     group by pid, virtualtransaction
), session as (
    select a.pid, a.usename as role, a.application_name as application, a.state, a.query, a.backend_type,
           extract(epoch from clock_timestamp() - a.xact_start)::float8 as seconds,
           case when h.strong is not null
                     and (a.backend_type is distinct from 'autovacuum worker'
                          or a.query like '%%(to prevent wraparound)%%') then 'lock'
                when a.backend_type = 'autovacuum worker' then null
                when clock_timestamp() - a.xact_start <= make_interval(secs => %(seconds)s::float8) then null
                when h.pid is not null and a.xact_start is not null then 'transaction'
                when a.backend_xmin is not null and a.xact_start is not null
                     and a.pid not in (select pid from pg_stat_progress_vacuum) then 'snapshot' end as kind
      from pg_stat_activity as a
      left join held as h on h.pid = a.pid
     where a.datname = current_database() and a.pid <> pg_backend_pid()
), two_phase as (
    select null::int as pid, p.owner as role, p.gid as application, 'prepared' as state, '' as query, 'prepared',
           extract(epoch from clock_timestamp() - p.prepared)::float8 as seconds, 'prepared' as kind
      from held as h
      join pg_locks as l on l.virtualtransaction = h.virtualtransaction and l.locktype = 'transactionid'
      join pg_prepared_xacts as p on p.transaction = l.transactionid
     where h.pid is null
)
select kind, pid, role, application, state, query, coalesce(seconds, 0) as seconds
  from (select * from session where kind is not null union all select * from two_phase) as one
 order by seconds desc, pid
