/* Answers of an Open Inference Protocol server: rows that come out are all there. Includes the
 * source, whose reader is its own. */
#include "worker/remote/teacher_oip.c"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct job_teacher spec = {.output_tensor = "embedding"};
    const struct remote_teacher own = {.spec = &spec};
    json_t *answer = NULL;
    struct error err = {0};

    if (size > 65536 || json_parse(bytes_view_of(data, size), &answer, &err) != ST_OK)
        return 0;
    for (size_t B = 1; B <= 3; B++) {
        struct remote_rows rows = {0};

        if (read_rows(&own, answer, B, &rows, &err) == ST_OK) {
            volatile float last = rows.values[rows.n * rows.dim - 1];

            (void)last;
            assert(rows.n == B && rows.dim > 0);
        }
        free(rows.values);
    }
    json_decref(answer);
    return 0;
}
