#include "clients/cli/cli_cluster_damage.h"

#include "clients/cli/cli_damage.h"

bool cluster_damage_fault(const struct cluster_document *d, const struct cluster_status *statuses,
                          const struct cluster_there *there, uint32_t node_at, uint32_t shard_at,
                          char *out, size_t bytes) {
    struct cli_damage damage;
    char text[400], name[16];
    uint32_t node = d->nodes[node_at].node, shard = d->shards[shard_at].shard;
    if (!cluster_there_counts(&there[node_at]) ||
        !cli_damage_of(cluster_status_shard(&statuses[node_at], shard), &damage))
        return false;
    snprintf(out, bytes, "shard %s: node %u is damaged on its disk: %s. Put an empty node in its "
             "place: jumun cluster replace %u URL", cluster_shard_name(shard, name), node,
             cli_damage_text(&damage, text, sizeof text), node);
    return true;
}
