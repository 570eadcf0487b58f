/* Judges each group of replicas: what is called committed lies on a majority of disks; all replicas
 * hold the same record under each committed index; a term has one leader; nothing durable and
 * committed changes in a crash; in the end all states are equal.
 *
 * The group's log as the auditor keeps it is the committed one: an entry enters it when the first
 * replica says that it is committed, and is judged there and then. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/shard/shard_internal.h"
#include "engine/wire/routing.h"
#include "tests/sim/sim.h"

enum { ROLE_VOTER = 1 }; /* in a configuration's encoding, see docs/formats.md */

void hashes_add(struct audit_hashes *h, uint64_t hash) {
    if (h->count == h->capacity) {
        h->capacity = h->capacity ? 2 * h->capacity : 256;
        h->items = realloc(h->items, h->capacity * sizeof *h->items);
        require(h->items != NULL);
    }
    h->items[h->count++] = hash;
}

void audit_free(struct sim *sim) {
    for (uint32_t s = 0; s < SIM_SHARDS_MAX; s++) {
        free(sim->audit[s].records.items);
        free(sim->audit[s].leaders.items);
        for (uint32_t p = 0; p < SIM_SHARDS_MAX; p++) {
            free(sim->audit[s].sent[p].items);
            free(sim->audit[s].seen[p].items);
        }
    }
}

/* -- configurations ---------------------------------------------------------------------------- */

/* version byte, count, then for each server: id, address with its end, role. */
static bool decode(const uint8_t *at, uint32_t bytes, struct audit_configuration *c) {
    const uint8_t *end = at + bytes;
    uint64_t count;
    if (bytes < 9 || at[0] != 1) return false;
    memcpy(&count, at + 1, 8);
    at += 9;
    if (count > CONSENSUS_SERVERS_MAX) return false;
    for (c->count = 0; c->count < count; c->count++) {
        if (end - at < 10) return false;
        memcpy(&c->servers[c->count], at, 8);
        const uint8_t *zero = memchr(at + 8, 0, (size_t)(end - at - 8));
        if (zero == NULL || zero + 1 >= end) return false;
        c->voter[c->count] = zero[1] == ROLE_VOTER;
        at = zero + 2;
    }
    return true;
}

static struct sim_replica *replica_of(const struct sim *sim, uint32_t group, uint64_t server) {
    uint32_t n = consensus_server_node(server) - 1;
    struct sim_replica *r = n < sim->options.nodes ? sim->nodes[n].replicas[group] : NULL;
    if (r != NULL && r->server_id == server) return r;
    /* Its disk is lost, and what it had acknowledged may be counted yet. */
    for (r = sim->groups[group].given_up; r != NULL && r->server_id != server;) r = r->next;
    return r;
}

/* -- majorities -------------------------------------------------------------------------------- */

static const struct record_header *record_of(const struct sim_replica *r, uint64_t index,
                                             const void **payload) {
    return storage_memory_record(r->disk, index, payload);
}

/* Has this record on its disk, or a state that reflects it. */
static bool holds(const struct sim_replica *r, uint64_t index, uint64_t hash) {
    const void *payload;
    const struct record_header *h = record_of(r, index, &payload);
    if (h != NULL) return h->checksum == hash;
    return storage_memory_marker(r->disk) >= index;
}

static bool is_majority(const struct sim *sim, uint32_t group,
                        const struct audit_configuration *c, uint64_t index, uint64_t hash) {
    uint32_t voters = 0, holders = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        if (!c->voter[i]) continue;
        voters++;
        const struct sim_replica *r = replica_of(sim, group, c->servers[i]);
        holders += r != NULL && holds(r, index, hash);
    }
    return voters > 0 && 2 * holders > voters;
}

/* The newest configuration counts, committed or not: as the replica that commits sees it. */
static void configuration_at(const struct sim_replica *r, struct audit_configuration *c) {
    struct consensus_group group;
    consensus_group(r->shard->consensus, r->sim->mono_ms, &group);
    *c = (struct audit_configuration){.count = group.count};
    for (uint32_t i = 0; i < group.count; i++) {
        c->servers[i] = group.servers[i].id;
        c->voter[i] = group.servers[i].role == CONSENSUS_VOTER;
    }
}

/* Of all records that lie on disks under this index the one that a majority has. */
static const struct record_header *committed_record(const struct sim_replica *by, uint64_t index,
                                                    const void **payload) {
    const struct sim *sim = by->sim;
    struct audit_configuration newest;
    configuration_at(by, &newest);
    const struct audit_configuration *committed = &sim->audit[by->group].configuration;
    for (uint32_t n = 0; n < sim->options.nodes; n++) {
        const struct sim_replica *r = sim->nodes[n].replicas[by->group];
        const struct record_header *h = r != NULL ? record_of(r, index, payload) : NULL;
        if (h == NULL || r->rotten) continue;
        if (index == 1) return h; /* the founding one is the same everywhere, if need be again */
        if (is_majority(sim, by->group, &newest, index, h->checksum)) return h;
        if (is_majority(sim, by->group, committed, index, h->checksum)) return h;
    }
    return NULL;
}

/* Who has what, for the report: "node 2/1 standby: log 5..19, marker 7, term 3 under it". */
static void group_tell(const struct sim_replica *by, uint64_t index, char *text, size_t bytes) {
    struct audit_configuration c;
    size_t at = 0;
    configuration_at(by, &c);
    for (uint32_t i = 0; i < c.count && at < bytes; i++) {
        const void *payload;
        const struct sim_replica *r = replica_of(by->sim, by->group, c.servers[i]);
        const struct record_header *h = r != NULL ? record_of(r, index, &payload) : NULL;
        at += (size_t)snprintf(text + at, bytes - at, "; node %u/%u%s",
                               consensus_server_node(c.servers[i]),
                               (uint32_t)(c.servers[i] >> 32), c.voter[i] ? "" : " standby");
        if (r == NULL || at >= bytes) continue;
        at += (size_t)snprintf(text + at, bytes - at, ": log %lu..%lu, marker %lu, term %ld",
                               (unsigned long)storage_memory_durable_first(r->disk),
                               (unsigned long)storage_memory_durable_last(r->disk),
                               (unsigned long)storage_memory_marker(r->disk),
                               h != NULL ? (long)h->term : -1L);
    }
}

static void audit_commit(struct sim_replica *by, uint64_t index) {
    struct sim *sim = by->sim;
    struct audit_shard *a = &sim->audit[by->group];
    const void *payload = NULL;
    const struct record_header *h = committed_record(by, index, &payload);
    if (h == NULL || record_fault(h, sizeof *h + h->payload_bytes, index) != NULL) {
        char text[256] = "";
        group_tell(by, index, text, sizeof text);
        sim_fail(sim, SIM_CORRECTNESS,
                 "shard %u, entry %lu is committed for node %u, and not on a majority of disks%s",
                 by->group, (unsigned long)index, by->node + 1, text);
        return;
    }
    if (h->term < a->term) {
        sim_fail(sim, SIM_CORRECTNESS, "shard %u, entry %lu: the term goes back", by->group,
                 (unsigned long)index);
        return;
    }
    a->last = index;
    a->term = h->term;
    hashes_add(&a->records, h->checksum);
    sim->totals.records++;
    if (h->type == RECORD_CONFIGURATION) {
        struct audit_configuration c = {.index = index};
        if (!decode(payload, h->payload_bytes, &c)) {
            sim_fail(sim, SIM_CORRECTNESS, "shard %u, entry %lu is no configuration", by->group,
                     (unsigned long)index);
            return;
        }
        a->configuration = c;
        for (uint32_t i = 0; i < c.count; i++) {
            struct sim_replica *r = replica_of(sim, by->group, c.servers[i]);
            if (r != NULL) r->was_member = true;
        }
        sim->totals.configurations++;
    }
    audit_record(sim, by->group, h, payload);
}

/* -- replicas ---------------------------------------------------------------------------------- */

static void audit_leader(struct sim_replica *r) {
    struct audit_shard *a = &r->sim->audit[r->group];
    if (!r->shard->started || r->shard->failed) return;
    if (consensus_role(r->shard->consensus) != CONSENSUS_LEADER) return;
    uint64_t term = consensus_term(r->shard->consensus);
    while (a->leaders.count <= term) hashes_add(&a->leaders, 0);
    if (a->leaders.items[term] == r->server_id) return;
    if (a->leaders.items[term] != 0) {
        sim_fail(r->sim, SIM_CORRECTNESS, "shard %u has two leaders in term %lu: nodes %u and %u",
                 r->group, (unsigned long)term,
                 consensus_server_node(a->leaders.items[term]), r->node + 1);
    }
    a->leaders.items[term] = r->server_id;
    r->sim->totals.elections++;
}

/* What it has durable and knows to be committed is what everybody has. */
static void audit_agreement(struct sim_replica *r, uint64_t upto) {
    const struct audit_shard *a = &r->sim->audit[r->group];
    uint64_t durable = consensus_durable_index(r->shard->consensus);
    if (upto > durable) upto = durable; /* behind it may lie what is about to be truncated */
    while (r->agreed < upto && r->sim->verdict == SIM_OK) {
        const void *payload;
        const struct record_header *h = record_of(r, ++r->agreed, &payload);
        if (h == NULL || r->rotten || h->checksum == a->records.items[r->agreed - 1]) continue;
        sim_fail(r->sim, SIM_CORRECTNESS,
                 "shard %u, entry %lu is committed, and node %u has another one", r->group,
                 (unsigned long)r->agreed, r->node + 1);
    }
}

void audit_replica(struct sim_replica *r) {
    struct sim *sim = r->sim;
    struct audit_shard *a = &sim->audit[r->group];
    uint64_t commit = r->shard->commit_index;
    while (a->last < commit && sim->verdict == SIM_OK) audit_commit(r, a->last + 1);
    /* What it knew to be committed when it died, others may know from it; the rest dies with it. */
    if (sim->verdict != SIM_OK || node_is_dead(&sim->nodes[r->node])) return;
    if (storage_memory_marker(r->disk) > a->last) {
        sim_fail(sim, SIM_CORRECTNESS, "shard %u on node %u stores a state of entry %lu, and %lu "
                 "is committed", r->group, r->node + 1,
                 (unsigned long)storage_memory_marker(r->disk), (unsigned long)a->last);
    }
    if (!r->shard->started) return;
    audit_agreement(r, commit);
    upgrade_judge(r);
    audit_leader(r);
}

/* What it had agreed on is still there, or a state that reflects it. */
void audit_after_crash(struct sim_replica *r) {
    struct sim *sim = r->sim;
    const struct audit_shard *a = &sim->audit[r->group];
    uint64_t first = storage_memory_durable_first(r->disk);
    uint64_t last = storage_memory_durable_last(r->disk);
    if (r->rotten) return;
    if (r->agreed > last && r->agreed > storage_memory_marker(r->disk)) {
        sim_fail(sim, SIM_CORRECTNESS, "shard %u on node %u: durable entries %lu to %lu are gone",
                 r->group, r->node + 1, (unsigned long)last + 1, (unsigned long)r->agreed);
    }
    for (uint64_t index = first; first != 0 && index <= r->agreed && sim->verdict == SIM_OK;
         index++) {
        if (holds(r, index, a->records.items[index - 1])) continue;
        sim_fail(sim, SIM_CORRECTNESS, "shard %u on node %u: durable entry %lu has changed in a "
                 "crash", r->group, r->node + 1, (unsigned long)index);
    }
}

/* -- equal states ------------------------------------------------------------------------------ */

struct stored {
    struct id128 key;
    uint64_t hash;
    uint32_t version;
    uint8_t kind;
};

struct stored_list {
    struct stored *items;
    uint32_t count, capacity;
};

static bool stored_add(void *arg, const void *block, uint32_t bytes) {
    struct stored_list *list = arg;
    const struct actor *a = block;
    if (a->flags & ACTOR_RETIRED) return true; /* each replica deletes it at its own moment */
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 256;
        list->items = realloc(list->items, list->capacity * sizeof *list->items);
        require(list->items != NULL);
    }
    list->items[list->count++] =
        (struct stored){a->key, routing_hash(block, bytes), a->version, a->kind};
    return true;
}

static bool stored_equal(const struct stored *a, const struct stored *b) {
    return a->kind == b->kind && id128_equal(&a->key, &b->key) && a->version == b->version &&
           a->hash == b->hash;
}

static int stored_compare(const void *a, const void *b) {
    const struct stored *x = a, *y = b;
    if (x->kind != y->kind) return x->kind < y->kind ? -1 : 1;
    return memcmp(x->key.bytes, y->key.bytes, 16);
}

static void stored_all(const struct sim_replica *r, struct stored_list *list) {
    static const uint8_t kinds[] = {ACTOR_ORDER, ACTOR_STORE, ACTOR_BOARD};
    char error[256];
    for (uint32_t i = 0; i < 3; i++) {
        if (r->storage->ops->visit_actors(r->storage, kinds[i], stored_add, list, error,
                                          sizeof error) != 0) {
            sim_fail(r->sim, SIM_CORRECTNESS, "shard %u on node %u: its state cannot be read: %s",
                     r->group, r->node + 1, error);
        }
    }
    if (list->count > 0) qsort(list->items, list->count, sizeof *list->items, stored_compare);
}

static void stored_differ(const struct sim_replica *a, const struct stored_list *x,
                          const struct sim_replica *b, const struct stored_list *y) {
    uint32_t i = 0;
    while (i < x->count && i < y->count && stored_equal(&x->items[i], &y->items[i])) i++;
    if (i == x->count && i == y->count) return;
    const struct stored *one = i < x->count ? &x->items[i] : &y->items[i];
    sim_fail(a->sim, SIM_CORRECTNESS,
             "shard %u: nodes %u and %u have stored %u and %u actors that differ, first kind %u "
             "number %u, version %u and %u",
             a->group, a->node + 1, b->node + 1, x->count, y->count, one->kind,
             one->key.bytes[14] * 256u + one->key.bytes[15],
             i < x->count ? x->items[i].version : 0, i < y->count ? y->items[i].version : 0);
}

void audit_equal_states(struct sim *sim, uint32_t group) {
    const struct sim_replica *first = NULL;
    struct stored_list reference = {NULL, 0, 0};
    for (uint32_t n = 0; n < sim->options.nodes && sim->verdict == SIM_OK; n++) {
        const struct sim_replica *r = sim->nodes[n].replicas[group];
        if (r == NULL || r->shard == NULL || r->rotten || r->remove_ms != 0) continue;
        if (first == NULL) {
            first = r;
            stored_all(r, &reference);
            continue;
        }
        struct stored_list other = {NULL, 0, 0};
        stored_all(r, &other);
        if (sim->verdict == SIM_OK) stored_differ(first, &reference, r, &other);
        free(other.items);
    }
    free(reference.items);
}
