/* What every catalog must do with leases: who has a shard, what a death says, how a shard is
 * shared. */
#include "storage/catalog/catalog_outbox.h"
#include "tests/support/catalog_fixture.h"

#include <stdio.h>

/* Commits a part of `n` done samples from the lease's next one on. */
static void commit_samples(struct fixture *f, struct catalog_lease *lease, int64_t n,
                           const char *key)
{
    struct catalog_sample samples[8];
    char uids[8][16];
    struct catalog_part part = {.object_key = key,
                                .written = {.bytes = 10, .sha256 = "abc"},
                                .next_offset = 1000 + lease->next_index + (uint64_t)n,
                                .next_index = lease->next_index + (uint64_t)n,
                                .n_samples = (size_t)n,
                                .samples = samples};
    struct error err = {0};

    for (int64_t i = 0; i < n; i++) {
        (void)snprintf(uids[i], sizeof uids[i], "s%d", (int)lease->next_index + (int)i);
        samples[i] = (struct catalog_sample){.uid = bytes_of_string(uids[i]),
                                             .index = (int64_t)lease->next_index + i,
                                             .state = CATALOG_SAMPLE_DONE,
                                             .width = 1,
                                             .height = 1};
    }
    assert_ok(catalog_part_commit(f->catalog, lease, &part, &err));
    lease->n_parts++;
    lease->next_index += (uint64_t)n;
    lease->next_offset = part.next_offset;
}

static enum status count_books(void *ctx, const struct catalog_account *a, struct error *err)
{
    struct catalog_account *books = ctx;

    (void)err;
    if (a->shard <= 0) {
        assert_int_equal(books->read, 0); /* a piece has none of its own */
        *books = *a;
    }
    return ST_OK;
}

static void the_rest_of_a_shard_is_split_off_and_its_parts_are_joined_in_order(struct fixture *f)
{
    static const char *const keys[] = {"head-0", "head-1", "middle", "tail"};
    struct catalog_lease head, other, tail, middle;
    struct catalog_progress progress;
    struct catalog_part_row *rows;
    struct catalog_account books = {0};
    size_t n_rows;
    struct error err = {0};
    int64_t wait, shard;
    struct catalog_outbox outbox;
    bool is_last;

    assert_ok(catalog_job_set_events(f->catalog, f->job.job, CATALOG_EVENTS_SAMPLES, &err));
    assert_ok(fixture_take(f, &head, &wait, &err));
    assert_ok(fixture_take(f, &other, &wait, &err));
    assert_int_equal(head.end_index, 0);
    commit_samples(f, &head, 2, keys[0]);
    assert_status(catalog_lease_split(f->catalog, &head, 1002, 2, &err), ST_CONFLICT);
    assert_ok(catalog_lease_split(f->catalog, &head, 1006, 6, &err));
    assert_ok(catalog_lease_split(f->catalog, &head, 1006, 6, &err)); /* the answer was lost */
    assert_ok(fixture_take(f, &tail, &wait, &err));
    assert_int_equal(tail.shard, -1);
    assert_int_equal(tail.next_index, 6);
    assert_int_equal(tail.next_offset, 1006);
    assert_int_equal(tail.end_index, 0);
    assert_string_equal(tail.plan.input_key, "a.tar");
    assert_status(fixture_take(f, &middle, &wait, &err), ST_NOT_FOUND);
    assert_ok(catalog_lease_split(f->catalog, &head, 1004, 4, &err)); /* and once more */
    assert_ok(fixture_take(f, &middle, &wait, &err));
    assert_int_equal(middle.shard, -2);
    assert_int_equal(middle.next_index, 4);
    assert_int_equal(middle.end_index, 6);

    /* in any order; a dead worker's piece goes to another like a shard does */
    commit_samples(f, &tail, 3, keys[3]);
    assert_ok(catalog_piece_commit(f->catalog, &tail, &shard, &is_last, &err));
    assert_int_equal(shard, 0);
    assert_false(is_last);
    assert_status(
        catalog_part_commit(f->catalog, &tail, &(struct catalog_part){.object_key = "x"}, &err),
        ST_CONFLICT); /* it has ended */
    fixture_pass_time(f, LEASE_MS);
    assert_ok(fixture_take(f, &middle, &wait, &err));
    assert_int_equal(middle.shard, -2);
    assert_int_equal(middle.epoch, 2);
    assert_ok(fixture_take(f, &head, &wait, &err));
    assert_int_equal(head.end_index, 4);
    assert_int_equal(head.next_index, 2);
    commit_samples(f, &head, 2, keys[1]);
    assert_ok(catalog_piece_commit(f->catalog, &head, &shard, &is_last, &err));
    assert_false(is_last);
    assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
    assert_int_equal(progress.shards_total, 2);
    assert_int_equal(progress.shards_done, 0);
    assert_int_equal(progress.pieces, 2);
    commit_samples(f, &middle, 2, keys[2]);
    assert_ok(catalog_piece_commit(f->catalog, &middle, &shard, &is_last, &err));
    assert_ok(catalog_piece_commit(f->catalog, &middle, &shard, &is_last, &err));
    assert_int_equal(shard, 0);
    assert_true(is_last);
    assert_ok(catalog_parts(f->catalog, f->job.job, shard, &f->arena, &rows, &n_rows, &err));
    assert_int_equal(n_rows, ARRAY_LEN(keys));
    for (size_t i = 0; i < n_rows; i++)
        assert_string_equal(rows[i].object_key, keys[i]);
    for (int i = 0; i < 2; i++) /* the answer was lost */
        assert_ok(catalog_shard_commit(f->catalog, &middle, "00000000.tar",
                                       &(struct object_written){.bytes = 40, .sha256 = "all"},
                                       &err));
    assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
    assert_int_equal(progress.shards_done, 1);
    assert_ok(catalog_accounts(f->catalog, f->job.job, count_books, &books, &err));
    assert_int_equal(books.state, CATALOG_SHARD_DONE);
    assert_int_equal(books.read, 9);
    assert_int_equal(books.done, 9);
    assert_int_equal(books.output_done, 9);
    assert_int_equal(books.last_index, 8);
    assert_ok(catalog_outbox_count(f->catalog, f->job.job, &outbox, &err));
    assert_int_equal(outbox.n_waiting, 9 + 1); /* each sample, and the shard, once */
}

static void a_worker_that_goes_beyond_where_its_shard_was_split_is_refused(struct fixture *f)
{
    struct catalog_lease lease;
    struct error err = {0};
    int64_t wait;

    assert_ok(fixture_take(f, &lease, &wait, &err));
    assert_ok(catalog_lease_split(f->catalog, &lease, 600, 1, &err));
    assert_status(fixture_commit(f, &lease, "a", 0, &err), ST_CONFLICT);
}

static enum status rival(struct fixture *f, const struct catalog_lease *of,
                         struct catalog_lease *lease, struct error *err)
{
    return catalog_lease_rival(f->catalog, f->job.job, of->shard, of->epoch, "rival", f->now,
                               &fixture_terms, &f->arena, lease, err);
}

static void of_two_leases_of_a_shard_the_first_that_commits_wins(struct fixture *f)
{
    struct catalog_lease slow[2], fast[2], again;
    struct catalog_progress progress;
    struct error err = {0};
    int64_t wait;

    for (int winner = 0; winner < 2; winner++) {
        struct catalog_lease *won = winner == 0 ? &slow[0] : &fast[1];
        struct catalog_lease *lost = winner == 0 ? &fast[0] : &slow[1];

        assert_ok(fixture_take(f, &slow[winner], &wait, &err));
        fixture_pass_time(f, LEASE_MS / 2);
        assert_ok(rival(f, &slow[winner], &fast[winner], &err));
        assert_int_equal(fast[winner].shard, slow[winner].shard);
        assert_true(fast[winner].epoch > slow[winner].epoch);
        assert_string_equal(fast[winner].plan.input_key, slow[winner].plan.input_key);
        assert_status(rival(f, &slow[winner], &again, &err), ST_NOT_FOUND); /* two are enough */
        assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
        assert_int_equal(progress.rivals, 1);
        assert_status(catalog_lease_split(f->catalog, lost, 9, 9, &err), ST_CONFLICT);
        fixture_pass_time(f, LEASE_MS / 2); /* the second is as long as any */
        assert_ok(catalog_lease_renew(f->catalog, &slow[winner], f->now, LEASE_MS, &err));
        assert_ok(catalog_lease_renew(f->catalog, &fast[winner], f->now, LEASE_MS, &err));

        assert_ok(fixture_commit(f, won, "cat", 0, &err));
        assert_ok(fixture_commit(f, won, "cat", 0, &err)); /* the answer was lost */
        assert_status(fixture_commit(f, lost, "cat", 0, &err), ST_CONFLICT);
        assert_status(catalog_lease_renew(f->catalog, lost, f->now, LEASE_MS, &err), ST_CONFLICT);
        assert_status(catalog_lease_release(f->catalog, lost, true, "x", &err), ST_CONFLICT);
        assert_ok(catalog_lease_renew(f->catalog, won, f->now, LEASE_MS, &err));
        assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
        assert_int_equal(progress.rivals, 0);
    }
    assert_ok(catalog_lease_release(f->catalog, &slow[0], false, "", &err));
    assert_ok(fixture_take(f, &again, &wait, &err)); /* an epoch that nobody had, not the loser's */
    assert_int_equal(again.shard, slow[0].shard);
    assert_true(again.epoch > fast[0].epoch);
    assert_int_equal(again.n_parts, 1);
}

static void who_hands_a_shard_back_leaves_it_to_the_other(struct fixture *f)
{
    struct catalog_lease slow, fast, again;
    struct error err = {0};
    int64_t wait;

    assert_ok(fixture_take(f, &slow, &wait, &err));
    assert_ok(rival(f, &slow, &fast, &err));
    assert_ok(catalog_lease_release(f->catalog, &fast, false, "", &err));
    assert_status(fixture_commit(f, &fast, "cat", 0, &err), ST_CONFLICT);
    assert_ok(catalog_lease_renew(f->catalog, &slow, f->now, LEASE_MS, &err));
    assert_ok(rival(f, &slow, &fast, &err));
    assert_ok(catalog_lease_release(f->catalog, &slow, true, "no disk", &err));
    assert_status(fixture_commit(f, &slow, "cat", 0, &err), ST_CONFLICT);
    assert_ok(fixture_commit(f, &fast, "cat", 0, &err));
    assert_ok(catalog_lease_release(f->catalog, &fast, false, "", &err));
    assert_ok(fixture_take(f, &again, &wait, &err));
    assert_int_equal(again.shard, 0);
    assert_status(rival(f, &slow, &fast, &err), ST_NOT_FOUND); /* it is not leased so any more */
    fixture_pass_time(f, LEASE_MS);
    assert_status(rival(f, &again, &fast, &err), ST_NOT_FOUND); /* nor so */
}

static void leases_go_out_in_order_and_expire(struct fixture *f)
{
    struct catalog_lease a, b, c;
    struct error err = {0};
    int64_t wait;

    assert_ok(fixture_take(f, &a, &wait, &err));
    assert_ok(fixture_take(f, &b, &wait, &err));
    assert_int_equal(a.shard, 0);
    assert_int_equal(b.shard, 1);
    assert_int_equal(a.expires_ms, f->now + LEASE_MS);
    assert_int_equal(b.plan.source, CATALOG_INPUT_PLAN);
    fixture_pass_time(f, LEASE_MS / 2);
    assert_status(fixture_take(f, &c, &wait, &err), ST_NOT_FOUND);
    assert_in_range(wait, LEASE_MS / 2 - MARGIN_MS, LEASE_MS / 2);
    assert_ok(catalog_lease_renew(f->catalog, &b, f->now, LEASE_MS, &err));
    fixture_pass_time(f, LEASE_MS / 2);
    assert_ok(fixture_take(f, &c, &wait, &err)); /* a's ran out, b's was renewed */
    assert_int_equal(c.shard, 0);
    assert_int_equal(c.epoch, a.epoch + 1);
    assert_int_equal(c.attempts, 0);
    assert_status(catalog_lease_renew(f->catalog, &a, f->now, LEASE_MS, &err), ST_CONFLICT);
    assert_status(catalog_lease_release(f->catalog, &a, true, "late", &err), ST_CONFLICT);
}

static void leases_are_taken_and_renewed_several_at_a_time(struct fixture *f)
{
    struct catalog_take takes[] = {{.owner = "a"}, {.owner = "b"}, {.owner = "c"}};
    struct catalog_lease held[3];
    bool lost[3] = {false, false, false};
    struct error err = {0};
    int64_t wait;

    assert_ok(catalog_leases_take(f->catalog, f->job.job, takes, 3, f->now, &fixture_terms,
                                  &f->arena, &err));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(takes[i].status, ST_OK);
        assert_int_equal(takes[i].lease.shard, i);
        assert_string_equal(takes[i].lease.plan.input_key, fixture_shards[i].input_key);
    }
    assert_int_equal(takes[2].status, ST_NOT_FOUND);
    assert_in_range(takes[2].wait_ms, LEASE_MS - MARGIN_MS, LEASE_MS);

    held[0] = takes[1].lease;
    held[1] = takes[0].lease;
    held[1].epoch--; /* an older one */
    held[2] = takes[0].lease;
    fixture_pass_time(f, LEASE_MS / 2);
    assert_ok(catalog_leases_renew(f->catalog, held, 3, f->now, LEASE_MS, lost, &err));
    assert_false(lost[0]);
    assert_true(lost[1]);
    assert_false(lost[2]);
    fixture_pass_time(f, LEASE_MS / 2);
    assert_status(fixture_take(f, &held[0], &wait, &err), ST_NOT_FOUND); /* both are out still */
}

static void a_fenced_worker_commits_nothing(struct fixture *f)
{
    struct catalog_lease old, now;
    struct catalog_progress progress;
    const struct object_written written = {.bytes = 1, .sha256 = "x"};
    struct error err = {0};
    int64_t wait;

    assert_ok(fixture_take(f, &old, &wait, &err));
    assert_ok(fixture_take(f, &now, &wait, &err));
    fixture_pass_time(f, LEASE_MS);
    assert_ok(fixture_take(f, &now, &wait, &err));
    assert_int_equal(now.shard, old.shard);
    assert_status(fixture_commit(f, &old, "cat", 0, &err), ST_CONFLICT);
    assert_status(catalog_shard_commit(f->catalog, &old, "o", &written, &err), ST_CONFLICT);
    assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
    assert_int_equal(progress.samples_done, 0);
    assert_ok(fixture_commit(f, &now, "cat", 0, &err));
}

static void a_shard_that_keeps_failing_is_given_up(struct fixture *f)
{
    struct catalog_lease lease;
    struct catalog_progress progress;
    struct error err = {0};
    int64_t wait;

    for (int i = 0; i < 2 * MAX_ATTEMPTS; i++) {
        assert_ok(fixture_take(f, &lease, &wait, &err));
        assert_ok(catalog_lease_release(f->catalog, &lease, true, "no", &err));
    }
    assert_status(fixture_take(f, &lease, &wait, &err), ST_NOT_FOUND);
    assert_int_equal(wait, -1);
    assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
    assert_int_equal(progress.shards_failed, 2);
    assert_ok(catalog_leases_reset(f->catalog, f->job.job, &err));
    assert_ok(fixture_take(f, &lease, &wait, &err));
}

/* The worker of shard 0 dies and another takes its place, while shard 1 is kept. */
static void die(struct fixture *f, struct catalog_lease *lease, const struct catalog_lease *other)
{
    struct error err = {0};
    int64_t wait;

    fixture_pass_time(f, LEASE_MS);
    assert_ok(catalog_lease_renew(f->catalog, other, f->now, LEASE_MS, &err));
    assert_ok(fixture_take(f, lease, &wait, &err));
    assert_int_equal(lease->shard, 0);
}

static void assert_suspects(const struct catalog_lease *lease, uint64_t end, int64_t at_once)
{
    assert_int_equal(lease->suspect_end, end);
    assert_int_equal(lease->probe_samples, at_once);
}

static void each_death_puts_fewer_samples_in_doubt_until_one_is_named(struct fixture *f)
{
    const struct catalog_sample named = {.uid = bytes_of_string("bad"),
                                         .state = CATALOG_SAMPLE_QUARANTINED,
                                         .stage = "any",
                                         .reason = "crashed_worker"};
    const struct catalog_part part = {.object_key = "p",
                                      .written = {.sha256 = "abc"},
                                      .next_index = 1,
                                      .n_samples = 1,
                                      .samples = &named};
    struct catalog_lease lease, other, old;
    struct error err = {0};
    int64_t wait;

    assert_ok(fixture_take(f, &lease, &wait, &err));
    assert_ok(fixture_take(f, &other, &wait, &err));
    assert_int_equal(lease.suspect_end, 0);
    die(f, &lease, &other);
    assert_suspects(&lease, 12,
                    4); /* a part and what may have been begun; half, but no more than a part */
    die(f, &lease, &other);
    assert_suspects(&lease, 4, 2);
    die(f, &lease, &other);
    assert_suspects(&lease, 2, 1);
    die(f, &lease, &other); /* nothing was at work: nothing is learnt */
    assert_suspects(&lease, 2, 1);
    old = lease;
    assert_ok(catalog_lease_probe(f->catalog, &lease, &err));
    die(f, &lease, &other);
    assert_suspects(&lease, 1, 1);
    assert_false(lease.is_poison); /* it may have been the machine */
    assert_status(catalog_lease_probe(f->catalog, &old, &err), ST_CONFLICT);
    assert_ok(catalog_lease_probe(f->catalog, &lease, &err));
    assert_ok(catalog_lease_release(f->catalog, &lease, false, NULL, &err));
    assert_ok(fixture_take(f, &lease, &wait, &err));
    assert_false(lease.is_poison); /* nobody died */
    die(f, &lease, &other);
    assert_false(lease.is_poison); /* somebody did, but not of it */
    assert_ok(catalog_lease_probe(f->catalog, &lease, &err));
    die(f, &lease, &other);
    assert_true(lease.is_poison);
    assert_int_equal(lease.attempts, 0);

    assert_ok(catalog_part_commit(f->catalog, &lease, &part, &err));
    die(f, &lease, &other);
    assert_suspects(&lease, 13, 4); /* another one */
    assert_false(lease.is_poison);
    assert_int_equal(lease.attempts, 1); /* poison alone is no progress */
    assert_ok(fixture_commit(f, &lease, "cat", 1, &err));
    die(f, &lease, &other);
    assert_int_equal(lease.attempts, 0);
}

static void what_is_committed_is_in_doubt_no_more(struct fixture *f)
{
    struct catalog_lease lease, other;
    struct error err = {0};
    int64_t wait;

    assert_ok(fixture_take(f, &lease, &wait, &err));
    assert_ok(fixture_take(f, &other, &wait, &err));
    die(f, &lease, &other);
    assert_ok(fixture_commit(f, &lease, "cat", 0, &err));
    die(f, &lease, &other);
    assert_suspects(&lease, 2 + 4, 2);
    assert_ok(fixture_commit(f, &lease, "cow", 2, &err));
    lease.n_parts++;
    assert_ok(fixture_commit(f, &lease, "dog", 4, &err));          /* up to the last of them */
    assert_ok(catalog_leases_reset(f->catalog, f->job.job, &err)); /* a death, too */
    assert_ok(fixture_take(f, &lease, &wait, &err));
    assert_suspects(&lease, 6 + 12, 4);
    assert_int_equal(lease.next_index, 6);
}

static void a_shard_whose_samples_cannot_even_be_read_is_given_up(struct fixture *f)
{
    struct catalog_lease lease, other;
    struct catalog_progress progress;
    struct error err = {0};
    int64_t wait;

    assert_ok(fixture_take(f, &lease, &wait, &err));
    assert_ok(fixture_take(f, &other, &wait, &err));
    for (int i = 0; i < 3; i++)
        die(f, &lease, &other);
    for (int i = 0; i < CATALOG_POISON_DEATHS + MAX_ATTEMPTS - 1; i++) {
        assert_ok(catalog_lease_probe(f->catalog, &lease, &err));
        die(f, &lease, &other);
        assert_int_equal(lease.attempts, MAX(i + 1 - CATALOG_POISON_DEATHS, 0));
    }
    assert_ok(catalog_lease_probe(f->catalog, &lease, &err));
    fixture_pass_time(f, LEASE_MS);
    assert_ok(catalog_lease_renew(f->catalog, &other, f->now, LEASE_MS, &err));
    assert_status(fixture_take(f, &lease, &wait, &err), ST_NOT_FOUND);
    assert_in_range(wait, LEASE_MS - MARGIN_MS, LEASE_MS);
    assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
    assert_int_equal(progress.shards_failed, 1);
    assert_int_equal(progress.shards_leased, 1);
}

static void a_finished_shard_may_be_committed_again_by_whom_it_was(struct fixture *f)
{
    const struct object_written written = {.bytes = 7, .sha256 = "s"};
    const struct object_written other = {.bytes = 7, .sha256 = "t"};
    struct catalog_lease lease, earlier;
    struct catalog_progress progress;
    struct error err = {0};
    int64_t wait;

    assert_ok(fixture_take(f, &lease, &wait, &err));
    earlier = lease;
    fixture_pass_time(f, LEASE_MS);
    assert_ok(fixture_take(f, &lease, &wait, &err));
    assert_ok(fixture_commit(f, &lease, "cat", 0, &err));
    assert_ok(catalog_shard_commit(f->catalog, &lease, "o", &written, &err));
    assert_ok(catalog_shard_commit(f->catalog, &lease, "o", &written, &err)); /* answer was lost */
    assert_status(catalog_shard_commit(f->catalog, &lease, "o", &other, &err), ST_CONFLICT);
    assert_status(catalog_shard_commit(f->catalog, &earlier, "o", &written, &err), ST_CONFLICT);
    assert_status(catalog_lease_renew(f->catalog, &lease, f->now, LEASE_MS, &err), ST_CONFLICT);
    assert_ok(catalog_read_progress(f->catalog, f->job.job, &progress, &err));
    assert_int_equal(progress.shards_done, 1);
    assert_int_equal(progress.bytes_written, 7);
}

static void handing_a_shard_back_unharmed_costs_no_try(struct fixture *f)
{
    struct catalog_lease lease;
    struct error err = {0};
    int64_t wait;

    for (int i = 0; i < 3 * MAX_ATTEMPTS; i++) {
        assert_ok(fixture_take(f, &lease, &wait, &err));
        assert_int_equal(lease.shard, 0);
        assert_int_equal(lease.epoch, i + 1);
        assert_int_equal(lease.attempts, 0);
        assert_ok(catalog_lease_release(f->catalog, &lease, false, NULL, &err));
        assert_status(catalog_lease_release(f->catalog, &lease, false, NULL, &err), ST_CONFLICT);
    }
}

void catalog_leases_contract(const struct catalog_target *target)
{
    static const struct fixture_test tests[] = {
        FIXTURE_TEST(leases_go_out_in_order_and_expire),
        FIXTURE_TEST(leases_are_taken_and_renewed_several_at_a_time),
        FIXTURE_TEST(the_rest_of_a_shard_is_split_off_and_its_parts_are_joined_in_order),
        FIXTURE_TEST(a_worker_that_goes_beyond_where_its_shard_was_split_is_refused),
        FIXTURE_TEST(of_two_leases_of_a_shard_the_first_that_commits_wins),
        FIXTURE_TEST(who_hands_a_shard_back_leaves_it_to_the_other),
        FIXTURE_TEST(a_fenced_worker_commits_nothing),
        FIXTURE_TEST(a_shard_that_keeps_failing_is_given_up),
        FIXTURE_TEST(each_death_puts_fewer_samples_in_doubt_until_one_is_named),
        FIXTURE_TEST(what_is_committed_is_in_doubt_no_more),
        FIXTURE_TEST(a_shard_whose_samples_cannot_even_be_read_is_given_up),
        FIXTURE_TEST(a_finished_shard_may_be_committed_again_by_whom_it_was),
        FIXTURE_TEST(handing_a_shard_back_unharmed_costs_no_try),
    };

    fixture_run(target, tests, ARRAY_LEN(tests));
}
