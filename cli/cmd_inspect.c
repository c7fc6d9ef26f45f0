#include "cli/command.h"
#include "cli/store_args.h"
#include "cli/view_report.h"
#include "reinforce/base/file.h"
#include "reinforce/base/utf8.h"
#include "reinforce/image/augment.h"
#include "reinforce/image/decode.h"
#include "reinforce/image/encode.h"
#include "worker/model_record.h"

#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>

enum { VIEW_ARENA_BYTES = 1 << 30, TEXT_MAX_BYTES = 64 << 20, SHOWN_SAMPLES = 20 };

/* What is asked for and what has been gathered. */
struct inspection {
    const char *url, *uid, *views_dir;
    bool json;
    struct output out;
    json_t *found;    /* one object per shard that holds the uid */
    json_t *curation; /* what a view says of it; NULL: no view is asked */
    int64_t shard;
    bool done; /* one of them is in a shard */
};

static json_t *text_json(struct bytes_view text)
{
    return json_stringn((const char *)text.data, text.len);
}

static json_t *captions_json(const struct catalog_sample *sample)
{
    json_t *list = json_array();

    for (size_t i = 0; i < sample->n_captions; i++) {
        const struct catalog_caption *caption = &sample->captions[i];
        json_t *scores = json_object();

        for (size_t k = 0; k < sample->n_scores; k++)
            if (strcmp(sample->scores[k].column, caption->column) == 0 &&
                sample->scores[k].index == caption->index)
                (void)json_object_set_new(scores, sample->scores[k].teacher,
                                          json_real(sample->scores[k].value));
        (void)json_array_append_new(
            list,
            json_pack("{s:s, s:i, s:o, s:o, s:o}", "column", caption->column, "index",
                      (int)caption->index, "text", text_json(caption->text), "log_probability",
                      isfinite(caption->score) ? json_real(caption->score) : json_null(), "scores",
                      scores));
    }
    return list;
}

static enum status take_sample(void *ctx, int64_t shard, const struct catalog_sample *sample,
                               struct error *err)
{
    struct inspection *in = ctx;
    json_t *object;

    if (sample->state == CATALOG_SAMPLE_RETRIED) /* another row says what came of it */
        return ST_OK;
    object = json_pack("{s:o, s:I, s:I, s:s, s:i, s:i, s:o}", "uid", text_json(sample->uid),
                       "shard", (json_int_t)shard, "index", (json_int_t)sample->index, "state",
                       catalog_sample_state_name(sample->state), "width", (int)sample->width,
                       "height", (int)sample->height, "captions", captions_json(sample));

    if (object == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate the sample's description");
    if (sample->state != CATALOG_SAMPLE_DONE) {
        (void)json_object_set_new(object, "stage", json_string(sample->stage));
        (void)json_object_set_new(object, "reason", json_string(sample->reason));
        (void)json_object_set_new(object, "detail", json_string(sample->detail));
    } else {
        in->shard = shard;
        in->done = true;
    }
    return json_array_append_new(in->found, object) == 0
               ? ST_OK
               : error_set(err, ST_NO_MEMORY, "could not keep the sample");
}

/* Replays one view at the size it was drawn for, as DIR/view-0.png. */
static enum status write_view(const struct augment_config *config, const struct record *record,
                              size_t a, const struct image *image, const char *dir,
                              struct error *err)
{
    struct arena arena;
    struct byte_buf png;
    struct image view;
    char path[PATH_MAX];
    enum status st;

    arena_init(&arena, VIEW_ARENA_BYTES);
    byte_buf_init(&png, VIEW_ARENA_BYTES);
    st = augment_apply(config, &record->views[a], image, &arena, &view, err);
    if (st == ST_OK)
        st = image_write_png(&view, &png, err);
    if (st == ST_OK) {
        (void)snprintf(path, sizeof path, "%s/view-%zu.png", dir, a);
        st = file_write_atomic(path, byte_buf_view(&png), err);
    }
    byte_buf_release(&png);
    arena_release(&arena);
    return st;
}

/* The augmentation the dataset was made with: its own config.json says the size. */
static enum status read_augment_config(struct output *out, struct augment_config *config,
                                       struct error *err)
{
    struct bytes_view body;
    json_t *object = NULL, *size;
    enum status st = object_store_get(out->store, "config.json", 1u << 20, &out->arena, &body, err);

    augment_config_default(config);
    if (st == ST_OK)
        st = json_parse(body, &object, err);
    size = json_object_get(json_object_get(object, "random_resized_crop"), "size");
    if (st == ST_OK && !json_is_integer(size))
        st = error_set(err, ST_CORRUPT, "config.json has no random_resized_crop.size");
    if (st == ST_OK)
        config->size = (int)json_integer_value(size);
    json_decref(object);
    return st;
}

static enum status write_views(struct inspection *in, const struct augment_config *config,
                               const struct record *record, struct error *err)
{
    const struct image_limits no_limits = {0};
    struct arena arena;
    struct image image;
    enum status st;

    arena_init(&arena, VIEW_ARENA_BYTES);
    st = image_decode(record->image, &no_limits, &arena, &image, err);
    if (st == ST_OK)
        st = file_make_dirs(in->views_dir, err);
    for (size_t a = 0; a < record->n_views && st == ST_OK; a++)
        st = write_view(config, record, a, &image, in->views_dir, err);
    arena_release(&arena);
    return st;
}

/* To each caption what its record says of it: prompt, tokens, stop. */
static void join_caption_facts(json_t *captions, const json_t *columns)
{
    json_t *caption;
    size_t i;

    json_array_foreach(captions, i, caption)
    {
        const char *column = json_string_value(json_object_get(caption, "column"));
        json_int_t index = json_integer_value(json_object_get(caption, "index"));
        json_t *facts = json_array_get(json_object_get(columns, column), (size_t)index);

        if (json_is_object(facts))
            (void)json_object_update_missing(caption, facts);
    }
}

/* Adds what only the shard knows: parameters, embedding shapes, provenance. */
static enum status add_record(struct inspection *in, json_t *object, struct error *err)
{
    struct augment_config config;
    struct record record = {0};
    json_t *views = json_array(), *embeddings = json_object();
    enum status st = ST_OK;

    if (in->views_dir != NULL)
        st = read_augment_config(&in->out, &config, err);
    if (st == ST_OK)
        st = output_read_record(&in->out, in->shard, bytes_of_string(in->uid), &record, err);
    for (size_t a = 0; a < record.n_views; a++)
        (void)json_array_append_new(views, augment_params_to_json(&record.views[a]));
    for (size_t i = 0; i < record.n_embeddings; i++)
        (void)json_object_set_new(
            embeddings, record.embeddings[i].name,
            json_pack("{s:[I, I], s:s}", "shape", (json_int_t)record.embeddings[i].rows,
                      (json_int_t)record.embeddings[i].dim, "dtype",
                      record.embeddings[i].dtype == RECORD_BF16 ? "bfloat16" : "float32"));
    (void)json_object_set_new(object, "image_bytes", json_integer((json_int_t)record.image.len));
    (void)json_object_set_new(object, "param_aug", views);
    (void)json_object_set_new(object, "embeddings", embeddings);
    join_caption_facts(json_object_get(object, "captions"),
                       json_object_get(record.meta, "captioning"));
    if (record.meta != NULL)
        (void)json_object_set(object, "meta", record.meta);
    if (st == ST_OK && in->views_dir != NULL)
        st = write_views(in, &config, &record, err);
    record_release(&record);
    return st;
}

/* What made the dataset, as its own record says. One of an older build may have none. */
static enum status add_models(struct output *out, json_t *object, struct error *err)
{
    struct bytes_view body;
    json_t *models = NULL;
    enum status st =
        object_store_get(out->store, MODEL_RECORD_KEY, 1u << 20, &out->arena, &body, err);

    if (st == ST_NOT_FOUND)
        return ST_OK;
    if (st == ST_OK)
        st = json_parse(body, &models, err);
    if (st != ST_OK)
        return st;
    return json_object_set_new(object, "models", models) == 0
               ? ST_OK
               : error_set(err, ST_NO_MEMORY, "could not keep the models");
}

static json_t *models_json(const struct output *out, const char *list)
{
    json_t *names = json_array(), *model;
    size_t i;

    json_array_foreach(json_object_get(out->config, list), i, model)
    {
        (void)json_array_append(names, json_object_get(model, "model"));
    }
    return names;
}

/* "asked "caption en", 12 tokens, end, sum of log-probabilities -23.1234", as far as known. */
static void print_facts(const json_t *caption)
{
    const json_t *prompt = json_object_get(caption, "prompt");
    const json_t *tokens = json_object_get(caption, "tokens");
    const json_t *stop = json_object_get(caption, "stop");
    const json_t *sum = json_object_get(caption, "sum_log_probability");
    const char *between = "      ";

    if (prompt != NULL) {
        (void)printf("%sasked \"%s\"", between, json_string_value(prompt));
        between = ", ";
    }
    if (tokens != NULL) {
        (void)printf("%s%zu tokens", between, json_array_size(tokens));
        between = ", ";
    }
    if (stop != NULL) {
        (void)printf("%sstop: %s", between, json_string_value(stop));
        between = ", ";
    }
    if (sum != NULL) {
        (void)printf("%ssum of log-probabilities %.4f", between, json_real_value(sum));
        between = ", ";
    }
    if (between[0] == ',')
        (void)printf("\n");
}

static void print_text(const json_t *sample)
{
    const json_t *captions = json_object_get(sample, "captions"),
                 *views = json_object_get(sample, "param_aug");
    struct byte_buf line;
    struct error ignored;

    byte_buf_init(&line, TEXT_MAX_BYTES);
    (void)printf("%s: %s, shard %" JSON_INTEGER_FORMAT ", sample %" JSON_INTEGER_FORMAT
                 ", %" JSON_INTEGER_FORMAT " x %" JSON_INTEGER_FORMAT " pixels\n",
                 json_string_value(json_object_get(sample, "uid")),
                 json_string_value(json_object_get(sample, "state")),
                 json_integer_value(json_object_get(sample, "shard")),
                 json_integer_value(json_object_get(sample, "index")),
                 json_integer_value(json_object_get(sample, "width")),
                 json_integer_value(json_object_get(sample, "height")));
    if (json_object_get(sample, "reason") != NULL)
        (void)printf("  %s at stage %s: %s\n", json_string_value(json_object_get(sample, "reason")),
                     json_string_value(json_object_get(sample, "stage")),
                     json_string_value(json_object_get(sample, "detail")));
    view_report_print_decision(json_object_get(sample, "curation"));
    for (size_t i = 0; i < json_array_size(captions); i++) {
        const json_t *caption = json_array_get(captions, i);
        const char *teacher;
        json_t *score;

        (void)printf("  %s[%" JSON_INTEGER_FORMAT "] \"%s\"\n",
                     json_string_value(json_object_get(caption, "column")),
                     json_integer_value(json_object_get(caption, "index")),
                     json_string_value(json_object_get(caption, "text")));
        print_facts(caption);
        json_object_foreach(json_object_get(caption, "scores"), teacher, score)(void)
            printf("      %-24s %.4f\n", teacher, json_real_value(score));
    }
    for (size_t a = 0; a < json_array_size(views); a++) {
        byte_buf_reset(&line);
        if (json_write(json_array_get(views, a), &line, &ignored) == ST_OK)
            (void)printf("  view %zu %.*s\n", a, (int)line.len, (const char *)line.data);
    }
    byte_buf_release(&line);
}

static enum status inspect_sample(struct inspection *in, struct error *err)
{
    struct byte_buf text;
    enum status st;

    in->found = json_array();
    if (in->found == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate the answer");
    st = catalog_sample_find(in->out.catalog, in->out.row.job, bytes_of_string(in->uid),
                             take_sample, in, err);
    for (size_t i = 0; i < json_array_size(in->found) && st == ST_OK; i++) {
        json_t *sample = json_array_get(in->found, i);

        if (json_object_get(sample, "reason") == NULL) {
            in->shard = json_integer_value(json_object_get(sample, "shard"));
            if (in->curation != NULL)
                (void)json_object_set(sample, "curation", in->curation);
            (void)json_object_set_new(sample, "captioners", models_json(&in->out, "captioners"));
            (void)json_object_set_new(sample, "teachers", models_json(&in->out, "teachers"));
            st = add_models(&in->out, sample, err);
            if (st == ST_OK)
                st = add_record(in, sample, err);
        }
        if (st == ST_OK && !in->json)
            print_text(sample);
    }
    byte_buf_init(&text, TEXT_MAX_BYTES);
    if (st == ST_OK && in->json) {
        st = json_write(in->found, &text, err);
        if (st == ST_OK)
            (void)printf("%.*s\n", (int)text.len, (const char *)text.data);
    }
    if (st == ST_OK && in->views_dir != NULL && !in->done)
        st = error_set(err, ST_NOT_FOUND, "sample \"%s\" is in no shard and has no views", in->uid);
    byte_buf_release(&text);
    json_decref(in->found);
    return st;
}

/* Without --uid: the first samples, to pick one from. */
struct overview {
    int64_t shown;
    bool json;
    json_t *list;
};

static enum status show_sample(void *ctx, int64_t shard, const struct catalog_sample *sample,
                               struct error *err)
{
    struct overview *overview = ctx;
    const char *state = sample->state == CATALOG_SAMPLE_DONE ? "done" : sample->reason;

    (void)err;
    if (sample->state == CATALOG_SAMPLE_RETRIED)
        return ST_OK;
    if (overview->shown++ >= SHOWN_SAMPLES && !overview->json)
        return ST_OK;
    if (overview->json)
        (void)json_array_append_new(overview->list,
                                    json_pack("{s:o, s:I, s:s}", "uid", text_json(sample->uid),
                                              "shard", (json_int_t)shard, "state", state));
    else
        (void)printf("  %-48.*s shard %" PRId64 "  %s\n", (int)sample->uid.len,
                     (const char *)sample->uid.data, shard, state);
    return ST_OK;
}

static enum status inspect_dataset(struct inspection *in, struct error *err)
{
    struct overview overview = {.json = in->json, .list = json_array()};
    struct byte_buf text;
    enum status st = catalog_samples(in->out.catalog, in->out.row.job, show_sample, &overview, err);

    byte_buf_init(&text, TEXT_MAX_BYTES);
    if (st == ST_OK && in->json) {
        st = json_write(overview.list, &text, err);
        if (st == ST_OK)
            (void)printf("%.*s\n", (int)text.len, (const char *)text.data);
    } else if (st == ST_OK) {
        if (overview.shown > SHOWN_SAMPLES)
            (void)printf("  ... and %" PRId64 " more\n", overview.shown - SHOWN_SAMPLES);
        (void)printf("next:\n  reinforce inspect %s --uid UID\n", in->url);
    }
    byte_buf_release(&text);
    json_decref(overview.list);
    return st;
}

/* What a view says of the sample; *dataset is what it is a view of. */
static enum status ask_view(struct inspection *in, struct view *view, struct error *err)
{
    json_t *drop;
    bool kept;
    enum status st = view_find(view, bytes_of_string(in->uid), &kept, &drop, err);

    if (st != ST_OK)
        return st;
    in->curation = drop != NULL ? drop : kept ? json_pack("{s:b}", "kept", 1) : NULL;
    return ST_OK;
}

static enum status inspect_output(struct inspection *in, const char *url,
                                  const struct object_store_options *store, struct error *err)
{
    enum status st = output_open(url, store, &in->out, err);

    if (st == ST_OK) {
        st = in->uid != NULL ? inspect_sample(in, err) : inspect_dataset(in, err);
        output_close(&in->out);
    }
    return st;
}

static enum status inspect_view(struct inspection *in, struct view *view,
                                const struct object_store_options *store, struct error *err)
{
    enum status st;

    if (in->uid == NULL)
        return view_report_print(view, in->url, in->json, err);
    st = ask_view(in, view, err);
    if (st == ST_OK)
        st = inspect_output(in, view->dataset, store, err);
    json_decref(in->curation);
    return st;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {{"uid", required_argument, NULL, 'u'},
                                            {"views", required_argument, NULL, 'V'},
                                            {"json", no_argument, NULL, 'j'},
                                            STORE_ARGS_OPTIONS,
                                            {NULL, 0, NULL, 0}};
    struct object_store_options store = {.endpoint = NULL};
    struct inspection in = {0};
    struct error err = {0};
    struct view view;
    enum status st;
    int c;

    optind = 1;
    while ((c = command_next_option(&cmd_inspect, argc, argv, "", options)) != -1) {
        if (c == 'u')
            in.uid = optarg;
        else if (c == 'V')
            in.views_dir = optarg;
        else if (c == 'j')
            in.json = true;
        else if (!store_args_take(c, optarg, &store))
            return EXIT_USAGE;
    }
    if (optind + 1 != argc)
        return command_usage(&cmd_inspect, "give one output folder");
    if (in.views_dir != NULL && in.uid == NULL)
        return command_usage(&cmd_inspect, "--views needs --uid");
    in.url = argv[optind];
    st = view_open(in.url, &store, &view, &err);
    if (st == ST_OK) {
        st = inspect_view(&in, &view, &store, &err);
        view_close(&view);
    } else if (st == ST_NOT_FOUND) {
        err = (struct error){0};
        st = inspect_output(&in, in.url, &store, &err);
    }
    return st == ST_OK ? EXIT_DONE : command_fail(&cmd_inspect, &err);
}

/* clang-format off: as it is printed */
const struct command cmd_inspect = {
    .name = "inspect",
    .synopsis = "reinforce inspect OUT [--uid UID] [--views DIR] [--json]",
    .summary = "shows one sample of a written dataset: captions, scores, views, provenance",
    .help = "Without --uid lists samples of the dataset at OUT and how each ended. With --uid\n"
            "shows all that is known of one: its state and reason, every caption with its\n"
            "score under every teacher (the mean cosine of the caption and the sample's\n"
            "views) and what is known of its making (prompt, tokens, why it ended, sum of\n"
            "log-probabilities), the augmentation parameters of every view, the shapes of\n"
            "the stored embeddings, and the models that made them. At a view that\n"
            "`reinforce curate` has written, also whether the view keeps it, and why not.\n"
            "\n"
            "Options:\n"
            "  --uid UID     the sample\n"
            "  --views DIR   replays every view, from the stored image and parameters, into\n"
            "                DIR/view-N.png\n"
            "  --json        prints JSON\n" STORE_ARGS_HELP "\n"
            "Examples:\n"
            "  reinforce inspect build/quickstart/dataset\n"
            "  reinforce inspect build/quickstart/dataset --uid panda \\\n"
            "      --views build/quickstart/views\n"
            "\n"
            "Exit codes:\n"
            "  0  done\n"
            "  1  no such dataset or sample, or it could not be read\n"
            "  2  usage\n",
    .run = run,
};
/* clang-format on */
