#include "cli/view_report.h"

#include "cli/tool_io.h"

#include <stdio.h>

enum status view_report_print(const struct view *view, const char *url, bool json,
                              struct error *err)
{
    const json_t *item;
    size_t i;

    if (json)
        return tool_print_json(view->about, err);
    (void)printf("view of %s: %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT " samples kept\n",
                 view->dataset, json_integer_value(json_object_get(view->about, "kept")),
                 json_integer_value(json_object_get(view->about, "samples")));
    json_array_foreach(json_object_get(view->about, "rules"), i, item)(void)
        printf("  %-24s fails %10" JSON_INTEGER_FORMAT "\n",
               json_string_value(json_object_get(item, "name")),
               json_integer_value(json_object_get(item, "fails")));
    json_array_foreach(json_object_get(view->about, "steps"), i, item)(void)
        printf("  %-24s drops %10" JSON_INTEGER_FORMAT "\n",
               json_string_value(json_object_get(item, "name")),
               json_integer_value(json_object_get(item, "dropped")));
    (void)printf("next:\n  reinforce inspect %s --uid UID\n  reinforce cat %s SHARD\n", url, url);
    return ST_OK;
}

void view_report_print_decision(const json_t *curation)
{
    const json_t *score = json_object_get(curation, "score");
    const json_t *threshold = json_object_get(curation, "threshold");

    if (curation == NULL)
        return;
    if (json_object_get(curation, "rule") == NULL) {
        (void)printf("  kept\n");
        return;
    }
    (void)printf("  dropped by %s: ", json_string_value(json_object_get(curation, "rule")));
    if (json_object_get(curation, "of") != NULL)
        (void)printf("%s ", json_string_value(json_object_get(curation, "of")));
    if (json_is_real(score))
        (void)printf("%.6g ", json_real_value(score));
    (void)printf("%s", json_string_value(json_object_get(curation, "verdict")));
    if (json_is_real(threshold))
        (void)printf(" %.6g", json_real_value(threshold));
    if (json_object_get(curation, "kept") != NULL)
        (void)printf(" of %s", json_string_value(json_object_get(curation, "kept")));
    (void)printf("\n");
}
