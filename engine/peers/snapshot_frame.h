/* What travels between the sender and the receiver of a stored state, each a msgpack array and the
 * body of a message between nodes of its kind:
 *
 *   4 header   [shard, from, to, transfer, term, index, bytes, chunk_bytes, checksum]
 *   5 chunk    [shard, from, to, transfer, offset, bin, checksum]
 *   6 ack      [shard, from, to, transfer, state, offset, checksum]
 *   7 refuse   [shard, from, to, transfer, reason, checksum]
 *
 * from and to are server ids (consensus_server_id()) of who sends the frame and who shall have it.
 * transfer is the XXH3-64 of the whole file: what names it, and what the receiver compares it with.
 * The checksum is the XXH3-64 of all bytes of the frame in front of it: a chunk with another offset
 * is found like one with other bytes. Pure; any thread. */
#ifndef JUMUN_PEERS_SNAPSHOT_FRAME_H
#define JUMUN_PEERS_SNAPSHOT_FRAME_H

#include <stdbool.h>

#include "engine/base/bytes.h"
#include "engine/limits.h"

enum snapshot_frame_kind { SNAPSHOT_HEADER = 4, SNAPSHOT_CHUNK = 5, SNAPSHOT_ACK = 6,
                           SNAPSHOT_REFUSE = 7 };

enum snapshot_ack {
    SNAPSHOT_ACK_CHUNK = 0,       /* everything below `offset` has arrived */
    SNAPSHOT_ACK_HEADER = 1,      /* go on at `offset` */
    SNAPSHOT_ACK_CHECKING = 2,    /* all has arrived and is being checked */
    SNAPSHOT_ACK_COMPLETE = 3     /* checked and handed over */
};

enum snapshot_refusal {
    SNAPSHOT_UNKNOWN = 1,         /* no such transfer here: the header again, please */
    SNAPSHOT_DAMAGED = 2,         /* what arrived is not what was sent: the same again */
    SNAPSHOT_UNFIT = 3,           /* it arrived as it was sent, but it is no sound state */
    SNAPSHOT_NO_ROOM = 4,         /* on the receiver's disk */
    SNAPSHOT_BUSY = 5             /* a transfer that is as new is under way */
};

struct snapshot_frame {
    uint8_t kind;                 /* enum snapshot_frame_kind */
    uint32_t shard;
    uint64_t from, to;
    uint64_t transfer;
    uint64_t term;                /* header: of the leader that sends it */
    uint64_t index;               /* header: of the state's marker */
    uint64_t bytes;               /* header: of the file, > 0 */
    uint32_t chunk_bytes;         /* header: of each chunk but the last */
    uint64_t offset;              /* chunk, ack */
    struct bytes data;            /* chunk: a view, 1 to SNAPSHOT_CHUNK_BYTES_MAX */
    uint8_t state;                /* ack: enum snapshot_ack */
    uint8_t reason;               /* refuse: enum snapshot_refusal */
};

/* A frame needs so many bytes at most. */
enum { SNAPSHOT_FRAME_HEAD_BYTES_MAX = 96,
       SNAPSHOT_FRAME_BYTES_MAX = SNAPSHOT_FRAME_HEAD_BYTES_MAX + SNAPSHOT_CHUNK_BYTES_MAX };

/* Writes it. Returns the bytes used; 0 if `capacity` is too small. */
size_t snapshot_frame_encode(const struct snapshot_frame *frame, void *out, size_t capacity);

/* Reads the body of a message of `kind`. False for anything but one whole frame within its
 * bounds with the right checksum. */
bool snapshot_frame_decode(uint32_t kind, const void *data, size_t bytes,
                           struct snapshot_frame *frame);

#endif
