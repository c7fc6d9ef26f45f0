#include "cli/command.h"

#include "reinforce/base/nearest.h"
#include "reinforce/base/parse.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>

int command_fail(const struct command *command, const struct error *err)
{
    (void)fflush(stdout);
    (void)fprintf(stderr, "reinforce %s: %s%s%s\n", command->name, err->context,
                  err->context[0] != '\0' ? ": " : "", err->message);
    return err->code == ST_INVALID ? EXIT_USAGE : EXIT_OTHER;
}

int command_usage(const struct command *command, const char *fmt, ...)
{
    va_list ap;

    (void)fprintf(stderr, "reinforce %s: ", command->name);
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fprintf(stderr, "\nusage: %s\n`reinforce help %s` says more\n", command->synopsis,
                  command->name);
    return EXIT_USAGE;
}

static int refuse_option(const struct command *command, const char *word,
                         const struct option *options)
{
    struct nearest nearest;
    char name[64];

    (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
    nearest_begin(&nearest, name + strspn(name, "-"));
    for (; options->name != NULL; options++)
        nearest_offer(&nearest, options->name);
    if (nearest.best != NULL)
        return command_usage(command, "unknown option %s, did you mean --%s?", name, nearest.best);
    return command_usage(command, "unknown option %s", name);
}

int command_next_option(const struct command *command, int argc, char **argv, const char *letters,
                        const struct option *options)
{
    char short_options[16];
    int c;

    (void)snprintf(short_options, sizeof short_options, ":%s", letters);
    opterr = 0;
    c = getopt_long(argc, argv, short_options, options, NULL); /* NOLINT(concurrency-mt-unsafe) */
    if (c == ':')
        (void)command_usage(command, "option %s needs a value", argv[optind - 1]);
    else if (c == '?' && optopt > 0 && optopt < 128 && strchr(letters, optopt) == NULL &&
             argv[optind - 1][0] == '-' && argv[optind - 1][1] != '-')
        (void)command_usage(command, "unknown option -%c", optopt);
    else if (c == '?')
        (void)refuse_option(command, argv[optind - 1], options);
    return c == ':' ? '?' : c;
}

enum status command_number(const char *name, const char *text, int64_t min, int64_t max,
                           int64_t *out, struct error *err)
{
    struct error why;
    enum status st = parse_i64(text, min, max, out, &why);

    return st == ST_OK ? ST_OK : error_set(err, st, "--%s: %s", name, why.message);
}
