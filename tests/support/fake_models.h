/* A teacher and a captioner without weights: kinds behind the same ops tables, whose answers are a
 * pure function of what they are asked, and which misbehave where a test says so. */
#ifndef REINFORCE_TESTS_FAKE_MODELS_H
#define REINFORCE_TESTS_FAKE_MODELS_H

#include "reinforce/teach/captioner.h"
#include "reinforce/teach/teacher.h"

#include <stdatomic.h>

enum fake_fault {
    FAKE_NONE = 0,
    FAKE_REFUSES = 1, /* the call fails with ST_INVALID */
    FAKE_AWAY = 2,    /* ... with ST_UNAVAILABLE */
    FAKE_NAN = 3,     /* teachers: one value of the row is NaN */
    FAKE_LONG = 4,    /* teachers: the row has length 2 */
    FAKE_EMPTY = 5,   /* captioners: the image's last caption is white space */
    FAKE_PLACES = 6,  /* captioners: the image's last caption names a place */
    FAKE_STOPPED = 7, /* the call fails with ST_CANCELLED */
    FAKE_NUL = 8,     /* captioners: the image's last caption is "a", NUL, "cat" */
};

/** The engine closes it. Set the trap before the pipeline starts. */
struct fake_teacher {
    struct teacher base;
    enum fake_fault fault;
    const char *trap; /* texts that contain it meet the fault */
    int trap_grey;    /* and views whose first pixel is this grey; -1: none */
    atomic_llong n_calls;
};

/** Reads views of `size` and the first `context_length` bytes of a text. */
struct fake_teacher *fake_teacher_create(size_t dim, int size, int context_length);

/** Caption i of an image is "WxH <digest of its pixels> <uid> <i>"; with `facts` it is known to be
 * the ids 7, i, chosen at log-probability -1 - i each, the last one cut. */
struct fake_captioner {
    struct captioner base;
    bool facts;
    enum fake_fault fault;
    const char *trap; /* images whose uid contains it meet the fault */
    atomic_llong n_calls;
};

struct fake_captioner *fake_captioner_create(void);

#endif
