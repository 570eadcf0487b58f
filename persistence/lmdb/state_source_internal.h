/* A state's reader for whoever has the environment open itself: see persistence/state_source.h. */
#ifndef JUMUN_PERSISTENCE_LMDB_STATE_SOURCE_INTERNAL_H
#define JUMUN_PERSISTENCE_LMDB_STATE_SOURCE_INTERNAL_H

#include "persistence/lmdb/page_tree.h"
#include "persistence/state_source.h"

enum { STATE_KEY_BYTES_MAX = 64 };

/* How far a visit has come. */
struct state_walk {
    uint8_t last_key[STATE_KEY_BYTES_MAX];
    uint32_t last_key_bytes;   /* visited, or passed over; 0 = begin */
    bool stopped;              /* by the visitor */
};

/* As state_source_open(), with the environment's handle of this process; `env` and `probe` are
 * borrowed. The map of `env` must not grow meanwhile. Errno as page_tree_open() leaves it. */
struct state_source *state_source_open_within(const char *directory, MDB_env *env,
                                              struct page_probe *probe, char *error,
                                              size_t error_bytes);

/* One view's worth of a visit, at most `rows_max` rows: goes on behind *walk. 1 = there is more,
 * 0 = that was the last row, -1 with a sentence and errno as state_source_visit(). A visitor that
 * stops has seen its row; behind one without a key (a lost page) the visit cannot go on. */
int state_source_visit_some(struct state_source *source, enum state_source_table table,
                            uint32_t rows_max, struct state_walk *walk,
                            bool (*visit)(void *arg, const struct state_source_row *row),
                            void *arg, char *error, size_t error_bytes);

#endif
