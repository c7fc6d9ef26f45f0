/* Time: monotonic for intervals, wall clock for records. */
#ifndef REINFORCE_BASE_CLOCK_H
#define REINFORCE_BASE_CLOCK_H

#include "reinforce/base/macros.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { CLOCK_TEXT_LEN = 24 };

/** Milliseconds that never go back; only differences mean anything. */
int64_t clock_monotonic_ms(void);
int64_t clock_monotonic_ns(void);

/** Nanoseconds that the calling thread has run: what others run meanwhile is not counted. */
int64_t clock_cpu_ns(void);

/** Milliseconds since 1970-01-01 UTC. */
int64_t clock_wall_ms(void);

/** Sleeps so long, or until `stop` (NULL: never) is true, which it looks at twenty times a second.
 */
void clock_sleep_ms(int64_t ms, const atomic_bool *stop);

/** `2026-01-31T12:00:00.000Z` */
void clock_text(int64_t wall_ms, char text[CLOCK_TEXT_LEN + 1]);

#endif
