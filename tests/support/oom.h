/* Every allocation fails once: link with -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc and loop
 * over oom_fail_at. */
#ifndef REINFORCE_TESTS_OOM_H
#define REINFORCE_TESTS_OOM_H

#include <stdbool.h>

/** The n-th allocation from now on (1 = next) fails once; 0 turns it off. */
void oom_fail_at(unsigned n);

/** True if the allocation asked for has failed since oom_fail_at. */
bool oom_fired(void);

#endif
