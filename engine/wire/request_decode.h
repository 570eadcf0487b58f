/* Bytes of a client -> commands. Every byte is untrusted.
 *
 * A fault of the message (not msgpack, another version, over a limit) refuses the message. A fault
 * inside one command is that command's alone: command.malformed says what it is, and decoding goes
 * on with the next. Fields are read in the order in which they stand; the first fault found is the
 * answer. Rules that need more than the bytes (quantities of 0, totals, currencies, how old a key
 * is) are not checked here. */
#ifndef JUMUN_WIRE_REQUEST_DECODE_H
#define JUMUN_WIRE_REQUEST_DECODE_H

#include "actors/command.h"
#include "actors/result_codes.h"
#include "engine/wire/wire_arena.h"

struct wire_request {
    int64_t deadline_ms;      /* Unix; 0 = none */
    struct command *commands; /* in the arena; texts point into the message */
    uint32_t commands_count;  /* 1..BATCH_COMMANDS_MAX */
    uint32_t flags;           /* REQUEST_FLAG_* */
    struct id128 cluster_id;  /* that it is meant for; zero = any */
};

/* Decodes a whole message of `size` bytes, which must outlive the commands.
 *
 * RESULT_OK, or the code that refuses the whole message: MALFORMED_MESSAGE (an empty batch
 * included), UNSUPPORTED_VERSION, MESSAGE_TOO_LARGE, BATCH_TOO_LARGE, OUT_OF_MEMORY. Then *request
 * is untouched. The arena takes memory for lists that are right, at most about 10 bytes per byte of
 * them, in chunks of WIRE_ARENA_BYTES_MAX together; free it in either case.
 *
 * Of each command:
 *   kind       as sent; 0 when it could not be read or does not fit
 *   malformed  0, or UNKNOWN_COMMAND, WRONG_TYPE, FIELD_MISSING, TEXT_TOO_LONG, TEXT_NOT_UTF8,
 *              NUMBER_OUT_OF_RANGE, TOO_MANY_ITEMS, KEY_MISSING, COMMAND_ID_MISSING,
 *              COMMAND_TOO_LARGE, MALFORMED_COMMAND, OUT_OF_MEMORY
 *   subject    the key of order commands. For store commands it stays zero: the caller sets it to
 *              store_key(command->store.store, false), which also holds for those.
 *              cluster_key() of commands for the cluster document
 *   id         zero for reads and node commands, even when one was sent
 * Node commands (NODE_COMMANDS of protocol.h) have nothing but their kind. */
enum result_code request_decode(const void *message, size_t size, struct wire_arena *arena,
                                struct wire_request *request);

/* Where the commands of a message that request_decode() has accepted stand in it: `spans` gets
 * wire_request.commands_count of them, in order. */
void request_spans(const void *message, size_t size, struct bytes *spans);

/* Of a command without a fault: whether its subject is a store. */
static inline bool command_is_for_store(uint8_t kind) {
    return kind >= COMMAND_STORE_PAUSE && kind <= COMMAND_STORE_GET;
}

#endif
