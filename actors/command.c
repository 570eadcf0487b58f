#include "actors/command.h"

const char *command_kind_name(uint32_t kind) {
    switch ((enum command_kind)kind) {
    case COMMAND_PLACE: return "place";
    case COMMAND_PAY: return "pay";
    case COMMAND_ACCEPT: return "accept";
    case COMMAND_REJECT: return "reject";
    case COMMAND_MARK_READY: return "mark_ready";
    case COMMAND_ASSIGN_RIDER: return "assign_rider";
    case COMMAND_UNASSIGN_RIDER: return "unassign_rider";
    case COMMAND_PICK_UP: return "pick_up";
    case COMMAND_DELIVER: return "deliver";
    case COMMAND_COMPLETE: return "complete";
    case COMMAND_CANCEL: return "cancel";
    case COMMAND_REFUND: return "refund";
    case COMMAND_AMEND: return "amend";
    case COMMAND_ANNOTATE: return "annotate";
    case COMMAND_GET: return "get";
    case COMMAND_HISTORY: return "history";
    case COMMAND_STORE_PAUSE: return "store_pause";
    case COMMAND_STORE_RESUME: return "store_resume";
    case COMMAND_STORE_GET: return "store_get";
    case COMMAND_TIMER_DUE: return "timer_due";
    case COMMAND_RESOLVE_HELD: return "resolve_held";
    case COMMAND_STORE_MESSAGE: return "store_message";
    case COMMAND_CLUSTER_FORM: return "cluster_form";
    case COMMAND_CLUSTER_ADD_NODE: return "cluster_add_node";
    case COMMAND_CLUSTER_REMOVE_NODE: return "cluster_remove_node";
    case COMMAND_CLUSTER_REPLACE_NODE: return "cluster_replace_node";
    case COMMAND_CLUSTER_READDRESS_NODE: return "cluster_readdress_node";
    case COMMAND_CLUSTER_DRAIN: return "cluster_drain";
    case COMMAND_CLUSTER_UNDRAIN: return "cluster_undrain";
    case COMMAND_CLUSTER_MOVE_REPLICA: return "cluster_move_replica";
    case COMMAND_CLUSTER_PREFER: return "cluster_prefer";
    case COMMAND_CLUSTER_BALANCE: return "cluster_balance";
    case COMMAND_CLUSTER_GROW: return "cluster_grow";
    case COMMAND_CLUSTER_CANCEL_GROW: return "cluster_cancel_grow";
    case COMMAND_CLUSTER_RETIRE_SHARD: return "cluster_retire_shard";
    case COMMAND_CLUSTER_MOVE_STORES: return "cluster_move_stores";
    case COMMAND_CLUSTER_RAISE_LEVEL: return "cluster_raise_level";
    case COMMAND_CLUSTER_GET: return "cluster_get";
    }
    return "unknown";
}
