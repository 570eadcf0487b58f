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

/* Whether the node at `by` finds the clock of the one at `at` off; false in *known: it tells
 * nothing of it. */
static bool clocks_off(const struct cluster_document *d, const struct cluster_status *statuses,
                       const struct cluster_there *there, uint32_t by, uint32_t at, bool *known,
                       int64_t *ahead_ms) {
    const msgpack_object *row = NULL;
    if (by != at && cluster_there_counts(&there[by]))
        row = clocks_row(&statuses[by], d->nodes[at].node);
    *known = row != NULL;
    if (!row || !value_bool(row, "clock_off", false)) return false;
    *ahead_ms = value_int(row, "clock_ahead_ms", 0);
    return true;
}

#define SET_RIGHT                                                                                  \
    "deadlines fire by the clock of whoever leads: set the wrong one right (NTP), and restart "    \
    "its node if clock_refused_ms in its status is not 0 then"

bool cluster_clock_fault(const struct cluster_document *d, const struct cluster_status *statuses,
                         const struct cluster_there *there, uint32_t at, char *out, size_t bytes) {
    uint32_t judges = 1, off = 0, by = 0;
    int64_t ahead_ms = 0;
    char span[TEXT_BYTES];
    if (!cluster_there_counts(&there[at])) return false;
    for (uint32_t i = 0; i < d->nodes_count; i++) {
        bool known;
        if (clocks_off(d, statuses, there, i, at, &known, &ahead_ms)) {
            off++;
            by = d->nodes[i].node;
        }
        judges += known;
    }
    if (off * 2 <= judges) return false;
    snprintf(out, bytes, "node %u: its clock is %s %s that of node %u, and " SET_RIGHT,
             d->nodes[at].node, text_span(span, ahead_ms < 0 ? -ahead_ms : ahead_ms),
             ahead_ms < 0 ? "behind" : "ahead of", by);
    return true;
}

bool cluster_clocks_differ(const struct cluster_document *d, const struct cluster_status *statuses,
                           const struct cluster_there *there, char *out, size_t bytes) {
    char span[TEXT_BYTES];
    for (uint32_t by = 0; by < d->nodes_count; by++) {
        for (uint32_t at = 0; at < d->nodes_count; at++) {
            bool known;
            int64_t ahead_ms;
            if (!cluster_there_counts(&there[at]) ||
                !clocks_off(d, statuses, there, by, at, &known, &ahead_ms))
                continue;
            snprintf(out, bytes, "nodes %u and %u: their clocks are %s apart, that of node %u is "
                     "ahead, and " SET_RIGHT, d->nodes[by].node, d->nodes[at].node,
                     text_span(span, ahead_ms < 0 ? -ahead_ms : ahead_ms),
                     d->nodes[ahead_ms < 0 ? by : at].node);
            return true;
        }
    }
    return false;
}
