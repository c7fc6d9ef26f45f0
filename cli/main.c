#include "cli/command.h"
#include "cli/manual.h"
#include "proto/version.h"
#include "reinforce/base/nearest.h"
#include "reinforce/job/curation.h"

#include <stdio.h>

static const struct command *const commands[] = {
    &cmd_run,    &cmd_plan,    &cmd_verify,      &cmd_inspect,    &cmd_curate,  &cmd_cat,
    &cmd_submit, &cmd_status,  &cmd_workers,     &cmd_pause,      &cmd_resume,  &cmd_cancel,
    &cmd_retry,  &cmd_repair,  &cmd_coordinator, &cmd_worker,     &cmd_keys,    &cmd_db,
    &cmd_embed,  &cmd_caption, &cmd_tokenize,    &cmd_preprocess, &cmd_augment, &cmd_model,
    &cmd_bench,  &cmd_produce, &cmd_ingest,      &cmd_metrics,    &cmd_curator,
};

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

static int unknown_command(const char *name)
{
    struct nearest nearest;

    nearest_begin(&nearest, name);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        nearest_offer(&nearest, commands[i]->name);
    nearest_offer(&nearest, "help");
    (void)fprintf(stderr, "reinforce: unknown command \"%s\"", name);
    if (nearest.best != NULL)
        (void)fprintf(stderr, ", did you mean \"%s\"?", nearest.best);
    (void)fprintf(stderr, "\n`reinforce --help` lists the commands\n");
    return EXIT_USAGE;
}

typedef enum status reference_fn(struct byte_buf *out, struct error *err);

static int print_reference(reference_fn *write)
{
    struct byte_buf page;
    struct error err;
    enum status st;

    byte_buf_init(&page, 1 << 20);
    st = write(&page, &err);
    if (st == ST_OK)
        (void)fwrite(page.data, 1, page.len, stdout);
    else
        (void)fprintf(stderr, "reinforce: %s\n", err.message);
    byte_buf_release(&page);
    return st == ST_OK ? EXIT_DONE : EXIT_OTHER;
}

/* help [COMMAND | --job-file | --curate-file | --man [COMMAND]] */
static int help(int argc, char **argv)
{
    bool man = argc > 0 && strcmp(argv[0], "--man") == 0;
    const char *name = argc > man ? argv[man] : NULL;
    const struct command *command = name != NULL ? find_command(name) : NULL;

    if (argc > 1 + man) {
        (void)fprintf(stderr, "reinforce: help takes one command\n");
        return EXIT_USAGE;
    }
    if (name != NULL && !man && strcmp(name, "--job-file") == 0)
        return print_reference(job_write_reference);
    if (name != NULL && !man && strcmp(name, "--curate-file") == 0)
        return print_reference(curation_write_reference);
    if (name != NULL && command == NULL)
        return unknown_command(name);
    if (man && command != NULL)
        manual_print_command_page(command);
    else if (man)
        manual_print_overview_page(commands, ARRAY_LEN(commands));
    else if (command != NULL)
        manual_print_command(command);
    else
        manual_print_overview(stdout, commands, ARRAY_LEN(commands));
    return EXIT_DONE;
}

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

static int dispatch(int argc, char **argv)
{
    const struct command *command;

    if (argc < 2) {
        manual_print_overview(stderr, commands, ARRAY_LEN(commands));
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "help") == 0)
        return help(argc - 2, argv + 2);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return help(0, NULL);
    if (strcmp(argv[1], "--version") == 0) {
        (void)printf("reinforce %s\n", REINFORCE_VERSION);
        return EXIT_DONE;
    }
    command = find_command(argv[1]);
    if (command == NULL)
        return unknown_command(argv[1]);
    if (asks_for_help(argc - 1, argv + 1)) {
        manual_print_command(command);
        return EXIT_DONE;
    }
    return command->run(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    int code = dispatch(argc, argv);

    /* A full disk or a closed pipe behind the output is a failure, too. */
    if ((fflush(stdout) != 0 || ferror(stdout) != 0) && code == EXIT_DONE) {
        (void)fprintf(stderr, "reinforce: could not write to standard output\n");
        code = EXIT_OTHER;
    }
    return code;
}
