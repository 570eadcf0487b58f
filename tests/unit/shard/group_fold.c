#include "tests/unit/shard/group_fold.h"

#include <stdlib.h>

#include "clients/replay/fold.h"

static char told[320];

static void fold_told(void *arg, const struct fold_fault *fault) {
    (void)arg;
    if (!told[0]) snprintf(told, sizeof told, "%s", fault->what);
}

static bool fold_visit(void *arg, const struct record_header *header, const void *payload) {
    struct fold *f = arg;
    const struct log_item item = {.index = header->index, .upto = header->index, .segment = "log",
                                  .header = header, .payload = payload};
    return fold_take(f, LOG_RECORD, &item);
}

static const char *growth_difference(const struct shard *s, const struct fold_growth *f) {
    const struct growth *g = &s->growth;
    if (f->version != g->version || f->joined_ms != g->joined_ms) return "what it knows";
    if (memcmp(f->active, g->active, sizeof f->active) != 0) return "which shards run";
    if (f->spread.version != g->spread.version || f->spread.shards != g->spread.shards ||
        f->spread.before != g->spread.before) {
        return "the spread of stores";
    }
    if (f->boards_asked != g->boards_asked || f->stores_asked != g->stores_asked ||
        f->needs_boards != g->needs_boards || f->needs_stores != g->needs_stores) {
        return "its own questions";
    }
    for (uint32_t p = 0; p < s->outbox.peers_count; p++) {
        const struct outbox_peer *peer = &s->outbox.peers[p];
        const struct growth_peer *other = &f->peers[p];
        if (other->boards_asked != peer->boards_asked ||
            other->stores_asked != peer->stores_asked || other->owes != peer->owes ||
            other->awaits != peer->awaits) {
            return "the questions of others";
        }
    }
    return NULL;
}

static const char *actors_difference(const struct shard *s, struct fold *f) {
    uint64_t stores = 0, boards = 0;
    for (uint32_t n = 1; n < s->table.slots_used; n++) {
        const struct actor *a =
            actor_table_slot((struct actor_table *)(uintptr_t)&s->table, n)->block;
        if (!a || a->version == 0 || a->flags & ACTOR_RETIRED) continue;
        if (a->kind != ACTOR_STORE && a->kind != ACTOR_BOARD) continue;
        struct fold_table *table = a->kind == ACTOR_STORE ? f->stores : f->boards;
        const struct fold_block *b = fold_table_get(table, &a->key);
        *(a->kind == ACTOR_STORE ? &stores : &boards) += 1;
        if (!b) return "a store is not in the log";
        if (b->actor.bytes != a->bytes || memcmp(&b->actor, a, a->bytes) != 0) return "a store";
    }
    if (stores != fold_table_count(f->stores)) return "the log has more stores";
    return boards == fold_table_count(f->boards) ? NULL : "the log has more board notes";
}

const char *group_fold_difference(const struct shard *s) {
    const struct fold_options options = {.shard = s->options.id, .fault = fold_told};
    struct storage *storage = s->options.storage;
    struct storage_meta *meta = malloc(sizeof *meta);
    struct fold *f = fold_open(&options);
    char error[256];
    const char *what = "the log cannot be read";
    told[0] = 0;
    if (meta && f && storage->ops->load_meta(storage, meta, error, sizeof error) == 0) {
        if (meta->log_first != 1) what = NULL; /* it came as a state: this log is not the whole */
        else if (storage->ops->read(storage, 1, s->applied_index, fold_visit, f, error,
                                    sizeof error) == 0) {
            what = told[0] ? told : growth_difference(s, &f->growth);
            if (!what) what = actors_difference(s, f);
        }
    }
    fold_close(f);
    free(meta);
    return what;
}
