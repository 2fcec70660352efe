-- Documents that routines made and that are kept whole: bills of materials, reference profiles, model documentation.
-- The same content is kept once, however many runs made it.
create table upkeep.artefact_content (
    sha256  text primary key check (sha256 ~ '^[0-9a-f]{64}$'),
    content text not null
);
create table upkeep.artefact (
    routine_run_id uuid not null,
    number         integer not null,
    system         text not null,
    target         text not null,
    routine        text not null,
    name           text not null,
    media_type     text not null,
    sha256         text not null references upkeep.artefact_content,
    at             timestamptz not null,
    primary key (routine_run_id, number)
);
create index artefact_of_target on upkeep.artefact (target, name, at desc);
