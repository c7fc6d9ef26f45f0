-- A shard's rest that was split off for another worker is a row of its own, numbered -1, -2, ...: a piece. parent: the shard it
-- belongs to, under whose number its samples are; begin_index, end_index: the samples of a row (end null: to the input's end).
-- rival_*: a second lease of a straggler's shard, as epoch and owner; the number stays when the owner has gone.
alter table reinforce.shards
    add column parent      bigint,
    add column begin_index bigint not null default 0,
    add column end_index   bigint,
    add column rival_epoch bigint not null default 0,
    add column rival_owner text;
create index shards_by_parent on reinforce.shards (job, parent) where parent is not null;

-- Shards go out while more are still being planned.
alter table reinforce.jobs add column is_planned boolean not null default false;
update reinforce.jobs j set is_planned = true
where state <> 1 and exists (select from reinforce.shards s where s.job = j.job);

create or replace view reinforce.progress as
select j.name as job,
       (select count(*) from reinforce.shards s where s.job = j.job and s.parent is null) as shards,
       (select count(*) from reinforce.shards s where s.job = j.job and s.state = 3 and s.parent is null)
           as shards_done,
       (select count(*) from reinforce.samples p where p.job = j.job and p.state = 1) as samples_done,
       (select count(*) from reinforce.samples p where p.job = j.job and p.state = 2) as samples_quarantined,
       (select count(*) from reinforce.captions c where c.job = j.job and c.column_name <> 'text') as captions,
       (select sum(o.bytes) from reinforce.outputs o where o.job = j.job) as bytes,
       case j.state when 1 then 'planning' when 2 then 'running' when 3 then 'paused' when 4 then 'done'
                    when 5 then 'cancelled' end as state,
       j.note,
       (select count(*) from reinforce.shards s where s.job = j.job and s.state = 2) as shards_leased,
       (select count(distinct coalesce(s.parent, s.shard)) from reinforce.shards s
        where s.job = j.job and s.state = 4) as shards_failed
from reinforce.jobs j;

create or replace view reinforce.accounts as
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
where s.parent is null
group by j.name, s.job, s.shard, s.state, s.input_source, s.samples_read, o.n_done, o.n_quarantined;
