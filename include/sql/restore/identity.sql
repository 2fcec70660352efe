-- Who this server is: its data folder, where it listens, and the number that tells its cluster from every other one.
select pg_catalog.current_setting('data_directory') as data,
       pg_catalog.current_setting('listen_addresses') as addresses,
       pg_catalog.current_setting('unix_socket_directories') as sockets,
       c.system_identifier::text as system_identifier
  from pg_catalog.pg_control_system() as c
