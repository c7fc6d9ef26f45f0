#include "bench/fleet/fleet_stats.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum status fleet_stats_create(struct fleet_stats **out, struct error *err)
{
    char path[] = "/tmp/bench-fleet-XXXXXX";
    int fd = mkstemp(path);
    void *memory = MAP_FAILED;

    if (fd >= 0) {
        (void)unlink(path);
        if (ftruncate(fd, sizeof **out) == 0)
            memory = mmap(NULL, sizeof **out, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        (void)close(fd);
    }
    if (memory == MAP_FAILED)
        return error_set_errno(err, ST_UNAVAILABLE, "could not map shared memory");
    *out = memory;
    return ST_OK;
}

/* Sixteen buckets for every doubling of the microseconds. */
static size_t bucket_of(uint64_t us)
{
    size_t doublings = 0;

    if (us < 16)
        return (size_t)us;
    while (us >> (doublings + 5) != 0)
        doublings++;
    return MIN(16 * (doublings + 1) + (size_t)((us >> doublings) & 15), (size_t)FLEET_BUCKETS - 1);
}

static double bucket_end_ms(size_t bucket)
{
    if (bucket < 16)
        return (double)(bucket + 1) / 1000;
    return (double)((uint64_t)(17 + bucket % 16) << (bucket / 16 - 1)) / 1000;
}

void fleet_stats_add_latency(struct fleet_stats *stats, int64_t ns)
{
    atomic_fetch_add(&stats->latency[bucket_of((uint64_t)MAX(ns, (int64_t)0) / 1000)], 1);
}

static uint64_t count(const struct fleet_stats *stats, const struct fleet_stats *before, size_t i)
{
    return stats->latency[i] - (before != NULL ? before->latency[i] : 0);
}

double fleet_stats_latency_ms(const struct fleet_stats *stats, const struct fleet_stats *before,
                              double share)
{
    uint64_t total = 0, seen = 0;

    for (size_t i = 0; i < FLEET_BUCKETS; i++)
        total += count(stats, before, i);
    for (size_t i = 0; i < FLEET_BUCKETS; i++) {
        seen += count(stats, before, i);
        if (total > 0 && (double)seen >= share * (double)total)
            return bucket_end_ms(i);
    }
    return 0;
}
