/* Replicas in the test's own process: real nng endpoints (REP for queries, PUB for notifications)
 * over one history that they all follow, each as far as the test lets it.
 *
 * The history is of orders and their changes; a change has a shard and an index. A replica answers
 * from its own positions: GET, MULTI_GET, STORE_BOARD, COUNTERS (made up), WATCH of stores and
 * orders, PING, SHARD_MAP; it waits for tokens as a real one does. */
#ifndef JUMUN_TESTS_FAKE_REPLICA_H
#define JUMUN_TESTS_FAKE_REPLICA_H

#include <stdbool.h>
#include <stdint.h>

#include "clients/sdk/jumun.h"
#include "clients/sdk/jumun_query.h"

enum { FAKE_SHARDS = 3, FAKE_CHANGES_MAX = 65536 };

struct fake_history;
struct fake_history *fake_history_new(void);
void fake_history_free(struct fake_history *history);
/* One change of an order (the first one places it). Returns its token. */
jumun_token fake_history_change(struct fake_history *history, uint32_t shard, const jumun_key *key,
                                const char *store);

struct fake_replica;

/* Follows the history at once (lag false), or only as fake_replica_follow() says. */
struct fake_replica *fake_replica_start(struct fake_history *history, const char *name, bool lags);
void fake_replica_stop(struct fake_replica *replica);
/* Takes in all that there is now, and notifies. A replica that does not lag does it by itself with
 * each change that fake_history_change() makes. */
void fake_replica_follow(struct fake_replica *replica);
/* Answers this late from now on; UINT32_MAX = not at all. Pings as well. */
void fake_replica_delay(struct fake_replica *replica, uint32_t ms);
/* Each message is lost, or answered with garbage, with these chances in a thousand. */
void fake_replica_fail(struct fake_replica *replica, uint32_t lost, uint32_t garbage,
                       uint64_t seed);
/* Every query is refused with this code; 0 = no more. */
void fake_replica_refuse(struct fake_replica *replica, int code);
/* Lists say that rows of shard n - 1 may be missing; 0 = of none. Of a shard that it has nothing
 * of, it has only heard then. */
void fake_replica_lack(struct fake_replica *replica, int lacks);
/* Answers as a node does from now on, 1: questions are no messages of its protocol, a ping has a
 * reply without tokens; or as a replica again, 0. */
void fake_replica_be_node(struct fake_replica *replica, int node);
/* Follows the cluster of this id, as its map tells; NULL: it does not tell. Kept by reference; for
 * connections that come. */
void fake_replica_be_of(struct fake_replica *replica, const char *cluster);
/* Notifications are lost with this chance in a thousand. */
void fake_replica_mute(struct fake_replica *replica, uint32_t lost);
uint32_t fake_replica_queries(struct fake_replica *replica);  /* but for pings and maps */
uint32_t fake_replica_messages(struct fake_replica *replica); /* with such queries */

#endif
