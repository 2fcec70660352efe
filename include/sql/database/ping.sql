-- One row: the server answers.
select 1 as one
