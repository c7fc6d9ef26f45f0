/* The image side of the pipeline on one core; bench_image.py drives it.
 *
 *     bench_image FILE...
 *
 * reads lines "TASK ROUNDS" and answers each with the seconds that TASK took on all files ROUNDS
 * times: chain   decode, 10 augmented views and the plain view, each to a float tensor of 224 x 224
 *     crops   the same without operators
 *     tensor  decode and the plain view to a tensor
 *     fast    the same with fast_decode
 *     decode, resize, operators, normalise: one step of the chain alone
 *
 * "digest 1" is answered with the SHA-256 of all files' pixels and that of their tensors, "levels
 * 1" with how far the plain views of fast_decode are from the others, of 255: mean and largest. */
#include "reinforce/base/clock.h"
#include "reinforce/base/file.h"
#include "reinforce/base/parse.h"
#include "reinforce/base/sha256.h"
#include "reinforce/image/augment.h"
#include "reinforce/image/augment_ops.h"
#include "reinforce/image/decode.h"
#include "reinforce/image/preprocess.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { SIZE = 224, VIEWS = 10, MAX_FILES = 256, ARENA_BYTES = 512 << 20 };

static const struct preprocess plain = {
    .size = SIZE,
    .mode = PREPROCESS_SHORTEST,
    .filter = RESAMPLE_BICUBIC,
    .mean = {0.48145466f, 0.4578275f, 0.40821073f},
    .std = {0.26862954f, 0.26130258f, 0.27577711f},
};

struct bench {
    struct byte_buf files[MAX_FILES];
    struct image images[MAX_FILES]; /* decoded once, in `kept` */
    size_t n_files;
    struct arena kept, arena;
    struct augment_config config;
    float tensor[3 * SIZE * SIZE];
};

static enum status plain_view(struct bench *bench, const struct image *image, struct error *err)
{
    struct image view;
    enum status st = preprocess_pixels(&plain, image, &bench->arena, &view, err);

    if (st == ST_OK)
        preprocess_tensor(&view, plain.mean, plain.std, bench->tensor);
    return st;
}

static enum status views(struct bench *bench, size_t file, bool with_operators, struct error *err)
{
    struct image image, view;
    enum status st =
        image_decode(byte_buf_view(&bench->files[file]), NULL, &bench->arena, &image, err);

    for (uint32_t a = 0; a < VIEWS && st == ST_OK; a++) {
        struct augment_params params;

        augment_sample(&bench->config, file, bytes_of_string("bench"), a, image.width, image.height,
                       &params);
        if (!with_operators)
            params.n_ops = 0;
        st = augment_apply(&bench->config, &params, &image, &bench->arena, &view, err);
        if (st == ST_OK)
            preprocess_tensor(&view, plain.mean, plain.std, bench->tensor);
    }
    return st == ST_OK ? plain_view(bench, &image, err) : st;
}

static enum status chain(struct bench *bench, size_t file, struct error *err)
{
    return views(bench, file, true, err);
}

static enum status crops(struct bench *bench, size_t file, struct error *err)
{
    return views(bench, file, false, err);
}

static enum status tensor(struct bench *bench, size_t file, struct error *err)
{
    struct image image;
    enum status st =
        image_decode(byte_buf_view(&bench->files[file]), NULL, &bench->arena, &image, err);

    return st == ST_OK ? plain_view(bench, &image, err) : st;
}

static enum status decode_fast(struct bench *bench, size_t file, struct image *image,
                               struct error *err)
{
    const struct image *whole = &bench->images[file];

    return image_decode_reduced(byte_buf_view(&bench->files[file]), NULL,
                                preprocess_reduction(&plain, whole->width, whole->height),
                                &bench->arena, image, err);
}

static enum status fast(struct bench *bench, size_t file, struct error *err)
{
    struct image image;
    enum status st = decode_fast(bench, file, &image, err);

    return st == ST_OK ? plain_view(bench, &image, err) : st;
}

static enum status decode(struct bench *bench, size_t file, struct error *err)
{
    struct image image;

    return image_decode(byte_buf_view(&bench->files[file]), NULL, &bench->arena, &image, err);
}

static enum status resize(struct bench *bench, size_t file, struct error *err)
{
    const struct image *image = &bench->images[file];
    enum status st = ST_OK;

    for (uint32_t a = 0; a < VIEWS && st == ST_OK; a++) {
        struct augment_params params;
        struct image view;

        augment_sample(&bench->config, file, bytes_of_string("bench"), a, image->width,
                       image->height, &params);
        params.n_ops = 0;
        st = augment_apply(&bench->config, &params, image, &bench->arena, &view, err);
    }
    return st;
}

static enum status operators(struct bench *bench, size_t file, struct error *err)
{
    struct image view = image_of(SIZE, SIZE, 3, bench->images[file].pixels), out;
    enum status st = image_alloc(&out, SIZE, SIZE, 3, &bench->arena, err);

    for (uint32_t a = 0; a < VIEWS && st == ST_OK; a++) {
        struct augment_params params;

        augment_sample(&bench->config, file, bytes_of_string("bench"), a, SIZE, SIZE, &params);
        for (int i = 0; i < params.n_ops; i++)
            augment_op_run(params.ops[i].op, params.ops[i].magnitude, &view, out.pixels);
    }
    return st;
}

static enum status normalise(struct bench *bench, size_t file, struct error *err)
{
    struct image view = image_of(SIZE, SIZE, 3, bench->images[file].pixels);

    (void)err;
    for (int a = 0; a < VIEWS; a++)
        preprocess_tensor(&view, plain.mean, plain.std, bench->tensor);
    return ST_OK;
}

static const struct {
    const char *name;
    enum status (*run)(struct bench *bench, size_t file, struct error *err);
} tasks[] = {
    {"chain", chain},   {"crops", crops},   {"tensor", tensor},       {"fast", fast},
    {"decode", decode}, {"resize", resize}, {"operators", operators}, {"normalise", normalise},
};

static enum status hash_of_tensors(struct bench *bench, char hex[SHA256_HEX_LEN + 1],
                                   struct error *err)
{
    struct sha256 *hash;
    enum status st = sha256_create(&hash, err);

    for (size_t file = 0; file < bench->n_files && st == ST_OK; file++) {
        arena_reset(&bench->arena);
        st = tensor(bench, file, err);
        if (st == ST_OK)
            sha256_update(hash, bench->tensor, sizeof bench->tensor);
    }
    if (st == ST_OK)
        sha256_hex(hash, hex);
    sha256_destroy(&hash);
    return st;
}

static enum status digest(struct bench *bench, struct error *err)
{
    char pixels[SHA256_HEX_LEN + 1], tensors[SHA256_HEX_LEN + 1];
    struct sha256 *hash;
    enum status st = sha256_create(&hash, err);

    for (size_t file = 0; file < bench->n_files && st == ST_OK; file++)
        sha256_update(hash, bench->images[file].pixels, image_bytes(&bench->images[file]));
    if (st == ST_OK) {
        sha256_hex(hash, pixels);
        st = hash_of_tensors(bench, tensors, err);
    }
    if (st == ST_OK) {
        (void)printf("%s %s\n", pixels, tensors);
        (void)fflush(stdout);
    }
    sha256_destroy(&hash);
    return st;
}

static enum status levels(struct bench *bench, struct error *err)
{
    int64_t sum = 0, n = 0;
    int largest = 0;

    for (size_t file = 0; file < bench->n_files; file++) {
        struct image image, got, want;
        enum status st;

        arena_reset(&bench->arena);
        st = decode_fast(bench, file, &image, err);
        if (st == ST_OK)
            st = preprocess_pixels(&plain, &image, &bench->arena, &got, err);
        if (st == ST_OK)
            st = preprocess_pixels(&plain, &bench->images[file], &bench->arena, &want, err);
        if (st != ST_OK)
            return st;
        for (size_t i = 0; i < image_bytes(&want); i++, n++) {
            int difference = abs(got.pixels[i] - want.pixels[i]);

            sum += difference;
            largest = MAX(largest, difference);
        }
    }
    (void)printf("%.2f %d\n", (double)sum / (double)n, largest);
    (void)fflush(stdout);
    return ST_OK;
}

static enum status run(struct bench *bench, const char *task, int64_t rounds, struct error *err)
{
    int64_t start = clock_monotonic_ns();

    if (strcmp(task, "digest") == 0)
        return digest(bench, err);
    if (strcmp(task, "levels") == 0)
        return levels(bench, err);
    for (size_t t = 0; t < ARRAY_LEN(tasks); t++) {
        if (strcmp(tasks[t].name, task) != 0)
            continue;
        for (int64_t round = 0; round < rounds; round++)
            for (size_t file = 0; file < bench->n_files; file++) {
                enum status st;

                arena_reset(&bench->arena);
                st = tasks[t].run(bench, file, err);
                if (st != ST_OK)
                    return st;
            }
        (void)printf("%.6f\n", (double)(clock_monotonic_ns() - start) * 1e-9);
        (void)fflush(stdout);
        return ST_OK;
    }
    return error_set(err, ST_INVALID, "task \"%s\" is unknown", task);
}

static enum status open_files(struct bench *bench, char **paths, size_t n, struct error *err)
{
    enum status st = ST_OK;

    if (n < 1 || n > MAX_FILES)
        return error_set(err, ST_INVALID, "usage: bench_image FILE... (at most %d)", MAX_FILES);
    arena_init(&bench->kept, (size_t)4 * ARENA_BYTES);
    arena_init(&bench->arena, ARENA_BYTES);
    augment_config_default(&bench->config);
    for (; bench->n_files < n && st == ST_OK; bench->n_files++) {
        size_t i = bench->n_files;

        byte_buf_init(&bench->files[i], 64 << 20);
        st = file_read(paths[i], &bench->files[i], err);
        if (st == ST_OK)
            st = image_decode(byte_buf_view(&bench->files[i]),
                              &(struct image_limits){.min_side = SIZE}, &bench->kept,
                              &bench->images[i], err);
        if (st != ST_OK)
            error_add_context(err, "%s", paths[i]);
    }
    return st;
}

int main(int argc, char **argv)
{
    static struct bench bench;
    struct error err = {0};
    enum status st = open_files(&bench, argv + 1, (size_t)argc - 1, &err);
    char line[64];

    while (st == ST_OK && fgets(line, sizeof line, stdin) != NULL) {
        char *rest = line;
        const char *task = strtok_r(rest, " \n", &rest);
        const char *count = strtok_r(rest, " \n", &rest);
        int64_t rounds;

        st = parse_i64(count != NULL ? count : "", 1, 1000000, &rounds, &err);
        if (st == ST_OK)
            st = run(&bench, task, rounds, &err);
    }
    if (st != ST_OK)
        (void)fprintf(stderr, "bench_image: %s: %s\n", err.context, err.message);
    for (size_t i = 0; i < bench.n_files; i++)
        byte_buf_release(&bench.files[i]);
    arena_release(&bench.kept);
    arena_release(&bench.arena);
    return st == ST_OK ? 0 : 1;
}
