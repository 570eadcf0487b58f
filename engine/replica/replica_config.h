/* What an operator can set: the command line of jumun-replica. */
#ifndef JUMUN_REPLICA_REPLICA_CONFIG_H
#define JUMUN_REPLICA_REPLICA_CONFIG_H

#include "engine/replica/replica.h"

/* Exit codes of jumun-replica; those of jumund. */
enum { REPLICA_EXIT_DONE = 0, REPLICA_EXIT_RUNTIME = 1, REPLICA_EXIT_USAGE = 2 };

/* Fills `config` from the command line. Prints --help and --version itself and exits with 0, and
 * with REPLICA_EXIT_USAGE and a sentence on stderr when something makes no sense. */
void replica_config_parse(struct replica_config *config, int argc, char **argv);

/* Nothing but the defaults. */
void replica_config_defaults(struct replica_config *config);

#endif
