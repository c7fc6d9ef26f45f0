#include "reinforce/teach/fidelity.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>

static void cosines_are_summed_up_by_mean_first_percentile_and_least(void **state)
{
    enum { N = 200, DIM = 3 };
    struct fidelity_cosines cosines;
    struct arena arena;
    struct error err = {0};
    float *a, *b;

    (void)state;
    arena_init(&arena, 1 << 20);
    assert_ok(arena_calloc(&arena, N * DIM, sizeof *a, &a, &err));
    assert_ok(arena_calloc(&arena, N * DIM, sizeof *b, &b, &err));
    for (size_t i = 0; i < N; i++) {
        a[i * DIM] = 1;
        b[i * DIM] = i == 7 ? 0.25F : i == 9 ? 0.5F : 1; /* the rest is at right angles */
    }
    assert_ok(fidelity_of_rows(a, b, N, DIM, &arena, &cosines, &err));
    assert_int_equal(cosines.n, N);
    assert_true(cosines.mean == (N - 2 + 0.75) / N);
    assert_true(cosines.least == 0.25);
    assert_true(cosines.p01 == 0.5); /* of 200, the second is the first percentile */
    assert_ok(fidelity_of_rows(a, b, 0, DIM, &arena, &cosines, &err));
    assert_int_equal(cosines.n, 0);
    assert_true(cosines.mean == 0);
    arena_release(&arena);
}

static void captions_agree_word_by_word(void **state)
{
    static const struct caption cat = {.text = "a cat", .score = -1.5};
    static const struct caption same = {.text = "a cat", .score = -1.25};
    static const struct caption dog = {.text = "a dog", .score = -1.5};
    static const struct caption unknown = {.text = "a cat", .score = NAN};
    struct fidelity_captions captions = {.n = 0};
    json_t *said;

    (void)state;
    assert_true(fidelity_same(&captions) == 0);
    fidelity_add_captions(&captions, &cat, &same);
    fidelity_add_captions(&captions, &cat, &dog);
    assert_true(fidelity_same(&captions) == 0.5);
    said = fidelity_captions_json(&captions);
    assert_true(json_real_value(json_object_get(said, "same")) == 0.5);
    assert_true(json_real_value(json_object_get(said, "log_probability_difference")) == 0.25);
    json_decref(said);
    fidelity_add_captions(&captions, &cat, &unknown); /* a server's says nothing */
    assert_int_equal(captions.n_same, 2);
    assert_true(captions.difference == 0.25);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cosines_are_summed_up_by_mean_first_percentile_and_least),
        cmocka_unit_test(captions_agree_word_by_word),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
