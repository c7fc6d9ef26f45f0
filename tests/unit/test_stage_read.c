/* The reading stage alone, between queues of the test's own. */
#include "reinforce/base/clock.h"
#include "tests/support/small_run.h"
#include "tests/support/test.h"
#include "worker/stage_read.h"

#include <pthread.h>
#include <sched.h>

static void *read_leases(void *arg)
{
    stage_read_run(arg);
    return NULL;
}

/* Whoever takes a lease's end may free the lease: the reader's last word stands before there is
 * room to send the end. */
static void a_reader_leaves_a_lease_alone_once_its_end_is_sent(void **state)
{
    enum { PATIENCE_MS = 20000 };
    struct shard_work work = {0};
    struct sample earlier, slot;
    struct small_run run;
    struct stage_read stage;
    atomic_int n_unread = 1;
    pthread_t reader;
    struct error err = {0};
    int64_t until_ms = clock_monotonic_ms() + PATIENCE_MS;
    void *item;

    (void)state;
    small_run_init(&run, NULL);
    stage = (struct stage_read){.context = &run.context,
                                .catalog_url = run.catalog_url,
                                .drain = &run.drain,
                                .n_unread = &n_unread,
                                .idle = &run.wake};
    assert_ok(queue_create(1, SIZE_MAX, &stage.leases, &err));
    assert_ok(queue_create(1, SIZE_MAX, &stage.slots, &err));
    assert_ok(queue_create(1, SIZE_MAX, &stage.out, &err));
    sample_init(&earlier, 1 << 20);
    sample_init(&slot, 1 << 20);
    atomic_init(&work.samples_left, UINT64_MAX);
    atomic_init(&work.abandoned, true);
    assert_int_equal(queue_push(stage.out, &earlier, 0), ST_OK); /* it is full */
    assert_int_equal(queue_push(stage.slots, &slot, 0), ST_OK);
    assert_int_equal(queue_push(stage.leases, &work, 0), ST_OK);
    assert_int_equal(pthread_create(&reader, NULL, read_leases, &stage), 0);
    while (atomic_load(&work.samples_left) != 0 && clock_monotonic_ms() < until_ms)
        (void)sched_yield();
    assert_int_equal(atomic_load(&work.samples_left), 0);
    assert_int_equal(atomic_load(&n_unread), 1); /* it waits for room */
    assert_int_equal(queue_pop(stage.out, &item), ST_OK);
    assert_ptr_equal(item, &earlier);
    assert_int_equal(queue_pop(stage.out, &item), ST_OK);
    assert_ptr_equal(item, &slot);
    assert_true(slot.ends_shard);
    assert_int_equal(slot.end, WIRE_OUTCOME_LOST);
    queue_close(stage.leases);
    (void)pthread_join(reader, NULL);
    sample_release(&earlier);
    sample_release(&slot);
    queue_destroy(&stage.leases);
    queue_destroy(&stage.slots);
    queue_destroy(&stage.out);
    small_run_release(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_leaves_a_lease_alone_once_its_end_is_sent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
