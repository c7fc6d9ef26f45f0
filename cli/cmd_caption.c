#include "cli/command.h"
#include "cli/tool_io.h"
#include "reinforce/teach/captioner.h"
#include "reinforce/text/locations.h"

#include <getopt.h>
#include <stdio.h>

struct request {
    const char *model;
    char **images;
    size_t n_images;
    struct caption_options how;
    bool has_max_tokens; /* given; else the model's context is a limit, too */
    bool json;
    size_t n_unreadable; /* images that were */
};

/* The sample's uid is the file name, so that a caption can be drawn again. */
static struct bytes_view uid_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return bytes_of_string(slash != NULL ? slash + 1 : path);
}

static void print_caption(const char *path, const struct caption *caption)
{
    tool_print_text(bytes_of_string(path));
    (void)putchar('\t');
    tool_print_text(bytes_view_of(caption->text, caption->text_len));
    (void)printf("\t%.4f\n", caption->score);
}

static json_t *ids_json(const struct caption *caption)
{
    json_t *ids = json_array();

    for (size_t i = 0; i < caption->n_ids; i++)
        (void)json_array_append_new(ids, json_integer(caption->ids[i]));
    return ids;
}

static enum status append_caption(json_t *list, const struct caption *caption, struct arena *arena,
                                  struct error *err)
{
    struct bytes_view text = bytes_view_of(caption->text, caption->text_len);
    json_t *places = NULL;
    enum status st = locations_json(text, arena, &places, err);

    if (st != ST_OK)
        return st;
    return tool_json_append(
        list,
        json_pack("{s:o, s:o*, s:i, s:o*, s:f, s:f, s:s, s:o*}", "text", tool_json_text(text),
                  "prompt", caption->prompt.data != NULL ? tool_json_text(caption->prompt) : NULL,
                  "n_tokens", caption->n_tokens, "tokens", ids_json(caption), "log_probability",
                  caption->score, "sum_log_probability", caption->log_prob_sum, "stop",
                  caption_stop_name(caption->stop), "places", places),
        err);
}

/* Prints the captions of one image, or appends them to `all` when that is wanted. */
static enum status report(const struct request *request, const char *path,
                          const struct caption *captions, json_t *all, struct arena *arena,
                          struct error *err)
{
    json_t *list = all != NULL ? json_array() : NULL;
    enum status st = ST_OK;

    for (int i = 0; i < request->how.n_captions && st == ST_OK; i++) {
        if (all == NULL)
            print_caption(path, &captions[i]);
        else
            st = append_caption(list, &captions[i], arena, err);
    }
    if (all != NULL && st == ST_OK)
        return tool_json_append(all,
                                json_pack("{s:o, s:o}", "image",
                                          tool_json_text(bytes_of_string(path)), "captions", list),
                                err);
    json_decref(list);
    return st;
}

/* An image that cannot be read is no reason to leave the others alone. */
static enum status pass_over(struct request *request, const char *path, json_t *all,
                             const struct error *why, struct error *err)
{
    request->n_unreadable++;
    (void)fprintf(stderr, "reinforce caption: %s%s%s\n", why->context,
                  why->context[0] != '\0' ? ": " : "", why->message);
    if (all == NULL)
        return ST_OK;
    return tool_json_append(all,
                            json_pack("{s:o, s:o}", "image", tool_json_text(bytes_of_string(path)),
                                      "error", tool_json_text(bytes_of_string(why->message))),
                            err);
}

static enum status caption_one(const struct captioner *captioner, struct request *request,
                               const char *path, json_t *all, struct error *err)
{
    struct arena results, scratch;
    struct bytes_view uid = uid_of(path);
    struct caption *captions = NULL;
    struct image image;
    enum status st;

    arena_init(&results, TOOL_ARENA_BYTES);
    st = tool_read_image(path, &results, &image, err);
    if (st != ST_OK) {
        struct error why = *err;

        arena_release(&results);
        return pass_over(request, path, all, &why, err);
    }
    arena_init(&scratch, TOOL_SCRATCH_BYTES);
    st = arena_calloc(&results, (size_t)request->how.n_captions, sizeof *captions, &captions, err);
    if (st == ST_OK)
        st = captioner_caption_images(captioner, &image, &uid, 1, &request->how, &results, &scratch,
                                      captions, err);
    if (st == ST_OK)
        st = report(request, path, captions, all, &scratch, err);
    arena_release(&scratch);
    arena_release(&results);
    return st;
}

static enum status caption(struct request *request, struct error *err)
{
    char dir[PATH_MAX];
    const struct captioner_options options = {.model_dir = dir};
    struct captioner *captioner = NULL;
    json_t *all = NULL;
    enum status st = tool_model_dir(request->model, dir, err);

    if (st == ST_OK)
        st = captioner_open(&options, &captioner, err);
    if (st == ST_OK && request->json && (all = json_array()) == NULL)
        st = error_set(err, ST_NO_MEMORY, "could not allocate the answer");
    if (st == ST_OK && !request->has_max_tokens)
        request->how.max_tokens =
            MIN(request->how.max_tokens, captioner_info(captioner)->context_length);
    if (request->how.min_tokens >= request->how.max_tokens)
        request->how.min_tokens = 0;
    if (st == ST_OK)
        st = caption_options_check(&request->how, captioner_info(captioner), err);
    for (size_t i = 0; i < request->n_images && st == ST_OK; i++)
        st = caption_one(captioner, request, request->images[i], all, err);
    if (st == ST_OK && request->json)
        st = tool_print_json(all, err);
    json_decref(all);
    captioner_close(&captioner);
    return st;
}

static enum status read_strategy(const char *name, enum caption_strategy *out, struct error *err)
{
    static const struct {
        const char *name;
        enum caption_strategy strategy;
    } names[] = {{"greedy", CAPTION_GREEDY},
                 {"top_p", CAPTION_SAMPLE},
                 {"beam", CAPTION_BEAM},
                 {"beam_open_clip", CAPTION_BEAM_OPEN_CLIP},
                 {"beam_big_vision", CAPTION_BEAM_BIG_VISION}};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(names[i].name, name) == 0) {
            *out = names[i].strategy;
            return ST_OK;
        }
    }
    return error_set(err, ST_INVALID,
                     "--strategy \"%s\" is none of greedy, top_p, beam, beam_open_clip, "
                     "beam_big_vision",
                     name);
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {
        {"model", required_argument, NULL, 'm'},  {"n", required_argument, NULL, 'n'},
        {"seed", required_argument, NULL, 's'},   {"strategy", required_argument, NULL, 'S'},
        {"prompt", required_argument, NULL, 'p'}, {"max-tokens", required_argument, NULL, 't'},
        {"json", no_argument, NULL, 'j'},         {NULL, 0, NULL, 0}};
    struct request request = {0};
    struct error err = {0};
    enum status st = ST_OK;
    int64_t n = 1, seed = 0, max_tokens = 0;
    int c;

    caption_options_default(&request.how);
    optind = 1;
    while (st == ST_OK && (c = command_next_option(&cmd_caption, argc, argv, "", options)) != -1) {
        if (c == 'm')
            request.model = optarg;
        else if (c == 'n')
            st = command_number("n", optarg, 1, 1000, &n, &err);
        else if (c == 's')
            st = command_number("seed", optarg, 0, INT64_MAX, &seed, &err);
        else if (c == 'S')
            st = read_strategy(optarg, &request.how.strategy, &err);
        else if (c == 'p')
            request.how.prompt = optarg;
        else if (c == 't')
            st = command_number("max-tokens", optarg, 3, 4096, &max_tokens, &err);
        else if (c == 'j')
            request.json = true;
        else
            return EXIT_USAGE;
    }
    if (st != ST_OK)
        return command_usage(&cmd_caption, "%s", err.message);
    if (request.model == NULL || optind == argc)
        return command_usage(&cmd_caption, "--model and at least one image are needed");
    request.how.n_captions = (int)n;
    request.how.seed = (uint64_t)seed;
    request.has_max_tokens = max_tokens > 0;
    if (request.has_max_tokens)
        request.how.max_tokens = (int)max_tokens;
    request.images = argv + optind;
    request.n_images = (size_t)(argc - optind);
    if (caption(&request, &err) != ST_OK)
        return command_fail(&cmd_caption, &err);
    return request.n_unreadable == 0 ? EXIT_DONE : EXIT_QUARANTINED;
}

/* clang-format off: as it is printed */
const struct command cmd_caption = {
    .name = "caption",
    .synopsis = "reinforce caption --model DIR [--n N] [--seed S] [--strategy greedy|top_p|beam] "
                "[--prompt TEXT] [--max-tokens T] [--json] IMAGES...",
    .summary = "captions images with one captioner",
    .help = "Prints a line per caption: the image, the caption exactly as the model said it,\n"
            "and the mean log-probability of its tokens, separated by tabs; control\n"
            "characters appear as \\xNN. The sample's uid is the file's name without its\n"
            "folder, so the same seed and file give the same captions anywhere.\n"
            "\n"
            "Options:\n"
            "  --model DIR      snapshot folder of a CoCa or PaliGemma model\n"
            "  --n N            captions per image (default 1)\n"
            "  --seed S         with the file's name decides every draw (default 0)\n"
            "  --strategy NAME  top_p (default: nucleus 0.9), greedy, beam, beam_open_clip, or\n"
            "                   beam_big_vision (as PaliGemma was evaluated)\n"
            "  --prompt TEXT    PaliGemma: what is asked; one prompt a line, among which the N\n"
            "                   captions are divided (default \"caption en\"); with --json,\n"
            "                   answers to detect and segment come with their places:\n"
            "                   box [top, left, bottom, right] in 1024ths, mask codes, label\n"
            "  --max-tokens T   longest caption in tokens, start and end included (default 30, or\n"
            "                   as many as the model takes)\n"
            "  --json           prints one JSON array, which says too how each caption was made:\n"
            "                   prompt, token ids, sum and mean of their log-probabilities, and\n"
            "                   whether the model ended it or its length did\n"
            "\n"
            "Prompts of PaliGemma: caption LANG, describe LANG (longer), ocr, answer LANG\n"
            "QUESTION, detect THING ; THING, segment THING ; THING. LANG is en, de, fr, ...\n"
            "\n"
            "A job file sets temperature, lengths, penalties and more for its captioners.\n"
            "\n"
            "Examples:\n"
            "  reinforce caption --model models/mobileclip2_coca --n 5 --seed 1 *.jpg\n"
            "  reinforce caption --model models/mobileclip2_coca --strategy beam --json cat.png\n"
            "  reinforce caption --model models/paligemma2-3b-mix-224 --strategy greedy \\\n"
            "      --prompt 'detect cat ; dog' --json cat.png\n"
            "\n"
            "Exit codes:\n"
            "  0  done\n"
            "  1  the model cannot be read\n"
            "  2  usage, or a kind of model that is not supported\n"
            "  3  done, but for images that cannot be read, each told on standard error\n",
    .run = run,
};
/* clang-format on */
