#include "cli/curator_args.h"
#include "cli/job_args.h"
#include "coordinator/curator/replay.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

static void print_selection(void *ctx, const struct logged_selection *logged,
                            enum replay_outcome outcome, const char *detail)
{
    static const char *const names[REPLAY_OUTCOMES] = {
        [REPLAY_SAME] = "the same",
        [REPLAY_DIFFERENT] = "different",
        [REPLAY_NO_INPUTS] = "not replayed: its inputs were not logged",
        [REPLAY_OTHER_REFERENCE] = "not replayed",
    };
    const bool *all = ctx;

    if (*all || outcome == REPLAY_DIFFERENT || outcome == REPLAY_OTHER_REFERENCE)
        (void)printf("job %s, super-batch %" PRIu64 ", step %" PRIu64
                     ": %zu of %zu in %zu chunks%s: %s%s%s\n",
                     logged->request.job, logged->request.super_batch, logged->request.step,
                     logged->reply.n_selected, logged->request.B, logged->request.n_chunks,
                     logged->reply.status == CURATOR_FALLBACK_UNIFORM ? ", uniformly" : "",
                     names[outcome], detail[0] != '\0' ? ": " : "", detail);
}

static int replay(struct replay_options *options, struct curator_dataset *dataset)
{
    uint64_t counts[REPLAY_OUTCOMES] = {0};
    struct error err = {0};
    enum status st;

    options->stop = job_args_catch_signals();
    st = curator_dataset_open(dataset, options->stop, &options->references, &err);
    if (st == ST_OK)
        st = replay_log(options, counts, &err);
    curator_dataset_close(dataset);
    if (st == ST_INVALID || st == ST_NOT_FOUND)
        return command_fail(&cmd_curator, &err);
    (void)printf("%" PRIu64 " the same, %" PRIu64 " different, %" PRIu64 " without inputs, %" PRIu64
                 " with another reference\n",
                 counts[REPLAY_SAME], counts[REPLAY_DIFFERENT], counts[REPLAY_NO_INPUTS],
                 counts[REPLAY_OTHER_REFERENCE]);
    if (st != ST_OK)
        return command_fail(&cmd_curator, &err);
    return counts[REPLAY_DIFFERENT] + counts[REPLAY_OTHER_REFERENCE] == 0 ? EXIT_DONE : EXIT_OTHER;
}

int curator_replay(int argc, char **argv)
{
    static const struct option known[] = {
        {"all", no_argument, NULL, 'A'}, CURATOR_DATASET_OPTIONS, {NULL, 0, NULL, 0}};
    bool all = false;
    struct curator_dataset dataset = {0};
    struct replay_options options = {.n_threads = curator_threads(),
                                     .max_bytes = (size_t)4 << 30,
                                     .told = print_selection,
                                     .told_ctx = &all};
    int c;

    optind = 1;
    while ((c = command_next_option(&cmd_curator, argc, argv, "", known)) != -1) {
        if (c == 'A')
            all = true;
        else if (!curator_dataset_take(c, optarg, &dataset))
            return EXIT_USAGE;
    }
    if (optind + 1 != argc)
        return command_usage(&cmd_curator, "replay takes one log");
    options.path = argv[optind];
    return replay(&options, &dataset);
}
