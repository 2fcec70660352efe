-- One row: the size of this database on disk, in bytes.
select pg_database_size(current_database()) as bytes
