#include "clients/cli/cli_cluster_clocks.h"

#include <inttypes.h>

#include "clients/cli/text.h"

/* What the status says of another node, if that has told its time; else NULL. */
static const msgpack_object *clocks_row(const struct cluster_status *status, uint32_t node) {
    const msgpack_object *rows = value_at(status->map, "nodes");
    for (uint32_t i = 0; i < value_count(rows); i++) {
        const msgpack_object *row = value_item(rows, i);
        if (value_int(row, "node", 0) == (int64_t)node)
            return value_at(row, "clock_ahead_ms") ? row : NULL;
    }
    return NULL;
}

bool cluster_clock_fault(const struct cluster_document *d, const struct cluster_status *statuses,
                         const struct cluster_there *there, uint32_t at, char *out, size_t bytes) {
    uint32_t others = 0, off = 0, by = 0;
    int64_t ahead_ms = 0;
    if (!cluster_there_counts(&there[at])) return false;
    for (uint32_t i = 0; i < d->nodes_count; i++) {
        if (i == at || !cluster_there_counts(&there[i])) continue;
        const msgpack_object *row = clocks_row(&statuses[i], d->nodes[at].node);
        if (!row) continue;
        others++;
        if (!value_bool(row, "clock_off", false)) continue;
        off++;
        by = d->nodes[i].node;
        ahead_ms = value_int(row, "clock_ahead_ms", 0);
    }
    if (off * 2 <= others) return false;
    char span[TEXT_BYTES];
    snprintf(out, bytes, "node %u: its clock is %s %s that of node %u, and deadlines fire by the "
             "clock of whoever leads: set the wrong one right (NTP), and restart its node if "
             "clock_refused_ms in its status is not 0 then", d->nodes[at].node,
             text_span(span, ahead_ms < 0 ? -ahead_ms : ahead_ms),
             ahead_ms < 0 ? "behind" : "ahead of", by);
    return true;
}
