/* The workers of one process that share a job's models: a thread with an agent for each. */
#ifndef REINFORCE_WORKER_WORKER_GROUP_H
#define REINFORCE_WORKER_WORKER_GROUP_H

#include "worker/agent.h"

struct worker_group;

/** Compute threads of `count` workers together, `threads` each; 0: the machine's processors divided
 * among them. */
size_t worker_group_threads(int count, int threads);

/** Starts `count` agents as `like` says, but for name, drain and wake, which each has of its own.
 * Its `threads` as above. `like` and what it points at outlive
 * the group. */
NODISCARD enum status worker_group_start(const struct agent_options *like, int count,
                                         struct worker_group **out, struct error *err);

/** Waits until all have ended, at most `timeout_ms`; true when they have. */
bool worker_group_wait(struct worker_group *group, int64_t timeout_ms);

/** Tells all to finish or hand back what they hold. */
void worker_group_drain(struct worker_group *group);

/** Drains, joins and frees. The first failure of a worker, if one failed. */
NODISCARD enum status worker_group_join(struct worker_group **group, struct error *err);

/** "host:pid:label-xxxx": unique among live workers. */
void worker_group_name(const char *label, char name[96]);

#endif
