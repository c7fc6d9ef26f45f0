#include "reinforce/base/file.h"
#include "tests/support/small_run.h"
#include "tests/support/test.h"
#include "worker/model_record.h"

#include <stdlib.h>
#include <string.h>

#define CLIP "tests/golden/models/clip_gelu"
#define COCA "tests/golden/models/coca_small"

enum { MAX_BYTES = 1 << 20 };

static const char *const set[] = {"teachers[0].model=" CLIP,    "teachers[0].dtype=auto",
                                  "teachers[0].fidelity=0.99",  "teachers[1].model=" CLIP,
                                  "teachers[1].dtype=auto",     "teachers[1].fidelity=1",
                                  "captioners[0].model=" COCA,  "captioners[0].dtype=int8",
                                  "captioners[0].fidelity=0.5", NULL};

static struct job_place place_of(const struct small_run *run)
{
    return (struct job_place){.input = run->input,
                              .output = run->output,
                              .catalog_url = run->catalog_url,
                              .job_id = run->row.job};
}

/* The job's real models, as a run opens them. */
static enum status open_engine(const struct small_run *run, size_t threads, struct engine **engine,
                               struct error *err)
{
    const struct job_place place = place_of(run);
    const struct engine_options options = {.place = &place, .threads = threads};

    return engine_open(run->job, &options, engine, err);
}

static void assert_forms(const struct engine *engine, const char *first, const char *second)
{
    assert_string_equal(teacher_info(engine->teachers[0])->weights_type, first);
    assert_string_equal(teacher_info(engine->teachers[1])->weights_type, second);
}

static double figure(const json_t *said, const char *of, const char *key)
{
    return json_number_value(json_object_get(json_object_get(said, of), key));
}

static void auto_takes_int8_where_it_keeps_the_fidelity_and_says_so_in_the_record(void **state)
{
    struct small_run run;
    struct engine *engine, *again;
    struct bytes_view body;
    struct error err = {0};
    const json_t *said;

    (void)state;
    small_run_init(&run, set);
    small_run_put_samples(&run, "00", 40);
    small_run_plan(&run);
    assert_ok(open_engine(&run, 2, &engine, &err));
    assert_forms(engine, "I8", "F32");
    assert_string_equal(captioner_info(engine->captioners[0])->weights_type, "I8");

    said = engine_teacher_fidelity(engine, 0);
    assert_int_equal(figure(said, "images", "n"), FIRST_IMAGES);
    assert_int_equal(figure(said, "texts", "n"), FIRST_IMAGES);
    assert_true(figure(said, "images", "cosine_mean") > 0.99);
    assert_true(figure(said, "images", "cosine_p01") <= figure(said, "images", "cosine_mean"));
    assert_true(figure(said, "texts", "cosine_mean") > 0.99);
    said = engine_captioner_fidelity(engine, 0);
    assert_int_equal(figure(said, "captions", "n"), FIRST_IMAGES);
    assert_string_equal(json_string_value(json_object_get(said, "chosen")), "int8");

    assert_ok(open_engine(&run, 1, &again, &err)); /* not measured again */
    assert_forms(again, "I8", "F32");
    for (size_t i = 0; i < 3; i++)
        assert_true(json_equal(again->verdicts[i].said, engine->verdicts[i].said) == 1);

    assert_ok(model_record_write(engine, run.output, &err));
    assert_ok(object_store_get(run.output, MODEL_RECORD_KEY, MAX_BYTES, &run.arena, &body, &err));
    assert_non_null(strstr((const char *)body.data, "\"chosen\": \"int8\""));
    assert_non_null(strstr((const char *)body.data, "\"chosen\": \"float32\""));
    assert_non_null(strstr((const char *)body.data, "\"log_probability_difference\""));
    engine_close(&again);
    engine_close(&engine);
    small_run_release(&run);
}

static enum status overturn(void *ctx, const struct object_info *info, struct error *err)
{
    static const char text[] = "{\"dtype\": \"auto\", \"least\": 0, \"chosen\": \"float32\"}";
    struct object_store *store;
    struct object_written written;
    enum status st = object_store_open(ctx, &store, err);

    if (st == ST_OK)
        st = object_store_put(store, info->key, bytes_of_string(text), &written, err);
    object_store_close(&store);
    return st;
}

static void what_the_output_says_is_not_decided_again(void **state)
{
    static char url[160];
    struct small_run run;
    struct engine *engine;
    struct error err = {0};

    (void)state;
    small_run_init(&run, set);
    small_run_put_samples(&run, "00", 3);
    small_run_plan(&run);
    assert_ok(open_engine(&run, 1, &engine, &err));
    assert_forms(engine, "I8", "F32");
    engine_close(&engine);
    (void)snprintf(url, sizeof url, "%s", run.job->output.url);
    assert_ok(object_store_list(run.output, "_reinforce/fidelity/teacher-", overturn, url, &err));
    assert_ok(open_engine(&run, 1, &engine, &err));
    assert_forms(engine, "F32", "F32");
    engine_close(&engine);
    small_run_release(&run);
}

static void threads_and_batches_change_no_figure(void **state)
{
    json_t *said[2];

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct small_run run;
        struct engine *engine;
        struct error err = {0};

        small_run_init(&run, set);
        small_run_put_samples(&run, "00", 9);
        small_run_plan(&run);
        assert_ok(open_engine(&run, 1 + 3 * i, &engine, &err));
        said[i] = json_pack("[O, O, O]", engine->verdicts[0].said, engine->verdicts[1].said,
                            engine->verdicts[2].said);
        assert_non_null(said[i]);
        engine_close(&engine);
        small_run_release(&run);
    }
    assert_true(json_equal(said[0], said[1]) == 1);
    json_decref(said[0]);
    json_decref(said[1]);
}

static void only_samples_that_the_job_takes_are_compared_and_only_of_the_first_shard(void **state)
{
    static const char lines[] =
        "{\"uid\": \"broken\", \"image_key\": \"img/broken.png\", \"text\": \"t\"}\n"
        "{\"uid\": \"mute\", \"image_key\": \"img/1.png\"}\n"
        "{\"uid\": \"away\", \"image_key\": \"img/none.png\", \"text\": \"t\"}\n"
        "{\"uid\": \"one\", \"image_key\": \"img/1.png\", \"text\": \"a one\"}\n"
        "no JSON\n"
        "{\"uid\": \"two\", \"image_key\": \"img/2.png\", \"text\": \"a two\"}\n";
    struct small_run run;
    struct first_images first;
    struct job_place place;
    struct error err = {0};

    (void)state;
    small_run_init(&run, NULL);
    small_run_put_text(&run, "00.jsonl", lines);
    small_run_put_text(&run, "img/broken.png", "not an image");
    small_run_put_image(&run, "img/1.png", 1);
    small_run_put_image(&run, "img/2.png", 2);
    small_run_put_samples(&run, "01", 3);
    small_run_plan(&run);
    place = place_of(&run);
    assert_ok(first_images_read(run.job, &place, NULL, &first, &err));
    assert_int_equal(first.n, 2);
    assert_true(bytes_equal(first.images[0].uid, bytes_of_string("one")));
    assert_true(bytes_equal(first.images[1].uid, bytes_of_string("two")));
    assert_true(bytes_equal(first.images[1].text, bytes_of_string("a two")));
    first_images_release(&first);
    first_images_release(&first);
    small_run_release(&run);
}

static void without_an_image_auto_is_float32(void **state)
{
    struct small_run run;
    struct engine *engine;
    struct error err = {0};
    char text[VERDICT_TEXT_BYTES];

    (void)state;
    small_run_init(&run, set);
    small_run_put_text(&run, "00.jsonl", "no JSON\n");
    small_run_plan(&run);
    assert_ok(open_engine(&run, 1, &engine, &err));
    assert_forms(engine, "F32", "F32");
    verdict_describe(engine_teacher_fidelity(engine, 0), text);
    assert_string_equal(text, "auto: float32, no image of the first shard could be compared");
    engine_close(&engine);
    small_run_release(&run);
}

static void before_the_first_shard_is_planned_nothing_is_decided(void **state)
{
    struct small_run run;
    struct engine *engine;
    const char *stored = NULL;
    struct error err = {0};

    (void)state;
    small_run_init(&run, set);
    assert_ok(catalog_job_begin(run.catalog, run.job->name, run.job->digest,
                                run.job->effective_json, 1, &run.arena, &run.row, &stored, &err));
    assert_status(open_engine(&run, 1, &engine, &err), ST_UNAVAILABLE);
    assert_non_null(strstr(err.context, "teacher \"t0\""));
    small_run_release(&run);
}

static void a_stop_ends_the_comparing(void **state)
{
    atomic_bool stop = true;
    struct small_run run;
    struct engine *engine;
    struct job_place place;
    struct engine_options options = {.place = &place, .stop = &stop};
    struct error err = {0};

    (void)state;
    small_run_init(&run, set);
    small_run_put_samples(&run, "00", 3);
    small_run_plan(&run);
    place = place_of(&run);
    assert_status(engine_open(run.job, &options, &engine, &err), ST_CANCELLED);
    small_run_release(&run);
}

static void without_a_run_auto_is_refused_and_a_dtype_is_not_compared(void **state)
{
    static const struct engine_options options = {.place = NULL};
    static const char *const given[] = {"teachers[0].model=" CLIP,   "teachers[0].dtype=int8",
                                        "teachers[0].fidelity=0.9",  "teachers[1].model=" CLIP,
                                        "captioners[0].model=" COCA, NULL};
    struct small_run run;
    struct engine *engine;
    struct error err = {0};

    (void)state;
    small_run_init(&run, set);
    assert_status(engine_open(run.job, &options, &engine, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "decided by a run"));
    small_run_release(&run);
    small_run_init(&run, given);
    assert_ok(engine_open(run.job, &options, &engine, &err));
    assert_forms(engine, "I8", "F32");
    assert_null(engine_teacher_fidelity(engine, 0));
    engine_close(&engine);
    small_run_release(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_takes_int8_where_it_keeps_the_fidelity_and_says_so_in_the_record),
        cmocka_unit_test(what_the_output_says_is_not_decided_again),
        cmocka_unit_test(threads_and_batches_change_no_figure),
        cmocka_unit_test(only_samples_that_the_job_takes_are_compared_and_only_of_the_first_shard),
        cmocka_unit_test(without_an_image_auto_is_float32),
        cmocka_unit_test(before_the_first_shard_is_planned_nothing_is_decided),
        cmocka_unit_test(a_stop_ends_the_comparing),
        cmocka_unit_test(without_a_run_auto_is_refused_and_a_dtype_is_not_compared),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
