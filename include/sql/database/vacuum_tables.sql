-- State of some tables (bytes, rows, ages in ids) before or after they are vacuumed. `locked`: somebody holds a lock that
-- vacuum waits for, and the sizes, whose reading would wait as well when nobody else may read, are left out (null);
-- `vacuumed_by`: the process that vacuums the table right now.
with wanted as (
    select c.oid, c.reltoastrelid, c.relfrozenxid, c.relminmxid
      from pg_class as c
     where c.oid = any(%(oids)s::oid[])
), held as materialized (
    select relation, bool_or(mode = 'AccessExclusiveLock') as hard
      from pg_locks
     where locktype = 'relation' and relation = any(%(oids)s::oid[]) and pid is distinct from pg_backend_pid()
       and database in (0, (select oid from pg_database where datname = current_database()))
       and mode in ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                    'AccessExclusiveLock')
     group by relation
)
select w.oid, h.relation is not null as locked,
       case when h.hard is not true then pg_relation_size(w.oid) end as heap,
       case when h.hard is not true then coalesce(pg_total_relation_size(w.reltoastrelid), 0) end as toast,
       case when h.hard is not true then pg_indexes_size(w.oid) end as indexes,
       pg_stat_get_dead_tuples(w.oid) + coalesce(pg_stat_get_dead_tuples(w.reltoastrelid), 0) as dead,
       greatest(case when w.relfrozenxid <> '0' then age(w.relfrozenxid) end, age(t.relfrozenxid)) as xid_age,
       greatest(case when w.relminmxid <> '0' then mxid_age(w.relminmxid) end, mxid_age(t.relminmxid)) as mxid_age,
       (select v.pid from pg_stat_progress_vacuum as v
         where v.relid in (w.oid, w.reltoastrelid) and v.pid <> pg_backend_pid() limit 1) as vacuumed_by
  from wanted as w
  left join held as h on h.relation = w.oid
  left join pg_class as t on t.oid = w.reltoastrelid
