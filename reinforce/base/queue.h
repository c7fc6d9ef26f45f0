/* Bounded queue between two stages, limited in items and in bytes. Many producers, many consumers.
 */
#ifndef REINFORCE_BASE_QUEUE_H
#define REINFORCE_BASE_QUEUE_H

#include "reinforce/base/error.h"

struct queue;

/** Holds at most `max_items` (>= 1) and `max_bytes` (one item may pass it when the queue is empty).
 */
NODISCARD enum status queue_create(size_t max_items, size_t max_bytes, struct queue **out,
                                   struct error *err);

/** Waits for room. ST_OK: the queue owns `item`. ST_CANCELLED: closed, `item` is still the
 * caller's. */
NODISCARD enum status queue_push(struct queue *queue, void *item, size_t bytes);

/** Waits for an item, which is then the caller's. ST_END: closed and empty. */
NODISCARD enum status queue_pop(struct queue *queue, void **item);

/** The same without waiting; ST_FULL when there is nothing now (more may come). */
NODISCARD enum status queue_try_pop(struct queue *queue, void **item);

/** No more pushes; pops drain what is left. Idempotent. */
void queue_close(struct queue *queue);

/** Items inside now: for progress lines, stale as soon as read. */
size_t queue_depth(struct queue *queue);

/** Must be drained and without waiters. */
void queue_destroy(struct queue **queue);

#endif
