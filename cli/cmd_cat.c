#include "cli/command.h"
#include "cli/store_args.h"
#include "coordinator/curation/view.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>

static enum status write_piece(void *ctx, struct bytes_view piece, struct error *err)
{
    (void)ctx;
    if (fwrite(piece.data, 1, piece.len, stdout) != piece.len)
        return error_set_errno(err, ST_UNAVAILABLE, "could not write to standard output");
    return ST_OK;
}

/* "00000000" or "00000000.tar" */
static bool is_shard(const struct view_shard *shard, const char *name)
{
    return strcmp(shard->name, name) == 0 || strcmp(shard->object_key, name) == 0;
}

static enum status cat(const char *url, const char *name,
                       const struct object_store_options *options, struct error *err)
{
    struct object_store *dataset = NULL;
    struct view_shard shard = {.name = NULL};
    struct view view;
    size_t at = 0;
    enum status st = view_open(url, options, &view, err);

    if (st != ST_OK)
        return st;
    st = object_store_open_with(view.dataset, options, &dataset, err);
    while (st == ST_OK && (st = view_next_shard(&view, &at, &shard, err)) == ST_OK &&
           !is_shard(&shard, name))
        view_shard_release(&shard);
    if (st == ST_END)
        st = error_set(err, ST_NOT_FOUND, "the view has no shard \"%s\"", name);
    if (st == ST_OK)
        st = view_stream_shard(&shard, dataset, write_piece, NULL, err);
    view_shard_release(&shard);
    object_store_close(&dataset);
    view_close(&view);
    return st;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {STORE_ARGS_OPTIONS, {NULL, 0, NULL, 0}};
    struct object_store_options store = {.endpoint = NULL};
    struct error err = {0};
    int c;

    optind = 1;
    while ((c = command_next_option(&cmd_cat, argc, argv, "", options)) != -1)
        if (!store_args_take(c, optarg, &store))
            return EXIT_USAGE;
    if (optind + 2 != argc)
        return command_usage(&cmd_cat, "give a view and one of its shards");
    return cat(argv[optind], argv[optind + 1], &store, &err) == ST_OK
               ? EXIT_DONE
               : command_fail(&cmd_cat, &err);
}

/* clang-format off: as it is printed */
const struct command cmd_cat = {
    .name = "cat",
    .synopsis = "reinforce cat VIEW SHARD",
    .summary = "writes a shard of a view to standard output, as a tar",
    .help = "Writes the samples of SHARD that the view keeps (`reinforce curate` made it) to\n"
            "standard output: a tar with the bytes that the dataset has. WebDataset reads the\n"
            "output of a command as a shard, so that trainers go over a view without a copy\n"
            "and without a change: pipe:reinforce cat VIEW {00000000..00000006}.\n"
            "\n"
            "Options:\n" STORE_ARGS_HELP "\n"
            "Examples:\n"
            "  reinforce cat build/quickstart/curated 00000000 | tar -t | head\n"
            "\n"
            "Exit codes:\n"
            "  0  done\n"
            "  1  no such view or shard, or the dataset is not what it was\n"
            "  2  usage\n",
    .run = run,
};
/* clang-format on */
