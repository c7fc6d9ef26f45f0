/* Any bytes as a curation file: rules or a reason, and what the rules say of a sample can be told.
 */
#include "reinforce/job/curation.h"

#include <assert.h>

enum { MAX_BYTES = 16384, MAX_REASONS = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    float scores[CURATION_MAX_SCORES], *columns[CURATION_MAX_SCORES];
    struct example_id id = {0, 1};
    struct pool pool = {.n = 1, .ids = &id, .scores = columns};
    struct curation *curation;
    struct error err = {0};
    enum status st;

    if (size > MAX_BYTES)
        return 0;
    st = curation_load_text(bytes_view_of(data, size), "fuzz.yaml", NULL, 0, &curation, &err);
    if (st == ST_OK) {
        struct rule_reason reasons[MAX_REASONS];
        char text[192];
        size_t n;

        for (size_t i = 0; i < curation->refs.n_scores; i++) {
            scores[i] = (float)i;
            columns[i] = &scores[i];
            score_spec_describe(&curation->refs.scores[i], text);
            assert(text[0] != '\0');
        }
        pool.n_scores = curation->refs.n_scores;
        st = rules_resolve(&curation->keep, &pool, &curation->arena, &err);
        assert(st == ST_OK);
        n = rule_explain(&curation->keep, &pool, 0, reasons, MAX_REASONS);
        assert(n > 0 || curation->keep.n_children == 0);
        curation_destroy(&curation);
    } else {
        assert(st == ST_INVALID && err.message[0] != '\0' && err.context[0] != '\0');
        assert(curation == NULL);
    }
    return 0;
}
