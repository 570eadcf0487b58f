/* The events and the blocks of the actors, piece by piece: the layout in code that reads it. */
#include "actors/cluster/cluster_event.h"
#include "actors/message_event.h"
#include "actors/order/order_layout.h"
#include "actors/store/store_layout.h"
#include "tests/unit/formats/formats_dump.h"

/* X(kind, table or NULL, what stands behind the payload) */
#define PAYLOADS(X)                                                                             \
    X(ORDER_PLACED, "order_placed",                                                             \
      "store, customer, group, external ref, attributes, lines")                                \
    X(PAYMENT_RECORDED, "order_payment_recorded", "method, reference")                          \
    X(ORDER_ACCEPTED, "order_accepted", "")                                                     \
    X(ORDER_REJECTED, "order_ended", "reason")                                                  \
    X(ORDER_READY, NULL, "")                                                                    \
    X(RIDER_ASSIGNED, "order_rider_assigned", "rider")                                          \
    X(RIDER_UNASSIGNED, NULL, "")                                                               \
    X(ORDER_PICKED_UP, "order_moved", "")                                                       \
    X(ORDER_DELIVERED, "order_moved", "")                                                       \
    X(ORDER_COMPLETED, "order_ended", "reason")                                                 \
    X(ORDER_CANCELLED, "order_ended", "reason")                                                 \
    X(LINES_CANCELLED, "order_lines_cancelled", "cuts (`order_line_cut`), reason")              \
    X(ORDER_REFUNDED, "order_refunded", "reason")                                               \
    X(ORDER_AMENDED, "order_amended", "lines, which replace all old ones")                      \
    X(ORDER_ANNOTATED, "order_annotated", "note")                                               \
    X(ORDER_EXPIRED, "order_ended", "reason")                                                   \
    X(COMMAND_HELD, "order_command_held", "method, reference, reason, cuts")                    \
    X(HELD_COMMAND_RESOLVED, "order_held_resolved", "")                                         \
    X(HELD_COMMANDS_EXPIRED, "order_held_expired", "payment parts, reason")                     \
    X(ORDER_RETIRED, NULL, "")                                                                  \
    X(STORE_PAUSED, "store_switched", "id, reason")                                             \
    X(STORE_RESUMED, "store_switched", "id")                                                    \
    X(MESSAGE_SENT, "message_event", "the message")                                             \
    X(MESSAGE_SEEN, "message_event", "the message")                                             \
    X(MESSAGE_ACKNOWLEDGED, "message_event", "")                                                \
    X(SHARDS_KNOWN, "shards_known", "")                                                         \
    X(CLUSTER_CHANGED, "cluster_changed", "nodes, epochs, shards")

const char *dump_event_table(uint8_t kind) {
    switch ((enum event_kind)kind) {
#define X(name, table, behind) case EVENT_##name: return table;
        PAYLOADS(X)
#undef X
    }
    return NULL;
}

const char *dump_event_behind(uint8_t kind) {
    switch ((enum event_kind)kind) {
#define X(name, table, behind) case EVENT_##name: return behind;
        PAYLOADS(X)
#undef X
    }
    return NULL;
}

static void dump_behind_placed(struct dump *d, const struct order_placed *p) {
    dump_text(d, p->store_bytes, "store");
    dump_text(d, p->customer_bytes, "customer");
    dump_text(d, p->group_bytes, "group");
    dump_text(d, p->external_ref_bytes, "external ref");
    dump_bytes(d, p->attributes_bytes, "attributes");
    dump_lines(d, p->lines_count);
}

static void dump_behind_held(struct dump *d, const struct order_held *h) {
    dump_text(d, h->method_bytes, "method");
    dump_text(d, h->reference_bytes, "reference");
    dump_text(d, h->reason_bytes, "reason");
    dump_cuts(d, h->cuts_count);
}

static void dump_behind_cancelled(struct dump *d, const struct order_lines_cancelled *p) {
    dump_cuts(d, p->cuts_count);
    dump_text(d, p->reason_bytes, "reason");
}

static void dump_behind_expired(struct dump *d, const struct order_held_expired *p) {
    dump_parts(d, p->parts_count);
    dump_text(d, p->reason_bytes, "reason");
}

static void dump_behind_payment(struct dump *d, const struct order_payment_recorded *p) {
    dump_text(d, p->method_bytes, "method");
    dump_text(d, p->reference_bytes, "reference");
}

static void dump_behind_store(struct dump *d, const struct store_switched *p) {
    dump_text(d, p->id_bytes, "id");
    dump_text(d, p->reason_bytes, "reason");
}

static void dump_behind_cluster(struct dump *d, const struct cluster_changed *c) {
    for (uint32_t i = 0; i < c->nodes_count; i++) dump_table(d, "cluster_member", "node.");
    for (uint32_t i = 0; i < c->epochs_count; i++) dump_table(d, "cluster_epoch", "epoch.");
    for (uint32_t i = 0; i < c->shards_count; i++) dump_table(d, "cluster_shard", "shard.");
}

static void dump_behind(struct dump *d, const struct event *e) {
    const void *p = event_payload(e);
    switch ((enum event_kind)e->kind) {
    case EVENT_ORDER_PLACED: dump_behind_placed(d, p); break;
    case EVENT_PAYMENT_RECORDED: dump_behind_payment(d, p); break;
    case EVENT_ORDER_REJECTED: case EVENT_ORDER_COMPLETED: case EVENT_ORDER_CANCELLED:
    case EVENT_ORDER_EXPIRED:
        dump_text(d, ((const struct order_ended *)p)->reason_bytes, "reason");
        break;
    case EVENT_RIDER_ASSIGNED:
        dump_text(d, ((const struct order_rider_assigned *)p)->rider_bytes, "rider");
        break;
    case EVENT_LINES_CANCELLED: dump_behind_cancelled(d, p); break;
    case EVENT_ORDER_REFUNDED:
        dump_text(d, ((const struct order_refunded *)p)->reason_bytes, "reason");
        break;
    case EVENT_ORDER_AMENDED: dump_lines(d, ((const struct order_amended *)p)->lines_count); break;
    case EVENT_ORDER_ANNOTATED:
        dump_text(d, ((const struct order_annotated *)p)->note_bytes, "note");
        break;
    case EVENT_COMMAND_HELD:
        dump_behind_held(d, &((const struct order_command_held *)p)->held);
        break;
    case EVENT_HELD_COMMANDS_EXPIRED: dump_behind_expired(d, p); break;
    case EVENT_STORE_PAUSED: case EVENT_STORE_RESUMED: dump_behind_store(d, p); break;
    case EVENT_MESSAGE_SENT: case EVENT_MESSAGE_SEEN: case EVENT_MESSAGE_ACKNOWLEDGED:
        dump_bytes(d, message_event_payload(e).size, "the message");
        break;
    case EVENT_CLUSTER_CHANGED: dump_behind_cluster(d, p); break;
    case EVENT_ORDER_ACCEPTED: case EVENT_ORDER_READY: case EVENT_RIDER_UNASSIGNED:
    case EVENT_ORDER_PICKED_UP: case EVENT_ORDER_DELIVERED: case EVENT_HELD_COMMAND_RESOLVED:
    case EVENT_ORDER_RETIRED: case EVENT_SHARDS_KNOWN: break;
    }
}

void dump_event(struct dump *d, bool header_by_field) {
    const struct event *e = (const struct event *)(const void *)(d->base + d->at);
    uint32_t end = d->at + e->bytes;
    if (header_by_field) dump_table(d, "event", "");
    else dump_bytes(d, sizeof *e, "the event's header");
    const char *table = dump_event_table(e->kind);
    if (table != NULL) dump_table(d, table, "");
    dump_behind(d, e);
    uint32_t trace = e->flags & EVENT_FLAG_TRACED ? (uint32_t)sizeof(struct id128) : 0;
    require(end - d->at < 8 + trace && end - d->at >= trace);
    dump_bytes(d, end - d->at - trace, "padding");
    dump_bytes(d, trace, "trace id");
}

static void dump_order(struct dump *d, const struct order *o) {
    dump_table(d, "order", "");
    dump_text(d, o->store_bytes, "store");
    dump_text(d, o->customer_bytes, "customer");
    dump_text(d, o->group_bytes, "group");
    dump_text(d, o->external_ref_bytes, "external ref");
    dump_bytes(d, o->attributes_bytes, "attributes");
    require(d->at == order_lines_at(o));
    dump_lines(d, o->lines_count);
    dump_parts(d, o->parts_count);
    dump_text(d, o->rider_bytes, "rider");
    dump_text(d, o->end_reason_bytes, "end reason");
    require(d->at == order_held_at(o));
    if (o->held_count > 0) dump_number(d, ORDER_HELD_DEADLINE_BYTES, "held deadline");
    for (uint32_t i = 0; i < o->held_count; i++) {
        struct order_held held = order_held_get(o, d->at);
        dump_table(d, "order_held", "held.");
        dump_behind_held(d, &held);
    }
    require(d->at == order_commands_at(o));
    for (uint32_t i = 0; i < o->commands_count; i++)
        dump_table(d, "order_command_record", "command.");
}

void dump_block(struct dump *d) {
    _Alignas(8) uint8_t copy[4096]; /* in a row it stands behind a header of another size */
    require(d->bytes - d->at <= sizeof copy);
    memcpy(copy, d->base + d->at, d->bytes - d->at);
    const struct actor *actor = (const struct actor *)(const void *)copy;
    struct dump block = {d->out, copy, actor->bytes, 0};
    if (actor->kind == ACTOR_ORDER) {
        dump_order(&block, order_of(actor));
    } else {
        const struct store *s = store_of(actor);
        dump_table(&block, "store", "");
        dump_text(&block, s->id_bytes, "id");
        dump_text(&block, s->reason_bytes, "pause reason");
        for (uint32_t i = 0; i < s->commands_count; i++)
            dump_table(&block, "store_command_record", "command.");
    }
    require(block.at == actor->bytes);
    d->at += actor->bytes;
}
