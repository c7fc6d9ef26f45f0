#include "coordinator/curator/replay.h"

#include "coordinator/curator/curator.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/file.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void compare(const struct logged_selection *logged, const struct curator_answer *answer,
                    enum replay_outcome *outcome, char detail[256])
{
    size_t b = logged->reply.n_selected;
    struct bytes_view index;

    *outcome = REPLAY_DIFFERENT;
    if (answer->status == CURATOR_REJECTED) {
        (void)snprintf(detail, 256, "now it is rejected");
        return;
    }
    index = curator_answer_frame(answer, 0);
    if (index.len != b * sizeof(uint32_t)) {
        (void)snprintf(detail, 256, "now there are %zu indices", index.len / sizeof(uint32_t));
        return;
    }
    for (size_t i = 0; i < b; i++) {
        uint32_t now;

        memcpy(&now, index.data + i * sizeof now, sizeof now);
        if (now != logged->index[i]) {
            (void)snprintf(detail, 256, "at place %zu of %zu now is %u, was %u", i, b, now,
                           logged->index[i]);
            return;
        }
    }
    *outcome = REPLAY_SAME;
}

/* A fallback was the seed's permutation, whatever has led to it. */
static enum status select_again(struct curator *curator, const struct replay_options *options,
                                struct logged_selection *logged, struct curator_answer *answer,
                                enum replay_outcome *outcome, char detail[256], struct error *err)
{
    const char *version = logged->reply.reference_version;
    struct curator_fallback fallback = {0};
    enum status st;

    detail[0] = '\0';
    if (!logged->has_inputs) {
        *outcome = REPLAY_NO_INPUTS;
        return ST_OK;
    }
    if (logged->reply.status == CURATOR_FALLBACK_UNIFORM) {
        fallback = (struct curator_fallback){ANSWER_BUSY, ""};
    } else if (version[0] != '\0' && (options->references == NULL ||
                                      strcmp(version, options->references->version) != 0)) {
        *outcome = REPLAY_OTHER_REFERENCE;
        (void)snprintf(detail, 256, "it was selected with reference %.100s, here is %.100s",
                       version,
                       options->references != NULL ? options->references->version : "none");
        return ST_OK;
    }
    logged->request.deadline_ms = 0;
    st = curator_answer(curator, &logged->request, clock_monotonic_ns(), fallback, answer, err);
    if (st != ST_OK)
        return st;
    if (fallback.cause == ANSWER_SELECTED &&
        answer->n_without_reference != logged->reply.statistics.n_without_reference) {
        *outcome = REPLAY_OTHER_REFERENCE; /* more was computed meanwhile */
        (void)snprintf(
            detail, 256, "%" PRIu64 " examples had no reference, now %" PRIu64 " have none",
            (uint64_t)logged->reply.statistics.n_without_reference, answer->n_without_reference);
        return ST_OK;
    }
    compare(logged, answer, outcome, detail);
    return ST_OK;
}

enum status replay_log(const struct replay_options *options, uint64_t counts[REPLAY_OUTCOMES],
                       struct error *err)
{
    const struct curator_options select = {.references = options->references,
                                           .n_threads = options->n_threads,
                                           .max_bytes = options->max_bytes};
    struct curator_answer answer = {0};
    struct curator *curator = NULL;
    struct selection_record record;
    struct file_map map = {0};
    struct arena arena;
    size_t at = 0;
    bool is_cut;
    enum status st = file_map_open(options->path, &map, err);

    memset(counts, 0, REPLAY_OUTCOMES * sizeof *counts);
    arena_init(&arena, options->max_bytes);
    if (st == ST_OK)
        st = curator_create(&select, &curator, err);
    while (st == ST_OK) {
        struct logged_selection logged;
        enum replay_outcome outcome = REPLAY_SAME;
        char detail[256];

        arena_reset(&arena);
        st = atomic_load(options->stop) ? error_set(err, ST_CANCELLED, "told to stop")
                                        : selection_log_next(map.bytes, &at, &record, &is_cut, err);
        if (st == ST_OK)
            st = selection_record_read(&record, &logged, &arena, err);
        if (st == ST_OK)
            st = select_again(curator, options, &logged, &answer, &outcome, detail, err);
        if (st == ST_OK) {
            counts[outcome]++;
            options->told(options->told_ctx, &logged, outcome, detail);
        }
    }
    curator_answer_release(&answer);
    curator_destroy(&curator);
    arena_release(&arena);
    file_map_close(&map);
    if (st != ST_END)
        error_add_context(err, "selection log \"%s\"", options->path);
    return st == ST_END ? ST_OK : st;
}
