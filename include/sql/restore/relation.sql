-- Schema and name of the relation that a name, quoted and qualified like in SQL, stands for; no row when there is none.
select n.nspname::text as schema, c.relname::text as name
  from pg_catalog.pg_class as c
  join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
 where c.oid = pg_catalog.to_regclass(%(name)s)
