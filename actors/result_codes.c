#include "actors/result_codes.h"

#include <stddef.h>

#define X(name, number, text) _Static_assert(sizeof(text) <= 96, "a sentence fits every buffer");
RESULT_CODES(X)
#undef X

const char *result_code_text(uint32_t code) {
    switch (code) {
#define X(name, number, text) \
    case number: return text;
        RESULT_CODES(X)
#undef X
    default: return "unknown result code";
    }
}

static const char *cluster_code_name(uint32_t code) {
    switch (code) {
    case RESULT_CLUSTER_NOT_FORMED: return "cluster_not_formed";
    case RESULT_CLUSTER_FORMED_ALREADY: return "cluster_formed_already";
    case RESULT_CLUSTER_NODES_TOO_FEW: return "cluster_nodes_too_few";
    case RESULT_CLUSTER_NODES_TOO_MANY: return "cluster_nodes_too_many";
    case RESULT_CLUSTER_NODE_TWICE: return "cluster_node_twice";
    case RESULT_CLUSTER_NODE_UNKNOWN: return "cluster_node_unknown";
    case RESULT_CLUSTER_NODE_IS_REMOVED: return "cluster_node_is_removed";
    case RESULT_CLUSTER_ENDPOINT_INVALID: return "cluster_endpoint_invalid";
    case RESULT_CLUSTER_REPLICAS_INVALID: return "cluster_replicas_invalid";
    case RESULT_CLUSTER_SHARDS_INVALID: return "cluster_shards_invalid";
    case RESULT_CLUSTER_SHARD_UNKNOWN: return "cluster_shard_unknown";
    case RESULT_CLUSTER_SHARD_IS_RETIRED: return "cluster_shard_is_retired";
    case RESULT_CLUSTER_NO_REPLICA_THERE: return "cluster_no_replica_there";
    case RESULT_CLUSTER_REPLICA_THERE: return "cluster_replica_there";
    case RESULT_CLUSTER_NODE_NOT_ACTIVE: return "cluster_node_not_active";
    case RESULT_CLUSTER_NODE_NOT_DRAINING: return "cluster_node_not_draining";
    case RESULT_CLUSTER_LAST_ACTIVE: return "cluster_last_active";
    case RESULT_CLUSTER_EPOCH_TOO_SOON: return "cluster_epoch_too_soon";
    case RESULT_CLUSTER_EPOCHS_LIMIT: return "cluster_epochs_limit";
    case RESULT_CLUSTER_NO_EPOCH_AHEAD: return "cluster_no_epoch_ahead";
    case RESULT_CLUSTER_SHARD_IN_USE: return "cluster_shard_in_use";
    case RESULT_CLUSTER_SHARD_LOST: return "cluster_shard_lost";
    case RESULT_CLUSTER_NOTHING_TO_DO: return "cluster_nothing_to_do";
    case RESULT_CLUSTER_LEVEL_UNSUPPORTED: return "cluster_level_unsupported";
    default: return "unknown";
    }
}

/* Those of the machine and of malformed messages; NULL = another. A test compares all names with
 * the table. */
static const char *machine_name(uint32_t code) {
    switch (code) {
    case RESULT_OK: return "ok";
    case RESULT_HELD: return "held";
    case RESULT_OVERLOADED: return "overloaded";
    case RESULT_NOT_READY: return "not_ready";
    case RESULT_NOT_LEADER: return "not_leader";
    case RESULT_DISK_FULL: return "disk_full";
    case RESULT_SHUTTING_DOWN: return "shutting_down";
    case RESULT_DEADLINE_PASSED: return "deadline_passed";
    case RESULT_OUT_OF_MEMORY: return "out_of_memory";
    case RESULT_STORAGE_FAILED: return "storage_failed";
    case RESULT_LEADERSHIP_LOST: return "leadership_lost";
    case RESULT_WRONG_CLUSTER: return "wrong_cluster";
    case RESULT_IMPORT_REQUIRED: return "import_required";
    case RESULT_SHARD_NOT_HERE: return "shard_not_here";
    case RESULT_TOKEN_NOT_REACHED: return "token_not_reached";
    case RESULT_READ_ONLY: return "read_only";
    case RESULT_VIEW_NOT_READY: return "view_not_ready";
    case RESULT_SNAPSHOT_GONE: return "snapshot_gone";
    case RESULT_MALFORMED_MESSAGE: return "malformed_message";
    case RESULT_UNSUPPORTED_VERSION: return "unsupported_version";
    case RESULT_MESSAGE_TOO_LARGE: return "message_too_large";
    case RESULT_BATCH_TOO_LARGE: return "batch_too_large";
    case RESULT_UNKNOWN_COMMAND: return "unknown_command";
    case RESULT_WRONG_SHARD: return "wrong_shard";
    case RESULT_MALFORMED_COMMAND: return "malformed_command";
    case RESULT_WRONG_TYPE: return "wrong_type";
    case RESULT_FIELD_MISSING: return "field_missing";
    case RESULT_TEXT_TOO_LONG: return "text_too_long";
    case RESULT_TEXT_NOT_UTF8: return "text_not_utf8";
    case RESULT_NUMBER_OUT_OF_RANGE: return "number_out_of_range";
    case RESULT_TOO_MANY_ITEMS: return "too_many_items";
    case RESULT_KEY_MISSING: return "key_missing";
    case RESULT_KEY_FROM_FUTURE: return "key_from_future";
    case RESULT_KEY_TOO_OLD: return "key_too_old";
    case RESULT_COMMAND_ID_MISSING: return "command_id_missing";
    case RESULT_COMMAND_TOO_LARGE: return "command_too_large";
    case RESULT_CURSOR_INVALID: return "cursor_invalid";
    case RESULT_FIELD_UNKNOWN: return "field_unknown";
    default: return NULL;
    }
}

/* Those of the rules. */
static const char *rule_name(uint32_t code) {
    switch (code) {
    case RESULT_ORDER_NOT_FOUND: return "order_not_found";
    case RESULT_COMMAND_ID_REUSED: return "command_id_reused";
    case RESULT_ORDER_EXISTS: return "order_exists";
    case RESULT_ORDER_EXPIRED_BEFORE_PLACED: return "order_expired_before_placed";
    case RESULT_ORDER_HAS_ENDED: return "order_has_ended";
    case RESULT_VERSION_CONFLICT: return "version_conflict";
    case RESULT_COMMANDS_LIMIT_REACHED: return "commands_limit_reached";
    case RESULT_HELD_LIMIT_REACHED: return "held_limit_reached";
    case RESULT_STORE_PAUSED: return "store_paused";
    case RESULT_LINES_MISSING: return "lines_missing";
    case RESULT_QUANTITY_NOT_POSITIVE: return "quantity_not_positive";
    case RESULT_QUANTITY_TOO_LARGE: return "quantity_too_large";
    case RESULT_MONEY_NEGATIVE: return "money_negative";
    case RESULT_MONEY_TOO_LARGE: return "money_too_large";
    case RESULT_TOTAL_MISMATCH: return "total_mismatch";
    case RESULT_CURRENCY_INVALID: return "currency_invalid";
    case RESULT_CURRENCY_MISMATCH: return "currency_mismatch";
    case RESULT_NOT_ALLOWED_IN_STATE: return "not_allowed_in_state";
    case RESULT_NOT_ALLOWED_FOR_FULFILMENT: return "not_allowed_for_fulfilment";
    case RESULT_PAYMENT_REQUIRED: return "payment_required";
    case RESULT_RIDER_REQUIRED: return "rider_required";
    case RESULT_RIDER_NOT_ASSIGNED: return "rider_not_assigned";
    case RESULT_AMOUNT_NOT_POSITIVE: return "amount_not_positive";
    case RESULT_PAYMENTS_LIMIT_REACHED: return "payments_limit_reached";
    case RESULT_PAYMENT_UNKNOWN: return "payment_unknown";
    case RESULT_PAYMENT_STATE_CONFLICT: return "payment_state_conflict";
    case RESULT_PAYMENT_AMOUNT_DIFFERS: return "payment_amount_differs";
    case RESULT_REFUND_EXCEEDS_CAPTURED: return "refund_exceeds_captured";
    case RESULT_NOTHING_TO_REFUND: return "nothing_to_refund";
    case RESULT_LINE_UNKNOWN: return "line_unknown";
    case RESULT_LINE_QUANTITY_EXCEEDED: return "line_quantity_exceeded";
    case RESULT_STORE_NOT_FOUND: return "store_not_found";
    case RESULT_STORE_ALREADY_PAUSED: return "store_already_paused";
    case RESULT_STORE_NOT_PAUSED: return "store_not_paused";
    case RESULT_STORES_LIMIT_REACHED: return "stores_limit_reached";
    default: return cluster_code_name(code);
    }
}

const char *result_code_name(uint32_t code) {
    const char *name = machine_name(code);
    return name ? name : rule_name(code);
}
