-- Which of the named roles this server does not have.
select n::text as role
  from unnest(%(roles)s::text[]) as n
 where n not in (select rolname::text from pg_roles)
 order by 1
