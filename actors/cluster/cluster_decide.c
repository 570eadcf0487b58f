/* A command changes a copy of the document; what differs between the two becomes one event. So
 * every command is logged in the same form, and what is decided is what is applied. */
#include "actors/cluster/cluster_decide.h"

static uint16_t check_shape(const struct command *command) {
    if (command->malformed != 0) return command->malformed;
    if (!command_is_for_cluster(command->kind)) return RESULT_UNKNOWN_COMMAND;
    if (command->kind == COMMAND_CLUSTER_GET) return RESULT_OK;
    return id128_is_zero(&command->id) ? RESULT_COMMAND_ID_MISSING : RESULT_OK;
}

static const struct cluster_command_record *find_command(const struct cluster *cluster,
                                                         const struct id128 *id) {
    for (uint32_t i = 0; i < cluster->commands_count; i++)
        if (id128_equal(&cluster_records(cluster)[i].id, id)) return &cluster_records(cluster)[i];
    return NULL;
}

static uint16_t balance(struct cluster_document *next) {
    uint32_t moves = cluster_balance_replicas(next);
    return moves + cluster_balance_leads(next) > 0 ? RESULT_OK : RESULT_CLUSTER_NOTHING_TO_DO;
}

static uint16_t change(struct cluster_document *next, const struct command *command,
                       int64_t now_ms) {
    const struct command_cluster *c = &command->cluster;
    switch (command->kind) {
    case COMMAND_CLUSTER_FORM: return cluster_form(next, c);
    case COMMAND_CLUSTER_ADD_NODE: return cluster_add_node(next, c);
    case COMMAND_CLUSTER_REMOVE_NODE: return cluster_remove_node(next, c);
    case COMMAND_CLUSTER_REPLACE_NODE: return cluster_replace_node(next, c);
    case COMMAND_CLUSTER_READDRESS_NODE: return cluster_readdress_node(next, c);
    case COMMAND_CLUSTER_DRAIN: return cluster_drain(next, c);
    case COMMAND_CLUSTER_UNDRAIN: return cluster_undrain(next, c);
    case COMMAND_CLUSTER_MOVE_REPLICA: return cluster_move(next, c);
    case COMMAND_CLUSTER_PREFER: return cluster_prefer(next, c);
    case COMMAND_CLUSTER_BALANCE: return balance(next);
    case COMMAND_CLUSTER_GROW: return cluster_grow(next, c, now_ms);
    case COMMAND_CLUSTER_CANCEL_GROW: return cluster_cancel_grow(next, now_ms);
    case COMMAND_CLUSTER_RETIRE_SHARD: return cluster_retire(next, c, now_ms);
    case COMMAND_CLUSTER_MOVE_STORES: return cluster_move_stores(next, now_ms);
    case COMMAND_CLUSTER_RAISE_LEVEL: return cluster_raise_level(next, c);
    default: impossible("the shape was checked");
    }
}

static uint32_t node_gone(const struct cluster_document *before,
                          const struct cluster_document *next) {
    for (uint32_t i = 0; i < before->nodes_count; i++)
        if (!cluster_member_find(next, before->nodes[i].node)) return before->nodes[i].node;
    return 0;
}

/* Writes the records of `next` that `before` has not, behind `at`; only counts when `at` is
 * NULL. */
static uint16_t put_nodes(const struct cluster_document *before,
                          const struct cluster_document *next, struct cluster_member *at) {
    uint16_t count = 0;
    for (uint32_t i = 0; i < next->nodes_count; i++) {
        const struct cluster_member *was = cluster_member_find(before, next->nodes[i].node);
        if (was && memcmp(was, &next->nodes[i], sizeof *was) == 0) continue;
        if (at) at[count] = next->nodes[i];
        count++;
    }
    return count;
}

static uint16_t put_shards(const struct cluster_document *before,
                           const struct cluster_document *next, struct cluster_shard *at) {
    uint16_t count = 0;
    for (uint32_t i = 0; i < next->shards_count; i++) {
        const struct cluster_shard *was = cluster_shard_find(before, next->shards[i].shard);
        if (was && memcmp(was, &next->shards[i], sizeof *was) == 0) continue;
        if (at) at[count] = next->shards[i];
        count++;
    }
    return count;
}

static void add_event(const struct actor *actor, const struct cluster_document *before,
                      const struct cluster_document *next, const struct command *cause,
                      struct event_sink *sink) {
    bool epochs = before->epochs_count != next->epochs_count ||
                  memcmp(before->epochs, next->epochs, sizeof next->epochs) != 0;
    struct cluster_changed changed = {
        .cluster_id = next->cluster_id, .node_last = next->node_last,
        .stores_shards = next->stores_shards, .replicas = next->replicas,
        .level = next->level, .generation = next->generation,
        .node_gone = node_gone(before, next), .nodes_count = put_nodes(before, next, NULL),
        .epochs_count = epochs ? next->epochs_count : 0,
        .shards_count = put_shards(before, next, NULL)};
    struct event *event = event_sink_add(sink, EVENT_CLUSTER_CHANGED, CLUSTER_EVENT_SCHEMA,
                                         cluster_changed_bytes(&changed), &cause->trace);
    event->state_before = actor ? actor->state : 0;
    event->state_after = CLUSTER_STATE_FORMED;
    event->version = (actor ? actor->version : 0) + 1;
    event->cause_kind = cause->kind;
    event->prev_index = actor ? actor->last_index : 0;
    event->subject = cluster_key();
    event->cause = cause->id;
    struct cluster_changed *written = (struct cluster_changed *)(void *)(event + 1);
    *written = changed;
    put_nodes(before, next,
              (struct cluster_member *)(uintptr_t)cluster_changed_nodes(written));
    if (epochs)
        memcpy((void *)(uintptr_t)cluster_changed_epochs(written), next->epochs,
               next->epochs_count * sizeof next->epochs[0]);
    put_shards(before, next,
               (struct cluster_shard *)(uintptr_t)cluster_changed_shards(written));
}

struct decision cluster_decide(const struct actor *actor, const struct command *command,
                               const struct decide_context *context, struct event_sink *sink) {
    static const struct cluster_document nothing;
    const struct cluster_document *before = actor ? cluster_document_of(actor) : &nothing;
    uint32_t version = actor ? actor->version : 0;
    uint16_t code = check_shape(command);
    if (code != RESULT_OK) return (struct decision){code, false, version};
    if (command->kind == COMMAND_CLUSTER_GET)
        return (struct decision){actor ? RESULT_OK : RESULT_CLUSTER_NOT_FORMED, false, version};
    const struct cluster_command_record *record =
        actor ? find_command(cluster_of(actor), &command->id) : NULL;
    if (record) {
        bool same = record->kind == command->kind;
        return (struct decision){same ? RESULT_OK : RESULT_COMMAND_ID_REUSED, same,
                                 same ? record->version : version};
    }
    bool forms = command->kind == COMMAND_CLUSTER_FORM;
    if (command->expected_version != 0 && command->expected_version != version)
        code = RESULT_VERSION_CONFLICT;
    else if (!actor && !forms) code = RESULT_CLUSTER_NOT_FORMED;
    else if (actor && forms) code = RESULT_CLUSTER_FORMED_ALREADY;
    if (code != RESULT_OK) return (struct decision){code, false, version};
    struct cluster_document next = *before;
    code = change(&next, command, context->now_ms);
    if (code != RESULT_OK) return (struct decision){code, false, version};
    require(cluster_document_fault(&next) == NULL);
    add_event(actor, before, &next, command, sink);
    return (struct decision){RESULT_OK, false, version + 1};
}
