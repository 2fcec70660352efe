-- Requests for a person's agreement, and what became of them.
create table upkeep.approval (
    dag_id        text not null,
    run_id        text not null,
    routine       text not null,
    target        text not null,
    system        text not null,
    actions       jsonb not null,
    asked_by_dag  text not null default '',
    asked_by_run  text not null default '',
    asked_at      timestamptz not null,
    decision      text,
    decided_by    text,
    decided_by_id text,
    decided_at    timestamptz,
    primary key (dag_id, run_id)
);
create index approval_by_target on upkeep.approval (target, routine, asked_at desc);
create index approval_of_run on upkeep.approval (asked_by_dag, asked_by_run);

-- A routine may be wired more than once on a target in one DAG: its tasks are told apart.
alter table upkeep.routine_run add column task text not null default '';
alter table upkeep.routine_run drop constraint routine_run_dag_id_run_id_routine_target_try_number_key;
create unique index routine_run_of_try on upkeep.routine_run (dag_id, run_id, routine, target, task, try_number);

-- A try may wait for the maintenance window of its system.
alter table upkeep.routine_run add column opens_at timestamptz;
