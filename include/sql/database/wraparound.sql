-- The databases of the server with the oldest transaction and multixact ids, at most `top`: any of them can stop all.
-- Those that refuse connections (template0) age as well.
select datname as database, age(datfrozenxid)::bigint as xid_age, mxid_age(datminmxid)::bigint as mxid_age
  from pg_database
 order by greatest(age(datfrozenxid), mxid_age(datminmxid)) desc, datname
 limit %(top)s
