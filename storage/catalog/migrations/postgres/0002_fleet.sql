alter table reinforce.jobs
    add column priority           integer not null default 0,
    add column note               text not null default '',
    add column samples_per_second double precision not null default 0,
    add column rated_ms           bigint not null default 0;
