#include "reinforce/base/memory.h"

#include "reinforce/base/macros.h"

#include <inttypes.h>
#include <numa.h>
#include <numaif.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { PAGE = 4096, HUGE_PAGE = 2 << 20 };

size_t memory_available(void)
{
    FILE *file = fopen("/proc/meminfo", "re");
    char line[128];
    size_t bytes = SIZE_MAX;

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        uintmax_t kib;

        if (sscanf(line, "MemAvailable: %" SCNuMAX " kB", &kib) == 1 && kib < SIZE_MAX / 1024)
            bytes = (size_t)kib * 1024;
    }
    if (file != NULL)
        (void)fclose(file);
    return bytes;
}

/* The whole pages of [memory, memory + *size). */
static void *whole_pages(void *memory, size_t *size)
{
    size_t skip = (PAGE - (uintptr_t)memory % PAGE) % PAGE;

    *size = (*size - MIN(skip, *size)) / PAGE * PAGE;
    return (char *)memory + skip;
}

void memory_prefer_huge_pages(void *memory, size_t size)
{
    void *pages = whole_pages(memory, &size);

    if (size >= HUGE_PAGE)
        (void)madvise(pages, size, MADV_HUGEPAGE);
}

void *memory_alloc(size_t size)
{
    void *memory = NULL;

    if (size < HUGE_PAGE)
        return malloc(size);
    if (posix_memalign(&memory, HUGE_PAGE, size) != 0)
        return NULL;
    memory_prefer_huge_pages(memory, size);
    return memory;
}

static bool has_default_policy(void)
{
    int policy;

    return get_mempolicy(&policy, NULL, 0, NULL, 0) == 0 && policy == MPOL_DEFAULT;
}

void memory_spread(void *memory, size_t size)
{
    void *pages = whole_pages(memory, &size);
    struct bitmask *nodes;

    if (size == 0 || numa_available() < 0 || !has_default_policy())
        return;
    nodes = numa_get_run_node_mask();
    if (numa_bitmask_weight(nodes) > 1)
        (void)mbind(pages, size, MPOL_INTERLEAVE, nodes->maskp, nodes->size + 1, 0);
    numa_bitmask_free(nodes);
}
