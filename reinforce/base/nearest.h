/* "did you mean": which of the words there are is meant by one there is not. */
#ifndef REINFORCE_BASE_NEAREST_H
#define REINFORCE_BASE_NEAREST_H

#include <stddef.h>

/** Words are borrowed. */
struct nearest {
    const char *word;
    const char *best; /* NULL: none is near */
    size_t distance;
};

/** `best` will be at most a third of the word's letters away, and two for short words. */
void nearest_begin(struct nearest *nearest, const char *word);
/** The first of several equally near candidates stays. Empty ones do not count. */
void nearest_offer(struct nearest *nearest, const char *candidate);

/** Letters inserted, dropped, replaced, or swapped with their neighbour to get from a to b;
 * SIZE_MAX when one is longer than 48. */
size_t nearest_distance(const char *a, const char *b);

#endif
