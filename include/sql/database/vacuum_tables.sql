-- State of some tables (bytes, rows, ages in ids) before or after they are vacuumed. `locked`: somebody holds a lock that
-- vacuum waits for, and the sizes, whose reading would wait as well when nobody else may read, are left out (null);
-- `vacuumed_by`: the process that vacuums the table right now. Unless `exact`, sizes are as the server last counted them,
-- which vacuum itself does: opening every file of thousands of small tables takes longer than vacuuming them.
with wanted as (
    select c.oid, c.reltoastrelid, c.relfrozenxid, c.relminmxid, c.relpages, current_setting('block_size')::int as block
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
), busy as materialized (
    select relid, pid from pg_stat_progress_vacuum where pid <> pg_backend_pid()
)
select w.oid, h.relation is not null as locked,
       case when not %(exact)s::bool then w.relpages::bigint * w.block
            when h.hard is not true then pg_relation_size(w.oid) end as heap,
       case when not %(exact)s::bool then coalesce(t.relpages, 0)::bigint * w.block
            when h.hard is not true then coalesce(pg_total_relation_size(w.reltoastrelid), 0) end as toast,
       case when not %(exact)s::bool then (
                select coalesce(sum(x.relpages), 0)::bigint * w.block
                  from pg_index as i join pg_class as x on x.oid = i.indexrelid
                 where i.indrelid = w.oid)
            when h.hard is not true then pg_indexes_size(w.oid) end as indexes,
       pg_stat_get_dead_tuples(w.oid) + coalesce(pg_stat_get_dead_tuples(w.reltoastrelid), 0) as dead,
       greatest(case when w.relfrozenxid <> '0' then age(w.relfrozenxid) end, age(t.relfrozenxid)) as xid_age,
       greatest(case when w.relminmxid <> '0' then mxid_age(w.relminmxid) end, mxid_age(t.relminmxid)) as mxid_age,
       (select min(b.pid) from busy as b where b.relid in (w.oid, w.reltoastrelid)) as vacuumed_by
  from wanted as w
  left join held as h on h.relation = w.oid
  left join pg_class as t on t.oid = w.reltoastrelid
