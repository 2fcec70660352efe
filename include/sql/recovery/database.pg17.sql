-- A database by its name: what a new one needs to be like it. Size in bytes, null where the role may not ask; from
-- 15 on with the provider and name of its locale (17: one column for all providers).
select d.oid::bigint as oid, d.datname::text as name, pg_get_userbyid(d.datdba)::text as owner,
       pg_encoding_to_char(d.encoding)::text as encoding, d.datcollate::text as collate, d.datctype::text as ctype,
       d.datlocprovider::text as provider, d.datlocale::text as locale,
       (select spcname::text from pg_tablespace as s where s.oid = d.dattablespace) as tablespace,
       d.datconnlimit as connection_limit, d.datallowconn as open, d.datistemplate as template,
       shobj_description(d.oid, 'pg_database') as comment,
       case when has_database_privilege(d.oid, 'connect') or pg_has_role('pg_read_all_stats', 'usage')
            then pg_database_size(d.oid) end as size_bytes,
       pg_has_role(d.datdba, 'usage') as ours,
       (select count(*) from pg_prepared_xacts as p where p.database = d.datname) as prepared,
       (select count(*) from pg_replication_slots as r where r.database = d.datname) as slots
  from pg_database as d
 where d.datname = %(name)s
