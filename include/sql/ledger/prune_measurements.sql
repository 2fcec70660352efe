-- Forget measurements older than so many days.
delete from upkeep.measurement where at < now() - make_interval(days => %(days)s)
