/* Wakes a thread that polls file descriptors; any thread may signal. */
#ifndef REINFORCE_BASE_WAKE_H
#define REINFORCE_BASE_WAKE_H

#include "reinforce/base/error.h"

struct wake {
    int fds[2]; /* [0] is polled for reading */
};

NODISCARD enum status wake_init(struct wake *wake, struct error *err);
/** Makes fds[0] readable. Safe from any thread and from signal handlers. */
void wake_signal(const struct wake *wake);
/** Takes all signals so far; afterwards fds[0] is readable only after a new one. */
void wake_drain(const struct wake *wake);
void wake_release(struct wake *wake);

#endif
