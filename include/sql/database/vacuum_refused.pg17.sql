-- Tables of this database that this role may not vacuum and analyze. From 17 on that is the privilege MAINTAIN (which
-- pg_maintain brings for all tables), or owning the database, for tables that databases do not share.
select c.oid
  from pg_class as c
 where c.relkind in ('r', 'm', 'p') and c.relpersistence <> 't'
   and not has_table_privilege(c.oid, 'MAINTAIN')
   and (c.relisshared or not (
        select pg_has_role(datdba, 'usage') from pg_database where datname = current_database()))
