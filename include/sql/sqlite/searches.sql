-- Virtual tables that point to rows of another table by its rowids (full-text search with external content): name, definition.
select name, sql from sqlite_schema where type = 'table' and rootpage = 0 and sql like '%%content%%=%%'
