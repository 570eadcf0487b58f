/* The data of a node that was alone, and how it becomes the beginning of a cluster; and how what is
 * left of a cluster becomes a node alone again. Everything here works on a directory that no
 * process serves from, one shard after the other.
 *
 *   seed_read()     the stored state of a shard, brought up to the end of its log, piece by piece
 *   seed_write()    the same at another node: lies in DATA/seed-<shard>.state until it is adopted
 *   seed_adopt()    makes the shard's directory that of a first replica among several: the received
 *                   state is put in its place (or it is there already), its configuration names all
 *                   of them, its term is one higher (rule M3 of consensus: a group never has one
 *                   voter and others beside it, so this cannot be done while it runs). The same
 *                   record behind the state says so in each log: one that began when the node was
 *                   alone would make it that again where the state is rebuilt from it
 *   seed_alone()    makes it that of a group of one: all that its log has counts as committed */
#ifndef JUMUN_NODE_SEED_H
#define JUMUN_NODE_SEED_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/bytes.h"

/* Fills *bytes of at most `capacity` from `offset` of shard's state and says how many there are in
 * all. At offset 0 it is written out anew. 0, or -1 with a sentence: among others when the log goes
 * on behind the stored state (the node was not stopped in order). */
int seed_read(const char *directory, uint32_t shard, uint64_t offset, void *buffer,
              uint32_t capacity, uint32_t *bytes, uint64_t *total, char *error,
              size_t error_bytes);

/* In order, from offset 0 (which begins anew); the last piece makes it durable. */
int seed_write(const char *directory, uint32_t shard, uint64_t offset, uint64_t total,
               struct bytes data, char *error, size_t error_bytes);

/* `servers`: all first voters, this node's among them. `here`: the orders are in this directory;
 * else the seed is put in. May be repeated. */
int seed_adopt(const char *directory, uint32_t shard, const uint64_t *servers, uint32_t count,
               bool here, char *error, size_t error_bytes);

/* Removes what seed_read() and seed_write() left. */
void seed_forget(const char *directory, uint32_t shard);

/* What a replica has: the end of its log, for an operator who has to choose. */
struct seed_log { uint64_t last_index, last_term, applied_index; int64_t last_time_ms; };
int seed_look(const char *replica_directory, uint32_t shard, struct seed_log *log, char *error,
              size_t error_bytes);

/* `replica_directory` becomes the log of a group of one, server `server`. */
int seed_alone(const char *replica_directory, uint32_t shard, uint64_t server, char *error,
               size_t error_bytes);

#endif
