-- How many leases a job may have at once (0: any number), who works, what models cost, and how a sample is tried again.

alter table reinforce.jobs add column max_leases bigint not null default 0;

-- A shard that is made again has its planned input and, until it is done, another one: again_source as input_source.
alter table reinforce.shards
    add column again_source smallint,
    add column again_key    text,
    add column again_format text,
    add column samples_read bigint; -- once its input has been read to the end
update reinforce.shards set again_source = 3, again_key = input_key, again_format = input_format
where input_source = 3 and state <> 3;
update reinforce.shards s
set samples_read = (select count(*) from reinforce.samples p where p.job = s.job and p.shard = s.shard)
where s.state = 3 or s.input_source = 3;

-- Samples of a shard of input_source 4: the row each takes the place of, and where it was read first.
create table reinforce.retries (
    job          bigint not null,
    shard        bigint not null,
    sample_index bigint not null,
    old_shard    bigint not null,
    old_index    bigint not null,
    source_shard bigint not null,
    source_index bigint not null,
    primary key (job, shard, sample_index)
) partition by list (job);
create unique index retries_by_old on reinforce.retries (job, old_shard, old_index);

create table reinforce.costs (
    job     bigint not null,
    shard   bigint not null,
    epoch   bigint not null,
    part    bigint not null,
    role    text not null,
    model   text not null,
    seconds double precision not null,
    images  bigint not null,
    texts   bigint not null,
    tokens  bigint not null,
    primary key (job, shard, epoch, part, role, model)
) partition by list (job);

create table reinforce.workers (
    name               text primary key,
    host               text not null,
    address            text not null,
    version            text not null,
    state              smallint not null,
    first_seen         timestamptz not null default now(),
    last_seen          timestamptz not null default now(),
    samples_per_second double precision not null
);

create function reinforce.create_partition(parent text, job bigint) returns void language plpgsql as $$
begin
    execute format('create table reinforce.%I (like reinforce.%I including all)', parent || '_' || job, parent);
    execute format('alter table reinforce.%I attach partition reinforce.%I for values in (%s)',
                   parent, parent || '_' || job, job);
end
$$;
create or replace function reinforce.create_partitions(job bigint) returns void language plpgsql as $$
begin
    perform reinforce.create_partition(parent, job)
    from unnest(array['shards', 'parts', 'samples', 'captions', 'scores', 'outputs', 'retries', 'costs']) parent;
end
$$;
select reinforce.create_partition(parent, job)
from reinforce.jobs, unnest(array['retries', 'costs']) parent;

create or replace view reinforce.progress as
select j.name as job,
       (select count(*) from reinforce.shards s where s.job = j.job) as shards,
       (select count(*) from reinforce.shards s where s.job = j.job and s.state = 3) as shards_done,
       (select count(*) from reinforce.samples p where p.job = j.job and p.state = 1) as samples_done,
       (select count(*) from reinforce.samples p where p.job = j.job and p.state = 2) as samples_quarantined,
       (select count(*) from reinforce.captions c where c.job = j.job and c.column_name <> 'text') as captions,
       (select sum(o.bytes) from reinforce.outputs o where o.job = j.job) as bytes,
       case j.state when 1 then 'planning' when 2 then 'running' when 3 then 'paused' when 4 then 'done'
                    when 5 then 'cancelled' end as state,
       j.note,
       (select count(*) from reinforce.shards s where s.job = j.job and s.state = 2) as shards_leased,
       (select count(*) from reinforce.shards s where s.job = j.job and s.state = 4) as shards_failed
from reinforce.jobs j;

create view reinforce.accounts as
select j.name as job, s.job as job_id, s.shard, s.state, s.input_source = 4 as is_retry, s.samples_read,
       count(p.shard) as samples,
       count(*) filter (where p.state = 1) as done,
       count(*) filter (where p.state = 2) as quarantined,
       count(*) filter (where p.state = 3) as retried,
       max(p.sample_index) as last_index,
       o.n_done as output_done, o.n_quarantined as output_quarantined
from reinforce.shards s
join reinforce.jobs j on j.job = s.job
left join reinforce.outputs o on o.job = s.job and o.shard = s.shard
left join reinforce.samples p on p.job = s.job and p.shard = s.shard
group by j.name, s.job, s.shard, s.state, s.input_source, s.samples_read, o.n_done, o.n_quarantined;

drop view reinforce.cost_by_model;
create view reinforce.cost_by_model as
select j.name as job, c.role, c.model, sum(c.seconds) as seconds, sum(c.images)::bigint as images,
       sum(c.texts)::bigint as texts, sum(c.tokens)::bigint as tokens
from reinforce.costs c join reinforce.jobs j on j.job = c.job
group by j.name, c.role, c.model;
