/* Whose orders they are: nodes, replicas and files of tokens each tell the id of their cluster, and
 * positions mean nothing in another one. */
#ifndef JUMUN_CLI_CLI_CLUSTER_OF_H
#define JUMUN_CLI_CLI_CLUSTER_OF_H

#include "clients/cli/cli_query.h"
#include "engine/limits.h"

enum { CLI_REPLICAS_MAX = 16 };

/* The cluster that all must be of, and who was the first to tell it. */
struct cli_cluster_of { char id[CLUSTER_ID_BYTES], who[400]; };

/* Whether `who` ("the node at tcp://...") is of the same cluster as those before; an empty id is
 * not known, and agrees. False after the error was printed. */
bool cli_cluster_agrees(struct cli *cli, struct cli_cluster_of *cluster, const char *id,
                        const char *who, ...) __attribute__((format(printf, 4, 5)));

struct cli_place { uint32_t shard; uint64_t index, commit; int64_t age_ms; };

/* What a replica says of itself. */
struct cli_replica_status {
    char url[ENDPOINT_BYTES_MAX];
    bool answered, node;       /* node: one answers there, and no replica */
    bool refused;              /* whoever answers there does not know the question */
    char cluster[CLUSTER_ID_BYTES];       /* "" = it has met no node yet */
    uint32_t places_count;
    struct cli_place places[CLI_TOKENS_MAX];  /* age_ms: INT64_MAX = not known */
};
/* Asks all of the comma-separated replicas at once, and waits 2 s at most. Returns their number;
 * *list for free(), NULL without memory. */
uint32_t cli_replicas_ask(struct cli *cli, const char *replicas,
                          struct cli_replica_status **list);
/* Whether all that answer are replicas of the cluster; CLI_DONE, or another status after the error
 * was printed. Nodes and their feeds among them are passed over, unless nobody else answers. */
int cli_replicas_agree(struct cli *cli, struct cli_cluster_of *cluster,
                       const struct cli_replica_status *list, uint32_t count);

/* Whether `tokens` that a user wrote down name each of the shards, and no other one. False after
 * the error was printed. */
bool cli_tokens_name_all(struct cli *cli, const jumun_token *tokens, uint32_t tokens_count,
                         const struct cli_place *places, uint32_t places_count);

#endif
