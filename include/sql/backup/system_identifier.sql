-- The number that tells this cluster, and copies made of its files, from every other one.
select system_identifier::text from pg_catalog.pg_control_system()
