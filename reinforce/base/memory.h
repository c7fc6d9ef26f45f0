/* What this machine has left. */
#ifndef REINFORCE_BASE_MEMORY_H
#define REINFORCE_BASE_MEMORY_H

#include <stddef.h>

/** Bytes that can be used without swapping, file cache that can be dropped included; SIZE_MAX when
 * the system does not say. */
size_t memory_available(void);

#endif
