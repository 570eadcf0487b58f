/* The words that people write for the numbers of the library: one table each way. '-' and '_' are
 * the same in what is read. */
#ifndef JUMUN_CLI_NAMES_H
#define JUMUN_CLI_NAMES_H

#include <stdbool.h>

#include "clients/sdk/jumun.h"

enum names_kind { NAMES_FULFILMENT, NAMES_TIMING, NAMES_PAYMENT_STATE, NAMES_PARTY };

/* The number of a word, 0 if there is none. */
int names_parse(enum names_kind kind, const char *word);
/* The word of a number, "?" if there is none. */
const char *names_word(enum names_kind kind, int number);
/* All words joined by '|', for help and messages. */
const char *names_all(enum names_kind kind);

#endif
