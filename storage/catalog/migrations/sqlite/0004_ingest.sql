-- Streams: where reading goes on in each partition, and what every commit took from it. seen holds the keys that
-- duplicates are told by, in 16 hexadecimal digits each.

create table ingest_offsets (
    job          integer not null references jobs (job) on delete cascade,
    topic        text not null,
    partition    integer not null,
    next_offset  integer not null,
    n_records    integer not null,
    n_duplicates integer not null,
    n_refused    integer not null,
    updated_ms   integer not null,
    primary key (job, topic, partition)
) without rowid;

create table ingest_ranges (
    job          integer not null,
    topic        text not null,
    partition    integer not null,
    begin_offset integer not null, -- -1: the partition's first
    end_offset   integer not null,
    shard        integer,          -- null: there was no record to make one of
    n_records    integer not null,
    n_duplicates integer not null,
    n_refused    integer not null,
    seen         text not null,
    primary key (job, topic, partition, begin_offset),
    foreign key (job, topic, partition) references ingest_offsets (job, topic, partition) on delete cascade,
    foreign key (job, shard) references shards (job, shard) on delete cascade
) without rowid;

create view ingest as
select j.name as job, o.topic, o.partition, o.next_offset, o.n_records as records, o.n_duplicates as duplicates,
       o.n_refused as refused, datetime(o.updated_ms / 1000, 'unixepoch') as updated
from ingest_offsets o join jobs j on j.job = o.job;
