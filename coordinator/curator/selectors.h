/* Threads that answer requests, one each, and hand them back. */
#ifndef REINFORCE_COORDINATOR_CURATOR_SELECTORS_H
#define REINFORCE_COORDINATOR_CURATOR_SELECTORS_H

#include "coordinator/curator/task.h"

struct selection_log;
struct selectors;

/**
 * Starts n threads, and one that logs what they answered when there is a log. Any number of tasks
 * up to max_tasks may be inside; `done_fd` of selectors_fd() becomes readable when some have come
 * out.
 */
NODISCARD enum status selectors_start(const struct curator_options *options, size_t n,
                                      size_t max_tasks, struct selection_log *log,
                                      struct selectors **out, struct error *err);

/** Answers in-flight tasks, which must then be taken by selectors_pop(), and ends the threads. */
void selectors_stop(struct selectors *selectors);
void selectors_destroy(struct selectors **selectors);

/** Polled for reading. */
int selectors_fd(const struct selectors *selectors);

/** Hands a task to be answered; taken over. */
void selectors_push(struct selectors *selectors, struct task *task);

/** Hands a task that is answered already to whoever logs; taken over. */
void selectors_push_answered(struct selectors *selectors, struct task *task);

/** The next task that is answered, and logged if it is to be; NULL: none now. */
struct task *selectors_pop(struct selectors *selectors);

#endif
