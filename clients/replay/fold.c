#include "clients/replay/fold.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "engine/wire/routing.h"

const char *fold_fault_name(uint32_t kind) {
    switch (kind) {
#define X(name, word) case FOLD_FAULT_##name: return word;
        FOLD_FAULTS(X)
#undef X
    default: return log_fault_name(kind);
    }
}

struct fold *fold_open(const struct fold_options *options) {
    struct fold *f = calloc(1, sizeof *f);
    if (!f) return NULL;
    f->options = *options;
    f->growth.shard = options->shard;
    for (uint32_t kind = 0; kind < 256; kind++) {
        f->known[kind] = strcmp(event_kind_name(kind), "unknown") != 0;
    }
    f->orders = fold_table_open(options->memory_bytes_max, options->scratch);
    f->stores = fold_table_open(0, NULL);
    f->boards = fold_table_open(0, NULL);
    f->sent = calloc(SHARDS_MAX, sizeof *f->sent);
    f->seen = calloc(SHARDS_MAX, sizeof *f->seen);
    if (f->orders && f->stores && f->boards && f->sent && f->seen) return f;
    fold_close(f);
    return NULL;
}

void fold_close(struct fold *f) {
    if (!f) return;
    for (uint32_t p = 0; p < SHARDS_MAX; p++) {
        if (f->sent) free(f->sent[p].blocks);
        if (f->seen) free(f->seen[p].blocks);
    }
    free(f->sent);
    free(f->seen);
    fold_table_close(f->orders);
    fold_table_close(f->stores);
    fold_table_close(f->boards);
    free(f);
}

void fold_drop_orders(struct fold *f) {
    fold_table_close(f->orders);
    f->orders = NULL;
}

/* Whether an order is of this pass. Keys end with random bytes. */
static bool fold_takes(const struct fold *f, const struct id128 *key) {
    uint32_t end = (uint32_t)key->bytes[14] << 8 | key->bytes[15];
    return f->options.parts == 0 || end % f->options.parts == f->options.part;
}

/* Several passes over one log meet most of its faults in each: one of them tells. */
static bool fold_tells(const struct fold *f, uint32_t kind, const struct id128 *subject) {
    if (f->options.parts == 0 || kind == FOLD_FAULT_SCRATCH) return true;
    return subject && !id128_is_zero(subject) ? fold_takes(f, subject) : f->options.part == 0;
}

/* Tells a fault: of an event, or found beside them. */
__attribute__((format(printf, 5, 6)))
static void fold_tell(struct fold *f, uint32_t kind, const struct id128 *subject, uint32_t version,
                      const char *format, ...) {
    struct fold_fault fault = {.kind = kind, .shard = f->options.shard, .segment = "",
                               .version = version};
    if (subject) fault.subject = *subject;
    if (f->item) {
        fault.index = f->item->index;
        fault.upto = f->item->upto;
        fault.segment = f->item->segment;
        fault.offset = f->item->offset;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(fault.what, sizeof fault.what, format, args);
    va_end(args);
    f->faults++;
    f->failed |= kind == FOLD_FAULT_SCRATCH;
    if (!fold_tells(f, kind, subject)) return;
    f->faults_told++;
    if (f->options.fault) f->options.fault(f->options.arg, &fault);
}

/* -- actors ------------------------------------------------------------------------------- */

static void fold_count(struct fold *f, const struct event *e) {
    if (e->state_before && e->state_before < FOLD_STATES_MAX) f->totals[e->state_before]--;
    if (e->kind != EVENT_ORDER_RETIRED && e->state_after < FOLD_STATES_MAX) {
        f->totals[e->state_after]++;
    }
}

static bool fold_observe(struct fold *f, const struct event *e, const struct actor *actor,
                         int64_t entered_ms) {
    if (!f->options.observe) return true;
    const struct entry_header *entry = f->item->payload;
    const struct fold_event seen = {.event = e, .context = {f->item->index, entry->time_ms},
                                    .actor = actor, .entered_ms = entered_ms};
    if (f->options.observe(f->options.arg, &seen)) return true;
    f->stopped = true;
    return false;
}

/* An actor of which only the head is known goes on by what the events say. */
static void fold_follow(struct fold_table *table, struct fold_block *b, const struct event *e,
                        uint64_t index) {
    fold_table_change(table, b);
    b->actor.version = e->version;
    b->actor.state = e->state_after;
    b->actor.last_index = index;
}

static struct fold_block *fold_add_head(struct fold *f, struct fold_table *table,
                                        const struct event *e, uint32_t flag) {
    struct fold_block *b = fold_table_add(table, &e->subject, sizeof(struct actor));
    if (!b) {
        fold_tell(f, FOLD_FAULT_SCRATCH, &e->subject, e->version, "no memory for the actor");
        return NULL;
    }
    b->actor.bytes = sizeof(struct actor);
    b->actor.kind = table == f->orders ? ACTOR_ORDER : ACTOR_STORE;
    b->flags |= flag;
    if (flag == FOLD_UNKNOWN) f->unknown++;
    else f->broken++;
    return b;
}

static void fold_break(struct fold *f, struct fold_block *b) {
    if (!(b->flags & (FOLD_BROKEN | FOLD_UNKNOWN))) f->broken++;
    b->flags |= FOLD_BROKEN;
}

/* Does the event follow what is known of its actor? Tells what does not; false = not to be
 * applied. `b` may be NULL. */
static bool fold_follows(struct fold *f, const struct fold_block *b, const struct event *e) {
    uint32_t version = b ? b->actor.version : 0;
    uint8_t state = b ? b->actor.state : 0;
    uint64_t last_index = b ? b->actor.last_index : 0;
    if (e->version != version + 1) {
        fold_tell(f, FOLD_FAULT_VERSION, &e->subject, e->version,
                  "%s makes version %u, but the version before is %u", event_kind_name(e->kind),
                  e->version, version);
        return false;
    }
    if (e->prev_index != last_index) {
        fold_tell(f, FOLD_FAULT_CHAIN, &e->subject, e->version,
                  "%s of version %u points back to record %" PRIu64
                  ", its subject's newest event before is in record %" PRIu64,
                  event_kind_name(e->kind), e->version, e->prev_index, last_index);
    }
    if (e->state_before != state) {
        fold_tell(f, FOLD_FAULT_STATE, &e->subject, e->version,
                  "%s of version %u was decided in state %u, the state before it is %u",
                  event_kind_name(e->kind), e->version, e->state_before, state);
    }
    return true;
}

/* What the later events of most orders write: then their block never moves. */
enum { ORDER_SLACK_BYTES = 192 };

static bool fold_order_apply(struct fold *f, struct fold_block **block, const struct event *e,
                             const struct apply_context *context) {
    struct fold_block *b = *block;
    uint32_t bytes = order_bytes_after(b ? &b->actor : NULL, e);
    if (bytes > ACTOR_BYTES_MAX) {
        fold_tell(f, FOLD_FAULT_INVARIANT, &e->subject, e->version,
                  "the order would become larger than any may be");
        return false;
    }
    b = b ? fold_table_reserve(f->orders, b, bytes)
          : fold_table_add(f->orders, &e->subject, bytes + ORDER_SLACK_BYTES);
    if (!b) {
        fold_tell(f, FOLD_FAULT_SCRATCH, &e->subject, e->version, "no memory for the order");
        return false;
    }
    *block = b;
    uint8_t state = b->actor.state;
    const char *fault = order_apply_checked(&b->actor, e, context);
    if (fault) {
        b->actor.kind = ACTOR_ORDER;
        fold_tell(f, FOLD_FAULT_INVARIANT, &e->subject, e->version, "%s of version %u: %s",
                  event_kind_name(e->kind), e->version, fault);
        return false;
    }
    if (b->actor.state != state) b->entered_ms = context->time_ms;
    return true;
}

/* False when the watcher said stop. */
static bool fold_order(struct fold *f, const struct event *e, const struct fold_hint *hint,
                       const struct apply_context *context) {
    if (!fold_takes(f, &e->subject)) return true;
    struct fold_block *b = fold_table_get_foreseen(f->orders, &e->subject, hint);
    /* The state that the fold began with may have it already. */
    if (b && f->base_index != 0 && e->version <= b->actor.version) {
        if (context->index > f->base_stores_index) fold_count(f, e);
        return fold_observe(f, e, NULL, 0);
    }
    if (context->index > f->base_stores_index) fold_count(f, e);
    if (f->options.before) f->options.before(f->options.arg, e, b);
    int64_t entered_ms = b ? b->entered_ms : 0;
    bool born_before = !b && e->version > 1 && f->options.unknown_allowed &&
                       e->prev_index < f->first_index;
    if (born_before) b = fold_add_head(f, f->orders, e, FOLD_UNKNOWN);
    else if (!fold_follows(f, b, e)) {
        if (!b) b = fold_add_head(f, f->orders, e, FOLD_BROKEN);
        if (b) fold_break(f, b);
    }
    bool whole = !b || !(b->flags & (FOLD_BROKEN | FOLD_UNKNOWN));
    if (whole && !fold_order_apply(f, &b, e, context)) {
        if (b) fold_break(f, b);
        whole = false;
    }
    if (b && !whole) fold_follow(f->orders, b, e, context->index);
    bool go_on = fold_observe(f, e, whole ? &b->actor : NULL, entered_ms);
    if (e->kind == EVENT_ORDER_RETIRED && b) fold_table_remove(f->orders, &e->subject);
    return go_on;
}

static bool fold_store(struct fold *f, const struct event *e, const struct apply_context *context) {
    if (context->index <= f->base_stores_index) return fold_observe(f, e, NULL, 0);
    struct fold_block *b = fold_table_get(f->stores, &e->subject);
    bool born_before = f->options.unknown_allowed && f->base_index == 0 &&
                       (!b || b->flags & FOLD_UNKNOWN);
    if (!born_before && !fold_follows(f, b, e)) {
        if (!b) b = fold_add_head(f, f->stores, e, FOLD_BROKEN);
        if (b) fold_break(f, b);
    }
    if (!b && born_before && e->version > 1) b = fold_add_head(f, f->stores, e, FOLD_UNKNOWN);
    if (b && b->flags & (FOLD_BROKEN | FOLD_UNKNOWN)) {
        fold_follow(f->stores, b, e, context->index);
        return fold_observe(f, e, NULL, 0);
    }
    uint32_t bytes = store_bytes_after(b ? &b->actor : NULL, e);
    b = b ? fold_table_reserve(f->stores, b, bytes) : fold_table_add(f->stores, &e->subject, bytes);
    const struct store_switched *switched = event_payload(e);
    struct id128 key = store_key(bytes_of(switched + 1, switched->id_bytes), false);
    if (!b || !id128_equal(&key, &e->subject)) {
        fold_tell(f, b ? FOLD_FAULT_EVENT : FOLD_FAULT_SCRATCH, &e->subject, e->version,
                  b ? "the subject is not the key of the store that it names" : "no memory");
        if (b && b->actor.bytes == 0) fold_table_remove(f->stores, &e->subject);
        return true;
    }
    store_apply(&b->actor, e, context);
    return fold_observe(f, e, &b->actor, 0);
}

/* -- messages ----------------------------------------------------------------------------- */

uint64_t message_digest(uint64_t sequence, struct bytes payload) {
    return XXH3_64bits_withSeed(payload.data, payload.size, sequence);
}

static bool track_add(struct message_track *t, uint64_t sequence, uint64_t index,
                      struct bytes payload) {
    uint64_t number = sequence / MESSAGE_BLOCK;
    if (t->blocks_count == 0) t->base = number;
    while (t->base + t->blocks_count <= number) {
        if (t->blocks_count == t->blocks_capacity) {
            uint32_t capacity = t->blocks_capacity ? t->blocks_capacity * 2 : 16;
            struct message_block *blocks = realloc(t->blocks, capacity * sizeof *blocks);
            if (!blocks) return false;
            t->blocks = blocks;
            t->blocks_capacity = capacity;
        }
        t->blocks[t->blocks_count++] = (struct message_block){index, 0, 0};
    }
    struct message_block *block = &t->blocks[number - t->base];
    block->sum += message_digest(sequence, payload);
    block->count++;
    if (t->first == 0) t->first = sequence;
    t->last = sequence;
    t->last_index = index;
    return true;
}

struct fold_news {
    struct fold *f;
    uint8_t kind;
    const struct apply_context *context;
    bool failed;
};

static bool fold_news_item(void *arg, const struct store_news *item) {
    struct fold_news *n = arg;
    const struct store_spread *spread = &n->f->growth.spread;
    bool board = n->kind == STORE_MESSAGE_STATUS;
    /* Counts of a store that lives elsewhere were passed on in the same entry. */
    if (n->kind == STORE_MESSAGE_COUNTS && spread->version != 0 &&
        routing_shard_of_store(spread->shards, item->store) != n->f->options.shard)
        return true;
    struct fold_table *table = board ? n->f->boards : n->f->stores;
    struct id128 key = store_key(item->store, board);
    struct fold_block *b = fold_table_get(table, &key);
    if (b && b->flags & (FOLD_BROKEN | FOLD_UNKNOWN)) {
        b->actor.version++;
        b->actor.last_index = n->context->index;
        return true;
    }
    uint32_t bytes = store_news_bytes(b ? &b->actor : NULL, item);
    b = b ? fold_table_reserve(table, b, bytes) : fold_table_add(table, &key, bytes);
    n->failed = !b;
    if (b) {
        store_apply_news(&b->actor, n->kind, item, n->context);
        /* Counts of a store that began before the log are only what came since. */
        if (n->f->options.unknown_allowed && n->f->base_index == 0) b->flags |= FOLD_UNKNOWN;
    }
    return !n->failed;
}

static bool fold_store_left(void *arg, const struct store_news *item) {
    struct fold *f = arg;
    struct id128 key = store_key(item->store, false);
    fold_table_remove(f->stores, &key);
    return true;
}

/* Stores leave with the message that takes them to another shard. */
static void fold_apply_sent(struct fold *f, const struct event *e,
                            const struct apply_context *context) {
    const struct message_event *m = event_payload(e);
    struct store_message_head head;
    struct bytes message = message_event_payload(e);
    uint8_t kind;
    if (context->index <= f->base_stores_index) return;
    growth_apply_sent(&f->growth, m->peer, message);
    if (!store_message_head(message, &head)) return;
    if (head.kind == STORE_MESSAGE_MOVED) store_message_decode(message, &kind, fold_store_left, f);
}

/* What the shard goes by from here on. */
static void fold_apply_known(struct fold *f, const struct event *e,
                             const struct apply_context *context) {
    if (context->index > f->base_stores_index) growth_apply_known(&f->growth, e);
}

static void fold_apply_news(struct fold *f, const struct event *e,
                            const struct apply_context *context) {
    const struct message_event *m = event_payload(e);
    struct fold_news n = {.f = f, .context = context};
    if (context->index <= f->base_stores_index) return;
    if (m->sequence != 0) growth_apply_seen(&f->growth, m->peer, message_event_payload(e));
    if (store_message_decode(message_event_payload(e), &n.kind, fold_news_item, &n)) return;
    fold_tell(f, n.failed ? FOLD_FAULT_SCRATCH : FOLD_FAULT_EVENT, NULL, 0,
              n.failed ? "no memory for a store" : "%s does not hold store news",
              event_kind_name(e->kind));
}

static bool fold_message(struct fold *f, const struct event *e,
                         const struct apply_context *context) {
    const struct message_event *m = event_payload(e);
    bool sent = e->kind == EVENT_MESSAGE_SENT;
    bool own = !sent && m->sequence == 0;
    if (m->peer >= SHARDS_MAX ||
        (f->options.shards_count != 0 && m->peer >= f->options.shards_count)) {
        fold_tell(f, FOLD_FAULT_EVENT, NULL, 0, "%s names shard %u, which does not exist",
                  event_kind_name(e->kind), m->peer);
        return true;
    }
    /* The state that the fold began with has it already. */
    if (context->index <= f->base_stores_index) return fold_observe(f, e, NULL, 0);
    if (e->kind == EVENT_MESSAGE_ACKNOWLEDGED) {
        if (m->sequence > f->sent[m->peer].last && f->sent[m->peer].first != 0) {
            fold_tell(f, FOLD_FAULT_MESSAGE, NULL, 0,
                      "message %" PRIu64 " to shard %u is acknowledged, %" PRIu64 " is the newest "
                      "that was sent", m->sequence, m->peer, f->sent[m->peer].last);
        }
        return fold_observe(f, e, NULL, 0);
    }
    if (own && m->peer != f->options.shard) {
        fold_tell(f, FOLD_FAULT_EVENT, NULL, 0, "a message without number came from shard %u",
                  m->peer);
    }
    if (!own) {
        struct message_track *t = sent ? &f->sent[m->peer] : &f->seen[m->peer];
        bool first = t->last == 0 && (f->options.unknown_allowed || m->sequence == 1);
        if (!first && m->sequence != t->last + 1) {
            fold_tell(f, FOLD_FAULT_MESSAGE, NULL, 0,
                      "%s %s shard %u has number %" PRIu64 ", the one before has %" PRIu64,
                      event_kind_name(e->kind), sent ? "to" : "from", m->peer, m->sequence,
                      t->last);
        }
        if (m->sequence <= t->last) return fold_observe(f, e, NULL, 0);
        if (m->sequence - t->last < 1u << 24 || t->last == 0) {
            if (!track_add(t, m->sequence, context->index, message_event_payload(e))) {
                fold_tell(f, FOLD_FAULT_SCRATCH, NULL, 0, "no memory for a message");
            }
        }
    }
    if (sent) fold_apply_sent(f, e, context);
    else fold_apply_news(f, e, context);
    return fold_observe(f, e, NULL, 0);
}

/* -- entries ------------------------------------------------------------------------------ */

static bool fold_event(struct fold *f, const struct event *e, const struct fold_hint *hint,
                       const struct apply_context *context) {
    bool order = e->kind >= 1 && e->kind <= 63, store = e->kind >= 64 && e->kind <= 79;
    bool message = event_is_message(e);
    f->events++;
    if (!f->known[e->kind]) {
        fold_tell(f, FOLD_FAULT_EVENT_UNKNOWN, &e->subject, e->version,
                  "an event of kind %u, schema %u, which this version does not know", e->kind,
                  e->schema);
        return true;
    }
    bool known = e->kind == EVENT_SHARDS_KNOWN;
    bool shaped = order     ? order_event_is_well_formed(e)
                  : store   ? store_event_is_well_formed(e)
                  : message ? message_event_is_well_formed(e)
                  : known   ? shards_known_is_well_formed(e)
                            : true;
    if (!shaped) {
        fold_tell(f, FOLD_FAULT_EVENT, &e->subject, e->version,
                  "%s (schema %u, version %u) does not have the shape of its kind",
                  event_kind_name(e->kind), e->schema, e->version);
        return true;
    }
    if (order) return fold_order(f, e, hint, context);
    if (store) return fold_store(f, e, context);
    if (known) fold_apply_known(f, e, context);
    return message ? fold_message(f, e, context) : fold_observe(f, e, NULL, 0);
}

enum { FOLD_AHEAD = 32 };

struct fold_ahead { const struct event *event; struct fold_hint hint; };

/* Takes the next events of an entry and asks memory for all their orders at once, in steps: a wait
 * of each hides those of the others. */
static uint32_t fold_gather(const struct fold *f, const void *events, uint32_t size,
                            uint32_t *offset, struct fold_ahead ahead[FOLD_AHEAD]) {
    uint32_t count = 0;
    const struct event *e;
    while (count < FOLD_AHEAD && (e = event_next(events, size, offset))) {
        ahead[count].event = e;
        fold_table_foresee(f->orders, &e->subject, &ahead[count++].hint);
    }
    for (uint32_t i = 0; i < count; i++) fold_table_foresee_entry(f->orders, &ahead[i].hint);
    for (uint32_t i = 0; i < count; i++) fold_table_foresee_block(f->orders, &ahead[i].hint);
    return count;
}

static bool fold_entry(struct fold *f, const struct log_item *item) {
    const struct record_header *h = item->header;
    const struct entry_header *entry = item->payload;
    if (h->payload_bytes < sizeof *entry) {
        fold_tell(f, FOLD_FAULT_ENTRY, NULL, 0, "it is too short for an entry");
        return true;
    }
    if (entry->shard != f->options.shard) {
        fold_tell(f, FOLD_FAULT_ENTRY, NULL, 0, "it is an entry of shard %u", entry->shard);
        return true;
    }
    if (h->index <= f->base_stores_index) {
        /* The state that the fold began with reflects it, and knows a newer time. */
    } else if (entry->time_ms < f->time_ms) {
        fold_tell(f, FOLD_FAULT_TIME, NULL, 0,
                  "its time %" PRId64 " lies before that of an earlier entry, %" PRId64,
                  entry->time_ms, f->time_ms);
    } else {
        f->time_ms = entry->time_ms;
    }
    const struct apply_context context = {h->index, entry->time_ms};
    uint32_t offset = 0, size = h->payload_bytes - (uint32_t)sizeof *entry, count = 0, n;
    struct fold_ahead ahead[FOLD_AHEAD];
    while ((n = fold_gather(f, entry + 1, size, &offset, ahead)) > 0) {
        for (uint32_t i = 0; i < n; i++) {
            if (!fold_event(f, ahead[i].event, &ahead[i].hint, &context)) return false;
        }
        count += n;
    }
    if (offset != size || count != entry->events_count) {
        fold_tell(f, FOLD_FAULT_ENTRY, NULL, 0,
                  "its header tells of %u events, %u could be read (%u of %u bytes)",
                  entry->events_count, count, offset, size);
    }
    fold_table_trim(f->orders);
    if (fold_table_error(f->orders)[0]) {
        fold_tell(f, FOLD_FAULT_SCRATCH, NULL, 0, "%s", fold_table_error(f->orders));
        return false;
    }
    return true;
}

bool fold_take(struct fold *f, enum log_step step, const struct log_item *item) {
    if (step == LOG_END || step == LOG_DROPPED) return true;
    f->item = item;
    if (step == LOG_FAULT) {
        fold_tell(f, item->fault, NULL, 0, "%s", item->what);
        if (item->fault != LOG_FAULT_PAGE && item->upto > f->index) f->index = item->upto;
        f->item = NULL;
        return true;
    }
    const struct record_header *h = item->header;
    if (f->first_index == 0) f->first_index = h->index;
    if (h->term < f->term) {
        fold_tell(f, FOLD_FAULT_TERM, NULL, 0,
                  "its term %" PRIu64 " is smaller than that of the records before, %" PRIu64,
                  h->term, f->term);
    } else {
        f->term = h->term;
    }
    f->index = h->index;
    f->entries++;
    f->bytes += sizeof *h + h->payload_bytes;
    bool go_on = h->type != RECORD_EVENTS || fold_entry(f, item);
    f->item = NULL;
    return go_on && !f->stopped;
}

/* -- beginning with a stored state -------------------------------------------------------- */

struct fold_base {
    struct fold *f;
    struct fold_table *table;
    uint64_t newest;
    const char *fault;
    struct id128 key;
};

static bool base_actor(void *arg, const struct state_source_row *row) {
    struct fold_base *b = arg;
    if (row->key_bytes == 16) memcpy(&b->key, row->key, 16);
    b->fault = row->fault;
    if (b->fault) return false;
    const struct actor *a = row->value;
    bool order = b->table == b->f->orders;
    if (!(order ? order_is_well_formed(a, row->value_bytes)
                : store_is_well_formed(a, row->value_bytes))) {
        b->fault = "it is malformed";
        return false;
    }
    if (order && !fold_takes(b->f, &a->key)) return true;
    struct fold_block *block = fold_table_add(b->table, &a->key, row->value_bytes);
    if (!block) {
        b->fault = "no memory";
        return false;
    }
    memcpy(&block->actor, a, row->value_bytes);
    if (order) {
        if (a->last_index > b->newest) b->newest = a->last_index;
        fold_table_trim(b->table);
    }
    return true;
}

static bool base_cursor(void *arg, const struct state_source_row *row) {
    struct fold_base *b = arg;
    struct fold *f = b->f;
    char name[32];
    unsigned peer;
    uint64_t v[8] = {0};
    b->fault = row->fault;
    if (b->fault) return false;
    snprintf(name, sizeof name, "%.*s", (int)row->key_bytes, (const char *)row->key);
    memcpy(v, row->value, row->value_bytes < sizeof v ? row->value_bytes : sizeof v);
    if (strcmp(name, "stores") == 0) {
        f->base_stores_index = v[0];
        f->time_ms = (int64_t)v[1];
    } else if (strcmp(name, "totals.0") == 0) {
        memcpy(f->totals, v, sizeof v);
    } else if (strcmp(name, "totals.1") == 0) {
        memcpy(f->totals + 8, v, sizeof v);
    } else if (sscanf(name, "peer.%u", &peer) == 1 && peer < SHARDS_MAX) {
        f->sent[peer].last = v[1];
        f->seen[peer].last = v[2];
        f->seen[peer].last_index = v[4];
        growth_know(&f->growth, peer);
    } else {
        growth_load_cursor(&f->growth, name, row->value, row->value_bytes);
    }
    return true;
}

int fold_begin_with(struct fold *f, struct state_source *state, struct state_source_marker *marker,
                    uint64_t *exact_index, char *error, size_t error_bytes) {
    static const enum state_source_table tables[] = {STATE_SOURCE_STORES, STATE_SOURCE_BOARDS,
                                                     STATE_SOURCE_ORDERS};
    struct fold_table *const folds[] = {f->stores, f->boards, f->orders};
    struct fold_base base = {.f = f};
    state_source_hold(state);
    int rc = state_source_read_marker(state, marker, error, error_bytes);
    if (rc == 0 && !marker->found) {
        snprintf(error, error_bytes, "%s: nothing is stored in it", state_source_directory(state));
        rc = -1;
    }
    if (rc == 0) {
        rc = state_source_visit(state, STATE_SOURCE_CURSORS, true, base_cursor, &base, error,
                                error_bytes);
    }
    for (int i = 0; rc == 0 && !base.fault && i < 3; i++) {
        base.table = folds[i];
        rc = state_source_visit(state, tables[i], true, base_actor, &base, error, error_bytes);
    }
    state_source_release(state);
    if (rc == 0 && base.fault) {
        snprintf(error, error_bytes, "%s: a row of the stored state is damaged: %s",
                 state_source_directory(state), base.fault);
        rc = -1;
    }
    f->base_index = f->index = marker->applied_index;
    f->term = marker->applied_term;
    f->first_index = marker->applied_index + 1;
    *exact_index = base.newest > f->base_stores_index ? base.newest : f->base_stores_index;
    if (*exact_index < marker->applied_index) *exact_index = marker->applied_index;
    return rc;
}

/* -- the hash ----------------------------------------------------------------------------- */

static void fold_hash_add(struct fold_hash *h, const struct actor *a) {
    XXH128_hash_t one = XXH3_128bits(a, a->bytes);
    unsigned __int128 sum = (unsigned __int128)h->high << 64 | h->low;
    sum += (unsigned __int128)one.high64 << 64 | one.low64;
    h->low = (uint64_t)sum;
    h->high = (uint64_t)(sum >> 64);
    h->actors++;
}

static bool hash_visit(void *arg, const struct fold_block *block) {
    fold_hash_add(arg, &block->actor);
    return true;
}

struct fold_hash fold_hash(struct fold *f) {
    struct fold_hash hash = {0};
    fold_table_each(f->orders, hash_visit, &hash);
    fold_table_each(f->stores, hash_visit, &hash);
    fold_table_each(f->boards, hash_visit, &hash);
    return hash;
}
