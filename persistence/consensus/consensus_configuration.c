/* Configurations: who votes. They live in the log as RECORD_CONFIGURATION; here they are encoded,
 * decoded, and the committed ones are remembered until a checkpoint is past them. */
#include <stdlib.h>

#include "persistence/consensus/consensus_private.h"

bool consensus_decode(const void *data, size_t bytes, struct raft_configuration *configuration) {
    struct raft_buffer buffer = {(void *)(uintptr_t)data, bytes};
    raft_configuration_init(configuration);
    if (bytes < 2 * sizeof(uint64_t)) return false;
    if (raft_configuration_decode(&buffer, configuration) != 0) {
        raft_configuration_init(configuration);
        return false;
    }
    if (configuration->n > 0 && configuration->n <= CONSENSUS_SERVERS_MAX) return true;
    raft_configuration_close(configuration);
    raft_configuration_init(configuration);
    return false;
}

void consensus_copy(const struct raft_configuration *from, struct raft_configuration *to) {
    raft_configuration_init(to);
    for (unsigned i = 0; i < from->n; i++) {
        const struct raft_server *s = &from->servers[i];
        require(raft_configuration_add(to, s->id, s->address, s->role) == 0);
    }
}

uint32_t consensus_voters(const struct raft_configuration *configuration) {
    uint32_t voters = 0;
    for (unsigned i = 0; i < configuration->n; i++) {
        voters += configuration->servers[i].role == RAFT_VOTER;
    }
    return voters;
}

const struct raft_server *consensus_server(const struct raft_configuration *configuration,
                                           uint64_t id) {
    for (unsigned i = 0; i < configuration->n; i++) {
        if (configuration->servers[i].id == id) return &configuration->servers[i];
    }
    return NULL;
}

struct record *consensus_bootstrap_record(const uint64_t *ids, const char *const *addresses,
                                          uint32_t count) {
    require(count > 0 && count <= CONSENSUS_SERVERS_MAX);
    struct raft_configuration configuration;
    raft_configuration_init(&configuration);
    struct raft_buffer encoded = {NULL, 0};
    struct record *record = NULL;
    for (uint32_t i = 0; i < count; i++) {
        int rv = raft_configuration_add(&configuration, ids[i], addresses[i], RAFT_VOTER);
        require(rv == 0 || rv == RAFT_NOMEM);
        if (rv != 0) goto out;
    }
    if (raft_configuration_encode(&configuration, &encoded) != 0) goto out;
    record = record_new((uint32_t)encoded.len);
    if (record == NULL) goto out;
    record->header.index = 1;
    record->header.term = 1;
    record->header.type = RECORD_CONFIGURATION;
    record->header.format = RECORD_FORMAT;
    record->header.payload_bytes = (uint32_t)encoded.len;
    memcpy(record->payload, encoded.base, encoded.len);
out:
    raft_free(encoded.base);
    raft_configuration_close(&configuration);
    return record;
}

/* None is dropped before a checkpoint is past it: the next marker may lie anywhere behind the last
 * one, and each of them is the answer for some index. A leader makes no more changes than
 * CONSENSUS_CONFIGURATIONS_MAX ahead of its own checkpoint; a follower whose checkpoints lag keeps
 * what the log behind its marker has, which takes less memory than that log takes disk. */
void consensus_note_committed(struct consensus *c, uint64_t index, const void *data,
                              uint32_t bytes) {
    if (c->configurations_count > 0) {
        uint64_t newest = c->configurations[c->configurations_count - 1].index;
        if (newest == index) return;
        require(newest < index);
    }
    if (c->configurations_count == c->configurations_capacity) {
        uint32_t capacity = c->configurations_capacity ? 2 * c->configurations_capacity : 4;
        c->configurations = realloc(c->configurations, capacity * sizeof *c->configurations);
        require(c->configurations != NULL);
        c->configurations_capacity = capacity;
    }
    uint8_t *copy = malloc(bytes);
    require(copy != NULL);
    memcpy(copy, data, bytes);
    c->configurations[c->configurations_count++] =
        (struct consensus_configuration){index, bytes, copy};
}

const struct consensus_configuration *consensus_configuration_at(const struct consensus *c,
                                                                 uint64_t index) {
    for (uint32_t i = c->configurations_count; i > 0; i--) {
        if (c->configurations[i - 1].index <= index) return &c->configurations[i - 1];
    }
    return NULL;
}

/* A checkpoint needs the newest one at or below its index; what is older is never asked for again.
 */
void consensus_forget_configurations(struct consensus *c, uint64_t upto_index) {
    uint32_t drop = 0;
    while (drop + 1 < c->configurations_count && c->configurations[drop + 1].index <= upto_index) {
        free(c->configurations[drop++].data);
    }
    c->configurations_count -= drop;
    if (drop > 0) {
        memmove(c->configurations, c->configurations + drop,
                c->configurations_count * sizeof *c->configurations);
    }
}

void consensus_forget_all_configurations(struct consensus *c) {
    for (uint32_t i = 0; i < c->configurations_count; i++) free(c->configurations[i].data);
    c->configurations_count = 0;
}

bool consensus_marker_configuration(const struct consensus *c, uint64_t index,
                                    uint64_t *configuration_index, const uint8_t **configuration,
                                    uint32_t *bytes) {
    const struct consensus_configuration *at = consensus_configuration_at(c, index);
    if (at == NULL) return false;
    *configuration_index = at->index;
    *configuration = at->data;
    *bytes = at->bytes;
    return true;
}

const uint8_t *consensus_committed_configuration(const struct consensus *c, uint64_t *index,
                                                 uint32_t *bytes) {
    if (c->configurations_count == 0) {
        *index = 0;
        *bytes = 0;
        return NULL;
    }
    const struct consensus_configuration *newest = &c->configurations[c->configurations_count - 1];
    *index = newest->index;
    *bytes = newest->bytes;
    return newest->data;
}
