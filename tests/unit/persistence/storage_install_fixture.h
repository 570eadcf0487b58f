/* Installs of states: what the tests of both twins and of LMDB's crashes share. */
#ifndef JUMUN_TESTS_STORAGE_INSTALL_FIXTURE_H
#define JUMUN_TESTS_STORAGE_INSTALL_FIXTURE_H

#include "storage_fixture.h"

/* A name inside of the fixture's directory; valid until the next call. */
const char *file_path(const struct fixture *f, const char *name);
void vote(struct fixture *f, uint64_t term);

/* Reading first..last fails, and the sentence says `part`. */
void expect_unread(struct fixture *f, uint64_t first, uint64_t last, const char *part);
void expect_log(struct fixture *f, uint64_t first, uint64_t last); /* as load_meta() tells it */
void expect_gap(struct fixture *f, uint64_t gaps, uint64_t first, uint64_t last);

/* Waits until retention has dropped all in front of `first`, or of one that is newer. */
void wait_dropped(struct fixture *f, uint64_t first);

/* The state of another replica, exported to `path`: marker, orders and a store, a cursor. */
void make_file(struct fixture *f, const char *path, uint64_t marker, uint8_t fill);
void expect_installed(struct fixture *f, uint64_t marker, uint8_t fill);
int install(struct fixture *f, const char *path, uint64_t committed);

/* Records as a feed sends them: sealed, one behind the other, padded. malloc'ed. */
uint8_t *packed(uint64_t first, uint64_t last, uint64_t term, uint32_t payload_bytes,
                int64_t time_ms, size_t *bytes);
/* fill() with fixture_records(), time 1500. */
enum storage_filled fill(struct fixture *f, uint64_t first, uint64_t last, uint64_t term,
                         uint32_t payload_bytes);

/* A follower that has 40 records, 30 of them committed, and a checkpoint at 20. */
void follower_open(struct fixture *f);

#endif
