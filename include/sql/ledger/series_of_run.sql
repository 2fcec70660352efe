-- For every measurement of a run, its values over the last so many days: what sparklines are drawn from.
select m.target, m.routine, m.name, m.subject, array_agg(m.value order by m.at) as values
  from upkeep.measurement as m
 where m.at > now() - make_interval(days => %(days)s)
   and (m.target, m.routine) in (select r.target, r.routine from upkeep.routine_run as r
                                  where r.dag_id = %(dag_id)s and r.run_id = %(run_id)s)
 group by m.target, m.routine, m.name, m.subject
