-- Samples that a rule of the job has dropped: state 4, with the rule as reason.
alter table parts add column n_filtered integer not null default 0;
alter table outputs add column n_filtered integer not null default 0;

create view filtered as
select j.name as job, p.reason as rule, count(*) as samples, min(p.uid) as example, min(p.detail) as detail
from samples p join jobs j on j.job = p.job
where p.state = 4
group by j.name, p.reason;

drop view progress;
create view progress as
select j.name as job,
       (select count(*) from shards s where s.job = j.job and s.parent is null) as shards,
       (select count(*) from shards s where s.job = j.job and s.state = 3 and s.parent is null) as shards_done,
       (select count(*) from samples p where p.job = j.job and p.state = 1) as samples_done,
       (select count(*) from samples p where p.job = j.job and p.state = 2) as samples_quarantined,
       (select count(*) from captions c where c.job = j.job and c.column_name <> 'text') as captions,
       (select sum(o.bytes) from outputs o where o.job = j.job) as bytes,
       case j.state when 1 then 'planning' when 2 then 'running' when 3 then 'paused' when 4 then 'done'
                    when 5 then 'cancelled' end as state,
       j.note,
       (select count(*) from shards s where s.job = j.job and s.state = 2) as shards_leased,
       (select count(distinct coalesce(s.parent, s.shard)) from shards s where s.job = j.job and s.state = 4)
           as shards_failed,
       (select count(*) from samples p where p.job = j.job and p.state = 4) as samples_filtered
from jobs j;

drop view accounts;
create view accounts as
select j.name as job, s.job as job_id, s.shard, s.state, s.input_source = 4 as is_retry, s.samples_read,
       count(p.shard) as samples,
       coalesce(sum(p.state = 1), 0) as done,
       coalesce(sum(p.state = 2), 0) as quarantined,
       coalesce(sum(p.state = 3), 0) as retried,
       max(p.sample_index) as last_index,
       o.n_done as output_done, o.n_quarantined as output_quarantined,
       coalesce(sum(p.state = 4), 0) as filtered,
       o.n_filtered as output_filtered
from shards s
join jobs j on j.job = s.job
left join outputs o on o.job = s.job and o.shard = s.shard
left join samples p on p.job = s.job and p.shard = s.shard
where s.parent is null
group by s.job, s.shard;
