-- Truth: every event, in the order in which it arrived. The other tables are projections of it for quick questions.
create table upkeep.event (
    sequence   bigint generated always as identity primary key,
    event_id   uuid not null unique,
    kind       text not null,
    dag_id     text not null,
    run_id     text not null,
    at         timestamptz not null,
    body       jsonb not null,
    written_at timestamptz not null default clock_timestamp()
);
create index event_of_run on upkeep.event (dag_id, run_id, sequence);

create table upkeep.run (
    dag_id       text not null,
    run_id       text not null,
    cadence      text not null,
    run_type     text not null,
    window_start timestamptz,
    window_end   timestamptz,
    params       jsonb not null,
    opened_at    timestamptz not null,
    closed_at    timestamptz,
    verdict      text,
    reasons      jsonb,
    primary key (dag_id, run_id)
);
create index run_by_time on upkeep.run (opened_at desc);

create table upkeep.expectation (
    dag_id  text not null,
    run_id  text not null,
    routine text not null,
    target  text not null,
    system  text not null,
    skip    text not null,
    primary key (dag_id, run_id, routine, target)
);

create table upkeep.routine_run (
    id         uuid primary key,
    dag_id     text not null,
    run_id     text not null,
    routine    text not null,
    target     text not null,
    try_number integer not null,
    system     text not null,
    role       text not null,
    state      text not null,
    severity   text,
    settings   jsonb not null,
    dry_run    boolean not null,
    host       text not null,
    pid        integer not null,
    reason     text,
    hint       text,
    opened_at  timestamptz not null,
    closed_at  timestamptz,
    unique (dag_id, run_id, routine, target, try_number)
);
create index routine_run_by_target on upkeep.routine_run (target, routine, opened_at desc);

create table upkeep.measurement (
    routine_run_id uuid not null,
    stage          text not null,
    system         text not null,
    target         text not null,
    routine        text not null,
    name           text not null,
    subject        text not null,
    value          double precision not null,
    unit           text not null,
    at             timestamptz not null
);
create index measurement_series on upkeep.measurement (target, routine, name, subject, at desc);
create index measurement_of_run on upkeep.measurement (routine_run_id);
create index measurement_by_time on upkeep.measurement using brin (at);

create table upkeep.finding (
    routine_run_id uuid not null,
    stage          text not null,
    key            text not null,
    system         text not null,
    target         text not null,
    routine        text not null,
    check_name     text not null,
    subject        text not null,
    severity       text not null,
    message        text not null,
    observed       text not null,
    limit_value    text not null,
    hint           text not null,
    at             timestamptz not null
);
create index finding_by_key on upkeep.finding (key, at desc);
create index finding_of_run on upkeep.finding (routine_run_id);

create table upkeep.action (
    routine_run_id uuid not null,
    number         integer not null,
    name           text not null,
    subject        text not null,
    reason         text not null,
    undo           text not null,
    details        jsonb not null,
    dry_run        boolean not null,
    opened_at      timestamptz not null,
    closed_at      timestamptz,
    status         text,
    detail         text,
    evidence       jsonb,
    primary key (routine_run_id, number)
);

create table upkeep.backup (
    backup_id       text not null,
    target          text not null,
    system          text not null,
    location        text not null,
    manifest_sha256 text not null,
    size_bytes      bigint,
    source_bytes    bigint,
    summary         jsonb not null,
    routine_run_id  uuid,
    recorded_at     timestamptz not null,
    verified_at     timestamptz,
    verified_ok     boolean,
    verification    jsonb,
    primary key (target, backup_id)
);

create table upkeep.escalation (
    event_id   uuid primary key,
    dag_id     text not null,
    run_id     text not null,
    cause      text not null,
    subject    text not null,
    system     text not null,
    rung       integer not null,
    message    text not null,
    deliveries jsonb not null,
    at         timestamptz not null
);
create index escalation_of_run on upkeep.escalation (dag_id, run_id, cause, subject, rung);

create table upkeep.report (
    dag_id   text not null,
    run_id   text not null,
    html     text not null,
    markdown text not null,
    at       timestamptz not null,
    primary key (dag_id, run_id)
);
