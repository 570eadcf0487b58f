/* The logs of a cluster, read at whichever node answers: the nodes of --endpoint first, then those
 * that they tell. A node that is gone, lags, or has not got a shard is left for the next one. */
#ifndef JUMUN_CLI_CLI_FEED_H
#define JUMUN_CLI_CLI_FEED_H

#include "clients/cli/cli_cluster_of.h"
#include "clients/cli/cli_wait.h"
#include "engine/wire/feed_decode.h"
#include "engine/wire/msgpack_writer.h"

struct cli_feed_node {
    char url[ENDPOINT_BYTES_MAX], feed[ENDPOINT_BYTES_MAX]; /* feed "" = not found yet */
    bool heard;                /* its HELLO is in the places */
};

struct cli_feed {
    struct cli *cli;
    struct cli_cluster_of *cluster;        /* the caller's */
    struct cli_feed_node nodes[NODES_MAX];
    uint32_t nodes_count, at;              /* at: who is asked now */
    struct cli_place places[CLI_TOKENS_MAX]; /* of all shards, as far as the nodes told */
    uint32_t places_count;
    uint8_t active[SHARDS_MAX / 8];        /* shards that exist */
    int status;                            /* of the newest failure: an enum cli_exit */
    uint16_t code;                         /* its refusal; 0 = none */
    char error[2 * ENDPOINT_BYTES_MAX + 300];
    struct cli_wait wait_node, wait_feed;
};

/* Finds nodes and hears how far the logs are, of more nodes when the first one has not got all
 * shards, or has not got as far as `tokens` (may be 0 of them). CLI_DONE, or another status after
 * the error was printed. Zero the struct before. */
int cli_feed_open(struct cli_feed *feed, struct cli *cli, struct cli_cluster_of *cluster,
                  const jumun_token *tokens, uint32_t tokens_count);

/* Sends what `w` holds, a LOCATE or a PULL of marks, to one node after the other, until one answers
 * and has something, for as long as a call may take. The answer for free(), which *reply points
 * into; NULL after the error was printed, with feed->status. */
void *cli_feed_ask(struct cli_feed *feed, const struct msgpack_writer *w, enum feed_kind kind,
                   struct feed_reply *reply);

#endif
