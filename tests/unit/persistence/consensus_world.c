#include "tests/unit/persistence/consensus_world.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/check.h"

const char *world_address(uint64_t id) {
    static char addresses[WORLD_SERVERS_MAX + 1][8];
    require(id <= WORLD_SERVERS_MAX);
    snprintf(addresses[id], sizeof addresses[id], "s%u", (unsigned)id);
    return addresses[id];
}

uint64_t world_record_hash(const struct record *r) {
    uint64_t h = r->header.term * 31 + r->header.type;
    for (uint32_t i = 0; i < r->header.payload_bytes; i++) h = h * 1099511628211ULL + r->payload[i];
    return h;
}

uint64_t world_next_state(uint64_t state, const struct record *r) {
    return (state ^ world_record_hash(r)) * 1099511628211ULL + r->header.index;
}

void world_bootstrap(struct world_server *s, uint64_t id, const uint64_t *ids, uint32_t count) {
    world_join(s, id);
    const char *addresses[WORLD_SERVERS_MAX];
    for (uint32_t i = 0; i < count; i++) addresses[i] = world_address(ids[i]);
    s->log[0] = consensus_bootstrap_record(ids, addresses, count);
    require(s->log[0] != NULL);
    s->durable_count = 1;
    s->term = 1;
}

void world_join(struct world_server *s, uint64_t id) {
    memset(s, 0, sizeof *s);
    s->id = id;
    s->seed = (uint32_t)id * 7919;
    s->log_first = 1;
    s->queue = calloc(WORLD_QUEUE_MAX, sizeof *s->queue);
    require(s->queue != NULL);
}

void world_start(struct world_server *s, int64_t now_ms) {
    require(s->c == NULL);
    struct consensus_options options = {.id = s->id,
                                        .address = world_address(s->id),
                                        .election_timeout_ms = 300,
                                        .heartbeat_ms = 50,
                                        .seed = s->seed++};
    s->c = consensus_new(&options);
    require(s->c != NULL);
#ifdef JUMUN_DEBUG_CHECKS
    consensus_rules_off(s->c, s->rules_off);
#endif
    uint64_t first = s->log_first;
    if (s->marker_index > s->start_trailing && s->marker_index + 1 - s->start_trailing > first) {
        first = s->marker_index + 1 - s->start_trailing;
    }
    struct consensus_start start = {.term = s->term,
                                    .voted_for = s->voted_for,
                                    .marker_index = s->marker_index,
                                    .marker_term = s->marker_term,
                                    .configuration_index = s->configuration_index,
                                    .configuration = s->configuration,
                                    .configuration_bytes = s->configuration_bytes,
                                    .first_index = first,
                                    .of_cluster = s->of_cluster,
                                    .now_ms = now_ms};
    struct consensus_entry *entries = calloc(s->durable_count + 1, sizeof *entries);
    require(entries != NULL);
    for (uint64_t i = first - 1; i < s->durable_count; i++) {
        const struct record *r = s->log[i];
        entries[start.entries_count++] = (struct consensus_entry){
            r->header.term, r->header.type, r->payload, r->header.payload_bytes};
    }
    start.entries = entries;
    struct consensus_update update;
    char error[256] = "";
    if (consensus_start(s->c, &start, &update, error, sizeof error) != 0) {
        fprintf(stderr, "consensus_start: %s\n", error);
        abort();
    }
    free(entries);
    s->applied_index = s->marker_index;
    s->state[s->marker_index] = s->marker_state;
    s->reads_confirmed = 0;
    s->commit_index = 0;
    s->barriers = 0;
    world_take(s, &update);
}

static void world_drop_queue(struct world_server *s) {
    for (; s->queue_count > 0; s->queue_count--) {
        struct world_batch *b = &s->queue[s->queue_head];
        for (uint32_t i = 0; i < b->count; i++) record_release(b->records[i]);
        s->queue_head = (s->queue_head + 1) % WORLD_QUEUE_MAX;
    }
}

void world_crash(struct world_server *s) {
    world_drop_queue(s);
    world_clear_out(s);
    consensus_free(s->c);
    s->c = NULL;
    s->ready = false;
    s->role = 0;
}

void world_free(struct world_server *s) {
    if (s->c != NULL) world_crash(s);
    for (uint64_t i = s->log_first; i <= s->durable_count; i++) record_release(s->log[i - 1]);
    free(s->queue);
}

struct world_sent world_sent_copy(const struct consensus_message *m) {
    struct world_sent sent = {.m = *m};
    if (m->records == NULL || m->records_count == 0) {
        sent.m.records = NULL;
        return sent;
    }
    sent.records = calloc(m->records_count, sizeof(struct record *));
    require(sent.records != NULL);
    for (uint32_t i = 0; i < m->records_count; i++) {
        const struct record *r = m->records[i];
        sent.records[i] = record_new(r->header.payload_bytes);
        require(sent.records[i] != NULL);
        sent.records[i]->header = r->header;
        memcpy(sent.records[i]->payload, r->payload, r->header.payload_bytes);
    }
    sent.m.records = sent.records;
    return sent;
}

void world_sent_free(struct world_sent *sent) {
    if (sent->records == NULL) return;
    for (uint32_t i = 0; i < sent->m.records_count; i++) record_release(sent->records[i]);
    free(sent->records);
    sent->records = NULL;
}

void world_clear_out(struct world_server *s) {
    for (uint32_t i = 0; i < s->out_count; i++) world_sent_free(&s->out[i]);
    s->out_count = 0;
}

/* What is no longer in memory comes from the log. */
static struct world_sent world_fill(struct world_server *s, const struct consensus_message *m) {
    if (m->kind != CONSENSUS_APPEND || m->records != NULL || m->records_count == 0) {
        return world_sent_copy(m);
    }
    struct consensus_message filled = *m;
    require(m->previous_index + 1 >= s->log_first);
    require(m->previous_index + m->records_count <= s->durable_count);
    filled.records = &s->log[m->previous_index];
    return world_sent_copy(&filled);
}

void world_take(struct world_server *s, const struct consensus_update *u) {
    if (u->vote_changed) {
        require(u->term >= s->term);
        s->term = u->term;
        s->voted_for = s->forgets_votes ? 0 : u->voted_for;
    }
    if (u->records != NULL) {
        require(s->queue_count < WORLD_QUEUE_MAX);
        struct world_batch *b = &s->queue[(s->queue_head + s->queue_count++) % WORLD_QUEUE_MAX];
        b->number = u->batch;
        b->count = 0;
        for (struct record *r = u->records, *next; r != NULL; r = next) {
            next = r->next;
            require(b->count < 256);
            if (r->header.type == RECORD_BARRIER) s->barriers++;
            b->records[b->count++] = r;
        }
    }
    for (uint32_t i = 0; i < u->messages_count; i++) {
        require(s->out_count < WORLD_OUT_MAX);
        s->out[s->out_count++] = world_fill(s, &u->messages[i]);
    }
    require(u->commit_index >= s->commit_index);
    s->commit_index = u->commit_index;
    s->ready = u->ready;
    s->role = u->role;
    s->timeout_ms = u->timeout_ms;
    require(u->reads_confirmed >= s->reads_confirmed);
    s->reads_confirmed = u->reads_confirmed;
}

bool world_persist(struct world_server *s, int64_t now_ms) {
    if (s->queue_count == 0) return false;
    struct world_batch *b = &s->queue[s->queue_head];
    uint64_t first = b->records[0]->header.index, number = b->number;
    require(first <= s->durable_count + 1 && first >= s->log_first);
    while (s->durable_count >= first) record_release(s->log[--s->durable_count]);
    for (uint32_t i = 0; i < b->count; i++) {
        require(b->records[i]->header.index == s->durable_count + 1);
        require(s->durable_count < WORLD_LOG_MAX);
        s->log[s->durable_count++] = b->records[i];
    }
    s->queue_head = (s->queue_head + 1) % WORLD_QUEUE_MAX;
    s->queue_count--;
    struct consensus_update update;
    consensus_persisted_batch(s->c, number, now_ms, &update);
    world_take(s, &update);
    return true;
}

void world_apply(struct world_server *s, int64_t now_ms) {
    /* What is durable and still stands: a batch on its way may be about to replace the rest. */
    uint64_t stands = s->durable_count;
    for (uint32_t i = 0; i < s->queue_count; i++) {
        const struct world_batch *b = &s->queue[(s->queue_head + i) % WORLD_QUEUE_MAX];
        uint64_t before = b->records[0]->header.index - 1;
        if (before < stands) stands = before;
    }
    while (s->applied_index < s->commit_index && s->applied_index < stands) {
        const struct record *r = s->log[s->applied_index];
        s->applied_index++;
        s->state[s->applied_index] = world_next_state(s->state[s->applied_index - 1], r);
        if (r->header.type != RECORD_CONFIGURATION) continue;
        struct consensus_update update;
        consensus_configuration_committed(s->c, &r->header, r->payload, now_ms, &update);
        world_take(s, &update);
    }
}

void world_settle(struct world_server *s, int64_t now_ms) {
    while (world_persist(s, now_ms)) {
    }
    world_apply(s, now_ms);
}

void world_checkpoint(struct world_server *s, uint64_t index, uint32_t trailing, int64_t now_ms) {
    uint32_t bytes;
    const uint8_t *data;
    require(consensus_marker_configuration(s->c, index, &s->configuration_index, &data, &bytes));
    require(bytes <= sizeof s->configuration && s->configuration_index <= index);
    memcpy(s->configuration, data, bytes);
    s->configuration_bytes = bytes;
    s->marker_index = index;
    s->marker_term = s->log[index - 1]->header.term;
    s->marker_state = s->state[index];
    struct consensus_update update;
    consensus_checkpointed(s->c, index, trailing, now_ms, &update);
    world_take(s, &update);
}

bool world_export(const struct world_server *s, uint64_t leader_term, struct world_snapshot *out) {
    *out = (struct world_snapshot){.from = s->id,
                                   .leader_term = leader_term,
                                   .index = s->marker_index,
                                   .term = s->marker_term,
                                   .configuration_index = s->configuration_index,
                                   .configuration_bytes = s->configuration_bytes,
                                   .state = s->marker_state};
    memcpy(out->configuration, s->configuration, s->configuration_bytes);
    return s->marker_index != 0;
}

bool world_install(struct world_server *s, const struct world_snapshot *snapshot, int crash_at,
                   int64_t now_ms) {
    struct consensus_snapshot in = {snapshot->index, snapshot->term, snapshot->configuration_index,
                                    snapshot->configuration, snapshot->configuration_bytes};
    struct consensus_update update;
    int rv = consensus_install(s->c, snapshot->from, snapshot->leader_term, &in, now_ms, &update);
    world_take(s, &update);
    if (rv != 0) return false;
    if (crash_at == WORLD_CRASH_BEFORE_SWITCH) {
        world_crash(s);
        return true;
    }
    if (s->queue_count > 0) { /* what was on its way is reported, and is void */
        consensus_persisted_batch(s->c, s->queue[s->queue_head].number, now_ms, &update);
        world_take(s, &update);
    }
    world_tick(s, now_ms + 1);
    world_drop_queue(s);
    for (; s->durable_count >= s->log_first; s->durable_count--) {
        record_release(s->log[s->durable_count - 1]);
        s->log[s->durable_count - 1] = NULL;
    }
    s->durable_count = s->marker_index = snapshot->index;
    s->log_first = snapshot->index + 1;
    s->marker_term = snapshot->term;
    s->marker_state = snapshot->state;
    s->configuration_index = snapshot->configuration_index;
    s->configuration_bytes = snapshot->configuration_bytes;
    memcpy(s->configuration, snapshot->configuration, snapshot->configuration_bytes);
    if (crash_at == WORLD_CRASH_AFTER_SWITCH) {
        world_crash(s);
        return true;
    }
    consensus_installed(s->c, now_ms + 1, &update);
    world_take(s, &update);
    s->applied_index = snapshot->index;
    s->state[snapshot->index] = snapshot->state;
    return true;
}

uint64_t world_read(struct world_server *s, int64_t now_ms) {
    struct consensus_update update;
    uint64_t number = consensus_read(s->c, now_ms, &update);
    world_take(s, &update);
    return number;
}

void world_tick(struct world_server *s, int64_t now_ms) {
    struct consensus_update update;
    consensus_tick(s->c, now_ms, &update);
    world_take(s, &update);
}

struct record *world_record(uint64_t term, uint64_t index, uint16_t type, const char *text) {
    uint32_t bytes = (uint32_t)strlen(text) + 1;
    struct record *r = record_new(bytes);
    require(r != NULL);
    memcpy(r->payload, text, bytes);
    r->header.payload_bytes = bytes;
    r->header.term = term;
    r->header.index = index;
    r->header.type = type;
    return r;
}

int world_submit(struct world_server *s, uint32_t count, int64_t now_ms) {
    struct record *first = NULL, **link = &first;
    for (uint32_t i = 0; i < count; i++) {
        char text[32];
        snprintf(text, sizeof text, "%u of %u", i, count);
        *link = world_record(0, 0, RECORD_EVENTS, text);
        link = &(*link)->next;
    }
    struct consensus_update update;
    int rv = consensus_submit(s->c, first, now_ms, &update);
    for (struct record *r = rv != 0 ? first : NULL, *next; r != NULL; r = next) {
        next = r->next;
        record_release(r);
    }
    world_take(s, &update);
    return rv;
}

void world_receive(struct world_server *s, const struct consensus_message *m, int64_t now_ms) {
    struct world_sent copy = world_sent_copy(m);
    struct consensus_update update;
    consensus_receive(s->c, &copy.m, now_ms, &update);
    world_sent_free(&copy);
    world_take(s, &update);
}

const struct world_sent *world_last_sent(const struct world_server *s, uint64_t to, uint8_t kind) {
    for (uint32_t i = s->out_count; i > 0; i--) {
        const struct world_sent *sent = &s->out[i - 1];
        if (sent->m.to == to && sent->m.kind == kind) return sent;
    }
    return NULL;
}

bool world_aborts(void (*body)(void *arg), void *arg) {
    fflush(NULL);
    pid_t child = fork();
    require(child >= 0);
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 2);
        signal(SIGABRT, SIG_DFL);
        body(arg);
        _exit(0);
    }
    int status = 0;
    require(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}
