/* Commands about nodes and where replicas are. */
#include "actors/cluster/cluster_decide.h"

#include "engine/base/program.h"

/* "scheme://something", no blanks and nothing that is not ASCII. Whether somebody listens there is
 * found out by whoever connects. */
static bool address_is_right(struct bytes address) {
    static const char mark[3] = {':', '/', '/'};
    const char *text = address.data;
    if (address.size < 5 || address.size >= ENDPOINT_BYTES_MAX) return false;
    for (uint32_t i = 0; i < address.size; i++)
        if (text[i] <= ' ' || text[i] > '~') return false;
    for (uint32_t i = 1; i + sizeof mark < address.size; i++)
        if (memcmp(text + i, mark, sizeof mark) == 0) return true;
    return false;
}

static uint16_t check_addresses(struct bytes peer, struct bytes client) {
    if (peer.size == 0 || client.size == 0) return RESULT_FIELD_MISSING;
    if (bytes_equal(peer, client)) return RESULT_CLUSTER_NODE_TWICE;
    return address_is_right(peer) && address_is_right(client) ? RESULT_OK
                                                              : RESULT_CLUSTER_ENDPOINT_INVALID;
}

static void set_text(char out[ENDPOINT_BYTES_MAX], struct bytes text) {
    memset(out, 0, ENDPOINT_BYTES_MAX);
    memcpy(out, text.data, text.size);
}

/* Whether another node than `but`, a removed one aside, uses one of the addresses. */
static bool address_is_taken(const struct cluster_document *d, struct bytes peer,
                             struct bytes client, uint32_t but) {
    char texts[2][ENDPOINT_BYTES_MAX];
    set_text(texts[0], peer);
    set_text(texts[1], client);
    for (uint32_t i = 0; i < d->nodes_count; i++) {
        const struct cluster_member *m = &d->nodes[i];
        if (m->node == but || m->state == CLUSTER_MEMBER_REMOVED) continue;
        for (uint32_t k = 0; k < 2; k++)
            if (memcmp(m->peer, texts[k], sizeof m->peer) == 0 ||
                memcmp(m->client, texts[k], sizeof m->client) == 0)
                return true;
    }
    return false;
}

/* Puts an active node into the list; when it is full, in the place of the removed one of the lowest
 * number. */
static void put_member(struct cluster_document *d, uint32_t node, struct bytes peer,
                       struct bytes client) {
    uint32_t at = 0;
    if (d->nodes_count == NODES_MAX) {
        uint32_t gone = 0;
        while (d->nodes[gone].state != CLUSTER_MEMBER_REMOVED) gone++;
        d->nodes_count--;
        memmove(&d->nodes[gone], &d->nodes[gone + 1],
                (d->nodes_count - gone) * sizeof d->nodes[0]);
    }
    while (at < d->nodes_count && d->nodes[at].node < node) at++;
    memmove(&d->nodes[at + 1], &d->nodes[at], (d->nodes_count - at) * sizeof d->nodes[0]);
    d->nodes_count++;
    d->nodes[at] = (struct cluster_member){.node = node, .state = CLUSTER_MEMBER_ACTIVE};
    set_text(d->nodes[at].peer, peer);
    set_text(d->nodes[at].client, client);
    if (node > d->node_last) d->node_last = node;
}

static uint32_t members_count(const struct cluster_document *d) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < d->nodes_count; i++)
        if (d->nodes[i].state != CLUSTER_MEMBER_REMOVED) count++;
    return count;
}

/* RESULT_OK when the node is one of the cluster's. */
static uint16_t check_member(const struct cluster_document *d, uint32_t node) {
    const struct cluster_member *m = cluster_member_find(d, node);
    if (!m) return node != 0 && node <= d->node_last ? RESULT_CLUSTER_NODE_IS_REMOVED
                                                     : RESULT_CLUSTER_NODE_UNKNOWN;
    return m->state == CLUSTER_MEMBER_REMOVED ? RESULT_CLUSTER_NODE_IS_REMOVED : RESULT_OK;
}

static uint16_t check_active_member(const struct cluster_document *d, uint32_t node) {
    uint16_t code = check_member(d, node);
    if (code != RESULT_OK) return code;
    return cluster_member_find(d, node)->state == CLUSTER_MEMBER_ACTIVE
               ? RESULT_OK
               : RESULT_CLUSTER_NODE_NOT_ACTIVE;
}

/* Whether each shard that runs has a replica on an active node. */
static bool all_can_be_led(const struct cluster_document *d) {
    for (uint32_t i = 0; i < d->shards_count; i++) {
        const struct cluster_shard *s = &d->shards[i];
        bool active = s->state != CLUSTER_SHARD_ACTIVE;
        for (uint32_t k = 0; k < s->servers_count && !active; k++) {
            uint32_t node = cluster_server_node(s->servers[k]);
            active = cluster_member_find(d, node)->state == CLUSTER_MEMBER_ACTIVE;
        }
        if (!active) return false;
    }
    return true;
}

/* -- forming ----------------------------------------------------------------------------------- */

static uint16_t check_form(const struct command_cluster *c) {
    if (id128_is_zero(&c->cluster_id)) return RESULT_FIELD_MISSING;
    for (uint32_t i = 0; i < c->nodes_count; i++)
        if (c->nodes[i].peer.size == 0 || c->nodes[i].client.size == 0)
            return RESULT_FIELD_MISSING;
    if (c->nodes_count < 3 || c->nodes_count < c->replicas) return RESULT_CLUSTER_NODES_TOO_FEW;
    if (c->nodes_count > NODES_MAX) return RESULT_CLUSTER_NODES_TOO_MANY;
    for (uint32_t i = 0; i < c->nodes_count; i++)
        for (uint32_t k = 0; k < i; k++)
            if (c->nodes[i].node == c->nodes[k].node) return RESULT_CLUSTER_NODE_TWICE;
    return RESULT_OK;
}

/* Those that the orders which are there were spread by; else one of all shards. */
static uint16_t take_epochs(struct cluster_document *d, const struct command_cluster *c) {
    d->epochs_count = 1;
    d->epochs[0].shards_count = c->shards;
    d->stores_shards = c->shards;
    if (c->epochs_count == 0) return RESULT_OK;
    if (!c->seeded || c->epochs_count > EPOCHS_MAX || c->stores_shards < 1 ||
        c->stores_shards > c->shards)
        return RESULT_CLUSTER_SHARDS_INVALID;
    for (uint32_t i = 0; i < c->epochs_count; i++) {
        const struct cluster_epoch *e = &c->epochs[i];
        bool follows = i == 0 ? e->from_ms == 0 : e->from_ms > e[-1].from_ms;
        if (!follows || e->shards_count < 1 || e->shards_count > c->shards)
            return RESULT_CLUSTER_SHARDS_INVALID;
        d->epochs[i] = (struct cluster_epoch){.from_ms = e->from_ms,
                                              .shards_count = e->shards_count};
    }
    d->epochs_count = (uint16_t)c->epochs_count;
    d->stores_shards = c->stores_shards;
    return RESULT_OK;
}

uint16_t cluster_form(struct cluster_document *d, const struct command_cluster *c) {
    uint16_t code = check_form(c);
    if (code != RESULT_OK) return code;
    d->cluster_id = c->cluster_id;
    d->replicas = (uint8_t)c->replicas;
    d->level = c->level == LEVEL_FIRST ? 0 : c->level;
    d->generation = c->generation;
    for (uint32_t i = 0; i < c->nodes_count; i++) {
        const struct cluster_founder *f = &c->nodes[i];
        if (f->node == 0) return RESULT_CLUSTER_NODE_UNKNOWN;
        code = check_addresses(f->peer, f->client);
        if (code == RESULT_OK && address_is_taken(d, f->peer, f->client, 0))
            code = RESULT_CLUSTER_NODE_TWICE;
        if (code != RESULT_OK) return code;
        put_member(d, f->node, f->peer, f->client);
    }
    if (c->replicas < 3 || c->replicas > REPLICAS_MAX || c->replicas % 2 == 0)
        return RESULT_CLUSTER_REPLICAS_INVALID;
    /* Orders that are there already are on one node, which has to have a replica of every shard. */
    if (c->seeded && c->nodes_count != c->replicas) return RESULT_CLUSTER_REPLICAS_INVALID;
    if (c->shards < 1 || c->shards > SHARDS_MAX) return RESULT_CLUSTER_SHARDS_INVALID;
    code = take_epochs(d, c);
    if (code != RESULT_OK) return code;
    /* The meta group first: it gets the first nodes of the list. */
    d->shards_count = (uint16_t)(c->shards + 1);
    for (uint32_t i = 0; i <= c->shards; i++) d->shards[i].shard = i < c->shards ? i : SHARD_META;
    for (uint32_t i = 0; i <= c->shards; i++) {
        struct cluster_shard *s = &d->shards[(i + c->shards) % (c->shards + 1)];
        bool founding = s->shard == SHARD_META || !c->seeded;
        bool placed = cluster_place_shard(d, s, founding);
        require(placed);
        s->state = CLUSTER_SHARD_ACTIVE;
    }
    cluster_balance_leads(d);
    return RESULT_OK;
}

/* -- nodes ------------------------------------------------------------------------------------- */

static uint16_t check_new_node(const struct cluster_document *d, const struct command_cluster *c,
                               uint32_t leaving) {
    uint16_t code = check_addresses(c->peer, c->client);
    if (code == RESULT_FIELD_MISSING) return code;
    if (members_count(d) == NODES_MAX && leaving == 0) return RESULT_CLUSTER_NODES_TOO_MANY;
    if (code != RESULT_OK) return code;
    return address_is_taken(d, c->peer, c->client, leaving) ? RESULT_CLUSTER_NODE_TWICE : RESULT_OK;
}

uint16_t cluster_add_node(struct cluster_document *d, const struct command_cluster *c) {
    uint16_t code = check_new_node(d, c, 0);
    if (code == RESULT_OK) put_member(d, d->node_last + 1, c->peer, c->client);
    return code;
}

uint16_t cluster_remove_node(struct cluster_document *d, const struct command_cluster *c) {
    uint16_t code = check_member(d, c->node);
    if (code != RESULT_OK) return code;
    cluster_member_in(d, c->node)->state = CLUSTER_MEMBER_REMOVED;
    for (uint32_t i = 0; i < d->shards_count; i++) {
        struct cluster_shard *s = &d->shards[i];
        if (s->state != CLUSTER_SHARD_ACTIVE || !cluster_server_on(s, c->node)) continue;
        uint32_t to = cluster_pick_node(d, s);
        if (to == 0) return RESULT_CLUSTER_NODES_TOO_FEW;
        cluster_move_replica(s, c->node, to);
    }
    cluster_balance_leads(d);
    return RESULT_OK;
}

uint16_t cluster_replace_node(struct cluster_document *d, const struct command_cluster *c) {
    uint16_t code = check_member(d, c->node);
    if (code == RESULT_OK) code = check_new_node(d, c, c->node);
    if (code != RESULT_OK) return code;
    cluster_member_in(d, c->node)->state = CLUSTER_MEMBER_REMOVED;
    uint32_t node = d->node_last + 1;
    for (uint32_t i = 0; i < d->shards_count; i++) {
        struct cluster_shard *s = &d->shards[i];
        if (s->state == CLUSTER_SHARD_ACTIVE && cluster_server_on(s, c->node))
            cluster_move_replica(s, c->node, node);
    }
    put_member(d, node, c->peer, c->client);
    return RESULT_OK;
}

uint16_t cluster_readdress_node(struct cluster_document *d, const struct command_cluster *c) {
    uint16_t code = check_addresses(c->peer, c->client);
    if (code == RESULT_FIELD_MISSING) return code;
    uint16_t of_node = check_member(d, c->node);
    if (code == RESULT_OK && address_is_taken(d, c->peer, c->client, c->node))
        code = RESULT_CLUSTER_NODE_TWICE;
    /* By precedence: what is named twice, then the node, then the form of the address. */
    if (code == RESULT_CLUSTER_NODE_TWICE) return code;
    if (of_node != RESULT_OK || code != RESULT_OK) return of_node != RESULT_OK ? of_node : code;
    struct cluster_member *m = cluster_member_in(d, c->node), before = *m;
    set_text(m->peer, c->peer);
    set_text(m->client, c->client);
    return memcmp(m, &before, sizeof before) == 0 ? RESULT_CLUSTER_NOTHING_TO_DO : RESULT_OK;
}

uint16_t cluster_drain(struct cluster_document *d, const struct command_cluster *c) {
    uint16_t code = check_active_member(d, c->node);
    if (code != RESULT_OK) return code;
    cluster_member_in(d, c->node)->state = CLUSTER_MEMBER_DRAINING;
    return all_can_be_led(d) ? RESULT_OK : RESULT_CLUSTER_LAST_ACTIVE;
}

uint16_t cluster_undrain(struct cluster_document *d, const struct command_cluster *c) {
    uint16_t code = check_member(d, c->node);
    if (code != RESULT_OK) return code;
    struct cluster_member *m = cluster_member_in(d, c->node);
    if (m->state != CLUSTER_MEMBER_DRAINING) return RESULT_CLUSTER_NODE_NOT_DRAINING;
    m->state = CLUSTER_MEMBER_ACTIVE;
    return RESULT_OK;
}

/* -- replicas and leads ------------------------------------------------------------------------ */

static uint16_t check_shard(const struct cluster_document *d, uint32_t shard) {
    const struct cluster_shard *s = cluster_shard_find(d, shard);
    if (!s) return RESULT_CLUSTER_SHARD_UNKNOWN;
    return s->state == CLUSTER_SHARD_RETIRED ? RESULT_CLUSTER_SHARD_IS_RETIRED : RESULT_OK;
}

uint16_t cluster_move(struct cluster_document *d, const struct command_cluster *c) {
    uint16_t from = check_member(d, c->node), to = check_active_member(d, c->to);
    if (from != RESULT_OK) return from;
    if (to != RESULT_OK && to != RESULT_CLUSTER_NODE_NOT_ACTIVE) return to;
    uint16_t code = check_shard(d, c->shard);
    if (code != RESULT_OK) return code;
    struct cluster_shard *s = cluster_shard_in(d, c->shard);
    if (!cluster_server_on(s, c->node)) return RESULT_CLUSTER_NO_REPLICA_THERE;
    if (cluster_server_on(s, c->to)) return RESULT_CLUSTER_REPLICA_THERE;
    if (to != RESULT_OK) return to;
    cluster_move_replica(s, c->node, c->to);
    return all_can_be_led(d) ? RESULT_OK : RESULT_CLUSTER_LAST_ACTIVE;
}

uint16_t cluster_prefer(struct cluster_document *d, const struct command_cluster *c) {
    uint16_t node = check_active_member(d, c->node);
    if (node != RESULT_OK && node != RESULT_CLUSTER_NODE_NOT_ACTIVE) return node;
    uint16_t code = check_shard(d, c->shard);
    if (code != RESULT_OK) return code;
    struct cluster_shard *s = cluster_shard_in(d, c->shard);
    if (!cluster_server_on(s, c->node)) return RESULT_CLUSTER_NO_REPLICA_THERE;
    if (node != RESULT_OK) return node;
    if (s->preferred == c->node) return RESULT_CLUSTER_NOTHING_TO_DO;
    s->preferred = c->node;
    return RESULT_OK;
}

/* -- the level --------------------------------------------------------------------------------- */

/* Each node has to be named by whoever has asked it: one that cannot read what is written from then
 * on would be lost, and perhaps a majority with it. */
uint16_t cluster_raise_level(struct cluster_document *d, const struct command_cluster *c) {
    if (c->level <= program_level(d->level)) return RESULT_CLUSTER_NOTHING_TO_DO;
    if (c->level > program.level_max) return RESULT_CLUSTER_LEVEL_UNSUPPORTED;
    for (uint32_t i = 0; i < d->nodes_count; i++) {
        bool named = d->nodes[i].state == CLUSTER_MEMBER_REMOVED;
        for (uint32_t k = 0; k < c->supporting_count && !named; k++)
            named = c->supporting[k] == d->nodes[i].node;
        if (!named) return RESULT_CLUSTER_LEVEL_UNSUPPORTED;
    }
    d->level = c->level;
    return RESULT_OK;
}
