-- Actions that wait for a person: why they do, and that they do (status `proposed`).
alter table upkeep.action add column approval text not null default '';
create index action_proposed on upkeep.action (opened_at desc) where status = 'proposed';
