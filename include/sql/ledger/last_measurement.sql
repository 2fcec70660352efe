-- The newest measurement of every subject under a name, from runs other than the one that asks.
select distinct on (m.subject) m.subject, m.value, m.at
  from upkeep.measurement as m
  join upkeep.routine_run as r on r.id = m.routine_run_id
 where m.target = %(target)s and m.routine = %(routine)s and m.name = %(name)s
   and (%(subject)s::text is null or m.subject = %(subject)s)
   and not (r.dag_id = %(dag_id)s and r.run_id = %(run_id)s)
 order by m.subject, m.at desc
