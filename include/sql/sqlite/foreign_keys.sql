-- Rows whose foreign key points to nothing, counted by child table and parent table.
select "table" as child, parent, count(*) as orphans from pragma_foreign_key_check group by "table", parent order by 1, 2
