/* What the death of a lease says about the samples behind its last part, as expressions that both
 * kinds of SQL understand, over the columns of `shards` before an update. A row in state 2 that is
 * being taken has run out. Private to storage/catalog. */
#ifndef REINFORCE_STORAGE_SUSPECTS_H
#define REINFORCE_STORAGE_SUSPECTS_H

#include "storage/catalog/catalog.h"

/** How many samples a first death puts in doubt. */
static inline int64_t suspects_reach(const struct catalog_terms *terms)
{
    return terms->part_samples + terms->samples_at_work;
}

/** How many of them are worked on at a time: half, but no more than a part. */
static inline int64_t suspects_first_probe(const struct catalog_terms *terms)
{
    return MIN((suspects_reach(terms) + 1) / 2, terms->part_samples);
}

/* The sample has been named, and still kills: by being read. */
#define SUSPECT_ATTEMPT "case when state = 2 and probing and probe_deaths >= 2 then 1 else 0 end"

/* New values; `reach` and `first` are parameters: samples in doubt after a first death, and how
 * many of them are worked on at a time. */
#define SUSPECT_END(reach)                                                                         \
    "case when state <> 2 then suspect_end "                                                       \
    "when next_index >= suspect_end then next_index + " reach " "                                  \
    "when probing then next_index + 1 "                                                            \
    "when probe_samples > 1 and next_index + probe_samples < suspect_end "                         \
    "then next_index + probe_samples else suspect_end end"
#define SUSPECT_PROBE(first)                                                                       \
    "case when state <> 2 then probe_samples when next_index >= suspect_end then " first " "       \
    "when probe_samples > 1 then probe_samples / 2 else 1 end"
#define SUSPECT_DEATHS "probe_deaths + case when state = 2 and probing then 1 else 0 end"

/* A part was committed. */
#define SUSPECT_ATTEMPTS_AFTER(n_done)                                                             \
    "case when " n_done " > 0 then 0 when probe_deaths >= 2 then attempts + 1 else attempts end"

#endif
