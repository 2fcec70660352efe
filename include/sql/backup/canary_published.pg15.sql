-- Names of the publications that would take in a table as soon as it is made in a schema; from 15 on there are some
-- of all tables in a schema, too.
select p.pubname::text as name
  from pg_catalog.pg_publication as p
 where p.puballtables
    or exists (
         select from pg_catalog.pg_publication_namespace as s
           join pg_catalog.pg_namespace as n on n.oid = s.pnnspid
          where s.pnpubid = p.oid and n.nspname = %(schema)s::text)
 order by p.pubname
