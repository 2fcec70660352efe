-- Forget the text of reports older than so many days, in both places where it stands; their runs stay.
with gone as (delete from upkeep.report where at < now() - make_interval(days => %(days)s))
delete from upkeep.event where kind in ('report_kept', 'observed') and at < now() - make_interval(days => %(days)s)
