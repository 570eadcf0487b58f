/* What verify says beside faults: that something is not there which need not be, and what a backup
 * cannot tell. */
#include <inttypes.h>
#include <stdarg.h>
#include <unistd.h>

#include "clients/replay/verify.h"

static void verify_note(struct verify *v, const char *kind, int64_t shard, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* `shard` < 0: of no shard in particular. */
static void verify_note(struct verify *v, const char *kind, int64_t shard, const char *format,
                        ...) {
    char what[512];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    json_t *note = json_pack("{s:s, s:s}", "kind", kind, "what", what);
    if (shard >= 0) json_object_set_new(note, "shard", json_integer((json_int_t)shard));
    json_array_append_new(v->notes, note);
}

/* -- the stored state --------------------------------------------------------------------- */

/* A node that installs a state has none for the time of two renames. */
static bool state_appears(const struct source_shard *shard) {
    enum { LOOKS = 20, PAUSE_US = 50000 };
    char path[SOURCE_PATH_BYTES + 32];
    snprintf(path, sizeof path, "%s/state/data.mdb", shard->directory);
    for (int i = 0; i < LOOKS; i++) {
        if (access(path, F_OK) == 0) return true;
        usleep(PAUSE_US);
    }
    return false;
}

/* Without a state a log from record 1 on loses nothing; one that begins later, all before it. */
static void note_state(struct verify *v, struct verify_shard *s) {
    uint64_t first, last;
    uint32_t shard = s->source->number;
    bool missing = s->source->state[0] == 0;
    log_source_range(s->source->log, &first, &last);
    if (last == 0 || (!missing && (!s->state || s->marker.found))) return;
    if (first > 1 && !(missing && state_appears(s->source))) {
        verify_tell_state(s, FOLD_FAULT_STATE_UNREADABLE, NULL, 0, "meta", 0,
                          "%s, and the log begins with record %" PRIu64 ": what orders and stores "
                          "were before it is lost", missing ? "no state is stored (state/data.mdb "
                          "is not there)" : "the stored state is empty", first);
    } else if (first <= 1 && missing) {
        verify_note(v, "state_missing", shard, "shard %u has no stored state (state/data.mdb is "
                    "not there): only its log was looked at, from which a node that starts makes "
                    "the state again", shard);
    } else if (first <= 1) {
        verify_note(v, "state_empty", shard, "nothing is stored yet in the state of shard %u: only "
                    "its log was looked at", shard);
    }
}

/* -- backups ------------------------------------------------------------------------------ */

/* A base is exact at a record that the log had. Of a cluster's node that lagged the archive may end
 * before it for a while; else the log had lost its end. */
static void note_base(struct verify *v, const struct source_shard *shard) {
    unsigned long long exact;
    uint64_t first, last;
    const char *name = strrchr(shard->base, '/');
    if (!name || sscanf(name, "/base-%20llu", &exact) != 1) return;
    log_source_range(shard->log, &first, &last);
    if (exact <= last) return;
    verify_note(v, "backup_behind", shard->number, "shard %u: a stored state of this backup "
                "reflects record %llu, but its log ends with %" PRIu64 ": the node had lost records"
                ", or was behind the others of its cluster, and the next run brings them",
                shard->number, exact, last);
}

static void note_backup(struct verify *v) {
    const struct source *s = &v->replay->source;
    char doubt[256];
    for (uint32_t i = 0; i < s->count; i++) note_base(v, &s->shards[i]);
    source_backup_doubt(s, doubt, sizeof doubt);
    if (doubt[0]) verify_note(v, "backup_unproved", -1, "%s", doubt);
    uint32_t wanted = s->shards_told;
    for (uint32_t i = 0; i < s->epochs_count; i++) {
        if (s->epochs[i].shards_count > wanted) wanted = s->epochs[i].shards_count;
    }
    if (s->count >= wanted || args_value(&v->replay->args, "shard")) return;
    verify_note(v, "backup_partial", -1, "this backup has %u of the %u shards%s: restore needs all "
                "of them", s->count, wanted,
                s->holds_listed ? ", which is all that the node of the cluster had"
                                : ", and does not tell whether the node had more");
}

void verify_note_all(struct verify *v) {
    enum source_kind kind = v->replay->source.kind;
    if (kind == SOURCE_BACKUP) note_backup(v);
    if (!v->with_state || (kind != SOURCE_DATA && kind != SOURCE_SHARD)) return;
    for (uint32_t i = 0; i < v->count; i++) {
        if (v->shards[i].source->number != SHARD_META) note_state(v, &v->shards[i]);
    }
}
