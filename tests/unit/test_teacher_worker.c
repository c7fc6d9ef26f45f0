/* What computes references on the spot, over a socket and with fake models. Numbers are those of
 * the specification's checklist. */
#include "coordinator/curator/computed_references.h"
#include "coordinator/curator/dataset_references.h"
#include "coordinator/curator/input_index.h"
#include "coordinator/local_run.h"
#include "reinforce/curate/example_id.h"
#include "tests/support/small_run.h"
#include "tests/support/test.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { N = 9, MAX_D = 64 };

/* A worker in a thread, of the first teacher of a small run. */
struct working {
    struct job job; /* the run's, with one teacher */
    struct fake_teacher *teacher;
    struct engine *engine;
    struct temp_folder cache;
    int socket;
    pthread_t thread;
    struct teacher_worker_options options;
    enum status status;
    struct error err;
    struct teacher_hello hello;
};

static void *work(void *ctx)
{
    struct working *w = ctx;

    w->status = teacher_worker_run(&w->options, &w->err);
    (void)close(w->options.socket);
    return NULL;
}

static void make_engine(struct working *w, const struct small_run *run)
{
    struct teacher *teacher;
    struct error err = {0};

    memset(w, 0, sizeof *w);
    temp_folder_init(&w->cache);
    w->job = *run->job;
    w->job.n_teachers = 1;
    w->job.n_captioners = 0;
    w->teacher = fake_teacher_create(8, 32, 16); /* as small_run's */
    teacher = &w->teacher->base;
    assert_ok(engine_create(&w->job, &teacher, NULL, &w->engine, &err));
}

static void start(struct working *w)
{
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    w->socket = ends[0];
    w->options = (struct teacher_worker_options){
        .engine = w->engine, .cache = w->cache.path, .n_threads = 3, .socket = ends[1]};
    assert_int_equal(pthread_create(&w->thread, NULL, work, w), 0);
    if (recv(w->socket, &w->hello, sizeof w->hello, 0) != sizeof w->hello)
        memset(&w->hello, 0, sizeof w->hello);
}

static void stop(struct working *w)
{
    assert_int_equal(close(w->socket), 0);
    assert_int_equal(pthread_join(w->thread, NULL), 0);
}

static void release(struct working *w)
{
    engine_close(&w->engine);
    temp_folder_release(&w->cache);
}

/* What becomes of an example. */
static enum teacher_word ask(struct working *w, const struct computed_references *computed,
                             const char *uid)
{
    struct teacher_said said;
    uint64_t place;

    assert_true(
        example_index_find(computed->index, example_id_of_uid(bytes_of_string(uid)), &place));
    assert_int_equal(send(w->socket, &place, sizeof place, 0), sizeof place);
    assert_int_equal(recv(w->socket, &said, sizeof said, 0), sizeof said);
    assert_int_equal(said.place, place);
    assert_int_equal(said.word, TEACHER_BEGINS);
    assert_int_equal(recv(w->socket, &said, sizeof said, 0), sizeof said);
    assert_int_equal(said.place, place);
    return (enum teacher_word)said.word;
}

/* CURATE 26: on the spot or from the dataset, a reference is the same half for half. */
static void rows_are_those_of_the_jobs_dataset(void **state)
{
    static const char *const sets[][2] = {{NULL}, {"output.embedding_dtype=bfloat16", NULL}};

    (void)state;
    for (size_t s = 0; s < ARRAY_LEN(sets); s++) {
        struct dataset_references_options options = {.teacher = "t0"};
        const struct curator_references *want;
        struct computed_references computed;
        struct reference_cache *cache;
        struct small_run run;
        struct working w;
        struct error err = {0};

        small_run_init(&run, sets[s]);
        small_run_put_samples(&run, "a", N);
        {
            const struct local_run_options how = {.job = run.job, .engine = run.engine};
            struct run_summary summary;

            assert_ok(local_run(&how, &summary, &err));
        }
        make_engine(&w, &run);
        options.url = run.job->output.url;
        options.cache = w.cache.path;
        assert_ok(dataset_references_open(&options, &cache, &err));
        want = reference_cache_get(cache);
        start(&w);
        assert_int_equal(w.hello.D, want->D);
        assert_ok(computed_references_open(&w.hello, w.cache.path, NULL, &computed, &err));
        assert_int_equal(example_index_count(computed.index), N);
        for (int i = 0; i < N; i++) {
            uint16_t image[2][MAX_D], text[2][MAX_D];
            struct example_id id;
            char uid[16];

            (void)snprintf(uid, sizeof uid, "a-%03d", i);
            id = example_id_of_uid(bytes_of_string(uid));
            assert_false(computed.references.row(&computed, id, image[0], text[0]));
            assert_int_equal(ask(&w, &computed, uid), TEACHER_HAS_WRITTEN);
            assert_true(computed.references.row(&computed, id, image[0], text[0]));
            assert_true(want->row(want->ctx, id, image[1], text[1]));
            assert_memory_equal(image[0], image[1], 2 * want->D);
            assert_memory_equal(text[0], text[1], 2 * want->D);
        }
        stop(&w);
        assert_int_equal(w.status, ST_OK);
        computed_references_close(&computed);
        reference_cache_close(&cache);
        release(&w);
        small_run_release(&run);
    }
}

static void what_cannot_be_embedded_is_remembered(void **state)
{
    struct computed_references computed;
    struct small_run run;
    struct working w;
    struct error err = {0};
    uint64_t place;

    (void)state;
    small_run_init(&run, NULL);
    small_run_put_image(&run, "i.png", 1);
    small_run_put_text(&run, "bad.png", "no image at all");
    small_run_put_text(&run, "x.jsonl",
                       "{\"uid\": \"good\", \"image_key\": \"i.png\", \"text\": \"a cat\"}\n"
                       "{\"uid\": \"bad\", \"image_key\": \"bad.png\", \"text\": \"a cat\"}\n"
                       "{\"uid\": \"gone\", \"image_key\": \"gone.png\", \"text\": \"a cat\"}\n"
                       "{\"uid\": \"silent\", \"image_key\": \"i.png\"}\n"
                       "{\"uid\": \"away\", \"image_key\": \"i.png\", \"text\": \"a dog\"}\n");
    make_engine(&w, &run);
    w.teacher->fault = FAKE_AWAY;
    w.teacher->trap = "dog";
    start(&w);
    assert_ok(computed_references_open(&w.hello, w.cache.path, NULL, &computed, &err));
    assert_int_equal(ask(&w, &computed, "good"), TEACHER_HAS_WRITTEN);
    assert_int_equal(ask(&w, &computed, "bad"), TEACHER_CANNOT);
    assert_int_equal(ask(&w, &computed, "gone"), TEACHER_CANNOT);
    assert_int_equal(ask(&w, &computed, "silent"), TEACHER_CANNOT);
    assert_int_equal(ask(&w, &computed, "away"), TEACHER_FAILED);
    stop(&w);
    assert_int_equal(
        computed_references_find(&computed, example_id_of_uid(bytes_of_string("silent")), &place),
        COMPUTED_CANNOT);
    assert_int_equal(
        computed_references_find(&computed, example_id_of_uid(bytes_of_string("nobody")), &place),
        COMPUTED_CANNOT);
    assert_int_equal(
        computed_references_find(&computed, example_id_of_uid(bytes_of_string("away")), &place),
        COMPUTED_CAN_BE); /* a failure of the moment is not */
    w.teacher->trap = NULL;
    w.teacher->fault = FAKE_NONE;
    start(&w);
    assert_int_equal(ask(&w, &computed, "away"), TEACHER_HAS_WRITTEN);
    stop(&w);
    computed_references_close(&computed);
    release(&w);
    small_run_release(&run);
}

/* CURATE 25 */
static void whatever_changes_is_another_file(void **state)
{
    struct teacher_hello first, again;
    struct computed_references computed;
    struct small_run run;
    struct working w;
    struct stat info[2];
    struct error err = {0};
    char path[256];

    (void)state;
    small_run_init(&run, NULL);
    small_run_put_samples(&run, "a", 3);
    make_engine(&w, &run);
    start(&w);
    stop(&w);
    first = w.hello;
    assert_int_equal(first.D, 8);
    assert_ok(input_index_path(w.cache.path, first.index_key, path, sizeof path, &err));
    assert_int_equal(stat(path, &info[0]), 0);
    start(&w);
    stop(&w);
    again = w.hello;
    assert_memory_equal(&again, &first, sizeof first);
    assert_int_equal(stat(path, &info[1]), 0);
    assert_int_equal(info[0].st_ino, info[1].st_ino); /* and is not made again */
    w.teacher->base.info.weights_digest[0] ^= 1;
    start(&w);
    stop(&w);
    assert_string_equal(w.hello.index_key, first.index_key);
    assert_string_not_equal(w.hello.rows_key, first.rows_key);
    w.teacher->base.info.weights_digest[0] ^= 1;
    w.job.digest[0] ^= 1; /* views, seed, ...: job_load() sees to it */
    start(&w);
    stop(&w);
    assert_string_not_equal(w.hello.rows_key, first.rows_key);
    w.job.digest[0] ^= 1;
    small_run_put_samples(&run, "b", 1);
    start(&w);
    stop(&w);
    assert_string_not_equal(w.hello.index_key, first.index_key);
    assert_string_not_equal(w.hello.rows_key, first.rows_key);
    {
        struct curator_references dataset = {.D = 8, .dtype = TENSOR_F16, .scale = 17};

        assert_status(computed_references_open(&w.hello, w.cache.path, &dataset, &computed, &err),
                      ST_INVALID);
        assert_non_null(strstr(err.message, "scale 17"));
    }
    release(&w);
    small_run_release(&run);
}

static void an_input_with_nothing_in_it_is_an_error(void **state)
{
    struct small_run run;
    struct working w;

    (void)state;
    small_run_init(&run, NULL);
    make_engine(&w, &run);
    start(&w);
    stop(&w);
    assert_int_equal(w.status, ST_NOT_FOUND);
    release(&w);
    small_run_release(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_those_of_the_jobs_dataset),
        cmocka_unit_test(what_cannot_be_embedded_is_remembered),
        cmocka_unit_test(whatever_changes_is_another_file),
        cmocka_unit_test(an_input_with_nothing_in_it_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
