#include "engine/router/split.h"

#include <string.h>

#include "engine/base/check.h"

/* Commands from 100 on are for the node, but for those of the cluster, see actors/command.h. */
enum { SPLIT_NODE_COMMANDS_FROM = 100, SPLIT_META_SLOT = SHARDS_MAX };

bool split_is_local(const struct command *command) {
    return command->malformed != 0 || (command->kind >= SPLIT_NODE_COMMANDS_FROM &&
                                       !command_is_for_cluster(command->kind));
}

/* Notes the shard of each command and counts them by slot. Returns the commands that go to one. */
static uint32_t split_route(const struct shard_map *map, const struct request *request,
                            uint32_t *counts, struct split *split) {
    uint32_t routed = 0;
    for (uint32_t i = 0; i < request->commands_count; i++) {
        const struct command *c = &request->commands[i];
        if (split_is_local(c)) {
            split->shard_of[i] = SPLIT_NO_SHARD;
            continue;
        }
        uint32_t shard = shard_map_route(map, c);
        split->shard_of[i] = shard;
        counts[local_shards_slot(shard)]++;
        routed++;
    }
    return routed;
}

static void split_part_init(struct request_part *part, struct request *request,
                            const uint32_t *positions, uint32_t count, uint64_t message_bytes) {
    *part = (struct request_part){.request = request, .positions = positions, .count = count};
    /* What waits is the decoded form as well as its share of the message. */
    part->bytes = count * (sizeof(struct command) + sizeof(struct result)) +
                  message_bytes * count / request->commands_count;
}

void split_request(const struct shard_map *map, struct request *request, uint64_t message_bytes,
                   uint32_t expected_shard, struct split *split) {
    uint32_t counts[LOCAL_SHARDS_SLOTS], next[LOCAL_SHARDS_SLOTS];
    memset(counts, 0, map->shards_count * sizeof counts[0]);
    counts[SPLIT_META_SLOT] = 0;
    uint32_t routed = split_route(map, request, counts, split);
    uint32_t parts = 0, position = 0;
    for (uint32_t i = 0; i <= map->shards_count; i++) {
        uint32_t slot = i < map->shards_count ? i : SPLIT_META_SLOT;
        if (counts[slot] == 0) continue;
        bool whole = counts[slot] == request->commands_count;
        next[slot] = position;
        split->part_shards[parts] = local_shards_number(slot);
        split_part_init(&split->parts[parts++], request,
                        whole ? NULL : split->positions + position, counts[slot], message_bytes);
        position += counts[slot];
    }
    require(position == routed);
    for (uint32_t i = 0; i < request->commands_count && parts > 0; i++) {
        if (split->shard_of[i] != SPLIT_NO_SHARD)
            split->positions[next[local_shards_slot(split->shard_of[i])]++] = i;
    }
    split->parts_count = parts;
    split->stray_commands = 0;
    if (expected_shard != SPLIT_NO_SHARD) split->stray_commands = routed - counts[expected_shard];
    atomic_store_explicit(&request->parts_left, parts + 1, memory_order_relaxed);
}

void split_release(struct request *request) {
    if (atomic_fetch_sub_explicit(&request->parts_left, 1, memory_order_acq_rel) == 1)
        request->done(request);
}
