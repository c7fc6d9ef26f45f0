#include "cli/job_args.h"

#include "reinforce/base/log.h"

#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <unistd.h>

static atomic_bool stop; /* set by the handler; read everywhere */

static volatile sig_atomic_t grace_s; /* 0: without limit */

static void on_alarm(int signal_number)
{
    static const char text[] = "reinforce: the grace time is over\n";
    ssize_t n = write(STDERR_FILENO, text, sizeof text - 1);

    (void)n;
    (void)signal_number;
    _exit(EXIT_OTHER);
}

void job_args_limit_grace(unsigned seconds)
{
    struct sigaction action = {.sa_handler = on_alarm};

    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGALRM, &action, NULL);
    grace_s = (sig_atomic_t)seconds;
}

static void on_signal(int signal_number)
{
    if (grace_s > 0)
        (void)alarm((unsigned)grace_s);
    if (atomic_exchange(&stop, true)) {
        (void)signal(signal_number, SIG_DFL);
        (void)raise(signal_number);
    }
}

const atomic_bool *job_args_catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};

    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    return &stop;
}

bool job_args_load(const struct command *command, int argc, char **argv, struct job **job,
                   int *exit_code)
{
    static const struct option options[] = {{"set", required_argument, NULL, 's'},
                                            {"verbose", no_argument, NULL, 'v'},
                                            {NULL, 0, NULL, 0}};
    struct job_override overrides[JOB_ARGS_MAX_OVERRIDES];
    size_t n = 0;
    struct error err = {0};
    int c;

    *job = NULL;
    optind = 1;
    while ((c = command_next_option(command, argc, argv, "v", options)) != -1) {
        if (c == 'v') {
            log_set_level(LOG_INFO);
        } else if (c == 's' && n < JOB_ARGS_MAX_OVERRIDES) {
            overrides[n++].text = optarg;
        } else {
            *exit_code = c == 's'
                             ? command_usage(command, "more than %d --set", JOB_ARGS_MAX_OVERRIDES)
                             : EXIT_USAGE;
            return false;
        }
    }
    if (optind + 1 != argc) {
        *exit_code = command_usage(command, optind == argc ? "a job file is missing"
                                                           : "more than one job file");
        return false;
    }
    if (job_load(argv[optind], overrides, n, job, &err) != ST_OK) {
        (void)command_fail(command, &err);
        *exit_code = EXIT_USAGE;
        return false;
    }
    return true;
}

void job_args_format_bytes(double bytes, char text[32])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    size_t unit = 0;

    while (bytes >= 999.5 && unit + 1 < ARRAY_LEN(units)) {
        bytes /= 1000;
        unit++;
    }
    (void)snprintf(text, 32, bytes >= 100 || unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

void job_args_format_seconds(double seconds, char text[32])
{
    long s = lround(seconds);

    if (s < 120)
        (void)snprintf(text, 32, "%ld s", s);
    else if (s < 7200)
        (void)snprintf(text, 32, "%ld min %ld s", s / 60, s % 60);
    else
        (void)snprintf(text, 32, "%ld h %ld min", s / 3600, s % 3600 / 60);
}
