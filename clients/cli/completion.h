/* The parts of a completion for a shell, the same for all programs with commands. */
#ifndef JUMUN_CLI_COMPLETION_H
#define JUMUN_CLI_COMPLETION_H

#include <stdbool.h>
#include <stdio.h>

#include "clients/cli/args.h"

/* "--name --other ": all of the table (NULL = none). */
void completion_options(const struct args_option *options, FILE *out);

/* "--name|-n|--other": those of the table that take the next word with them. */
void completion_takers(const struct args_option *options, FILE *out);

/* bash's branches for what comes behind an option of the table that takes a word, by "COMMAND
 * OPTION" (command NULL = any): its words, names of files, or nothing that could be foretold. */
void completion_bash_values(const char *command, const struct args_option *options, FILE *out);

/* Prints that of `program` for the shell of this name; false = there is none. zsh runs the bash
 * function: one rule set, and its menus come for free. */
bool completion_print(const char *program, const char *shell, void (*bash)(FILE *out),
                      void (*fish)(FILE *out));

/* Quoted for fish. */
void completion_fish_text(const char *text, FILE *out);

/* fish's line for each option of the table (NULL = none). `condition`: " -n '...'", or "". */
void completion_fish_options(const char *program, const char *condition,
                             const struct args_option *options, FILE *out);

#endif
