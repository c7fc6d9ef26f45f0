-- What each table means is in docs/catalog.md. Enumerations are those of catalog.h.

create table jobs (
    job           integer primary key,
    name          text not null unique,
    state         integer not null,
    config_digest text not null,
    config        text not null,
    created_ms    integer not null
);

create table shards (
    job              integer not null references jobs (job) on delete cascade,
    shard            integer not null,
    state            integer not null,
    epoch            integer not null default 0,
    owner            text,
    lease_expires_ms integer,
    attempts         integer not null default 0,
    last_error       text,
    input_source     integer not null,
    input_key        text not null,
    input_format     text not null,
    input_begin      integer not null,
    input_end        integer not null,
    input_etag       text not null,
    input_samples    integer not null default 0,
    next_offset      integer not null default 0,
    next_index       integer not null default 0,
    n_parts          integer not null default 0,
    primary key (job, shard)
) without rowid;
create index shards_by_state on shards (job, state, shard);

create table parts (
    job           integer not null,
    shard         integer not null,
    part          integer not null,
    epoch         integer not null,
    object_key    text not null,
    bytes         integer not null,
    sha256        text not null,
    n_done        integer not null,
    n_quarantined integer not null,
    primary key (job, shard, part),
    foreign key (job, shard) references shards (job, shard) on delete cascade
) without rowid;

create table samples (
    job          integer not null,
    shard        integer not null,
    sample_index integer not null,
    uid          text not null,
    state        integer not null,
    stage        text,
    reason       text,
    detail       text,
    width        integer not null,
    height       integer not null,
    primary key (job, shard, sample_index),
    foreign key (job, shard) references shards (job, shard) on delete cascade,
    check ((state = 1) = (reason is null))
) without rowid;
create index samples_by_uid on samples (job, uid);
create index samples_by_state on samples (job, state, reason, stage);

create table captions (
    job             integer not null,
    shard           integer not null,
    sample_index    integer not null,
    column_name     text not null,
    caption_index   integer not null,
    caption         text not null,
    log_probability real,
    primary key (job, shard, sample_index, column_name, caption_index),
    foreign key (job, shard, sample_index) references samples (job, shard, sample_index) on delete cascade
) without rowid;

create table scores (
    job           integer not null,
    shard         integer not null,
    sample_index  integer not null,
    column_name   text not null,
    caption_index integer not null,
    teacher       text not null,
    cosine        real not null,
    primary key (job, shard, sample_index, column_name, caption_index, teacher),
    foreign key (job, shard, sample_index) references samples (job, shard, sample_index) on delete cascade
) without rowid;

create table outputs (
    job           integer not null,
    shard         integer not null,
    object_key    text not null,
    bytes         integer not null,
    sha256        text not null,
    n_done        integer not null,
    n_quarantined integer not null,
    primary key (job, shard),
    foreign key (job, shard) references shards (job, shard) on delete cascade
) without rowid;

create view progress as
select j.name as job,
       (select count(*) from shards s where s.job = j.job) as shards,
       (select count(*) from shards s where s.job = j.job and s.state = 3) as shards_done,
       (select count(*) from samples p where p.job = j.job and p.state = 1) as samples_done,
       (select count(*) from samples p where p.job = j.job and p.state = 2) as samples_quarantined,
       (select count(*) from captions c where c.job = j.job and c.column_name <> 'text') as captions,
       (select sum(o.bytes) from outputs o where o.job = j.job) as bytes
from jobs j;

create view failures as
select j.name as job, p.stage, p.reason, count(*) as samples, min(p.uid) as example, min(p.detail) as detail
from samples p join jobs j on j.job = p.job
where p.state = 2
group by j.name, p.stage, p.reason;

create view captions_by_sample as
select j.name as job, p.uid, c.column_name, c.caption_index, c.caption, c.log_probability,
       (select avg(s.cosine) from scores s
        where s.job = c.job and s.shard = c.shard and s.sample_index = c.sample_index
          and s.column_name = c.column_name and s.caption_index = c.caption_index) as mean_cosine
from captions c
join samples p on p.job = c.job and p.shard = c.shard and p.sample_index = c.sample_index
join jobs j on j.job = c.job;
