#include "cli/curator_args.h"

#include "reinforce/base/parse.h"

#include <limits.h>
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

enum status curator_dataset_open(struct curator_dataset *dataset, const atomic_bool *stop,
                                 const struct curator_references **references, struct error *err)
{
    struct dataset_references_options options = dataset->options;
    char cache[PATH_MAX];
    enum status st;

    *references = NULL;
    if (options.url == NULL)
        return ST_OK;
    default_cache(cache);
    if (options.cache == NULL)
        options.cache = cache;
    options.store = &dataset->store;
    options.stop = stop;
    st = dataset_references_open(&options, &dataset->cache, err);
    if (st != ST_OK)
        return st;
    dataset->references = *reference_cache_get(dataset->cache);
    if (dataset->references.scale == 1 && dataset->scale == NULL)
        st = error_set(err, ST_INVALID,
                       "teacher %s was served, and servers do not say the scale of logits: give "
                       "--scale and --bias",
                       dataset->references.version);
    if (st == ST_OK)
        st = take_float("scale", dataset->scale, &dataset->references.scale, err);
    if (st == ST_OK)
        st = take_float("bias", dataset->bias, &dataset->references.bias, err);
    if (dataset->scale != NULL || dataset->bias != NULL) { /* other scores than the dataset's */
        (void)snprintf(dataset->version, sizeof dataset->version, "%s*%g%+g",
                       dataset->references.version, (double)dataset->references.scale,
                       (double)dataset->references.bias);
        dataset->references.version = dataset->version;
    }
    *references = &dataset->references;
    return st;
}

void curator_dataset_close(struct curator_dataset *dataset)
{
    reference_cache_close(&dataset->cache);
}
