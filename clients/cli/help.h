/* The parts of a help text, the same for all programs with commands. `color`: with the escapes of a
 * terminal. */
#ifndef JUMUN_CLI_HELP_H
#define JUMUN_CLI_HELP_H

#include <stdio.h>

#include "clients/cli/args.h"

/* "Options", in bold behind an empty line. */
void help_heading(bool color, const char *text, FILE *out);

/* One option of the table (NULL = none) after the other, its text wrapped beside it. */
void help_options(bool color, const struct args_option *options, FILE *out);

/* Each line of the text, indented. NULL = nothing. */
void help_indented(const char *text, FILE *out);

#endif
