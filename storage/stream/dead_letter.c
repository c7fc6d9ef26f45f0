#include "storage/stream/dead_letter.h"

#include <inttypes.h>
#include <stdio.h>

void dead_letter_make(const struct stream_message *record, const char *topic, const char *reason,
                      const char *detail, int attempts, struct dead_letter *letter)
{
    const struct stream_header ours[DEAD_LETTER_HEADERS] = {
        {DEAD_LETTER_REASON, bytes_of_string(reason)},
        {DEAD_LETTER_DETAIL, bytes_of_string(detail)},
        {DEAD_LETTER_TOPIC, bytes_of_string(record->topic)},
        {DEAD_LETTER_PARTITION,
         bytes_view_of(letter->partition,
                       (size_t)snprintf(letter->partition, sizeof letter->partition, "%" PRId32,
                                        record->partition))},
        {DEAD_LETTER_OFFSET,
         bytes_view_of(letter->offset, (size_t)snprintf(letter->offset, sizeof letter->offset,
                                                        "%" PRId64, record->offset))},
        {DEAD_LETTER_TIMESTAMP,
         bytes_view_of(letter->timestamp,
                       (size_t)snprintf(letter->timestamp, sizeof letter->timestamp, "%" PRId64,
                                        record->timestamp_ms))},
        {DEAD_LETTER_ATTEMPTS,
         bytes_view_of(letter->attempts, (size_t)snprintf(letter->attempts, sizeof letter->attempts,
                                                          "%d", attempts))},
    };
    size_t n_theirs = MIN(record->n_headers, (size_t)DEAD_LETTER_MAX_HEADERS - DEAD_LETTER_HEADERS);

    memcpy(letter->headers, ours, sizeof ours);
    if (n_theirs > 0)
        memcpy(letter->headers + DEAD_LETTER_HEADERS, record->headers,
               n_theirs * sizeof *record->headers);
    letter->message = (struct stream_message){
        .topic = topic,
        .partition = STREAM_ANY_PARTITION,
        .timestamp_ms = record->timestamp_ms,
        .key = record->key,
        .value = record->value,
        .headers = letter->headers,
        .n_headers = DEAD_LETTER_HEADERS + n_theirs,
    };
}
