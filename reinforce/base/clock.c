#include "reinforce/base/clock.h"

#include <stdio.h>
#include <time.h>

enum { SLICE_MS = 50 };

static int64_t read_ns(clockid_t id)
{
    struct timespec now = {0};

    (void)clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t clock_monotonic_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

int64_t clock_cpu_ns(void)
{
    return read_ns(CLOCK_THREAD_CPUTIME_ID);
}

int64_t clock_monotonic_ms(void)
{
    return read_ns(CLOCK_MONOTONIC) / 1000000;
}

int64_t clock_wall_ms(void)
{
    return read_ns(CLOCK_REALTIME) / 1000000;
}

void clock_sleep_ms(int64_t ms, const atomic_bool *stop)
{
    int64_t until_ms = clock_monotonic_ms() + ms, left_ms;

    while ((left_ms = until_ms - clock_monotonic_ms()) > 0 &&
           (stop == NULL || !atomic_load(stop))) {
        int64_t slice_ms = stop == NULL ? left_ms : MIN(left_ms, (int64_t)SLICE_MS);
        const struct timespec slice = {.tv_sec = (time_t)(slice_ms / 1000),
                                       .tv_nsec = (long)(slice_ms % 1000) * 1000000};

        (void)nanosleep(&slice, NULL);
    }
}

void clock_text(int64_t wall_ms, char text[CLOCK_TEXT_LEN + 1])
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm = {0};

    (void)gmtime_r(&seconds, &tm);
    (void)snprintf(text, CLOCK_TEXT_LEN + 1, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ",
                   (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)(tm.tm_mon + 1) % 100,
                   (unsigned)tm.tm_mday % 100, (unsigned)tm.tm_hour % 100,
                   (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100,
                   (unsigned)(wall_ms % 1000));
}
