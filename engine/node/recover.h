/* Making a node alone of what is left of a cluster's (jumund --recover-alone). A step that a crash
 * cuts short is gone on with by the same command. */
#ifndef JUMUN_NODE_RECOVER_H
#define JUMUN_NODE_RECOVER_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/node/config.h"

/* Tells on stdout (as one JSON object with config->recover_json, also of a failure) what the
 * directory of a cluster's node has and what it lacks; and unless `dry` makes it the directory of a
 * node alone, of a cluster of its own. An exit code, with a sentence in error when it is not
 * EXIT_DONE. */
int recover_alone(const struct config *config, bool dry, char *error, size_t error_bytes);

#endif
