/* How a client comes to its shard map: it asks one node, and another one when that does not help,
 * at the start and whenever an answer shows that the map is out of date. */
#ifndef JUMUN_SDK_MAP_FETCH_H
#define JUMUN_SDK_MAP_FETCH_H

#include "clients/sdk/client.h"

void map_fetch_init(jumun_client *client);

/* Asks for the shard map if there is a reason to. The clock's thread. */
void map_fetch_on_tick(jumun_client *client, int64_t now_ns);

#endif
