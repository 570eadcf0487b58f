/* What the two halves of a log's reader share: log_source.c has the list of its segments and the
 * tail, log_cursor.c reads them. Threads are those of persistence/log_source.h. */
#ifndef JUMUN_PERSISTENCE_LMDB_LOG_SOURCE_INTERNAL_H
#define JUMUN_PERSISTENCE_LMDB_LOG_SOURCE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "persistence/lmdb/internal.h"
#include "persistence/lmdb/page_tree.h"
#include "persistence/log_source_ops.h"

struct source_env {            /* a segment that the node may be writing */
    uint64_t first;
    MDB_env *env;
};

/* What is in the journal and not yet in a segment: the end of the log, in front of which the
 * segments count. */
struct source_tail {
    atomic_uint refs;          /* the source's, and its cursors' */
    bool is_end;               /* no node goes on behind it: what lies there is truncated */
    uint64_t first, count;
    struct record **records;
};

struct lmdb_source {
    struct log_source base;
    char directory[LMDB_PATH_BYTES_MAX];
    bool single;               /* `directory` is a segment, not a shard's */
    struct log_source_segment *list;
    uint32_t count, capacity;
    uint64_t first, last, bytes;
    pthread_mutex_t lock;      /* guards envs: one environment is opened once per process */
    struct source_env *envs;
    uint32_t envs_count;
    struct source_tail *tail;  /* NULL = none */
    struct page_probe *probe;  /* of the one cursor that there is then; NULL = none */
};

struct lmdb_cursor {
    struct log_cursor base;
    struct lmdb_source *source;
    struct source_tail *tail;
    struct log_source_segment *list; /* its own copy */
    uint32_t count, position;
    uint64_t next, last;
    bool checked, open, ended;
    struct page_tree tree;
    struct page_cursor cursor;
    uint32_t view_records;
    uint64_t *scratch;         /* an aligned copy of a record; grows */
    size_t scratch_bytes;
};

/* -- log_source.c */
/* Drops one reference; NULL is harmless. */
void lmdb_source_tail_release(struct source_tail *t);
/* Where the segment lies. */
void lmdb_source_path(const struct lmdb_source *s, const struct log_source_segment *g,
                      char path[PAGE_TREE_PATH_BYTES_MAX]);
/* As page_tree_open(), in a view when the node may be writing the segment. -1 with a sentence. */
int lmdb_source_open_tree(struct lmdb_source *s, const struct log_source_segment *g,
                          struct page_tree *tree, bool sequential, char *error,
                          size_t error_bytes);
/* The time of an entry; 0 when the record is not a sound entry. */
int64_t lmdb_source_row_time(const struct page_row *row);

/* -- log_cursor.c: what log_source_ops has of the same name */
struct log_cursor *lmdb_cursor_open(struct log_source *source, uint64_t first, uint64_t last,
                                    bool checked);
void lmdb_cursor_close(struct log_cursor *cursor);
enum log_step lmdb_cursor_next(struct log_cursor *cursor, struct log_item *item);
void lmdb_cursor_seek(struct log_cursor *cursor, uint64_t first, uint64_t last);
uint64_t lmdb_source_index_at(struct log_source *source, int64_t time_ms);

#endif
