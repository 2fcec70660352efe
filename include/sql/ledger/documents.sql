-- Documents that routines made, newest first, without their content: of all runs, or of one.
select a.dag_id, a.run_id, d.target, d.routine, d.name, d.media_type, d.sha256, octet_length(c.content) as size_bytes, d.at
  from upkeep.artefact as d
  join upkeep.artefact_content as c using (sha256)
  join upkeep.routine_run as a on a.id = d.routine_run_id
 where (%(dag_id)s::text is null or a.dag_id = %(dag_id)s) and (%(run_id)s::text is null or a.run_id = %(run_id)s)
 order by d.at desc, d.target, d.name
 limit %(limit)s
