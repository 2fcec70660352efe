-- One row: the schema of the extension pgstattuple (null: it is not there), whether this role may use its functions,
-- and whether the server has its files (`available`).
select n.nspname as schema, current_user as role,
       coalesce(has_schema_privilege(n.oid, 'usage')
                and has_function_privilege(to_regprocedure(quote_ident(n.nspname) || '.pgstatindex(regclass)'), 'execute')
                and has_function_privilege(to_regprocedure(quote_ident(n.nspname) || '.pgstattuple_approx(regclass)'),
                                           'execute'), false) as usable,
       exists (select from pg_available_extensions where name = 'pgstattuple') as available
  from (select) as one
  left join pg_extension as e on e.extname = 'pgstattuple'
  left join pg_namespace as n on n.oid = e.extnamespace
