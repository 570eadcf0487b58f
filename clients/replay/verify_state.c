/* Does what is stored agree with the fold of the log? */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "actors/order/order_layout.h"
#include "actors/store/store_layout.h"
#include "clients/replay/verify.h"

/* -- stores, board notes, cursors --------------------------------------------------------- */

struct capture { struct verify_shard *s; struct verify_rows *rows; const char *table; };

static int row_compare(const void *a, const void *b) {
    return memcmp(((const struct verify_row *)a)->key.bytes,
                  ((const struct verify_row *)b)->key.bytes, 16);
}

static bool capture_row(void *arg, const struct state_source_row *row) {
    struct capture *c = arg;
    struct verify_row one = {.offset = row->offset};
    if (row->key_bytes == 16) memcpy(&one.key, row->key, 16);
    if (row->fault) {
        verify_tell_state(c->s, FOLD_FAULT_SNAPSHOT_DAMAGED, &one.key, 0, c->table, row->offset,
                          "%s", row->fault);
        return true;
    }
    one.digest = XXH3_64bits(row->value, row->value_bytes);
    if (c->rows->count == c->rows->capacity) {
        uint32_t capacity = c->rows->capacity ? c->rows->capacity * 2 : 256;
        struct verify_row *rows = realloc(c->rows->rows, capacity * sizeof *rows);
        if (!rows) return false;
        c->rows->rows = rows;
        c->rows->capacity = capacity;
    }
    c->rows->rows[c->rows->count++] = one;
    c->s->snapshots++;
    return true;
}

static bool capture_cursor(void *arg, const struct state_source_row *row) {
    struct capture *c = arg;
    struct verify_cursors *v = &c->s->cursors;
    char name[32];
    unsigned peer;
    uint64_t value[8] = {0};
    snprintf(name, sizeof name, "%.*s", (int)(row->key_bytes < 24 ? row->key_bytes : 24),
             row->key ? (const char *)row->key : "");
    if (row->fault) {
        verify_tell_state(c->s, FOLD_FAULT_CURSOR, NULL, 0, "cursors", row->offset,
                          "the cursor \"%s\" is damaged: %s", name, row->fault);
        return true;
    }
    memcpy(value, row->value, row->value_bytes < sizeof value ? row->value_bytes : sizeof value);
    if (strcmp(name, "stores") == 0) {
        v->found = true;
        v->stores_index = value[0];
        v->stores_time_ms = (int64_t)value[1];
    } else if (strcmp(name, "totals.0") == 0) {
        memcpy(v->totals, value, sizeof value);
    } else if (strcmp(name, "totals.1") == 0) {
        memcpy(v->totals + 8, value, sizeof value);
    } else if (sscanf(name, "peer.%u", &peer) == 1 && peer < SHARDS_MAX) {
        v->peers[peer].found = true;
        memcpy(v->peers[peer].value, value, sizeof v->peers[peer].value);
    } else if (growth_load_cursor(&v->growth, name, row->value, row->value_bytes)) {
        v->growth_found = true;
    }
    return true;
}

void verify_state_capture(struct verify_shard *s) {
    char error[1200];
    if (!s->source->state[0]) return;
    s->state = state_source_open(s->source->state, error, sizeof error);
    int rc = s->state ? 0 : -1;
    struct capture c = {.s = s};
    if (s->state) {
        state_source_hold(s->state);
        rc = state_source_read_marker(s->state, &s->marker, error, sizeof error);
        c.table = "cursors";
        if (rc == 0 && s->marker.found) {
            rc = state_source_visit(s->state, STATE_SOURCE_CURSORS, true, capture_cursor, &c,
                                    error, sizeof error);
        }
        c.rows = &s->stores;
        c.table = "stores";
        if (rc == 0) rc = state_source_visit(s->state, STATE_SOURCE_STORES, true, capture_row, &c,
                                             error, sizeof error);
        c.rows = &s->boards;
        c.table = "boards";
        if (rc == 0) rc = state_source_visit(s->state, STATE_SOURCE_BOARDS, true, capture_row, &c,
                                             error, sizeof error);
        state_source_release(s->state);
    }
    if (rc != 0) {
        verify_tell_state(s, FOLD_FAULT_STATE_UNREADABLE, NULL, 0, "meta", 0, "%s", error);
        state_source_close(s->state);
        s->state = NULL;
        return;
    }
    if (s->stores.count) qsort(s->stores.rows, s->stores.count, sizeof *s->stores.rows,
                               row_compare);
    if (s->boards.count) qsort(s->boards.rows, s->boards.count, sizeof *s->boards.rows,
                               row_compare);
}

void verify_state_free(struct verify_shard *s) {
    state_source_close(s->state);
    free(s->stores.rows);
    free(s->boards.rows);
}

struct exact { struct verify_shard *s; struct verify_rows *rows; const char *table; uint64_t met; };

static bool exact_visit(void *arg, const struct fold_block *b) {
    struct exact *e = arg;
    struct verify_row wanted = {.key = b->actor.key};
    const struct verify_row *row =
        e->rows->count ? bsearch(&wanted, e->rows->rows, e->rows->count, sizeof *e->rows->rows,
                                 row_compare)
                       : NULL;
    const struct store *store = store_of(&b->actor);
    bool head_only = b->flags & (FOLD_BROKEN | FOLD_UNKNOWN);
    if (row) e->met++;
    if (!row) {
        if (!head_only) {
            verify_tell_state(e->s, FOLD_FAULT_SNAPSHOT_MISSING, &b->actor.key, b->actor.version,
                              e->table, 0, "%.*s is not stored, its version is %u at record %"
                              PRIu64, store->id_bytes, (const char *)(store + 1),
                              b->actor.version, e->s->cursors.stores_index);
        }
    } else if (head_only) {
        e->s->snapshots_unjudged++;
    } else if (row->digest != XXH3_64bits(&b->actor, b->actor.bytes)) {
        verify_tell_state(e->s, FOLD_FAULT_SNAPSHOT_DIFFERS, &b->actor.key, b->actor.version,
                          e->table, row->offset, "what is stored of %.*s is not the fold of its "
                          "events up to record %" PRIu64 ", version %u", store->id_bytes,
                          (const char *)(store + 1), e->s->cursors.stores_index,
                          b->actor.version);
    }
    return true;
}

static void exact_table(struct verify_shard *s, struct fold_table *table, struct verify_rows *rows,
                        const char *name) {
    struct exact e = {.s = s, .rows = rows, .table = name};
    fold_table_each(table, exact_visit, &e);
    if (e.met == rows->count || s->fold->options.unknown_allowed) return;
    for (uint32_t i = 0; i < rows->count; i++) {
        if (fold_table_get(table, &rows->rows[i].key)) continue;
        verify_tell_state(s, FOLD_FAULT_SNAPSHOT_SURPLUS, &rows->rows[i].key, 0, name,
                          rows->rows[i].offset, "it is stored, but the log knows nothing of it");
    }
}

static void growth_differs(struct verify_shard *s, const char *name, uint32_t bytes,
                           const uint8_t *stored, const uint8_t *folded) {
    if (memcmp(stored, folded, bytes) == 0) return;
    verify_tell_state(s, FOLD_FAULT_CURSOR, NULL, 0, "cursors", 0, "\"%s\", which tells how the "
                      "cluster has grown, is not what the log says at record %" PRIu64, name,
                      s->cursors.stores_index);
}

static void exact_growth(struct verify_shard *s) {
    const struct fold_growth *stored = &s->cursors.growth, *folded = &s->fold->growth;
    uint8_t a[GROWTH_CURSOR_BYTES_MAX], b[GROWTH_CURSOR_BYTES_MAX];
    char name[24];
    if (!s->cursors.growth_found && !growth_is_known(folded)) return;
    growth_known_cursor(stored, a);
    growth_differs(s, "known", growth_known_cursor(folded, b), a, b);
    growth_spread_cursor(stored, a);
    growth_differs(s, "spread", growth_spread_cursor(folded, b), a, b);
    for (uint32_t p = 0; p < SHARDS_MAX; p++) {
        snprintf(name, sizeof name, "grow.%u", p);
        growth_peer_cursor(stored, p, a);
        growth_differs(s, name, growth_peer_cursor(folded, p, b), a, b);
    }
}

static void exact_cursors(struct verify_shard *s) {
    const struct verify_cursors *c = &s->cursors;
    const struct fold *f = s->fold;
    bool silent = f->options.unknown_allowed && f->time_ms == 0; /* no event since it begins */
    if (!silent && c->stores_time_ms != f->time_ms) {
        verify_tell_state(s, FOLD_FAULT_CURSOR, NULL, 0, "cursors", 0,
                          "\"stores\" tells the time %" PRId64 ", the log's newest is %" PRId64
                          " at record %" PRIu64, c->stores_time_ms, f->time_ms, c->stores_index);
    }
    if (f->options.unknown_allowed) return; /* counts since the log begins are not all counts */
    exact_growth(s);
    for (uint32_t i = 0; i < FOLD_STATES_MAX; i++) {
        if (c->totals[i] == f->totals[i]) continue;
        verify_tell_state(s, FOLD_FAULT_CURSOR, NULL, 0, "cursors", 0,
                          "the totals tell of %" PRIu64 " orders in state %u (%s), the log of %"
                          PRIu64, c->totals[i], i, order_state_name(i), f->totals[i]);
    }
    for (uint32_t p = 0; p < SHARDS_MAX; p++) {
        const uint64_t *v = c->peers[p].value;
        if (!c->peers[p].found) continue;
        if (v[1] != f->sent[p].last || v[2] != f->seen[p].last || v[0] > v[1]) {
            verify_tell_state(s, FOLD_FAULT_CURSOR, NULL, 0, "cursors", 0,
                              "\"peer.%u\" tells of %" PRIu64 " messages sent (%" PRIu64
                              " acknowledged) and %" PRIu64 " seen, the log of %" PRIu64 " and %"
                              PRIu64, p, v[1], v[0], v[2], f->sent[p].last, f->seen[p].last);
        }
    }
}

void verify_state_exact(struct verify_shard *s) {
    if (s->fold->index < s->cursors.stores_index) {
        verify_tell_state(s, FOLD_FAULT_STATE_AHEAD, NULL, 0, "cursors", 0,
                          "the stores reflect record %" PRIu64 ", the log ends with %" PRIu64,
                          s->cursors.stores_index, s->fold->index);
        return;
    }
    exact_table(s, s->fold->stores, &s->stores, "stores");
    exact_table(s, s->fold->boards, &s->boards, "boards");
    exact_cursors(s);
}

/* -- orders ------------------------------------------------------------------------------- */

/* The field that a byte of an order's block belongs to. */
static const char *order_field_at(const struct order *o, uint32_t at) {
#define FIELD(name) \
    if (at >= offsetof(struct order, name) && at < offsetof(struct order, name) + sizeof o->name) \
        return #name;
    if (at < sizeof o->actor) {
        static const char *const head[] = {"bytes", "kind", "key", "last_index",
                                           "next_deadline_ms", "version"};
        return at < 4 ? head[0] : at == 6 ? "state" : at == 7 ? "flags" : at < 8 ? head[1]
             : at < 24 ? head[2] : at < 32 ? head[3] : at < 40 ? head[4] : head[5];
    }
    FIELD(lines_total) FIELD(fees) FIELD(discounts) FIELD(total) FIELD(captured) FIELD(refunded)
    FIELD(refund_owed) FIELD(placed_ms) FIELD(updated_ms) FIELD(ready_estimate_ms)
    FIELD(step_deadline_ms) FIELD(end_deadline_ms) FIELD(payment_timeout_ms)
    FIELD(acceptance_timeout_ms) FIELD(auto_complete_ms) FIELD(lines_count) FIELD(currency)
    FIELD(fulfilment) FIELD(payment_timing) FIELD(ended_by) FIELD(commands_count)
    FIELD(notes_count) FIELD(parts_count) FIELD(held_count)
#undef FIELD
    if (at < sizeof *o) return "sizes";
    if (at < order_lines_at(o)) return "texts";
    if (at < order_parts_at(o)) return "lines";
    if (at < order_rider_at(o)) return "payments";
    if (at < order_held_at(o)) return "rider or reason";
    return at < order_commands_at(o) ? "held commands" : "command ids";
}

static void order_differs(struct verify_shard *s, const struct actor *stored,
                          const struct actor *folded, uint64_t offset) {
    const uint8_t *a = (const uint8_t *)stored, *b = (const uint8_t *)folded;
    uint32_t least = stored->bytes < folded->bytes ? stored->bytes : folded->bytes, at = 0;
    while (at < least && a[at] == b[at]) at++;
    if (at == least && stored->bytes == folded->bytes) return;
    verify_tell_state(s, FOLD_FAULT_SNAPSHOT_DIFFERS, &stored->key, stored->version, "orders",
                      offset, "what is stored as version %u is not the fold of its events: first "
                      "in byte %u (%s)", stored->version, at,
                      order_field_at(order_of(folded), at));
}

/* What is stored is of another version than the fold: the links of the events tell what it must
 * be. */
static void order_resolve(struct verify_shard *s, const struct actor *stored, uint64_t offset) {
    struct replay_history h;
    char error[512];
    const char *fault = NULL;
    uint64_t first, last;
    log_source_range(s->source->log, &first, &last);
    /* A node that runs goes on writing: its log is longer than it was. */
    if (stored->last_index > last) log_source_refresh(s->source->log, error, sizeof error);
    const struct fold_block *b = fold_table_get(s->fold->orders, &stored->key);
    int rc = b ? replay_history_from(s->source, &stored->key, b->actor.last_index,
                                     s->fold->index + 1, UINT64_MAX, &h, error, sizeof error)
               : replay_history_read(s->source, &stored->key, UINT64_MAX, &h, error,
                                     sizeof error);
    if (rc != 0) {
        verify_tell_state(s, FOLD_FAULT_SNAPSHOT_DIFFERS, &stored->key, stored->version, "orders",
                          offset, "version %u is stored, and its events cannot be found: %.150s",
                          stored->version, error);
        return;
    }
    uint32_t at = 0;
    while (at < h.count && h.events[at].event->version <= stored->version) at++;
    if (at == 0 || h.events[at - 1].event->version != stored->version) {
        /* What was stored before the log begins, the log cannot judge. */
        bool before = h.count == 0 && replay_log_is_cut(s->source) && stored->last_index < first;
        if (before) {
            s->snapshots_unjudged++;
        } else if (h.whole || h.count == 0) {
            verify_tell_state(s, FOLD_FAULT_SNAPSHOT_SURPLUS, &stored->key, stored->version,
                              "orders", offset, "version %u is stored, %s", stored->version,
                              h.count ? "which no event made" : "the log knows no such order");
        } else {
            s->snapshots_unjudged++;
        }
    } else if (at < h.count && h.events[at].index <= s->marker.applied_index) {
        verify_tell_state(s, FOLD_FAULT_SNAPSHOT_DIFFERS, &stored->key, stored->version, "orders",
                          offset, "version %u is stored, but record %" PRIu64 ", which the marker "
                          "(%" PRIu64 ") covers, made version %u", stored->version,
                          h.events[at].index, s->marker.applied_index,
                          h.events[at].event->version);
    } else {
        struct actor *built = replay_order_build(&h, h.events[at - 1].index, &fault);
        /* Two events of one record: the snapshot is never in between. */
        if (built && built->version == stored->version) order_differs(s, stored, built, offset);
        else s->snapshots_unjudged++;
        free(built);
    }
    replay_history_free(&h);
}

static bool order_visit(void *arg, const struct state_source_row *row) {
    struct verify_shard *s = arg;
    struct id128 key = {{0}};
    if (row->key_bytes == 16) memcpy(&key, row->key, 16);
    s->snapshots++;
    if (row->fault) {
        verify_tell_state(s, FOLD_FAULT_SNAPSHOT_DAMAGED, &key, 0, "orders", row->offset, "%s",
                          row->fault);
        fold_table_mark(s->fold->orders, &key);
        return !replay_interrupted();
    }
    const struct actor *stored = row->value;
    if (!order_is_well_formed(stored, row->value_bytes)) {
        verify_tell_state(s, FOLD_FAULT_SNAPSHOT_DAMAGED, &key, stored->version, "orders",
                          row->offset, "the block does not hold together");
        fold_table_mark(s->fold->orders, &key);
        return true;
    }
    struct fold_block *b = fold_table_get(s->fold->orders, &key);
    if (b) fold_table_mark(s->fold->orders, &key);
    if (b && b->flags & (FOLD_BROKEN | FOLD_UNKNOWN)) {
        s->snapshots_unjudged++;
        if (b->actor.version == stored->version && b->flags & FOLD_UNKNOWN &&
            (b->actor.state != stored->state || b->actor.last_index != stored->last_index)) {
            verify_tell_state(s, FOLD_FAULT_SNAPSHOT_DIFFERS, &key, stored->version, "orders",
                              row->offset, "version %u is stored in state %s, its event says %s",
                              stored->version, order_state_name(stored->state),
                              order_state_name(b->actor.state));
        }
    } else if (b && b->actor.version == stored->version) {
        order_differs(s, stored, &b->actor, row->offset);
    } else if (verify_has_lost(s, stored->last_index)) {
        s->snapshots_unjudged++; /* the record that made it is told to be lost */
    } else if (stored->last_index > s->fold->index && !s->live) {
        verify_tell_state(s, FOLD_FAULT_SNAPSHOT_SURPLUS, &key, stored->version, "orders",
                          row->offset, "version %u is stored, made by record %" PRIu64 ", but the "
                          "log ends with %" PRIu64, stored->version, stored->last_index,
                          s->fold->index);
    } else {
        order_resolve(s, stored, row->offset);
    }
    fold_table_trim(s->fold->orders);
    return !replay_interrupted();
}

/* A row may go while the state is read: its order was retired meanwhile. */
static bool order_is_gone_rightly(struct verify_shard *s, const struct id128 *key) {
    char error[512];
    const char *fault;
    uint32_t bytes;
    struct replay_history h;
    void *block = state_source_get(s->state, STATE_SOURCE_ORDERS, key, &bytes, &fault);
    bool rightly = block != NULL || fault != NULL;
    free(block);
    if (rightly || !state_source_is_live(s->state)) return rightly;
    log_source_refresh(s->source->log, error, sizeof error);
    if (replay_history_read(s->source, key, UINT64_MAX, &h, error, sizeof error) != 0) {
        return true;
    }
    rightly = h.count > 0 && h.events[h.count - 1].event->kind == EVENT_ORDER_RETIRED;
    replay_history_free(&h);
    return rightly;
}

static bool missing_visit(void *arg, const struct fold_block *b) {
    struct verify_shard *s = arg;
    if (b->flags & FOLD_MARKED || b->actor.last_index > s->marker.applied_index) return true;
    if (b->actor.flags & ACTOR_RETIRED) return true;
    struct id128 key = b->actor.key;
    uint32_t version = b->actor.version;
    uint64_t last_index = b->actor.last_index;
    if (order_is_gone_rightly(s, &key)) return true;
    verify_tell_state(s, FOLD_FAULT_SNAPSHOT_MISSING, &key, version, "orders", 0,
                      "it is not stored: record %" PRIu64 " made its version %u, and the marker "
                      "covers up to %" PRIu64, last_index, version, s->marker.applied_index);
    return !replay_interrupted();
}

/* -- timers ------------------------------------------------------------------------------- */

struct timers { struct verify_shard *s; uint64_t orders, rows; uint64_t sum_orders, sum_rows; };

static int64_t timer_of(const struct actor *a) {
    return a->flags & ACTOR_RETIRED ? 1 : a->next_deadline_ms;
}

static uint64_t timer_digest(const struct id128 *key, int64_t deadline_ms) {
    return XXH3_64bits_withSeed(key->bytes, 16, (uint64_t)deadline_ms);
}

static bool timers_order(void *arg, const struct state_source_row *row) {
    struct timers *t = arg;
    if (row->fault) return true;
    const struct actor *a = row->value;
    if (timer_of(a) == 0) return true;
    t->orders++;
    t->sum_orders += timer_digest(&a->key, timer_of(a));
    return true;
}

static int64_t timer_row(const struct state_source_row *row, struct id128 *key) {
    uint64_t be;
    memcpy(&be, row->key, 8);
    memcpy(key, (const uint8_t *)row->key + 8, 16);
    return (int64_t)__builtin_bswap64(be);
}

static bool timers_row(void *arg, const struct state_source_row *row) {
    struct timers *t = arg;
    struct id128 key;
    if (row->fault) {
        verify_tell_state(t->s, FOLD_FAULT_TIMER, NULL, 0, "timers", row->offset, "%s",
                          row->fault);
        return true;
    }
    int64_t deadline_ms = timer_row(row, &key);
    t->rows++;
    t->sum_rows += timer_digest(&key, deadline_ms);
    return true;
}

static bool timers_name(void *arg, const struct state_source_row *row) {
    struct timers *t = arg;
    struct id128 key;
    const char *fault;
    uint32_t bytes;
    if (row->fault) return true;
    int64_t deadline_ms = timer_row(row, &key);
    struct actor *a = state_source_get(t->s->state, STATE_SOURCE_ORDERS, &key, &bytes, &fault);
    if (!fault && (!a || timer_of(a) != deadline_ms)) {
        verify_tell_state(t->s, FOLD_FAULT_TIMER, &key, a ? a->version : 0, "timers", row->offset,
                          "a timer at %" PRId64 " stands for an order whose deadline is %" PRId64,
                          deadline_ms, a ? timer_of(a) : 0);
        t->orders = 0; /* named */
    }
    free(a);
    return true;
}

/* Rows of several moments need not agree: all is read in one view, which beside a running node must
 * be short. */
enum { TIMERS_LIVE_BYTES_MAX = 64 << 20 };

static void timers_compare(struct verify_shard *s) {
    struct timers t = {.s = s};
    char error[512];
    state_source_visit(s->state, STATE_SOURCE_ORDERS, true, timers_order, &t, error, sizeof error);
    if (state_source_visit(s->state, STATE_SOURCE_TIMERS, true, timers_row, &t, error,
                           sizeof error) != 0) {
        verify_tell_state(s, FOLD_FAULT_STATE_UNREADABLE, NULL, 0, "timers", 0, "%s", error);
        return;
    }
    s->timers = t.rows;
    uint64_t orders = t.orders;
    if (t.rows == orders && t.sum_rows == t.sum_orders) return;
    state_source_visit(s->state, STATE_SOURCE_TIMERS, true, timers_name, &t, error, sizeof error);
    if (t.rows != orders) {
        verify_tell_state(s, FOLD_FAULT_TIMER, NULL, 0, "timers", 0,
                          "%" PRIu64 " timers are stored, %" PRIu64 " stored orders have a "
                          "deadline", t.rows, orders);
    }
}

static void verify_timers(struct verify_shard *s) {
    bool live = state_source_is_live(s->state);
    if (live && state_source_bytes(s->state) > TIMERS_LIVE_BYTES_MAX) return;
    state_source_hold(s->state);
    timers_compare(s);
    state_source_release(s->state);
}

void verify_state_orders(struct verify_shard *s) {
    char error[1200];
    if (!s->marker.found) return;
    s->live = state_source_is_live(s->state);
    if (s->marker.applied_index > s->fold->index) {
        verify_segments(s, true);
        verify_tell_state(s, FOLD_FAULT_STATE_AHEAD, NULL, 0, "meta", 0,
                          "the state reflects record %" PRIu64 ", but the log ends with %" PRIu64,
                          s->marker.applied_index, s->fold->index);
    }
    if (state_source_visit(s->state, STATE_SOURCE_ORDERS, false, order_visit, s, error,
                           sizeof error) != 0) {
        verify_tell_state(s, FOLD_FAULT_STATE_UNREADABLE, NULL, 0, "orders", 0, "%s", error);
        return;
    }
    fold_table_each(s->fold->orders, missing_visit, s);
    verify_timers(s);
}
