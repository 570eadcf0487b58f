/* Reads the history of one order from the log: events are chained backwards by event.prev_index, so
 * no index besides the log is kept and writing costs nothing. */
#ifndef JUMUN_SHARD_HISTORY_H
#define JUMUN_SHARD_HISTORY_H

#include "engine/shard/request.h"
#include "persistence/storage.h"

/* Fills the result at `position` (value_kind RESULT_VALUE_HISTORY, index = entry of the newest
 * event) for its command: up to command->history.limit newest events, oldest first, each behind a
 * history_item. Blocks on the disk; any thread. Events that retention has dropped are left out,
 * and those behind which a peer's state was installed. On
 * a damaged log: code STORAGE_FAILED, the fault is logged. More than the part may still carry
 * (REPLY_VALUES_BYTES_MAX): code MESSAGE_TOO_LARGE. */
void history_read(struct storage *storage, struct request_part *part, uint32_t position);

#endif
