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
     .n_filtered = 2,
     .input = "in/a.jsonl",
     .input_begin = 5,
     .input_end = 99},
    {.number = 3, .object_key = "00000003.tar", .bytes = 20480, .sha256 = "bb", .n_done = 4},
};

static const char *const models[] = {"models/a,b", "models/c"};

static struct augment_config augment;

static struct side_dataset dataset_of(size_t n_shards)
{
    augment_config_default(&augment);
    return (struct side_dataset){
        .name = "quick \"start\"",
        .date = "2026-01-31T12:00:00",
        .config_digest = "cc",
        .extension = ".tar",
        .shards = shards,
        .n_shards = n_shards,
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

static void expect(render_fn *render, const struct side_dataset *dataset, const char *want)
{
    struct byte_buf out;
    struct error err = {0};
    const char *got;

    byte_buf_init(&out, MAX_BYTES);
    assert_ok(render(dataset, &out, &err));
    assert_ok(byte_buf_c_str(&out, &got, &err));
    assert_string_equal(got, want);
    byte_buf_release(&out);
}

#define AUGMENTATION                                                                               \
    "{\"random_resized_crop\": {\"size\": 224, \"interpolation\": \"bicubic\"}, "                  \
    "\"rand_augment\": {\"enable\": true, \"p\": 1.0}, \"to_tensor\": {\"enable\": true}, "        \
    "\"normalize\": {\"mean\": [0.48145466, 0.4578275, 0.40821073], \"std\": [0.26862954, "        \
    "0.26130258, 0.27577711]}, \"to_rgb\": {\"enable\": true}}"

static void each_file_says_what_its_readers_look_for(void **state) /* DR 12, OU-7 */
{
    const struct side_dataset dataset = dataset_of(2);

    (void)state;
    expect(side_files_manifest, &dataset,
           "{\"shard\": \"00000000\", \"num_uids\": 3, \"object\": \"00000000.tar\", \"bytes\": "
           "10240, \"sha256\": \"aa\", \"n_done\": 3, \"n_quarantined\": 1, \"n_filtered\": 2, "
           "\"input\": "
           "\"in/a.jsonl\", \"input_begin\": 5, \"input_end\": 99, \"config_digest\": \"cc\", "
           "\"gap_before\": 0}\n"
           "{\"shard\": \"00000003\", \"num_uids\": 4, \"object\": \"00000003.tar\", \"bytes\": "
           "20480, \"sha256\": \"bb\", \"n_done\": 4, \"n_quarantined\": 0, \"n_filtered\": 0, "
           "\"config_digest\": "
           "\"cc\", \"gap_before\": 2}\n");
    expect(side_files_info, &dataset,
           "{\"name\": \"quick \\\"start\\\"\", \"lengths\": {\"00000000.tar\": \"3\", "
           "\"00000003.tar\": \"4\"}, \"totalLength\": \"7\", \"date\": "
           "\"2026-01-31T12:00:00\"}\n");
    expect(side_files_sizes, &dataset, "{\"00000000.tar\": 3, \"00000003.tar\": 4}\n");
    expect(side_files_config, &dataset, AUGMENTATION "\n");
    expect(side_files_trainer_config, &dataset,
           "{\"model_name\": \"models/a,b,models/c\", \"pretrained\": \"N/A,N/A\", "
           "\"num_samples\": 2, \"reinforce\": {\"image_augmentation\": " AUGMENTATION "}}\n");
}

static void a_dataset_without_shards_is_valid_too(void **state)
{
    const struct side_dataset dataset = dataset_of(0);

    (void)state;
    expect(side_files_manifest, &dataset, "");
    expect(side_files_sizes, &dataset, "{}\n");
    expect(side_files_info, &dataset,
           "{\"name\": \"quick \\\"start\\\"\", \"lengths\": {}, \"totalLength\": \"0\", "
           "\"date\": \"2026-01-31T12:00:00\"}\n");
}

static void another_recipe_is_spelt_out(void **state)
{
    const struct side_dataset dataset = dataset_of(0);

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

static void every_file_is_valid_json(void **state) /* DR 12 */
{
    static render_fn *const renders[] = {side_files_info, side_files_sizes, side_files_config,
                                         side_files_trainer_config};
    const struct side_dataset dataset = dataset_of(2);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(renders); i++) {
        struct byte_buf out;
        struct error err = {0};
        json_t *value;

        byte_buf_init(&out, MAX_BYTES);
        assert_ok(renders[i](&dataset, &out, &err));
        assert_ok(json_parse(byte_buf_view(&out), &value, &err));
        assert_true(json_is_object(value));
        json_decref(value);
        byte_buf_release(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_file_says_what_its_readers_look_for),
        cmocka_unit_test(a_dataset_without_shards_is_valid_too),
        cmocka_unit_test(another_recipe_is_spelt_out),
        cmocka_unit_test(every_file_is_valid_json),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
