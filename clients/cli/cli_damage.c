#include "clients/cli/cli_damage.h"

#include <inttypes.h>
#include <stdio.h>

static uint64_t damage_uint(const msgpack_object *row, const char *path) {
    int64_t n = value_int(row, path, 0);
    return n > 0 ? (uint64_t)n : 0;
}

bool cli_damage_of(const msgpack_object *row, struct cli_damage *d) {
    *d = (struct cli_damage){.count = damage_uint(row, "damages")};
    if (d->count == 0) return false;
    value_text(row, "damage.kind", d->kind, sizeof d->kind);
    value_text(row, "damage.where", d->where, sizeof d->where);
    value_text(row, "damage.what", d->what, sizeof d->what);
    d->index = damage_uint(row, "damage.index");
    d->upto = damage_uint(row, "damage.upto");
    return true;
}

char *cli_damage_text(const struct cli_damage *d, char *out, size_t bytes) {
    char records[64] = "", others[48] = "";
    if (d->upto > d->index)
        snprintf(records, sizeof records, ", records %" PRIu64 " to %" PRIu64, d->index, d->upto);
    else if (d->index > 0) snprintf(records, sizeof records, ", record %" PRIu64, d->index);
    if (d->count > 1)
        snprintf(others, sizeof others, ", and %" PRIu64 " other place%s", d->count - 1,
                 d->count > 2 ? "s" : "");
    snprintf(out, bytes, "%s%s: %s%s", d->where, records, d->what, others);
    return out;
}
