-- One row: how many indexes the tables of this database have, and their bytes as the planner counts pages.
select count(*) as indexes,
       coalesce(sum(c.relpages::bigint), 0)::bigint * current_setting('block_size')::bigint as bytes
  from pg_class as c
  join pg_namespace as n on n.oid = c.relnamespace
 where c.relkind = 'i' and c.relpersistence <> 't'
   and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
