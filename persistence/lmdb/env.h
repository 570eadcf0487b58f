/* One LMDB environment with what this project needs around it: growth of the map that never meets a
 * reader, sentences for errors, room on the file system.
 *
 * One thread writes to an environment. Any thread reads, between read_begin and read_end; a thread
 * has one read at a time per environment (a grower waiting in between would lock it out). */
#ifndef JUMUN_PERSISTENCE_LMDB_ENV_H
#define JUMUN_PERSISTENCE_LMDB_ENV_H

#include <lmdb.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LMDB_PATH_BYTES_MAX 1024

struct lmdb_env {
    MDB_env *mdb;          /* NULL = closed */
    uint64_t map_bytes;    /* writer's */
    uint32_t page_bytes;
    /* Readers hold it shared for one transaction, growth holds it alone: LMDB must not have a
     * transaction in the process while the map moves. */
    pthread_rwlock_t lock;
    char path[LMDB_PATH_BYTES_MAX];
};

/* Opens (and makes) the environment in directory `path`; its map is at least `map_bytes` and has
 * room for what is there. 0, or an errno / LMDB code. */
int lmdb_env_open(struct lmdb_env *e, const char *path, uint64_t map_bytes, unsigned databases_max);

/* Opens an environment only to read it: another process's directory, which that one may go on
 * writing to, or (MDB_NOSUBDIR | MDB_NOLOCK) a single file that nobody writes to. Never one that is
 * open in this process. A file that was cut is refused. */
int lmdb_env_open_readonly(struct lmdb_env *e, const char *path, unsigned flags,
                           unsigned databases_max);

/* No transaction may be left. Closing a closed one is harmless. */
void lmdb_env_close(struct lmdb_env *e);

int lmdb_env_read_begin(struct lmdb_env *e, MDB_txn **txn);
int lmdb_env_read_commit(struct lmdb_env *e, MDB_txn *txn); /* keeps table handles it opened */
void lmdb_env_read_end(struct lmdb_env *e, MDB_txn *txn);

/* Writer's thread, outside of any transaction: sees to `more` bytes of map behind what is used.
 * Waits for readers to end their (short) transactions. Aborts when the kernel gives no map. */
void lmdb_env_reserve(struct lmdb_env *e, uint64_t more);

/* Would reserve() move the map? Writer's thread. */
bool lmdb_env_must_grow(const struct lmdb_env *e, uint64_t more);

/* Writer's thread (the map may move under any other): pages in use or free inside the file. */
uint64_t lmdb_env_used_bytes(const struct lmdb_env *e);

/* Lets the kernel have the memory of the file's first `upto` bytes: they leave this process's map,
 * which else holds on to every page that was looked at and its neighbours, and the page cache. What
 * is read of them later comes from the disk. For what is synced; a hint. Writer's thread, outside
 * of any transaction. */
void lmdb_env_let_go(struct lmdb_env *e, uint64_t upto);

/* True for codes that mean "not now": no disk, no quota, no map, no memory. */
bool lmdb_is_room(int code);

/* Free bytes on the file system of `path` for this user; UINT64_MAX when it does not say. */
uint64_t lmdb_free_bytes(const char *path);

/* mkdir + sync of the parent, so that the name survives a crash. 0 or errno. */
int lmdb_make_directory(const char *path);

/* Deletes a directory of plain files (no subdirectories). 0 or errno. */
int lmdb_remove_directory(const char *path);

/* A formatted sentence into error (may be NULL); returns -1. */
__attribute__((format(printf, 3, 4))) int lmdb_error(char *error, size_t error_bytes,
                                                     const char *format, ...);

/* Says what failed and ends the process; see storage_lmdb.h. */
_Noreturn __attribute__((format(printf, 2, 3))) void lmdb_fatal(int code, const char *format, ...);

#endif
