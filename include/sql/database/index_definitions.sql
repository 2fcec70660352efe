-- How indexes, by object id, can be made anew, with what their definition does not say: their tablespace (null: that
-- of the database), comment, whether CLUSTER uses them, statistics targets of their columns. Indexes of locked tables
-- are left out: printing an expression waits for the table.
with busy as materialized (
    select relation
      from pg_locks
     where locktype = 'relation' and mode = 'AccessExclusiveLock'
       and database = (select oid from pg_database where datname = current_database())
)
select i.indexrelid::bigint as oid, n.nspname as schema, c.relname as index, tn.nspname as table_schema,
       t.relname as table, c.relkind = 'I' as partitioned, pg_get_indexdef(i.indexrelid) as definition,
       s.spcname as tablespace, obj_description(i.indexrelid, 'pg_class') as comment, i.indisclustered as clustered,
       array(select array[a.attnum::int, a.attstattarget::int]
               from pg_attribute as a
              where a.attrelid = i.indexrelid and a.attstattarget >= 0
              order by a.attnum) as targets
  from pg_index as i
  join pg_class as c on c.oid = i.indexrelid
  join pg_namespace as n on n.oid = c.relnamespace
  join pg_class as t on t.oid = i.indrelid
  join pg_namespace as tn on tn.oid = t.relnamespace
  left join pg_tablespace as s on s.oid = c.reltablespace
 where i.indexrelid = any(%(oids)s::oid[])
   and i.indrelid not in (select relation from busy) and i.indexrelid not in (select relation from busy)
