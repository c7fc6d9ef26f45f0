-- Streams: where reading goes on in each partition, and what every commit took from it. seen holds the keys that
-- duplicates are told by, in 16 hexadecimal digits each.

create table reinforce.ingest_offsets (
    job          bigint not null,
    topic        text not null,
    partition    integer not null,
    next_offset  bigint not null,
    n_records    bigint not null,
    n_duplicates bigint not null,
    n_refused    bigint not null,
    updated_ms   bigint not null,
    primary key (job, topic, partition)
) partition by list (job);

create table reinforce.ingest_ranges (
    job          bigint not null,
    topic        text not null,
    partition    integer not null,
    begin_offset bigint not null, -- -1: the partition's first
    end_offset   bigint not null,
    shard        bigint,          -- null: there was no record to make one of
    n_records    bigint not null,
    n_duplicates bigint not null,
    n_refused    bigint not null,
    seen         text not null,
    primary key (job, topic, partition, begin_offset)
) partition by list (job);

create or replace function reinforce.create_partitions(job bigint) returns void language plpgsql as $$
begin
    perform reinforce.create_partition(parent, job)
    from unnest(array['shards', 'parts', 'samples', 'captions', 'scores', 'outputs', 'retries', 'costs',
                      'ingest_offsets', 'ingest_ranges']) parent;
end
$$;
select reinforce.create_partition(parent, job)
from reinforce.jobs, unnest(array['ingest_offsets', 'ingest_ranges']) parent;

create view reinforce.ingest as
select j.name as job, o.topic, o.partition, o.next_offset, o.n_records as records, o.n_duplicates as duplicates,
       o.n_refused as refused, to_timestamp(o.updated_ms / 1000.0) as updated
from reinforce.ingest_offsets o join reinforce.jobs j on j.job = o.job;
