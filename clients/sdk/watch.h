/* Watching: what all watches of a jumun_queries share (the hub), and one watch.
 *
 *              notification, or look_ms passed               rows
 *   resting ------------------------------> fetching -------------> telling
 *      ^                                       | none                  |
 *      +---------------------------------------+-----------------------+
 *
 * A watch goes on from its tokens, whatever was heard or not: notifications only make it look
 * sooner, and tell which token the answer must reflect. The hub's lock guards all of it; it is
 * never held while a callback runs or a query is submitted. */
#ifndef JUMUN_SDK_WATCH_H
#define JUMUN_SDK_WATCH_H

#include <pthread.h>

#include "clients/sdk/queries.h"
#include "clients/sdk/subscription.h"

enum {
    WATCH_WORKERS = 4,             /* callbacks that may run at a time */
    WATCH_BUCKETS = 1024,
    WATCH_HEARD_MAX = 32,
    WATCH_TOPIC_BYTES_MAX = 9 + ID_TEXT_BYTES_MAX
};
#define WATCH_RETRY_NS 50000000LL

enum watch_state { WATCH_RESTING, WATCH_FETCHING, WATCH_FETCHED, WATCH_TELLING, WATCH_DONE };

struct jumun_watch {
    struct watch_hub *hub;
    jumun_watch *next_same_hash, *next_due, *next_all;
    char topic[WATCH_TOPIC_BYTES_MAX + 1];
    jumun_change_callback callback;
    void *arg;
    char **fields;                 /* one block */
    uint32_t fields_count, page_rows, look_ms;
    enum watch_state state;
    bool dirty;                    /* something was heard since the last fetch began */
    bool queued;                   /* in the hub's list of those to be worked on */
    bool began;                    /* its tokens are known */
    bool closing;
    int64_t due_ns;                /* when it looks by itself */
    uint32_t since_count, heard_count;
    jumun_token since[SHARDS_MAX], heard[WATCH_HEARD_MAX];
    jumun_answer *answer;          /* fetched and not told yet */
};

struct watch_hub {
    jumun_queries *queries;
    struct subscription *subscription;
    pthread_mutex_t lock;
    pthread_cond_t work, changed;  /* for workers; for those that wait for a watch */
    pthread_t workers[WATCH_WORKERS];
    uint32_t workers_count;
    bool closing;
    jumun_watch *all, *due_head, *due_tail, *buckets[WATCH_BUCKETS];
    int64_t scanned_ns;            /* when the watches' own times were looked at */
};

/* The hub, made by the first watch. NULL for lack of memory. */
struct watch_hub *watch_hub_of(jumun_queries *queries);
/* A replica told where it notifies; `replica` is its own address. Any thread. */
void watch_hub_listen(jumun_queries *queries, uint32_t number, const char *replica,
                      const char *notify);
/* subscription_look(), where there is a hub. The clock's thread. */
void watch_hub_look(jumun_queries *queries, int64_t now_ns);
/* No callback runs or comes after it. From jumun_queries_close() only, as the next. */
void watch_hub_stop(jumun_queries *queries);
/* Every query has ended. */
void watch_hub_delete(jumun_queries *queries);

/* With the lock: it is to be worked on. */
void watch_hub_queue(struct watch_hub *hub, jumun_watch *watch);
uint64_t watch_bucket(const void *topic, size_t bytes);
/* The value of "notify" in a SHARD_MAP. False: it is none, or the replica does not notify. */
bool replica_map_notify(const void *value, size_t bytes, char notify[ENDPOINT_ADDRESSES_BYTES]);

/* A worker's part, with the lock, which is given up meanwhile. */
void watch_work(struct watch_hub *hub, jumun_watch *watch);

/* Why there is no such topic, a sentence; NULL = there is. */
const char *watch_topic_fault(const char *topic);

/* The address to dial for a notification endpoint that a replica told: a replica that listens on
 * all its addresses is reached by the one it was found at. */
void watch_notify_address(const char *replica, const char *notify, char *address,
                          size_t address_bytes);

#endif
