-- Settings of a database: one row for each role (empty: everybody) with `name=value` texts in the order they were set.
select coalesce(r.rolname::text, '') as role, s.setconfig::text[] as settings
  from pg_db_role_setting as s
  join pg_database as d on d.oid = s.setdatabase
  left join pg_roles as r on r.oid = s.setrole
 where d.datname = %(name)s
 order by 1
