/* What the storage tests share: a directory that goes away, records with known contents, waiting
 * for events. With `memory` set, all of it works with the simulated twin instead. */
#ifndef JUMUN_TESTS_STORAGE_FIXTURE_H
#define JUMUN_TESTS_STORAGE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <sys/types.h>

#include "persistence/lmdb/storage_lmdb.h"
#include "tests/world/storage_memory.h"

struct fixture {
    char directory[128];       /* temporary; does not exist before the first open */
    struct storage_lmdb_options options;
    struct storage_memory *memory; /* NULL = LMDB */
    int64_t memory_ms;             /* its clock: a millisecond per poll */
    struct storage *storage;
    char error[512];
    /* What came out of poll() so far. */
    uint64_t appended_index, appended_sequence;
    unsigned full, room, checkpointed, checkpoints_failed;
    struct storage_event loaded[4096];
    unsigned loaded_count;
};

int fixture_setup(void **state);
int fixture_setup_memory(void **state);
int fixture_teardown(void **state);

void fixture_open(struct fixture *f);     /* asserts success */
void fixture_close(struct fixture *f);
void fixture_reopen(struct fixture *f);
struct storage_meta *fixture_meta(struct fixture *f); /* asserts success; free() it */

/* Polls once; true when something came. */
bool fixture_poll(struct fixture *f);
/* Polls until `*counter >= wanted`; fails the test after a minute. */
void fixture_wait64(struct fixture *f, const uint64_t *counter, uint64_t wanted);
void fixture_wait(struct fixture *f, const unsigned *counter, unsigned wanted);

/* A RECORD_EVENTS with entry time `time_ms` and contents that depend on index and term. */
struct record *fixture_record(uint64_t index, uint64_t term, uint32_t payload_bytes,
                              int64_t time_ms);
/* Records first..last, linked. */
struct record *fixture_records(uint64_t first, uint64_t last, uint64_t term,
                               uint32_t payload_bytes, int64_t time_ms);
/* Appends them and waits until they are durable. */
void fixture_append(struct fixture *f, uint64_t first, uint64_t last, uint64_t term,
                    uint32_t payload_bytes, int64_t time_ms);
/* Reads first..last and asserts term and contents of each. */
void fixture_expect(struct fixture *f, uint64_t first, uint64_t last, uint64_t term);
/* The same for one record in a visit; false = it is not what fixture_record() made. */
bool fixture_is_sound(const struct record_header *header, const void *payload);

/* A block of `bytes` (>= 48) of an actor; malloc'ed. */
void *fixture_block(uint8_t kind, const struct id128 *key, uint32_t bytes, uint8_t fill);
struct id128 fixture_key(uint64_t birth_ms, uint64_t number);

/* A checkpoint under construction. draft_do() hands it over, waits, and frees it. */
struct draft {
    struct checkpoint checkpoint;
    struct checkpoint_item items[512];
    struct checkpoint_cursor cursors[4];
    uint8_t blocks[1 << 18];
};
struct draft *draft_new(uint64_t applied_index); /* its term is applied_index / 10 + 1 */
struct checkpoint_item *draft_put(struct draft *d, uint8_t kind, struct id128 key, uint32_t bytes,
                                  uint8_t fill);
struct checkpoint_item *draft_remove(struct draft *d, uint8_t kind, struct id128 key);
void draft_do(struct fixture *f, struct draft *d);

/* Asserts that the actor is stored as fixture_block() makes it; that it is not. */
void expect_actor(struct fixture *f, uint8_t kind, struct id128 key, uint32_t bytes, uint8_t fill);
void expect_no_actor(struct fixture *f, uint8_t kind, struct id128 key);

/* Zeroed memory that is the same in children; for munmap(). */
void *fixture_share(size_t bytes);
void fixture_nap(void); /* a millisecond */
/* Waits until it is set; fails the test after a minute. */
void fixture_await(const atomic_bool *flag);
/* Waits for the child's end, by this signal, or, where that is 0, with this status. */
void fixture_await_end(pid_t child, int signal_number, int status);

/* The number of directory entries whose name contains `part`. */
unsigned fixture_count_files(const struct fixture *f, const char *part);
void fixture_remove_tree(const char *path);

#endif
