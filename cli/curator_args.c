#include "cli/curator_args.h"

#include "reinforce/base/parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

size_t curator_threads(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);

    return (size_t)MIN(MAX(processors, 1L), (long)CURATOR_MAX_THREADS);
}

bool curator_dataset_take(int c, const char *argument, struct curator_dataset *dataset)
{
    switch (c) {
    case 'D':
        dataset->options.url = strcmp(argument, "none") != 0 ? argument : NULL;
        return true;
    case 'T':
        dataset->options.teacher = argument;
        return true;
    case 'C':
        dataset->options.column = argument;
        return true;
    case 'F':
        dataset->options.cache = argument;
        return true;
    case 'S':
        dataset->scale = argument;
        return true;
    case 'B':
        dataset->bias = argument;
        return true;
    case 'J':
        dataset->compute = argument;
        return true;
    case 'O':
        if (dataset->n_sets == CURATOR_MAX_SETS) {
            (void)command_usage(&cmd_curator, "more than %d --set", (int)CURATOR_MAX_SETS);
            return false;
        }
        dataset->sets[dataset->n_sets++] = argument;
        return true;
    default:
        return store_args_take(c, argument, &dataset->store);
    }
}

static void default_cache(char path[PATH_MAX])
{
    /* Nobody sets variables in this program. NOLINTBEGIN(concurrency-mt-unsafe) */
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    /* NOLINTEND(concurrency-mt-unsafe) */

    if (cache != NULL && cache[0] != '\0')
        (void)snprintf(path, PATH_MAX, "%s/reinforce/references", cache);
    else
        (void)snprintf(path, PATH_MAX, "%s/.cache/reinforce/references",
                       home != NULL && home[0] != '\0' ? home : ".");
}

static enum status take_float(const char *name, const char *text, float *out, struct error *err)
{
    struct error why;
    double value = 0;

    if (text == NULL)
        return ST_OK;
    if (parse_f64(text, -1e6, 1e6, &value, &why) != ST_OK)
        return error_set(err, ST_INVALID, "--%s: %s", name, why.message);
    *out = (float)value;
    return ST_OK;
}

/* Starts this program as the job's teacher. */
static enum status open_teacher(struct curator_dataset *dataset, const char *cache,
                                const atomic_bool *stop,
                                const struct curator_references **references, struct error *err)
{
    const char *const first[] = {"reinforce", "curator", "teacher", "--cache", cache};
    const struct teacher_process_options options = {
        .argv = dataset->argv, .cache = cache, .dataset = *references, .stop = stop};
    const char **argv = dataset->argv;
    size_t n = ARRAY_LEN(first);
    enum status st;

    if (dataset->options.column != NULL)
        return error_set(
            err, ST_INVALID,
            "captions other than the real one are not made on the spot: --compute goes "
            "without --column");
    memcpy(argv, first, sizeof first);
    if (dataset->verbose)
        argv[n++] = "--verbose";
    if (dataset->options.teacher != NULL) {
        argv[n++] = "--teacher";
        argv[n++] = dataset->options.teacher;
    }
    for (size_t i = 0; i < dataset->n_sets; i++) {
        argv[n++] = "--set";
        argv[n++] = dataset->sets[i];
    }
    argv[n] = dataset->compute;
    st = teacher_process_open(&options, &dataset->teacher, err);
    if (st == ST_OK)
        *references = teacher_process_references(dataset->teacher);
    return st;
}

/* Other scores than the teacher's own, when the command line says so. */
static enum status take_scale(struct curator_dataset *dataset, struct error *err)
{
    struct curator_references *references = &dataset->references;
    enum status st;

    if ((references->scale == 1 || references->scale == 0) && dataset->scale == NULL)
        return error_set(
            err, ST_INVALID, "teacher %s %s: give --scale and --bias", references->version,
            references->scale == 1 ? "was served, and servers do not say the scale of logits"
                                   : "is of a dataset that does not say the scale of logits");
    st = take_float("scale", dataset->scale, &references->scale, err);
    if (st == ST_OK)
        st = take_float("bias", dataset->bias, &references->bias, err);
    if (dataset->scale != NULL || dataset->bias != NULL) {
        (void)snprintf(dataset->version, sizeof dataset->version, "%s*%g%+g", references->version,
                       (double)references->scale, (double)references->bias);
        references->version = dataset->version;
    }
    return st;
}

enum status curator_dataset_open(struct curator_dataset *dataset, const atomic_bool *stop,
                                 const struct curator_references **references, struct error *err)
{
    struct dataset_references_options options = dataset->options;
    enum status st = ST_OK;

    *references = NULL;
    if (dataset->n_sets > 0 && dataset->compute == NULL)
        return error_set(err, ST_INVALID, "--set changes the job of --compute, which is not given");
    default_cache(dataset->default_cache);
    if (options.cache == NULL)
        options.cache = dataset->default_cache;
    options.store = &dataset->store;
    options.stop = stop;
    if (options.url != NULL)
        st = dataset_references_open(&options, &dataset->cache, err);
    if (st == ST_OK && dataset->cache != NULL)
        *references = reference_cache_get(dataset->cache);
    if (st == ST_OK && dataset->compute != NULL)
        st = open_teacher(dataset, options.cache, stop, references, err);
    if (st != ST_OK || *references == NULL)
        return st;
    dataset->references = **references;
    *references = &dataset->references;
    return take_scale(dataset, err);
}

void curator_dataset_close(struct curator_dataset *dataset)
{
    teacher_process_close(&dataset->teacher);
    reference_cache_close(&dataset->cache);
}
