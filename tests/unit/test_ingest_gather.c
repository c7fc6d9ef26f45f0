#include "coordinator/ingest_gather.h"
#include "coordinator/ingest_window.h"
#include "tests/support/oom.h"
#include "tests/support/test.h"

#include <stdio.h>

static const struct ingest_limits usual = {.max_records = 6,
                                           .max_bytes = 1 << 20,
                                           .max_age_ms = 1000,
                                           .max_queued_bytes = 1 << 20,
                                           .window = 100,
                                           .by_uid = true,
                                           .by_content = true};

static struct ingest_gather *create(const struct ingest_limits *limits)
{
    struct ingest_gather *g;
    struct error err = {0};

    assert_ok(ingest_gather_create(limits, &g, &err));
    return g;
}

static void begin(struct ingest_gather *g, int partition, int64_t committed)
{
    const struct stream_partition at = {
        .topic = "t", .partition = partition, .offset = MAX(committed, (int64_t)0)};
    struct error err = {0};

    assert_ok(ingest_gather_begin(g, &at, committed, NULL, 0, &err));
}

/* Record `offset` of a partition, named by both; its line is "p:o\n". */
static void add_named(struct ingest_gather *g, int partition, int64_t offset, uint64_t uid,
                      uint64_t content, int64_t now_ms)
{
    const struct stream_origin origin = {.topic = "t", .partition = partition, .offset = offset};
    const struct stream_record record = {.uid_hash = uid, .content_hash = content};
    struct error err = {0};
    char line[32];

    (void)snprintf(line, sizeof line, "%d:%d\n", partition, (int)offset);
    assert_ok(ingest_gather_add(g, &origin, &record, bytes_of_string(line), now_ms, &err));
}

static void add(struct ingest_gather *g, int partition, int64_t offset, int64_t now_ms)
{
    uint64_t name = (uint64_t)partition * 1000000 + (uint64_t)offset + 1;

    add_named(g, partition, offset, name, name, now_ms);
}

static void add_refused(struct ingest_gather *g, int partition, int64_t offset, int64_t now_ms)
{
    const struct stream_origin origin = {.topic = "t", .partition = partition, .offset = offset};
    struct error err = {0};

    assert_ok(ingest_gather_add(g, &origin, NULL, (struct bytes_view){0}, now_ms, &err));
}

static const struct ingest_batch *cut(struct ingest_gather *g, const char *lines)
{
    const struct ingest_batch *batch;
    struct error err = {0};

    assert_ok(ingest_gather_cut(g, &batch, &err));
    if (!bytes_equal(batch->lines, bytes_of_string(lines)))
        fail_msg("lines are \"%.*s\"", (int)batch->lines.len, (const char *)batch->lines.data);
    return batch;
}

static const struct catalog_ingest_range *range_of(const struct ingest_batch *batch, int partition)
{
    for (size_t i = 0; i < batch->n_ranges; i++)
        if (batch->ranges[i].partition == partition)
            return &batch->ranges[i];
    fail_msg("no range of partition %d", partition);
    return NULL;
}

static void a_batch_is_cut_by_count(void **state)
{
    struct ingest_gather *g = create(&usual);
    const struct ingest_batch *batch;

    (void)state;
    begin(g, 0, CATALOG_INGEST_UNKNOWN);
    for (int i = 0; i < 5; i++)
        add(g, 0, i, 0);
    assert_false(ingest_gather_is_due(g, 0));
    for (int i = 5; i < 8; i++)
        add(g, 0, i, 0);
    assert_true(ingest_gather_is_due(g, 0));
    batch = cut(g, "0:0\n0:1\n0:2\n0:3\n0:4\n0:5\n");
    assert_int_equal(batch->n_records, 6);
    assert_int_equal(batch->ranges[0].begin, CATALOG_INGEST_UNKNOWN);
    assert_int_equal(batch->ranges[0].end, 6);
    assert_int_equal(batch->ranges[0].n_records, 6);
    assert_true(ingest_gather_is_due(g, 0)); /* until it is committed */
    batch = cut(g, "0:0\n0:1\n0:2\n0:3\n0:4\n0:5\n");
    ingest_gather_committed(g);
    assert_false(ingest_gather_is_due(g, 0));
    batch = cut(g, "0:6\n0:7\n");
    assert_int_equal(batch->ranges[0].begin, 6);
    assert_int_equal(batch->ranges[0].end, 8);
    ingest_gather_destroy(&g);
}

static void a_batch_is_cut_by_bytes_and_a_long_line_is_one(void **state)
{
    struct ingest_limits limits = usual;
    const struct stream_origin origin = {.topic = "t", .partition = 0, .offset = 3};
    const struct stream_record record = {.uid_hash = 99, .content_hash = 98};
    struct ingest_gather *g;
    struct error err = {0};

    (void)state;
    limits.max_bytes = 10; /* two lines of four */
    g = create(&limits);
    begin(g, 0, 0);
    add(g, 0, 0, 0);
    add(g, 0, 1, 0);
    assert_false(ingest_gather_is_due(g, 0));
    add(g, 0, 2, 0);
    assert_true(ingest_gather_is_due(g, 0));
    assert_ok(
        ingest_gather_add(g, &origin, &record, bytes_of_string("longer than a batch\n"), 0, &err));
    cut(g, "0:0\n0:1\n");
    ingest_gather_committed(g);
    cut(g, "0:2\n");
    ingest_gather_committed(g);
    cut(g, "longer than a batch\n");
    ingest_gather_destroy(&g);
}

static void a_batch_is_cut_by_age_of_what_waits_longest(void **state)
{
    struct ingest_gather *g = create(&usual);
    const struct ingest_batch *batch;

    (void)state;
    begin(g, 0, 0);
    begin(g, 1, 0);
    assert_int_equal(ingest_gather_wait_ms(g, 0), -1);
    add(g, 1, 0, 100);
    add(g, 0, 0, 600);
    assert_int_equal(ingest_gather_wait_ms(g, 600), 500);
    assert_false(ingest_gather_is_due(g, 1099));
    assert_true(ingest_gather_is_due(g, 1100));
    batch = cut(g, "0:0\n1:0\n");
    assert_int_equal(batch->first_ms, 100);
    ingest_gather_destroy(&g);
}

static void partitions_take_turns_whatever_the_backlog_of_one(void **state)
{
    struct ingest_gather *g = create(&usual);

    (void)state;
    for (int p = 0; p < 3; p++)
        begin(g, p, 0);
    for (int i = 0; i < 20; i++)
        add(g, 0, i, 0);
    add(g, 1, 0, 0);
    add(g, 1, 1, 0);
    add(g, 2, 0, 0);
    cut(g, "0:0\n1:0\n2:0\n0:1\n1:1\n0:2\n");
    ingest_gather_committed(g);
    add(g, 2, 1, 0);
    cut(g, "0:3\n2:1\n0:4\n0:5\n0:6\n0:7\n"); /* the turn goes on where it was */
    ingest_gather_destroy(&g);
}

static void duplicates_are_dropped_and_counted(void **state)
{
    struct ingest_gather *g = create(&usual);
    const struct catalog_ingest_range *range;
    const struct ingest_batch *batch;

    (void)state;
    begin(g, 0, 0);
    begin(g, 1, 0);
    add_named(g, 0, 0, 1, 11, 0);
    add_named(g, 0, 1, 1, 12, 0); /* the uid again */
    add_named(g, 0, 2, 2, 11, 0); /* the content again */
    add_named(g, 0, 3, 11, 1, 0); /* neither: a uid is no content */
    add_named(g, 0, 4, 3, 13, 0);
    add_named(g, 1, 0, 1, 11, 0); /* another partition */
    batch = cut(g, "0:0\n1:0\n0:3\n0:4\n");
    range = range_of(batch, 0);
    assert_int_equal(range->n_records, 3);
    assert_int_equal(range->n_duplicates, 2);
    assert_int_equal(range->end, 5);
    assert_int_equal(range->seen.len, 3 * 2 * 16);
    ingest_gather_destroy(&g);
}

static void duplicates_are_known_after_a_restart(void **state)
{
    const struct stream_partition at = {.topic = "t", .partition = 0, .offset = 2};
    struct ingest_gather *g = create(&usual), *again = create(&usual);
    struct bytes_view seen;
    struct error err = {0};

    (void)state;
    begin(g, 0, 0);
    add_named(g, 0, 0, 1, 11, 0);
    add_named(g, 0, 1, 2, 12, 0);
    seen = cut(g, "0:0\n0:1\n")->ranges[0].seen;
    assert_ok(ingest_gather_begin(again, &at, 2, &seen, 1, &err));
    add_named(again, 0, 2, 2, 99, 0);
    add_named(again, 0, 3, 98, 11, 0);
    add_named(again, 0, 4, 3, 13, 0);
    assert_int_equal(cut(again, "0:4\n")->ranges[0].n_duplicates, 2);
    ingest_gather_destroy(&g);
    ingest_gather_destroy(&again);
}

static void without_a_window_nothing_is_a_duplicate(void **state)
{
    struct ingest_limits limits = usual;
    struct ingest_gather *g;

    (void)state;
    limits.window = 0;
    g = create(&limits);
    begin(g, 0, 0);
    add_named(g, 0, 0, 1, 1, 0);
    add_named(g, 0, 1, 1, 1, 0);
    cut(g, "0:0\n0:1\n");
    ingest_gather_destroy(&g);
}

static void refused_records_move_the_offset(void **state)
{
    struct ingest_gather *g = create(&usual);
    const struct ingest_batch *batch;

    (void)state;
    begin(g, 0, 5);
    add_refused(g, 0, 5, 0);
    add_refused(g, 0, 7, 0); /* offsets have gaps */
    batch = cut(g, "");
    assert_int_equal(batch->n_records, 0);
    assert_int_equal(batch->n_ranges, 1);
    assert_int_equal(batch->ranges[0].begin, 5);
    assert_int_equal(batch->ranges[0].end, 8);
    assert_int_equal(batch->ranges[0].n_refused, 2);
    ingest_gather_destroy(&g);
}

static void offsets_without_records_are_passed(void **state)
{
    struct ingest_gather *g = create(&usual);
    const struct ingest_batch *batch;
    struct error err = {0};

    (void)state;
    begin(g, 0, 5);
    begin(g, 1, CATALOG_INGEST_UNKNOWN);
    assert_ok(ingest_gather_pass(g, "t", 0, 5, 0, &err)); /* nothing new */
    assert_ok(ingest_gather_pass(g, "t", 2, 9, 0, &err)); /* not ours */
    assert_int_equal(ingest_gather_wait_ms(g, 0), -1);
    add(g, 0, 5, 0);
    assert_ok(ingest_gather_pass(g, "t", 0, 8, 0, &err));
    assert_ok(ingest_gather_pass(g, "t", 1, 30, 0, &err));
    add(g, 0, 7, 0); /* was passed */
    add(g, 0, 8, 0);
    batch = cut(g, "0:5\n0:8\n");
    assert_int_equal(batch->n_ranges, 2);
    assert_int_equal(range_of(batch, 0)->end, 9);
    assert_int_equal(range_of(batch, 0)->n_records, 2);
    assert_int_equal(range_of(batch, 1)->begin, CATALOG_INGEST_UNKNOWN);
    assert_int_equal(range_of(batch, 1)->end, 30);
    assert_int_equal(range_of(batch, 1)->n_records, 0);
    assert_int_equal(range_of(batch, 1)->n_refused, 0);
    ingest_gather_destroy(&g);
}

static void what_was_here_or_is_not_ours_is_passed_over(void **state)
{
    struct ingest_gather *g = create(&usual);

    (void)state;
    begin(g, 0, 3);
    add(g, 0, 2, 0);
    add(g, 0, 3, 0);
    add(g, 0, 3, 0);
    add(g, 7, 0, 0);
    cut(g, "0:3\n");
    ingest_gather_destroy(&g);
}

static void a_partition_that_ends_takes_what_waits_with_it(void **state)
{
    struct ingest_gather *g = create(&usual);
    const struct ingest_batch *batch;
    struct error err = {0};

    (void)state;
    begin(g, 0, 0);
    begin(g, 1, 0);
    add(g, 0, 0, 0);
    add(g, 1, 0, 0);
    batch = cut(g, "0:0\n1:0\n");
    add(g, 1, 1, 0);
    ingest_gather_end(g, "t", 1);
    assert_int_equal(batch->n_ranges, 2); /* the batch has it still */
    ingest_gather_committed(g);
    add(g, 1, 2, 0);
    assert_status(ingest_gather_cut(g, &batch, &err), ST_NOT_FOUND);
    begin(g, 1, 1);
    add(g, 1, 1, 0);
    assert_int_equal(cut(g, "1:1\n")->ranges[0].begin, 1);
    ingest_gather_reset(g);
    assert_status(ingest_gather_cut(g, &batch, &err), ST_NOT_FOUND);
    ingest_gather_destroy(&g);
}

static void a_full_memory_pauses_who_fills_it(void **state)
{
    struct ingest_limits limits = usual;
    struct stream_partition out[4];
    struct ingest_gather *g;
    int64_t offset = 0;

    (void)state;
    limits.max_queued_bytes = 10000;
    limits.max_records = 1000;
    g = create(&limits);
    begin(g, 0, 0);
    begin(g, 1, 0);
    add(g, 1, 0, 0);
    while (ingest_gather_flow(g, true, out, 4) == 0 && offset < 1000)
        add(g, 0, offset++, 0);
    assert_true(offset > 50 && offset < 150);
    assert_int_equal(out[0].partition, 0);
    assert_int_equal(out[0].offset, offset);
    assert_int_equal(ingest_gather_flow(g, true, out, 4), 0); /* said once */
    assert_int_equal(ingest_gather_flow(g, false, out, 4), 0);
    ingest_gather_end(g, "t", 0);
    begin(g, 0, offset); /* begins unpaused */
    assert_int_equal(ingest_gather_flow(g, false, out, 4), 0);
    ingest_gather_destroy(&g);

    limits.max_records = 40;
    g = create(&limits);
    begin(g, 0, 0);
    for (offset = 0; ingest_gather_flow(g, true, out, 4) == 0;)
        add(g, 0, offset++, 0);
    while (ingest_gather_flow(g, false, out, 4) == 0) {
        const struct ingest_batch *batch;
        struct error err = {0};

        assert_ok(ingest_gather_cut(g, &batch, &err));
        ingest_gather_committed(g);
    }
    assert_int_equal(out[0].partition, 0);
    assert_int_equal(ingest_gather_flow(g, false, out, 4), 0);
    ingest_gather_destroy(&g);
}

/* What could not be taken may be offered again; a batch that could not be made is begun anew. */
static void running_out_of_memory_loses_nothing_in_silence(void **state)
{
    const struct stream_partition at = {.topic = "t", .partition = 0};
    bool fired = true;

    (void)state;
    for (unsigned n = 1; fired; n++) {
        struct ingest_gather *g;
        const struct ingest_batch *batch;
        struct error err = {0};
        enum status st;

        oom_fail_at(n);
        st = ingest_gather_create(&usual, &g, &err);
        if (st == ST_OK)
            st = ingest_gather_begin(g, &at, 0, NULL, 0, &err);
        for (int64_t i = 0; i < 40 && st == ST_OK; i++) {
            const struct stream_origin origin = {.topic = "t", .partition = 0, .offset = i};
            const struct stream_record record = {.uid_hash = (uint64_t)i,
                                                 .content_hash = 7777 + (uint64_t)i};

            st = ingest_gather_add(g, &origin, &record, bytes_of_string("a line\n"), 0, &err);
        }
        if (st == ST_OK)
            st = ingest_gather_cut(g, &batch, &err);
        fired = oom_fired();
        oom_fail_at(0);
        if (st != (fired ? ST_NO_MEMORY : ST_OK))
            fail_msg("allocation %u: %s: %s", n, status_name(st), err.message);
        ingest_gather_destroy(&g);
    }
}

static void the_window_forgets_after_one_to_two_of_its_lengths(void **state)
{
    struct ingest_window window;
    struct error err = {0};

    (void)state;
    ingest_window_init(&window, 1000);
    for (uint64_t key = 0; key < 5000; key++) {
        assert_false(ingest_window_has(&window, key * 0x100000001b3u));
        assert_ok(ingest_window_add(&window, key * 0x100000001b3u, &err));
        assert_true(ingest_window_has(&window, key * 0x100000001b3u));
        if (key >= 1000)
            assert_true(ingest_window_has(&window, (key - 999) * 0x100000001b3u));
        if (key >= 2000)
            assert_false(ingest_window_has(&window, (key - 2000) * 0x100000001b3u));
    }
    ingest_window_release(&window);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_is_cut_by_count),
        cmocka_unit_test(a_batch_is_cut_by_bytes_and_a_long_line_is_one),
        cmocka_unit_test(a_batch_is_cut_by_age_of_what_waits_longest),
        cmocka_unit_test(partitions_take_turns_whatever_the_backlog_of_one),
        cmocka_unit_test(duplicates_are_dropped_and_counted),
        cmocka_unit_test(duplicates_are_known_after_a_restart),
        cmocka_unit_test(without_a_window_nothing_is_a_duplicate),
        cmocka_unit_test(refused_records_move_the_offset),
        cmocka_unit_test(offsets_without_records_are_passed),
        cmocka_unit_test(what_was_here_or_is_not_ours_is_passed_over),
        cmocka_unit_test(a_partition_that_ends_takes_what_waits_with_it),
        cmocka_unit_test(a_full_memory_pauses_who_fills_it),
        cmocka_unit_test(running_out_of_memory_loses_nothing_in_silence),
        cmocka_unit_test(the_window_forgets_after_one_to_two_of_its_lengths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
