-- Columns that tell times and that an index is ordered by, of the largest tables: their newest value is found at once.
select n.nspname::text as schema, c.relname::text as name, a.attname::text as column
  from pg_index as i
  join pg_class as c on c.oid = i.indrelid
  join pg_namespace as n on n.oid = c.relnamespace
  join pg_class as x on x.oid = i.indexrelid
  join pg_am as m on m.oid = x.relam and m.amname = 'btree'
  join pg_attribute as a on a.attrelid = c.oid and a.attnum = i.indkey[0]
 where i.indisvalid and i.indpred is null and c.relkind in ('r', 'p')
   and a.atttypid in ('timestamptz'::regtype, 'timestamp'::regtype)
   and n.nspname not in ('pg_catalog', 'information_schema') and has_table_privilege(c.oid, 'select')
 group by 1, 2, 3, c.relpages
 order by c.relpages desc
 limit %(most)s
