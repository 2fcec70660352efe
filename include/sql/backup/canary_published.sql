-- Names of the publications that would take in a table as soon as it is made: those of all tables.
select pubname::text as name from pg_catalog.pg_publication where puballtables and %(schema)s::text is not null
 order by pubname
