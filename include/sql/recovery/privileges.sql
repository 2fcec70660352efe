-- Who may do what with a database: grantee (empty: everybody), privilege, whether it may be passed on; `stated` is false
-- where nothing was ever granted or revoked and the defaults hold.
select coalesce(r.rolname::text, '') as grantee, a.privilege_type::text as privilege, a.is_grantable as grantable,
       d.datacl is not null as stated
  from pg_database as d
 cross join aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) as a
  left join pg_roles as r on r.oid = a.grantee
 where d.datname = %(name)s
 order by 1, 2
