/* What a sample's other fields (<key>.json, which trainers do not read) say of its captions. */
#ifndef REINFORCE_WORKER_CAPTION_FACTS_H
#define REINFORCE_WORKER_CAPTION_FACTS_H

#include "reinforce/record/record.h"
#include "reinforce/teach/captioner.h"

/**
 * Keeps in record->meta, in the place of what an earlier captioner of that column left there, an
 * entry per caption of `column`:
 *
 *   captioning  {column: [{"prompt": "caption en", "sum_log_probability": -9.4, "stop": "end",
 *               "tokens": [9, 412, 1]}, ...]}: of each what is known; no entry knows anything: no
 *               column. Ids of a column of more than CAPTION_FACTS_MAX_IDS are left out, since
 *               readers limit the values of a record.
 *   places      {column: [[{"box": ..., "label": ...}, ...], ...]}: what the captions point at
 *               (locations.h); nowhere a place: no column.
 *
 * captions and texts (as they are stored) are [n]. ST_NO_MEMORY; ST_INVALID: not UTF-8.
 */
enum { CAPTION_FACTS_MAX_IDS = 1 << 15 };
NODISCARD enum status caption_facts_keep(struct record *record, const char *column,
                                         const struct caption *captions,
                                         const struct bytes_view *texts, size_t n,
                                         struct arena *arena, struct error *err);

#endif
