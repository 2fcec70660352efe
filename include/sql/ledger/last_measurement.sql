-- The newest measurement of every subject under a name, from runs other than the one that asks; for a routine that answers
-- for a window only from windows that ended before that one began.
select distinct on (m.subject) m.subject, m.value, m.at
  from upkeep.measurement as m
  join upkeep.routine_run as r on r.id = m.routine_run_id
  join upkeep.run as w on w.dag_id = r.dag_id and w.run_id = r.run_id
 where m.target = %(target)s and m.routine = %(routine)s and m.name = %(name)s
   and (%(subject)s::text is null or m.subject = %(subject)s)
   and not (r.dag_id = %(dag_id)s and r.run_id = %(run_id)s)
   and (%(before)s::timestamptz is null or w.window_end <= %(before)s)
 order by m.subject, case when %(before)s::timestamptz is null then m.at else w.window_end end desc, m.at desc
