#include "reinforce/base/json.h"
#include "storage/format/side_files.h"
#include "tests/support/test.h"

enum { MAX_BYTES = 1 << 20 };

static const struct side_shard shards[] = {
    {.number = 0,
     .object_key = "00000000.tar",
     .bytes = 10240,
     .sha256 = "aa",
     .n_done = 3,
     .n_quarantined = 1,
     .n_filtered = 2},
    {.number = 3, .object_key = "00000003.tar", .bytes = 20480, .sha256 = "bb", .n_done = 4},
};

static const char *const models[] = {"models/a,b", "models/c"};

static struct augment_config augment;

static struct side_dataset usual_dataset(void)
{
    augment_config_default(&augment);
    return (struct side_dataset){
        .name = "quick \"start\"",
        .date = "2026-01-31T12:00:00",
        .config_digest = "cc",
        .extension = ".tar",
        .augment = &augment,
        .mean = {0.48145466, 0.4578275, 0.40821073},
        .std = {0.26862954, 0.26130258, 0.27577711},
        .models = models,
        .n_models = 2,
        .n_views = 2,
    };
}

typedef enum status render_fn(const struct side_dataset *dataset, struct byte_buf *out,
                              struct error *err);

static void expect_text(struct byte_buf *text, const char *want)
{
    struct error err = {0};
    const char *got;

    assert_ok(byte_buf_c_str(text, &got, &err));
    assert_string_equal(got, want);
}

static void expect(render_fn *render, const struct side_dataset *dataset, const char *want)
{
    struct byte_buf out;
    struct error err = {0};

    byte_buf_init(&out, MAX_BYTES);
    assert_ok(render(dataset, &out, &err));
    expect_text(&out, want);
    byte_buf_release(&out);
}

/* Of the first n of `shards`. */
static void make_lists(const struct side_dataset *dataset, size_t n, struct side_lists *lists)
{
    struct error err = {0};

    assert_ok(side_lists_begin(lists, dataset, &err));
    for (size_t i = 0; i < n; i++)
        assert_ok(side_lists_add(lists, &shards[i], &err));
    assert_ok(side_lists_end(lists, &err));
}

#define AUGMENTATION                                                                               \
    "{\"random_resized_crop\": {\"size\": 224, \"interpolation\": \"bicubic\"}, "                  \
    "\"rand_augment\": {\"enable\": true, \"p\": 1.0}, \"to_tensor\": {\"enable\": true}, "        \
    "\"normalize\": {\"mean\": [0.48145466, 0.4578275, 0.40821073], \"std\": [0.26862954, "        \
    "0.26130258, 0.27577711]}, \"to_rgb\": {\"enable\": true}}"

static void each_file_says_what_its_readers_look_for(void **state) /* DR 12, OU-7 */
{
    const struct side_dataset dataset = usual_dataset();
    struct side_lists lists;

    (void)state;
    make_lists(&dataset, ARRAY_LEN(shards), &lists);
    expect_text(
        &lists.manifest,
        "{\"shard\": \"00000000\", \"num_uids\": 3, \"object\": \"00000000.tar\", \"bytes\": "
        "10240, \"sha256\": \"aa\", \"n_done\": 3, \"n_quarantined\": 1, \"n_filtered\": 2, "
        "\"config_digest\": \"cc\", "
        "\"gap_before\": 0}\n"
        "{\"shard\": \"00000003\", \"num_uids\": 4, \"object\": \"00000003.tar\", \"bytes\": "
        "20480, \"sha256\": \"bb\", \"n_done\": 4, \"n_quarantined\": 0, \"n_filtered\": 0, "
        "\"config_digest\": "
        "\"cc\", \"gap_before\": 2}\n");
    expect_text(&lists.info,
                "{\"name\": \"quick \\\"start\\\"\", \"lengths\": {\"00000000.tar\": \"3\", "
                "\"00000003.tar\": \"4\"}, \"totalLength\": \"7\", \"date\": "
                "\"2026-01-31T12:00:00\"}\n");
    expect_text(&lists.sizes, "{\"00000000.tar\": 3, \"00000003.tar\": 4}\n");
    side_lists_release(&lists);
    expect(side_files_config, &dataset, AUGMENTATION "\n");
    expect(side_files_trainer_config, &dataset,
           "{\"model_name\": \"models/a,b,models/c\", \"pretrained\": \"N/A,N/A\", "
           "\"num_samples\": 2, \"reinforce\": {\"image_augmentation\": " AUGMENTATION "}}\n");
}

static void a_dataset_without_shards_is_valid_too(void **state)
{
    const struct side_dataset dataset = usual_dataset();
    struct side_lists lists;

    (void)state;
    make_lists(&dataset, 0, &lists);
    expect_text(&lists.manifest, "");
    expect_text(&lists.sizes, "{}\n");
    expect_text(&lists.info,
                "{\"name\": \"quick \\\"start\\\"\", \"lengths\": {}, \"totalLength\": \"0\", "
                "\"date\": \"2026-01-31T12:00:00\"}\n");
    side_lists_release(&lists);
}

static void another_recipe_is_spelt_out(void **state)
{
    const struct side_dataset dataset = usual_dataset();

    (void)state;
    augment.size = 256;
    augment.filter = RESAMPLE_BILINEAR;
    augment.scale_min = 0.5;
    augment.ratio_max = 1.5;
    augment.rand_augment_p = 0.5;
    augment.n_ops = 3;
    expect(side_files_config, &dataset,
           "{\"random_resized_crop\": {\"size\": 256, \"interpolation\": \"bilinear\", \"scale\": "
           "[0.5, 1.0], \"ratio\": [0.75, 1.5]}, \"rand_augment\": {\"enable\": true, \"p\": 0.5, "
           "\"num_ops\": 3, \"magnitude\": 9, \"num_magnitude_bins\": 31}, \"to_tensor\": "
           "{\"enable\": true}, \"normalize\": {\"mean\": [0.48145466, 0.4578275, 0.40821073], "
           "\"std\": [0.26862954, 0.26130258, 0.27577711]}, \"to_rgb\": {\"enable\": true}}\n");
    augment_config_default(&augment);
    augment.rand_augment = false;
    expect(side_files_config, &dataset,
           "{\"random_resized_crop\": {\"size\": 224, \"interpolation\": \"bicubic\"}, "
           "\"rand_augment\": {\"enable\": false}, \"to_tensor\": {\"enable\": true}, "
           "\"normalize\": {\"mean\": [0.48145466, 0.4578275, 0.40821073], \"std\": [0.26862954, "
           "0.26130258, 0.27577711]}, \"to_rgb\": {\"enable\": true}}\n");
}

static void lists_may_be_taken_piece_by_piece(void **state)
{
    const struct side_dataset dataset = usual_dataset();
    struct side_lists whole, lists;
    struct byte_buf taken;
    struct error err = {0};

    (void)state;
    make_lists(&dataset, ARRAY_LEN(shards), &whole);
    byte_buf_init(&taken, MAX_BYTES);
    assert_ok(side_lists_begin(&lists, &dataset, &err));
    for (size_t i = 0; i < ARRAY_LEN(shards); i++) {
        assert_ok(byte_buf_append(&taken, lists.info.data, lists.info.len, &err));
        byte_buf_reset(&lists.info);
        assert_ok(side_lists_add(&lists, &shards[i], &err));
    }
    assert_ok(side_lists_end(&lists, &err));
    assert_ok(byte_buf_append(&taken, lists.info.data, lists.info.len, &err));
    assert_true(bytes_equal(byte_buf_view(&taken), byte_buf_view(&whole.info)));
    side_lists_release(&lists);
    side_lists_release(&whole);
    byte_buf_release(&taken);
}

static void expect_json(const struct byte_buf *text)
{
    struct error err = {0};
    json_t *value;

    assert_ok(json_parse(byte_buf_view(text), &value, &err));
    assert_true(json_is_object(value));
    json_decref(value);
}

static void every_file_is_valid_json(void **state) /* DR 12 */
{
    static render_fn *const renders[] = {side_files_config, side_files_trainer_config};
    const struct side_dataset dataset = usual_dataset();
    struct side_lists lists;

    (void)state;
    make_lists(&dataset, ARRAY_LEN(shards), &lists);
    expect_json(&lists.info);
    expect_json(&lists.sizes);
    side_lists_release(&lists);
    for (size_t i = 0; i < ARRAY_LEN(renders); i++) {
        struct byte_buf out;
        struct error err = {0};

        byte_buf_init(&out, MAX_BYTES);
        assert_ok(renders[i](&dataset, &out, &err));
        expect_json(&out);
        byte_buf_release(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_file_says_what_its_readers_look_for),
        cmocka_unit_test(a_dataset_without_shards_is_valid_too),
        cmocka_unit_test(another_recipe_is_spelt_out),
        cmocka_unit_test(lists_may_be_taken_piece_by_piece),
        cmocka_unit_test(every_file_is_valid_json),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
