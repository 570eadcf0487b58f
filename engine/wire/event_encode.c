#include "engine/wire/event_encode.h"

#include "actors/cluster/cluster_event.h"
#include "actors/command.h"
#include "actors/message_event.h"
#include "actors/order/order.h"
#include "actors/order/order_event.h"
#include "actors/order/order_lines.h"
#include "actors/result_codes.h"
#include "actors/store/store.h"
#include "actors/store/store_event.h"
#include "engine/wire/cluster_encode.h"
#include "engine/wire/msgpack_pairs.h"
#include "engine/wire/order_encode.h"

enum {
    EVENT_ENCODE_FIXED_BYTES = 1024, /* keys, numbers and headers of any kind */
    /* What an item of a list takes on the wire beside its texts, which stand in the payload too. */
    EVENT_ENCODE_ITEM_BYTES = 1 + 3 * MSGPACK_INT_BYTES_MAX + 2 * MSGPACK_HEADER_BYTES_MAX
};

/* Texts that lie one behind the other in a payload. */
struct event_tail {
    const uint8_t *at;
};

static struct bytes event_tail_take(struct event_tail *tail, uint32_t size) {
    struct bytes taken = bytes_of(tail->at, size);
    tail->at += size;
    return taken;
}

static void event_encode_after(struct msgpack_writer *w, const struct order_after *after) {
    msgpack_pair_int(w, "step_deadline_ms", after->step_deadline_ms);
    msgpack_pair_int(w, "end_deadline_ms", after->end_deadline_ms);
    msgpack_pair_int(w, "refund_owed", after->refund_owed);
}

static void event_encode_lines(struct msgpack_writer *w, const uint8_t *at, uint32_t count) {
    msgpack_write_text(w, "lines");
    msgpack_write_array(w, count);
    for (uint32_t i = 0; i < count; i++) {
        struct order_line_read line = order_line_get(at);
        msgpack_write_array(w, line.name_bytes != 0 ? 5 : 4);
        msgpack_write_str(w, line.sku, line.sku_bytes);
        msgpack_write_int(w, line.quantity);
        msgpack_write_int(w, line.cancelled);
        msgpack_write_int(w, line.unit_price);
        if (line.name_bytes != 0) msgpack_write_str(w, line.name, line.name_bytes);
        at += line.bytes;
    }
}

static void event_encode_cuts(struct msgpack_writer *w, struct event_tail *tail, uint32_t count) {
    msgpack_write_text(w, "lines");
    msgpack_write_array(w, count);
    for (uint32_t i = 0; i < count; i++) {
        struct order_line_cut cut; /* unaligned in a held command */
        memcpy(&cut, event_tail_take(tail, sizeof cut).data, sizeof cut);
        msgpack_write_array(w, 2);
        msgpack_write_uint(w, cut.line);
        msgpack_write_uint(w, cut.quantity);
    }
}

static void event_encode_placed(struct msgpack_writer *w, const struct order_placed *p) {
    struct event_tail tail = {(const uint8_t *)(p + 1)};
    msgpack_write_map(w, 19);
    msgpack_pair_uint(w, "fulfilment", p->fulfilment);
    msgpack_pair_uint(w, "payment_timing", p->payment_timing);
    msgpack_pair_str(w, "currency", bytes_of(p->currency, 3));
    msgpack_pair_str(w, "store", event_tail_take(&tail, p->store_bytes));
    msgpack_pair_str(w, "customer", event_tail_take(&tail, p->customer_bytes));
    msgpack_pair_str(w, "group", event_tail_take(&tail, p->group_bytes));
    msgpack_pair_str(w, "external_ref", event_tail_take(&tail, p->external_ref_bytes));
    msgpack_pair_bin(w, "attributes", event_tail_take(&tail, p->attributes_bytes));
    event_encode_lines(w, tail.at, p->lines_count);
    msgpack_pair_int(w, "lines_total", p->lines_total);
    msgpack_pair_int(w, "fees", p->fees);
    msgpack_pair_int(w, "discounts", p->discounts);
    msgpack_pair_int(w, "total", p->total);
    msgpack_pair_uint(w, "payment_timeout_ms", p->payment_timeout_ms);
    msgpack_pair_uint(w, "acceptance_timeout_ms", p->acceptance_timeout_ms);
    msgpack_pair_uint(w, "auto_complete_ms", p->auto_complete_ms);
    event_encode_after(w, &p->after);
}

static void event_encode_amended(struct msgpack_writer *w, const struct order_amended *p) {
    msgpack_write_map(w, 8);
    event_encode_lines(w, (const uint8_t *)(p + 1), p->lines_count);
    msgpack_pair_int(w, "lines_total", p->lines_total);
    msgpack_pair_int(w, "fees", p->fees);
    msgpack_pair_int(w, "discounts", p->discounts);
    msgpack_pair_int(w, "total", p->total);
    event_encode_after(w, &p->after);
}

static void event_encode_payment(struct msgpack_writer *w,
                                 const struct order_payment_recorded *p) {
    struct event_tail tail = {(const uint8_t *)(p + 1)};
    msgpack_write_map(w, 9);
    msgpack_pair_uint(w, "part", p->part);
    msgpack_pair_str(w, "method", event_tail_take(&tail, p->method_bytes));
    msgpack_pair_str(w, "reference", event_tail_take(&tail, p->reference_bytes));
    msgpack_pair_int(w, "amount", p->amount);
    msgpack_pair_text(w, "payment_state", payment_state_name(p->state));
    msgpack_pair_int(w, "captured", p->captured);
    event_encode_after(w, &p->after);
}

static void event_encode_accepted(struct msgpack_writer *w, const struct order_accepted *p) {
    msgpack_write_map(w, 4);
    msgpack_pair_int(w, "ready_estimate_ms", p->ready_estimate_ms);
    event_encode_after(w, &p->after);
}

static void event_encode_moved(struct msgpack_writer *w, const struct order_moved *p) {
    msgpack_write_map(w, 3);
    event_encode_after(w, &p->after);
}

static void event_encode_ended(struct msgpack_writer *w, const struct order_ended *p) {
    msgpack_write_map(w, 5);
    msgpack_pair_uint(w, "by", p->by);
    msgpack_pair_str(w, "reason", bytes_of(p + 1, p->reason_bytes));
    event_encode_after(w, &p->after);
}

static void event_encode_rider(struct msgpack_writer *w, const struct order_rider_assigned *p) {
    msgpack_write_map(w, 1);
    msgpack_pair_str(w, "rider", bytes_of(p + 1, p->rider_bytes));
}

static void event_encode_lines_cancelled(struct msgpack_writer *w,
                                         const struct order_lines_cancelled *p) {
    struct event_tail tail = {(const uint8_t *)(p + 1)};
    msgpack_write_map(w, 9);
    msgpack_pair_uint(w, "by", p->by);
    event_encode_cuts(w, &tail, p->cuts_count);
    msgpack_pair_str(w, "reason", event_tail_take(&tail, p->reason_bytes));
    msgpack_pair_int(w, "lines_total", p->lines_total);
    msgpack_pair_int(w, "discounts", p->discounts);
    msgpack_pair_int(w, "total", p->total);
    event_encode_after(w, &p->after);
}

static void event_encode_refunded(struct msgpack_writer *w, const struct order_refunded *p) {
    msgpack_write_map(w, 7);
    msgpack_pair_int(w, "amount", p->amount);
    msgpack_pair_int(w, "refunded", p->refunded);
    msgpack_pair_uint(w, "by", p->by);
    msgpack_pair_str(w, "reason", bytes_of(p + 1, p->reason_bytes));
    event_encode_after(w, &p->after);
}

static void event_encode_annotated(struct msgpack_writer *w, const struct order_annotated *p) {
    msgpack_write_map(w, 1);
    msgpack_pair_str(w, "note", bytes_of(p + 1, p->note_bytes));
}

static void event_encode_held(struct msgpack_writer *w, const struct order_command_held *p) {
    const struct order_held *held = &p->held;
    struct event_tail tail = {(const uint8_t *)(held + 1)};
    bool pay = held->kind == COMMAND_PAY;
    msgpack_write_map(w, pay ? 7 : 6);
    msgpack_pair_text(w, "command", command_kind_name(held->kind));
    msgpack_pair_int(w, "held_deadline_ms", p->held_deadline_ms);
    msgpack_pair_uint(w, "expected_version", held->expected_version);
    struct bytes method = event_tail_take(&tail, held->method_bytes);
    struct bytes reference = event_tail_take(&tail, held->reference_bytes);
    struct bytes reason = event_tail_take(&tail, held->reason_bytes);
    if (pay) {
        msgpack_pair_text(w, "payment_state", payment_state_name(held->state_or_by));
        msgpack_pair_str(w, "method", method);
        msgpack_pair_str(w, "reference", reference);
        msgpack_pair_int(w, "amount", held->amount);
    } else {
        msgpack_pair_uint(w, "by", held->state_or_by);
        msgpack_pair_str(w, "reason", reason);
        event_encode_cuts(w, &tail, held->cuts_count);
    }
}

static void event_encode_held_resolved(struct msgpack_writer *w,
                                       const struct order_held_resolved *p) {
    msgpack_write_map(w, 2);
    msgpack_pair_uint(w, "code", p->code);
    msgpack_pair_text(w, "code_name", result_code_name(p->code));
}

static void event_encode_held_expired(struct msgpack_writer *w,
                                      const struct order_held_expired *p) {
    const uint8_t *at = (const uint8_t *)(p + 1);
    msgpack_write_map(w, 6);
    msgpack_pair_int(w, "captured", p->captured);
    msgpack_write_text(w, "payments");
    msgpack_write_array(w, p->parts_count);
    for (uint32_t i = 0; i < p->parts_count; i++) {
        struct order_part_read part = order_part_get(at);
        msgpack_write_array(w, 4);
        msgpack_write_str(w, part.method, part.method_bytes);
        msgpack_write_str(w, part.reference, part.reference_bytes);
        msgpack_write_int(w, part.amount);
        msgpack_write_text(w, payment_state_name(part.state));
        at += part.bytes;
    }
    msgpack_pair_str(w, "reason",
                     bytes_of((const uint8_t *)(p + 1) + p->parts_bytes, p->reason_bytes));
    event_encode_after(w, &p->after);
}

static void event_encode_store(struct msgpack_writer *w, const struct store_switched *p) {
    struct event_tail tail = {(const uint8_t *)(p + 1)};
    msgpack_write_map(w, 2);
    msgpack_pair_str(w, "store", event_tail_take(&tail, p->id_bytes));
    msgpack_pair_str(w, "reason", event_tail_take(&tail, p->reason_bytes));
}

static void event_encode_message(struct msgpack_writer *w, const struct event *e) {
    const struct message_event *p = event_payload(e);
    msgpack_write_map(w, 3);
    msgpack_pair_uint(w, "peer", p->peer);
    msgpack_pair_uint(w, "sequence", p->sequence);
    msgpack_pair_bin(w, "payload", message_event_payload(e));
}

static void event_encode_known(struct msgpack_writer *w, const struct shards_known *p) {
    uint32_t count = 0;
    for (uint32_t n = 0; n < SHARDS_MAX; n++) count += p->active[n / 8] >> (n % 8) & 1;
    msgpack_write_map(w, 4);
    msgpack_pair_uint(w, "version", p->version);
    msgpack_pair_int(w, "joined_ms", p->joined_ms);
    msgpack_pair_uint(w, "stores_shards", p->stores_shards);
    msgpack_write_text(w, "active");
    msgpack_write_array(w, count);
    for (uint32_t n = 0; n < SHARDS_MAX; n++)
        if (p->active[n / 8] >> (n % 8) & 1) msgpack_write_uint(w, n);
}

static void event_encode_cluster(struct msgpack_writer *w, const struct cluster_changed *p) {
    msgpack_write_map(w, p->generation ? 9 : 8);
    msgpack_pair_id(w, "cluster_id", &p->cluster_id);
    msgpack_pair_uint(w, "node_last", p->node_last);
    msgpack_pair_uint(w, "replicas", p->replicas);
    msgpack_pair_uint(w, "stores_shards", p->stores_shards);
    if (p->generation) msgpack_pair_uint(w, "generation", p->generation);
    msgpack_pair_uint(w, "node_gone", p->node_gone);
    msgpack_write_text(w, "nodes");
    msgpack_write_array(w, p->nodes_count);
    for (uint32_t i = 0; i < p->nodes_count; i++)
        cluster_encode_member(w, &cluster_changed_nodes(p)[i]);
    msgpack_write_text(w, "epochs");
    msgpack_write_array(w, p->epochs_count);
    for (uint32_t i = 0; i < p->epochs_count; i++)
        cluster_encode_epoch(w, &cluster_changed_epochs(p)[i]);
    msgpack_write_text(w, "shards");
    msgpack_write_array(w, p->shards_count);
    for (uint32_t i = 0; i < p->shards_count; i++)
        cluster_encode_shard(w, &cluster_changed_shards(p)[i]);
}

/* All kinds stand at schema 1 so far. */
static void event_encode_info(struct msgpack_writer *w, const struct event *e) {
    const void *p = event_payload(e);
    switch (e->schema == 1 ? e->kind : 0) {
    case EVENT_ORDER_PLACED: event_encode_placed(w, p); break;
    case EVENT_PAYMENT_RECORDED: event_encode_payment(w, p); break;
    case EVENT_ORDER_ACCEPTED: event_encode_accepted(w, p); break;
    case EVENT_ORDER_REJECTED: case EVENT_ORDER_CANCELLED: case EVENT_ORDER_EXPIRED:
    case EVENT_ORDER_COMPLETED: event_encode_ended(w, p); break;
    case EVENT_RIDER_ASSIGNED: event_encode_rider(w, p); break;
    case EVENT_ORDER_PICKED_UP: case EVENT_ORDER_DELIVERED: event_encode_moved(w, p); break;
    case EVENT_LINES_CANCELLED: event_encode_lines_cancelled(w, p); break;
    case EVENT_ORDER_REFUNDED: event_encode_refunded(w, p); break;
    case EVENT_ORDER_AMENDED: event_encode_amended(w, p); break;
    case EVENT_ORDER_ANNOTATED: event_encode_annotated(w, p); break;
    case EVENT_COMMAND_HELD: event_encode_held(w, p); break;
    case EVENT_HELD_COMMAND_RESOLVED: event_encode_held_resolved(w, p); break;
    case EVENT_HELD_COMMANDS_EXPIRED: event_encode_held_expired(w, p); break;
    case EVENT_STORE_PAUSED: case EVENT_STORE_RESUMED: event_encode_store(w, p); break;
    case EVENT_MESSAGE_SENT: case EVENT_MESSAGE_SEEN: case EVENT_MESSAGE_ACKNOWLEDGED:
        event_encode_message(w, e);
        break;
    case EVENT_SHARDS_KNOWN: event_encode_known(w, p); break;
    case EVENT_CLUSTER_CHANGED: event_encode_cluster(w, p); break;
    default: msgpack_write_map(w, 0); break;
    }
}

/* Items of the lists in the payload. */
static uint32_t event_encode_items(const struct event *e) {
    const void *p = event_payload(e);
    switch (e->schema == 1 ? e->kind : 0) {
    case EVENT_ORDER_PLACED: return ((const struct order_placed *)p)->lines_count;
    case EVENT_ORDER_AMENDED: return ((const struct order_amended *)p)->lines_count;
    case EVENT_LINES_CANCELLED: return ((const struct order_lines_cancelled *)p)->cuts_count;
    case EVENT_COMMAND_HELD: return ((const struct order_command_held *)p)->held.cuts_count;
    case EVENT_HELD_COMMANDS_EXPIRED: return ((const struct order_held_expired *)p)->parts_count;
    case EVENT_SHARDS_KNOWN: return SHARDS_MAX / 8; /* its bits become a list */
    default: return 0;
    }
}

static const char *event_encode_state(const struct event *e) {
    if (e->kind < EVENT_STORE_PAUSED) return order_state_name(e->state_after);
    if (e->kind == EVENT_STORE_PAUSED) return "paused";
    return e->kind == EVENT_STORE_RESUMED ? "running" : "";
}

size_t event_encode_bytes_max(const struct event *e) {
    return EVENT_ENCODE_FIXED_BYTES + event_payload_bytes(e) +
           (size_t)event_encode_items(e) * EVENT_ENCODE_ITEM_BYTES;
}

void event_encode(struct msgpack_writer *w, uint64_t index, int64_t time_ms,
                  const struct event *e) {
    struct id128 trace = event_trace(e);
    msgpack_write_map(w, 10);
    msgpack_pair_uint(w, "index", index);
    msgpack_pair_int(w, "time_ms", time_ms);
    msgpack_pair_id(w, "subject", &e->subject);
    msgpack_pair_uint(w, "version", e->version);
    msgpack_pair_text(w, "action", event_kind_name(e->kind));
    msgpack_pair_text(w, "state", event_encode_state(e));
    msgpack_pair_id(w, "cause", &e->cause);
    msgpack_pair_text(w, "cause_kind", command_kind_name(e->cause_kind));
    msgpack_pair_id(w, "trace", &trace);
    msgpack_write_text(w, "info");
    event_encode_info(w, e);
}
