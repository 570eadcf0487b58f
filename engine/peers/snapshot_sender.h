/* Sends a replica's stored state to another replica of the group that the log does not reach any
 * more: exports it to a file of its own (on a thread of its own), then sends the file in chunks
 * that are acknowledged, a few under way at a time, no faster than it may. What is lost, doubled or
 * reordered is put right; after a broken connection, or a restart of the receiver, it goes on at
 * the byte where that one stopped. One sender for each (shard, server).
 *
 * It knows no sockets: frames go out by `send` and come in by snapshot_sender_receive(), time comes
 * in as an argument. All calls are made by one thread, which is not the shard's. */
#ifndef JUMUN_PEERS_SNAPSHOT_SENDER_H
#define JUMUN_PEERS_SNAPSHOT_SENDER_H

#include "engine/peers/snapshot_frame.h"
#include "persistence/storage.h"

struct snapshot_sender;

struct snapshot_sender_options {
    uint32_t shard;
    uint64_t from, to;             /* server ids: this replica, the other one */
    struct storage *storage;       /* outlives the sender */
    const char *directory;         /* for its file; made if missing, but not its parent; copied */
    uint64_t bytes_per_second;     /* 0 = SNAPSHOT_BYTES_PER_SECOND */
    uint32_t chunk_bytes;          /* 0 = SNAPSHOT_CHUNK_BYTES_MAX */
    /* Sends a frame to server `to`; the bytes are valid during the call. Must not block. False = no
     * room or no connection: it will be sent again. */
    bool (*send)(void *arg, uint64_t to, uint32_t kind, const void *frame, size_t bytes);
    /* The export is done: call snapshot_sender_work(). The export's thread; NULL = nobody asks. */
    void (*wake)(void *arg);
    void *arg;
};

enum snapshot_sender_phase {
    SENDER_IDLE = 0,               /* nobody wants anything */
    SENDER_EXPORTING = 1,
    SENDER_OFFERING = 2,           /* the header is sent until it is answered */
    SENDER_SENDING = 3,
    SENDER_RESTING = 4             /* done, or failed: some time passes before it starts anew */
};

struct snapshot_sender_progress {
    uint8_t phase;                 /* enum snapshot_sender_phase */
    uint64_t index;                /* of the state that is sent */
    uint64_t bytes, acknowledged;
    uint64_t completed, failed;    /* transfers so far */
    uint64_t chunks, chunks_again; /* sent so far; of these: more than once */
};

/* NULL without memory, or when the directory cannot be made. Removes what an earlier sender of the
 * same (shard, server) left there. */
struct snapshot_sender *snapshot_sender_new(const struct snapshot_sender_options *options);
void snapshot_sender_free(struct snapshot_sender *s); /* ends an export first; removes the file */

/* Consensus asks for it (CONSENSUS_INSTALL_SNAPSHOT, which it repeats): starts a transfer of a
 * state at or above `reach`, behind which the log can go on, or goes on with the one that is under
 * way: begun anew for each newer checkpoint, a large one would never arrive. Nobody having asked
 * or answered for SNAPSHOT_IDLE_MS, a transfer is given up. */
void snapshot_sender_want(struct snapshot_sender *s, uint64_t leader_term, uint64_t reach,
                          int64_t now_ms);

/* No longer leader, or the other one is gone: gives up what is under way. */
void snapshot_sender_stop(struct snapshot_sender *s, int64_t now_ms);

/* An ACK or REFUSE came in. Those of another shard, server or transfer are ignored. */
void snapshot_sender_receive(struct snapshot_sender *s, const struct snapshot_frame *frame,
                             int64_t now_ms);

/* Changes the bound of bytes a second; 0 = SNAPSHOT_BYTES_PER_SECOND. */
void snapshot_sender_pace(struct snapshot_sender *s, uint64_t bytes_per_second);

/* Sends what may be sent now. Returns when to call again at the latest; INT64_MAX = when something
 * comes in. */
int64_t snapshot_sender_work(struct snapshot_sender *s, int64_t now_ms);

void snapshot_sender_progress(const struct snapshot_sender *s,
                              struct snapshot_sender_progress *progress);

#endif
