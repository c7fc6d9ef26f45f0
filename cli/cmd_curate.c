#include "cli/command.h"
#include "cli/job_args.h"
#include "cli/tool_io.h"
#include "coordinator/absolute_job.h"
#include "coordinator/curation/view.h"
#include "reinforce/base/file.h"
#include "reinforce/curate/histogram.h"

#include <errno.h>
#include <getopt.h>
#include <unistd.h>

enum { TEXT_MAX_BYTES = 64 << 20, NAME_BYTES = 192 };

struct request {
    struct job_override overrides[JOB_ARGS_MAX_OVERRIDES];
    size_t n_overrides;
    bool dry_run, json;
    const char *histogram; /* file; NULL: none */
};

/* A histogram per score, with the bounds of the rules on it. */
struct picture {
    struct histogram histograms[CURATION_MAX_SCORES];
    char names[CURATION_MAX_SCORES][NAME_BYTES];
    size_t n;
};

static void mark_bounds(const struct rule *rule, struct picture *picture)
{
    if (rule->kind == RULE_SCORE) {
        histogram_mark(&picture->histograms[rule->score], (float)rule->low);
        histogram_mark(&picture->histograms[rule->score], (float)rule->high);
    }
    for (size_t i = 0; i < rule->n_children; i++)
        mark_bounds(&rule->children[i], picture);
}

static enum status draw(const struct curation_run *run, struct picture *picture, struct error *err)
{
    const struct pool *pool = &run->pool.pool;
    struct arena arena;
    bool *kept;
    enum status st;

    arena_init(&arena, SIZE_MAX / 2);
    st = arena_alloc(&arena, pool->n * sizeof *kept, &kept, err);
    for (size_t row = 0; row < pool->n && st == ST_OK; row++)
        kept[row] = run->decisions[row] == CURATION_KEPT;
    picture->n = pool->n_scores;
    for (size_t k = 0; k < pool->n_scores && st == ST_OK; k++) {
        score_spec_describe(&pool->specs[k], picture->names[k]);
        histogram_fill(&picture->histograms[k], picture->names[k], pool->scores[k], kept, pool->n);
    }
    arena_release(&arena);
    if (st == ST_OK)
        mark_bounds(&run->curation->keep, picture);
    return st;
}

static enum status write_picture(const struct picture *picture, const char *path, struct error *err)
{
    struct byte_buf svg;
    enum status st;

    byte_buf_init(&svg, TEXT_MAX_BYTES);
    st = histogram_write_svg(picture->histograms, picture->n, &svg, err);
    if (st == ST_OK)
        st = file_write_atomic(path, byte_buf_view(&svg), err);
    byte_buf_release(&svg);
    if (st != ST_OK)
        error_add_context(err, "histogram \"%s\"", path);
    return st;
}

static json_t *counts_json(const size_t *counts, size_t n)
{
    json_t *list = json_array();

    for (size_t b = 0; b < n; b++)
        (void)json_array_append_new(list, json_integer((json_int_t)counts[b]));
    return list;
}

static enum status print_json(const struct curation_run *run, const struct picture *picture,
                              const char *view, struct error *err)
{
    json_t *object = json_object(), *scores = json_array();
    enum status st;

    for (size_t k = 0; k < picture->n; k++) {
        const struct histogram *h = &picture->histograms[k];

        (void)json_array_append_new(
            scores, json_pack("{s:s, s:f, s:f, s:f, s:I, s:o, s:o}", "name", h->name, "low", h->low,
                              "high", h->high, "width", h->width, "missing",
                              (json_int_t)h->n_missing, "kept", counts_json(h->kept, h->n_bins),
                              "dropped", counts_json(h->dropped, h->n_bins)));
    }
    (void)json_object_set_new(object, "dataset", json_string(run->curation->dataset.url));
    (void)json_object_set_new(object, "view", view != NULL ? json_string(view) : json_null());
    (void)json_object_update_new(object, view_summary(run));
    (void)json_object_set_new(object, "scores", scores);
    st = object != NULL ? tool_print_json(object, err)
                        : error_set(err, ST_NO_MEMORY, "could not allocate the report");
    json_decref(object);
    return st;
}

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static long long count_of(const json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

static void print_rule(const json_t *rule)
{
    const json_t *min = json_object_get(rule, "min"), *max = json_object_get(rule, "max");

    (void)printf("  %-24s fails %10lld, alone %10lld", text_of(rule, "name"),
                 count_of(rule, "fails"), count_of(rule, "alone"));
    if (text_of(rule, "of") != NULL)
        (void)printf("  %s", text_of(rule, "of"));
    if (json_is_real(min))
        (void)printf(" >= %.6g", json_real_value(min));
    if (json_is_real(max))
        (void)printf("%s <= %.6g", json_is_real(min) ? "," : "", json_real_value(max));
    (void)printf("\n");
}

static void print_step(const json_t *step)
{
    double violation = json_real_value(json_object_get(step, "violation"));

    (void)printf("  %-24s drops %10lld", text_of(step, "name"), count_of(step, "dropped"));
    if (violation > 0)
        (void)printf("  past a bound by %.3g: it cannot be met", violation);
    (void)printf("\n");
}

static enum status print_text(const struct curation_run *run, const struct picture *picture,
                              const struct request *request, struct error *err)
{
    json_t *summary = view_summary(run), *item;
    long long n = count_of(summary, "samples"), kept = count_of(summary, "kept");
    struct byte_buf text;
    enum status st = ST_OK;
    size_t i;

    byte_buf_init(&text, TEXT_MAX_BYTES);
    for (size_t k = 0; k < picture->n && request->dry_run && st == ST_OK; k++) {
        st = histogram_write_text(&picture->histograms[k], &text, err);
        if (st == ST_OK)
            st = byte_buf_append_string(&text, "\n", err);
    }
    if (text.len > 0)
        (void)fwrite(text.data, 1, text.len, stdout);
    byte_buf_release(&text);
    json_array_foreach(json_object_get(summary, "rules"), i, item) print_rule(item);
    json_array_foreach(json_object_get(summary, "steps"), i, item) print_step(item);
    (void)printf("%s: %lld of %lld samples kept (%.1f %%)\n", run->curation->dataset.url, kept, n,
                 n > 0 ? 100 * (double)kept / (double)n : 0.0);
    json_decref(summary);
    return st;
}

static enum status write_view(const struct curation_run *run,
                              const struct object_store_options *options, struct error *err)
{
    struct object_store *store = NULL;
    char folder[PATH_MAX];
    const char *dataset; /* absolute, so that the view may be read from anywhere */
    struct arena arena;
    enum status st = object_store_open_with(run->curation->output.url, options, &store, err);

    arena_init(&arena, 4 * PATH_MAX);
    if (st == ST_OK && getcwd(folder, sizeof folder) == NULL)
        st = error_set_errno(err, ST_UNAVAILABLE, "could not ask for the current folder");
    if (st == ST_OK)
        st = absolute_job_url(run->curation->dataset.url, "file:", folder, &arena, &dataset, err);
    if (st == ST_OK)
        st = view_write(run, dataset, store, err);
    arena_release(&arena);
    object_store_close(&store);
    if (st != ST_OK)
        error_add_context(err, "output \"%s\"", run->curation->output.url);
    return st;
}

static enum status report(const struct curation_run *run, const struct request *request,
                          const struct object_store_options *options, struct error *err)
{
    static const char next[] = "next:\n  reinforce inspect %s\n";
    struct picture *picture;
    struct arena arena;
    enum status st;

    arena_init(&arena, TEXT_MAX_BYTES);
    st = arena_calloc(&arena, 1, sizeof *picture, &picture, err);
    if (st == ST_OK)
        st = draw(run, picture, err);
    if (st == ST_OK && request->histogram != NULL)
        st = write_picture(picture, request->histogram, err);
    if (st == ST_OK && !request->dry_run)
        st = write_view(run, options, err);
    if (st == ST_OK && request->json)
        st = print_json(run, picture, request->dry_run ? NULL : run->curation->output.url, err);
    else if (st == ST_OK)
        st = print_text(run, picture, request, err);
    if (st == ST_OK && !request->json && !request->dry_run)
        (void)printf(next, run->curation->output.url);
    arena_release(&arena);
    return st;
}

static enum status curate(struct curation *curation, const struct request *request,
                          struct error *err)
{
    const struct object_store_options options = {.endpoint = curation->dataset.endpoint,
                                                 .region = curation->dataset.region,
                                                 .profile = curation->dataset.profile};
    struct curation_run run = {.curation = NULL};
    struct output out;
    enum status st = curation_read_ids(curation, err);

    if (st != ST_OK)
        return st;
    st = output_open(curation->dataset.url, &options, &out, err);
    if (st != ST_OK)
        return st;
    if (out.row.state != CATALOG_JOB_DONE)
        (void)fprintf(stderr, "reinforce curate: the job is not done; finished shards are taken\n");
    st = curation_run(&run, curation, &out, err);
    if (st == ST_OK)
        st = report(&run, request, &options, err);
    curation_run_release(&run);
    output_close(&out);
    return st;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {{"set", required_argument, NULL, 's'},
                                            {"dry-run", no_argument, NULL, 'n'},
                                            {"histogram", required_argument, NULL, 'H'},
                                            {"json", no_argument, NULL, 'j'},
                                            {NULL, 0, NULL, 0}};
    struct request request = {.n_overrides = 0};
    struct curation *curation;
    struct error err = {0};
    enum status st;
    int c;

    optind = 1;
    while ((c = command_next_option(&cmd_curate, argc, argv, "", options)) != -1) {
        if (c == 's' && request.n_overrides == JOB_ARGS_MAX_OVERRIDES)
            return command_usage(&cmd_curate, "more than %d --set", (int)JOB_ARGS_MAX_OVERRIDES);
        if (c == 's')
            request.overrides[request.n_overrides++].text = optarg;
        else if (c == 'n')
            request.dry_run = true;
        else if (c == 'H')
            request.histogram = optarg;
        else if (c == 'j')
            request.json = true;
        else
            return EXIT_USAGE;
    }
    if (optind + 1 != argc)
        return command_usage(&cmd_curate, "give one file of filters");
    st = curation_load(argv[optind], request.overrides, request.n_overrides, &curation, &err);
    if (st != ST_OK) {
        (void)command_fail(&cmd_curate, &err);
        return st == ST_INVALID || st == ST_NOT_FOUND ? EXIT_USAGE : EXIT_OTHER;
    }
    st = curate(curation, &request, &err);
    curation_destroy(&curation);
    return st == ST_OK ? EXIT_DONE : command_fail(&cmd_curate, &err);
}

/* clang-format off: as it is printed */
const struct command cmd_curate = {
    .name = "curate",
    .synopsis =
        "reinforce curate [--set PATH=VALUE]... [--dry-run] [--histogram FILE.svg] FILE.yaml",
    .summary = "filters a written dataset: by scores, duplicates, lists of ids",
    .help = "Reads what the catalog of a dataset knows of its samples, keeps those that the\n"
            "rules of FILE.yaml want, and writes a view: which they are, and for each of the\n"
            "others the rule, its score and the threshold. The dataset stays as it is.\n"
            "\n"
            "A view is a folder with kept.npy (the ids, as DataComp's tools read them),\n"
            "drops.jsonl, manifest.jsonl (a bit per record of each shard) and sizes.json.\n"
            "`reinforce cat` streams its shards. `reinforce help --curate-file` explains every\n"
            "key of FILE.yaml, docs/curate.md what comes out.\n"
            "\n"
            "Options:\n"
            "  --dry-run             writes nothing; prints how each score is spread, with\n"
            "                        the thresholds\n"
            "  --histogram FILE.svg  writes the same as a picture\n"
            "  --json                prints one JSON object: samples, kept, rules, steps,\n"
            "                        scores\n"
            "  --set PATH=VALUE      overrides one value of the file, as in\n"
            "                        --set keep[0].top=0.5; may be repeated\n"
            "\n"
            "Examples:\n"
            "  reinforce curate --dry-run configs/curate.yaml\n"
            "  reinforce curate --set keep[0].top=0.5 configs/curate.yaml\n"
            "\n"
            "Exit codes:\n"
            "  0  done\n"
            "  1  the dataset could not be read, or the view not written\n"
            "  2  usage, or something in FILE.yaml\n",
    .run = run,
};
/* clang-format on */
