#include "cli/curator_args.h"
#include "coordinator/curator/teacher_job.h"
#include "coordinator/curator/teacher_worker.h"
#include "reinforce/base/log.h"

#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

/* The curator is gone: whatever we are at is of no use. Nothing needs to be put away, as a killed
 * worker leaves nothing that is wrong. */
static void *watch_curator(void *ctx)
{
    struct pollfd item = {.fd = STDIN_FILENO};

    while (poll(&item, 1, -1) < 0 || !(item.revents & (POLLHUP | POLLERR | POLLNVAL)))
        ;
    _exit(EXIT_DONE);
    return ctx;
}

static enum status work(const struct job *job, const char *teacher, const char *cache,
                        struct error *err)
{
    struct job *own = NULL;
    struct engine *engine = NULL;
    enum status st = teacher_job(job, teacher, &own, err);

    if (st == ST_OK)
        st = engine_open(own, &(struct engine_options){.place = NULL}, &engine, err);
    if (st == ST_OK) {
        size_t threads = (size_t)own->workers.threads * (size_t)own->workers.count;
        const struct teacher_worker_options options = {
            .engine = engine,
            .cache = cache,
            .n_threads =
                (int)MIN(threads > 0 ? threads : curator_threads(), (size_t)TEACHER_MAX_THREADS),
            .socket = STDIN_FILENO};

        st = teacher_worker_run(&options, err);
    }
    engine_close(&engine);
    job_destroy(&own);
    return st;
}

int curator_teacher(int argc, char **argv)
{
    static const struct option known[] = {{"cache", required_argument, NULL, 'F'},
                                          {"teacher", required_argument, NULL, 'T'},
                                          {"set", required_argument, NULL, 'O'},
                                          {"verbose", no_argument, NULL, 'v'},
                                          {NULL, 0, NULL, 0}};
    struct job_override overrides[CURATOR_MAX_SETS];
    const char *cache = NULL, *teacher = NULL;
    struct job *job = NULL;
    struct error err = {0};
    pthread_t watcher;
    size_t n = 0;
    enum status st;
    int c;

    optind = 1;
    while ((c = command_next_option(&cmd_curator, argc, argv, "", known)) != -1) {
        if (c == 'F')
            cache = optarg;
        else if (c == 'T')
            teacher = optarg;
        else if (c == 'v')
            log_set_level(LOG_INFO);
        else if (c == 'O' && n < CURATOR_MAX_SETS)
            overrides[n++].text = optarg;
        else
            return EXIT_USAGE;
    }
    if (cache == NULL || optind + 1 != argc)
        return command_usage(&cmd_curator, "teacher is what `curator serve --compute` starts");
    if (pthread_create(&watcher, NULL, watch_curator, NULL) != 0)
        return EXIT_OTHER;
    st = job_load(argv[optind], overrides, n, &job, &err);
    if (st == ST_OK)
        st = work(job, teacher, cache, &err);
    job_destroy(&job);
    return st == ST_OK ? EXIT_DONE : command_fail(&cmd_curator, &err);
}
