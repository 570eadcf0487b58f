/* What the commands that look after replicas share. */
#ifndef JUMUN_CLI_CLI_REPLICA_H
#define JUMUN_CLI_CLI_REPLICA_H

#include "clients/cli/cli.h"

/* The views of a replica's status as a table: rows, size and state of each. */
void cli_replica_views_print(const struct cli *cli, const msgpack_object *status, int indent);

#endif
