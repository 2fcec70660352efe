-- Which of the named extensions this role could not make here, and why: `missing`, or `superuser` where only one may.
select n::text as extension, case when a.name is null then 'missing' else 'superuser' end as why
  from unnest(%(names)s::text[]) as n
  left join pg_available_extensions as a on a.name = n
 where n <> 'plpgsql'
   and (a.name is null
        or not (select rolsuper from pg_roles where rolname = current_user)
           and not exists (select from pg_available_extension_versions as v
                            where v.name = n and (v.trusted or not v.superuser)))
 order by 1
