/* A message between two replicas of a group (persistence/consensus.h) as it travels between nodes:
 * the body of an envelope of kind PEER_CONSENSUS.
 *
 *   [shard, kind, version, features, capacity, flags, from, to, term, last_index, last_term,
 *    rejected, configuration_index, previous_index, previous_term, commit_index,
 *    [[type, term, payload], ...], checksum]
 *
 *     kind       uint, enum consensus_message_kind
 *     flags      1 granted, 2 pre_vote, 4 disrupt_leader
 *     records    only of an append: record i has index previous_index + 1 + i; payload is bin
 *     checksum   XXH3-64 of all bytes of the body before it: what a bad memory or a bad network
 *                card changed on the way must not get into a log
 *     others     uint, as in struct consensus_message; 0 where a kind has no use for one
 *
 * A heartbeat of shard 3: dc 00 12 03 01 00 00 00 00 01 02 05 00 00 00 00 2a 04 29 90 cf ...
 * Pure; any thread. */
#ifndef JUMUN_PEERS_CONSENSUS_CODEC_H
#define JUMUN_PEERS_CONSENSUS_CODEC_H

#include "engine/base/bytes.h"
#include "engine/limits.h"
#include "engine/wire/msgpack_writer.h"
#include "persistence/consensus.h"

/* Bytes that consensus_codec_write() needs at most. */
size_t consensus_codec_bytes_max(const struct consensus_message *message);

/* Writes one body. All records must be there: an append with a count and none is not for the wire
 * (the log is read first). */
void consensus_codec_write(struct msgpack_writer *w, uint32_t shard,
                           const struct consensus_message *message);

/* Reads one whole body into a message of its own, for consensus_message_free(). The records are
 * copies, with index, term, type and format set. NULL for anything malformed: another count of
 * fields, an unknown kind, flag or type, records that a kind does not have or more than
 * CONSENSUS_MESSAGE_RECORDS_MAX, a payload above ENTRY_BYTES_MAX, a checksum that does not match,
 * bytes left over; or without memory. */
struct consensus_message *consensus_codec_read(struct bytes body, uint32_t *shard);

#endif
