-- Backups of several kinds, and for each the proof: when it was read back, restored, and why it is gone.
alter table upkeep.backup
    add column kind           text not null default 'dump',
    add column tier           text not null default 'daily',
    add column parent         text,
    add column key_id         text not null default '',
    add column content_sha256 text not null default '',
    add column finished       timestamptz,
    add column tested_at      timestamptz,
    add column tested_ok      boolean,
    add column removed_at     timestamptz,
    add column removal        text;
-- A target may have backups of several kinds: each kind is a series of its own.
alter table upkeep.backup drop constraint backup_pkey;
alter table upkeep.backup add primary key (target, kind, backup_id);
update upkeep.backup
   set tier = coalesce(summary ->> 'tier', 'daily'), content_sha256 = coalesce(summary ->> 'content_sha256', ''),
       finished = case when summary ->> 'finished' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d' then summary ->> 'finished' end::timestamptz;

-- One row per restore test. `seconds`: per phase; `rto_seconds` and `rpo_seconds` are what the system promises,
-- `total_seconds` and `age_seconds` what was seen.
create table upkeep.restore_test (
    routine_run_id uuid not null,
    number         integer not null,
    target         text not null,
    kind           text not null,
    backup_id      text not null,
    system         text not null,
    ok             boolean,
    started        timestamptz,
    at             timestamptz not null,
    seconds        jsonb not null,
    total_seconds  double precision,
    rto_seconds    double precision,
    age_seconds    double precision,
    rpo_seconds    double precision,
    differences    jsonb not null,
    smoke          jsonb not null,
    server_version text not null,
    method         text not null,
    evidence       jsonb not null,
    primary key (routine_run_id, number)
);
create index restore_test_of_backup on upkeep.restore_test (target, kind, backup_id, at desc);

-- What was said of a backup may arrive before the backup's own record, from another worker's spool.
create index action_verification on upkeep.action ((evidence -> 'verification' ->> 'id')) where evidence ? 'verification';
create index action_removed on upkeep.action (opened_at) where evidence ? 'removed';
