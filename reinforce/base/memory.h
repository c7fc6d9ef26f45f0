/* Memory of this machine: what is left, and in which pages it comes. */
#ifndef REINFORCE_BASE_MEMORY_H
#define REINFORCE_BASE_MEMORY_H

#include <stddef.h>

/** Bytes that can be used without swapping, file cache that can be dropped included; SIZE_MAX when
 * the system does not say. */
size_t memory_available(void);

/** malloc(), but from a huge page on memory begins one and is wanted in huge pages: products walk
 * through rows that lie pages apart. */
void *memory_alloc(size_t size);

/** Asks for huge pages in [memory, memory + size), which is not touched yet: filling gigabytes page
 * by page takes longer than what they are filled with. Advice, which cannot fail. */
void memory_prefer_huge_pages(void *memory, size_t size);

/** Lets the pages of [memory, memory + size), which is not touched yet, alternate between the
 * memory nodes whose processors this process may run on, as all of them will read it; else it would
 * lie with the one thread that fills it. Does nothing on one node, or under a policy from outside
 * (numactl). Advice, which cannot fail. */
void memory_spread(void *memory, size_t size);

#endif
