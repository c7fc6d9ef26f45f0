#include "cli/manual.h"

#include "proto/version.h"

#include <ctype.h>

/* clang-format off: as it is printed */
static const char overview[] =
    "Reinforce turns image corpora into reinforced datasets: synthetic captions,\n"
    "augmentations that can be replayed, and the embeddings of every view and every\n"
    "caption under several teachers, in shards that the MobileCLIP trainers read.\n";

static const char epilogue[] =
    "Exit codes:\n"
    "  0  all samples done\n"
    "  1  anything else: a failure, a model or file that cannot be read, stopping early\n"
    "  2  usage or job file\n"
    "  3  finished, some samples quarantined\n"
    "\n"
    "Files:\n"
    "  configs/quickstart.yaml, configs/dfndr.yaml   job files that run as they are\n"
    "  docs/job-file.md                              every key of a job file\n"
    "  docs/curate-file.md                           every key of a file of filters\n"
    "  docs/remote-models.md                         models on servers\n"
    "  docs/kafka.md                                 records, events, and what is guaranteed\n";
/* clang-format on */

void manual_print_overview(FILE *to, const struct command *const *commands, size_t n_commands)
{
    (void)fprintf(to, "%s\nusage: reinforce COMMAND [OPTIONS] ...\n\nCommands:\n", overview);
    for (size_t i = 0; i < n_commands; i++)
        (void)fprintf(to, "  %-11s %s\n", commands[i]->name, commands[i]->summary);
    (void)fprintf(to,
                  "\n"
                  "  reinforce help COMMAND        says more about one\n"
                  "  reinforce help --job-file     prints the reference of the job file\n"
                  "  reinforce help --curate-file  prints that of the file of filters\n"
                  "  reinforce --version           prints the version\n"
                  "\n%s",
                  epilogue);
}

void manual_print_command(const struct command *command)
{
    (void)printf("reinforce %s - %s\n\nusage: %s\n\n%s", command->name, command->summary,
                 command->synopsis, command->help);
}

/* Backslashes and hyphens mean something to roff anywhere, dots and quotes at a line's beginning.
 */
static void print_escaped(const char *text, size_t len)
{
    if (len > 0 && (text[0] == '.' || text[0] == '\''))
        (void)printf("\\&");
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\\')
            (void)printf("\\e");
        else if (text[i] == '-')
            (void)printf("\\-");
        else
            (void)putchar(text[i]);
    }
}

static void print_heading(const char *text, size_t len)
{
    (void)printf(".SH \"");
    for (size_t i = 0; i < len; i++)
        (void)putchar(toupper((unsigned char)text[i]));
    (void)printf("\"\n");
}

/* Unindented lines are paragraphs, indented ones are shown as they stand. */
static void print_roff(const char *text)
{
    bool literal = false, gap = false;

    while (*text != '\0') {
        size_t len = strcspn(text, "\n");
        bool indented = text[0] == ' ', heading = !indented && len > 1 && text[len - 1] == ':';

        if (len > 0 && literal && !indented) {
            (void)printf(".fi\n");
            literal = false;
        }
        if (heading) {
            print_heading(text, len - 1);
        } else if (len > 0) {
            if (gap)
                (void)printf(literal ? "\n" : ".PP\n");
            if (indented && !literal) {
                (void)printf(".nf\n");
                literal = true;
            }
            print_escaped(text, len);
            (void)putchar('\n');
        }
        gap = len == 0;
        text += len + (text[len] == '\n');
    }
    if (literal)
        (void)printf(".fi\n");
}

static void print_title(const char *name)
{
    (void)printf(".TH ");
    for (; *name != '\0'; name++)
        (void)putchar(toupper((unsigned char)*name));
    (void)printf(" 1 \"\" \"reinforce %s\" \"User Commands\"\n", REINFORCE_VERSION);
}

void manual_print_overview_page(const struct command *const *commands, size_t n_commands)
{
    print_title("reinforce");
    (void)printf(".SH NAME\nreinforce \\- makes reinforced image\\-text datasets\n"
                 ".SH SYNOPSIS\n.B reinforce\n.I COMMAND\n[OPTIONS] ...\n.SH DESCRIPTION\n");
    print_roff(overview);
    (void)printf(".SH COMMANDS\n");
    for (size_t i = 0; i < n_commands; i++) {
        (void)printf(".TP\n.BR reinforce\\-%s (1)\n", commands[i]->name);
        print_escaped(commands[i]->summary, strlen(commands[i]->summary));
        (void)putchar('\n');
    }
    print_roff(epilogue);
}

void manual_print_command_page(const struct command *command)
{
    char name[64];

    (void)snprintf(name, sizeof name, "reinforce-%s", command->name);
    print_title(name);
    (void)printf(".SH NAME\nreinforce\\-%s \\- ", command->name);
    print_escaped(command->summary, strlen(command->summary));
    (void)printf("\n.SH SYNOPSIS\n");
    print_escaped(command->synopsis, strlen(command->synopsis));
    (void)printf("\n.SH DESCRIPTION\n");
    print_roff(command->help);
    (void)printf(".SH \"SEE ALSO\"\n.BR reinforce (1)\n");
}
