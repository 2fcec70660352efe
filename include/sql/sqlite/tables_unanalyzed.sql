-- The same as `tables`, for a database without statistics.
select t.name, (select count(*) from sqlite_schema as i where i.type = 'index' and i.tbl_name = t.name) as indexes,
       null as analyzed
  from sqlite_schema as t
 where t.type = 'table' and t.rootpage > 0 and t.name not like 'sqlite\_%%' escape '\'
 order by t.name
