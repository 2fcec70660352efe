-- Which of the named extensions this server could not install.
select n::text as extension
  from unnest(%(names)s::text[]) as n
 where n not in (select name::text from pg_available_extensions)
 order by 1
