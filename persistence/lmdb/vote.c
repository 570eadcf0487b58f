/* The vote: term and whom this node voted for, in a small environment of its own, so that an
 * election never waits for the log's writer. Also the identity of the directory, which every
 * environment that outlives the log's segments carries. */
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "engine/base/check.h"
#include "persistence/lmdb/internal.h"

static const char identity_key[] = "identity";
static const char vote_key[] = "vote";
static const uint8_t identity_magic[8] = {'J', 'U', 'M', 'U', 'N', 'D', 'I', 'R'};

/* LMDB hands pages of the last two transactions round. After some commits the file has all pages
 * that a vote ever needs, and a full disk cannot refuse one. */
enum { VOTE_WARM_UP_COMMITS = 6, VOTE_MAP_BYTES = 1 << 20 };

int identity_check(struct storage_lmdb *s, MDB_txn *txn, MDB_dbi table, const char *path,
                   uint32_t *format, bool *fresh, char *error, size_t error_bytes) {
    MDB_val key = storage_val(identity_key, sizeof identity_key - 1), value;
    struct identity_row row;
    int rc = mdb_get(txn, table, &key, &value);
    *fresh = rc == MDB_NOTFOUND;
    if (*fresh) return 0;
    if (rc != 0) return lmdb_error(error, error_bytes, "%s: %s", path, mdb_strerror(rc));
    if (value.mv_size != sizeof row) {
        return lmdb_error(error, error_bytes, "%s: the identity is %zu bytes, not %zu", path,
                          value.mv_size, sizeof row);
    }
    memcpy(&row, value.mv_data, sizeof row);
    if (memcmp(row.magic, identity_magic, sizeof row.magic) != 0) {
        return lmdb_error(error, error_bytes, "%s is not a directory of Jumun", path);
    }
    if (row.format < STORAGE_FORMAT || row.format > *format) {
        return lmdb_error(error, error_bytes,
                          "%s has format %u, this version knows %u: use the version that wrote it",
                          path, row.format, *format);
    }
    *format = row.format;
    if (row.shard != s->shard) {
        return lmdb_error(error, error_bytes, "%s belongs to shard %u, not to shard %u", path,
                          row.shard, s->shard);
    }
    return 0;
}

int identity_put(struct storage_lmdb *s, MDB_txn *txn, MDB_dbi table, uint32_t format) {
    struct identity_row row = {.format = format, .shard = s->shard};
    memcpy(row.magic, identity_magic, sizeof row.magic);
    MDB_val key = storage_val(identity_key, sizeof identity_key - 1);
    MDB_val value = storage_val(&row, sizeof row);
    return mdb_put(txn, table, &key, &value, 0);
}

static uint64_t vote_checksum(const struct vote_row *row) {
    return XXH3_64bits(&row->term, sizeof *row - sizeof row->checksum);
}

/* 0, or a code. */
static int vote_put(struct storage_lmdb *s, const struct vote_row *row) {
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->vote.mdb, NULL, 0, &txn);
    if (rc != 0) return rc;
    rc = identity_put(s, txn, s->vote_table, s->vote_format);
    MDB_val key = storage_val(vote_key, sizeof vote_key - 1);
    MDB_val value = storage_val(row, sizeof *row);
    if (rc == 0) rc = mdb_put(txn, s->vote_table, &key, &value, 0);
    if (rc == 0) rc = reached_restamp(s, txn);
    if (rc == 0) rc = storage_fault(s, STORAGE_POINT_VOTE_COMMIT);
    if (rc == 0) return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return rc;
}

int vote_create(struct storage_lmdb *s, char *error, size_t error_bytes) {
    struct vote_row row = {0};
    row.checksum = vote_checksum(&row);
    for (int i = 0; i < VOTE_WARM_UP_COMMITS; i++) {
        int rc = vote_put(s, &row);
        if (rc != 0) {
            return lmdb_error(error, error_bytes, "%s: %s", s->vote.path, mdb_strerror(rc));
        }
    }
    return 0;
}

int vote_open(struct storage_lmdb *s, bool *fresh, char *error, size_t error_bytes) {
    char path[LMDB_PATH_BYTES_MAX];
    require(snprintf(path, sizeof path, "%s/vote", s->directory) < (int)sizeof path);
    int rc = lmdb_make_directory(path);
    if (rc == 0) rc = lmdb_env_open(&s->vote, path, VOTE_MAP_BYTES, 0);
    if (rc != 0) {
        return lmdb_error(error, error_bytes, "%s cannot be opened: %s", path, mdb_strerror(rc));
    }
    MDB_txn *txn;
    *fresh = false;
    rc = lmdb_env_read_begin(&s->vote, &txn);
    if (rc == 0) {
        rc = mdb_dbi_open(txn, NULL, 0, &s->vote_table);
        if (rc == 0) {
            s->vote_format = STORAGE_FORMAT_JOURNAL;
            rc = identity_check(s, txn, s->vote_table, path, &s->vote_format, fresh, error,
                                error_bytes);
            lmdb_env_read_end(&s->vote, txn);
            return rc;
        }
        lmdb_env_read_end(&s->vote, txn);
    }
    return lmdb_error(error, error_bytes, "%s: %s", path, mdb_strerror(rc));
}

int vote_meta(struct storage_lmdb *s, uint64_t *term, uint64_t *voted_for, char *error,
              size_t error_bytes) {
    MDB_txn *txn;
    MDB_val key = storage_val(vote_key, sizeof vote_key - 1), value;
    struct vote_row row;
    int rc = lmdb_env_read_begin(&s->vote, &txn);
    if (rc != 0) return lmdb_error(error, error_bytes, "%s: %s", s->vote.path, mdb_strerror(rc));
    rc = mdb_get(txn, s->vote_table, &key, &value);
    bool whole = rc == 0 && value.mv_size == sizeof row;
    if (whole) memcpy(&row, value.mv_data, sizeof row);
    lmdb_env_read_end(&s->vote, txn);
    if (!whole || row.checksum != vote_checksum(&row)) {
        return lmdb_error(error, error_bytes, "%s: the vote is damaged: %s", s->vote.path,
                          rc != 0 ? mdb_strerror(rc) : "checksum does not match");
    }
    *term = row.term;
    *voted_for = row.voted_for;
    return 0;
}

void vote_save(struct storage *base, uint64_t term, uint64_t voted_for) {
    struct storage_lmdb *s = (struct storage_lmdb *)base;
    struct vote_row row = {.term = term, .voted_for = voted_for};
    row.checksum = vote_checksum(&row);
    int rc = vote_put(s, &row);
    if (rc != 0) {
        lmdb_fatal(rc, "%s: the vote of term %llu cannot be saved", s->vote.path,
                   (unsigned long long)term);
    }
}

int vote_warm_up(struct storage_lmdb *s) {
    char error[256];
    struct vote_row row = {0};
    if (vote_meta(s, &row.term, &row.voted_for, error, sizeof error) != 0) return MDB_CORRUPTED;
    row.checksum = vote_checksum(&row);
    for (int i = 0; i < VOTE_WARM_UP_COMMITS; i++) {
        int rc = vote_put(s, &row);
        if (rc != 0) return rc;
    }
    return 0;
}

int vote_set_format(struct storage_lmdb *s, uint32_t format) {
    MDB_txn *txn;
    if (s->vote_format == format) return 0;
    int rc = mdb_txn_begin(s->vote.mdb, NULL, 0, &txn);
    if (rc != 0) return rc;
    rc = identity_put(s, txn, s->vote_table, format);
    if (rc == 0) rc = reached_restamp(s, txn);
    if (rc == 0) rc = mdb_txn_commit(txn);
    else mdb_txn_abort(txn);
    if (rc == 0) s->vote_format = format;
    return rc;
}
