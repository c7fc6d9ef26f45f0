#include "tests/support/oom.h"

#include <stddef.h>
#include <stdlib.h>

static unsigned countdown;
static bool fired;

void oom_fail_at(unsigned n)
{
    countdown = n;
    fired = false;
}

bool oom_fired(void)
{
    return fired;
}

static bool must_fail(void)
{
    if (countdown == 0 || --countdown > 0)
        return false;
    fired = true;
    return true;
}

/* Names that the linker's --wrap gives; unused where the test does not ask for it. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *ptr, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *ptr, size_t size);
#pragma weak __real_malloc
#pragma weak __real_calloc
#pragma weak __real_realloc

void *__wrap_malloc(size_t size)
{
    return must_fail() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return must_fail() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *ptr, size_t size)
{
    return must_fail() ? NULL : __real_realloc(ptr, size);
}
