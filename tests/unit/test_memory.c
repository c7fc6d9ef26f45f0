#include "reinforce/base/memory.h"
#include "tests/support/test.h"

#include <numa.h>
#include <numaif.h>

enum { PAGE = 4096 };

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

/* Nodes 0 and 2 are this process's, 1 is somebody else's. */
static void pages_alternate_between_a_process_s_nodes(void **state)
{
    char *memory = aligned_alloc(PAGE, 10 * PAGE);

    (void)state;
    assert_non_null(memory);
    machine.nodes = 1 | 4;
    machine.policy = MPOL_DEFAULT;
    machine.n_asked = 0;
    memory_spread(memory + 64, 5 * PAGE);
    assert_int_equal(machine.n_asked, 1);
    assert_int_equal(machine.mode, MPOL_INTERLEAVE);
    assert_int_equal(machine.mask, 1 | 4);
    assert_ptr_equal(machine.start, memory + PAGE);
    assert_int_equal(machine.len, 4 * PAGE);
    memory_spread(memory, 2 * PAGE);
    assert_int_equal(machine.n_asked, 2);
    assert_ptr_equal(machine.start, memory);
    assert_int_equal(machine.len, 2 * PAGE);
    free(memory);
}

static void less_than_a_page_stays(void **state)
{
    char *memory = aligned_alloc(PAGE, 2 * PAGE);

    (void)state;
    assert_non_null(memory);
    machine.nodes = 3;
    machine.policy = MPOL_DEFAULT;
    machine.n_asked = 0;
    memory_spread(memory + 64, 100);
    memory_spread(memory + 64, PAGE);
    assert_int_equal(machine.n_asked, 0);
    free(memory);
}

static void one_node_needs_nothing(void **state)
{
    char *memory = aligned_alloc(PAGE, 2 * PAGE);

    (void)state;
    assert_non_null(memory);
    machine.nodes = 2;
    machine.policy = MPOL_DEFAULT;
    machine.n_asked = 0;
    memory_spread(memory, 2 * PAGE);
    assert_int_equal(machine.n_asked, 0);
    free(memory);
}

static void a_policy_from_outside_stays(void **state)
{
    char *memory = aligned_alloc(PAGE, 2 * PAGE);

    (void)state;
    assert_non_null(memory);
    machine.nodes = 3;
    machine.policy = MPOL_BIND;
    machine.n_asked = 0;
    memory_spread(memory, 2 * PAGE);
    assert_int_equal(machine.n_asked, 0);
    free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_alternate_between_a_process_s_nodes),
        cmocka_unit_test(less_than_a_page_stays),
        cmocka_unit_test(one_node_needs_nothing),
        cmocka_unit_test(a_policy_from_outside_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
