-- Which samples may have killed a worker: those from next_index to before suspect_end, worked on probe_samples at a time;
-- whether the first of them is at work alone, and how often that has ended in a death.
alter table shards add column suspect_end integer not null default 0;
alter table shards add column probe_samples integer not null default 0;
alter table shards add column probing integer not null default 0;
alter table shards add column probe_deaths integer not null default 0;
