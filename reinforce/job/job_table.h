/* How rows of a schema's tables are written: a row says one key. Private to reinforce/job. */
#ifndef REINFORCE_JOB_JOB_TABLE_H
#define REINFORCE_JOB_JOB_TABLE_H

#include "reinforce/job/job_schema.h"

/* Of a field: where it is and how large. The macros below take it for `at`. */
#define FIELD(type, field) offsetof(type, field), sizeof(((type *)0)->field)

#define TEXT(key, at, value, results, help)                                                        \
    {                                                                                              \
        key, JOB_OPTION_TEXT, results, at, value, 0, 0, 0, 0, NULL, help                           \
    }
#define LINES(key, at, value, results, help)                                                       \
    {                                                                                              \
        key, JOB_OPTION_TEXT, results, at, value, 0, JOB_TEXT_LINES, 0, 0, NULL, help              \
    }
#define CHOICE(key, at, value, names, results, help)                                               \
    {                                                                                              \
        key, JOB_OPTION_CHOICE, results, at, value, 0, 0, 0, 0, names, help                        \
    }
#define ENUM(key, at, value, names, results, help)                                                 \
    {                                                                                              \
        key, JOB_OPTION_ENUM, results, at, value, 0, 0, 0, 0, names, help                          \
    }
#define BOOL(key, at, value, results, help)                                                        \
    {                                                                                              \
        key, JOB_OPTION_BOOL, results, at, value, 0, 0, 0, 0, NULL, help                           \
    }
#define INT(key, at, value, min, max, results, help)                                               \
    {                                                                                              \
        key, JOB_OPTION_INT, results, at, value, min, max, 0, 0, NULL, help                        \
    }
#define REAL(key, at, value, min, max, results, help)                                              \
    {                                                                                              \
        key, JOB_OPTION_REAL, results, at, value, 0, 0, min, max, NULL, help                       \
    }
#define BYTES(key, at, value, min, max, results, help)                                             \
    {                                                                                              \
        key, JOB_OPTION_BYTES, results, at, value, min, max, 0, 0, NULL, help                      \
    }
#define DURATION(key, at, value, min, max, results, help)                                          \
    {                                                                                              \
        key, JOB_OPTION_DURATION, results, at, value, min, max, 0, 0, NULL, help                   \
    }

/* A map, or a list of maps, that whoever binds the section reads. */
#define NODE(key, value, is_list, help)                                                            \
    {                                                                                              \
        key, JOB_OPTION_NODE, true, 0, 0, value, 0, is_list, 0, 0, NULL, help                      \
    }

#define SECTION(name, options, help)                                                               \
    {                                                                                              \
        name, options, ARRAY_LEN(options), help, 0, 0, 0, 0                                        \
    }

#endif
