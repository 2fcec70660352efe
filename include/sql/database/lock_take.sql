-- Try to take the maintenance lock of this database; the number is ASCII of "upkeep" and a 1.
select pg_try_advisory_lock(33056178840104961) as taken
