#include "tests/support/test.h"
#include "worker/isolation.h"

#include <time.h>

struct caller {
    struct isolation *isolation;
    struct shard_work work;
    bool alone;
    atomic_bool is_in;
    pthread_t thread;
};

static void *enter(void *arg)
{
    struct caller *caller = arg;

    isolation_enter(caller->isolation, &caller->work, caller->alone);
    atomic_store(&caller->is_in, true);
    return NULL;
}

static void begin(struct caller *caller, struct isolation *isolation, bool alone)
{
    caller->isolation = isolation;
    caller->alone = alone;
    assert_int_equal(pthread_create(&caller->thread, NULL, enter, caller), 0);
}

static void end(struct caller *caller)
{
    assert_int_equal(pthread_join(caller->thread, NULL), 0);
    isolation_leave(caller->isolation, &caller->work);
}

static void wait_a_moment(void)
{
    const struct timespec moment = {.tv_nsec = 20000000};

    (void)nanosleep(&moment, NULL);
}

static void samples_come_in_together_unless_one_is_to_be_alone(void **state)
{
    static struct caller first, alone, late;
    static struct shard_work work;
    struct isolation isolation;

    (void)state;
    isolation_init(&isolation);
    isolation_enter(&isolation, &work, false);
    begin(&first, &isolation, false);
    assert_int_equal(pthread_join(first.thread, NULL), 0);
    begin(&alone, &isolation, true);
    for (bool waits = false; !waits;) {
        (void)pthread_mutex_lock(&isolation.lock);
        waits = isolation.n_waiting == 1;
        (void)pthread_mutex_unlock(&isolation.lock);
    }
    begin(&late, &isolation, false);
    wait_a_moment();
    assert_false(atomic_load(&alone.is_in));
    isolation_leave(&isolation, &first.work);
    isolation_wait(&isolation, &first.work);
    wait_a_moment();
    assert_false(atomic_load(&alone.is_in));
    assert_false(atomic_load(&late.is_in)); /* it does not pass the one that waits */
    isolation_leave(&isolation, &work);
    assert_int_equal(pthread_join(alone.thread, NULL), 0);
    wait_a_moment();
    assert_false(atomic_load(&late.is_in));
    isolation_leave(&isolation, &alone.work);
    end(&late);
    assert_int_equal(isolation.n_inside, 0);
    isolation_release(&isolation);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_come_in_together_unless_one_is_to_be_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
