/* How far the log has come, roughly, in the vote's environment, which outlives log and state: so
 * that a replica that has lost its log, the newest segment of it or the journal does not take what
 * is left for all there ever was. It would vote, and could lead, without records that it has
 * acknowledged.
 *
 * The row is written where a log begins and where a segment begins, behind that segment's first
 * commit and before anybody hears of it; lower again before a truncation drops a segment; and
 * before the first frame goes into a new journal. So a crash between any two steps leaves a row
 * that says less than there is, never more, and no commit waits for it but the first of a segment.
 *
 * It carries the number of the transaction that wrote it, and every other transaction of this
 * environment numbers it anew (reached_restamp()). A version that knows nothing of it, which is
 * run in between, does not: then it may be wrong, and says only that the log had begun. */
#include <string.h>
#include <xxhash.h>

#include "persistence/lmdb/internal.h"

static const char reached_key[] = "reached";

static uint64_t reached_checksum(const struct reached_row *row) {
    return XXH3_64bits(&row->transaction, sizeof *row - sizeof row->checksum);
}

/* 0 (all zero when there is none), or a code. */
static int reached_get(struct storage_lmdb *s, MDB_txn *txn, struct reached_row *row) {
    MDB_val key = storage_val(reached_key, sizeof reached_key - 1), value;
    *row = (struct reached_row){0};
    int rc = mdb_get(txn, s->vote_table, &key, &value);
    if (rc == MDB_NOTFOUND) return 0;
    if (rc != 0) return rc;
    if (value.mv_size != sizeof *row) return MDB_CORRUPTED;
    memcpy(row, value.mv_data, sizeof *row);
    return row->checksum == reached_checksum(row) ? 0 : MDB_CORRUPTED;
}

static int reached_put(struct storage_lmdb *s, MDB_txn *txn, struct reached_row *row) {
    row->transaction = mdb_txn_id(txn);
    row->checksum = reached_checksum(row);
    MDB_val key = storage_val(reached_key, sizeof reached_key - 1);
    MDB_val value = storage_val(row, sizeof *row);
    return mdb_put(txn, s->vote_table, &key, &value, 0);
}

int reached_restamp(struct storage_lmdb *s, MDB_txn *txn) {
    struct reached_row row;
    int rc = reached_get(s, txn, &row);
    if (rc != 0 || row.transaction == 0) return rc;
    return reached_put(s, txn, &row);
}

/* One transaction; NULL = stays as it is. 0 or a code. */
static int reached_write(struct storage_lmdb *s, const uint64_t *index, const uint64_t *journal) {
    struct reached_row row;
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->vote.mdb, NULL, 0, &txn);
    if (rc != 0) return rc;
    rc = reached_get(s, txn, &row);
    if (index) row.index = *index;
    if (journal) row.journal = *journal;
    if (rc == 0) rc = reached_put(s, txn, &row);
    if (rc == 0) rc = storage_fault(s, STORAGE_POINT_REACHED_COMMIT);
    if (rc == 0) return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return rc;
}

/* Like a vote it needs no room: its pages are there. */
static void reached_save(struct storage_lmdb *s, const uint64_t *index, const uint64_t *journal) {
    int rc = reached_write(s, index, journal);
    if (rc != 0) lmdb_fatal(rc, "%s: how far the log has come cannot be saved", s->vote.path);
}

void reached_index(struct storage_lmdb *s, uint64_t index) {
    if (s->reached == index) return;
    reached_save(s, &index, NULL);
    s->reached = index;
}

void reached_journal(struct storage_lmdb *s, uint64_t identity) {
    reached_save(s, NULL, &identity);
}

/* -- at the start --------------------------------------------------------------------------- */

#define REACHED_ADVICE                                                                             \
    "put back what is missing; if it is lost for good, replace the node (jumun cluster replace), " \
    "or make a node alone anew from its backup or what is left (jumun-replay restore, rebuild)"

/* Does the log reach as far as it did? -1 with a sentence. */
static int reached_check_log(struct storage_lmdb *s, const struct reached_row *row, uint64_t last,
                             bool current, char *error, size_t error_bytes) {
    unsigned long long index = row->index;
    if (index == 0 || last >= index || (last > 0 && !current)) return 0;
    if (last == 0) {
        return lmdb_error(error, error_bytes,
                          "%s: there were records up to %llu at least, and no log is left: what "
                          "was acknowledged is missing; " REACHED_ADVICE, s->directory, index);
    }
    return lmdb_error(error, error_bytes,
                      "%s: there were records up to %llu at least, and the log ends with %llu: the "
                      "newest log segments are missing; " REACHED_ADVICE, s->directory, index,
                      (unsigned long long)last);
}

/* Is the journal there that was written to last, unless nothing was left in it? -1 with a sentence.
 */
static int reached_check_journal(struct storage_lmdb *s, const struct reached_row *row,
                                 char *error, size_t error_bytes) {
    const struct journal *j = &s->journal.file;
    if (row->journal == 0 || s->vote_format != STORAGE_FORMAT_JOURNAL) return 0;
    if (j->open && j->identity == row->journal) return 0;
    return lmdb_error(error, error_bytes,
                      "%s/journal is %s, and the directory was not closed in order: records that "
                      "were acknowledged may be in the journal alone; " REACHED_ADVICE,
                      s->directory, j->open ? "another one than was written to" : "missing");
}

/* What there is, of segments and journal: a truncation that a kill left in the journal alone has
 * dropped no segment yet, and a segment that is gone may lie whole in the journal. */
static uint64_t reached_last(struct storage_lmdb *s) {
    const struct segments *all = &s->segments;
    uint64_t first, last;
    segments_range(s, &first, &last);
    uint64_t stored = all->count > 0 ? all->list[all->count - 1]->last : 0;
    return stored > last ? stored : last;
}

/* Of the segments: a log whose end is only in the journal has none yet. */
static uint64_t reached_now(const struct storage_lmdb *s) {
    const struct segments *all = &s->segments;
    uint64_t floor = gaps_floor(all);
    const struct segment *newest = all->count > 0 ? all->list[all->count - 1] : NULL;
    return newest && newest->first > floor ? newest->first : floor;
}

int reached_open(struct storage_lmdb *s, bool unfinished, char *error, size_t error_bytes) {
    struct reached_row row;
    MDB_txn *txn;
    bool current = false;
    int rc = lmdb_env_read_begin(&s->vote, &txn);
    if (rc == 0) {
        rc = reached_get(s, txn, &row);
        current = rc == 0 && row.transaction == mdb_txn_id(txn);
        lmdb_env_read_end(&s->vote, txn);
    }
    if (rc != 0) {
        return lmdb_error(error, error_bytes, "%s: how far the log has come cannot be read: %s",
                          s->vote.path, mdb_strerror(rc));
    }
    uint64_t last = reached_last(s);
    if (!unfinished && reached_check_log(s, &row, last, current, error, error_bytes) != 0)
        return -1;
    if (current && reached_check_journal(s, &row, error, error_bytes) != 0) return -1;
    uint64_t index = reached_now(s), journal = s->journal.file.open ? s->journal.file.identity : 0;
    s->reached = index;
    bool nothing = row.transaction == 0 && index == 0 && journal == 0;
    if (nothing || (current && row.index == index && row.journal == journal)) return 0;
    rc = reached_write(s, &index, &journal);
    if (rc == 0) return 0;
    return lmdb_error(error, error_bytes, "%s: %s", s->vote.path, mdb_strerror(rc));
}
