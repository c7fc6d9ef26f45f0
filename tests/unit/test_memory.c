#include "reinforce/base/memory.h"
#include "tests/support/test.h"

#include <numa.h>
#include <numaif.h>

enum { PAGE = 4096, HUGE_PAGE = 2 << 20 };

/* What stands in for a machine of several nodes, and what was asked of it. */
static struct {
    unsigned long nodes; /* a bit for each that this process may run on */
    int policy;
    size_t n_asked;
    char *start;
    unsigned long len, mask;
    int mode;
} machine;

long __wrap_get_mempolicy(int *mode, unsigned long *mask, unsigned long n, void *at,
                          unsigned flags);
long __wrap_mbind(void *start, unsigned long len, int mode, const unsigned long *mask,
                  unsigned long n, unsigned flags);
struct bitmask *__wrap_numa_get_run_node_mask(void);

long __wrap_get_mempolicy(int *mode, unsigned long *mask, unsigned long n, void *at, unsigned flags)
{
    assert_true(mask == NULL && n == 0 && at == NULL && flags == 0);
    *mode = machine.policy;
    return 0;
}

long __wrap_mbind(void *start, unsigned long len, int mode, const unsigned long *mask,
                  unsigned long n, unsigned flags)
{
    assert_true(n > 2 && flags == 0);
    machine.n_asked++;
    machine.start = start;
    machine.len = len;
    machine.mode = mode;
    machine.mask = mask[0];
    return 0;
}

struct bitmask *__wrap_numa_get_run_node_mask(void)
{
    struct bitmask *mask = numa_bitmask_alloc(64);

    assert_non_null(mask);
    for (unsigned node = 0; node < 64; node++)
        if (machine.nodes >> node & 1)
            numa_bitmask_setbit(mask, node);
    return mask;
}

/* Spreads `size` bytes behind the first `skip` of whole pages, on this machine; returns those. */
static char *spread(unsigned long nodes, int policy, size_t skip, size_t size)
{
    char *memory = aligned_alloc(PAGE, (skip + size + PAGE - 1) / PAGE * PAGE);

    assert_non_null(memory);
    machine.nodes = nodes;
    machine.policy = policy;
    machine.n_asked = 0;
    memory_spread(memory + skip, size);
    return memory;
}

static void assert_nothing_is_asked(unsigned long nodes, int policy, size_t skip, size_t size)
{
    free(spread(nodes, policy, skip, size));
    assert_int_equal(machine.n_asked, 0);
}

/* Of nodes 0 and 2, which are this process's; 1 is somebody else's. */
static void whole_pages_alternate_between_a_process_s_nodes(void **state)
{
    char *memory = spread(1 | 4, MPOL_DEFAULT, 64, 5 * PAGE);

    (void)state;
    assert_int_equal(machine.n_asked, 1);
    assert_int_equal(machine.mode, MPOL_INTERLEAVE);
    assert_int_equal(machine.mask, 1 | 4);
    assert_ptr_equal(machine.start, memory + PAGE);
    assert_int_equal(machine.len, 4 * PAGE);
    free(memory);
    memory = spread(1 | 4, MPOL_DEFAULT, 0, 2 * PAGE);
    assert_int_equal(machine.n_asked, 1);
    assert_ptr_equal(machine.start, memory);
    assert_int_equal(machine.len, 2 * PAGE);
    free(memory);
}

static void less_than_a_page_stays(void **state)
{
    (void)state;
    assert_nothing_is_asked(3, MPOL_DEFAULT, 64, 100);
    assert_nothing_is_asked(3, MPOL_DEFAULT, 64, PAGE);
}

static void one_node_needs_nothing(void **state)
{
    (void)state;
    assert_nothing_is_asked(2, MPOL_DEFAULT, 0, 2 * PAGE);
}

static void a_policy_from_outside_stays(void **state)
{
    (void)state;
    assert_nothing_is_asked(3, MPOL_BIND, 0, 2 * PAGE);
}

static void memory_of_huge_pages_begins_one(void **state)
{
    static const size_t sizes[] = {1, 100, PAGE, HUGE_PAGE - 1, HUGE_PAGE, 5 * HUGE_PAGE + 1};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        char *memory = memory_alloc(sizes[i]);

        assert_non_null(memory);
        if (sizes[i] >= HUGE_PAGE)
            assert_int_equal((uintptr_t)memory % HUGE_PAGE, 0);
        memset(memory, 1, sizes[i]);
        free(memory);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_pages_alternate_between_a_process_s_nodes),
        cmocka_unit_test(less_than_a_page_stays),
        cmocka_unit_test(one_node_needs_nothing),
        cmocka_unit_test(a_policy_from_outside_stays),
        cmocka_unit_test(memory_of_huge_pages_begins_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
