/* Reads the pages of an LMDB environment that somebody else owns: a live node's, a copy's, a
 * damaged one's. LMDB itself trusts its pages and may end the process when they are damaged; here
 * every offset is checked against the file, a fault is named with its page, and reading goes on
 * behind it.
 *
 * On a live environment a view (page_tree_pin) is held by a read transaction of LMDB, so that the
 * writer leaves its pages alone; the writer itself never waits. Views must be short: pages that
 * they keep cannot be reused. An environment that is not written any more needs no view.
 *
 * A tree belongs to one thread; the environment behind it (struct page_env) to any number. */
#ifndef JUMUN_PERSISTENCE_LMDB_PAGE_TREE_H
#define JUMUN_PERSISTENCE_LMDB_PAGE_TREE_H

#include <lmdb.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "persistence/lmdb/page_probe.h"

enum { PAGE_TREE_PATH_BYTES_MAX = 1024, PAGE_TREE_DEPTH_MAX = 16 };

struct page_tree {
    char path[PAGE_TREE_PATH_BYTES_MAX]; /* of the environment's directory */
    MDB_env *env;            /* borrowed; NULL = views are not held, nobody writes */
    MDB_txn *txn;            /* the held view; NULL = none */
    struct page_probe *probe; /* borrowed; what is touched is read first, and let go when it is
                                 forgotten. NULL = the map is touched as it is */
    int fd;
    const uint8_t *map;      /* the whole file */
    uint64_t bytes;          /* of the file that are mapped */
    uint32_t page_bytes;
    uint64_t txn_id;         /* of the view */
    uint64_t root;           /* of the main table; UINT64_MAX = empty */
    uint64_t rows;           /* in the main table, as its meta page tells */
    uint64_t free_root;      /* of the list of free pages; UINT64_MAX = empty */
    uint64_t pages_told;     /* that the file must have at least */
    uint64_t touched_bytes;  /* since the last page_tree_forget() */
};

/* Opens `directory`/data.mdb read-only. 0, or -1 with a sentence, and errno: what the system has
 * against it, or 0 when it is the file itself. */
int page_tree_open(struct page_tree *t, const char *directory, MDB_env *env,
                   struct page_probe *probe, bool sequential, char *error, size_t error_bytes);
void page_tree_close(struct page_tree *t);

/* Whether that errno tells of lacking memory or descriptors, which passes. */
bool page_fault_is_passing(int code);

/* Takes the newest view; gives back the one before. 0, or -1 with a sentence and errno as above. */
int page_tree_pin(struct page_tree *t, char *error, size_t error_bytes);
void page_tree_unpin(struct page_tree *t);

/* Whether something was committed since the view was taken: one that is not held may be gone. */
bool page_tree_is_overtaken(const struct page_tree *t);

/* How many pages that the view uses lie behind the end of the file: it was cut. (A page at the very
 * end that was never written and is free is no loss.) */
uint64_t page_tree_lost(struct page_tree *t);

/* Lets the kernel take back what was read so far: else the page cache counts as this process's. */
void page_tree_forget(struct page_tree *t);

/* The environment for views of a live node's directory, opened so that it changes nothing but the
 * table of readers. NULL when LMDB refuses it: then it can only be read without views. */
MDB_env *page_env_open(const char *directory);

/* The root of a named table; false when it is not there (*root = UINT64_MAX) or damaged. */
bool page_tree_table(const struct page_tree *t, const char *name, uint64_t *root);

struct page_row {
    const uint8_t *key;      /* in the map; unaligned */
    uint32_t key_bytes;
    const uint8_t *value;    /* in the map; 2-byte aligned */
    uint64_t value_bytes;
    uint64_t offset;         /* of the value in data.mdb */
};

struct page_fault {
    uint64_t page, offset;   /* offset of the page in data.mdb */
    const char *what;        /* a sentence's end: "is not a page of a tree" */
};

struct page_cursor {
    const struct page_tree *tree;
    uint32_t depth;
    struct { const uint8_t *page; uint32_t slot, slots; bool leaf; } level[PAGE_TREE_DEPTH_MAX];
    uint64_t pages, pages_max; /* visited; more than the file has = the tree runs in a circle */
    struct page_fault fault;
    bool faulty;             /* the seek met `fault`, to be told by the next step */
};

/* Before the first row whose key is not below `key` (key_bytes 0 = the very first row). */
void page_cursor_seek(struct page_cursor *c, struct page_tree *t, uint64_t root, const void *key,
                      uint32_t key_bytes);
/* Before the last row: the next step gives it. */
void page_cursor_seek_last(struct page_cursor *c, struct page_tree *t, uint64_t root);

/* 1 = *row, 0 = the end, -1 = c->fault: what is below that page is lost; the next call goes on
 * behind it. Rows stay valid while the view does. */
int page_cursor_next(struct page_cursor *c, struct page_row *row);

#endif
