-- Which samples may have killed a worker: those from next_index to before suspect_end, worked on probe_samples at a time;
-- whether the first of them is at work alone, and how often that has ended in a death.
alter table reinforce.shards add column suspect_end bigint not null default 0;
alter table reinforce.shards add column probe_samples bigint not null default 0;
alter table reinforce.shards add column probing boolean not null default false;
alter table reinforce.shards add column probe_deaths integer not null default 0;
