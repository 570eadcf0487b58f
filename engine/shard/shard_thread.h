/* The thread of a shard: opens it, calls shard_work() in a loop, sleeps when there is nothing to
 * do, drains and closes it. The shard lives and dies on this thread, so its memory comes from the
 * thread's own arena and (when pinned) from the memory next to its core. */
#ifndef JUMUN_SHARD_SHARD_THREAD_H
#define JUMUN_SHARD_SHARD_THREAD_H

#include "engine/base/node_clock.h"
#include "engine/shard/shard.h"

struct shard_thread;

struct shard_thread_options {
    struct shard_options shard;  /* copied; what it points to outlives the thread; its storage's
                                    wake is set */
    struct node_clock *clock;    /* the node's; outlives the thread */
    int cpu;                     /* to run on; -1 = anywhere */
    uint32_t spin_ns;            /* look for work this long before sleeping; 0 where cores lack */
};

/* Starts the thread, which begins with shard_open(). Does not wait for it, so that shards open
 * side by side. NULL with a sentence in error when no thread can be made. */
struct shard_thread *shard_thread_start(const struct shard_thread_options *options, char *error,
                                        size_t error_bytes);

/* Waits until the shard is open. NULL with a sentence in error when it could not be opened; then
 * only shard_thread_stop() and _free() may follow. The shard is good for its "any thread" functions
 * until shard_thread_stop(). */
struct shard *shard_thread_await(struct shard_thread *thread, char *error, size_t error_bytes);

/* Tells the thread that there may be work. Any thread, never blocks; costs a system call only when
 * the thread sleeps. `thread` is a void pointer to fit shard_on_wake(). */
void shard_thread_wake(void *thread);

/* Begins shard_drain(). Any thread; returns at once. */
void shard_thread_drain(struct shard_thread *thread);

/* Whether shard_is_drained() as of the last round: messages of shards that still drain may end that
 * again. Always when the shard was never open. Any thread. */
bool shard_thread_is_drained(const struct shard_thread *thread);

/* Closes the shard on its thread and joins it. The caller sees to it that nobody offers anything
 * to the shard any more. Wakes may still come, and do nothing. */
void shard_thread_stop(struct shard_thread *thread);

/* Frees a stopped one. Its storage is closed: it could call wake until then. */
void shard_thread_free(struct shard_thread *thread);

/* How often it slept and how much it worked: for status. */
struct shard_thread_stats { uint64_t rounds, sleeps, wakes; };
void shard_thread_stats(const struct shard_thread *thread, struct shard_thread_stats *stats);

#endif
