-- One row: the database answers.
select 1 as one
