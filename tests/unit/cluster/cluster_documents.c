#include "tests/unit/cluster/cluster_documents.h"

#include <stdio.h>

#include "engine/base/check.h"

void cluster_document_example(struct cluster_document *d) {
    *d = (struct cluster_document){.cluster_id = {{0xc1, [15] = 7}}, .node_last = 3, .replicas = 3,
                                   .stores_shards = 2, .nodes_count = 3, .epochs_count = 1,
                                   .shards_count = 3};
    d->epochs[0].shards_count = 2;
    for (uint32_t i = 0; i < 3; i++) {
        struct cluster_member *m = &d->nodes[i];
        m->node = i + 1;
        m->state = CLUSTER_MEMBER_ACTIVE;
        snprintf(m->peer, sizeof m->peer, "tcp://10.0.0.%u:7300", i + 1);
        snprintf(m->client, sizeof m->client, "tcp://10.0.0.%u:7400", i + 1);
        d->shards[i] = (struct cluster_shard){
            .shard = i < 2 ? i : SHARD_META, .preferred = i + 1, .state = CLUSTER_SHARD_ACTIVE,
            .servers_count = 3, .first_count = 3, .servers = {1, 2, 3}, .first = {1, 2, 3}};
    }
    require(cluster_document_fault(d) == NULL);
}
