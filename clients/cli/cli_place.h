/* jumun place with a file of orders. */
#ifndef JUMUN_CLI_CLI_PLACE_H
#define JUMUN_CLI_CLI_PLACE_H

#include "clients/cli/cli.h"

/* Places all orders of a CSV file (else JSON, one object a line), or with --dry-run only reads
 * them, and reports; returns the exit status. What was not placed is named by its line: the first
 * rows that cannot be read, and the first orders that were refused, in the order of lines. */
int cli_place_rows(struct cli *cli, const char *path, bool csv);

#endif
