-- Up to so many earlier measurements of one subject, newest first; for a routine that answers for a window only from
-- windows that ended before that one began, and of each of them the last answer.
select value, at
  from (select m.value, m.at, w.window_end,
               row_number() over (partition by coalesce(w.window_end, m.at), w.window_start order by m.at desc) as again
          from upkeep.measurement as m
          join upkeep.routine_run as r on r.id = m.routine_run_id
          join upkeep.run as w on w.dag_id = r.dag_id and w.run_id = r.run_id
         where m.target = %(target)s and m.routine = %(routine)s and m.name = %(name)s and m.subject = %(subject)s
           and not (r.dag_id = %(dag_id)s and r.run_id = %(run_id)s)
           and (%(before)s::timestamptz is null or w.window_end <= %(before)s)) as earlier
 where %(before)s::timestamptz is null or again = 1
 order by case when %(before)s::timestamptz is null then at else window_end end desc, at desc
 limit %(limit)s
