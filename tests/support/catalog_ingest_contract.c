/* What every catalog must do with streams: a shard and the offsets it was made of come together or
 * not at all, whoever reads. */
#include "storage/catalog/catalog.h"
#include "tests/support/catalog_contract.h"
#include "tests/support/test.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static const struct catalog_terms terms = {
    .lease_ms = 1000000, .max_attempts = 3, .part_samples = 4, .samples_at_work = 8};

struct fixture {
    struct catalog *catalog;
    struct arena arena;
    struct catalog_job job;
};

static struct fixture *setup(const struct catalog_target *target, const char *name, bool planned)
{
    struct fixture *f = calloc(1, sizeof *f);
    const char *config;
    struct error err = {0};

    assert_non_null(f);
    arena_init(&f->arena, 1 << 24);
    assert_ok(catalog_open(target->url, &f->catalog, &err));
    assert_ok(
        catalog_job_begin(f->catalog, name, "d1", "{}", 5, &f->arena, &f->job, &config, &err));
    if (planned) /* a stream's job begins with no shard */
        assert_ok(catalog_plan_commit(f->catalog, &f->job, NULL, 0, true, &err));
    return f;
}

static void teardown(struct fixture *f)
{
    catalog_close(&f->catalog);
    arena_release(&f->arena);
    free(f);
}

static struct catalog_ingest_range range_of(int32_t partition, int64_t begin, int64_t end,
                                            const char *seen)
{
    return (struct catalog_ingest_range){.topic = "images",
                                         .partition = partition,
                                         .begin = begin,
                                         .end = end,
                                         .n_records = 3,
                                         .n_duplicates = 2,
                                         .n_refused = 1,
                                         .seen = bytes_of_string(seen)};
}

static enum status commit(struct fixture *f, const char *key,
                          const struct catalog_ingest_range *ranges, size_t n, int64_t *shard,
                          struct error *err)
{
    const struct catalog_ingest ingest = {
        .input_key = key, .input_bytes = 77, .input_etag = "e", .ranges = ranges, .n_ranges = n};

    return catalog_ingest_commit(f->catalog, f->job.job, &ingest, 1234, shard, err);
}

static int64_t offset_of(struct fixture *f, int32_t partition)
{
    struct catalog_ingest_position position;
    struct error err = {0};

    assert_ok(catalog_ingest_read(f->catalog, f->job.job, "images", partition, 0, &f->arena,
                                  &position, &err));
    return position.next_offset;
}

static int64_t n_shards(struct fixture *f)
{
    struct catalog_progress progress;
    struct error err = {0};

    assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
    return progress.shards_total;
}

static void a_shard_and_its_offsets_come_together(const struct catalog_target *target)
{
    struct fixture *f = setup(target, "ingest-together", true);
    const struct catalog_ingest_range first[] = {range_of(0, CATALOG_INGEST_UNKNOWN, 6, "a"),
                                                 range_of(1, CATALOG_INGEST_UNKNOWN, 8, "b")};
    const struct catalog_ingest_range second[] = {range_of(1, 8, 9, "c")};
    struct catalog_lease lease;
    struct error err = {0};
    int64_t shard, wait;

    assert_int_equal(offset_of(f, 0), CATALOG_INGEST_UNKNOWN);
    assert_ok(commit(f, "_reinforce/ingest/1.jsonl", first, 2, &shard, &err));
    assert_int_equal(shard, 0);
    assert_ok(commit(f, "_reinforce/ingest/2.jsonl", second, 1, &shard, &err));
    assert_int_equal(shard, 1);
    assert_int_equal(offset_of(f, 0), 6);
    assert_int_equal(offset_of(f, 1), 9);
    assert_int_equal(offset_of(f, 2), CATALOG_INGEST_UNKNOWN);
    assert_ok(
        catalog_lease_take(f->catalog, f->job.job, "w", 0, &terms, &f->arena, &lease, &wait, &err));
    assert_int_equal(lease.shard, 0);
    assert_int_equal(lease.plan.source, CATALOG_INPUT_PLAN);
    assert_string_equal(lease.plan.input_key, "_reinforce/ingest/1.jsonl");
    assert_string_equal(lease.plan.input_format, "jsonl");
    assert_string_equal(lease.plan.input_etag, "e");
    assert_int_equal(lease.plan.input_begin, 0);
    assert_int_equal(lease.plan.input_end, 77);
    teardown(f);
}

static void another_reader_s_offsets_let_nothing_in(const struct catalog_target *target)
{
    struct fixture *f = setup(target, "ingest-conflict", true);
    const struct catalog_ingest_range first[] = {range_of(0, CATALOG_INGEST_UNKNOWN, 6, "")};
    const struct catalog_ingest_range anew[] = {range_of(1, CATALOG_INGEST_UNKNOWN, 3, ""),
                                                range_of(0, CATALOG_INGEST_UNKNOWN, 7, "")};
    const struct catalog_ingest_range stale[] = {range_of(1, CATALOG_INGEST_UNKNOWN, 3, ""),
                                                 range_of(0, 5, 7, "")};
    struct error err = {0};
    int64_t shard;

    assert_ok(commit(f, "k1", first, 1, &shard, &err));
    assert_status(commit(f, "k2", anew, 2, &shard, &err), ST_CONFLICT);
    assert_status(commit(f, "k3", stale, 2, &shard, &err), ST_CONFLICT);
    assert_non_null(strstr(err.message, "images"));
    assert_int_equal(offset_of(f, 0), 6);
    assert_int_equal(offset_of(f, 1), CATALOG_INGEST_UNKNOWN);
    assert_int_equal(n_shards(f), 1);
    teardown(f);
}

static void a_commit_whose_answer_was_lost_may_be_said_again(const struct catalog_target *target)
{
    struct fixture *f = setup(target, "ingest-again", true);
    const struct catalog_ingest_range ranges[] = {range_of(0, CATALOG_INGEST_UNKNOWN, 6, ""),
                                                  range_of(1, CATALOG_INGEST_UNKNOWN, 2, "")};
    const struct catalog_ingest_range next[] = {range_of(0, 6, 7, "")};
    struct error err = {0};
    int64_t shard = -7;

    assert_ok(commit(f, "k1", ranges, 2, &shard, &err));
    assert_ok(commit(f, "k1", ranges, 2, &shard, &err));
    assert_int_equal(shard, 0);
    assert_status(commit(f, "k2", ranges, 2, &shard, &err), ST_CONFLICT); /* another's list */
    assert_int_equal(n_shards(f), 1);
    assert_ok(commit(f, NULL, next, 1, &shard, &err)); /* no record, only offsets */
    assert_int_equal(shard, -1);
    assert_ok(commit(f, NULL, next, 1, &shard, &err));
    assert_int_equal(shard, -1);
    assert_int_equal(n_shards(f), 1);
    assert_int_equal(offset_of(f, 0), 7);
    teardown(f);
}

static void keys_of_the_last_records_are_found_again(const struct catalog_target *target)
{
    struct fixture *f = setup(target, "ingest-seen", true);
    static const char *const keys[] = {"aa", "bb", "cc", "dd"};
    static const struct {
        int64_t window;
        size_t from;
    } cases[] = {{0, 4}, {1, 3}, {3, 3}, {4, 2}, {6, 2}, {7, 1}, {100, 0}};
    struct catalog_ingest_position position;
    struct error err = {0};
    int64_t shard;

    for (int i = 0; i < 4; i++) {
        const struct catalog_ingest_range range =
            range_of(0, i == 0 ? CATALOG_INGEST_UNKNOWN : 10 * i, 10 * i + 10, keys[i]);

        assert_ok(commit(f, keys[i], &range, 1, &shard, &err));
    }
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_ok(catalog_ingest_read(f->catalog, f->job.job, "images", 0, cases[i].window,
                                      &f->arena, &position, &err));
        assert_int_equal(position.next_offset, 40);
        assert_int_equal(position.n_seen, 4 - cases[i].from);
        for (size_t k = 0; k < position.n_seen; k++)
            assert_true(bytes_equal(position.seen[k], bytes_of_string(keys[cases[i].from + k])));
    }
    teardown(f);
}

struct list {
    int n;
    int64_t next[2], records, duplicates, refused;
};

static enum status see_partition(void *ctx, const struct catalog_ingest_partition *partition,
                                 struct error *err)
{
    struct list *list = ctx;

    (void)err;
    assert_string_equal(partition->topic, "images");
    assert_int_equal(partition->partition, list->n);
    assert_int_equal(partition->updated_ms, 1234);
    list->next[list->n++] = partition->next_offset;
    list->records += partition->n_records;
    list->duplicates += partition->n_duplicates;
    list->refused += partition->n_refused;
    return ST_OK;
}

static void partitions_are_counted(const struct catalog_target *target)
{
    struct fixture *f = setup(target, "ingest-list", true);
    const struct catalog_ingest_range first[] = {range_of(1, CATALOG_INGEST_UNKNOWN, 6, ""),
                                                 range_of(0, CATALOG_INGEST_UNKNOWN, 8, "")};
    const struct catalog_ingest_range second[] = {range_of(0, 8, 20, "")};
    struct list list = {0};
    struct error err = {0};
    int64_t shard;

    assert_ok(commit(f, "k1", first, 2, &shard, &err));
    assert_ok(commit(f, "k2", second, 1, &shard, &err));
    assert_ok(catalog_ingest_list(f->catalog, f->job.job, see_partition, &list, &err));
    assert_int_equal(list.n, 2);
    assert_int_equal(list.next[0], 20);
    assert_int_equal(list.next[1], 6);
    assert_int_equal(list.records, 9);
    assert_int_equal(list.duplicates, 6);
    assert_int_equal(list.refused, 3);
    teardown(f);
}

/* What is leased has waited as long as it was said to, and until then by the clock. */
static void what_a_record_waits_for_its_lease_is_told(const struct catalog_target *target)
{
    struct fixture *f = setup(target, "ingest-pace", true);
    struct catalog_ingest_range range = range_of(0, CATALOG_INGEST_UNKNOWN, 6, "");
    struct catalog_ingest ingest = {
        .input_key = "k1", .input_etag = "e", .ranges = &range, .n_ranges = 1};
    struct catalog_ingest_pace pace;
    struct catalog_lease lease;
    struct error err = {0};
    int64_t shard, wait;

    assert_ok(catalog_ingest_read_pace(f->catalog, f->job.job, &pace, &err));
    assert_int_equal(pace.n_records + pace.n_leased + pace.p99_ms + pace.n_waiting, 0);
    for (int64_t i = 0; i < 3; i++) { /* they have waited for 1000, 2000 and 3000 s */
        char key[8];

        (void)snprintf(key, sizeof key, "k%d", (int)i);
        ingest.input_key = key;
        ingest.waited_ms = (i + 1) * 1000000;
        assert_ok(catalog_ingest_commit(f->catalog, f->job.job, &ingest, 1, &shard, &err));
        range = range_of(0, range.end, range.end + 6, "");
    }
    assert_ok(catalog_ingest_read_pace(f->catalog, f->job.job, &pace, &err));
    assert_int_equal(pace.n_records, 9);
    assert_int_equal(pace.n_leased, 0);
    assert_int_equal(pace.n_waiting, 3);
    assert_in_range(pace.oldest_ms, 3000000, 3200000);
    for (int i = 0; i < 3; i++)
        assert_ok(catalog_lease_take(f->catalog, f->job.job, "w", 0, &terms, &f->arena, &lease,
                                     &wait, &err));
    assert_ok(catalog_lease_release(f->catalog, &lease, false, "", &err)); /* the first counts */
    assert_ok(catalog_ingest_read_pace(f->catalog, f->job.job, &pace, &err));
    assert_int_equal(pace.n_leased, 3);
    assert_int_equal(pace.n_waiting, 0);
    assert_int_equal(pace.oldest_ms, 0);
    assert_in_range(pace.p50_ms, 2000000, 2200000);
    assert_in_range(pace.p99_ms, 3000000, 3200000);
    teardown(f);
}

static void a_job_takes_records_while_it_lives(const struct catalog_target *target)
{
    struct fixture *f = setup(target, "ingest-states", false);
    const struct catalog_ingest_range first[] = {range_of(0, CATALOG_INGEST_UNKNOWN, 6, "")};
    const struct catalog_ingest_range second[] = {range_of(0, 6, 7, "")};
    const char *config;
    struct error err = {0};
    int64_t shard;

    assert_status(commit(f, "k1", first, 1, &shard, &err), ST_CONFLICT); /* not planned */
    assert_ok(catalog_plan_commit(f->catalog, &f->job, NULL, 0, true, &err));
    assert_ok(catalog_job_set_state(f->catalog, f->job.job, CATALOG_JOB_DONE, &err));
    assert_ok(commit(f, "k1", first, 1, &shard, &err));
    assert_ok(catalog_job_find(f->catalog, "ingest-states", &f->arena, &f->job, &config, &err));
    assert_int_equal(f->job.state, CATALOG_JOB_RUNNING);
    assert_ok(catalog_job_set_state(f->catalog, f->job.job, CATALOG_JOB_CANCELLED, &err));
    assert_status(commit(f, "k2", second, 1, &shard, &err), ST_CONFLICT);
    teardown(f);
}

enum { N_READERS = 3, N_STEPS = 20 };

/* Reads on from wherever the catalog is, as one of several that all believe a partition is
 * theirs. */
struct reader {
    const char *url;
    int64_t job;
    int number;
    int n_won;
    pthread_t thread;
};

static void *read_on(void *arg)
{
    struct reader *reader = arg;
    struct catalog *catalog;
    struct arena arena;
    struct error err = {0};

    arena_init(&arena, 1 << 24);
    assert_ok(catalog_open(reader->url, &catalog, &err));
    for (int step = 0; step < N_STEPS; step++) {
        struct catalog_ingest_position position;
        struct catalog_ingest_range range = range_of(0, 0, 0, "");
        struct catalog_ingest ingest = {.input_etag = "", .ranges = &range, .n_ranges = 1};
        char key[32];
        int64_t shard;
        enum status st;

        assert_ok(
            catalog_ingest_read(catalog, reader->job, "images", 0, 0, &arena, &position, &err));
        range.begin = position.next_offset;
        range.end = MAX(position.next_offset, (int64_t)0) + 1;
        (void)snprintf(key, sizeof key, "%d-%d", reader->number, step);
        ingest.input_key = key;
        st = catalog_ingest_commit(catalog, reader->job, &ingest, 1, &shard, &err);
        if (st != ST_OK && st != ST_CONFLICT)
            fail_msg("%s: %s", status_name(st), err.message);
        reader->n_won += st == ST_OK;
    }
    catalog_close(&catalog);
    arena_release(&arena);
    return NULL;
}

static void of_readers_of_one_partition_each_offset_has_one(const struct catalog_target *target)
{
    struct fixture *f = setup(target, "ingest-readers", true);
    struct reader readers[N_READERS];
    int n_won = 0;

    for (int i = 0; i < N_READERS; i++) {
        readers[i] = (struct reader){.url = target->url, .job = f->job.job, .number = i};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_on, &readers[i]), 0);
    }
    for (int i = 0; i < N_READERS; i++) {
        (void)pthread_join(readers[i].thread, NULL);
        n_won += readers[i].n_won;
    }
    assert_true(n_won >= N_STEPS);
    assert_int_equal(offset_of(f, 0), n_won);
    assert_int_equal(n_shards(f), n_won);
    teardown(f);
}

void catalog_ingest_contract(const struct catalog_target *target)
{
    a_shard_and_its_offsets_come_together(target);
    another_reader_s_offsets_let_nothing_in(target);
    a_commit_whose_answer_was_lost_may_be_said_again(target);
    keys_of_the_last_records_are_found_again(target);
    partitions_are_counted(target);
    what_a_record_waits_for_its_lease_is_told(target);
    a_job_takes_records_while_it_lives(target);
    of_readers_of_one_partition_each_offset_has_one(target);
}
