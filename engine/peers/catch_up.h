/* The thread that reads what a follower lacks from the log, when the leader has it no longer in
 * memory, and sends it: so that no shard waits for a disk. It goes round over all followers, one
 * message each, and keeps to a bound of bytes a second, so that running traffic is not held up. */
#ifndef JUMUN_PEERS_CATCH_UP_H
#define JUMUN_PEERS_CATCH_UP_H

#include "engine/limits.h"
#include "engine/shard/peers.h"

struct catch_up;

enum { CATCH_UP_JOBS_MAX = SHARDS_MAX }; /* followers that lag at a time */

struct catch_up_options {
    uint64_t bytes_per_second;    /* 0 = no bound */
    /* Sends an append with its records, which stay the caller's. On the thread of the catch-up;
     * must not block. False = lost. */
    bool (*send)(void *arg, uint32_t shard, const struct consensus_message *message);
    void *arg;
};

struct catch_up_stats {
    uint64_t messages, entries, bytes;  /* sent */
    uint64_t failed;                    /* reads that the log could not serve */
    uint64_t waiting;                   /* followers in the queue now */
};

/* NULL with a sentence in error. */
struct catch_up *catch_up_start(const struct catch_up_options *options, char *error,
                                size_t error_bytes);

/* Takes an append without records over: all `records_count` behind previous_index are read from
 * `storage` and sent, in as many messages as it takes. One that begins where an older one for the
 * same follower ends makes that longer; any other takes its place. Where there is no room it is
 * asked for again. Any thread; does not block. */
enum catch_up_answer {
    CATCH_UP_FULL = 0,
    CATCH_UP_TAKEN = 1,
    CATCH_UP_SENT = 2             /* all of it is on its way already: nothing goes out for it now */
};
enum catch_up_answer catch_up_offer(struct catch_up *c, uint32_t shard, struct storage *storage,
                                    const struct consensus_message *message);

/* Whether one more would have to wait. Any thread. */
bool catch_up_is_busy(struct catch_up *c);

/* Drops all of a shard, and waits until its storage is not read any more. */
void catch_up_forget(struct catch_up *c, uint32_t shard);

/* Drops all, joins and frees. */
void catch_up_stop(struct catch_up *c);

/* How many nodes lag: those that wait, or were sent something in the last two seconds. Any
 * thread. */
uint32_t catch_up_nodes(struct catch_up *c);

/* Changes the bound, for what is sent from now on; 0 = none. Any thread. */
void catch_up_pace(struct catch_up *c, uint64_t bytes_per_second);

void catch_up_stats(struct catch_up *c, struct catch_up_stats *stats);

#endif
