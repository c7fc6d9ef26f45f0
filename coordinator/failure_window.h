/* What workers report of their leases: turned from running totals into increments, counted, and
 * held against the failure budget. */
#ifndef REINFORCE_COORDINATOR_FAILURE_WINDOW_H
#define REINFORCE_COORDINATOR_FAILURE_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed is empty. */
struct failure_window {
    struct failure_report *reports; /* one per shard that is out: its last report */
    size_t n_reports, capacity;
    uint64_t done, quarantined; /* since the window began; what is filtered counts as done */
    uint64_t n_samples;         /* since ever, both */
};

/**
 * Shard `shard` has, under `epoch`, committed so many samples by now. True when that fills a window
 * of `size` samples of which more than `fraction` are quarantined; the counts of that window stay
 * until the next report. A full window that is good enough gives way to the next.
 */
bool failure_window_add(struct failure_window *window, int64_t shard, int64_t epoch, uint64_t done,
                        uint64_t quarantined, uint64_t size, double fraction);

/** The lease is over: no more reports of it. */
void failure_window_forget(struct failure_window *window, int64_t shard, int64_t epoch);

/** Empties it; n_samples stays. */
void failure_window_reset(struct failure_window *window);
void failure_window_release(struct failure_window *window);

#endif
