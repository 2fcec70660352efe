-- Tables with their parts, in bytes, and their counters of rows written: the largest, those updated most, and those of
-- `known` that are still large, at most `top` * 4. A partitioned table is one, with all its partitions.
-- `tables`, `all_*` count all tables; `vanished` are the names of `known` that are no tables any more.
-- Asking every table for its size would open every file of the database, so tables are chosen by the planner's page
-- counts and the live rows that statistics know of. Asking for the size of a table would wait behind whoever locks it
-- or one of its indexes exclusively, or waits to: such a table's size is the estimate (`estimated`), and so is that of
-- a table of very many partitions.
with recursive part as (
    select i.inhrelid as oid, i.inhparent as root
      from pg_inherits as i
      join pg_class as p on p.oid = i.inhparent
     where p.relkind = 'p' and not p.relispartition
    union all
    select i.inhrelid, part.root
      from part
      join pg_inherits as i on i.inhparent = part.oid
), pages as (
    select indrelid as oid, sum(relpages) as indexes
      from pg_index
      join pg_class on pg_class.oid = indexrelid
     group by indrelid
), member as (
    select c.oid, coalesce(part.root, c.oid) as root, c.reltoastrelid as toast_oid,
           c.relpages::int8 as heap, coalesce(t.relpages, 0)::int8 as toast, coalesce(p.indexes, 0)::int8 as indexes,
           pg_stat_get_live_tuples(c.oid) as live,
           pg_stat_get_tuples_inserted(c.oid) as inserts,
           pg_stat_get_tuples_updated(c.oid) as updates,
           pg_stat_get_tuples_deleted(c.oid) as deletes,
           pg_stat_get_tuples_hot_updated(c.oid) as hot_updates
      from pg_class as c
      join pg_namespace as n on n.oid = c.relnamespace
      left join part on part.oid = c.oid
      left join pg_class as t on t.oid = c.reltoastrelid
      left join pages as p on p.oid = c.oid
     where c.relkind in ('r', 'm') and c.relpersistence <> 't'
       and (n.nspname not in ('pg_catalog', 'information_schema') or c.relname = 'pg_largeobject' and c.relpages > 0)
), whole as (
    select root, count(*) as members, bool_or(oid <> root) as partitioned,
           sum(heap) as heap, sum(toast) as toast, sum(indexes) as indexes, sum(live) as live,
           sum(inserts) as inserts, sum(updates) as updates, sum(deletes) as deletes,
           sum(hot_updates) as hot_updates
      from member
     group by root
), ranked as (
    select whole.*, format('%%I.%%I', n.nspname, c.relname) as name,
           row_number() over (order by greatest((heap + toast + indexes) * 8192.0, live * 64.0) desc, root) as by_size,
           row_number() over (order by updates desc, root) as by_updates,
           count(*) over () as tables,
           sum(heap) over () as all_heap, sum(toast) over () as all_toast, sum(indexes) over () as all_indexes
      from whole
      join pg_class as c on c.oid = whole.root
      join pg_namespace as n on n.oid = c.relnamespace
), chosen as (
    select * from ranked
     where by_size <= %(top)s or by_updates <= %(top)s and updates > 0
        or by_size <= %(top)s * 3 and name = any (%(known)s::text[])
), busy as materialized (
    select relation as oid
      from pg_locks
     where locktype = 'relation' and mode = 'AccessExclusiveLock'
       and database = (select oid from pg_database where datname = current_database())
), untouched as (
    select oid from busy
    union
    select indrelid from pg_index where indexrelid in (select oid from busy)
), exact as (
    select member.root, sum(pg_total_relation_size(member.oid)) as total, sum(pg_indexes_size(member.oid)) as indexes,
           sum(case when toast_oid <> 0 then pg_total_relation_size(toast_oid) else 0 end) as toast
      from chosen
      join member on member.root = chosen.root
     where chosen.members <= 200
       and not exists (select from member as m
                         join untouched as u on u.oid in (m.oid, m.toast_oid)
                        where m.root = chosen.root)
     group by member.root
), unit as (
    select current_setting('block_size')::int8 as block
)
select name, members, partitioned, exact.root is null as estimated,
       coalesce(exact.total, (c.heap + c.toast + c.indexes) * block)::int8 as total,
       coalesce(exact.total - exact.toast - exact.indexes, c.heap * block)::int8 as heap,
       coalesce(exact.toast, c.toast * block)::int8 as toast,
       coalesce(exact.indexes, c.indexes * block)::int8 as indexes,
       live::int8, inserts::int8, updates::int8, deletes::int8, hot_updates::int8, tables,
       (all_heap * block)::int8 as all_heap, (all_toast * block)::int8 as all_toast,
       (all_indexes * block)::int8 as all_indexes,
       (select array_agg(k order by k) from unnest(%(known)s::text[]) as k
         where k not in (select ranked.name from ranked)) as vanished
  from chosen as c
 cross join unit
  left join exact on exact.root = c.root
 order by total desc, name
