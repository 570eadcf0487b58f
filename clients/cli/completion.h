/* The parts of a completion for a shell, the same for all programs with commands. */
#ifndef JUMUN_CLI_COMPLETION_H
#define JUMUN_CLI_COMPLETION_H

#include <stdbool.h>
#include <stdio.h>

#include "clients/cli/args.h"

/* "--name --other ": all of the table (NULL = none). */
void completion_options(const struct args_option *options, FILE *out);

/* The begin of bash's function: what was typed, in `cur`, `prev` and `command`. `global` are
 * options that may stand in front of the command; `groups`, "store|key": words after which another
 * one belongs to it ("" = none). */
void completion_bash_begin(const char *program, const struct args_option *global,
                           const char *groups, FILE *out);

/* bash's branches for what comes behind an option of the table that takes a word, by "COMMAND
 * OPTION" (command NULL = any): its words, names of files, or nothing that could be foretold. */
void completion_bash_values(const char *command, const struct args_option *options, FILE *out);

/* Prints that of `program` for the shell of this name; false = there is none. zsh runs the bash
 * function: one rule set, and its menus come for free. */
bool completion_print(const char *program, const char *shell, void (*bash)(FILE *out),
                      void (*fish)(FILE *out));

/* "a|b|c" with blanks between the words. */
void completion_words(const char *words, FILE *out);

/* Quoted for fish. */
void completion_fish_text(const char *text, FILE *out);

/* fish's line for each option of the table (NULL = none). `condition`: " -n '...'", or "". */
void completion_fish_options(const char *program, const char *condition,
                             const struct args_option *options, FILE *out);

#endif
