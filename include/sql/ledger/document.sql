-- The content of a document that a routine made in a run.
select d.name, d.media_type, c.content
  from upkeep.artefact as d
  join upkeep.artefact_content as c using (sha256)
  join upkeep.routine_run as a on a.id = d.routine_run_id
 where a.dag_id = %(dag_id)s and a.run_id = %(run_id)s and d.sha256 = %(sha256)s
 limit 1
