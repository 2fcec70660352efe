-- One row: whether this server is a standby (nothing can be rebuilt there), and our role.
select pg_is_in_recovery() as standby, current_user as role
