-- Which of the named roles this role cannot act as, so that it cannot give anything to them.
select r.rolname::text as role
  from pg_roles as r
 where r.rolname = any(%(roles)s::text[]) and not pg_has_role(r.oid, 'member')
 order by 1
