#include "reinforce/base/clock.h"
#include "tests/support/test.h"
#include "worker/memory_budget.h"

#include <sched.h>
#include <stdatomic.h>

enum { N_THREADS = 8, DEADLINE_MS = 20000 };

/* A thread that reserves, says so, and lets go when told. */
struct holder {
    struct memory_budget *budget;
    size_t bytes;
    atomic_bool holds, let_go;
    pthread_t thread;
};

static void await(atomic_bool *flag)
{
    int64_t deadline_ms = clock_monotonic_ms() + DEADLINE_MS;

    while (!atomic_load(flag)) {
        assert_true(clock_monotonic_ms() < deadline_ms);
        (void)sched_yield();
    }
}

static void await_waiting(struct memory_budget *budget, size_t n)
{
    int64_t deadline_ms = clock_monotonic_ms() + DEADLINE_MS;

    while (memory_budget_waiting(budget) != n) {
        assert_true(clock_monotonic_ms() < deadline_ms);
        (void)sched_yield();
    }
}

static void *hold(void *arg)
{
    struct holder *holder = arg;

    memory_budget_reserve(holder->budget, holder->bytes);
    atomic_store(&holder->holds, true);
    while (!atomic_load(&holder->let_go))
        (void)sched_yield();
    memory_budget_free(holder->budget, holder->bytes);
    return NULL;
}

static void start(struct holder *holder, struct memory_budget *budget, size_t bytes)
{
    holder->budget = budget;
    holder->bytes = bytes;
    atomic_init(&holder->holds, false);
    atomic_init(&holder->let_go, false);
    assert_int_equal(pthread_create(&holder->thread, NULL, hold, holder), 0);
}

static void end(struct holder *holder)
{
    atomic_store(&holder->let_go, true);
    assert_int_equal(pthread_join(holder->thread, NULL), 0);
}

static void a_reservation_waits_until_there_is_room(void **state)
{
    struct memory_budget budget;
    struct holder holder;

    (void)state;
    memory_budget_init(&budget, 100);
    memory_budget_reserve(&budget, 60);
    memory_budget_reserve(&budget, 40); /* the limit itself is allowed */
    start(&holder, &budget, 41);
    await_waiting(&budget, 1);
    assert_false(atomic_load(&holder.holds));
    memory_budget_free(&budget, 40);
    assert_int_equal(memory_budget_waiting(&budget), 1); /* one byte is missing */
    memory_budget_free(&budget, 60);
    await(&holder.holds);
    end(&holder);
    assert_int_equal(budget.used_bytes, 0);
    assert_int_equal(budget.peak_bytes, 100);
    memory_budget_release(&budget);
}

static void one_larger_than_the_budget_passes_alone(void **state)
{
    struct memory_budget budget;
    struct holder large, small;

    (void)state;
    memory_budget_init(&budget, 100);
    memory_budget_reserve(&budget, 1);
    start(&large, &budget, 1000);
    await_waiting(&budget, 1);
    memory_budget_free(&budget, 1);
    await(&large.holds);
    start(&small, &budget, 1);
    await_waiting(&budget, 1); /* nothing passes beside it */
    assert_false(atomic_load(&small.holds));
    end(&large);
    await(&small.holds);
    end(&small);
    assert_int_equal(budget.peak_bytes, 1000);
    memory_budget_release(&budget);
}

static void small_ones_do_not_overtake_a_large_one(void **state)
{
    struct memory_budget budget;
    struct holder large, small;

    (void)state;
    memory_budget_init(&budget, 100);
    memory_budget_reserve(&budget, 50);
    start(&large, &budget, 100);
    await_waiting(&budget, 1);
    start(&small, &budget, 10); /* would fit */
    await_waiting(&budget, 2);
    memory_budget_free(&budget, 50);
    await(&large.holds);
    assert_false(atomic_load(&small.holds));
    end(&large);
    await(&small.holds);
    end(&small);
    memory_budget_release(&budget);
}

static void one_that_frees_wakes_all_that_fit(void **state)
{
    struct memory_budget budget;
    struct holder holders[N_THREADS];

    (void)state;
    memory_budget_init(&budget, N_THREADS);
    memory_budget_reserve(&budget, N_THREADS);
    for (size_t i = 0; i < N_THREADS; i++)
        start(&holders[i], &budget, 1);
    await_waiting(&budget, N_THREADS);
    memory_budget_free(&budget, N_THREADS);
    for (size_t i = 0; i < N_THREADS; i++)
        await(&holders[i].holds);
    for (size_t i = 0; i < N_THREADS; i++)
        end(&holders[i]);
    memory_budget_release(&budget);
}

static void *churn(void *arg)
{
    struct memory_budget *budget = arg;

    for (size_t i = 0; i < 2000; i++) {
        size_t bytes = 1 + i % 100;

        memory_budget_reserve(budget, bytes);
        memory_budget_free(budget, bytes);
    }
    return NULL;
}

static void the_limit_is_kept_under_contention(void **state)
{
    struct memory_budget budget;
    pthread_t threads[N_THREADS];

    (void)state;
    memory_budget_init(&budget, 100);
    for (size_t i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, &budget), 0);
    for (size_t i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(budget.used_bytes, 0);
    assert_true(budget.peak_bytes <= 100);
    memory_budget_release(&budget);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reservation_waits_until_there_is_room),
        cmocka_unit_test(one_larger_than_the_budget_passes_alone),
        cmocka_unit_test(small_ones_do_not_overtake_a_large_one),
        cmocka_unit_test(one_that_frees_wakes_all_that_fit),
        cmocka_unit_test(the_limit_is_kept_under_contention),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
