#include "cli/command.h"
#include "storage/catalog/catalog.h"

#include <getopt.h>
#include <stdio.h>

static int migrate(const char *url)
{
    struct catalog_schema before;
    struct error err = {0};

    if (catalog_migrate(url, &before, &err) != ST_OK)
        return command_fail(&cmd_db, &err);
    if (before.stored == before.newest)
        (void)printf("schema version %d, nothing to do\n", before.newest);
    else
        (void)printf("schema version %d, was %d\n", before.newest, before.stored);
    return EXIT_DONE;
}

static int status(const char *url)
{
    struct catalog_schema schema;
    struct error err = {0};

    if (catalog_read_schema(url, &schema, &err) != ST_OK)
        return command_fail(&cmd_db, &err);
    (void)printf("schema version %d, this program's is %d: %s\n", schema.stored, schema.newest,
                 schema.stored == schema.newest  ? "up to date"
                 : schema.stored < schema.newest ? "run `reinforce db migrate`"
                                                 : "use a newer release");
    return schema.stored == schema.newest ? EXIT_DONE : EXIT_OTHER;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {{"catalog", required_argument, NULL, 'c'},
                                            {NULL, 0, NULL, 0}};
    const char *url = NULL;
    int c;

    optind = 1;
    while ((c = command_next_option(&cmd_db, argc, argv, "", options)) != -1) {
        if (c != 'c')
            return EXIT_USAGE;
        url = optarg;
    }
    if (optind + 1 != argc)
        return command_usage(&cmd_db, "say migrate or status");
    if (url == NULL)
        return command_usage(&cmd_db, "--catalog is missing");
    if (strcmp(argv[optind], "migrate") == 0)
        return migrate(url);
    if (strcmp(argv[optind], "status") == 0)
        return status(url);
    return command_usage(&cmd_db, "unknown \"%s\": say migrate or status", argv[optind]);
}

/* clang-format off: as it is printed */
const struct command cmd_db = {
    .name = "db",
    .synopsis = "reinforce db migrate|status --catalog URL",
    .summary = "brings the tables of a catalog to this release's version, or tells theirs",
    .help = "migrate makes or changes the tables of the catalog at URL, in one transaction.\n"
            "It is safe to run again, and by several at once. A catalog of a newer release is\n"
            "refused. A Postgres catalog has to be migrated before jobs run on it; a SQLite\n"
            "file migrates itself.\n"
            "status tells which version is there, and changes nothing.\n"
            "\n"
            "Options:\n"
            "  --catalog URL   postgres://USER@HOST:PORT/DATABASE, or sqlite:PATH. A password\n"
            "                  belongs into PGPASSWORD or ~/.pgpass; in the URL it is refused\n"
            "\n"
            "Examples:\n"
            "  reinforce db migrate --catalog postgres://reinforce@db:5432/reinforce\n"
            "\n"
            "Exit codes:\n"
            "  0  the tables are of this release\n"
            "  1  they are not, or could not be read\n"
            "  2  usage\n",
    .run = run,
};
/* clang-format on */
