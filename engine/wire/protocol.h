/* The wire protocol's numbers: msgpack over nng REQ/REP. docs/protocol.md is the manual by example.
 *
 * request = [version, deadline_ms, [command, ...], flags?, cluster_id?]
 *   deadline_ms   Unix ms after which the commands are not decided any more; 0 = none
 *   flags         uint, REQUEST_FLAG_*; may be absent or nil. Unknown ones: MALFORMED_MESSAGE
 *   cluster_id    bin 16: a node of any other cluster refuses the message, WRONG_CLUSTER; nil or
 *                 absent = any. An address may come to lead to an empty node, or to another cluster
 *   command = [kind, subject, id, expected_version, body, trace?]
 *     kind              uint, see COMMAND_KINDS (actors/command.h) and NODE_COMMANDS
 *     subject           order commands: bin 16, the key. store commands: str, the store id.
 *                       node and cluster commands: nil
 *     id                bin 16, the command id; nil for reads and node commands
 *     expected_version  uint; 0 or nil = none
 *     body              array, by kind, fields by position (below); nil = empty
 *     trace             bin 16; may be absent or nil
 * Fields at the end of an array may be left out when they are optional; nil always means "absent".
 * Fields behind those that a node knows are refused (MALFORMED_COMMAND), so that nothing that a
 * client asked for is silently ignored.
 *
 * bodies:
 *   place           [fulfilment, payment_timing, currency, store, lines, fees, discounts, total,
 *                    customer?, group?, external_ref?, attributes? (bin), payment_timeout_ms?,
 *                    acceptance_timeout_ms?, auto_complete_ms?]     lines = [[sku, quantity,
 *                    unit_price, name?], ...]
 *   pay             [state, method, reference, amount]
 *   accept          [preparation_minutes?]      reject  [reason?]
 *   mark_ready      []   unassign_rider []   pick_up []   deliver []   complete []
 *   assign_rider    [rider]
 *   cancel          [by, reason?, lines?]        lines = [[line, quantity], ...]; absent = whole
 *   refund          [amount?, reason?]           amount absent or 0 = all that is left
 *   amend           [lines, fees, discounts, total]
 *   annotate        [note]
 *   get             []        history [limit?]
 *   store_pause     [reason?]  store_resume []   store_get []
 *   cluster_form            [cluster_id (bin 16), nodes, shards, replicas, seeded?]
 *                           nodes = [[node, peer address, client address], ...]
 *   cluster_add_node        [peer, client]
 *   cluster_replace_node    [node, peer, client]    cluster_readdress_node [node, peer, client]
 *   cluster_remove_node     [node]   cluster_drain [node]   cluster_undrain [node]
 *   cluster_move_replica    [shard, from node, to node]     cluster_prefer [shard, node]
 *   cluster_balance []      cluster_grow [shards, from_ms]  cluster_cancel_grow []
 *   cluster_retire_shard    [shard]  cluster_get []
 *
 * reply  = [version, code, results]            code 0
 *        | [version, code, "sentence"]         the whole message was refused
 *   result = [code, order_version, shard, index]                        done (0) or held (1)
 *          | [code, order_version, shard, index, flags]                 flags: 1 = repeated
 *          | [code, order_version, shard, index, flags, value]          reads: the answer
 *          | [code, order_version, shard, index, flags, "sentence", retry_after_ms]   refused
 *          | [the same 7, "tcp://host:port"]     NOT_LEADER, when it is known where the leader is
 *   (shard, index) is a token: a state that has applied it contains the command's effect.
 *
 * values (maps may grow: a reader skips keys that it does not know):
 *   PING            "pong"
 *   SHARD_MAP       {"epochs": [[from_ms, shards_count], ...],   sorted, the first from 0
 *                    "shards": [[shard, "tcp://host:port"], ...], the endpoint of its leader;
 *                                "" = no leader is known now, the general endpoint takes it
 *                    "nodes": [[node, "tcp://host:port"], ...],   in a cluster: general endpoints
 *                    "version": number,                           grows when nodes or epochs change
 *                    "stores_shards": number,                     if not that of the newest epoch
 *                    "cluster_id": "32 hex digits",
 *                    "ancestors": ["32 hex digits", ...]}         if any: clusters that went over
 *                                                                 into this one, the last one first
 *                   a host of "0.0.0.0" or "*" stands for the host that the client asked
 *   GET             map of the fields of struct order_view (actors/order/order.h) by name: key bin
 *                   16, state and currency str, fulfilment / payment_timing / ended_by numbers,
 *                   "lines": [[sku, quantity, cancelled, unit_price, name?], ...],
 *                   "payments": [[method, reference, amount, state (str)], ...]
 *   CLUSTER_GET     map of the cluster document, see cluster_encode.h
 */
#ifndef JUMUN_WIRE_PROTOCOL_H
#define JUMUN_WIRE_PROTOCOL_H

enum { PROTOCOL_VERSION = 1 };

enum { RESULT_FLAG_REPEATED = 1 };

/* Another node sends it on for a client: it is not sent on once more. */
enum { REQUEST_FLAG_FORWARDED = 1, REQUEST_FLAGS_KNOWN = 1 };

/* Answered by the node itself. X(name, number) */
#define NODE_COMMANDS(X)                                                                           \
    X(PING, 100)       /* -> "pong" */                                                             \
    X(SHARD_MAP, 101)  /* -> map: who owns which keys, and where */                                \
    X(STATUS, 102)     /* -> map: everything `jumun status` shows */                              \
    X(CLUSTER_DOCUMENT, 103) /* -> the node's own copy of what CLUSTER_GET answers */

enum node_command {
#define X(name, number) NODE_COMMAND_##name = number,
    NODE_COMMANDS(X)
#undef X
};

#endif
