/* What the query replica beside the node answers: its lag, and a few questions with their answers
 * and how long they took. */
#ifndef JUMUN_DEMO_QUESTIONS_H
#define JUMUN_DEMO_QUESTIONS_H

#include "clients/demo/play.h"

/* Asks the replica at `address`, with the session of the play: its answers contain what was played.
 * Prints to stdout. False when it did not answer. */
bool questions_print(const struct play *play, const struct retail *retail, const char *address,
                     bool color);

#endif
