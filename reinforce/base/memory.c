#include "reinforce/base/memory.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>

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

void memory_prefer_huge_pages(void *memory, size_t size)
{
    enum { PAGE = 4096, HUGE_PAGE = 2 << 20 };
    uintptr_t skip = (PAGE - (uintptr_t)memory % PAGE) % PAGE;

    if (size >= HUGE_PAGE)
        (void)madvise((char *)memory + skip, (size - skip) / PAGE * PAGE, MADV_HUGEPAGE);
}
