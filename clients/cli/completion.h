/* The parts of a completion for a shell, the same for all programs with commands. */
#ifndef JUMUN_CLI_COMPLETION_H
#define JUMUN_CLI_COMPLETION_H

#include <stdio.h>

#include "clients/cli/args.h"

/* What an option's `words` list, with blanks between them. */
void completion_words(const char *words, FILE *out);

/* "--name --other ": all of the table (NULL = none). */
void completion_options(const struct args_option *options, FILE *out);

/* "--name|-n|--other": those of the table that take the next word with them. */
void completion_takers(const struct args_option *options, FILE *out);

/* Quoted for fish. */
void completion_fish_text(const char *text, FILE *out);

/* fish's line for each option of the table (NULL = none). `condition`: " -n '...'", or "". */
void completion_fish_options(const char *program, const char *condition,
                             const struct args_option *options, FILE *out);

#endif
