#include "cli/command.h"
#include "cli/job_args.h"
#include "cli/model_fidelity.h"
#include "cli/tool_io.h"
#include "reinforce/base/clock.h"
#include "reinforce/models/fastvit.h"
#include "reinforce/models/siglip.h"
#include "reinforce/models/snapshot.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/teach/captioner.h"
#include "reinforce/teach/teacher.h"
#include "storage/hub/hub.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#define MAX_LOGIT_SCALE 1000.0

static const char *filter_name(enum resample_filter filter)
{
    switch (filter) {
    case RESAMPLE_NEAREST:
        return "nearest";
    case RESAMPLE_LANCZOS:
        return "lanczos";
    case RESAMPLE_BILINEAR:
        return "bilinear";
    case RESAMPLE_BICUBIC:
        return "bicubic";
    case RESAMPLE_BOX:
        return "box";
    }
    return "unknown";
}

static const char *mode_name(enum preprocess_mode mode)
{
    switch (mode) {
    case PREPROCESS_SHORTEST:
        return "shortest";
    case PREPROCESS_LONGEST:
        return "longest";
    case PREPROCESS_SQUASH:
        return "squash";
    case PREPROCESS_NAFLEX:
        return "naflex";
    }
    return "unknown";
}

static json_t *preprocess_json(const struct preprocess *p)
{
    json_t *patches = p->mode == PREPROCESS_NAFLEX ? json_integer(p->max_patches) : NULL;

    return json_pack("{s:i, s:s, s:o*, s:s, s:[f,f,f], s:[f,f,f]}", "size", p->size, "mode",
                     mode_name(p->mode), "max_patches", patches, "interpolation",
                     filter_name(p->filter), "mean", (double)p->mean[0], (double)p->mean[1],
                     (double)p->mean[2], "std", (double)p->std[0], (double)p->std[1],
                     (double)p->std[2]);
}

/* {"F32": bytes, "BF16": bytes}: what lies in the file, types that do not occur left out. */
static json_t *stored_dtypes(const struct weights *weights)
{
    json_t *out = json_object();

    for (int dtype = TENSOR_F32; dtype <= TENSOR_F8_E5M2; dtype++) {
        size_t bytes = weights_stored_bytes(weights, (enum tensor_dtype)dtype);

        if (bytes > 0 && json_object_set_new(out, tensor_dtype_name((enum tensor_dtype)dtype),
                                             json_integer((json_int_t)bytes)) != 0) {
            json_decref(out);
            return NULL;
        }
    }
    return out;
}

/* Of float32, for what a tower of images makes of its matrices. */
static size_t added_bytes(const struct vision_config *vision)
{
    return vision->fastvit != NULL ? fastvit_added_bytes(vision->fastvit)
                                   : transformer_added_bytes(&vision->shape);
}

static enum status info(const char *dir, json_t **out, struct error *err)
{
    struct snapshot s;
    struct weights *weights;
    char digest[SHA256_HEX_LEN + 1], towers[SNAPSHOT_DESCRIBE_LEN];
    json_t *dtypes;
    json_int_t n;
    bool decoder;
    enum status st = snapshot_read(dir, NULL, &s, err);

    if (st == ST_OK)
        st = snapshot_open_weights(&s, &weights, digest, err);
    if (st != ST_OK)
        return st;
    n = (json_int_t)weights_n_parameters(weights);
    dtypes = stored_dtypes(weights);
    weights_destroy(&weights);
    decoder = s.family == SNAPSHOT_PALIGEMMA;
    *out = json_pack(
        "{s:o, s:s, s:s, s:s, s:I, s:o, s:i, s:i, s:I, s:I, s:I, s:o, s:o, s:o, s:{s:I, s:I}, s:s}",
        "model", tool_json_text(bytes_of_string(dir)), "family", snapshot_family_name(s.family),
        "variant", snapshot_describe(&s, towers), "activation",
        snapshot_activation_name(s.vision.shape.activation), "parameters", n, "stored_bytes",
        dtypes, "image_size", s.vision.image_size, "patch_size", s.vision.patch_size, "embed_dim",
        (json_int_t)s.embed_dim, "context_length",
        (json_int_t)(decoder ? s.decoder.context_length : s.text.context_length), "vocab_size",
        (json_int_t)(decoder ? s.decoder.vocab_size : s.text.vocab_size), "preprocess",
        preprocess_json(&s.preprocess), "tokenizer",
        tool_json_text(
            bytes_of_string(s.tokenizer_path[0] != '\0' ? s.tokenizer_path : s.vocab_path)),
        "weights", tool_json_text(bytes_of_string(s.weights_path)), "memory_bytes", "float32",
        4 * n + (json_int_t)added_bytes(&s.vision), "bfloat16", 2 * n, "digest", digest);
    return *out != NULL ? ST_OK : error_set(err, ST_NO_MEMORY, "could not allocate the answer");
}

/* A picture with all colours and some structure. */
static enum status test_image(int size, struct arena *arena, struct image *out, struct error *err)
{
    enum status st = image_alloc(out, size, size, 3, arena, err);

    for (int i = 0; st == ST_OK && i < size * size * 3; i++)
        out->pixels[i] = (uint8_t)(i * 7 + i / size * 13 + i % 3 * 59);
    return st;
}

/* Finite and of unit length. */
static enum status check_row(const float *row, size_t D, const char *what, struct error *err)
{
    double sum = 0;

    for (size_t d = 0; d < D; d++)
        sum += (double)row[d] * (double)row[d];
    if (isfinite(sum) && fabs(sqrt(sum) - 1) <= 1e-3)
        return ST_OK;
    return error_set(
        err, ST_CORRUPT,
        "the embedding of a test %s has length %g instead of 1; the weights are damaged", what,
        sqrt(sum));
}

/* What a sigmoid makes of the pair: SigLIP's score. */
static enum status report_probability(const struct teacher_info *info, double cosine,
                                      json_t *answer, struct error *err)
{
    double bias = (double)info->logit_bias, logit = (double)info->logit_scale * cosine + bias;
    enum status st = tool_json_set(answer, "logit_bias", json_real(bias), err);

    return st == ST_OK
               ? tool_json_set(answer, "probability", json_real(siglip_probability(logit)), err)
               : st;
}

/* Trained scales lie between 1 and a few hundred; another value is no trained one. */
static enum status check_scale(const struct teacher_info *info, struct error *err)
{
    double scale = (double)info->logit_scale, bias = (double)info->logit_bias;

    if (scale > 0 && scale <= MAX_LOGIT_SCALE && isfinite(bias) && fabs(bias) <= MAX_LOGIT_SCALE)
        return ST_OK;
    return error_set(err, ST_CORRUPT,
                     "logits would be %g times a cosine, plus %g; the weights are damaged", scale,
                     bias);
}

static enum status check_teacher(const char *dir, json_t *answer, struct error *err)
{
    const struct teacher_options options = {.model_dir = dir};
    const struct bytes_view text = bytes_of_string("a photo of a cat");
    struct teacher *teacher;
    struct arena arena;
    struct image image;
    float *emb = NULL;
    double cosine = 0;
    size_t D;
    enum status st = teacher_open(&options, &teacher, err);

    if (st != ST_OK)
        return st;
    arena_init(&arena, TOOL_ARENA_BYTES);
    D = teacher_info(teacher)->dim;
    st = arena_calloc(&arena, 2 * D, sizeof *emb, &emb, err);
    if (st == ST_OK)
        st = test_image(teacher_info(teacher)->preprocess.size, &arena, &image, err);
    if (st == ST_OK)
        st = teacher_embed_images(teacher, &image, 1, &arena, emb, err);
    if (st == ST_OK)
        st = teacher_embed_texts(teacher, &text, 1, &arena, emb + D, err);
    if (st == ST_OK)
        st = check_row(emb, D, "image", err);
    if (st == ST_OK)
        st = check_row(emb + D, D, "text", err);
    if (st == ST_OK)
        st = check_scale(teacher_info(teacher), err);
    for (size_t d = 0; st == ST_OK && d < D; d++)
        cosine += (double)emb[d] * (double)emb[D + d];
    if (st == ST_OK)
        st = tool_json_set(answer, "cosine", json_real(cosine), err);
    if (st == ST_OK)
        st = tool_json_set(answer, "logit_scale",
                           json_real((double)teacher_info(teacher)->logit_scale), err);
    if (st == ST_OK && teacher_info(teacher)->has_logit_bias)
        st = report_probability(teacher_info(teacher), cosine, answer, err);
    if (st == ST_OK)
        st = tool_json_set(answer, "digest", json_string(teacher_info(teacher)->weights_digest),
                           err);
    arena_release(&arena);
    teacher_close(&teacher);
    return st;
}

static enum status check_captioner(const char *dir, json_t *answer, struct error *err)
{
    const struct captioner_options options = {.model_dir = dir};
    const struct bytes_view uid = bytes_of_string("check");
    struct caption_options how;
    struct captioner *captioner;
    struct caption caption;
    struct arena arena, scratch;
    struct image image;
    enum status st = captioner_open(&options, &captioner, err);

    if (st != ST_OK)
        return st;
    caption_options_default(&how);
    how.strategy = CAPTION_GREEDY;
    how.max_tokens = MIN(how.max_tokens, captioner_info(captioner)->context_length);
    arena_init(&arena, TOOL_ARENA_BYTES);
    arena_init(&scratch, TOOL_SCRATCH_BYTES);
    st = test_image(captioner_info(captioner)->preprocess.size, &arena, &image, err);
    if (st == ST_OK)
        st = captioner_caption_images(captioner, &image, &uid, 1, &how, &arena, &scratch, &caption,
                                      err);
    if (st == ST_OK && !(caption.score <= 0 && isfinite(caption.score)))
        st = error_set(err, ST_CORRUPT,
                       "the mean log-probability of a test caption is %g; the weights are damaged",
                       caption.score);
    if (st == ST_OK)
        st = tool_json_set(answer, "caption",
                           tool_json_text(bytes_view_of(caption.text, caption.text_len)), err);
    if (st == ST_OK)
        st = tool_json_set(answer, "log_probability", json_real(caption.score), err);
    if (st == ST_OK)
        st = tool_json_set(answer, "digest", json_string(captioner_info(captioner)->weights_digest),
                           err);
    arena_release(&scratch);
    arena_release(&arena);
    captioner_close(&captioner);
    return st;
}

static enum status check(const char *dir, json_t **out, struct error *err)
{
    struct snapshot s;
    size_t n_files = 0;
    enum status st = snapshot_read(dir, NULL, &s, err);

    if (st != ST_OK)
        return st;
    *out = json_pack("{s:o, s:s}", "model", tool_json_text(bytes_of_string(dir)), "family",
                     snapshot_family_name(s.family));
    st = hub_verify(dir, &n_files, err);
    if (st == ST_OK && n_files > 0)
        st = tool_json_set(*out, "files_as_pulled", json_integer((json_int_t)n_files), err);
    if (st == ST_OK)
        st = captioner_is_family((int)s.family) ? check_captioner(dir, *out, err)
                                                : check_teacher(dir, *out, err);
    if (st == ST_OK)
        st = tool_json_set(*out, "float32_kernel", json_string(gemm_kernel_name()), err);
    return st == ST_OK ? tool_json_set(*out, "result", json_string("ok"), err) : st;
}

/* One line a file, rewritten in place on a terminal, about ten times a second. */
struct pull_line {
    char file[128];
    int64_t shown_ms;
};

static void show_progress(void *ctx, const char *file, uint64_t done, uint64_t total)
{
    struct pull_line *line = ctx;
    bool same = strcmp(line->file, file) == 0, whole = done == total;
    int64_t now = clock_monotonic_ms();
    char so_far[32], all[32];

    if (same && !whole && now - line->shown_ms < 100)
        return;
    if (!same)
        (void)snprintf(line->file, sizeof line->file, "%s", file);
    line->shown_ms = now;
    job_args_format_bytes((double)done, so_far);
    job_args_format_bytes((double)total, all);
    if (isatty(STDERR_FILENO) != 0)
        (void)fprintf(stderr, "\r%s  %s of %s\033[K%s", file, so_far, all, whole ? "\n" : "");
    else if (whole)
        (void)fprintf(stderr, "%s  %s\n", file, all);
}

static enum status pull(const char *model, json_t **out, struct error *err)
{
    struct pull_line line = {.file = ""};
    const struct hub_options options = {
        .progress = show_progress, .progress_ctx = &line, .stop = job_args_catch_signals()};
    size_t scheme = sizeof HUB_SCHEME - 1;
    char dir[PATH_MAX];
    enum status st = hub_pull(
        &options, strncmp(model, HUB_SCHEME, scheme) == 0 ? model + scheme : model, dir, err);

    if (st != ST_OK)
        return st;
    *out = json_pack("{s:s, s:o}", "model", model, "folder", tool_json_text(bytes_of_string(dir)));
    return *out != NULL ? ST_OK : error_set(err, ST_NO_MEMORY, "could not allocate the answer");
}

static enum status print_lines(json_t *answer, struct error *err)
{
    enum status st = ST_OK;
    const char *key;
    json_t *value;

    json_object_foreach(answer, key, value)
    {
        (void)printf("%-15s ", key);
        if (json_is_string(value)) {
            tool_print_text(bytes_view_of(json_string_value(value), json_string_length(value)));
            (void)putchar('\n');
        } else if (st == ST_OK) {
            st = tool_print_json(value, err);
        }
    }
    return st;
}

static enum status fidelity(const char *dir, const struct model_fidelity_input *input, json_t **out,
                            struct error *err)
{
    *out = json_pack("{s:o}", "model", tool_json_text(bytes_of_string(dir)));
    if (*out == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate the answer");
    return model_fidelity(dir, input, *out, err);
}

static enum status answer_of(const char *verb, const char *model,
                             const struct model_fidelity_input *input, json_t **answer,
                             struct error *err)
{
    char dir[PATH_MAX];
    enum status st;

    if (strcmp(verb, "pull") == 0)
        return pull(model, answer, err);
    st = tool_model_dir(model, dir, err);
    if (st != ST_OK)
        return st;
    if (strcmp(verb, "info") == 0)
        return info(dir, answer, err);
    if (strcmp(verb, "check") == 0)
        return check(dir, answer, err);
    return fidelity(dir, input, answer, err);
}

/* What is wrong with the arguments; NULL: nothing. */
static const char *complaint(const char *verb, bool has_model,
                             const struct model_fidelity_input *input)
{
    bool has_input = input->n_images > 0 || input->texts != NULL;

    if (strcmp(verb, "info") != 0 && strcmp(verb, "check") != 0 && strcmp(verb, "pull") != 0 &&
        strcmp(verb, "fidelity") != 0)
        return "say info, check, pull or fidelity, and one model";
    if (!has_model)
        return "a model is missing";
    if (strcmp(verb, "fidelity") == 0)
        return has_input ? NULL : "name images, or --texts-file";
    return has_input ? "more than one model" : NULL;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                            {"texts-file", required_argument, NULL, 't'},
                                            {NULL, 0, NULL, 0}};
    struct model_fidelity_input input = {.images = argv};
    struct error err = {0};
    json_t *answer = NULL;
    const char *why;
    bool json = false;
    enum status st;
    int c;

    optind = 1;
    while ((c = command_next_option(&cmd_model, argc, argv, "", options)) != -1) {
        if (c == 'j')
            json = true;
        else if (c == 't')
            input.texts = optarg;
        else
            return EXIT_USAGE;
    }
    if (optind + 2 < argc) {
        input.images = argv + optind + 2;
        input.n_images = (size_t)(argc - optind - 2);
    }
    why = complaint(optind < argc ? argv[optind] : "", optind + 1 < argc, &input);
    if (why != NULL)
        return command_usage(&cmd_model, "%s", why);
    st = answer_of(argv[optind], argv[optind + 1], &input, &answer, &err);
    if (st == ST_OK)
        st = json ? tool_print_json(answer, &err) : print_lines(answer, &err);
    json_decref(answer);
    return st == ST_OK ? EXIT_DONE : command_fail(&cmd_model, &err);
}

/* clang-format off: as it is printed */
const struct command cmd_model = {
    .name = "model",
    .synopsis =
        "reinforce model info|check|pull|fidelity MODEL [--texts-file FILE] [--json] [IMAGE...]",
    .summary = "says what a snapshot is, whether it works, and what int8 does to it; fetches one",
    .help =
        "`model info` reads the snapshot's configs and the headers of its weights: family,\n"
        "activation, parameters, sizes, preprocessing, tokenizer, memory by element type,\n"
        "and the digest that jobs record.\n"
        "\n"
        "`model check` loads it and runs an image and a text (a captioner: an image)\n"
        "through it. Embeddings must be finite and of unit length, captions likely to a\n"
        "finite degree; the files of a pulled model must be what was pulled. It compares\n"
        "the kernels of matrix products with a plain loop and says which one is in use.\n"
        "\n"
        "`model pull OWNER/NAME[@REVISION]` fetches from a Hugging Face compatible hub\n"
        "what a snapshot is read from, goes on where an earlier pull stopped, and checks\n"
        "every file's length and digest. It prints the folder.\n"
        "\n"
        "`model fidelity` runs it in float32 and with `dtype: int8` and compares: of a teacher\n"
        "the cosines of images and texts (mean, 1st percentile, least), of a captioner how\n"
        "many greedy captions are the same, and of those how far their mean log-probabilities\n"
        "are apart; and the milliseconds that one takes, on one thread.\n"
        "\n"
        "MODEL of the others is a snapshot's folder, or hf://OWNER/NAME[@REVISION], which\n"
        "is pulled if it is not here; so is `model:` in a job file.\n"
        "\n"
        "Environment:\n"
        "  HF_ENDPOINT       the hub; default https://huggingface.co\n"
        "  HF_TOKEN          a token, for models that want one\n"
        "  REINFORCE_MODELS  where snapshots are kept; default ~/.cache/reinforce/models\n"
        "\n"
        "Options:\n"
        "  --texts-file FILE  UTF-8, one text a line, for fidelity\n"
        "  --json             prints one JSON object\n"
        "\n"
        "Examples:\n"
        "  reinforce model info models/DFN2B-CLIP-ViT-L-14\n"
        "  reinforce model check --json models/DFN2B-CLIP-ViT-L-14\n"
        "  reinforce model pull apple/DFN2B-CLIP-ViT-L-14\n"
        "  reinforce model fidelity deploy/models/clip-a --texts-file captions.txt images/*.png\n"
        "\n"
        "Exit codes:\n"
        "  0  done, and the model works\n"
        "  1  the model cannot be read, or does not work\n"
        "  2  usage, or a kind of model that is not supported\n",
    .run = run,
};
/* clang-format on */
