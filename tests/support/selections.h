/* Selections in an arena of the test's own. */
#ifndef REINFORCE_TESTS_SELECTIONS_H
#define REINFORCE_TESTS_SELECTIONS_H

#include "tests/support/pairs.h"

#include <string.h>

enum { ARENA_BYTES = 512 << 20 };

/* A sanitizer leaves only the plain kernels, which take minutes for SigLIP 2's super-batch. */
#if defined(REINFORCE_SANITIZED)
enum { LARGE_B = 4096 };
#else
enum { LARGE_B = 65536 };
#endif

static struct arena arena;

static inline int make_arena(void **state)
{
    (void)state;
    arena_init(&arena, ARENA_BYTES);
    return 0;
}

static inline int release_arena(void **state)
{
    (void)state;
    arena_release(&arena);
    return 0;
}

static inline struct selection_options options_of(size_t n_selected, size_t n_chunks)
{
    struct selection_options options;

    selection_options_default(&options);
    options.n_selected = n_selected;
    options.n_chunks = n_chunks;
    options.seed = 5;
    options.step = 7;
    return options;
}

static inline struct selection run(const struct super_batch *batch,
                                   const struct selection_options *options)
{
    struct selection selection;
    struct error err = {0};

    assert_ok(selection_run(batch, options, &selection, &arena, &err));
    assert_int_equal(selection.n, options->n_selected);
    return selection;
}

static inline void assert_same(const struct selection *a, const struct selection *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->index, b->index, a->n * sizeof *a->index);
    assert_memory_equal(a->chunk, b->chunk, a->n * sizeof *a->chunk);
    assert_memory_equal(a->marginal, b->marginal, a->n * sizeof *a->marginal);
    assert_memory_equal(a->conditional, b->conditional, a->n * sizeof *a->conditional);
}

#endif
