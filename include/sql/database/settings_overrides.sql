-- What is set for roles and databases, as far as it holds in this database: one row for a role (null: every role), a
-- database (null: every one) and a setting (lower case).
select r.rolname as role, d.datname as database,
       lower(split_part(line, '=', 1)) as name, substr(line, strpos(line, '=') + 1) as setting
  from pg_db_role_setting as s
  cross join unnest(s.setconfig) as line
  left join pg_roles as r on r.oid = s.setrole
  left join pg_database as d on d.oid = s.setdatabase
 where (s.setdatabase = 0 or d.datname = current_database()) and (s.setrole = 0 or r.oid is not null)
 order by 1 nulls first, 2 nulls first, 3
