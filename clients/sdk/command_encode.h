/* jumun_command -> the bytes of one command of docs/protocol.md. Pure; any thread. */
#ifndef JUMUN_SDK_COMMAND_ENCODE_H
#define JUMUN_SDK_COMMAND_ENCODE_H

#include "clients/sdk/jumun.h"
#include "engine/wire/msgpack_writer.h"

/* NULL if the command can be encoded, else a sentence that says what is wrong with it. Only what
 * the library itself cannot do without is looked at; the engine judges the rest. */
const char *command_encode_fault(const jumun_command *command);

/* Upper bound of the encoded command's bytes. The command has no fault. */
size_t command_encode_bytes_max(const jumun_command *command);

/* Writes [kind, subject, id, expected_version, body, trace?]. `id` is used instead of the one in
 * the options. The command has no fault; a buffer too small shows in the writer. */
void command_encode(struct msgpack_writer *w, const jumun_command *command, const jumun_key *id);

/* Head of a message: [version, deadline_ms, [count commands follow, and behind them the tail if it
 * is said that there is one. Always COMMAND_ENCODE_HEAD_BYTES long. */
enum { COMMAND_ENCODE_HEAD_BYTES = 14, COMMAND_ENCODE_TAIL_BYTES = 19 };
void command_encode_head(uint8_t head[COMMAND_ENCODE_HEAD_BYTES], int64_t deadline_ms,
                         uint32_t count, bool tail);
/* Tail of a message: no flags, and the cluster that it is meant for. */
void command_encode_tail(uint8_t tail[COMMAND_ENCODE_TAIL_BYTES], const uint8_t cluster_id[16]);

static inline bool command_is_for_store(jumun_kind kind) {
    return kind >= JUMUN_STORE_PAUSE && kind <= JUMUN_STORE_GET;
}

static inline bool command_is_for_node(jumun_kind kind) { return kind >= JUMUN_NODE_PING; }

static inline bool command_only_reads(jumun_kind kind) {
    return kind == JUMUN_GET || kind == JUMUN_HISTORY || kind == JUMUN_STORE_GET ||
           command_is_for_node(kind);
}

#endif
