/* What really answers at the addresses of a cluster's members, which the document cannot know. */
#ifndef JUMUN_CLI_CLI_CLUSTER_THERE_H
#define JUMUN_CLI_CLI_CLUSTER_THERE_H

#include "clients/cli/cli_cluster.h"
#include "engine/limits.h"

enum cluster_there_kind {
    CLUSTER_THERE_MEMBER,      /* the node that the document says */
    CLUSTER_THERE_FULL,        /* it, and its disk has no room */
    CLUSTER_THERE_WAITS,       /* a node that waits to be taken in */
    CLUSTER_THERE_STRANGER,    /* a node alone, of another cluster, or another one of this one */
    CLUSTER_THERE_SILENT,      /* nobody that could be understood; for a removed member, too */
    CLUSTER_THERE_KINDS
};

struct cluster_there {
    enum cluster_there_kind kind;
    char who[128];             /* of a stranger, and of what waits; else "" */
    char cluster_id[CLUSTER_ID_BYTES]; /* as it says; "" = it says none */
    uint32_t node;             /* as it says; 0 = it says none */
};

/* For programs: "member", "disk_full", "waits", "stranger", "silent". */
const char *cluster_there_name(enum cluster_there_kind kind);

/* Whether what it says of shards is about those of the cluster. */
static inline bool cluster_there_counts(const struct cluster_there *t) {
    return t->kind == CLUSTER_THERE_MEMBER || t->kind == CLUSTER_THERE_FULL;
}

/* `status`: NULL = it does not answer. */
void cluster_there_of(const struct cluster_document *d, const struct cluster_member *m,
                      const struct cluster_status *status, struct cluster_there *out);

/* What is wrong at a member's place and what to do; false = nothing is. */
bool cluster_there_fault(const struct cluster_member *m, const struct cluster_there *t, char *out,
                         size_t bytes);

/* What a group lacks to serve; `t` by position in the document, `led`: whether one of its nodes
 * says that it leads. False = nothing. */
bool cluster_there_group_fault(const struct cluster_document *d, const struct cluster_shard *s,
                               const struct cluster_there *t, bool led, char *out, size_t bytes);

#endif
