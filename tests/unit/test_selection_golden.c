/* Selections against the specification in plain double precision NumPy
 * (tests/golden/make_curate.py): 200 random problems, with ties, quotas and B up to 4,096. */
#include "reinforce/base/philox.h"
#include "reinforce/base/sha256.h"
#include "reinforce/curate/selection.h"
#include "tests/support/test.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN "tests/golden/curate.jsonl"

enum { MAX_STRATA = 8, ARENA_BYTES = 256 << 20 };

struct problem {
    json_t *json;
    struct super_batch batch;
    struct selection_options options;
    uint32_t quotas[MAX_STRATA];
    struct arena arena;
};

static double number(const struct problem *problem, const char *key)
{
    const json_t *value = json_object_get(problem->json, key);

    assert_true(json_is_number(value));
    return json_number_value(value);
}

static size_t count(const struct problem *problem, const char *key)
{
    return (size_t)json_integer_value(json_object_get(problem->json, key));
}

static const char *text(const struct problem *problem, const char *key)
{
    return json_string_value(json_object_get(problem->json, key));
}

static void *allocate(struct problem *problem, size_t n, size_t size)
{
    struct error err = {0};
    void *out;

    assert_ok(arena_calloc(&problem->arena, n, size, &out, &err));
    return out;
}

static void draw(float *out, size_t n, uint64_t seed, uint32_t index)
{
    struct philox rng;

    philox_init(&rng, seed, bytes_of_string("curate"), PHILOX_STAGE_SELECT, index);
    for (size_t i = 0; i < n; i++)
        out[i] = philox_f32(&rng) - 0.5f;
}

static void normalise(double *row, size_t D, float *out)
{
    double sum = 0;

    for (size_t d = 0; d < D; d++)
        sum += row[d] * row[d];
    for (size_t d = 0; d < D; d++)
        out[d] = (float)(row[d] / sqrt(sum));
}

/* embeddings() of the script. */
static void make_model(struct problem *problem, struct pair_model *model, char which)
{
    char name[8] = {0};
    size_t B = problem->batch.B, D, copies = count(problem, "copies");
    uint32_t base = which == 'R' ? 8 : 4;
    float *image, *text_rows;
    double noise = number(problem, "noise"), *row;

    (void)snprintf(name, sizeof name, "D_%c", which);
    D = count(problem, name);
    image = allocate(problem, B * D, sizeof *image);
    text_rows = allocate(problem, B * D, sizeof *text_rows);
    row = allocate(problem, D, sizeof *row);
    draw(image, B * D, problem->options.seed, base);
    draw(text_rows, B * D, problem->options.seed, base + 1);
    for (size_t i = 0; i < B; i++) {
        float *u = image + i * D, *v = text_rows + i * D;

        if (copies != 0 && i >= copies) {
            memcpy(u, image + i % copies * D, D * sizeof *u);
            memcpy(v, text_rows + i % copies * D, D * sizeof *v);
            continue;
        }
        for (size_t d = 0; d < D; d++)
            row[d] = (double)u[d] + noise * (double)v[d];
        normalise(row, D, v);
        for (size_t d = 0; d < D; d++)
            row[d] = (double)u[d];
        normalise(row, D, u);
    }
    model->rows[PAIR_IMAGE] = bytes_view_of(image, B * D * sizeof *image);
    model->rows[PAIR_TEXT] = bytes_view_of(text_rows, B * D * sizeof *text_rows);
    model->dtype = TENSOR_F32;
    model->D = D;
    (void)snprintf(name, sizeof name, "scale_%c", which);
    model->scale = (float)number(problem, name);
    (void)snprintf(name, sizeof name, "bias_%c", which);
    model->bias = (float)number(problem, name);
}

static void make_options(struct problem *problem)
{
    struct selection_options *options = &problem->options;
    const json_t *quotas = json_object_get(problem->json, "quotas");
    const char *criterion = text(problem, "criterion");

    selection_options_default(options);
    options->criterion = criterion[0] == 'l'   ? SELECT_LEARNABILITY
                         : criterion[0] == 'e' ? SELECT_EASY_REFERENCE
                                               : SELECT_HARD_LEARNER;
    options->loss = strcmp(text(problem, "loss"), "softmax") == 0 ? PAIR_SOFTMAX : PAIR_SIGMOID;
    options->n_selected = count(problem, "b");
    options->n_chunks = count(problem, "N");
    options->gain = number(problem, "gain");
    options->top_k = json_is_true(json_object_get(problem->json, "top_k"));
    options->normalise_by_count = json_is_true(json_object_get(problem->json, "normalise"));
    options->uniform_share = number(problem, "uniform");
    options->seed = (uint64_t)json_integer_value(json_object_get(problem->json, "seed"));
    options->step = (uint32_t)count(problem, "step");
    options->n_strata = json_array_size(quotas);
    options->n_threads = 2;
    assert_true(options->n_strata <= MAX_STRATA);
    for (size_t s = 0; s < options->n_strata; s++)
        problem->quotas[s] = (uint32_t)json_integer_value(json_array_get(quotas, s));
    options->quotas = options->n_strata > 0 ? problem->quotas : NULL;
}

static void make_problem(struct problem *problem, json_t *json)
{
    struct example_id *ids;
    uint16_t *strata;
    size_t B;

    *problem = (struct problem){.json = json};
    arena_init(&problem->arena, ARENA_BYTES);
    problem->batch.B = B = count(problem, "B");
    make_options(problem);
    make_model(problem, &problem->batch.learner, 'L');
    make_model(problem, &problem->batch.reference, 'R');
    ids = allocate(problem, B, sizeof *ids);
    strata = allocate(problem, B, sizeof *strata);
    for (size_t i = 0; i < B; i++) {
        ids[i].low = i * (uint64_t)count(problem, "id_step") + 17;
        if (problem->options.n_strata > 0)
            strata[i] = (uint16_t)(i % problem->options.n_strata);
    }
    problem->batch.ids = ids;
    problem->batch.strata = strata;
}

static void digest(const struct selection *selection, char hex[SHA256_HEX_LEN + 1])
{
    uint8_t *bytes = malloc(6 * selection->n), *to = bytes;

    assert_non_null(bytes);
    for (size_t i = 0; i < selection->n; i++)
        for (size_t k = 0; k < 4; k++)
            *to++ = (uint8_t)(selection->index[i] >> 8 * k);
    for (size_t i = 0; i < selection->n; i++)
        for (size_t k = 0; k < 2; k++)
            *to++ = (uint8_t)(selection->chunk[i] >> 8 * k);
    sha256_of(bytes_view_of(bytes, 6 * selection->n), hex);
    free(bytes);
}

static bool is_as_golden(struct problem *problem, size_t line)
{
    char hex[SHA256_HEX_LEN + 1];
    struct selection selection;
    struct error err = {0};
    double sum = 0, want = number(problem, "sum_gains"), size = 1;

    assert_ok(selection_run(&problem->batch, &problem->options, &selection, &problem->arena, &err));
    assert_int_equal(selection.n, count(problem, "b"));
    digest(&selection, hex);
    if (strcmp(hex, text(problem, "digest")) != 0)
        return false;
    for (size_t i = 0; i < selection.n; i++) {
        sum += (double)selection.conditional[i];
        size += fabs((double)selection.conditional[i]);
    }
    if (!(fabs(sum - want) <= 1e-5 * size))
        fail_msg("problem %zu: gains add up to %.9g, want %.9g", line, sum, want);
    return true;
}

/* In double, and in float32 too: its bits are the same on every machine, so what it decides
 * rightly here it decides rightly everywhere. */
static void selections_are_those_of_the_plain_specification(void **state)
{
    FILE *file = fopen(GOLDEN, "r");
    size_t line = 0;
    json_t *json;

    (void)state;
    assert_non_null(file);
    while ((json = json_loadf(file, JSON_DISABLE_EOF_CHECK, NULL)) != NULL) {
        struct problem problem;

        line++;
        make_problem(&problem, json);
        for (int exact = 0; exact < 2; exact++) {
            problem.options.exact = exact != 0;
            if (!is_as_golden(&problem, line))
                fail_msg("problem %zu: another selection in %s; keys differ by %g at least", line,
                         exact ? "double" : "float32", number(&problem, "gap"));
        }
        arena_release(&problem.arena);
        json_decref(json);
    }
    (void)fclose(file);
    assert_int_equal(line, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(selections_are_those_of_the_plain_specification),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
