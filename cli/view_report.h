/* What a view says, as text: for inspect. */
#ifndef REINFORCE_CLI_VIEW_REPORT_H
#define REINFORCE_CLI_VIEW_REPORT_H

#include "coordinator/curation/view.h"

/** Prints what the view at `url` came to, or with `json` what it says of itself. */
NODISCARD enum status view_report_print(const struct view *view, const char *url, bool json,
                                        struct error *err);

/** "  kept", or "  dropped by caption fits: similarity of text (mean) 0.131 below 0.251" from a
 * line of drops.jsonl. NULL prints nothing. */
void view_report_print_decision(const json_t *curation);

#endif
