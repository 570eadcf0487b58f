#include "engine/node/letting_go.h"

bool letting_go_is_due(const struct consensus_group *group, uint64_t server, bool led_elsewhere,
                       int64_t now_ms, int64_t *leaderless_ms) {
    bool member = false;
    for (uint32_t i = 0; i < group->count; i++) member |= group->servers[i].id == server;
    if (!member) return true;
    if (group->leader != 0 || !led_elsewhere) *leaderless_ms = 0;
    else if (*leaderless_ms == 0) *leaderless_ms = now_ms;
    return *leaderless_ms != 0 && now_ms - *leaderless_ms > LETTING_GO_LEADERLESS_MS;
}
