/* The end of a program's standard output. Whoever reads it may go away before all is written, as
 * head does: then a program ends quietly, with the status that a shell tells of one that SIGPIPE
 * ended. */
#ifndef JUMUN_CLI_OUTPUT_H
#define JUMUN_CLI_OUTPUT_H

#include <stdbool.h>

enum { OUTPUT_READER_GONE = 141 };

/* Whether standard output is a pipe or a socket that nobody reads any more. */
bool output_reader_gone(void);

/* Writes what standard output still holds. 0; OUTPUT_READER_GONE; or -1 when something could not be
 * written, and *why is a sentence such as "No space left on device". */
int output_end(const char **why);

#endif
