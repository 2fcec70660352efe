-- Schema and name of the table in which the canary writes, which has a column written_at; no row when there is none.
select n.nspname::text as schema, c.relname::text as name
  from pg_catalog.pg_class as c
  join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
  join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attname = 'written_at' and not a.attisdropped
 where c.relname = %(name)s and c.relkind in ('r', 'p')
 order by 1
 limit 1
