/* What the commands of `jumun cluster` share: talking to nodes by hand, the cluster document, and
 * waiting until the groups are where the document has them. */
#ifndef JUMUN_CLI_CLI_CLUSTER_H
#define JUMUN_CLI_CLI_CLUSTER_H

#include "actors/cluster/cluster.h"
#include "clients/cli/cli.h"
#include "engine/limits.h"
#include "engine/wire/msgpack_writer.h"

enum { CLUSTER_REQUEST_BYTES_MAX = 2 << 20, CLUSTER_SENTENCE_BYTES = 512 };

/* One answer; the value points into `bytes`. All zero is none. */
struct cluster_answer {
    uint32_t code;             /* enum result_code; UINT32_MAX = no answer */
    uint32_t version;
    bool repeated;
    uint32_t retry_after_ms;
    struct bytes value;        /* one msgpack value; of a done one */
    bool stranger;             /* no answer, because it is a replica, or a feed */
    char sentence[CLUSTER_SENTENCE_BYTES]; /* of a refusal, or why there is no answer */
    void *bytes;
};
void cluster_answer_free(struct cluster_answer *answer);

/* A request message in the making: cluster_begin(), then as many values of the body as announced.
 * */
struct cluster_call {
    struct msgpack_writer w;
    uint8_t *buffer;
    uint32_t kind;
};
bool cluster_begin(struct cluster_call *call, uint32_t kind, bool writes, uint32_t fields);
/* The same under an id that is given; NULL = none, it changes nothing. */
bool cluster_begin_as(struct cluster_call *call, uint32_t kind, const struct id128 *id,
                      uint32_t fields);
void cluster_end(struct cluster_call *call);

/* Asks one address, once. True = it answered (done or refused). */
bool cluster_ask(struct cli *cli, const char *address, const struct cluster_call *call,
                 uint32_t timeout_ms, struct cluster_answer *answer);

/* Asks the nodes in turn, under the same id, until one has done or refused it for good or the
 * command's time is up. CLI_DONE with the answer to be freed; else the error was printed. */
int cluster_send(struct cli *cli, const struct cluster_call *call, struct cluster_answer *answer);

/* Address i: of --endpoint, then of the last document; NULL behind the last. Good until the next
 * call. */
const char *cluster_address(struct cli *cli, uint32_t i);

struct cluster_known {
    uint64_t version;          /* 0 = none yet */
    bool of_file;              /* no document, but what nodes say (cli_cluster_file.h) */
    struct cluster_document document;
};

/* Fetches the newest document: from the meta group, or, with `any`, from a node's own copy when the
 * group does not answer. CLI_DONE, or the error was printed. The document stays in memory of this
 * file until the next call. */
int cluster_fetch(struct cli *cli, bool any, const struct cluster_known **known);
const struct cluster_known *cluster_known(void);
/* The newest version that a command of this run has led to. */
uint64_t cluster_version_wanted(void);
/* Whether the first node that gives its copy, which is who is asked next time, has that. */
bool cluster_is_spread(struct cli *cli);
/* Takes one over that came by another way. */
bool cluster_learn(const void *data, size_t bytes, char *sentence, size_t sentence_bytes);

/* A node's STATUS, unpacked; NULL when it does not answer. Free with cluster_status_free(). */
struct cluster_status {
    msgpack_unpacked unpacked;
    const msgpack_object *map;
    struct cluster_answer answer;
    bool stranger;             /* there is none, because it is a replica, or a feed */
    char error[CLUSTER_SENTENCE_BYTES];
};
bool cluster_status_of(struct cli *cli, const char *address, struct cluster_status *status);
void cluster_status_free(struct cluster_status *status);

/* The row of a shard in a node's status; NULL = it has no replica. */
const msgpack_object *cluster_status_shard(const struct cluster_status *status, uint32_t shard);

/* The levels of a cluster that a node can work at, as its status says; 1 where it says nothing. */
void cluster_status_levels(const struct cluster_status *status, uint8_t *min, uint8_t *max);

/* "3", "meta". */
const char *cluster_shard_name(uint32_t shard, char buffer[16]);
/* Reads one; false after a usage error was printed. */
bool cluster_shard_word(struct cli *cli, const char *text, uint32_t *shard);
bool cluster_node_word(struct cli *cli, const char *text, uint32_t *node);

/* cli_cluster_wait.c: waits until all groups are where the document has them, and says what goes
 * on; at once with --no-wait. CLI_DONE, or CLI_NO_ANSWER after a sentence when --wait is over. */
int cluster_wait(struct cli *cli);
/* The same; without `leads`, a node that does not answer need not lead what it shall lead. */
int cluster_wait_for(struct cli *cli, bool leads);
/* The same after a drain (until the node leads nothing) or an undrain (until it leads what it
 * shall): what else is not where it shall be is told at the end, and so is what cannot come to pass
 * while other nodes do not answer. */
int cluster_wait_for_node(struct cli *cli, uint32_t node, bool drained);
/* The same after a transfer: until the shard is led by its preferred node, whatever the other
 * groups do; for a minute unless --wait says something else. */
int cluster_wait_for_lead(struct cli *cli, uint32_t shard);
/* Asks the nodes of the known document whether each shard of the node has another replica that
 * answers, on a node that is not drained. False with a list of those that have none. True of a
 * node that does not answer, or is no active one of the cluster. */
bool cluster_has_successors(struct cli *cli, uint32_t node, char *shards, size_t bytes);

/* cli_cluster_ports.c: whether no node of the known document has a port in use that it would need
 * for a shard which is new among so many. False after a sentence for each node that has. Where
 * nothing is heard of a node, its ports count as free. Connects; waits half a second a node. */
bool cluster_ports_are_free(struct cli *cli, uint32_t shards);

/* What a waiting node says. Its addresses: `client` as given, `peer` as it says, at the same
 * host. */
struct cluster_waiting {
    char client[ENDPOINT_BYTES_MAX], peer[ENDPOINT_BYTES_MAX];
    char cluster_id[CLUSTER_ID_BYTES];
    uint32_t shards, node;     /* of data that is there; 0 = none */
    /* What a document has to have that goes on with this data; count 0 = one epoch of `shards`. */
    struct cluster_epoch epochs[EPOCHS_MAX];
    uint32_t epochs_count, stores_shards;
    uint8_t generation;
    bool knows_generations;    /* a version that does: else the document would lose what stands
                                  above at this node */
    uint8_t level_min, level_max; /* of a cluster that it can work at */
    uint64_t process;          /* the same at another address: it is the same node; 0 = not told */
    bool waits;                /* else it belongs to a cluster already */
};

#endif
