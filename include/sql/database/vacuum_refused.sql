-- Tables of this database that this role may not vacuum and analyze. Up to 16 a table's owner may, and the owner of the
-- database every table that databases do not share.
select c.oid
  from pg_class as c
 where c.relkind in ('r', 'm', 'p') and c.relpersistence <> 't'
   and not pg_has_role(c.relowner, 'usage')
   and (c.relisshared or not (
        select pg_has_role(datdba, 'usage') from pg_database where datname = current_database()))
