#include "bench/reading.h"

enum { LINE = 8, AHEAD = 64 * LINE, STREAMS = 4 }; /* words */

uint64_t reading_sum(const uint64_t *words, size_t n)
{
    uint64_t sum[LINE] = {0}, all = 0;
    size_t i = 0;

    for (; i + LINE <= n; i += LINE)
        for (size_t k = 0; k < LINE; k++)
            sum[k] += words[i + k];
    for (size_t k = 0; k < LINE; k++)
        all += sum[k];
    for (; i < n; i++)
        all += words[i];
    return all;
}

uint64_t reading_sum_in_streams(const uint64_t *words, size_t n)
{
    size_t each = n / STREAMS / LINE * LINE;
    uint64_t sum[LINE] = {0}, all = 0;

    for (size_t i = 0; i < each; i += LINE)
        for (size_t s = 0; s < STREAMS; s++) {
            const uint64_t *line = words + s * each + i;

            __builtin_prefetch(line + AHEAD); /* of what is not there nothing happens */
            for (size_t k = 0; k < LINE; k++)
                sum[k] += line[k];
        }
    for (size_t k = 0; k < LINE; k++)
        all += sum[k];
    return all + reading_sum(words + STREAMS * each, n - STREAMS * each);
}
