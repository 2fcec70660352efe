-- Up to so many earlier measurements of one subject, newest first.
select m.value, m.at
  from upkeep.measurement as m
  join upkeep.routine_run as r on r.id = m.routine_run_id
 where m.target = %(target)s and m.routine = %(routine)s and m.name = %(name)s and m.subject = %(subject)s
   and not (r.dag_id = %(dag_id)s and r.run_id = %(run_id)s)
 order by m.at desc
 limit %(limit)s
