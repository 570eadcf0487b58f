#include "actors/cluster/cluster_layout.h"

struct id128 cluster_key(void) {
    return (struct id128){{'c', 'l', 'u', 's', 't', 'e', 'r', ' ', 'd', 'o', 'c', 'u', 'm', 'e',
                           'n', 't'}};
}

const struct cluster_document *cluster_document_of(const struct actor *actor) {
    return &cluster_of(actor)->document;
}

/* Replaces the record of this number, or puts it where it belongs. */
static void put_node(struct cluster_document *d, const struct cluster_member *record) {
    uint32_t at = 0;
    while (at < d->nodes_count && d->nodes[at].node < record->node) at++;
    if (at == d->nodes_count || d->nodes[at].node != record->node) {
        require(d->nodes_count < NODES_MAX);
        memmove(&d->nodes[at + 1], &d->nodes[at], (d->nodes_count - at) * sizeof d->nodes[0]);
        d->nodes_count++;
    }
    d->nodes[at] = *record;
}

static void drop_node(struct cluster_document *d, uint32_t node) {
    uint32_t at = 0;
    while (at < d->nodes_count && d->nodes[at].node != node) at++;
    if (at == d->nodes_count) return;
    d->nodes_count--;
    memmove(&d->nodes[at], &d->nodes[at + 1], (d->nodes_count - at) * sizeof d->nodes[0]);
    memset(&d->nodes[d->nodes_count], 0, sizeof d->nodes[0]);
}

static void put_shard(struct cluster_document *d, const struct cluster_shard *record) {
    uint32_t at = 0;
    while (at < d->shards_count && d->shards[at].shard < record->shard) at++;
    if (at == d->shards_count || d->shards[at].shard != record->shard) {
        require(d->shards_count <= SHARDS_MAX);
        memmove(&d->shards[at + 1], &d->shards[at], (d->shards_count - at) * sizeof d->shards[0]);
        d->shards_count++;
    }
    d->shards[at] = *record;
}

static void put_changed(struct cluster_document *d, const struct cluster_changed *changed) {
    d->cluster_id = changed->cluster_id;
    d->node_last = changed->node_last;
    d->stores_shards = changed->stores_shards;
    d->replicas = changed->replicas;
    d->level = changed->level;
    d->generation = changed->generation;
    drop_node(d, changed->node_gone);
    for (uint32_t i = 0; i < changed->nodes_count; i++)
        put_node(d, &cluster_changed_nodes(changed)[i]);
    for (uint32_t i = 0; i < changed->shards_count; i++)
        put_shard(d, &cluster_changed_shards(changed)[i]);
    if (changed->epochs_count == 0) return;
    memset(d->epochs, 0, sizeof d->epochs);
    memcpy(d->epochs, cluster_changed_epochs(changed),
           changed->epochs_count * sizeof d->epochs[0]);
    d->epochs_count = changed->epochs_count;
}

static void remember(struct cluster *c, const struct event *event) {
    struct cluster_command_record *records = (struct cluster_command_record *)(void *)(c + 1);
    if (c->commands_count == CLUSTER_COMMANDS_MAX) {
        memmove(records, records + 1, (CLUSTER_COMMANDS_MAX - 1) * sizeof *records);
        c->commands_count--;
    }
    records[c->commands_count++] = (struct cluster_command_record){
        .id = event->cause, .version = event->version, .kind = (uint8_t)event->cause_kind};
    c->actor.bytes = cluster_bytes_of_sections(c);
}

uint32_t cluster_bytes_after(const struct actor *actor, const struct event *event) {
    uint32_t before = actor && actor->bytes != 0 ? actor->bytes : (uint32_t)sizeof(struct cluster);
    return before + (uint32_t)sizeof(struct cluster_command_record);
}

void cluster_apply(struct actor *actor, const struct event *event,
                   const struct apply_context *context) {
    require(event->version == actor->version + 1);
    struct cluster *c = (struct cluster *)(void *)actor;
    actor->kind = ACTOR_CLUSTER;
    actor->schema = CLUSTER_SCHEMA;
    actor->state = CLUSTER_STATE_FORMED;
    actor->key = event->subject;
    put_changed(&c->document, event_payload(event));
    remember(c, event);
    actor->version++;
    actor->last_index = context->index;
}

bool cluster_is_well_formed(const void *block, uint32_t bytes) {
    const struct cluster *c = block;
    if (!block || bytes < sizeof *c || ((uintptr_t)block & 7u) != 0) return false;
    return c->actor.bytes == bytes && c->actor.kind == ACTOR_CLUSTER &&
           c->actor.schema == CLUSTER_SCHEMA && c->actor.state == CLUSTER_STATE_FORMED &&
           c->commands_count <= CLUSTER_COMMANDS_MAX && cluster_bytes_of_sections(c) == bytes &&
           cluster_document_fault(&c->document) == NULL;
}

bool cluster_event_is_well_formed(const struct event *event) {
    if (!event_is_whole(event) || event->bytes > EVENT_BYTES_MAX ||
        event_payload_bytes(event) < sizeof(struct cluster_changed) ||
        event->schema != CLUSTER_EVENT_SCHEMA || event->version == 0 ||
        event->state_after != CLUSTER_STATE_FORMED || event->kind != EVENT_CLUSTER_CHANGED) {
        return false;
    }
    const struct cluster_changed *changed = event_payload(event);
    if (changed->nodes_count > NODES_MAX || changed->epochs_count > EPOCHS_MAX ||
        changed->shards_count > SHARDS_MAX + 1)
        return false;
    if (event_payload_bytes(event) != cluster_changed_bytes(changed)) return false;
    for (uint32_t i = 0; i < changed->nodes_count; i++)
        if (cluster_changed_nodes(changed)[i].node == 0) return false;
    for (uint32_t i = 0; i < changed->shards_count; i++) {
        const struct cluster_shard *s = &cluster_changed_shards(changed)[i];
        if ((s->shard >= SHARDS_MAX && s->shard != SHARD_META) ||
            s->servers_count > REPLICAS_MAX || s->first_count > REPLICAS_MAX)
            return false;
    }
    return true;
}
