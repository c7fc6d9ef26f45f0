-- How many leases a job may have at once (0: any number), who works, what models cost, and how a sample is tried again.

alter table jobs add column max_leases integer not null default 0;

-- A shard that is made again has its planned input and, until it is done, another one: again_source as input_source.
alter table shards add column again_source integer;
alter table shards add column again_key text;
alter table shards add column again_format text;
alter table shards add column samples_read integer; -- once its input has been read to the end
update shards set again_source = 3, again_key = input_key, again_format = input_format
where input_source = 3 and state <> 3;
update shards set samples_read = (select count(*) from samples p where p.job = shards.job and p.shard = shards.shard)
where state = 3 or input_source = 3;

-- Samples of a shard of input_source 4: the row each takes the place of, and where it was read first.
create table retries (
    job          integer not null,
    shard        integer not null,
    sample_index integer not null,
    old_shard    integer not null,
    old_index    integer not null,
    source_shard integer not null,
    source_index integer not null,
    primary key (job, shard, sample_index),
    foreign key (job, shard) references shards (job, shard) on delete cascade
) without rowid;
create unique index retries_by_old on retries (job, old_shard, old_index);

create table costs (
    job     integer not null,
    shard   integer not null,
    epoch   integer not null,
    part    integer not null,
    role    text not null,
    model   text not null,
    seconds real not null,
    images  integer not null,
    texts   integer not null,
    tokens  integer not null,
    primary key (job, shard, epoch, part, role, model),
    foreign key (job, shard) references shards (job, shard) on delete cascade
) without rowid;

create table workers (
    name               text primary key,
    host               text not null,
    address            text not null,
    version            text not null,
    state              integer not null,
    first_seen_ms      integer not null,
    last_seen_ms       integer not null,
    samples_per_second real not null
) without rowid;

drop view progress;
create view progress as
select j.name as job,
       (select count(*) from shards s where s.job = j.job) as shards,
       (select count(*) from shards s where s.job = j.job and s.state = 3) as shards_done,
       (select count(*) from samples p where p.job = j.job and p.state = 1) as samples_done,
       (select count(*) from samples p where p.job = j.job and p.state = 2) as samples_quarantined,
       (select count(*) from captions c where c.job = j.job and c.column_name <> 'text') as captions,
       (select sum(o.bytes) from outputs o where o.job = j.job) as bytes,
       case j.state when 1 then 'planning' when 2 then 'running' when 3 then 'paused' when 4 then 'done'
                    when 5 then 'cancelled' end as state,
       j.note,
       (select count(*) from shards s where s.job = j.job and s.state = 2) as shards_leased,
       (select count(*) from shards s where s.job = j.job and s.state = 4) as shards_failed
from jobs j;

create view accounts as
select j.name as job, s.job as job_id, s.shard, s.state, s.input_source = 4 as is_retry, s.samples_read,
       count(p.shard) as samples,
       coalesce(sum(p.state = 1), 0) as done,
       coalesce(sum(p.state = 2), 0) as quarantined,
       coalesce(sum(p.state = 3), 0) as retried,
       max(p.sample_index) as last_index,
       o.n_done as output_done, o.n_quarantined as output_quarantined
from shards s
join jobs j on j.job = s.job
left join outputs o on o.job = s.job and o.shard = s.shard
left join samples p on p.job = s.job and p.shard = s.shard
group by s.job, s.shard;

create view cost_by_model as
select j.name as job, c.role, c.model, sum(c.seconds) as seconds, sum(c.images) as images, sum(c.texts) as texts,
       sum(c.tokens) as tokens
from costs c join jobs j on j.job = c.job
group by c.job, c.role, c.model;
