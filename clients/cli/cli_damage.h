/* What a node has found damaged on its own disk, as its STATUS tells it. */
#ifndef JUMUN_CLI_CLI_DAMAGE_H
#define JUMUN_CLI_CLI_DAMAGE_H

#include "clients/cli/value.h"

struct cli_damage {
    uint64_t count;            /* places, at least; the rest is of the first one */
    char kind[32], where[64], what[256];
    uint64_t index, upto;      /* records; 0 = none by number */
};

/* Of a row of `shards`. False: nothing is damaged, or an older node says nothing of it. */
bool cli_damage_of(const msgpack_object *row, struct cli_damage *damage);

/* "log-00000000000000000001, record 41: checksum does not match, and 3 other places" */
char *cli_damage_text(const struct cli_damage *damage, char *out, size_t bytes);

#endif
