/* Takes another replica's stored state for this one: writes the chunks that arrive to a file,
 * checks the whole (its checksum, and storage->check_state, on a thread of its own) and hands it
 * over. What has arrived survives a restart: the file's name says whose bytes it holds, and the
 * sender of the same file goes on behind them. One receiver for each replica, one transfer at a
 * time; the newer one counts.
 *
 * It knows no sockets; see snapshot_sender.h. All calls are made by one thread, which is not the
 * shard's and may wait for the disk now and then. */
#ifndef JUMUN_PEERS_SNAPSHOT_RECEIVER_H
#define JUMUN_PEERS_SNAPSHOT_RECEIVER_H

#include "engine/peers/snapshot_frame.h"
#include "engine/shard/peers.h"

struct snapshot_receiver;

struct snapshot_receiver_options {
    uint32_t shard;
    uint64_t server;               /* this replica's id */
    struct storage *storage;       /* outlives the receiver */
    const char *directory;         /* for its files, on the file system of the storage; made if
                                      missing; its parent must exist. Copied */
    uint64_t room_floor_bytes;     /* that a transfer has to leave free; 0 = twice
                                      STORAGE_ROOM_FLOOR_BYTES */
    /* As in snapshot_sender_options: answers go to the server that sent. */
    bool (*send)(void *arg, uint64_t to, uint32_t kind, const void *frame, size_t bytes);
    /* A whole and checked state. False = not now (one waits already): it is offered again. From
     * true on the file is the callee's (shard_offer_snapshot()). */
    bool (*complete)(void *arg, const struct shard_snapshot *snapshot);
    /* The check is done: call snapshot_receiver_work(). The check's thread; NULL = nobody asks. */
    void (*wake)(void *arg);
    void *arg;
};

struct snapshot_receiver_progress {
    bool receiving, checking;
    uint64_t index, bytes, arrived;
    uint64_t completed, damaged;   /* transfers so far */
};

/* NULL without memory, or when the directory cannot be made. */
struct snapshot_receiver *snapshot_receiver_new(const struct snapshot_receiver_options *options);
/* Waits for a check that runs. What has arrived stays on disk. */
void snapshot_receiver_free(struct snapshot_receiver *r);

/* A HEADER or CHUNK came in. Those of another shard or for another server are ignored. */
void snapshot_receiver_receive(struct snapshot_receiver *r, const struct snapshot_frame *frame,
                               int64_t now_ms);

/* Goes on with what a check has found. Returns when to call again; INT64_MAX = when something comes
 * in. */
int64_t snapshot_receiver_work(struct snapshot_receiver *r, int64_t now_ms);

void snapshot_receiver_progress(const struct snapshot_receiver *r,
                                struct snapshot_receiver_progress *progress);

#endif
