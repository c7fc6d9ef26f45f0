alter table jobs add column priority integer not null default 0;
alter table jobs add column note text not null default '';
alter table jobs add column samples_per_second real not null default 0;
alter table jobs add column rated_ms integer not null default 0;
