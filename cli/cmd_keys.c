#include "cli/command.h"
#include "proto/keys.h"

#include <getopt.h>
#include <stdio.h>

static int run(int argc, char **argv)
{
    static const struct option none[] = {{NULL, 0, NULL, 0}};
    struct error err = {0};
    const char *word, *dir, *name;

    optind = 1;
    if (command_next_option(&cmd_keys, argc, argv, "", none) != -1)
        return EXIT_USAGE;
    word = optind < argc ? argv[optind] : "";
    dir = optind + 1 < argc ? argv[optind + 1] : NULL;
    name = optind + 2 < argc ? argv[optind + 2] : NULL;
    if (strcmp(word, "new") == 0 && argc - optind == 2) {
        if (keys_create_fleet(dir, &err) != ST_OK)
            return command_fail(&cmd_keys, &err);
        (void)printf("%s/coordinator.key and %s/worker.key (secret), %s/allow\n", dir, dir, dir);
        return EXIT_DONE;
    }
    if (strcmp(word, "add") == 0 && argc - optind == 3) {
        if (keys_add_worker(dir, name, &err) != ST_OK)
            return command_fail(&cmd_keys, &err);
        (void)printf("%s/%s.key (secret), and its line in %s/allow\n", dir, name, dir);
        return EXIT_DONE;
    }
    return command_usage(&cmd_keys, "say new DIR, or add DIR NAME");
}

/* clang-format off: as it is printed */
const struct command cmd_keys = {
    .name = "keys",
    .synopsis = "reinforce keys new DIR | add DIR NAME",
    .summary = "makes the keys of a fleet",
    .help = "new writes DIR/coordinator.key, DIR/worker.key and DIR/allow, the list of the\n"
            "workers that may come. A worker needs one file, worker.key, which also says whom\n"
            "it trusts; any number may use the same. add makes one more, NAME.key, with a line\n"
            "of its own in the list: a worker whose line is taken away is refused when it comes\n"
            "next.\n"
            "Only the owner may read .key files; files that are there are never overwritten.\n"
            "Messages are encrypted and both sides known to each other (CURVE, RFC 26).\n"
            "\n"
            "Examples:\n"
            "  reinforce keys new fleet\n"
            "  reinforce keys add fleet site-b\n"
            "  reinforce coordinator --catalog postgres://reinforce@db/reinforce \\\n"
            "      --bind tcp://0.0.0.0:7600 --keys fleet/coordinator.key --allow fleet/allow\n"
            "  reinforce worker --coordinator tcp://c1:7600 --keys worker.key\n"
            "\n"
            "Exit codes:\n"
            "  0  done\n"
            "  1  the files are there already, or could not be written\n"
            "  2  usage\n",
    .run = run,
};
/* clang-format on */
