#include "coordinator/waiting.h"
#include "tests/support/test.h"

static void those_of_one_job_are_taken_in_order(void **state)
{
    struct waiting waiting = {.n = 0};
    struct waiting_one out[CATALOG_BATCH_MAX];
    struct peer peers[5];
    static const int64_t jobs[] = {7, 8, 7, 8, 7};

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        assert_false(waiting_has(&waiting, &peers[i]));
        waiting_add(&waiting, &(struct waiting_one){.peer = &peers[i], .job = jobs[i]});
        assert_true(waiting_has(&waiting, &peers[i]));
    }
    assert_int_equal(waiting_take(&waiting, out), 3);
    for (size_t i = 0; i < 3; i++)
        assert_ptr_equal(out[i].peer, &peers[2 * i]);
    assert_false(waiting_has(&waiting, &peers[0]));
    assert_int_equal(waiting_take(&waiting, out), 2);
    assert_ptr_equal(out[0].peer, &peers[1]);
    assert_ptr_equal(out[1].peer, &peers[3]);
    assert_int_equal(waiting.n, 0);
}

static void as_many_wait_as_the_catalog_takes_at_once(void **state)
{
    struct waiting waiting = {.n = 0};
    struct waiting_one out[CATALOG_BATCH_MAX];
    struct peer peer;

    (void)state;
    for (int i = 0; i < CATALOG_BATCH_MAX; i++) {
        assert_false(waiting_is_full(&waiting));
        waiting_add(&waiting, &(struct waiting_one){.peer = &peer, .job = 1, .shard = i});
    }
    assert_true(waiting_is_full(&waiting));
    assert_int_equal(waiting_take(&waiting, out), CATALOG_BATCH_MAX);
    assert_int_equal(out[CATALOG_BATCH_MAX - 1].shard, CATALOG_BATCH_MAX - 1);
    assert_false(waiting_is_full(&waiting));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(those_of_one_job_are_taken_in_order),
        cmocka_unit_test(as_many_wait_as_the_catalog_takes_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
