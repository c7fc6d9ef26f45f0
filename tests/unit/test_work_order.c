/* Which example a worker is given next. */
#include "coordinator/curator/work_order.h"
#include "tests/support/test.h"

enum { N = 100, MAX_GIVEN = 4 };

static struct work_order order;

static int begin(void **state)
{
    struct error err = {0};

    (void)state;
    return work_order_init(&order, N, &err) == ST_OK ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    work_order_release(&order);
    return 0;
}

static void give_next(uint64_t want)
{
    uint64_t example;

    assert_true(work_order_next(&order, MAX_GIVEN, &example));
    assert_int_equal(example, want);
    work_order_give(&order, example);
}

static void the_latest_is_given_first(void **state)
{
    uint64_t example;

    (void)state;
    assert_false(work_order_next(&order, MAX_GIVEN, &example));
    for (uint64_t i = 0; i < 6; i++)
        assert_true(work_order_want(&order, i));
    assert_true(work_order_want(&order, 2)); /* again: it comes to the front, and comes once */
    assert_int_equal(order.n_wanted, 6);
    give_next(2);
    give_next(5);
    give_next(4);
    give_next(3);
    assert_false(work_order_next(&order, MAX_GIVEN, &example)); /* as many as may be given */
    assert_true(work_order_end(&order, 5));
    assert_false(work_order_end(&order, 5));
    give_next(1);
    assert_true(work_order_end(&order, 2));
    give_next(0);
    assert_true(work_order_is_open(&order, 0));
    assert_false(work_order_is_open(&order, 2));
    assert_int_equal(order.n_wanted, 0);
    assert_true(work_order_end(&order, 4));
    assert_false(work_order_next(&order, MAX_GIVEN, &example));
}

static void what_two_workers_die_of_is_refused(void **state)
{
    uint64_t example, refused = N;

    (void)state;
    for (uint64_t i = 0; i < 3; i++)
        assert_true(work_order_want(&order, i));
    for (uint64_t i = 3; i-- > 0;)
        give_next(i);
    work_order_begin(&order, 2);
    work_order_begin(&order, 1);
    assert_false(work_order_bury(&order, &refused));
    assert_false(work_order_is_open(&order, 2)); /* nobody waits for a suspect */
    give_next(0);                                /* was not begun: not suspect, and still wanted */
    assert_true(work_order_want(&order, 1));
    assert_true(work_order_want(&order, 2));
    assert_false(work_order_next(&order, MAX_GIVEN, &example)); /* a suspect waits to be alone */
    assert_true(work_order_end(&order, 0));
    give_next(2);
    assert_true(work_order_want(&order, 7));
    assert_false(work_order_next(&order, MAX_GIVEN, &example)); /* and stays alone */
    work_order_begin(&order, 2);
    assert_true(work_order_bury(&order, &refused));
    assert_int_equal(refused, 2);
    assert_false(work_order_want(&order, 2));
    give_next(7);
    assert_true(work_order_end(&order, 7));
    give_next(1);
    work_order_begin(&order, 1);
    assert_true(work_order_end(&order, 1)); /* it was not that one: trusted again */
    assert_true(work_order_want(&order, 1));
    assert_true(work_order_want(&order, 3));
    give_next(3);
    give_next(1);
}

static void the_oldest_are_forgotten(void **state)
{
    struct error err = {0};
    uint64_t n = WORK_ORDER_MAX_WANTED;

    (void)state;
    work_order_release(&order);
    assert_ok(work_order_init(&order, n + 1, &err));
    for (uint64_t i = 0; i <= n; i++)
        assert_true(work_order_want(&order, i));
    assert_int_equal(order.n_wanted, n / 2 + 1);
    assert_false(work_order_is_open(&order, n / 2 - 1));
    assert_true(work_order_is_open(&order, n / 2));
    give_next(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_latest_is_given_first, begin, end),
        cmocka_unit_test_setup_teardown(what_two_workers_die_of_is_refused, begin, end),
        cmocka_unit_test_setup_teardown(the_oldest_are_forgotten, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
