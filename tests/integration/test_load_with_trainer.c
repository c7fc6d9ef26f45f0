/* Shards of our own making, loaded by load_with_trainer.py: the record and format libraries against
 * the packages that trainers use, without a pipeline in between. Exits with 77 where those packages
 * are missing. */
#include "reinforce/base/file.h"
#include "reinforce/base/philox.h"
#include "reinforce/image/decode.h"
#include "reinforce/image/encode.h"
#include "storage/format/dataset.h"
#include "storage/format/side_files.h"
#include "tests/support/test.h"

#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_BYTES = 64 << 20, DIM = 24, N_VIEWS = 4, N_TEXTS = 3, N_SHARDS = 2, SKIPPED = 77 };

static const struct {
    const char *file, *ext;
} images[] = {
    {"jpeg_420.jpg", "jpg"},
    {"png_palette_transparent.png", "png"},
    {"jpeg_cmyk.jpg", "jpg"},
    {"webp_lossy_alpha.webp", "webp"},
    {"jpeg_444_progressive.jpg", "jpeg"},
    {"png_rgba.png", "png"},
    {"jpeg_grey.jpg", "jpg"},
    {"jpeg_orientation_6.jpg", "jpg"},
};

/* One dataset being written. */
struct dataset {
    char folder[64];
    struct object_store *store;
    struct dataset_write_options options;
    struct augment_config augment;
    struct side_shard shards[N_SHARDS];
    char keys[N_SHARDS][32];
    struct object_written written[N_SHARDS];
};

/* Unit rows in two slices, as an ensemble's. */
static void add_rows(struct record *record, const char *name, size_t rows, struct arena *arena,
                     struct philox *rng)
{
    struct record_embedding embedding = {
        .name = name, .dtype = RECORD_F32, .rows = rows, .dim = DIM};
    struct error err = {0};
    float *data;

    assert_ok(arena_calloc(arena, rows * DIM, sizeof *data, &data, &err));
    for (size_t i = 0; i < rows * 2; i++) {
        float *slice = data + i * DIM / 2, sum = 0;

        for (size_t d = 0; d < DIM / 2; d++) {
            slice[d] = philox_f32(rng) - 0.5f;
            sum += slice[d] * slice[d];
        }
        for (size_t d = 0; d < DIM / 2; d++)
            slice[d] /= sqrtf(sum);
    }
    embedding.data = data;
    assert_ok(record_set_embedding(record, &embedding, arena, &err));
}

/* Writes the view as the product does; the loader replays it from the shard. */
static void write_view(const struct dataset *dataset, const char *uid, size_t v,
                       const struct augment_params *params, const struct image *image,
                       struct arena *arena)
{
    struct object_written written;
    struct byte_buf png;
    struct image view;
    struct error err = {0};
    char key[256];

    byte_buf_init(&png, MAX_BYTES);
    assert_ok(augment_apply(&dataset->augment, params, image, arena, &view, &err));
    assert_ok(image_write_png(&view, &png, &err));
    (void)snprintf(key, sizeof key, "views/%s/view-%zu.png", uid, v);
    assert_ok(object_store_put(dataset->store, key, byte_buf_view(&png), &written, &err));
    byte_buf_release(&png);
}

static void add_sample(const struct dataset *dataset, size_t i, struct byte_buf *out)
{
    const char *file = images[i % ARRAY_LEN(images)].file;
    struct bytes_view texts[N_TEXTS], caption = bytes_of_string("a caf\xc3\xa9, really");
    struct record_column column = {.name = "syn_text", .n_texts = N_TEXTS, .texts = texts};
    struct augment_params views[N_VIEWS];
    struct byte_buf body;
    struct arena arena;
    struct philox rng;
    struct image image;
    struct error err = {0};
    char path[256], uid[64];
    struct record record = {
        .n_captions = 1, .captions = &caption, .image_ext = images[i % ARRAY_LEN(images)].ext};

    byte_buf_init(&body, MAX_BYTES);
    arena_init(&arena, 4 * (size_t)MAX_BYTES);
    (void)snprintf(path, sizeof path, "tests/golden/image/%s", file);
    (void)snprintf(uid, sizeof uid, "%032zx", i * 2654435761u);
    assert_ok(file_read(path, &body, &err));
    record.uid = bytes_of_string(uid);
    record.image = byte_buf_view(&body);
    assert_ok(image_decode(record.image, NULL, &arena, &image, &err));
    for (size_t t = 0; t < N_TEXTS; t++)
        texts[t] = bytes_of_string(t == 1 ? "a dog\n\"said\" \xf0\x9f\x90\x95" : "said");
    assert_ok(record_set_column(&record, &column, &arena, &err));
    for (size_t v = 0; v < N_VIEWS; v++) {
        augment_sample(&dataset->augment, 7, record.uid, (uint32_t)v, image.width, image.height,
                       &views[v]);
        write_view(dataset, uid, v, &views[v], &image, &arena);
    }
    record.n_views = N_VIEWS;
    record.views = views;
    philox_init(&rng, 1, record.uid, PHILOX_STAGE_SELECT, 0);
    add_rows(&record, "image_emb", N_VIEWS, &arena, &rng);
    add_rows(&record, "text_emb", 1, &arena, &rng);
    add_rows(&record, "syn_text_emb", N_TEXTS, &arena, &rng);
    assert_ok(record_check(&record, &err));
    assert_ok(dataset_append(dataset_format_by_name("webdataset"), &record, &dataset->options, out,
                             &err));
    record_release(&record);
    arena_release(&arena);
    byte_buf_release(&body);
}

static void write_shard(struct dataset *dataset, size_t s)
{
    const size_t n = s == 0 ? 7 : 13;
    struct byte_buf bytes;
    struct error err = {0};

    byte_buf_init(&bytes, MAX_BYTES);
    for (size_t i = 0; i < n; i++)
        add_sample(dataset, s * 7 + i, &bytes);
    assert_ok(dataset_tail(dataset_format_by_name("webdataset"), bytes.len, &bytes, &err));
    (void)snprintf(dataset->keys[s], sizeof dataset->keys[s], "%08zu.tar", s);
    assert_ok(object_store_put(dataset->store, dataset->keys[s], byte_buf_view(&bytes),
                               &dataset->written[s], &err));
    dataset->shards[s] = (struct side_shard){.number = (int64_t)s,
                                             .object_key = dataset->keys[s],
                                             .bytes = dataset->written[s].bytes,
                                             .sha256 = dataset->written[s].sha256,
                                             .n_done = (int64_t)n};
    byte_buf_release(&bytes);
}

static void put(struct dataset *dataset, const char *key, struct byte_buf *text)
{
    struct object_written written;
    struct error err = {0};

    assert_ok(object_store_put(dataset->store, key, byte_buf_view(text), &written, &err));
    byte_buf_reset(text);
}

static void write_side_files(struct dataset *dataset)
{
    static const char *const models[] = {"first", "second"};
    const struct side_dataset side = {.name = "trainer",
                                      .date = "2026-01-31T12:00:00",
                                      .config_digest = "00",
                                      .extension = ".tar",
                                      .augment = &dataset->augment,
                                      .mean = {0.5, 0.5, 0.5},
                                      .std = {0.25, 0.25, 0.25},
                                      .models = models,
                                      .n_models = 2,
                                      .n_views = N_VIEWS};
    struct side_lists lists;
    struct byte_buf text;
    struct error err = {0};

    assert_ok(side_lists_begin(&lists, &side, &err));
    for (size_t s = 0; s < N_SHARDS; s++)
        assert_ok(side_lists_add(&lists, &dataset->shards[s], &err));
    assert_ok(side_lists_end(&lists, &err));
    put(dataset, "manifest.jsonl", &lists.manifest);
    put(dataset, "info.json", &lists.info);
    put(dataset, "sizes.json", &lists.sizes);
    side_lists_release(&lists);
    byte_buf_init(&text, MAX_BYTES);
    assert_ok(side_files_config(&side, &text, &err));
    put(dataset, "config.json", &text);
    assert_ok(side_files_trainer_config(&side, &text, &err));
    put(dataset, "trainer_config.json", &text);
    byte_buf_release(&text);
}

/* The loader's exit status. */
static int load(const char *folder)
{
    char views[96];
    pid_t child;
    int status = 0;

    (void)snprintf(views, sizeof views, "%s/views", folder);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)execlp("python3", "python3", "tests/integration/load_with_trainer.py", folder,
                     "--views", views, "--samples", "20", (char *)NULL);
        _exit(SKIPPED); /* no python3 */
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static enum status remove_one(void *ctx, const struct object_info *info, struct error *err)
{
    return object_store_remove(ctx, info->key, err);
}

static void check(enum record_dtype dtype, enum dataset_layout layout, int size)
{
    struct dataset dataset = {.options = {.layout = layout, .dtype = dtype}};
    struct error err = {0};
    int status;

    (void)snprintf(dataset.folder, sizeof dataset.folder, "/tmp/load_with_trainer.XXXXXX");
    assert_non_null(mkdtemp(dataset.folder));
    assert_ok(object_store_open(dataset.folder, &dataset.store, &err));
    augment_config_default(&dataset.augment);
    dataset.augment.size = size;
    for (size_t s = 0; s < N_SHARDS; s++)
        write_shard(&dataset, s);
    write_side_files(&dataset);
    status = load(dataset.folder);
    assert_ok(object_store_list(dataset.store, "", remove_one, dataset.store, &err));
    object_store_close(&dataset.store);
    (void)rmdir(dataset.folder);
    if (status == SKIPPED)
        skip();
    assert_int_equal(status, 0);
}

static void float32_shards_load_and_replay(void **state) /* DR 1, 2, 5, 12, 20 */
{
    (void)state;
    check(RECORD_F32, DATASET_LAYOUT_CURRENT, 224);
}

static void bfloat16_shards_load_and_replay(void **state) /* DR 1, 2, 6, 12, 20 */
{
    (void)state;
    check(RECORD_BF16, DATASET_LAYOUT_CURRENT, 256);
}

static void legacy_shards_load_and_replay(void **state) /* DR 10 */
{
    (void)state;
    check(RECORD_F32, DATASET_LAYOUT_LEGACY, 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float32_shards_load_and_replay),
        cmocka_unit_test(bfloat16_shards_load_and_replay),
        cmocka_unit_test(legacy_shards_load_and_replay),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
