/* How fast memory is read: what a decoding step of few rows cannot pass. */
#ifndef REINFORCE_BENCH_READING_H
#define REINFORCE_BENCH_READING_H

#include <stddef.h>
#include <stdint.h>

/** Sum of all words [n] in memory, read as fast as this processor does: in one stream, or in four
 * with what is ahead of each asked for. */
uint64_t reading_sum(const uint64_t *words, size_t n);
uint64_t reading_sum_in_streams(const uint64_t *words, size_t n);

#endif
