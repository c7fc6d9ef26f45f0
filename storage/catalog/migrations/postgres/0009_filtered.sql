-- Samples that a rule of the job has dropped: state 4, with the rule as reason.
alter table reinforce.parts add column n_filtered bigint not null default 0;
alter table reinforce.outputs add column n_filtered bigint not null default 0;
create index samples_filtered on reinforce.samples (job, reason, stage) where state = 4;

create view reinforce.filtered as
select j.name as job, p.reason as rule, count(*) as samples, min(p.uid) as example, min(p.detail) as detail
from reinforce.samples p join reinforce.jobs j on j.job = p.job
where p.state = 4
group by j.name, p.reason;

-- Replaced, not dropped: what was granted on them stays.
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
        where s.job = j.job and s.state = 4) as shards_failed,
       (select count(*) from reinforce.samples p where p.job = j.job and p.state = 4) as samples_filtered
from reinforce.jobs j;

create or replace view reinforce.accounts as
select j.name as job, s.job as job_id, s.shard, s.state, s.input_source = 4 as is_retry, s.samples_read,
       count(p.shard) as samples,
       count(*) filter (where p.state = 1) as done,
       count(*) filter (where p.state = 2) as quarantined,
       count(*) filter (where p.state = 3) as retried,
       max(p.sample_index) as last_index,
       o.n_done as output_done, o.n_quarantined as output_quarantined,
       count(*) filter (where p.state = 4) as filtered,
       o.n_filtered as output_filtered
from reinforce.shards s
join reinforce.jobs j on j.job = s.job
left join reinforce.outputs o on o.job = s.job and o.shard = s.shard
left join reinforce.samples p on p.job = s.job and p.shard = s.shard
where s.parent is null
group by j.name, s.job, s.shard, s.state, s.input_source, s.samples_read, o.n_done, o.n_quarantined, o.n_filtered;
