#include "coordinator/failure_window.h"

#include "reinforce/base/macros.h"

#include <stdlib.h>

struct failure_report {
    int64_t shard, epoch;
    uint64_t done, quarantined;
};

/* A newer lease of a shard takes the place of an older one, whose worker is gone. NULL: no memory.
 */
static struct failure_report *report_of(struct failure_window *window, int64_t shard, int64_t epoch)
{
    for (size_t i = 0; i < window->n_reports; i++) {
        struct failure_report *report = &window->reports[i];

        if (report->shard != shard)
            continue;
        if (report->epoch < epoch)
            *report = (struct failure_report){.shard = shard, .epoch = epoch};
        return report->epoch == epoch ? report : NULL;
    }
    if (window->n_reports == window->capacity) {
        size_t capacity = MAX(window->capacity * 2, (size_t)16);
        struct failure_report *grown = realloc(window->reports, capacity * sizeof *grown);

        if (grown == NULL)
            return NULL;
        window->reports = grown;
        window->capacity = capacity;
    }
    window->reports[window->n_reports] = (struct failure_report){.shard = shard, .epoch = epoch};
    return &window->reports[window->n_reports++];
}

bool failure_window_add(struct failure_window *window, int64_t shard, int64_t epoch, uint64_t done,
                        uint64_t quarantined, uint64_t size, double fraction)
{
    struct failure_report *report = report_of(window, shard, epoch);
    uint64_t more_done, more_quarantined, total;

    if (report == NULL) /* fenced off, or no memory: the window counts a little less */
        return false;
    if (window->done + window->quarantined >= size)
        window->done = window->quarantined = 0;
    more_done = done - MIN(report->done, done);
    more_quarantined = quarantined - MIN(report->quarantined, quarantined);
    report->done = done;
    report->quarantined = quarantined;
    window->done += more_done;
    window->quarantined += more_quarantined;
    window->n_samples += more_done + more_quarantined;
    total = window->done + window->quarantined;
    return total >= size && (double)window->quarantined > fraction * (double)total;
}

void failure_window_forget(struct failure_window *window, int64_t shard, int64_t epoch)
{
    for (size_t i = 0; i < window->n_reports; i++)
        if (window->reports[i].shard == shard && window->reports[i].epoch == epoch)
            window->reports[i--] = window->reports[--window->n_reports];
}

void failure_window_reset(struct failure_window *window)
{
    window->n_reports = 0;
    window->done = window->quarantined = 0;
}

void failure_window_release(struct failure_window *window)
{
    free(window->reports);
    *window = (struct failure_window){0};
}
