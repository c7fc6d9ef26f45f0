-- What each table means is in docs/catalog.md. Enumerations are those of catalog.h.
-- Every table but jobs has a partition for each job, made by create_partitions(): a job is dropped at once, and
-- its indexes are no larger than its own rows. No foreign keys between them: a trigger for every caption would
-- cost more than the rows; parts are written whole, under the shard's lock, or not at all.

create table reinforce.jobs (
    job           bigint generated always as identity primary key,
    name          text not null unique,
    state         smallint not null,
    config_digest text not null,
    config        text not null,
    created_ms    bigint not null
);

create table reinforce.shards (
    job           bigint not null,
    shard         bigint not null,
    state         smallint not null,
    epoch         bigint not null default 0,
    owner         text,
    lease_expires timestamptz,
    lease_token   bigint, -- of the call that took it, which may ask again when the answer is lost
    attempts      integer not null default 0,
    last_error    text,
    input_source  smallint not null,
    input_key     text not null,
    input_format  text not null,
    input_begin   bigint not null,
    input_end     bigint not null,
    input_etag    text not null,
    input_samples bigint not null default 0,
    next_offset   bigint not null default 0,
    next_index    bigint not null default 0,
    n_parts       bigint not null default 0,
    primary key (job, shard)
) partition by list (job);
create index shards_ready on reinforce.shards (job, shard) where state = 1;
create index shards_tried on reinforce.shards (job, attempts) where state = 1;
create index shards_leased on reinforce.shards (job, lease_expires) where state = 2;

create table reinforce.parts (
    job           bigint not null,
    shard         bigint not null,
    part          bigint not null,
    epoch         bigint not null,
    object_key    text not null,
    bytes         bigint not null,
    sha256        text not null,
    n_done        bigint not null,
    n_quarantined bigint not null,
    primary key (job, shard, part)
) partition by list (job);

create table reinforce.samples (
    job          bigint not null,
    shard        bigint not null,
    sample_index bigint not null,
    uid          text not null,
    state        smallint not null,
    stage        text,
    reason       text,
    detail       text,
    width        integer not null,
    height       integer not null,
    primary key (job, shard, sample_index),
    check ((state = 1) = (reason is null))
) partition by list (job);
create index samples_by_uid on reinforce.samples (job, uid);
create index samples_quarantined on reinforce.samples (job, reason, stage) where state = 2;

create table reinforce.captions (
    job             bigint not null,
    shard           bigint not null,
    sample_index    bigint not null,
    column_name     text not null,
    caption_index   integer not null,
    caption         text not null,
    log_probability double precision,
    primary key (job, shard, sample_index, column_name, caption_index)
) partition by list (job);

create table reinforce.scores (
    job           bigint not null,
    shard         bigint not null,
    sample_index  bigint not null,
    column_name   text not null,
    caption_index integer not null,
    teacher       text not null,
    cosine        double precision not null,
    primary key (job, shard, sample_index, column_name, caption_index, teacher)
) partition by list (job);

create table reinforce.outputs (
    job           bigint not null,
    shard         bigint not null,
    object_key    text not null,
    bytes         bigint not null,
    sha256        text not null,
    n_done        bigint not null,
    n_quarantined bigint not null,
    primary key (job, shard)
) partition by list (job);

-- Attached, not created as partitions: attaching does not make running jobs wait.
create function reinforce.create_partitions(job bigint) returns void language plpgsql as $$
declare
    parent text;
begin
    foreach parent in array array['shards', 'parts', 'samples', 'captions', 'scores', 'outputs'] loop
        execute format('create table reinforce.%I (like reinforce.%I including all)', parent || '_' || job, parent);
        execute format('alter table reinforce.%I attach partition reinforce.%I for values in (%s)',
                       parent, parent || '_' || job, job);
    end loop;
end
$$;

create view reinforce.progress as
select j.name as job,
       (select count(*) from reinforce.shards s where s.job = j.job) as shards,
       (select count(*) from reinforce.shards s where s.job = j.job and s.state = 3) as shards_done,
       (select count(*) from reinforce.samples p where p.job = j.job and p.state = 1) as samples_done,
       (select count(*) from reinforce.samples p where p.job = j.job and p.state = 2) as samples_quarantined,
       (select count(*) from reinforce.captions c where c.job = j.job and c.column_name <> 'text') as captions,
       (select sum(o.bytes) from reinforce.outputs o where o.job = j.job) as bytes
from reinforce.jobs j;

create view reinforce.failures as
select j.name as job, p.stage, p.reason, count(*) as samples, min(p.uid) as example, min(p.detail) as detail
from reinforce.samples p join reinforce.jobs j on j.job = p.job
where p.state = 2
group by j.name, p.stage, p.reason;

create view reinforce.captions_by_sample as
select j.name as job, p.uid, c.column_name, c.caption_index, c.caption, c.log_probability,
       (select avg(s.cosine) from reinforce.scores s
        where s.job = c.job and s.shard = c.shard and s.sample_index = c.sample_index
          and s.column_name = c.column_name and s.caption_index = c.caption_index) as mean_cosine
from reinforce.captions c
join reinforce.samples p on p.job = c.job and p.shard = c.shard and p.sample_index = c.sample_index
join reinforce.jobs j on j.job = c.job;

create view reinforce.cost_by_model as
select j.name as job, 'captioner' as role, c.column_name as model, count(*) as texts,
       sum(octet_length(c.caption)) as text_bytes
from reinforce.captions c join reinforce.jobs j on j.job = c.job
where c.column_name <> 'text'
group by j.name, c.column_name
union all
select j.name, 'teacher', s.teacher, count(*), sum(octet_length(c.caption))
from reinforce.scores s
join reinforce.captions c on c.job = s.job and c.shard = s.shard and c.sample_index = s.sample_index
                         and c.column_name = s.column_name and c.caption_index = s.caption_index
join reinforce.jobs j on j.job = s.job
group by j.name, s.teacher;
