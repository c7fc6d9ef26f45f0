-- What jobs tell (events as in catalog.h) and what of it nobody has published yet. A row goes in with what it tells of and
-- out when it is published; no number comes twice.

alter table reinforce.jobs add column events smallint not null default 0;

create sequence reinforce.outbox_seq;
create table reinforce.outbox (
    job          bigint not null,
    seq          bigint not null default nextval('reinforce.outbox_seq'),
    shard        bigint not null,
    sample_index bigint, -- null: the shard itself
    committed_ms bigint not null default (extract(epoch from now()) * 1000)::bigint,
    primary key (job, seq)
) partition by list (job);

create or replace function reinforce.create_partitions(job bigint) returns void language plpgsql as $$
begin
    perform reinforce.create_partition(parent, job)
    from unnest(array['shards', 'parts', 'samples', 'captions', 'scores', 'outputs', 'retries', 'costs',
                      'ingest_offsets', 'ingest_ranges', 'outbox']) parent;
end
$$;
select reinforce.create_partition('outbox', job) from reinforce.jobs;

-- Streams: when the oldest record of a shard was read, when a shard was leased first, when records were committed.

alter table reinforce.shards
    add column arrived_ms bigint,
    add column leased_ms  bigint;
alter table reinforce.ingest_ranges add column committed_ms bigint;
create index ingest_ranges_by_time on reinforce.ingest_ranges (job, committed_ms);
