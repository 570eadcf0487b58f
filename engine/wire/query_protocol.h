/* Queries: what a replica answers. msgpack over nng REQ/REP, in the envelope of the commands
 * (engine/wire/protocol.h): a `get` that is sent to a node may be sent to a replica as it is.
 * docs/replicas.md is the manual by example.
 *
 * request = [version, deadline_ms, [query, ...], at_least?, max_age_ms?]
 *   deadline_ms   Unix ms until which the replica may wait for at_least and max_age_ms, and WATCH
 *                 for a change; nil or 0 = it does not wait; negative: so many ms from its arrival
 *                 on, which needs no clocks that agree. At most QUERY_WAIT_MS_MAX ahead counts
 *   at_least      [[shard, index], ...]: the state must contain these tokens (read your writes)
 *   max_age_ms    the state must not be older; nil = any age, and so does what a message for nodes
 *                 has there: bin 16, the cluster that these are of. A replica does not look at it
 *   query = [kind, ...]
 *     GET              [key, fields?]
 *     MULTI_GET        [keys, fields?]          keys: bin, 16 bytes each, QUERY_KEYS_MAX at most
 *     BY_REF           [external_ref, fields?, limit?, cursor?]
 *     CUSTOMER_ORDERS  [customer, fields?, limit?, cursor?]                  newest first
 *     STORE_BOARD      [store, states?, fields?, limit?, cursor?]  open orders, by state, oldest
 *                      first; states: [state number, ...] (enum order_state); one that
 *                      there is not is refused
 *     STATE_ORDERS     [state, from_ms?, to_ms?, fields?, limit?, cursor?]   by time placed, in
 *                      [from_ms, to_ms), oldest first
 *     COUNTERS         [bucket_ms, from_ms, to_ms, store?, states?, limit?, cursor?]
 *                      bucket_ms: 60000 or 86400000 (UTC); store nil or "" = all stores together
 *     WATCH            [topic, since?, fields?, limit?]     topic: "order/<26 characters>",
 *                      "store/<id>", "customer/<id>"; since: [[shard, index], ...], nil = now
 *     EXPORT           [snapshot (uint), fields?, limit?, cursor?]    all orders by key, at the
 *                      snapshot's tokens (SNAPSHOT_BEGIN of engine/wire/feed_protocol.h)
 *     REBUILD          [view]           an index by name: to be made anew from the orders, beside
 *                      the one that answers, which it then takes the place of. For operators
 *     PING, STATUS, SHARD_MAP (protocol.h)      []
 *   Fields that nil stands for may be left out at the end; more than there are is refused.
 *     fields   [name, ...] of those that a GET shows (docs/protocol.md), QUERY_FIELDS_MAX at most;
 *              nil = all, as a map
 *     limit    rows at most, 1..QUERY_ROWS_MAX; nil = QUERY_ROWS_DEFAULT
 *     cursor   bin that the answer before gave: go on behind it. Good at every replica
 *   SNAPSHOT_* of engine/wire/feed_protocol.h may be sent to a replica as well: [1, 303, nil], ...
 *
 * reply = [version, code, results, tokens, missing]         code 0
 *       | [version, code, "sentence"]                       the whole message was refused
 *   tokens   [[shard, index, age_ms], ...]: the state that all results of this message are of. All
 *            shards that the replica follows. age_ms: how long ago the state was known to be the
 *            newest there is
 *   missing  [shard, ...]: of these the results may lack something: at_least or max_age_ms was not
 *            reached by the deadline, or the replica has not got them yet (it follows them from
 *            nothing and has not been up to date once, it imports them, or it knows of them only)
 *   result = [0, order_version, shard, index, flags, value, cursor?]       flags: 2 = partial, for
 *            the shards in `missing`; 4 = of COUNTERS, uncounted: the numbers lack events of the
 *            past (STATUS names the shards); cursor: there is more
 *          | [code, order_version, shard, index, flags, "sentence", retry_after_ms]
 *            NOT_READY: the replica has reached no node yet and knows no shard; it waits for
 *            nothing then, so that another one can be asked
 *   order_version, shard, index are set for GET, else 0. index: the state's, as in tokens.
 *
 * values
 *   row              the order as a map (as a GET at a node shows it), or, with fields, an array of
 *                    their values in the order of asking
 *   GET              row; ORDER_NOT_FOUND; TOKEN_NOT_REACHED when its shard is missing
 *   MULTI_GET        [row | nil, ...] in the order of the keys; fewer than asked for when the
 *                    message is full: ask for the rest
 *   lists            [row, ...]
 *   COUNTERS         [[start_ms, store, state number, currency, orders, total, captured, refunded],
 *                    ...]: of the bucket that starts then: orders that came into the state in it,
 *                    the sum of their totals, and the money that was captured and refunded in it
 *                    by orders that were then in the state. Into `placed` an order comes once, when
 *                    it is placed; one with nothing to pay counts as `paid` then, too
 *   WATCH            [[row, ...], tokens, complete]: orders of the topic that changed behind
 *                    `since`, each once and as it is now, by (shard, index of the change). tokens:
 *                    [[shard, index], ...], the `since` to go on with: nothing is missed and
 *                    nothing comes twice. complete = false: there is more already. An empty list:
 *                    nothing by the deadline
 *   EXPORT           [row, ...]
 *   REBUILD          {"view": str, "generation": uint, "under_way": bool}: it has begun, or was
 *                    under way already and goes on (true); it is done when the view's generation
 *                    in STATUS is higher than that
 *   STATUS           map: docs/replicas.md
 *   SHARD_MAP        {"replica": true, "cluster_id": str, "notify": str, "shards": [shard, ...]};
 *                    cluster_id: "" = it has reached no node yet
 *
 * Commands that change something are answered READ_ONLY. */
#ifndef JUMUN_WIRE_QUERY_PROTOCOL_H
#define JUMUN_WIRE_QUERY_PROTOCOL_H

#include "engine/wire/protocol.h"

/* GET is the command of this number. X(name, number) */
#define QUERY_KINDS(X)         \
    X(MULTI_GET, 200)          \
    X(BY_REF, 201)             \
    X(CUSTOMER_ORDERS, 202)    \
    X(STORE_BOARD, 203)        \
    X(STATE_ORDERS, 204)       \
    X(COUNTERS, 205)           \
    X(WATCH, 206)              \
    X(EXPORT, 207)             \
    X(REBUILD, 208)

enum query_kind {
    QUERY_GET = 20,
#define X(name, number) QUERY_##name = number,
    QUERY_KINDS(X)
#undef X
};

enum { RESULT_FLAG_PARTIAL = 2, RESULT_FLAG_UNCOUNTED = 4 };

#endif
