#include "tests/support/fake_models.h"
#include "tests/support/test.h"
#include "worker/engine.h"

static struct job *load(const char *models)
{
    struct job *job = NULL;
    struct error err = {0};
    char text[1024];

    (void)snprintf(text, sizeof text, "{name: j, input: {url: in}, output: {url: out}, %s}",
                   models);
    assert_ok(job_load_text(bytes_of_string(text), "j.yaml", NULL, 0, &job, &err));
    return job;
}

static void slices_and_sizes_follow_the_order_of_the_teachers(void **state) /* DR 33 */
{
    struct job *job = load("teachers: [{model: a}, {model: b}, {model: c}]");
    struct teacher *teachers[] = {&fake_teacher_create(8, 32, 16)->base,
                                  &fake_teacher_create(6, 24, 48)->base,
                                  &fake_teacher_create(4, 32, 77)->base};
    static const size_t columns[] = {0, 8, 14, 18};
    struct engine *engine;
    struct error err = {0};

    (void)state;
    assert_ok(engine_create(job, teachers, NULL, &engine, &err));
    assert_int_equal(engine_dim(engine), 18);
    for (size_t i = 0; i < ARRAY_LEN(columns); i++)
        assert_int_equal(engine->teacher_column[i], columns[i]);
    assert_int_equal(engine->n_sizes, 2);
    assert_int_equal(engine->sizes[0], 32);
    assert_int_equal(engine->sizes[1], 24);
    assert_int_equal(engine->teacher_size[2], 0);
    assert_int_equal(engine->augment.size, 32); /* the largest */
    engine_close(&engine);
    assert_null(engine);
    engine_close(&engine);
    job_destroy(&job);
}

static void the_view_size_of_the_job_goes_before_the_teachers(void **state)
{
    struct job *job = load("views: {size: 64}, teachers: [{model: a}]");
    struct teacher *teachers[] = {&fake_teacher_create(8, 32, 16)->base};
    struct engine *engine;
    struct error err = {0};

    (void)state;
    assert_ok(engine_create(job, teachers, NULL, &engine, &err));
    assert_int_equal(engine->augment.size, 64);
    engine_close(&engine);
    job_destroy(&job);
}

static void a_captioner_that_cannot_do_what_the_job_asks_is_named(void **state) /* DR 32 */
{
    struct job *job = load("captioners: [{name: short, model: a, max_tokens: 78}],"
                           "views: {count: 0}, teachers: []");
    struct captioner *captioners[] = {&fake_captioner_create()->base};
    struct engine *engine;
    struct error err = {0};

    (void)state;
    assert_status(engine_create(job, NULL, captioners, &engine, &err), ST_INVALID);
    assert_null(engine);
    assert_non_null(strstr(err.message, "78"));
    assert_non_null(strstr(err.context, "\"short\""));
    captioner_close(&captioners[0]); /* still ours */
    job_destroy(&job);
}

/* Names and weights cannot differ in number: each model of a job is one item of one list, which
 * carries its own weights. */
static void a_model_without_weights_is_an_error_at_start(void **state) /* DR 34 */
{
    static const struct {
        const char *models, *named;
    } cases[] = {
        {"teachers: [{name: a, model: x}, {name: b}]", "model"},
        {"captioners: [{name: a}]", "model"},
        {"teachers: [{name: a, model: [x, y]}]", "model"},
        {"teachers: [{name: [a, b], model: x}]", "name"},
        {"teachers: [{name: a, model: x}], weights: [y]", "weights"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct job *job = NULL;
        struct error err = {0};
        char text[512];

        (void)snprintf(text, sizeof text, "{input: {url: in}, output: {url: out}, %s}",
                       cases[i].models);
        assert_status(job_load_text(bytes_of_string(text), "j.yaml", NULL, 0, &job, &err),
                      ST_INVALID);
        if (strstr(err.message, cases[i].named) == NULL &&
            strstr(err.context, cases[i].named) == NULL)
            fail_msg("case %zu: %s: %s", i, err.context, err.message);
    }
}

static void a_model_whose_weights_are_not_there_is_named(void **state) /* DR 34 */
{
    struct job *job = load("teachers: [{name: first, model: /nonexistent/model}]");
    struct engine *engine;
    struct error err = {0};

    (void)state;
    assert_int_not_equal(engine_open(job, &(struct engine_options){.place = NULL}, &engine, &err),
                         ST_OK);
    assert_null(engine);
    assert_non_null(strstr(err.context, "teacher \"first\""));
    job_destroy(&job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_and_sizes_follow_the_order_of_the_teachers),
        cmocka_unit_test(the_view_size_of_the_job_goes_before_the_teachers),
        cmocka_unit_test(a_captioner_that_cannot_do_what_the_job_asks_is_named),
        cmocka_unit_test(a_model_without_weights_is_an_error_at_start),
        cmocka_unit_test(a_model_whose_weights_are_not_there_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
