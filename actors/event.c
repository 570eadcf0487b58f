#include "actors/event.h"

static uint32_t event_padded(uint32_t bytes) { return (bytes + 7u) & ~7u; }

struct event *event_sink_add(struct event_sink *sink, uint8_t kind, uint8_t schema,
                             uint32_t payload_bytes, const struct id128 *trace) {
    bool traced = trace && !id128_is_zero(trace);
    uint32_t bytes = (uint32_t)sizeof(struct event) + event_padded(payload_bytes) +
                     (traced ? (uint32_t)sizeof *trace : 0);
    require(sink->size <= sink->capacity);
    require(payload_bytes <= sink->capacity && bytes <= sink->capacity - sink->size);
    require(((uintptr_t)sink->data & 7u) == 0 && (sink->size & 7u) == 0);
    struct event *event = (struct event *)(void *)(sink->data + sink->size);
    memset(event, 0, bytes);
    event->bytes = bytes;
    event->kind = kind;
    event->schema = schema;
    if (traced) {
        event->flags = EVENT_FLAG_TRACED;
        memcpy((uint8_t *)event + bytes - sizeof *trace, trace, sizeof *trace);
    }
    sink->size += bytes;
    sink->events_count++;
    return event;
}

const struct event *event_next(const void *data, uint32_t size, uint32_t *offset) {
    uint32_t at = *offset;
    if (at > size || size - at < sizeof(struct event)) return NULL;
    const uint8_t *place = (const uint8_t *)data + at;
    if (((uintptr_t)place & 7u) != 0) return NULL;
    const struct event *event = (const struct event *)(const void *)place;
    if (!event_is_whole(event) || event->bytes > size - at) return NULL;
    *offset = at + event->bytes;
    return event;
}

const char *event_kind_name(uint32_t kind) {
    switch ((enum event_kind)kind) {
    case EVENT_ORDER_PLACED: return "order_placed";
    case EVENT_PAYMENT_RECORDED: return "payment_recorded";
    case EVENT_ORDER_ACCEPTED: return "order_accepted";
    case EVENT_ORDER_REJECTED: return "order_rejected";
    case EVENT_ORDER_READY: return "order_ready";
    case EVENT_RIDER_ASSIGNED: return "rider_assigned";
    case EVENT_RIDER_UNASSIGNED: return "rider_unassigned";
    case EVENT_ORDER_PICKED_UP: return "order_picked_up";
    case EVENT_ORDER_DELIVERED: return "order_delivered";
    case EVENT_ORDER_COMPLETED: return "order_completed";
    case EVENT_ORDER_CANCELLED: return "order_cancelled";
    case EVENT_LINES_CANCELLED: return "lines_cancelled";
    case EVENT_ORDER_REFUNDED: return "order_refunded";
    case EVENT_ORDER_AMENDED: return "order_amended";
    case EVENT_ORDER_ANNOTATED: return "order_annotated";
    case EVENT_ORDER_EXPIRED: return "order_expired";
    case EVENT_COMMAND_HELD: return "command_held";
    case EVENT_HELD_COMMAND_RESOLVED: return "held_command_resolved";
    case EVENT_HELD_COMMANDS_EXPIRED: return "held_commands_expired";
    case EVENT_ORDER_RETIRED: return "order_retired";
    case EVENT_STORE_PAUSED: return "store_paused";
    case EVENT_STORE_RESUMED: return "store_resumed";
    case EVENT_MESSAGE_SENT: return "message_sent";
    case EVENT_MESSAGE_SEEN: return "message_seen";
    case EVENT_MESSAGE_ACKNOWLEDGED: return "message_acknowledged";
    case EVENT_SHARDS_KNOWN: return "shards_known";
    case EVENT_CLUSTER_CHANGED: return "cluster_changed";
    }
    return "unknown";
}
