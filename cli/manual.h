/* Help texts as terminals and man(1) show them: one text, two dresses. */
#ifndef REINFORCE_CLI_MANUAL_H
#define REINFORCE_CLI_MANUAL_H

#include "cli/command.h"

#include <stdio.h>

/** Prints what `reinforce --help` says; `commands` are all there are. */
void manual_print_overview(FILE *to, const struct command *const *commands, size_t n_commands);

/** Prints what `reinforce help COMMAND` says. */
void manual_print_command(const struct command *command);

/** Prints the page reinforce(1) or reinforce-COMMAND(1) as roff. */
void manual_print_overview_page(const struct command *const *commands, size_t n_commands);
void manual_print_command_page(const struct command *command);

#endif
