/* What a journal's records mean for the log that was found behind them. */
#include <stdlib.h>

#include "persistence/lmdb/journal.h"

/* What the records, done in order, leave of themselves: the log's end, consecutive, in front of
 * which nothing is to be done. Those that were truncated go. False without memory. */
static bool journal_reduce(struct record **records) {
    uint64_t count = 0, kept = 0;
    for (const struct record *r = *records; r; r = r->next) count++;
    struct record **left = malloc(count * sizeof(struct record *));
    if (!left) return false;
    for (struct record *r = *records, *next; r; r = next) {
        next = r->next;
        while (kept > 0 && left[kept - 1]->header.index >= r->header.index)
            record_release(left[--kept]);
        left[kept++] = r;
    }
    for (uint64_t i = 0; i < kept; i++) left[i]->next = i + 1 < kept ? left[i + 1] : NULL;
    *records = left[0];
    free(left);
    return true;
}

/* Those behind the ones that retention has dropped from the log since: it drops only what is
 * committed and stored, and the journal goes on holding what was not told to be in the log. The
 * last one is left to be judged: the log's newest segment is never dropped. */
static struct record *journal_retained(const struct journal_log *log, struct record *r) {
    if (log->first <= log->floor + 1 || r->header.index <= log->floor) return r;
    while (r->next && r->header.index < log->first) {
        struct record *next = r->next;
        record_release(r);
        r = next;
    }
    return r;
}

/* Those behind the ones that are in the environment too, which are released. The last one is done
 * again when something stands behind it there. */
static struct record *journal_missing(const struct journal_log *log, struct record *r) {
    while (r && (r->next || r->header.index == log->last) && r->header.index <= log->last &&
           log->has(log->arg, r)) {
        struct record *next = r->next;
        record_release(r);
        r = next;
    }
    return r;
}

/* Does the log go up to where the records begin, and are they consecutive? -1 with a sentence. */
static int journal_check(const struct journal_log *log, const struct record *records,
                         const char *name, char *error, size_t error_bytes) {
    uint64_t begins = records->header.index;
    if (begins > log->last + 1) {
        return journal_error(error, error_bytes,
                             "%s begins with record %llu, but the log ends with record %llu: the "
                             "newest log segments are missing; put them back", name,
                             (unsigned long long)begins, (unsigned long long)log->last);
    }
    if (begins <= log->floor || begins < log->first) {
        return journal_error(error, error_bytes,
                             "%s begins with record %llu, but the log begins with record %llu: it "
                             "does not belong to this log", name, (unsigned long long)begins,
                             (unsigned long long)log->first);
    }
    const struct record *r = records;
    while (r->next && r->next->header.index == r->header.index + 1) r = r->next;
    if (!r->next) return 0;
    return journal_error(error, error_bytes, "%s: record %llu is followed by record %llu", name,
                         (unsigned long long)r->header.index,
                         (unsigned long long)r->next->header.index);
}

/* The log has all that is in front of them; they count as the newest frame's, so that none is
 * applied before all are. */
static void journal_recount(struct journal *j, uint64_t records) {
    j->records = records;
    for (uint64_t i = 0; i < j->frames_count; i++)
        j->frames[(j->frames_first + i) % j->blocks].records_end = records;
}

int journal_recover(struct journal *j, const struct journal_log *log, const char *name,
                    struct record **records, char *error, size_t error_bytes) {
    uint64_t count = 0;
    if (!*records) return 0;
    bool memory = journal_reduce(records);
    if (memory) *records = journal_retained(log, *records);
    if (!memory || journal_check(log, *records, name, error, error_bytes) != 0) {
        journal_free_records(*records);
        *records = NULL;
        return memory ? -1 : journal_error(error, error_bytes, "%s: no memory", name);
    }
    *records = journal_missing(log, *records);
    for (const struct record *r = *records; r; r = r->next) count++;
    journal_recount(j, count);
    return 0;
}
