/* Any bytes as a job file: a job or a reason; what loads survives its effective configuration. A
 * NUL splits off an override. */
#include "reinforce/job/job.h"

#include <assert.h>
#include <stdlib.h>

enum { MAX_BYTES = 16384 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *split = size > 0 ? memchr(data, '\0', size) : NULL;
    size_t n_file = split != NULL ? (size_t)(split - data) : size;
    struct job_override override = {NULL};
    struct job *job, *again;
    struct error err = {0};
    char *set = NULL;
    enum status st;

    if (size > MAX_BYTES)
        return 0;
    if (split != NULL) {
        size_t len = size - n_file - 1;

        set = calloc(1, len + 1);
        assert(set != NULL);
        memcpy(set, split + 1, len);
        override.text = set;
    }
    st =
        job_load_text(bytes_view_of(data, n_file), "fuzz.yaml", &override, set != NULL, &job, &err);
    if (st == ST_OK) {
        st = job_load_text(bytes_of_string(job->effective_json), "again.yaml", NULL, 0, &again,
                           &err);
        assert(st == ST_OK);
        assert(strcmp(again->effective_json, job->effective_json) == 0);
        assert(strcmp(again->digest, job->digest) == 0);
        job_destroy(&again);
        job_destroy(&job);
    } else {
        assert(st == ST_INVALID && err.message[0] != '\0' && err.context[0] != '\0');
        assert(job == NULL);
    }
    free(set);
    return 0;
}
