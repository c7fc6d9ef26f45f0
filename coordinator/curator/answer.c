#include "coordinator/curator/answer.h"

#include <stdlib.h>
#include <string.h>

enum status curator_answer_set(struct curator_answer *answer, const struct curator_reply *reply,
                               size_t max_bytes, struct error *err)
{
    struct bytes_view frames[CURATOR_MAX_FRAMES];
    enum status st;

    curator_answer_release(answer);
    byte_buf_init(&answer->bytes, max_bytes);
    st = curator_reply_encode(reply, &answer->bytes, frames, &answer->n_frames, err);
    answer->ends[0] = answer->bytes.len;
    for (size_t f = 0; f < answer->n_frames && st == ST_OK; f++) {
        st = byte_buf_append(&answer->bytes, frames[f].data, frames[f].len, err);
        answer->ends[f + 1] = answer->bytes.len;
    }
    if (st != ST_OK) {
        curator_answer_release(answer);
        return st;
    }
    memcpy(answer->job, reply->job, sizeof answer->job);
    answer->super_batch = reply->super_batch;
    answer->status = reply->status;
    answer->select_ms = reply->statistics.select_ms;
    answer->n_without_reference = reply->statistics.n_without_reference;
    return ST_OK;
}

void curator_answer_release(struct curator_answer *answer)
{
    byte_buf_release(&answer->bytes);
    memset(answer, 0, sizeof *answer);
}

struct bytes_view curator_answer_message(const struct curator_answer *answer)
{
    return bytes_view_of(answer->bytes.data, answer->ends[0]);
}

struct bytes_view curator_answer_frame(const struct curator_answer *answer, size_t frame)
{
    return bytes_view_of(answer->bytes.data + answer->ends[frame],
                         answer->ends[frame + 1] - answer->ends[frame]);
}

enum status answers_init(struct answers *answers, size_t n, struct error *err)
{
    *answers = (struct answers){.ring = calloc(n, sizeof *answers->ring), .n = n};
    return answers->ring != NULL
               ? ST_OK
               : error_set(err, ST_NO_MEMORY, "could not allocate %zu answers", n);
}

void answers_release(struct answers *answers)
{
    for (size_t a = 0; a < answers->n && answers->ring != NULL; a++)
        curator_answer_release(&answers->ring[a]);
    free(answers->ring);
    *answers = (struct answers){0};
}

const struct curator_answer *answers_find(const struct answers *answers, const char *job,
                                          uint64_t super_batch)
{
    for (size_t a = 0; a < answers->n; a++) {
        const struct curator_answer *answer = &answers->ring[a];

        if (answer->bytes.len > 0 && answer->super_batch == super_batch &&
            strcmp(answer->job, job) == 0)
            return answer;
    }
    return NULL;
}

const struct curator_answer *answers_keep(struct answers *answers, struct curator_answer *answer)
{
    struct curator_answer *to = &answers->ring[answers->next];

    answers->next = (answers->next + 1) % answers->n;
    curator_answer_release(to);
    *to = *answer;
    memset(answer, 0, sizeof *answer);
    return to;
}
