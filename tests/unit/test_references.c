/* Reference embeddings of a written dataset, cached. Numbers are those of the specification's
 * checklist. */
#include "coordinator/curator/dataset_references.h"
#include "coordinator/local_run.h"
#include "reinforce/base/file.h"
#include "reinforce/curate/example_id.h"
#include "tests/support/pairs.h"
#include "tests/support/small_run.h"
#include "worker/model_record.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { D = 24, N = 500 };

static struct temp_folder folder;
static char path[128];

static int make_folder(void **state)
{
    (void)state;
    temp_folder_init(&folder);
    temp_folder_name(&folder, "x.references", path, sizeof path);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    temp_folder_release(&folder);
    return 0;
}

static struct reference_facts facts_of(size_t dim)
{
    struct reference_facts facts = {.D = dim, .scale = 30, .bias = -15, .version = "clip@1"};

    sha256_of(bytes_of_string("key"), facts.key);
    return facts;
}

/* Ids that are near, far, and equal in half of their bits. */
static struct example_id id_of(size_t i)
{
    return (struct example_id){.low = i % 3 == 0 ? i : i << 40, .high = i % 3 == 2 ? i : 0};
}

static void write_cache(const struct pairs *pairs, size_t n, size_t dim)
{
    struct reference_facts facts = facts_of(dim);
    struct reference_writer *writer;
    struct error err = {0};

    assert_ok(reference_writer_open(path, &facts, n, &writer, &err));
    for (size_t i = 0; i < n; i++)
        assert_ok(reference_writer_add(writer, id_of(i), pairs->rows[1][PAIR_IMAGE] + i * dim,
                                       pairs->rows[1][PAIR_TEXT] + i * dim, &err));
    assert_status(
        reference_writer_add(writer, id_of(7), pairs->rows[1][0], pairs->rows[1][1], &err),
        ST_CONFLICT);
    assert_status(
        reference_writer_add(writer, id_of(n), pairs->rows[1][0], pairs->rows[1][1], &err),
        ST_FULL);
    assert_ok(reference_writer_finish(&writer, &err));
}

/* CURATE 26, the file: a row is the nearest half of what was put in. */
static void rows_are_found_by_their_id(void **state)
{
    struct reference_facts facts = facts_of(D);
    const struct curator_references *references;
    uint16_t image[D], text[D], want[D];
    struct reference_cache *cache;
    struct pairs pairs;
    struct error err = {0};

    (void)state;
    pairs_draw(&pairs, N, D, D, 1);
    write_cache(&pairs, N, D);
    assert_ok(reference_cache_open(path, facts.key, &cache, &err));
    references = reference_cache_get(cache);
    assert_int_equal(references->n, N);
    assert_int_equal(references->D, D);
    assert_true(references->scale == 30 && references->bias == -15);
    assert_string_equal(references->version, "clip@1");
    for (size_t i = 0; i < N; i++) {
        assert_true(references->row(references->ctx, id_of(i), image, text));
        convert_to_f16(pairs.rows[1][PAIR_IMAGE] + i * D, D, want);
        assert_memory_equal(image, want, sizeof want);
        convert_to_f16(pairs.rows[1][PAIR_TEXT] + i * D, D, want);
        assert_memory_equal(text, want, sizeof want);
        assert_false(references->row(references->ctx, id_of(N + i), image, text));
    }
    reference_cache_close(&cache);
    pairs_release(&pairs);
}

/* CURATE 25 */
static void another_or_a_damaged_file_is_a_miss(void **state)
{
    static const size_t lengths[] = {0, 7, 255, 256, 300};
    struct reference_facts facts = facts_of(D);
    struct reference_cache *cache;
    struct byte_buf body;
    struct pairs pairs;
    struct error err = {0};
    char other[SHA256_HEX_LEN + 1];

    (void)state;
    assert_status(reference_cache_open(path, facts.key, &cache, &err), ST_NOT_FOUND);
    pairs_draw(&pairs, 20, D, D, 1);
    write_cache(&pairs, 20, D);
    sha256_of(bytes_of_string("another key"), other);
    assert_status(reference_cache_open(path, other, &cache, &err), ST_CORRUPT);
    assert_null(cache);
    byte_buf_init(&body, 1 << 20);
    assert_ok(file_read(path, &body, &err));
    for (size_t l = 0; l < ARRAY_LEN(lengths) + 1; l++) {
        size_t len = l < ARRAY_LEN(lengths) ? lengths[l] : body.len - 1;

        assert_ok(file_write_atomic(path, bytes_view_of(body.data, len), &err));
        assert_status(reference_cache_open(path, facts.key, &cache, &err), ST_CORRUPT);
    }
    for (size_t at = 8; at < 32; at += 8) { /* n, n_slots, D */
        bytes_put_u64(body.data + at, bytes_get_u64(body.data + at) + 1);
        assert_ok(file_write_atomic(path, byte_buf_view(&body), &err));
        assert_status(reference_cache_open(path, facts.key, &cache, &err), ST_CORRUPT);
        bytes_put_u64(body.data + at, bytes_get_u64(body.data + at) - 1);
    }
    memset(body.data + 256, 0xff, 8 * 64); /* slots that name rows which are not there */
    assert_ok(file_write_atomic(path, byte_buf_view(&body), &err));
    assert_ok(reference_cache_open(path, facts.key, &cache, &err));
    for (size_t i = 0; i < 20; i++) {
        uint16_t image[D], text[D];

        assert_false(reference_cache_get(cache)->row(cache, id_of(i), image, text));
    }
    reference_cache_close(&cache);
    byte_buf_release(&body);
    pairs_release(&pairs);
}

static void a_cache_that_was_not_finished_leaves_nothing(void **state)
{
    struct reference_facts facts = facts_of(D);
    struct reference_writer *writer;
    struct error err = {0};
    struct stat info;

    (void)state;
    assert_ok(reference_writer_open(path, &facts, 3, &writer, &err));
    reference_writer_abandon(&writer);
    assert_null(writer);
    assert_int_not_equal(stat(path, &info), 0);
    assert_int_equal(stat(folder.path, &info), 0);
    assert_int_equal(info.st_nlink, 2);
}

static void a_uid_is_its_number_or_its_digests(void **state)
{
    struct example_id id = example_id_of_uid(bytes_of_string("0123456789abcdefFEDCBA9876543210"));

    (void)state;
    assert_true(id.high == 0x0123456789abcdefu && id.low == 0xfedcba9876543210u);
    id = example_id_of_uid(
        bytes_of_string("abc")); /* SHA-256: ba7816bf 8f01cfea 414140de 5dae2223 */
    assert_true(id.high == 0xba7816bf8f01cfeau && id.low == 0x414140de5dae2223u);
    id = example_id_of_uid(bytes_of_string("0123456789abcdefFEDCBA987654321g"));
    assert_true(id.high != 0x0123456789abcdefu);
}

static void run_to_its_end(struct small_run *run)
{
    const struct local_run_options options = {.job = run->job, .engine = run->engine};
    struct run_summary summary;
    struct error err = {0};

    assert_ok(local_run(&options, &summary, &err));
}

static double value_of(const struct record_embedding *embedding, size_t row, size_t column)
{
    return (double)((const float *)embedding->data)[row * embedding->dim + column];
}

/* The mean of views [first, first + dim) as a unit vector, in plain double, against a row of
 * halves. */
static void assert_is_mean(const struct record_embedding *embedding, size_t rows, size_t first,
                           size_t dim, const uint16_t *half)
{
    double square = 0, sums[64] = {0};

    for (size_t d = 0; d < dim; d++) {
        for (size_t r = 0; r < rows; r++)
            sums[d] += value_of(embedding, r, first + d);
        square += sums[d] * sums[d];
    }
    for (size_t d = 0; d < dim; d++) {
        float got;

        convert_f16((const uint8_t *)(half + d), 1, &got);
        assert_true(fabs((double)got - sums[d] / sqrt(square)) < 1e-3);
    }
}

static void a_datasets_references_are_its_teachers(void **state)
{
    struct dataset_references_options options = {.cache = folder.path};
    struct record records[SMALL_RUN_MAX_SAMPLES];
    struct reference_cache *cache;
    struct small_run run;
    struct error err = {0};
    char url[128], first_version[128];
    size_t n;

    (void)state;
    small_run_init(&run, NULL);
    small_run_put_samples(&run, "a", 9);
    run_to_its_end(&run);
    (void)snprintf(url, sizeof url, "%s", run.job->output.url);
    options.url = url;
    assert_status(dataset_references_open(&options, &cache, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "say which of t0, t1"));
    options.teacher = "t2";
    assert_status(dataset_references_open(&options, &cache, &err), ST_INVALID);
    n = small_run_records(&run, "00000000.tar", records);
    assert_int_equal(n, 9);
    for (size_t t = 0; t < 2; t++) {
        size_t dim = run.teachers[t]->base.info.dim;
        size_t first = t == 0 ? 0 : run.teachers[0]->base.info.dim;

        options.teacher = t == 0 ? "t0" : "t1";
        for (int again = 0; again < 2; again++) { /* made, and mapped */
            const struct curator_references *references;

            assert_ok(dataset_references_open(&options, &cache, &err));
            references = reference_cache_get(cache);
            assert_int_equal(references->n, 9);
            assert_int_equal(references->D, dim);
            for (size_t i = 0; i < n; i++) {
                uint16_t image[64], text[64];

                assert_true(references->row(references->ctx, example_id_of_uid(records[i].uid),
                                            image, text));
                assert_is_mean(record_find_embedding(&records[i], "image_emb"), 3, first, dim,
                               image);
                assert_is_mean(record_find_embedding(&records[i], "text_emb"), 1, first, dim, text);
            }
            (void)snprintf(first_version, sizeof first_version, "%s", references->version);
            reference_cache_close(&cache);
        }
    }
    options.column = "syn_text";
    assert_ok(dataset_references_open(&options, &cache, &err));
    assert_string_not_equal(reference_cache_get(cache)->version, first_version);
    reference_cache_close(&cache);
    options.column = "syn_text_of_nobody";
    assert_status(dataset_references_open(&options, &cache, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "syn_text_of_nobody_emb"));
    small_run_release(&run);
}

/* CURATE 25 */
static void another_teacher_is_another_cache(void **state)
{
    struct dataset_references_options options = {.cache = folder.path, .teacher = "t1"};
    struct reference_cache *cache;
    struct small_run run;
    struct error err = {0};
    char versions[3][128];

    (void)state;
    small_run_init(&run, NULL);
    small_run_put_samples(&run, "a", 3);
    run_to_its_end(&run);
    options.url = run.job->output.url;
    for (int change = 0; change < 3; change++) {
        struct teacher_info *info = &run.teachers[1]->base.info;

        if (change == 1)
            info->weights_digest[0] = 'f';
        else if (change == 2)
            info->preprocess.mean[0] += 0.5f;
        assert_ok(model_record_write(run.engine, run.output, &err));
        assert_ok(dataset_references_open(&options, &cache, &err));
        (void)snprintf(versions[change], sizeof versions[change], "%s",
                       reference_cache_get(cache)->version);
        assert_int_equal(strncmp(versions[change], "t1@", 3), 0);
        reference_cache_close(&cache);
    }
    assert_string_not_equal(versions[0], versions[1]);
    assert_string_not_equal(versions[1], versions[2]);
    small_run_release(&run);
}

static void what_is_no_finished_dataset_is_told_apart(void **state)
{
    struct dataset_references_options options = {.url = "mem:nothing", .cache = folder.path};
    struct reference_cache *cache;
    struct small_run run;
    struct error err = {0};

    (void)state;
    assert_status(dataset_references_open(&options, &cache, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.message, "reinforce run"));
    small_run_init(&run, NULL);
    small_run_put_samples(&run, "a", 3);
    run_to_its_end(&run);
    assert_ok(object_store_remove(run.output, "manifest.jsonl", &err));
    options.url = run.job->output.url;
    options.teacher = "t0";
    assert_status(dataset_references_open(&options, &cache, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.message, "not ended"));
    small_run_release(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rows_are_found_by_their_id, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(another_or_a_damaged_file_is_a_miss, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(a_cache_that_was_not_finished_leaves_nothing, make_folder,
                                        remove_folder),
        cmocka_unit_test(a_uid_is_its_number_or_its_digests),
        cmocka_unit_test_setup_teardown(a_datasets_references_are_its_teachers, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(another_teacher_is_another_cache, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(what_is_no_finished_dataset_is_told_apart, make_folder,
                                        remove_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
