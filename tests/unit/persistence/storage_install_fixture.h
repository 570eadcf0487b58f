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

/* The state of another replica, exported to `path`: marker, orders and a store, a cursor. */
void make_file(struct fixture *f, const char *path, uint64_t marker, uint8_t fill);
void expect_installed(struct fixture *f, uint64_t marker, uint8_t fill);
int install(struct fixture *f, const char *path, uint64_t committed);

/* A follower that has 40 records, 30 of them committed, and a checkpoint at 20. */
void follower_open(struct fixture *f);

#endif
