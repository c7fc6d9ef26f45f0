/* The program as a user meets it: help, errors, exit codes, and the small tools on small models. */
#include "reinforce/base/file.h"
#include "reinforce/base/json.h"
#include "reinforce/image/augment.h"
#include "reinforce/image/decode.h"
#include "reinforce/image/encode.h"
#include "storage/format/npz.h"
#include "tests/support/test.h"

#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLIP      "tests/golden/models/clip_gelu"
#define COCA      "tests/golden/models/coca_small"
#define PALIGEMMA "tests/golden/models/paligemma2_small"

enum { MAX_ARGS = 16, MAX_OUTPUT = 1 << 20 };

static const char *const command_names[] = {
    "run",        "plan",    "verify",  "inspect", "embed",   "caption",     "tokenize",
    "preprocess", "augment", "model",   "bench",   "submit",  "status",      "workers",
    "pause",      "resume",  "cancel",  "retry",   "repair",  "coordinator", "worker",
    "db",         "keys",    "produce", "ingest",  "metrics", "curator"};

/* The folder that a test writes into, and what the last command said. */
struct fixture {
    char dir[64];
    struct arena arena;
    struct byte_buf out, err;
    const char *out_text, *err_text;
};

static void read_into(const struct fixture *f, const char *name, struct byte_buf *buf,
                      const char **text)
{
    struct error err;
    char path[128];

    byte_buf_reset(buf);
    (void)snprintf(path, sizeof path, "%s/%s", f->dir, name);
    assert_ok(file_read(path, buf, &err));
    assert_ok(byte_buf_c_str(buf, text, &err));
}

/* Runs the program with the arguments up to NULL; standard output goes to `out_path`, or is kept.
 */
static int run_to(struct fixture *f, const char *out_path, const char *const *args)
{
    /* posix_spawn takes strings it could change, and does not */
    union {
        const char *in[MAX_ARGS + 2];
        char *argv[MAX_ARGS + 2];
    } cast = {.in = {REINFORCE_BINARY}};
    posix_spawn_file_actions_t actions;
    extern char **environ;
    char out[128], err[128];
    int status;
    pid_t pid;

    for (size_t i = 0; i < MAX_ARGS && args[i] != NULL; i++)
        cast.in[i + 1] = args[i];
    (void)snprintf(out, sizeof out, "%s/stdout", f->dir);
    (void)snprintf(err, sizeof err, "%s/stderr", f->dir);
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    assert_int_equal(posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO,
                                                      out_path != NULL ? out_path : out,
                                                      O_WRONLY | O_CREAT | O_TRUNC, 0600),
                     0);
    assert_int_equal(posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, err,
                                                      O_WRONLY | O_CREAT | O_TRUNC, 0600),
                     0);
    assert_int_equal(posix_spawn(&pid, cast.in[0], &actions, NULL, cast.argv, environ), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (out_path == NULL)
        read_into(f, "stdout", &f->out, &f->out_text);
    read_into(f, "stderr", &f->err, &f->err_text);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#define run(f, ...) run_to((f), NULL, (const char *const[]){__VA_ARGS__, NULL})

/* Fails unless the command ended well; shows what it said otherwise. */
#define run_ok(f, ...)                                                                             \
    do {                                                                                           \
        int run_code_ = run((f), __VA_ARGS__);                                                     \
        if (run_code_ != 0)                                                                        \
            fail_msg("exit code %d: %s", run_code_, (f)->err_text);                                \
    } while (0)

static void in_dir(const struct fixture *f, const char *name, char path[128])
{
    (void)snprintf(path, 128, "%s/%s", f->dir, name);
}

static void write_text(const struct fixture *f, const char *name, const char *text, char path[128])
{
    struct error err;

    in_dir(f, name, path);
    assert_ok(file_write_atomic(path, bytes_of_string(text), &err));
}

/* Annex A's image generator, as a PNG. */
static void write_image(struct fixture *f, const char *name, int width, int height, char path[128])
{
    struct byte_buf png;
    struct image image;
    struct error err;

    byte_buf_init(&png, MAX_OUTPUT);
    assert_ok(image_alloc(&image, width, height, 3, &f->arena, &err));
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            uint8_t *pixel = image.pixels + 3 * (y * width + x);

            pixel[0] = (uint8_t)(7 * x + 13 * y);
            pixel[1] = (uint8_t)((x * x + 3 * y * y) >> 4);
            pixel[2] = (uint8_t)(5 * (x ^ y) + 40);
        }
    }
    assert_ok(image_write_png(&image, &png, &err));
    in_dir(f, name, path);
    assert_ok(file_write_atomic(path, byte_buf_view(&png), &err));
    byte_buf_release(&png);
}

static json_t *answer(const struct fixture *f)
{
    json_t *value;
    struct error err;

    assert_int_equal(f->out_text[f->out.len - 1], '\n');
    assert_ok(json_parse(bytes_view_of(f->out_text, f->out.len - 1), &value, &err));
    return value;
}

/* The array of that name of an .npz file; its data lives in the fixture's arena. */
static struct record_embedding read_array(struct fixture *f, const char *path, const char *name)
{
    static const struct array_limits limits = {.max_arrays = 8, .max_bytes = 1 << 24};
    struct record_embedding *arrays;
    struct byte_buf file;
    struct error err = {0};
    size_t n;

    byte_buf_init(&file, MAX_OUTPUT);
    assert_ok(file_read(path, &file, &err));
    assert_ok(npz_read(byte_buf_view(&file), &limits, &f->arena, &arrays, &n, &err));
    byte_buf_release(&file);
    for (size_t i = 0; i < n; i++)
        if (strcmp(arrays[i].name, name) == 0)
            return arrays[i];
    fail_msg("%s has no array %s", path, name);
    return (struct record_embedding){0};
}

static void every_command_explains_itself(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(run(f, "--help"), 0);
    for (size_t i = 0; i < ARRAY_LEN(command_names); i++)
        if (strstr(f->out_text, command_names[i]) == NULL)
            fail_msg("the overview does not name %s", command_names[i]);
    for (size_t i = 0; i < ARRAY_LEN(command_names); i++) {
        char usage[64];

        (void)snprintf(usage, sizeof usage, "usage: reinforce %s ", command_names[i]);
        assert_int_equal(run(f, command_names[i], "--help"), 0);
        if (strstr(f->out_text, usage) == NULL || strstr(f->out_text, "Exit codes:") == NULL ||
            (strcmp(command_names[i], "keys") != 0 && strstr(f->out_text, "\nOptions:") == NULL))
            fail_msg("%s --help lacks usage, options or exit codes", command_names[i]);
        assert_int_equal(f->err.len, 0);
        assert_int_equal(run(f, "help", command_names[i]), 0);
        assert_non_null(strstr(f->out_text, usage));
    }
}

static void pages_are_roff(void **state)
{
    static const char *const macros[] = {".TH ",  ".SH ", ".PP\n", ".nf\n", ".fi\n",
                                         ".TP\n", ".B ",  ".I ",   ".BR "};
    struct fixture *f = *state;

    for (size_t i = 0; i <= ARRAY_LEN(command_names); i++) {
        if (i == ARRAY_LEN(command_names))
            assert_int_equal(run(f, "help", "--man"), 0);
        else
            assert_int_equal(run(f, "help", "--man", command_names[i]), 0);
        assert_memory_equal(f->out_text, ".TH REINFORCE", 13);
        assert_non_null(strstr(f->out_text, "\n.SH NAME\nreinforce"));
        assert_non_null(strstr(f->out_text, "\n.SH SYNOPSIS\n"));
        for (const char *line = f->out_text; *line != '\0'; line = strchr(line, '\n') + 1) {
            bool known = line[0] != '.';

            for (size_t m = 0; m < ARRAY_LEN(macros) && !known; m++)
                known = strncmp(line, macros[m], strlen(macros[m])) == 0;
            if (!known || line[0] == '\'')
                fail_msg("page %zu: %.40s", i, line);
        }
    }
}

static void a_wrong_command_line_is_told_what_was_meant(void **state)
{
    static const struct {
        const char *args[MAX_ARGS];
        const char *reason;
    } cases[] = {
        {{"captoin"}, "unknown command \"captoin\", did you mean \"caption\"?"},
        {{"banana"}, "unknown command \"banana\"\n"},
        {{"help", "modle"}, "did you mean \"model\"?"},
        {{"help", "run", "plan"}, "help takes one command"},
        {{"embed", "--modle", "x"}, "unknown option --modle, did you mean --model?"},
        {{"caption", "--temprature=1"}, "unknown option --temprature"},
        {{"tokenize", "-x"}, "unknown option -x"},
        {{"caption", "--n"}, "option --n needs a value"},
        {{"caption", "--n", "0"}, "--n: 0 is outside 1..1000"},
        {{"caption", "--seed", "7x"}, "--seed: \"7x\" is not an integer"},
        {{"caption", "--strategy", "gready"}, "none of greedy, top_p, beam"},
        {{"caption", "--model", COCA}, "at least one image"},
        {{"augment", "x.png", "--out", "d"}, "--uid (or --compat-torch-seed)"},
        {{"augment", "x.png", "--out", "d", "--uid", "u", "--compat-torch-seed", "1"},
         "two ways to draw"},
        {{"tokenize", "--model", CLIP}, "--texts-file are needed"},
        {{"preprocess", "--model", CLIP, "x.png"}, "--out"},
        {{"embed", "--model", CLIP, "--out", "x"}, "images or --texts-file are needed"},
        {{"model", "test", CLIP}, "info, check, pull or fidelity"},
        {{"model", "info"}, "a model is missing"},
        {{"bench"}, "say what to measure"},
        {{"bench", "kernels", CLIP, COCA}, "more than one model"},
        {{"bench", "kernels", "--rounds", "0"}, "rounds"},
        {{"model", "info", CLIP, COCA}, "more than one model"},
        {{"model", "fidelity", CLIP}, "name images, or --texts-file"},
        {{"coordinator"}, "--catalog is missing"},
        {{"coordinator", "--catalog", "sqlite:x", "--bind", "tcp://0.0.0.0:7600"},
         "not loopback: give --keys and --allow, or say --insecure"},
        {{"coordinator", "--catalog", "sqlite:x", "--keys", "k"}, "go together"},
        {{"worker"}, "--coordinator is missing"},
        {{"worker", "--coordinator", "tcp://127.0.0.1:1,tcp://c2:7600"},
         "tcp://c2:7600 is not loopback"},
        {{"worker", "--coordinator", "a,b,c,d,e,f,g,h,i"}, "more than 8 addresses"},
        {{"worker", "--coordinator", "a", "--grace", "0"}, "grace"},
        {{"keys", "new"}, "say new DIR, or add DIR NAME"},
        {{"submit"}, "a job file is missing"},
        {{"pause"}, "a job is missing"},
        {{"status"}, "give a job file or --catalog"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int code = run_to(f, NULL, cases[i].args);

        if (code != 2 || strstr(f->err_text, cases[i].reason) == NULL || f->out.len != 0)
            fail_msg("case %zu: exit code %d, \"%s\"", i, code, f->err_text);
        assert_memory_equal(f->err_text, "reinforce", 9);
    }
    assert_int_equal(run_to(f, NULL, (const char *const[]){NULL}), 2);
    assert_non_null(strstr(f->err_text, "usage: reinforce COMMAND"));
}

static void version_and_job_reference_are_printed(void **state)
{
    struct fixture *f = *state;
    struct byte_buf page;
    struct error err;

    run_ok(f, "--version");
    assert_string_equal(f->out_text, "reinforce " REINFORCE_VERSION "\n");
    run_ok(f, "help", "--job-file");
    byte_buf_init(&page, MAX_OUTPUT);
    assert_ok(file_read("docs/job-file.md", &page, &err));
    assert_true(bytes_equal(byte_buf_view(&page), byte_buf_view(&f->out)));
    byte_buf_release(&page);
}

/* CF-2, CL-5 */
static void a_wrong_job_file_ends_with_2_and_its_line(void **state)
{
    struct fixture *f = *state;
    char path[128], want[256];

    write_text(f, "bad.yaml", "input:\n  url: x\noutput:\n  url: y\nviews:\n  cout: 3\n", path);
    (void)snprintf(want, sizeof want, "%s:6:3: views.cout: unknown key, did you mean \"count\"?\n",
                   path);
    assert_int_equal(run(f, "run", path), 2);
    assert_non_null(strstr(f->err_text, want));
    assert_int_equal(run(f, "plan", "--set", "workers.count=x", path), 2);
    assert_int_equal(run(f, "run", "nowhere.yaml"), 2);
    assert_non_null(strstr(f->err_text, "nowhere.yaml"));
}

static void tokenize_prints_the_rows_that_models_read(void **state)
{
    struct fixture *f = *state;
    char path[128];
    json_t *rows, *row;

    write_text(f, "texts", "a photo of a cat\n\r\n<end_of_text> &amp;\nno end", path);
    run_ok(f, "tokenize", "--model", CLIP, "--texts-file", path, "--json");
    rows = answer(f);
    assert_int_equal(json_array_size(rows), 4);
    for (size_t i = 0; i < 4; i++) {
        row = json_array_get(rows, i);
        assert_int_equal(json_integer_value(json_array_get(row, 0)), 1032); /* start */
        assert_int_equal(json_integer_value(json_array_get(row, json_array_size(row) - 1)), 1033);
    }
    assert_int_equal(json_array_size(json_array_get(rows, 1)), 2); /* the empty line */
    row = json_array_get(rows, 2);
    for (size_t i = 1; i + 1 < json_array_size(row); i++) /* spelt out, not the special token */
        assert_true(json_integer_value(json_array_get(row, i)) < 1032);
    json_decref(rows);
    run_ok(f, "tokenize", "--model", CLIP, "--texts-file", path);
    assert_ptr_equal(strstr(f->out_text, "1032 320 552 524 515 320 66 518 1033\n1032 1033\n"),
                     f->out_text);
}

/* PALI 15: image tokens, <bos>, the prompt, a newline; ids of the reference (golden.json) */
static void tokenize_lays_out_prompts_of_paligemma(void **state)
{
    struct fixture *f = *state;
    char path[128];
    json_t *rows;

    write_text(f, "prompts", "caption en\ndetect dog ; cat\n", path);
    run_ok(f, "tokenize", "--model", "tests/golden/models/paligemma_small", "--texts-file", path);
    assert_string_equal(f->out_text,
                        "<image>*16 2 373 427 7\n<image>*16 2 412 489 266 293 492 7\n");
    run_ok(f, "tokenize", "--model", "tests/golden/models/paligemma_small", "--texts-file", path,
           "--json");
    rows = answer(f);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(rows, 1), "image_tokens")),
                     16);
    assert_int_equal(json_array_size(json_object_get(json_array_get(rows, 1), "ids")), 7);
    json_decref(rows);
}

/* DR 16: the seeded lists of Annex A, and the fallback crop. */
static void augment_draws_as_seeded_torch(void **state)
{
    static const struct {
        int width, height;
        const char *seed, *want;
    } cases[] = {
        {320, 240, "0",
         "{\"param_aug\": [[[28, 84, 188, 219], [[9, -0.26999998092651367], [3, "
         "-30.45317268371582]]], [[2, 36, 235, 216], [[2, 0.09000000357627869], [4, "
         "30.45317268371582]]], [[26, 95, 141, 124], [[2, 0.09000000357627869], [11, "
         "178.5]]]]}\n"},
        {320, 240, "42",
         "{\"param_aug\": [[[7, 4, 232, 295], [[3, 30.45317268371582], [12, 0.0]]], [[86, 22, 152, "
         "164], [[3, -30.45317268371582], [5, -9.0]]], [[90, 174, 140, 144], [[7, "
         "-0.26999998092651367], [5, 9.0]]]]}\n"},
        {1000, 60, "7",
         "{\"param_aug\": [[[0, 460, 60, 80], [[10, 7.0], [3, -30.45317268371582]]], [[0, 460, 60, "
         "80], [[5, 9.0], [12, 0.0]]], [[0, 460, 60, 80], [[13, 0.0], [3, "
         "30.45317268371582]]]]}\n"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char image[128], out[128];
        struct byte_buf file;
        struct error err;

        write_image(f, "g.png", cases[i].width, cases[i].height, image);
        in_dir(f, "views", out);
        run_ok(f, "augment", "--compat-torch-seed", cases[i].seed, "--views", "3", image, "--out",
               out);
        assert_string_equal(f->out_text, cases[i].want);
        in_dir(f, "views/param_aug.json", out);
        byte_buf_init(&file, MAX_OUTPUT);
        assert_ok(file_read(out, &file, &err));
        assert_true(bytes_equal(byte_buf_view(&file), byte_buf_view(&f->out)));
        byte_buf_release(&file);
    }
}

/* DR 20, DR 23: a view depends on seed, uid and index alone, and its pixels on its parameters. */
static void augment_repeats_a_jobs_views(void **state)
{
    struct fixture *f = *state;
    struct augment_config config;
    struct augment_params params;
    struct image source, want, got;
    struct byte_buf file;
    struct error err;
    char image[128], out[128], path[128];
    json_t *many, *one;

    write_image(f, "g.png", 90, 120, image);
    in_dir(f, "many", out);
    run_ok(f, "augment", "--uid", "0a1b", "--seed", "5", "--views", "4", image, "--out", out);
    many = answer(f);
    in_dir(f, "one", out);
    run_ok(f, "augment", "--uid", "0a1b", "--seed", "5", image, "--out", out);
    one = answer(f);
    assert_true(json_equal(json_array_get(json_object_get(many, "param_aug"), 0),
                           json_array_get(json_object_get(one, "param_aug"), 0)));

    augment_config_default(&config);
    byte_buf_init(&file, MAX_OUTPUT);
    assert_ok(file_read(image, &file, &err));
    assert_ok(image_decode(byte_buf_view(&file), NULL, &f->arena, &source, &err));
    for (size_t a = 0; a < 4; a++) {
        assert_ok(augment_params_from_json(json_array_get(json_object_get(many, "param_aug"), a),
                                           &params, &err));
        assert_ok(augment_apply(&config, &params, &source, &f->arena, &want, &err));
        (void)snprintf(path, sizeof path, "%s/many/view-%zu.png", f->dir, a);
        byte_buf_reset(&file);
        assert_ok(file_read(path, &file, &err));
        assert_ok(image_decode(byte_buf_view(&file), NULL, &f->arena, &got, &err));
        assert_int_equal(got.width, 224);
        assert_memory_equal(got.pixels, want.pixels, image_bytes(&want));
    }
    byte_buf_release(&file);
    json_decref(one);
    json_decref(many);
}

static void preprocess_writes_what_the_tower_reads(void **state)
{
    struct fixture *f = *state;
    struct record_embedding pixels;
    char image[128], out[128];
    const float *data;

    write_image(f, "g.png", 64, 64, image); /* the model's own size: no resampling */
    in_dir(f, "p.npz", out);
    run_ok(f, "preprocess", "--model", CLIP, image, "--out", out);
    pixels = read_array(f, out, "pixels");
    assert_int_equal(pixels.rows, 3 * 64);
    assert_int_equal(pixels.dim, 64);
    data = pixels.data;
    assert_true(data[0] == (0.0f - 0.48145466f) / 0.26862954f); /* R of (0, 0) is 0 */
    assert_true(data[2 * 64 * 64] == (40 / 255.0f - 0.40821073f) / 0.27577711f); /* B is 40 */
}

static void embed_gives_unit_rows_that_do_not_depend_on_each_other(void **state)
{
    struct fixture *f = *state;
    struct record_embedding both, texts, second;
    char a[128], b[128], lines[128], out[128];

    write_image(f, "a.png", 80, 70, a);
    write_image(f, "b.png", 65, 130, b);
    write_text(f, "texts", "a cat\na dog\n\xf0\x9f\x90\x88\n", lines);
    in_dir(f, "e.npz", out);
    run_ok(f, "embed", "--model", CLIP, "--images", a, b, "--texts-file", lines, "--out", out);
    both = read_array(f, out, "image_emb");
    texts = read_array(f, out, "text_emb");
    assert_int_equal(both.rows, 2);
    assert_int_equal(texts.rows, 3);
    assert_int_equal(texts.dim, both.dim);
    for (size_t r = 0; r < 3; r++) {
        const float *row = (const float *)texts.data + r * texts.dim;
        double sum = 0;

        for (size_t d = 0; d < texts.dim; d++)
            sum += (double)row[d] * (double)row[d];
        assert_true(fabs(sum - 1) < 1e-5);
    }
    run_ok(f, "embed", "--model", CLIP, "--images", b, "--out", out);
    second = read_array(f, out, "image_emb");
    assert_memory_equal(second.data, (const float *)both.data + both.dim, both.dim * sizeof(float));
}

static void captions_follow_seed_and_file_name(void **state)
{
    struct fixture *f = *state;
    char a[128], b[128];
    json_t *both, *again, *one;

    write_image(f, "a.png", 80, 70, a);
    write_image(f, "b.png", 65, 130, b);
    run_ok(f, "caption", "--model", COCA, "--n", "3", "--seed", "4", "--json", a, b);
    both = answer(f);
    assert_int_equal(json_array_size(both), 2);
    one = json_array_get(both, 1);
    assert_string_equal(json_string_value(json_object_get(one, "image")), b);
    assert_int_equal(json_array_size(json_object_get(one, "captions")), 3);
    run_ok(f, "caption", "--model", COCA, "--n", "3", "--seed", "4", "--json", b);
    again = answer(f);
    assert_true(json_equal(one, json_array_get(again, 0)));
    json_decref(again);
    run_ok(f, "caption", "--model", COCA, "--n", "3", "--seed", "5", "--json", b);
    again = answer(f);
    assert_false(json_equal(one, json_array_get(again, 0)));
    json_decref(again);
    json_decref(both);
    for (size_t i = 0; i < 3; i++) {
        static const char *const strategies[] = {"greedy", "beam", "top_p"};
        size_t n_lines = 0;

        run_ok(f, "caption", "--model", COCA, "--n", "2", "--strategy", strategies[i], a);
        for (const char *c = f->out_text; *c != '\0'; c++)
            n_lines += *c == '\n';
        assert_int_equal(n_lines, 2);
        assert_memory_equal(f->out_text, a, strlen(a));
    }
}

static void prompts_share_the_captions_and_places_are_read_out(void **state)
{
    struct fixture *f = *state;
    json_t *all, *captions, *first, *again;
    char a[128];

    write_image(f, "a.png", 80, 70, a);
    run_ok(f, "caption", "--model", PALIGEMMA, "--strategy", "greedy", "--n", "4", "--max-tokens",
           "42", "--prompt", "detect dog\ncaption en", "--json", a);
    all = answer(f);
    captions = json_object_get(json_array_get(all, 0), "captions");
    assert_int_equal(json_array_size(captions), 4);
    first = json_array_get(captions, 0);
    again = json_array_get(captions, 1);
    assert_string_equal(json_string_value(json_object_get(first, "text")),
                        json_string_value(json_object_get(again, "text")));
    again = json_array_get(captions, 2);
    assert_string_not_equal(json_string_value(json_object_get(first, "text")),
                            json_string_value(json_object_get(again, "text")));
    assert_string_equal(json_string_value(json_object_get(first, "stop")), "length");
    for (size_t i = 0; i < 4; i++) {
        const json_t *caption = json_array_get(captions, i);
        const json_t *places = json_object_get(caption, "places");
        const char *text = json_string_value(json_object_get(caption, "text"));

        for (size_t p = 0; p < json_array_size(places); p++) {
            const json_t *box = json_object_get(json_array_get(places, p), "box");
            char token[16];

            assert_int_equal(json_array_size(box), 4);
            (void)snprintf(token, sizeof token, "<loc%04d>",
                           (int)json_integer_value(json_array_get(box, 0)));
            assert_non_null(strstr(text, token));
        }
    }
    json_decref(all);
    assert_int_equal(run(f, "caption", "--model", COCA, "--prompt", "caption en", a), 2);
    assert_non_null(strstr(f->err_text, "takes no prompt"));
}

static void model_info_and_check_answer_for_both_roles(void **state)
{
    static const char *const models[] = {CLIP, COCA, "tests/golden/models/clip_hf", PALIGEMMA};
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        json_t *info, *check;

        run_ok(f, "model", "info", models[i], "--json");
        info = answer(f);
        assert_true(json_integer_value(json_object_get(info, "parameters")) > 1000);
        assert_int_equal(strlen(json_string_value(json_object_get(info, "digest"))), 64);
        run_ok(f, "model", "check", models[i], "--json");
        check = answer(f);
        assert_string_equal(json_string_value(json_object_get(check, "result")), "ok");
        assert_string_equal(json_string_value(json_object_get(check, "digest")),
                            json_string_value(json_object_get(info, "digest")));
        run_ok(f, "model", "info", models[i]);
        assert_non_null(strstr(f->out_text, json_string_value(json_object_get(info, "digest"))));
        json_decref(check);
        json_decref(info);
    }
}

static void bench_kernels_checks_and_measures_every_back_end(void **state)
{
    static const char *const types[] = {"float32", "bf16", "int8"};
    struct fixture *f = *state;
    json_t *said, *shapes;
    size_t i, k;
    const json_t *shape, *back_end;

    run_ok(f, "bench", "kernels", "--rows", "5", "--rounds", "1", "--json", CLIP);
    said = answer(f);
    shapes = json_object_get(said, "shapes");
    assert_int_equal(json_array_size(shapes), 8); /* of two towers */
    json_array_foreach(shapes, i, shape)
    {
        int n_chosen[ARRAY_LEN(types)] = {0};

        assert_int_equal(json_integer_value(json_object_get(shape, "rows")), 5);
        json_array_foreach(json_object_get(shape, "back_ends"), k, back_end)
        {
            const char *type = json_string_value(json_object_get(back_end, "type"));

            assert_true(json_is_true(json_object_get(back_end, "right")));
            assert_true(json_real_value(json_object_get(back_end, "gops")) > 0);
            for (size_t t = 0; t < ARRAY_LEN(types); t++)
                n_chosen[t] += strcmp(type, types[t]) == 0 &&
                               json_is_true(json_object_get(back_end, "chosen"));
        }
        for (size_t t = 0; t < ARRAY_LEN(types); t++)
            assert_int_equal(n_chosen[t], 1);
    }
    json_decref(said);
    run_ok(f, "bench", "kernels", "--rows", "5", "--rounds", "1", CLIP);
    assert_non_null(strstr(f->out_text, "what registers alone reach"));
}

static void model_fidelity_compares_int8_with_float32(void **state)
{
    struct fixture *f = *state;
    json_t *said, *images, *captions;
    char image[128];

    write_image(f, "g.png", 90, 120, image);
    run_ok(f, "model", "fidelity", CLIP, "--json", image);
    said = answer(f);
    images = json_object_get(said, "images");
    assert_int_equal(json_integer_value(json_object_get(images, "n")), 1);
    assert_true(json_real_value(json_object_get(images, "cosine_mean")) > 0.999);
    assert_true(json_real_value(json_object_get(images, "cosine_mean")) < 1);
    assert_true(json_real_value(json_object_get(images, "cosine_min")) > 0.999);
    assert_null(json_object_get(said, "texts"));
    json_decref(said);
    run_ok(f, "model", "fidelity", COCA, "--json", image);
    said = answer(f);
    captions = json_object_get(said, "captions");
    assert_int_equal(json_integer_value(json_object_get(captions, "n")), 1);
    assert_true(json_real_value(json_object_get(captions, "same")) >= 0);
    json_decref(said);
}

static void copy_file(const struct fixture *f, const char *from, const char *name, size_t cut)
{
    struct byte_buf file;
    struct error err;
    char path[128];

    byte_buf_init(&file, 1 << 24);
    assert_ok(file_read(from, &file, &err));
    in_dir(f, name, path);
    assert_ok(file_write_atomic(path, bytes_view_of(file.data, file.len - cut), &err));
    byte_buf_release(&file);
}

static void captions_go_on_past_an_image_that_cannot_be_read(void **state)
{
    struct fixture *f = *state;
    char text[128], image[128];
    json_t *said;

    write_text(f, "not.png", "no image", text);
    write_image(f, "a.png", 80, 70, image);
    assert_int_equal(run(f, "caption", "--model", COCA, "--json", text, image), 3);
    assert_non_null(strstr(f->err_text, text));
    said = answer(f);
    assert_non_null(json_object_get(json_array_get(said, 0), "error"));
    assert_non_null(json_object_get(json_array_get(said, 1), "captions"));
    json_decref(said);
}

static void what_cannot_be_read_ends_with_1_and_its_name(void **state)
{
    struct fixture *f = *state;
    char text[128], image[128], dir[128];
    struct error err;

    write_text(f, "not.png", "no image", text);
    write_image(f, "a.png", 80, 70, image);
    assert_int_equal(run(f, "augment", "--uid", "u", text, "--out", f->dir), 1);
    assert_int_equal(run(f, "embed", "--model", "nowhere", image, "--out", "x.npz"), 1);
    assert_non_null(strstr(f->err_text, "nowhere"));
    assert_int_equal(run(f, "embed", "--model", CLIP, image, "--out", "/nowhere/x.npz"), 1);
    assert_non_null(strstr(f->err_text, "/nowhere/x.npz"));
    assert_int_equal(run(f, "tokenize", "--model", CLIP, "--texts-file", "nowhere.txt"), 1);
    assert_int_equal(run(f, "embed", "--model", COCA, image, "--out", "x.npz"), 2);
    assert_non_null(strstr(f->err_text, "cannot be a teacher"));

    in_dir(f, "cut", dir);
    assert_ok(file_make_dirs(dir, &err));
    copy_file(f, CLIP "/open_clip_config.json", "cut/open_clip_config.json", 0);
    copy_file(f, CLIP "/tokenizer.json", "cut/tokenizer.json", 0);
    copy_file(f, CLIP "/open_clip_model.safetensors", "cut/open_clip_model.safetensors", 100);
    assert_int_equal(run(f, "model", "check", dir), 1);
    assert_non_null(strstr(f->err_text, "open_clip_model.safetensors"));
}

static void a_full_disk_behind_the_output_is_a_failure(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(run_to(f, "/dev/full", (const char *const[]){"--help", NULL}), 1);
    assert_non_null(strstr(f->err_text, "could not write to standard output"));
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    if (f == NULL)
        return -1;
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/reinforce-test-XXXXXX");
    if (mkdtemp(f->dir) == NULL)
        return -1;
    arena_init(&f->arena, 64 << 20);
    byte_buf_init(&f->out, MAX_OUTPUT);
    byte_buf_init(&f->err, MAX_OUTPUT);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    char command[128];

    (void)snprintf(command, sizeof command, "rm -rf %s", f->dir);
    (void)system(command); /* NOLINT(concurrency-mt-unsafe): one thread, own path */
    byte_buf_release(&f->err);
    byte_buf_release(&f->out);
    arena_release(&f->arena);
    free(f);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_command_explains_itself),
        TEST(pages_are_roff),
        TEST(a_wrong_command_line_is_told_what_was_meant),
        TEST(version_and_job_reference_are_printed),
        TEST(a_wrong_job_file_ends_with_2_and_its_line),
        TEST(tokenize_prints_the_rows_that_models_read),
        TEST(tokenize_lays_out_prompts_of_paligemma),
        TEST(augment_draws_as_seeded_torch),
        TEST(augment_repeats_a_jobs_views),
        TEST(preprocess_writes_what_the_tower_reads),
        TEST(embed_gives_unit_rows_that_do_not_depend_on_each_other),
        TEST(captions_follow_seed_and_file_name),
        TEST(prompts_share_the_captions_and_places_are_read_out),
        TEST(model_info_and_check_answer_for_both_roles),
        TEST(bench_kernels_checks_and_measures_every_back_end),
        TEST(model_fidelity_compares_int8_with_float32),
        TEST(captions_go_on_past_an_image_that_cannot_be_read),
        TEST(what_cannot_be_read_ends_with_1_and_its_name),
        TEST(a_full_disk_behind_the_output_is_a_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
