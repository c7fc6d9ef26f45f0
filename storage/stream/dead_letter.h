/* Dead letters: records that cannot be taken, as they came, with the reason in headers. */
#ifndef REINFORCE_STORAGE_DEAD_LETTER_H
#define REINFORCE_STORAGE_DEAD_LETTER_H

#include "storage/stream/stream.h"

enum { DEAD_LETTER_HEADERS = 7, DEAD_LETTER_MAX_HEADERS = 256 };

/** Headers of ours, before those the record had. Values are text. */
#define DEAD_LETTER_REASON    "reinforce.reason"
#define DEAD_LETTER_DETAIL    "reinforce.detail"
#define DEAD_LETTER_TOPIC     "reinforce.topic"
#define DEAD_LETTER_PARTITION "reinforce.partition"
#define DEAD_LETTER_OFFSET    "reinforce.offset"
#define DEAD_LETTER_TIMESTAMP "reinforce.timestamp" /* ms since 1970 */
#define DEAD_LETTER_ATTEMPTS  "reinforce.attempts"

struct dead_letter {
    struct stream_message message; /* to be sent; borrows this struct and what it was made of */
    struct stream_header headers[DEAD_LETTER_MAX_HEADERS];
    char partition[16], offset[24], timestamp[24], attempts[16];
};

/** Key and value stay byte for byte; of more headers than fit the last are left out. Topic,
 * partition and offset together name the letter: one that comes again has the same. */
void dead_letter_make(const struct stream_message *record, const char *topic, const char *reason,
                      const char *detail, int attempts, struct dead_letter *letter);

#endif
