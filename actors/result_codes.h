/* Every answer that a command can get, as a sentence with a frozen number.
 *
 * Numbers never change and are never used again. Order within a group is order of precedence: when
 * several refusals hold at once, the first one in this table is the answer.
 *
 *   0          done
 *   1 .. 49    the machine: load, routing, time (retry may help; the command changed nothing
 *              unless the text says otherwise)
 *   50 .. 99   the message or the command is malformed (a retry of the same bytes never helps);
 *              here the first fault met while reading is the answer, not the first in the table
 *   100 .. 299 the order rules refuse
 *   300 .. 349 the store rules refuse
 *   350 .. 399 the rules of the cluster document refuse
 *
 * X(name, number, sentence) */
#ifndef JUMUN_ACTORS_RESULT_CODES_H
#define JUMUN_ACTORS_RESULT_CODES_H

#include <stdint.h>

#define RESULT_CODES(X)                                                                            \
    X(OK, 0, "done")                                                                               \
    X(HELD, 1, "held until its order is placed")                                                   \
    X(OVERLOADED, 2, "overloaded: retry after the time given")                                     \
    X(NOT_READY, 3, "the shard is recovering: retry after the time given")                         \
    X(NOT_LEADER, 4, "this node does not lead the shard")                                          \
    X(DISK_FULL, 5, "no room on disk: writes are refused until there is")                          \
    X(SHUTTING_DOWN, 6, "the node is shutting down")                                               \
    X(DEADLINE_PASSED, 7, "the request's deadline had passed before it was decided")               \
    X(OUT_OF_MEMORY, 8, "no memory for this command: retry after the time given")                  \
    X(STORAGE_FAILED, 9, "what is stored of the order cannot be read: see the node's log")         \
    X(LEADERSHIP_LOST, 10, "the shard's leader changed: ask the new one, under the same id")       \
    X(WRONG_CLUSTER, 11, "this node belongs to another cluster than the one that was asked for")   \
    X(IMPORT_REQUIRED, 20, "the log does not reach back that far: import, then go on behind it")   \
    X(SHARD_NOT_HERE, 21, "this node has no replica of the shard: ask another one")                \
    X(TOKEN_NOT_REACHED, 22, "the state that was asked for was not reached in time")               \
    X(READ_ONLY, 23, "a replica takes no commands: send them to a node")                           \
    X(VIEW_NOT_READY, 24, "the view is being built: retry after the time given")                   \
    X(SNAPSHOT_GONE, 25, "there is no such snapshot any more: begin a new one")                    \
    X(MALFORMED_MESSAGE, 50, "the message is not a well-formed request in msgpack")                \
    X(UNSUPPORTED_VERSION, 51, "the protocol version is not supported")                            \
    X(MESSAGE_TOO_LARGE, 52, "the message is over the limit")                                      \
    X(BATCH_TOO_LARGE, 53, "the batch holds more commands than the limit")                         \
    X(UNKNOWN_COMMAND, 54, "the command kind is unknown")                                          \
    X(WRONG_SHARD, 55, "this endpoint does not own the order's shard")                             \
    X(MALFORMED_COMMAND, 60, "the command does not have the documented shape")                     \
    X(WRONG_TYPE, 61, "a field has the wrong type")                                                \
    X(FIELD_MISSING, 62, "a required field is missing")                                            \
    X(TEXT_TOO_LONG, 63, "a text is over its limit")                                               \
    X(TEXT_NOT_UTF8, 64, "a text is not valid UTF-8")                                              \
    X(NUMBER_OUT_OF_RANGE, 65, "a number is outside its range")                                    \
    X(TOO_MANY_ITEMS, 66, "a list is over its limit")                                              \
    X(KEY_MISSING, 67, "the order key is missing or zero")                                         \
    X(KEY_FROM_FUTURE, 68, "the order key was born too far in the future")                         \
    X(KEY_TOO_OLD, 69, "the order key is older than an order can live")                            \
    X(COMMAND_ID_MISSING, 70, "the command id is missing or zero")                                 \
    X(COMMAND_TOO_LARGE, 71, "the command is over the size limit")                                 \
    X(CURSOR_INVALID, 72, "the cursor does not belong to this query")                              \
    X(FIELD_UNKNOWN, 73, "an order has no field of this name")                                     \
    X(ORDER_NOT_FOUND, 100, "no order has this key")                                               \
    X(COMMAND_ID_REUSED, 101, "this command id was used for another command")                      \
    X(ORDER_EXISTS, 102, "an order with this key exists already")                                  \
    X(ORDER_EXPIRED_BEFORE_PLACED, 103, "commands were held for this key and ran out of time")     \
    X(ORDER_HAS_ENDED, 104, "the order has ended")                                                 \
    X(VERSION_CONFLICT, 105, "the order has another version than expected")                        \
    X(COMMANDS_LIMIT_REACHED, 106, "the order has acted on as many commands as it can")            \
    X(HELD_LIMIT_REACHED, 107, "as many commands as possible are held for this key")               \
    X(STORE_PAUSED, 110, "the store takes no new orders")                                          \
    X(LINES_MISSING, 111, "an order needs at least one line")                                      \
    X(QUANTITY_NOT_POSITIVE, 112, "a quantity must be at least 1")                                 \
    X(QUANTITY_TOO_LARGE, 113, "a quantity is over the limit")                                     \
    X(MONEY_NEGATIVE, 114, "an amount of money must not be negative")                              \
    X(MONEY_TOO_LARGE, 115, "an amount or a sum of money is over the limit")                       \
    X(TOTAL_MISMATCH, 116, "lines plus fees minus discounts is not the total")                     \
    X(CURRENCY_INVALID, 117, "the currency is not three capital letters of ISO 4217")              \
    X(CURRENCY_MISMATCH, 118, "the currency is not that of the order")                             \
    X(NOT_ALLOWED_IN_STATE, 120, "the order's state does not allow this")                          \
    X(NOT_ALLOWED_FOR_FULFILMENT, 121, "this kind of fulfilment does not have that step")          \
    X(PAYMENT_REQUIRED, 122, "the order must be paid first")                                       \
    X(RIDER_REQUIRED, 123, "a rider must be assigned first")                                       \
    X(RIDER_NOT_ASSIGNED, 124, "no rider is assigned")                                             \
    X(AMOUNT_NOT_POSITIVE, 130, "the amount must be greater than 0")                               \
    X(PAYMENTS_LIMIT_REACHED, 131, "the order has as many payment parts as it can")                \
    X(PAYMENT_UNKNOWN, 132, "no payment part has this reference")                                  \
    X(PAYMENT_STATE_CONFLICT, 133, "the payment part's state does not allow this result")          \
    X(PAYMENT_AMOUNT_DIFFERS, 134, "the payment part was announced with another amount")           \
    X(REFUND_EXCEEDS_CAPTURED, 135, "more would be refunded than was captured")                    \
    X(NOTHING_TO_REFUND, 136, "nothing is left to refund")                                         \
    X(LINE_UNKNOWN, 140, "the order has no such line")                                             \
    X(LINE_QUANTITY_EXCEEDED, 141, "more of a line would be cancelled than is left")               \
    X(STORE_NOT_FOUND, 300, "no store with this id is known")                                      \
    X(STORE_ALREADY_PAUSED, 301, "the store is paused already")                                    \
    X(STORE_NOT_PAUSED, 302, "the store is not paused")                                            \
    X(STORES_LIMIT_REACHED, 303, "the shard holds as many stores as it can")                       \
    X(CLUSTER_NOT_FORMED, 350, "this node belongs to no cluster yet: form one, or join")           \
    X(CLUSTER_FORMED_ALREADY, 351, "the cluster is formed already")                                \
    X(CLUSTER_NODES_TOO_FEW, 352,                                                                  \
      "too few nodes: each replica of a shard needs one of its own that is not drained")           \
    X(CLUSTER_NODES_TOO_MANY, 353, "the cluster has as many nodes as it can")                      \
    X(CLUSTER_NODE_TWICE, 354, "a node or an address is named twice")                              \
    X(CLUSTER_NODE_UNKNOWN, 355, "the cluster has no such node")                                   \
    X(CLUSTER_NODE_IS_REMOVED, 356,                                                                \
      "the node was removed or replaced already; its number never returns")                        \
    X(CLUSTER_ENDPOINT_INVALID, 357, "an address is not of the form tcp://host:port")              \
    X(CLUSTER_REPLICAS_INVALID, 358, "this number of replicas is not possible: 3, 5 or 7")         \
    X(CLUSTER_SHARDS_INVALID, 359, "the number of shards is 0 or over the limit")                  \
    X(CLUSTER_SHARD_UNKNOWN, 360, "the cluster has no such shard")                                 \
    X(CLUSTER_SHARD_IS_RETIRED, 361, "the shard is retired")                                       \
    X(CLUSTER_NO_REPLICA_THERE, 362, "the node has no replica of this shard")                      \
    X(CLUSTER_REPLICA_THERE, 363, "the node has a replica of this shard already")                  \
    X(CLUSTER_NODE_NOT_ACTIVE, 364, "the node is being drained")                                   \
    X(CLUSTER_NODE_NOT_DRAINING, 365, "the node is not being drained")                             \
    X(CLUSTER_LAST_ACTIVE, 366, "a shard would have no node left that may lead it")                \
    X(CLUSTER_EPOCH_TOO_SOON, 367, "the time is less than 70 s ahead, or before an epoch")         \
    X(CLUSTER_EPOCHS_LIMIT, 368, "the cluster has as many epochs as it can")                       \
    X(CLUSTER_NO_EPOCH_AHEAD, 369, "no growth is 70 s or more ahead: none can be cancelled")       \
    X(CLUSTER_SHARD_IN_USE, 370, "orders or stores of this shard may still be there")              \
    X(CLUSTER_SHARD_LOST, 371, "a retired shard is needed whose nodes were removed")               \
    X(CLUSTER_NOTHING_TO_DO, 372, "there is nothing to change")                                    \
    X(CLUSTER_LEVEL_UNSUPPORTED, 373, "a node does not support this level, or was not asked")

enum result_code {
#define X(name, number, text) RESULT_##name = number,
    RESULT_CODES(X)
#undef X
};

/* The sentence of a code; "unknown result code" for a number outside the table. Never NULL. */
const char *result_code_text(uint32_t code);

/* The lower-case name of a code, like "store_paused"; "unknown" outside the table. Never NULL. */
const char *result_code_name(uint32_t code);

#endif
