-- What jobs tell (events as in catalog.h) and what of it nobody has published yet. A row goes in with what it tells of and
-- out when it is published; no number comes twice.

alter table jobs add column events integer not null default 0;

create table outbox (
    seq          integer primary key autoincrement,
    job          integer not null references jobs (job) on delete cascade,
    shard        integer not null,
    sample_index integer, -- null: the shard itself
    committed_ms integer not null
);
create index outbox_by_job on outbox (job, seq);

-- Streams: when the oldest record of a shard was read, when a shard was leased first, when records were committed.

alter table shards add column arrived_ms integer;
alter table shards add column leased_ms integer;
alter table ingest_ranges add column committed_ms integer;
create index ingest_ranges_by_time on ingest_ranges (job, committed_ms);
