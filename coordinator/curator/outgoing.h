/* Answers on their way; whoever is gone, or does not read, goes without. */
#ifndef REINFORCE_COORDINATOR_CURATOR_OUTGOING_H
#define REINFORCE_COORDINATOR_CURATOR_OUTGOING_H

#include "coordinator/curator/task.h"

/** Sends a selection to everybody who has asked for it. */
void outgoing_answer(void *socket, const struct task *task, const struct curator_answer *answer);

/** Sends a message alone to who has asked, if it could be encoded, and releases it; else says `err`
 * in the log. */
void outgoing_message(void *socket, const struct task *task, const char *kind, enum status encoded,
                      struct byte_buf *message, const struct error *err);

#endif
